/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"

#define SMALLEST_SCALE_M 1.0
#define EARTH_DIAMETER_DEG 180.0

hd_feature_config hd_feature_config_from(const hd_settings *s)
{
	return (hd_feature_config){
	        .sample_rate_hz = s->sample_rate,
	        .n_fft = (int)s->n_fft,
	        .hop_length = (int)s->hop_length,
	        .n_mels = (int)s->n_mels,
	        .frames = (int)s->frames,
	        .f_min_hz = s->f_min,
	        .f_max_hz = s->f_max,
	        .convention = (hd_stft_convention)hd_settings_choice("stft", s->stft),
	        .mel_scale = (hd_mel_scale)hd_settings_choice("mel_scale", s->mel_scale),
	        .mel_norm = (hd_mel_norm)hd_settings_choice("mel_norm", s->mel_norm),
	        .frame_mode = (hd_frame_mode)hd_settings_choice("frame_mode", s->frame_mode),
	};
}

static hd_status copy_card(hd_data_card *out, const hd_data_card *in)
{
	hd_status st;
	size_t bytes = (size_t)in->n_mels * sizeof(float);
	*out = *in;
	out->receivers = NULL;
	out->mean = out->rstd = NULL;
	HD_TRY(hd_strdup(&out->receivers, in->receivers));
	if (in->mean) {
		HD_TRY(hd_alloc(&out->mean, (size_t)in->n_mels, sizeof(float)));
		HD_TRY(hd_alloc(&out->rstd, (size_t)in->n_mels, sizeof(float)));
		memcpy(out->mean, in->mean, bytes);
		memcpy(out->rstd, in->rstd, bytes);
	}
done:
	return st;
}

static hd_status join_receivers(char **out, const hd_samples *s)
{
	hd_status st = hd_strdup(out, s->receivers[0]);
	for (int r = 1; st == HD_OK && r < s->R; r++) {
		char *longer;
		st = hd_sprintf(&longer, "%s,%s", *out, s->receivers[r]);
		free(*out);
		*out = longer;
	}
	return st;
}

/*
 * Origin: middle of the training labels' extent; scale: half the larger side. Longitudes are unwrapped around
 * the first label, so that an area across the antimeridian stays small.
 */
static void label_frame(hd_data_card *card, const hd_samples *s)
{
	double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY}, first = NAN, north, east;
	for (size_t i = 0; i < s->count; i++) {
		if (s->samples[i].split != HD_TRAIN)
			continue;
		first = isnan(first) ? s->samples[i].longitude_deg : first;
		double lon = first + remainder(s->samples[i].longitude_deg - first, 2 * EARTH_DIAMETER_DEG);
		low[0] = fmin(low[0], s->samples[i].latitude_deg);
		high[0] = fmax(high[0], s->samples[i].latitude_deg);
		low[1] = fmin(low[1], lon);
		high[1] = fmax(high[1], lon);
	}
	card->frame.origin_latitude_deg = (low[0] + high[0]) / 2;
	card->frame.origin_longitude_deg = remainder((low[1] + high[1]) / 2, 2 * EARTH_DIAMETER_DEG);
	double half = 0, sum[2] = {0, 0};
	size_t n = 0;
	for (size_t i = 0; i < s->count; i++) {
		if (s->samples[i].split != HD_TRAIN)
			continue;
		hd_geo_to_local_m(&card->frame, s->samples[i].latitude_deg, s->samples[i].longitude_deg, &north, &east);
		half = fmax(half, fmax(fabs(north), fabs(east)));
		sum[0] += north;
		sum[1] += east;
		n++;
	}
	card->frame.scale_m = fmax(half, SMALLEST_SCALE_M);
	hd_geo_from_local_m(&card->frame, sum[0] / (double)n, sum[1] / (double)n, &card->centre_latitude_deg,
	        &card->centre_longitude_deg);
}

