/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heimdall predict: one position from the recordings of one emission. FILE... are the receivers in channel order
 * ("none" for a missing one, "-" for standard input), or one file of all rows. Long recordings are cut into windows
 * and their answers fused. Built as a data set of one sample, so that it runs the very code that evaluation runs.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/answerer.h"
#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/common/memory.h"
#include "host/data/extract.h"
#include "host/data/fetch.h"
#include "host/train/evaluate.h"
#include "kernels/half.h"

#define MISSING "none"

static hd_status read_files(
        hd_iq *iqs, const hd_dataset *d, hd_store *store, hd_raw_format raw, const char **files, int count)
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
		st = hd_fetch_iq(&iqs[f], NULL, store, files[f], raw);
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

/* ---- models that take the recording itself ---- */

/* Samples of each row, the same in all of them. */
static hd_status common_length(
        int64_t *out, const hd_feature_config *c, const hd_iq *iqs, const char **files, int count)
{
	int first = -1;
	*out = 0;
	for (int f = 0; f < count; f++) {
		if (!iqs[f].rows)
			continue;
		if (first >= 0 && iqs[f].samples != iqs[first].samples)
			return hd_fail(HD_E_USAGE,
			        "%s has %lld samples per row, %s %lld: this model takes recordings of one length",
			        files[f], (long long)iqs[f].samples, files[first], (long long)iqs[first].samples);
		first = first < 0 ? f : first;
		*out = iqs[f].samples;
	}
	int64_t frames = first < 0 ? 0 : hd_features_frame_count(c, *out);
	if (first < 0)
		return hd_fail(HD_E_USAGE, "no recording: all receivers are '" MISSING "'");
	if (c->refuse_short && frames < c->frames)
		return hd_fail(HD_E_DATA, "%s: %lld samples give %lld frames, one input is %d", files[first],
		        (long long)*out, (long long)frames, c->frames);
	return HD_OK;
}

/* One row to a channel: out (samples,2), or (samples) of magnitudes made in place from the pairs. */
static hd_status fill_signal(float *out, float *pairs, const hd_iq *iq, int64_t row, bool magnitude, const char *file)
{
	bool finite = true;
	hd_iq_to_float(pairs, iq, row, 0, iq->samples);
	for (int64_t i = 0; i < 2 * iq->samples; i++)
		finite = finite && isfinite(pairs[i]);
	if (!finite)
		return hd_fail(HD_E_DATA, "%s: NaN or infinity among its samples", file);
	for (int64_t i = 0; magnitude && i < iq->samples; i++)
		out[i] = sqrtf(pairs[2 * i] * pairs[2 * i] + pairs[2 * i + 1] * pairs[2 * i + 1]);
	if (!magnitude)
		memcpy(out, pairs, (size_t)(2 * iq->samples) * sizeof *out);
	return HD_OK;
}

/* All rows of all files to the signal's channels (1,C,samples[,2]), zeros for a missing one. */
static hd_status make_signal(hd_run_tensor *out, const hd_onnx_model *model, const hd_feature_config *c,
        const hd_iq *iqs, const char **files, int count)
{
	hd_status st;
	bool magnitude = model->input == HD_ONNX_INPUT_MAGNITUDE;
	int64_t C = model->card.channels, n, channel = 0;
	float *pairs = NULL;
	HD_TRY(common_length(&n, c, iqs, files, count));
	*out = (hd_run_tensor){magnitude ? 3 : 4, {1, C, n, 2}, NULL};
	size_t each = (size_t)(magnitude ? n : 2 * n);
	HD_TRY(hd_alloc(&out->data, (size_t)C * each, sizeof *out->data));
	HD_TRY(hd_alloc(&pairs, (size_t)(2 * n), sizeof *pairs));
	for (int f = 0; f < count; f++) {
		for (int64_t row = 0; row < iqs[f].rows; row++)
			HD_TRY(fill_signal(
			        out->data + (size_t)(channel + row) * each, pairs, &iqs[f], row, magnitude, files[f]));
		channel += iqs[f].rows ? iqs[f].rows : 1;
	}
	for (int64_t ch = 1; channel == 1 && !strchr(model->card.receivers, ',') && ch < C; ch++)
		memcpy(out->data + (size_t)ch * each, out->data, each * sizeof *out->data);
done:
	free(pairs);
	return st;
}

