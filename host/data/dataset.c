/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/common/memory.h"
#include "host/data/fetch.h"
#include "host/common/progress.h"

#define SMALLEST_SCALE_M 1.0
#define EARTH_DIAMETER_DEG 180.0
#define SHOWN_SKIPS 10 /* of each reason */

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
	        .windows = (int)s->windows,
	        .margin = (int)s->shift_max,
	        .kind = (hd_feature_kind)hd_settings_choice("feature", s->feature),
	        .n_mfcc = (int)s->n_mfcc,
	        .resample = s->resample > 0,
	        .refuse_short = !strcmp(s->short_recordings, "refuse"),
	};
}

hd_sample_config hd_sample_config_from(const hd_settings *s)
{
	return (hd_sample_config){
	        .receivers = s->receivers,
	        .max_receivers = (int)s->max_receivers,
	        .sample_rate_hz = s->sample_rate,
	        .resample = s->resample > 0,
	        .folds = s->folds[0] ? s->folds : NULL,
	        .fold = (int)s->fold,
	        .split_by = (hd_split_by)hd_settings_choice("split_by", s->split_by),
	        .split_column = s->split_column,
	        .validation_split = s->validation_split,
	        .test_split = s->test_split,
	        .seed = (uint64_t)s->seed,
	        .cell_m = s->split_cell,
	        .time_block_s = s->split_time,
	};
}

static hd_status copy_floats(float **out, const float *in, int n)
{
	hd_status st = in ? hd_alloc(out, (size_t)n, sizeof(float)) : HD_OK;
	if (in && st == HD_OK)
		memcpy(*out, in, (size_t)n * sizeof(float));
	return st;
}

static hd_status copy_card(hd_data_card *out, const hd_data_card *in)
{
	hd_status st;
	*out = *in;
	out->receivers = NULL;
	out->mean = out->rstd = out->offset = NULL;
	HD_TRY(hd_strdup(&out->receivers, in->receivers));
	HD_TRY(copy_floats(&out->mean, in->mean, in->height));
	HD_TRY(copy_floats(&out->rstd, in->rstd, in->height));
	HD_TRY(copy_floats(&out->offset, in->offset, in->channels));
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
	double half = 0;
	for (size_t i = 0; i < s->count; i++) {
		if (s->samples[i].split != HD_TRAIN)
			continue;
		hd_geo_to_local_m(&card->frame, s->samples[i].latitude_deg, s->samples[i].longitude_deg, &north, &east);
		half = fmax(half, fmax(fabs(north), fabs(east)));
	}
	card->frame.scale_m = fmax(half, SMALLEST_SCALE_M);
}

void hd_dataset_centre(hd_dataset *d)
{
	double north, east, sum[2] = {0, 0};
	size_t n = 0;
	for (size_t i = 0; i < d->samples.count; i++) {
		const hd_sample *s = &d->samples.samples[i];
		if (s->split != HD_TRAIN)
			continue;
		hd_geo_to_local_m(&d->card.frame, s->latitude_deg, s->longitude_deg, &north, &east);
		sum[0] += north;
		sum[1] += east;
		n++;
	}
	hd_geo_from_local_m(&d->card.frame, sum[0] / (double)n, sum[1] / (double)n, &d->card.centre_latitude_deg,
	        &d->card.centre_longitude_deg);
}

static hd_status make_card(hd_dataset *d, const hd_settings *settings)
{
	hd_data_card *card = &d->card;
	hd_status st = join_receivers(&card->receivers, &d->samples);
	card->channels = d->samples.R == 1 ? HD_MIN_CHANNELS : d->samples.R;
	card->height = (int)hd_features_height(&d->features);
	label_frame(card, &d->samples);
	hd_dataset_centre(d);
	double extent_m = 2 * card->frame.scale_m;
	card->sigma_min_m = settings->uncertainty_min;
	card->sigma_max_m = settings->uncertainty_max > 0 ? settings->uncertainty_max
	                                                  : fmax(extent_m, 2 * settings->uncertainty_min);
	return st;
}

hd_status hd_dataset_open(hd_dataset *out, const hd_settings *settings, const hd_data_card *recorded)
{
	hd_status st;
	*out = (hd_dataset){.features = hd_feature_config_from(settings),
	        .recorded = recorded != NULL,
	        .label_sigma_m = settings->label_sigma_m};
	if (!settings->data_dir[0])
		return hd_fail(HD_E_USAGE, "--data_dir: name the catalogue: a folder with manifest.csv, a .sqlite file "
		                           "or postgresql://...");
	hd_sample_config config = hd_sample_config_from(settings);
	if (recorded)
		config.receivers = recorded->receivers;
	HD_TRY(hd_catalog_open(&out->catalog, settings->data_dir, settings->assume_approved, settings));
	HD_TRY(hd_catalog_where(&out->catalog, settings->where));
	HD_TRY(hd_samples_build(&out->samples, &out->catalog, &config));
	HD_TRY(recorded ? copy_card(&out->card, recorded) : make_card(out, settings));
done:
	if (st != HD_OK)
		hd_dataset_close(out);
	return st;
}