static hd_status make_card(hd_dataset *d, const hd_settings *settings)
{
	hd_data_card *card = &d->card;
	hd_status st = join_receivers(&card->receivers, &d->samples);
	card->channels = d->samples.R == 1 ? HD_MIN_CHANNELS : d->samples.R;
	card->n_mels = (int)settings->n_mels;
	label_frame(card, &d->samples);
	double extent_m = 2 * card->frame.scale_m;
	card->sigma_min_m = settings->uncertainty_min;
	card->sigma_max_m = settings->uncertainty_max > 0 ? settings->uncertainty_max
	                                                  : fmax(extent_m, 2 * settings->uncertainty_min);
	return st;
}

hd_status hd_dataset_open(hd_dataset *out, const hd_settings *settings, const hd_data_card *recorded)
{
	hd_status st;
	*out = (hd_dataset){.features = hd_feature_config_from(settings)};
	if (!settings->data_dir[0])
		return hd_fail(HD_E_USAGE, "--data_dir: name the folder with manifest.csv");
	hd_sample_config config = {
	        .receivers = recorded ? recorded->receivers : settings->receivers,
	        .max_receivers = (int)settings->max_receivers,
	        .sample_rate_hz = settings->sample_rate,
	        .split_by = (hd_split_by)hd_settings_choice("split_by", settings->split_by),
	        .validation_split = settings->validation_split,
	        .test_split = settings->test_split,
	        .seed = (uint64_t)settings->seed,
	        .cell_m = settings->split_cell,
	        .time_block_s = settings->split_time,
	};
	HD_TRY(hd_catalog_read_folder(&out->catalog, settings->data_dir, settings->assume_approved));
	HD_TRY(hd_samples_build(&out->samples, &out->catalog, &config));
	HD_TRY(recorded ? copy_card(&out->card, recorded) : make_card(out, settings));
done:
	if (st != HD_OK)
		hd_dataset_close(out);
	return st;
}

static void report_skipped(const hd_catalog *catalog)
{
	size_t bad = 0;
	for (size_t i = 0; i < catalog->count; i++) {
		const hd_recording *r = &catalog->recordings[i];
		if (r->skip < HD_SKIP_MISSING_FILE)
			continue;
		hd_warn("skipped: %s: %s", hd_skip_text(r->skip), r->skip_detail ? r->skip_detail : r->iq);
		bad++;
	}
	if (bad)
		hd_warn("%zu recordings could not be used; their channels are silent", bad);
}

hd_status hd_dataset_load(hd_dataset *d, const hd_settings *settings, hd_backend *backend)
{
	hd_status st;
	char *folder = NULL;
	if (settings->cache_dir[0])
		HD_TRY(hd_strdup(&folder, settings->cache_dir));
	else
		HD_TRY(hd_sprintf(&folder, "%s/.heimdall-cache", settings->data_dir));
	HD_TRY(hd_feature_cache_open(&d->cache, folder, &d->features, d->card.channels, &d->catalog, &d->samples,
	        backend, (int)settings->num_workers));
	report_skipped(&d->catalog);
	if (d->card.mean || strcmp(settings->normalize, "dataset") != 0)
		goto done;
	HD_TRY(hd_alloc(&d->card.mean, (size_t)d->card.n_mels, sizeof(float)));
	HD_TRY(hd_alloc(&d->card.rstd, (size_t)d->card.n_mels, sizeof(float)));
	HD_TRY(hd_feature_statistics(d->card.mean, d->card.rstd, &d->cache, &d->samples));
done:
	free(folder);
	return st;
}

void hd_dataset_close(hd_dataset *dataset)
{
	if (!dataset)
		return;
	hd_data_card_free(&dataset->card);
	hd_feature_cache_close(&dataset->cache);
	hd_samples_free(&dataset->samples);
	hd_catalog_free(&dataset->catalog);
}

hd_status hd_dataset_split(const hd_dataset *d, hd_split split, int32_t **out, int64_t *count)
{
	hd_status st = hd_alloc(out, d->samples.count, sizeof **out);
	*count = 0;
	for (size_t i = 0; st == HD_OK && i < d->samples.count; i++)
		if (d->cache.valid[i] && (split == HD_SPLIT_COUNT || d->samples.samples[i].split == split))
			(*out)[(*count)++] = (int32_t)i;
	return st;
}
