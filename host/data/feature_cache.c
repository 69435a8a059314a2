/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/feature_cache.h"

#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/common/first_error.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/data/extract.h"
#include "host/data/feature_store.h"
#include "host/data/fetch.h"
#include "kernels/half.h"

#define BLOCK_RECORDINGS 512
#define STATISTICS_SAMPLES 512
#define SMALLEST_STD_DB 1e-3 /* less: an empty filter */
#define LEAST_STD_DB 1.0     /* less is scatter around silence, which must not be blown up to the size of a signal */

/* One recording to put into the cache: where it belongs and how it went. */
typedef struct job {
	int64_t recording;
	int64_t to; /* offset into db, in slots */
	uint64_t key;
	bool ready;
} job;

/* A recording named by its version is the same wherever its catalogue lies; the path within tells receivers apart. */
static uint64_t version_key(const char *within, const char *version)
{
	char text[4400];
	snprintf(text, sizeof text, "%s version %s", within, version);
	return hd_feature_key(text);
}

static bool recording_key(uint64_t *key, const hd_recording *r, const char *folder)
{
	char file[4096], text[4400];
	int64_t row;
	struct stat info;
	if (r->version) {
		size_t n = strlen(folder);
		*key = version_key(!strncmp(r->iq, folder, n) && r->iq[n] == '/' ? r->iq + n + 1 : r->iq, r->version);
		return true;
	}
	hd_iq_split_row(file, &row, r->iq);
	if (stat(file, &info) != 0)
		return false;
	/* a raw file's content depends on nothing but itself; a SigMF file's on its description too, which is the path
	 */
	snprintf(text, sizeof text, "%s %lld %lld.%09ld", r->iq, (long long)info.st_size,
	        (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
	*key = hd_feature_key(text);
	return true;
}

/* Of a URL the version is asked for; an object's is its ETag. */
static hd_status name_job(job *j, hd_recording *r, const char *folder, hd_store *store)
{
	char *version;
	if (!store || r->version || !hd_store_is_url(r->iq)) {
		if (!recording_key(&j->key, r, folder))
			hd_recording_skip(r, HD_SKIP_MISSING_FILE, "%s: %s", r->iq, strerror(errno));
		return HD_OK;
	}
	hd_status st = hd_fetch_version(&version, store, r->iq);
	if (st == HD_OK) {
		j->key = version_key(r->iq, version);
		free(r->seen);
		r->seen = version;
	}
	if (st != HD_E_DATA)
		return st;
	hd_recording_skip(r, HD_SKIP_MISSING_FILE, "%s", hd_error_text());
	return HD_OK;
}

/* One recording to halves; skips it with the reason where it cannot be used. An error where its store does not answer.
 */
static hd_status compute(
        bool *done, hd_extractor *e, uint16_t *halves, hd_recording *r, hd_raw_format raw, hd_store *store)
{
	hd_iq iq = {0};
	hd_skip skip = HD_SKIP_UNREADABLE;
	if (r->version && !hd_iq_exists(r->iq)) {
		hd_recording_skip(r, HD_SKIP_MISSING_FILE,
		        "%s: only its features were kept, with other feature settings; use those or render it again",
		        r->iq);
		return HD_OK;
	}
	hd_status st = hd_fetch_iq(&iq, NULL, store, r->iq, raw);
	bool far = store && hd_store_is_url(r->iq);
	if (far && st != HD_OK && st != HD_E_DATA)
		return st;
	if (st == HD_OK && iq.rows > 1)
		st = hd_fail(HD_E_DATA, "%s: holds %lld rows; name one as %s#0 .. #%lld", r->iq, (long long)iq.rows,
		        r->iq, (long long)iq.rows - 1);
	if (st == HD_OK)
		st = hd_extract(e, halves, &iq, r->sample_rate_hz, r->iq, &skip);
	hd_iq_free(&iq);
	*done = st == HD_OK;
	if (st != HD_OK)
		hd_recording_skip(r, skip, "%s", hd_error_text());
	return HD_OK;
}

static void close_crew(hd_extractor *crew, int count)
{
	for (int i = 0; crew && i < count; i++)
		hd_extractor_close(&crew[i]);
	free(crew);
}

static hd_status open_crew(hd_extractor **out, int count, const hd_feature_config *c, hd_backend *backend)
{
	hd_status st = hd_alloc(out, (size_t)count, sizeof **out);
	for (int i = 0; st == HD_OK && i < count; i++)
		st = hd_extractor_open(&(*out)[i], backend, c);
	if (st == HD_OK && hd_features_empty_filters((*out)[0].plan))
		hd_warn("%d of %d mel filters lie between two FFT bins and stay at %.0f dB",
		        hd_features_empty_filters((*out)[0].plan), c->n_mels, (double)HD_DB_SILENCE);
	return st;
}

/* ---- filling ---- */

static hd_status list_jobs(job **out, size_t *count, const hd_feature_cache *cache, hd_catalog *catalog,
        const hd_samples *samples, hd_store *store, int workers)
{
	size_t capacity = 0, named = 0;
	hd_first_error error = {HD_OK};
	for (size_t s = 0; s < samples->count; s++) {
		for (int r = 0; r < samples->R; r++) {
			int64_t recording = samples->samples[s].recording[r];
			job j = {.recording = recording, .to = (int64_t)s * cache->C + r};
			if (recording < 0)
				continue;
			hd_status st = hd_grow(out, &capacity, *count + 1, sizeof j);
			if (st != HD_OK)
				return st;
			(*out)[(*count)++] = j;
		}
	}
#pragma omp parallel for schedule(dynamic, 16) num_threads(workers)
	for (size_t i = 0; i < *count; i++) {
		if (error.status == HD_OK)
			hd_first_error_note(&error,
			        name_job(&(*out)[i], &catalog->recordings[(*out)[i].recording], catalog->path, store));
	}
	for (size_t i = 0; i < *count; i++)
		if (catalog->recordings[(*out)[i].recording].skip == HD_SKIP_NONE)
			(*out)[named++] = (*out)[i];
	*count = named;
	return hd_first_error_take(&error);
}

static hd_status compute_missing(hd_feature_cache *cache, hd_feature_store *s, job *jobs, size_t count,
        hd_catalog *catalog, const hd_feature_config *c, hd_raw_format raw, hd_store *store, hd_backend *backend,
        int workers)
{
	hd_status st;
	hd_first_error error = {HD_OK};
	hd_extractor *crew = NULL;
	hd_progress *bar = NULL;
	int64_t slot = cache->H * cache->T, done = 0;
	size_t unflushed = 0;
	HD_TRY(open_crew(&crew, workers, c, backend));
	bar = hd_progress_start("features", "recording", (int64_t)count);
	for (size_t from = 0; from < count; from += BLOCK_RECORDINGS) {
		size_t to = from + BLOCK_RECORDINGS < count ? from + BLOCK_RECORDINGS : count;
#pragma omp parallel for schedule(dynamic, 4) num_threads(workers)
		for (size_t i = from; i < to; i++) {
			if (error.status != HD_OK)
				continue;
			hd_first_error_note(&error,
			        compute(&jobs[i].ready, &crew[omp_get_thread_num()], cache->db + jobs[i].to * slot,
			                &catalog->recordings[jobs[i].recording], raw, store));
			int64_t now;
#pragma omp atomic capture
			now = ++done;
			hd_progress_update(bar, now, NULL);
		}
		for (size_t i = from; i < to; i++) {
			if (jobs[i].ready) {
				HD_TRY(hd_feature_store_save(s, jobs[i].key, cache->db + jobs[i].to * slot));
				unflushed++;
			}
		}
		bool stop = hd_stop_requested();
		/* the index is written whole, so more seldom the longer it is */
		if (stop || to == count || unflushed > to / 8 || error.status != HD_OK) {
			HD_TRY(hd_feature_store_flush(s));
			unflushed = 0;
		}
		HD_TRY(hd_first_error_take(&error));
		if (stop) {
			st = hd_fail(HD_E_INTERRUPTED, "interrupted; the features made so far are kept");
			goto done;
		}
	}
done:
	hd_progress_end(bar);
	close_crew(crew, workers);
	return st;
}

/* Channels without a recording are silent; one receiver is repeated where more channels are wanted. */
static void finish_samples(hd_feature_cache *cache, const hd_samples *samples, const float *silence)
{
	int64_t slot = cache->H * cache->T;
	for (int64_t s = 0; s < cache->S; s++) {
		for (int64_t c = 0; c < cache->C; c++) {
			uint16_t *to = cache->db + (s * cache->C + c) * slot;
			bool tiled = samples->R == 1 && c > 0 && cache->heard[s * cache->C];
			cache->valid[s] = cache->valid[s] || cache->heard[s * cache->C + c];
			if (tiled)
				memcpy(to, cache->db + s * cache->C * slot, (size_t)slot * sizeof *to);
			for (int64_t i = 0; !tiled && !cache->heard[s * cache->C + c] && i < slot; i++)
				to[i] = hd_float_to_half(silence[i / cache->T]);
		}
	}
}

hd_status hd_feature_cache_open(hd_feature_cache *out, const char *folder, const hd_feature_config *config,
        hd_raw_format raw, int channels, hd_catalog *catalog, const hd_samples *samples, hd_store *store,
        hd_backend *backend, int workers)
{
	hd_status st;
	hd_feature_store *s = NULL;
	job *jobs = NULL, *missing = NULL;
	size_t count = 0, missing_count = 0;
	float *silence = NULL;
	*out = (hd_feature_cache){.S = (int64_t)samples->count,
	        .C = channels,
	        .H = hd_features_height(config),
	        .T = hd_features_kept_frames(config)};
	int64_t slot = out->H * out->T;
	workers = workers > 0 ? workers : omp_get_num_procs();
	HD_TRY(hd_feature_store_open(&s, folder, config));
	HD_TRY(hd_alloc(&out->db, (size_t)(out->S * out->C * slot), sizeof *out->db));
	HD_TRY(hd_alloc(&out->valid, (size_t)out->S, sizeof *out->valid));
	HD_TRY(hd_alloc(&out->heard, (size_t)(out->S * out->C), sizeof *out->heard));
	HD_TRY(hd_alloc(&silence, (size_t)out->H, sizeof *silence));
	hd_features_silence(silence, config);
	HD_TRY(list_jobs(&jobs, &count, out, catalog, samples, store, workers));
	HD_TRY(hd_alloc(&missing, count, sizeof *missing));
	for (size_t i = 0; i < count; i++) {
		jobs[i].ready = hd_feature_store_load(s, jobs[i].key, out->db + jobs[i].to * slot);
		if (!jobs[i].ready)
			missing[missing_count++] = jobs[i];
	}
	if (missing_count)
		HD_TRY(compute_missing(out, s, missing, missing_count, catalog, config, raw, store, backend, workers));
	for (size_t i = 0; i < count; i++)
		out->heard[jobs[i].to] = jobs[i].ready;
	for (size_t i = 0; i < missing_count; i++)
		out->heard[missing[i].to] = missing[i].ready;
	finish_samples(out, samples, silence);
done:
	free(silence);
	free(missing);
	free(jobs);
	hd_feature_store_close(s);
	if (st != HD_OK)
		hd_feature_cache_close(out);
	return st;
}

void hd_feature_cache_close(hd_feature_cache *cache)
{
	if (!cache)
		return;
	free(cache->valid);
	free(cache->heard);
	free(cache->db);
	*cache = (hd_feature_cache){0};
}

/* ---- recordings that exist as features alone ---- */

struct hd_feature_sink {
	hd_feature_store *store;
	hd_extractor *crew;
	uint16_t *halves; /* one slot per thread */
	int threads;
	int64_t slot;
	size_t unflushed, saved;
};

hd_status hd_feature_sink_open(
        hd_feature_sink **out, const char *folder, const hd_feature_config *config, hd_backend *backend, int threads)
{
	hd_status st;
	hd_feature_sink *s = NULL;
	*out = NULL;
	HD_TRY(hd_alloc(&s, 1, sizeof *s));
	s->threads = threads;
	s->slot = hd_features_height(config) * hd_features_kept_frames(config);
	HD_TRY(hd_feature_store_open(&s->store, folder, config));
	HD_TRY(open_crew(&s->crew, threads, config, backend));
	HD_TRY(hd_alloc(&s->halves, (size_t)(threads * s->slot), sizeof *s->halves));
	*out = s;
	s = NULL;
done:
	hd_feature_sink_close(s);
	return st;
}

hd_status hd_feature_sink_put(
        hd_feature_sink *s, int thread, const char *within, const char *version, const float *iq, int64_t samples)
{
	hd_status st;
	hd_skip skip;
	uint16_t *halves = s->halves + thread * s->slot;
	/* not owned: hd_extract neither frees nor moves floats at the configured rate */
	hd_iq view = {.rows = 1, .samples = samples, .dtype = HD_F32, .scale = 1};
	memcpy(&view.data, &iq, sizeof view.data);
	HD_TRY(hd_extract(&s->crew[thread], halves, &view, 0, within, &skip));
#pragma omp critical(hd_feature_sink)
	{
		st = hd_feature_store_save(s->store, version_key(within, version), halves);
		s->unflushed++;
		s->saved++;
		if (st == HD_OK && s->unflushed > BLOCK_RECORDINGS && s->unflushed > s->saved / 8) {
			st = hd_feature_store_flush(s->store);
			s->unflushed = 0;
		}
	}
done:
	return st;
}

hd_status hd_feature_sink_flush(hd_feature_sink *s)
{
	return hd_feature_store_flush(s->store);
}

void hd_feature_sink_close(hd_feature_sink *s)
{
	if (!s)
		return;
	free(s->halves);
	close_crew(s->crew, s->threads);
	hd_feature_store_close(s->store);
	free(s);
}

/* ---- statistics ---- */

typedef struct ranked {
	uint32_t hash;
	int64_t sample;
} ranked;

static int by_hash(const void *a, const void *b)
{
	const ranked *x = a, *y = b;
	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (x->sample > y->sample) - (x->sample < y->sample);
}

/* A level as assemble_batch moves it. */
static double moved(double v, double offset, double silence)
{
	double g = pow(10, -offset / 10), t = fmin(1, pow(10, (silence - v) / 10));
	return v + 10 * log10(g + (1 - g) * t);
}

/* Mean and standard deviation of one band over n samples, in double and two passes. */
static void band_statistics(double *mean, double *std, const hd_feature_cache *c, const ranked *list, size_t n,
        int64_t m, const float *offset, double silence)
{
	double sum = 0, squares = 0, count = (double)n * (double)(c->C * c->T);
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < n; i++) {
			for (int64_t ch = 0; ch < c->C; ch++) {
				const uint16_t *row = c->db + ((list[i].sample * c->C + ch) * c->H + m) * c->T;
				for (int64_t t = 0; t < c->T; t++) {
					double v = (double)hd_half_to_float(row[t]);
					v = offset ? moved(v, (double)offset[ch], silence) : v;
					sum += pass ? 0 : v;
					squares += pass ? (v - *mean) * (v - *mean) : 0;
				}
			}
		}
		*mean = sum / count;
	}
	*std = sqrt(squares / count);
}

