/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heimdall predict: one position from the recordings of one emission. FILE... are the receivers in channel order
 * ("-" for a missing one), or one file of all rows. Built as a data set of one sample, so that it runs the very
 * code that evaluation runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/common/memory.h"
#include "host/train/evaluate.h"
#include "kernels/half.h"

/* All rows of all files to the one sample's channels. */
static hd_status fill_channels(hd_dataset *d, hd_backend *backend, const char **files, int count)
{
	hd_status st = HD_OK;
	hd_features *plan = NULL;
	hd_feature_cache *c = &d->cache;
	int64_t channel = 0, slot = c->M * c->T;
	float *all = NULL, *kept = NULL;
	size_t capacity = 0;
	HD_TRY(hd_features_create(&plan, backend, &d->features));
	HD_TRY(hd_alloc(&kept, (size_t)slot, sizeof *kept));
	for (int64_t i = 0; i < c->C * slot; i++)
		c->db[i] = hd_float_to_half(HD_DB_SILENCE);
	for (int f = 0; f < count; f++) {
		hd_iq iq = {0};
		if (!strcmp(files[f], "-")) {
			channel++;
			continue;
		}
		HD_TRY(hd_recording_read(&iq, files[f], true));
		int64_t T = hd_features_frame_count(&d->features, iq.samples), rows = iq.rows;
		st = hd_grow(&all, &capacity, (size_t)(rows * c->M * T), sizeof *all);
		if (st == HD_OK)
			st = hd_features_compute(plan, all, &iq);
		hd_iq_free(&iq);
		if (st == HD_OK && channel + rows > c->C)
			st = hd_fail(HD_E_USAGE, "%s: more recordings than the model's %lld channels (receivers %s)",
			        files[f], (long long)c->C, d->card.receivers);
		for (int64_t r = 0; st == HD_OK && r < rows; r++, channel++) {
			hd_features_fit_frames(kept, c->T, all + r * c->M * T, T, c->M, d->features.frame_mode);
			for (int64_t i = 0; i < slot; i++) {
				if (kept[i] - kept[i] != 0) {
					st = hd_fail(HD_E_DATA, "%s: NaN or infinity among its samples", files[f]);
					goto done;
				}
				c->db[channel * slot + i] = hd_float_to_half(kept[i]);
			}
		}
		if (st != HD_OK)
			goto done;
	}
	/* a one-receiver model hears the one recording on all channels */
	for (int64_t ch = 1; channel == 1 && !strchr(d->card.receivers, ',') && ch < c->C; ch++)
		memcpy(c->db + ch * slot, c->db, (size_t)slot * sizeof *c->db);
done:
	free(kept);
	free(all);
	hd_features_free(plan);
	return st;
}

static hd_status make_sample(hd_dataset *d, const hd_checkpoint *checkpoint)
{
	hd_status st;
	d->features = hd_feature_config_from(&checkpoint->settings);
	d->card = checkpoint->card;
	d->cache = (hd_feature_cache){
	        .S = 1, .C = d->card.channels, .M = d->features.n_mels, .T = hd_features_kept_frames(&d->features)};
	HD_TRY(hd_alloc(&d->cache.db, (size_t)(d->cache.C * d->cache.M * d->cache.T), sizeof *d->cache.db));
	HD_TRY(hd_alloc(&d->samples.samples, 1, sizeof *d->samples.samples));
	d->samples.count = 1;
done:
	return st;
}

hd_status hd_cli_predict(const hd_settings *given, const char **files, int count)
{
	hd_status st;
	hd_checkpoint checkpoint = {0};
	hd_backend *backend = NULL;
	hd_dataset dataset = {0};
	hd_model *model = NULL;
	hd_batcher batcher = {0};
	hd_prediction p;
	hd_metrics metrics;
	if (!given->checkpoint[0] || !count)
		return hd_fail(HD_E_USAGE,
		        "predict --checkpoint F FILE...: one .npy per receiver in channel order, - for a missing one");
	HD_TRY(hd_checkpoint_open(&checkpoint, given->checkpoint));
	HD_TRY(hd_backend_open(&backend, given->accelerator, (int)given->threads));
	HD_TRY(make_sample(&dataset, &checkpoint));
	HD_TRY(fill_channels(&dataset, backend, files, count));
	HD_TRY(hd_checkpoint_model(&model, &checkpoint, backend, 1, false));
	HD_TRY(hd_batcher_open(&batcher, model, backend, &dataset));
	HD_TRY(hd_evaluate(&metrics, &p, &batcher, &(const int32_t){0}, 1, NULL, false));
	printf("latitude %.6f longitude %.6f sigma_north_m %.1f sigma_east_m %.1f\n", p.predicted_latitude_deg,
	        p.predicted_longitude_deg, p.sigma_north_m, p.sigma_east_m);
	HD_TRY(hd_write_result(given->json,
	        json_pack("{s:f, s:f, s:f, s:f}", "latitude", p.predicted_latitude_deg, "longitude",
	                p.predicted_longitude_deg, "sigma_north_m", p.sigma_north_m, "sigma_east_m", p.sigma_east_m)));
done:
	hd_batcher_close(&batcher);
	hd_model_free(model);
	hd_feature_cache_close(&dataset.cache);
	hd_samples_free(&dataset.samples);
	hd_backend_close(backend);
	hd_checkpoint_close(&checkpoint);
	return st;
}
