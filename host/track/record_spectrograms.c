/* SPDX-License-Identifier: Apache-2.0 */
/* What the network is shown: pictures of a few samples' levels. */
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/data/catalog_rows.h"
#include "host/report/spectrogram.h"
#include "host/track/record.h"
#include "kernels/half.h"

#define FOLDER "artifacts/spectrograms"
#define PICTURES 4
#define PANELS 16     /* receivers at most: a page must stay one that can be looked at */
#define NAME_BYTES 80 /* of a session's and an emission's name each */
#define PLAIN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"

/* A name as a part of a file's name. */
static void sanitise(char out[NAME_BYTES], const char *name)
{
	snprintf(out, NAME_BYTES, "%s", name);
	for (char *at = out; *at; at++)
		if (!strchr(PLAIN, *at))
			*at = '_';
}

static const hd_recording *first_of(const hd_dataset *d, const hd_sample *sample)
{
	for (int r = 0; r < d->samples.R; r++)
		if (sample->recording[r] >= 0)
			return &d->catalog.recordings[sample->recording[r]];
	return NULL;
}

static hd_status picture_path(char **out, const char *folder, const hd_dataset *d, size_t sample, int number)
{
	char session[NAME_BYTES] = "", emission[NAME_BYTES] = "";
	const hd_sample *s = &d->samples.samples[sample];
	const hd_recording *r = first_of(d, s);
	if (r)
		sanitise(session, r->session);
	if (r && strcmp(r->session, r->emission) != 0)
		sanitise(emission, r->emission);
	return hd_sprintf(out, "%s/%d_%s_%s%s%s.png", folder, number, hd_split_name((int)s->split), session,
	        emission[0] ? "_" : "", emission);
}

/* Levels (R,M,T) of the middle window of a sample's receivers. */
static void take_levels(float *out, const hd_dataset *d, size_t sample, int64_t R, int64_t T)
{
	const hd_feature_cache *c = &d->cache;
	int64_t from = hd_features_windows(&d->features) / 2 * T;
	for (int64_t row = 0; row < R * c->H; row++) {
		const uint16_t *levels = c->db + ((int64_t)sample * c->C * c->H + row) * c->T + from;
		for (int64_t t = 0; t < T; t++)
			out[row * T + t] = hd_half_to_float(levels[t]);
	}
}

/* What stands above each panel. */
static hd_status name_panels(char *names[PANELS], const hd_dataset *d, int64_t R)
{
	hd_status st = HD_OK;
	for (int64_t r = 0; st == HD_OK && r < R; r++)
		st = hd_sprintf(&names[r], "receiver %s", d->samples.receivers[r]);
	return st;
}

static hd_status draw(const char *folder, const hd_dataset *d, size_t sample, int number)
{
	hd_status st;
	char *path = NULL, *names[PANELS] = {NULL};
	float *levels = NULL;
	int64_t R = d->samples.R < PANELS ? d->samples.R : PANELS;
	int64_t T = hd_features_window_frames(&d->features);
	HD_TRY(picture_path(&path, folder, d, sample, number));
	HD_TRY(name_panels(names, d, R));
	HD_TRY(hd_alloc(&levels, (size_t)(R * d->cache.H * T), sizeof *levels));
	take_levels(levels, d, sample, R, T);
	HD_TRY(hd_spectrogram_write(path, levels, &d->features, R, T, (const char *const *)names));
done:
	free(levels);
	for (int r = 0; r < PANELS; r++)
		free(names[r]);
	free(path);
	return st;
}

static bool has_valid(const hd_dataset *d, hd_split split)
{
	for (size_t i = 0; i < d->samples.count; i++)
		if (d->cache.valid[i] && d->samples.samples[i].split == split)
			return true;
	return false;
}

hd_status hd_record_spectrograms(const hd_run *run, const hd_dataset *d)
{
	hd_status st = HD_OK;
	char *folder = NULL;
	int drawn = 0;
	if (d->features.kind != HD_FEATURE_MEL)
		return HD_OK;
	hd_split split = has_valid(d, HD_VAL) ? HD_VAL : HD_TRAIN;
	HD_TRY(hd_run_path(&folder, run, FOLDER));
	HD_TRY(hd_make_folders(folder));
	for (size_t i = 0; i < d->samples.count && drawn < PICTURES; i++)
		if (d->cache.valid[i] && d->samples.samples[i].split == split)
			HD_TRY(draw(folder, d, i, ++drawn));
done:
	free(folder);
	return st;
}
