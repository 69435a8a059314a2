/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/feature_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "kernels/half.h"

#define CODE_VERSION 1 /* raise when the same settings give other features */
#define FLUSH_RECORDINGS 512
#define STATISTICS_SAMPLES 512
#define SMALLEST_STD_DB 1e-3

typedef struct entry {
	uint64_t key;
	uint32_t checksum;
	int64_t slot;
} entry;

/* One recording to put into the cache: where it belongs and how it went. */
typedef struct job {
	int64_t recording;
	int64_t to; /* offset into db, in slots */
	uint64_t key;
	bool ready;
} job;

typedef struct store {
	char *folder, *index_path;
	int fd;
	entry *entries; /* the first `sorted` by key, new ones behind them */
	size_t count, sorted, capacity;
	int64_t next_slot;
	size_t slot_bytes;
} store;

static uint64_t hash64(const char *text)
{
	size_t n = strlen(text);
	return (uint64_t)hd_hash32(text, n, 0x5bd1e995u) << 32 | hd_hash32(text, n, 0);
}

static int by_key(const void *a, const void *b)
{
	const entry *x = a, *y = b;
	return (x->key > y->key) - (x->key < y->key);
}

static void close_store(store *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->entries);
	free(s->index_path);
	free(s->folder);
}

static void read_index(store *s)
{
	FILE *file = fopen(s->index_path, "r");
	entry e;
	struct stat info;
	if (!file)
		return;
	int64_t slots = fstat(s->fd, &info) == 0 ? info.st_size / (int64_t)s->slot_bytes : 0;
	while (fscanf(file, "%" SCNd64 " %" SCNx64 " %" SCNx32 "\n", &e.slot, &e.key, &e.checksum) == 3) {
		if (e.slot < 0 || e.slot >= slots ||
		        hd_grow(&s->entries, &s->capacity, s->count + 1, sizeof e) != HD_OK)
			continue;
		s->entries[s->count++] = e;
		s->next_slot = e.slot >= s->next_slot ? e.slot + 1 : s->next_slot;
	}
	fclose(file);
	if (s->count)
		qsort(s->entries, s->count, sizeof e, by_key);
	s->sorted = s->count;
}

static entry *find(const store *s, uint64_t key)
{
	const entry wanted = {.key = key};
	return s->sorted ? bsearch(&wanted, s->entries, s->sorted, sizeof wanted, by_key) : NULL;
}