/* What came to light while recordings were read: the first few of each reason, and how many there are. */
static void report_skipped(const hd_catalog *catalog, size_t before[HD_SKIP_COUNT])
{
	size_t shown[HD_SKIP_COUNT] = {0}, now[HD_SKIP_COUNT] = {0}, bad = 0;
	hd_catalog_count_skips(now, catalog);
	for (size_t i = 0; i < catalog->count; i++) {
		const hd_recording *r = &catalog->recordings[i];
		if (r->skip == HD_SKIP_NONE || now[r->skip] == before[r->skip] || shown[r->skip]++ >= SHOWN_SKIPS)
			continue;
		hd_warn("skipped: %s: %s", hd_skip_text(r->skip), r->skip_detail ? r->skip_detail : r->iq);
	}
	for (int k = 1; k < HD_SKIP_COUNT; k++)
		bad += now[k] - before[k];
	if (bad)
		hd_warn("%zu recordings could not be used; their channels are silent", bad);
}

/* Beside the catalogue: in its folder, or in that of its file; of a database, in the working directory. */
static hd_status cache_folder(char **out, const hd_settings *s, const hd_catalog *catalog)
{
	const char *slash = strrchr(catalog->path, '/');
	struct stat info;
	if (s->cache_dir[0])
		return hd_strdup(out, s->cache_dir);
	if (catalog->format == HD_CATALOG_POSTGRESQL)
		return hd_strdup(out, HD_CACHE_FOLDER);
	if (stat(catalog->path, &info) == 0 && S_ISDIR(info.st_mode))
		return hd_sprintf(out, "%s/" HD_CACHE_FOLDER, catalog->path);
	return hd_sprintf(out, "%.*s" HD_CACHE_FOLDER, slash ? (int)(slash + 1 - catalog->path) : 0, catalog->path);
}

/* Gain offsets, then the statistics of what is left. */
static hd_status estimate(hd_dataset *d, const hd_settings *settings)
{
	hd_status st = HD_OK;
	float *silence = NULL;
	size_t H = (size_t)d->card.height;
	if (settings->gain_offsets) {
		HD_TRY(hd_alloc(&d->card.offset, (size_t)d->card.channels, sizeof(float)));
		HD_TRY(hd_feature_offsets(d->card.offset, &d->cache, &d->samples));
	}
	if (strcmp(settings->normalize, "dataset") != 0)
		goto done;
	HD_TRY(hd_alloc(&silence, H, sizeof *silence));
	HD_TRY(hd_alloc(&d->card.mean, H, sizeof(float)));
	HD_TRY(hd_alloc(&d->card.rstd, H, sizeof(float)));
	hd_features_silence(silence, &d->features);
	HD_TRY(hd_feature_statistics(d->card.mean, d->card.rstd, &d->cache, &d->samples, d->card.offset, silence));
done:
	free(silence);
	return st;
}

hd_status hd_dataset_load(hd_dataset *d, const hd_settings *settings, hd_backend *backend)
{
	hd_status st;
	char *folder = NULL;
	hd_store *store = NULL;
	size_t before[HD_SKIP_COUNT] = {0};
	hd_catalog_count_skips(before, &d->catalog);
	HD_TRY(cache_folder(&folder, settings, &d->catalog));
	HD_TRY(hd_fetch_open(&store, settings));
	HD_TRY(hd_feature_cache_open(&d->cache, folder, &d->features,
	        (hd_raw_format)hd_settings_choice("iq_format", settings->iq_format), d->card.channels, &d->catalog,
	        &d->samples, store, backend, (int)settings->num_workers));
	report_skipped(&d->catalog, before);
	if (!d->recorded)
		HD_TRY(estimate(d, settings));
done:
	hd_store_close(store);
	free(folder);
	return st;
}

size_t hd_dataset_feature_bytes(const hd_dataset *d)
{
	int64_t each = (int64_t)d->card.channels * d->card.height * hd_features_kept_frames(&d->features);
	return d->samples.count * (size_t)each * sizeof *d->cache.db;
}

bool hd_dataset_has_label_sigma(const hd_dataset *d)
{
	bool any = d->label_sigma_m > 0;
	for (size_t i = 0; i < d->samples.count && !any; i++)
		any = d->samples.samples[i].label_sigma_m > 0;
	return any;
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
