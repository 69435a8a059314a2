/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heimdall predict: one position from the recordings of one emission. FILE... are the receivers in channel order
 * ("none" for a missing one, "-" for standard input), or one file of all rows. Long recordings are cut into windows
 * and their answers fused. Built as a data set of one sample, so that it runs the very code that evaluation runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/common/memory.h"
#include "host/data/extract.h"
#include "host/train/evaluate.h"
#include "kernels/half.h"

#define MISSING "none"

static hd_status read_files(hd_iq *iqs, const hd_dataset *d, hd_raw_format raw, const char **files, int count)
{
	hd_status st = HD_OK;
	hd_skip skip;
	int64_t channels = 0;
	int pipes = 0;
	for (int f = 0; f < count; f++) {
		pipes += !strcmp(files[f], "-");
		if (pipes > 1)
			return hd_fail(HD_E_USAGE,
			        "'-' is standard input and stands once; a missing receiver is '" MISSING "'");
		if (!strcmp(files[f], MISSING)) {
			channels++;
			continue;
		}
		st = hd_iq_read(&iqs[f], NULL, files[f], raw);
		if (st == HD_OK)
			st = hd_extract_rate(&iqs[f], &d->features, 0, files[f], &skip);
		if (st != HD_OK)
			return st;
		channels += iqs[f].rows;
		if (channels > d->card.channels)
			return hd_fail(HD_E_USAGE, "%s: more recordings than the model's %d channels (receivers %s)",
			        files[f], d->card.channels, d->card.receivers);
	}
	return st;
}

/* As many windows as lie side by side in the longest recording, unless a number is given or all frames are averaged. */
static void choose_windows(hd_feature_config *c, const hd_settings *given, const hd_iq *iqs, int count)
{
	int64_t longest = 0;
	if (c->frame_mode == HD_FRAMES_MEAN)
		return;
	for (int f = 0; f < count; f++) {
		int64_t T = iqs[f].rows ? hd_features_frame_count(c, iqs[f].samples) : 0;
		longest = T > longest ? T : longest;
	}
	c->margin = 0;
	c->frame_mode = HD_FRAMES_WINDOWS;
	c->windows = given->given[HD_SET_windows] ? (int)given->windows
	             : longest > c->frames        ? (int)(longest / c->frames)
	                                          : 1;
}

/* All rows of all files to the one sample's channels. */
static hd_status fill_channels(hd_dataset *d, hd_backend *backend, hd_iq *iqs, const char **files, int count)
{
	hd_status st;
	hd_extractor extractor = {0};
	hd_skip skip;
	hd_feature_cache *c = &d->cache;
	int64_t channel = 0, slot = c->H * c->T;
	float *silence = NULL;
	HD_TRY(hd_extractor_open(&extractor, backend, &d->features));
	HD_TRY(hd_alloc(&silence, (size_t)c->H, sizeof *silence));
	hd_features_silence(silence, &d->features);
	for (int64_t i = 0; i < c->C * slot; i++)
		c->db[i] = hd_float_to_half(silence[i % slot / c->T]);
	for (int f = 0; f < count; f++) {
		if (iqs[f].rows)
			HD_TRY(hd_extract(&extractor, c->db + channel * slot, &iqs[f], 0, files[f], &skip));
		channel += iqs[f].rows ? iqs[f].rows : 1;
	}
	/* a one-receiver model hears the one recording on all channels */
	for (int64_t ch = 1; channel == 1 && !strchr(d->card.receivers, ',') && ch < c->C; ch++)
		memcpy(c->db + ch * slot, c->db, (size_t)slot * sizeof *c->db);
done:
	free(silence);
	hd_extractor_close(&extractor);
	return st;
}

static hd_status make_sample(hd_dataset *d)
{
	hd_status st;
	d->cache = (hd_feature_cache){.S = 1,
	        .C = d->card.channels,
	        .H = hd_features_height(&d->features),
	        .T = hd_features_kept_frames(&d->features)};
	HD_TRY(hd_alloc(&d->cache.db, (size_t)(d->cache.C * d->cache.H * d->cache.T), sizeof *d->cache.db));
	HD_TRY(hd_alloc(&d->samples.samples, 1, sizeof *d->samples.samples));
	d->samples.count = 1;
done:
	return st;
}

static hd_status feature_config(hd_feature_config *out, const hd_settings *given, const hd_settings *recorded)
{
	*out = hd_feature_config_from(recorded);
	if (given->resample > 0 && given->resample != out->sample_rate_hz)
		return hd_fail(
		        HD_E_USAGE, "resample %g Hz: the model takes %g Hz", given->resample, out->sample_rate_hz);
	out->resample = out->resample || given->resample > 0;
	if (given->given[HD_SET_short_recordings])
		out->refuse_short = !strcmp(given->short_recordings, "refuse");
	return HD_OK;
}

hd_status hd_cli_predict(const hd_settings *given, const char **files, int count)
{
	hd_status st;
	hd_checkpoint checkpoint = {0};
	hd_backend *backend = NULL;
	hd_dataset dataset = {0};
	hd_model *model = NULL;
	hd_batcher batcher = {0};
	hd_iq *iqs = NULL;
	hd_prediction p;
	hd_metrics metrics;
	if (!given->checkpoint[0] || !count)
		return hd_fail(HD_E_USAGE,
		        "predict --checkpoint F FILE...: one recording per receiver in channel order, '" MISSING
		        "' for a missing one, - for standard input");
	HD_TRY(hd_checkpoint_open(&checkpoint, given->checkpoint));
	HD_TRY(hd_backend_open(&backend, given->accelerator, (int)given->threads));
	dataset.card = checkpoint.card;
	HD_TRY(hd_alloc(&iqs, (size_t)count, sizeof *iqs));
	HD_TRY(feature_config(&dataset.features, given, &checkpoint.settings));
	HD_TRY(read_files(
	        iqs, &dataset, (hd_raw_format)hd_settings_choice("iq_format", given->iq_format), files, count));
	choose_windows(&dataset.features, given, iqs, count);
	HD_TRY(make_sample(&dataset));
	HD_TRY(fill_channels(&dataset, backend, iqs, files, count));
	HD_TRY(hd_checkpoint_model(&model, &checkpoint, backend, 1, false));
	HD_TRY(hd_batcher_open(&batcher, model, backend, &dataset, NULL));
	HD_TRY(hd_evaluate(&metrics, &p, &batcher, &(const int32_t){0}, 1, NULL, false));
	printf("latitude %.6f longitude %.6f sigma_north_m %.1f sigma_east_m %.1f windows %lld\n",
	        p.predicted_latitude_deg, p.predicted_longitude_deg, p.sigma_north_m, p.sigma_east_m,
	        (long long)hd_features_windows(&dataset.features));
	HD_TRY(hd_write_result(
	        given->json, json_pack("{s:f, s:f, s:f, s:f, s:I}", "latitude", p.predicted_latitude_deg, "longitude",
	                             p.predicted_longitude_deg, "sigma_north_m", p.sigma_north_m, "sigma_east_m",
	                             p.sigma_east_m, "windows", (json_int_t)hd_features_windows(&dataset.features))));
done:
	for (int f = 0; iqs && f < count; f++)
		hd_iq_free(&iqs[f]);
	free(iqs);
	hd_batcher_close(&batcher);
	hd_model_free(model);
	hd_feature_cache_close(&dataset.cache);
	hd_samples_free(&dataset.samples);
	hd_backend_close(backend);
	hd_checkpoint_close(&checkpoint);
	return st;
}