hd_status hd_feature_statistics(float *mean, float *rstd, const hd_feature_cache *cache, const hd_samples *samples,
        const float *offset, const float *silence)
{
	ranked *list;
	size_t n = 0;
	hd_status st = hd_alloc(&list, samples->count, sizeof *list);
	if (st != HD_OK)
		return st;
	for (size_t s = 0; s < samples->count; s++)
		if (samples->samples[s].split == HD_TRAIN && cache->valid[s])
			list[n++] = (ranked){samples->samples[s].key_hash, (int64_t)s};
	qsort(list, n, sizeof *list, by_hash);
	n = n < STATISTICS_SAMPLES ? n : STATISTICS_SAMPLES;
	if (!n)
		st = hd_fail(HD_E_DATA, "no training sample has a readable recording");
#pragma omp parallel for schedule(static)
	for (int64_t m = 0; m < (st == HD_OK ? cache->H : 0); m++) {
		double mu = 0, sigma = 0;
		band_statistics(&mu, &sigma, cache, list, n, m, offset, (double)silence[m]);
		mean[m] = (float)mu;
		rstd[m] = sigma < SMALLEST_STD_DB ? 0.0f : (float)(1 / fmax(sigma, LEAST_STD_DB));
	}
	free(list);
	return st;
}

hd_status hd_feature_offsets(float *offset, const hd_feature_cache *c, const hd_samples *samples)
{
	double *sum = NULL, *count = NULL, all = 0, channels = 0;
	int64_t slot = c->H * c->T;
	hd_status st;
	HD_TRY(hd_alloc(&sum, (size_t)c->C, sizeof *sum));
	HD_TRY(hd_alloc(&count, (size_t)c->C, sizeof *count));
	for (int64_t i = 0; i < c->S * c->C; i++) {
		if (samples->samples[i / c->C].split != HD_TRAIN || !c->heard[i])
			continue;
		for (int64_t k = 0; k < slot; k++)
			sum[i % c->C] += (double)hd_half_to_float(c->db[i * slot + k]);
		count[i % c->C] += (double)slot;
	}
	for (int64_t ch = 0; ch < c->C; ch++) {
		all += count[ch] > 0 ? sum[ch] / count[ch] : 0;
		channels += count[ch] > 0;
	}
	for (int64_t ch = 0; ch < c->C; ch++)
		offset[ch] = count[ch] > 0 ? (float)(sum[ch] / count[ch] - all / channels) : 0;
done:
	free(count);
	free(sum);
	return st;
}