static hd_status open_store(store *s, const char *folder, const hd_feature_config *c, int64_t T)
{
	hd_status st;
	char settings[256], *data = NULL;
	*s = (store){.fd = -1, .slot_bytes = (size_t)(c->n_mels * T) * sizeof(uint16_t)};
	snprintf(settings, sizeof settings, "%d %.17g %d %d %d %d %.17g %.17g %d %d %d %d %" PRId64, CODE_VERSION,
	        c->sample_rate_hz, c->n_fft, c->hop_length, c->n_mels, c->frames, c->f_min_hz, c->f_max_hz,
	        (int)c->convention, (int)c->mel_scale, (int)c->mel_norm, (int)c->frame_mode, T);
	HD_TRY(hd_sprintf(&s->folder, "%s/%016" PRIx64, folder, hash64(settings)));
	HD_TRY(hd_make_folders(s->folder));
	HD_TRY(hd_sprintf(&s->index_path, "%s/index", s->folder));
	HD_TRY(hd_sprintf(&data, "%s/features.f16", s->folder));
	s->fd = open(data, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (s->fd < 0) {
		st = hd_fail(HD_E_IO, "%s: cannot open the feature cache: %s; choose another folder with --cache_dir",
		        data, strerror(errno));
		goto done;
	}
	read_index(s);
done:
	free(data);
	return st;
}

/* Data first, then the index that names them. */
static hd_status flush_index(store *s)
{
	hd_status st = HD_OK;
	char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for the cache index");
	for (size_t i = 0; i < s->count; i++)
		fprintf(to, "%" PRId64 " %016" PRIx64 " %08" PRIx32 "\n", s->entries[i].slot, s->entries[i].key,
		        s->entries[i].checksum);
	fclose(to);
	if (fdatasync(s->fd) != 0)
		st = hd_fail(HD_E_IO, "%s: cannot sync the feature cache: %s", s->folder, strerror(errno));
	if (st == HD_OK)
		st = hd_file_write(s->index_path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	return st;
}

/* Reads a recording's slot; false where it is not there or damaged. */
static bool load(const store *s, uint64_t key, uint16_t *db)
{
	const entry *e = find(s, key);
	if (!e)
		return false;
	ssize_t got = pread(s->fd, db, s->slot_bytes, (off_t)(e->slot * (int64_t)s->slot_bytes));
	return got == (ssize_t)s->slot_bytes && hd_hash32(db, s->slot_bytes, (uint32_t)key) == e->checksum;
}

static hd_status save(store *s, uint64_t key, const uint16_t *db)
{
	hd_status st = hd_grow(&s->entries, &s->capacity, s->count + 1, sizeof *s->entries);
	if (st != HD_OK)
		return st;
	/* a damaged entry gets a new slot: the one it names may be another recording's */
	entry *damaged = find(s, key);
	entry *e = damaged ? damaged : &s->entries[s->count];
	int64_t slot = s->next_slot;
	if (pwrite(s->fd, db, s->slot_bytes, (off_t)(slot * (int64_t)s->slot_bytes)) != (ssize_t)s->slot_bytes)
		return hd_fail(HD_E_IO, "%s: cannot write the feature cache: %s; make room or choose --cache_dir",
		        s->folder, strerror(errno));
	*e = (entry){key, hd_hash32(db, s->slot_bytes, (uint32_t)key), slot};
	s->count += !damaged;
	s->next_slot++;
	return HD_OK;
}

/* ---- recordings ---- */

/* Splits "file.npy#2" where no file of the whole name exists; row -1 where none is named. */
static void split_row(char file[4096], int64_t *row, const char *path)
{
	const char *hash = strrchr(path, '#');
	snprintf(file, 4096, "%s", path);
	*row = -1;
	if (!hash || !hash[1] || hash[1 + strspn(hash + 1, "0123456789")] || access(path, F_OK) == 0)
		return;
	file[hash - path < 4095 ? hash - path : 4095] = 0;
	*row = strtoll(hash + 1, NULL, 10);
}

hd_status hd_recording_read(hd_iq *out, const char *path, bool all_rows)
{
	char file[4096];
	int64_t row;
	split_row(file, &row, path);
	hd_status st = hd_iq_read_npy(out, file);
	if (st != HD_OK)
		return st;
	if (row < 0 && (all_rows || out->rows == 1))
		return HD_OK;
	if (row < 0 || row >= out->rows) {
		st = hd_fail(HD_E_DATA, "%s: holds %lld rows; name one as %s#0 .. #%lld", path, (long long)out->rows,
		        file, (long long)out->rows - 1);
		hd_iq_free(out);
		return st;
	}
	size_t bytes = (size_t)(out->samples * 2) * hd_dtype_bytes(out->dtype);
	memmove(out->data, (char *)out->data + (size_t)row * bytes, bytes);
	out->rows = 1;
	return HD_OK;
}

bool hd_recording_exists(const char *path)
{
	char file[4096];
	int64_t row;
	split_row(file, &row, path);
	return access(file, R_OK) == 0;
}

static bool recording_key(uint64_t *key, const char *path)
{
	char file[4096], text[4400];
	int64_t row;
	struct stat info;
	split_row(file, &row, path);
	if (stat(file, &info) != 0)
		return false;
	snprintf(text, sizeof text, "%s %lld %lld.%09ld", path, (long long)info.st_size, (long long)info.st_mtim.tv_sec,
	        info.st_mtim.tv_nsec);
	*key = hash64(text);
	return true;
}

typedef struct worker {
	hd_features *features;
	float *all, *kept;
	size_t all_capacity;
} worker;

/* One recording to halves; skips it with the reason where it cannot be used. */
static bool compute(worker *w, uint16_t *db, hd_recording *r, const hd_feature_config *c, int64_t T)
{
	hd_iq iq;
	hd_status st = hd_recording_read(&iq, r->iq, false);
	if (st != HD_OK) {
		hd_recording_skip(r, HD_SKIP_UNREADABLE, "%s", hd_error_text());
		return false;
	}
	int64_t M = c->n_mels, frames = hd_features_frame_count(c, iq.samples);
	bool finite = true;
	st = hd_grow(&w->all, &w->all_capacity, (size_t)(M * frames), sizeof *w->all);
	if (st == HD_OK)
		st = hd_features_compute(w->features, w->all, &iq);
	hd_iq_free(&iq);
	if (st != HD_OK) {
		hd_recording_skip(r, HD_SKIP_UNREADABLE, "%s: %s", r->iq, hd_error_text());
		return false;
	}
	hd_features_fit_frames(w->kept, T, w->all, frames, M, c->frame_mode);
	/* a non-finite sample shows in its frames, and all frames are looked at, not only the kept ones */
	for (int64_t i = 0; i < M * frames; i++)
		finite = finite && isfinite(w->all[i]);
	if (!finite) {
		hd_recording_skip(r, HD_SKIP_NON_FINITE, "%s: NaN or infinity among its samples", r->iq);
		return false;
	}
	for (int64_t i = 0; i < M * T; i++)
		db[i] = hd_float_to_half(w->kept[i]);
	return true;
}

static void close_workers(worker *workers, int count)
{
	for (int i = 0; workers && i < count; i++) {
		free(workers[i].kept);
		free(workers[i].all);
		hd_features_free(workers[i].features);
	}
	free(workers);
}

static hd_status open_workers(worker **out, int count, const hd_feature_config *c, hd_backend *backend, int64_t T)
{
	hd_status st = hd_alloc(out, (size_t)count, sizeof **out);
	for (int i = 0; st == HD_OK && i < count; i++) {
		st = hd_features_create(&(*out)[i].features, backend, c);
		if (st == HD_OK)
			st = hd_alloc(&(*out)[i].kept, (size_t)(c->n_mels * T), sizeof(float));
	}
	if (st == HD_OK && hd_features_empty_filters((*out)[0].features))
		hd_warn("%d of %d mel filters lie between two FFT bins and stay at %.0f dB",
		        hd_features_empty_filters((*out)[0].features), c->n_mels, (double)HD_DB_SILENCE);
	return st;
}

/* ---- filling ---- */

static hd_status list_jobs(
        job **out, size_t *count, const hd_feature_cache *cache, hd_catalog *catalog, const hd_samples *samples)
{
	size_t capacity = 0;
	for (size_t s = 0; s < samples->count; s++) {
		for (int r = 0; r < samples->R; r++) {
			int64_t recording = samples->samples[s].recording[r];
			job j = {.recording = recording, .to = (int64_t)s * cache->C + r};
			if (recording < 0)
				continue;
			if (!recording_key(&j.key, catalog->recordings[recording].iq)) {
				hd_recording_skip(&catalog->recordings[recording], HD_SKIP_MISSING_FILE, "%s: %s",
				        catalog->recordings[recording].iq, strerror(errno));
				continue;
			}
			hd_status st = hd_grow(out, &capacity, *count + 1, sizeof j);
			if (st != HD_OK)
				return st;
			(*out)[(*count)++] = j;
		}
	}
	return HD_OK;
}

static hd_status compute_missing(hd_feature_cache *cache, store *s, job *jobs, size_t count, hd_catalog *catalog,
        const hd_feature_config *c, hd_backend *backend, int workers)
{
	hd_status st;
	worker *crew = NULL;
	hd_progress *bar = NULL;
	int64_t slot = cache->M * cache->T, done = 0;
	HD_TRY(open_workers(&crew, workers, c, backend, cache->T));
	bar = hd_progress_start("features", "recording", (int64_t)count);
	for (size_t from = 0; from < count; from += FLUSH_RECORDINGS) {
		size_t to = from + FLUSH_RECORDINGS < count ? from + FLUSH_RECORDINGS : count;
#pragma omp parallel for schedule(dynamic, 4) num_threads(workers)
		for (size_t i = from; i < to; i++) {
			jobs[i].ready = compute(&crew[omp_get_thread_num()], cache->db + jobs[i].to * slot,
			        &catalog->recordings[jobs[i].recording], c, cache->T);
			int64_t now;
#pragma omp atomic capture
			now = ++done;
			hd_progress_update(bar, now, NULL);
		}
		for (size_t i = from; i < to; i++)
			if (jobs[i].ready)
				HD_TRY(save(s, jobs[i].key, cache->db + jobs[i].to * slot));
		HD_TRY(flush_index(s));
		if (hd_stop_requested()) {
			st = hd_fail(HD_E_INTERRUPTED, "interrupted; the features made so far are kept");
			goto done;
		}
	}
done:
	hd_progress_end(bar);
	close_workers(crew, workers);
	return st;
}

/* Channels without a recording are silent; one receiver is repeated where more channels are wanted. */
static void finish_samples(hd_feature_cache *cache, const hd_samples *samples, const bool *heard)
{
	int64_t slot = cache->M * cache->T;
	uint16_t silence = hd_float_to_half(HD_DB_SILENCE);
	for (int64_t s = 0; s < cache->S; s++) {
		for (int64_t c = 0; c < cache->C; c++) {
			uint16_t *to = cache->db + (s * cache->C + c) * slot;
			bool tiled = samples->R == 1 && c > 0 && heard[s * cache->C];
			cache->valid[s] = cache->valid[s] || heard[s * cache->C + c];
			if (tiled)
				memcpy(to, cache->db + s * cache->C * slot, (size_t)slot * sizeof *to);
			for (int64_t i = 0; !tiled && !heard[s * cache->C + c] && i < slot; i++)
				to[i] = silence;
		}
	}
}

hd_status hd_feature_cache_open(hd_feature_cache *out, const char *folder, const hd_feature_config *config,
        int channels, hd_catalog *catalog, const hd_samples *samples, hd_backend *backend, int workers)
{
	hd_status st;
	store s = {.fd = -1};
	job *jobs = NULL, *missing = NULL;
	size_t count = 0, missing_count = 0;
	bool *heard = NULL;
	*out = (hd_feature_cache){
	        .S = (int64_t)samples->count, .C = channels, .M = config->n_mels, .T = hd_features_kept_frames(config)};
	int64_t slot = out->M * out->T;
	HD_TRY(open_store(&s, folder, config, out->T));
	HD_TRY(hd_alloc(&out->db, (size_t)(out->S * out->C * slot), sizeof *out->db));
	HD_TRY(hd_alloc(&out->valid, (size_t)out->S, sizeof *out->valid));
	HD_TRY(hd_alloc(&heard, (size_t)(out->S * out->C), sizeof *heard));
	HD_TRY(list_jobs(&jobs, &count, out, catalog, samples));
	HD_TRY(hd_alloc(&missing, count, sizeof *missing));
	for (size_t i = 0; i < count; i++) {
		jobs[i].ready = load(&s, jobs[i].key, out->db + jobs[i].to * slot);
		if (!jobs[i].ready)
			missing[missing_count++] = jobs[i];
	}
	if (missing_count)
		HD_TRY(compute_missing(out, &s, missing, missing_count, catalog, config, backend,
		        workers > 0 ? workers : omp_get_num_procs()));
	for (size_t i = 0; i < count; i++)
		heard[jobs[i].to] = jobs[i].ready;
	for (size_t i = 0; i < missing_count; i++)
		heard[missing[i].to] = missing[i].ready;
	finish_samples(out, samples, heard);
done:
	free(heard);
	free(missing);
	free(jobs);
	close_store(&s);
	if (st != HD_OK)
		hd_feature_cache_close(out);
	return st;
}

void hd_feature_cache_close(hd_feature_cache *cache)
{
	if (!cache)
		return;
	free(cache->valid);
	free(cache->db);
	*cache = (hd_feature_cache){0};
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

/* Mean and standard deviation of one band over n samples, in double and two passes. */
static void band_statistics(
        double *mean, double *std, const hd_feature_cache *c, const ranked *list, size_t n, int64_t m)
{
	double sum = 0, squares = 0, count = (double)n * (double)(c->C * c->T);
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < n; i++) {
			for (int64_t ch = 0; ch < c->C; ch++) {
				const uint16_t *row = c->db + ((list[i].sample * c->C + ch) * c->M + m) * c->T;
				for (int64_t t = 0; t < c->T; t++) {
					double v = (double)hd_half_to_float(row[t]);
					sum += pass ? 0 : v;
					squares += pass ? (v - *mean) * (v - *mean) : 0;
				}
			}
		}
		*mean = sum / count;
	}
	*std = sqrt(squares / count);
}

hd_status hd_feature_statistics(float *mean, float *rstd, const hd_feature_cache *cache, const hd_samples *samples)
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
	for (int64_t m = 0; m < (st == HD_OK ? cache->M : 0); m++) {
		double mu = 0, sigma = 0;
		band_statistics(&mu, &sigma, cache, list, n, m);
		mean[m] = (float)mu;
		rstd[m] = sigma < SMALLEST_STD_DB ? 0.0f : (float)(1 / sigma);
	}
	free(list);
	return st;
}
