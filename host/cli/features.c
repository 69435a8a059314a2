/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall features: mel levels of recordings as .npy and picture. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "heimdall/dataset.h"
#include "host/cli/cli.h"
#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/data/extract.h"
#include "host/data/fetch.h"
#include "host/report/spectrogram.h"

/* OUT/name without its ending, or beside the recording; standard input is "stdin". */
static hd_status output_stem(char **out, const hd_settings *s, const char *file)
{
	static const char *const endings[] = {
	        ".npy", ".wav", ".sigmf-meta", ".sigmf-data", ".cu8", ".cs8", ".cs16", ".cf32", ".bin", ".iq"};
	const char *slash = strrchr(file, '/');
	const char *name = !strcmp(file, "-") ? "stdin" : s->out[0] && slash ? slash + 1 : file;
	size_t length = strlen(name);
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		size_t n = strlen(endings[i]);
		if (length > n && !strcasecmp(name + length - n, endings[i])) {
			length -= n;
			break;
		}
	}
	return hd_sprintf(out, "%s%s%.*s", s->out, s->out[0] ? "/" : "", (int)length, name);
}

static hd_status write_features(const hd_settings *s, const hd_feature_config *c, const char *file, const float *values,
        const float *db, int64_t R, int64_t T)
{
	hd_status st;
	char *stem = NULL, *path = NULL, *picture = NULL;
	const int64_t shape[3] = {R, c->kind == HD_FEATURE_MFCC ? c->n_mfcc : c->n_mels, T};
	int64_t n = shape[0] * shape[1] * shape[2];
	float low = INFINITY, high = -INFINITY;
	for (int64_t i = 0; i < n; i++) {
		low = fminf(low, values[i]);
		high = fmaxf(high, values[i]);
	}
	HD_TRY(output_stem(&stem, s, file));
	HD_TRY(hd_sprintf(&path, "%s.features.npy", stem));
	HD_TRY(hd_sprintf(&picture, "%s.features.png", stem));
	HD_TRY(hd_npy_write(path, "<f4", shape, 3, values, (size_t)n * sizeof *values));
	/* the picture is of the levels, which the cepstrum only tells in another way */
	HD_TRY(hd_spectrogram_write(picture, db, c, R, T, NULL));
	printf("%s  (%lld, %lld, %lld)  %.1f .. %.1f%s\n", path, (long long)shape[0], (long long)shape[1],
	        (long long)shape[2], (double)low, (double)high, c->kind == HD_FEATURE_MFCC ? "" : " dB");
done:
	free(picture);
	free(path);
	free(stem);
	return st;
}

/* All coefficients of every row, without the rows that pad a network's input. */
static hd_status cepstrum(
        float **out, hd_features *plan, const float *db, const hd_feature_config *c, int64_t R, int64_t T)
{
	hd_status st;
	float *padded = NULL;
	int64_t K = c->n_mfcc, H = hd_features_height(c);
	HD_TRY(hd_alloc(out, (size_t)(R * K * T), sizeof **out));
	HD_TRY(hd_alloc(&padded, (size_t)(R * H * T), sizeof *padded));
	HD_TRY(hd_features_mfcc(plan, padded, db, R, T));
	for (int64_t r = 0; r < R; r++)
		memcpy(*out + r * K * T, padded + r * H * T, (size_t)(K * T) * sizeof *padded);
done:
	free(padded);
	return st;
}

/* A plan, and what it was made for. */
typedef struct planner {
	hd_backend *backend;
	hd_features *plan;
	hd_feature_config config;
	hd_raw_format raw;
	hd_store *store;
	bool own_rate; /* no rate was asked for: a file's own one is taken */
} planner;

static hd_status plan_for(planner *p, double rate_hz)
{
	hd_feature_config c = p->config;
	if (p->own_rate && rate_hz > 0)
		c.sample_rate_hz = rate_hz;
	if (p->plan && c.sample_rate_hz == p->config.sample_rate_hz)
		return HD_OK;
	hd_features_free(p->plan);
	p->plan = NULL;
	hd_status st = hd_features_create(&p->plan, p->backend, &c);
	if (st != HD_OK)
		return st;
	p->config = c;
	if (hd_features_empty_filters(p->plan))
		hd_warn("at %g Hz, %d of %d mel filters lie between two FFT bins and stay at %.0f dB", c.sample_rate_hz,
		        hd_features_empty_filters(p->plan), c.n_mels, (double)HD_DB_SILENCE);
	return HD_OK;
}

static hd_status one_file(planner *p, const hd_settings *s, const char *file)
{
	hd_status st;
	hd_iq iq = {0};
	hd_skip skip;
	float *db = NULL, *values = NULL;
	HD_TRY(hd_fetch_iq(&iq, NULL, p->store, file, p->raw));
	HD_TRY(plan_for(p, iq.sample_rate_hz));
	const hd_feature_config *c = &p->config;
	HD_TRY(hd_extract_rate(&iq, c, 0, file, &skip));
	int64_t T = hd_features_frame_count(c, iq.samples), n = iq.rows * c->n_mels * T;
	HD_TRY(hd_alloc(&db, (size_t)n, sizeof *db));
	HD_TRY(hd_features_compute(p->plan, db, &iq));
	for (int64_t i = 0; i < n; i++) {
		if (!isfinite(db[i])) {
			st = hd_fail(HD_E_DATA, "%s: NaN or infinity among its samples", file);
			goto done;
		}
	}
	if (c->kind == HD_FEATURE_MFCC)
		HD_TRY(cepstrum(&values, p->plan, db, c, iq.rows, T));
	HD_TRY(write_features(s, c, file, values ? values : db, db, iq.rows, T));
done:
	free(values);
	free(db);
	hd_iq_free(&iq);
	return st;
}

hd_status hd_cli_features(const hd_settings *s, const char **files, int count)
{
	hd_status st;
	planner p = {.config = hd_feature_config_from(s),
	        .raw = (hd_raw_format)hd_settings_choice("iq_format", s->iq_format),
	        .own_rate = !s->given[HD_SET_sample_rate] && !(s->resample > 0)};
	int bad = 0;
	if (!count)
		return hd_fail(HD_E_USAGE, "features FILE...: name at least one recording; - is standard input");
	HD_TRY(hd_fetch_open(&p.store, s));
	HD_TRY(hd_backend_open(&p.backend, s->accelerator, s->devices, (int)s->threads));
	if (s->out[0])
		HD_TRY(hd_make_folders(s->out));
	for (int i = 0; i < count; i++) {
		st = one_file(&p, s, files[i]);
		if (st == HD_E_USAGE)
			goto done;
		if (st == HD_OK)
			continue;
		hd_warn("skipped: %s", hd_error_text());
		bad++;
	}
	st = bad ? hd_fail(HD_E_DATA, "%d of %d files could not be read", bad, count) : HD_OK;
done:
	hd_features_free(p.plan);
	hd_backend_close(p.backend);
	hd_store_close(p.store);
	return st;
}