static hd_status answer_signal(hd_prediction *p, hd_onnx_model *model, const hd_settings *given,
        const hd_feature_config *c, const hd_iq *iqs, const char **files, int count)
{
	hd_status st;
	hd_run_tensor signal = {0};
	double mu[2], sigma[2], scale = model->card.frame.scale_m;
	if (given->given[HD_SET_windows] && c->frame_mode != HD_FRAMES_MEAN)
		return hd_fail(HD_E_USAGE, "windows: this model cuts the recording itself");
	HD_TRY(make_signal(&signal, model, c, iqs, files, count));
	HD_TRY(hd_onnx_model_run(model, &signal, mu, sigma));
	hd_geo_from_local_m(&model->card.frame, mu[0] * scale, mu[1] * scale, &p->predicted_latitude_deg,
	        &p->predicted_longitude_deg);
	p->sigma_north_m = sigma[0] * scale;
	p->sigma_east_m = sigma[1] * scale;
done:
	free(signal.data);
	return st;
}

/* ---- features to an answer ---- */

static hd_status tell(const hd_settings *given, const hd_prediction *p, const hd_feature_config *c)
{
	long long windows = (long long)hd_features_windows(c);
	printf("latitude %.6f longitude %.6f sigma_north_m %.1f sigma_east_m %.1f windows %lld\n",
	        p->predicted_latitude_deg, p->predicted_longitude_deg, p->sigma_north_m, p->sigma_east_m, windows);
	return hd_write_result(
	        given->json, json_pack("{s:f, s:f, s:f, s:f, s:I}", "latitude", p->predicted_latitude_deg, "longitude",
	                             p->predicted_longitude_deg, "sigma_north_m", p->sigma_north_m, "sigma_east_m",
	                             p->sigma_east_m, "windows", (json_int_t)windows));
}

static hd_status answer_features(hd_prediction *p, hd_answerer *by, const hd_settings *given, hd_dataset *dataset,
        hd_iq *iqs, const char **files, int count)
{
	hd_status st;
	hd_backend *backend = NULL;
	hd_metrics metrics;
	HD_TRY(hd_backend_open(&backend, given->accelerator, given->devices, (int)given->threads));
	HD_TRY(make_sample(dataset));
	HD_TRY(fill_channels(dataset, backend, iqs, files, count));
	st = hd_answerer_evaluate(&metrics, p, by, backend, dataset, 1, &(const int32_t){0}, 1, NULL);
done:
	hd_feature_cache_close(&dataset->cache);
	hd_samples_free(&dataset->samples);
	hd_backend_close(backend);
	return st;
}

hd_status hd_cli_predict(const hd_settings *given, const char **files, int count)
{
	hd_status st;
	hd_answerer by = {0};
	hd_dataset dataset = {0};
	hd_store *store = NULL;
	hd_iq *iqs = NULL;
	hd_prediction p = {0};
	if (!given->checkpoint[0] || !count)
		return hd_fail(HD_E_USAGE,
		        "predict --checkpoint F FILE...: one recording per receiver in channel order, '" MISSING
		        "' for a missing one, - for standard input");
	HD_TRY(hd_answerer_open(&by, given));
	dataset.card = *by.card;
	HD_TRY(hd_fetch_open(&store, given));
	HD_TRY(hd_alloc(&iqs, (size_t)count, sizeof *iqs));
	HD_TRY(feature_config(&dataset.features, given, by.recorded));
	HD_TRY(read_files(
	        iqs, &dataset, store, (hd_raw_format)hd_settings_choice("iq_format", given->iq_format), files, count));
	choose_windows(&dataset.features, given, iqs, count);
	HD_TRY(by.runtime && by.onnx.input != HD_ONNX_INPUT_FEATURES
	                ? answer_signal(&p, &by.onnx, given, &dataset.features, iqs, files, count)
	                : answer_features(&p, &by, given, &dataset, iqs, files, count));
	HD_TRY(tell(given, &p, &dataset.features));
done:
	for (int f = 0; iqs && f < count; f++)
		hd_iq_free(&iqs[f]);
	free(iqs);
	hd_store_close(store);
	hd_answerer_close(&by);
	return st;
}
