/* SPDX-License-Identifier: Apache-2.0 */
/* The feature cache: unusable recordings, damage, rows of a file, statistics. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heimdall/feature_cache.h"
#include "kernels/half.h"

#define SAMPLES 1000 /* of each recording */
#define LOUD 0.5     /* amplitudes of two different recordings */
#define QUIET 0.05

static const hd_feature_config small = {
        .sample_rate_hz = 12000, .n_fft = 128, .hop_length = 32, .n_mels = 16, .frames = 8};
#define SLOT (16 * 8) /* halves of one recording */

static char folder[256];
static hd_backend *backend;

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
	(void)info;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void setup(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-features-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 2), HD_OK, "%s", hd_error_text());
}

static void teardown(void)
{
	hd_backend_close(backend);
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(feature_cache, .init = setup, .fini = teardown);

static void in_folder(char path[512], const char *name)
{
	snprintf(path, 512, "%s/%s", folder, name);
}

/* Writes rows of noise; row r is drawn from seed + r. */
static void write_noise(const char *name, int64_t rows, unsigned seed, double amplitude, bool with_nan)
{
	char path[512];
	int64_t shape[2] = {rows, SAMPLES};
	size_t bytes = (size_t)rows * SAMPLES * 2 * sizeof(float);
	float *iq = malloc(bytes);
	for (int64_t r = 0; r < rows; r++) {
		unsigned short state[3] = {0x330e, (unsigned short)(seed + (unsigned)r), 0};
		for (int64_t i = 0; i < 2 * SAMPLES; i++)
			iq[r * 2 * SAMPLES + i] = (float)(amplitude * (2 * erand48(state) - 1));
	}
	/* behind the frames that are kept */
	if (with_nan)
		iq[2 * SAMPLES - 3] = NAN;
	in_folder(path, name);
	cr_assert_eq(hd_npy_write(path, "<c8", rows > 1 ? shape : shape + 1, rows > 1 ? 2 : 1, iq, bytes), HD_OK, "%s",
	        hd_error_text());
	free(iq);
}

/* Other content under the same size and modification time. */
static void replace_unseen(const char *name, unsigned seed, double amplitude)
{
	char path[512];
	struct stat info;
	in_folder(path, name);
	cr_assert_eq(stat(path, &info), 0);
	write_noise(name, 1, seed, amplitude, false);
	cr_assert_eq(utimensat(AT_FDCWD, path, (struct timespec[]){info.st_atim, info.st_mtim}, 0), 0);
}

static void touch(const char *name)
{
	char path[512];
	struct stat info;
	in_folder(path, name);
	cr_assert_eq(stat(path, &info), 0);
	info.st_mtim.tv_sec += 1;
	cr_assert_eq(utimensat(AT_FDCWD, path, (struct timespec[]){info.st_atim, info.st_mtim}, 0), 0);
}

/* Manifest of lines "session,receiver,file". */
static void write_manifest(const char *const *lines, size_t count)
{
	char path[512];
	in_folder(path, "manifest.csv");
	FILE *f = fopen(path, "w");
	cr_assert(f, "%s", path);
	fprintf(f, "session,receiver,iq,latitude,longitude\n");
	for (size_t i = 0; i < count; i++)
		fprintf(f, "%s,48.%zu,11.5\n", lines[i], (size_t)(lines[i][1] - '0'));
	cr_assert_eq(fclose(f), 0);
}

typedef struct opened {
	hd_catalog catalog;
	hd_samples samples;
	hd_feature_cache cache;
} opened;

static opened open_with(const hd_feature_config *config, int channels)
{
	opened o;
	char path[512];
	const hd_sample_config sample_config = {.receivers = "auto"};
	in_folder(path, "cache");
	cr_assert_eq(hd_catalog_read(&o.catalog, folder, true), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_samples_build(&o.samples, &o.catalog, &sample_config), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_feature_cache_open(
	                     &o.cache, path, config, HD_RAW_AUTO, channels, &o.catalog, &o.samples, NULL, backend, 2),
	        HD_OK, "%s", hd_error_text());
	return o;
}

static void close_opened(opened *o)
{
	hd_feature_cache_close(&o->cache);
	hd_samples_free(&o->samples);
	hd_catalog_free(&o->catalog);
}

/* What a slot should hold: the recording, read and transformed without any cache. */
static void transform(uint16_t db[SLOT], const char *name)
{
	char path[512];
	hd_iq iq;
	hd_features *plan;
	float kept[SLOT];
	in_folder(path, name);
	cr_assert_eq(hd_iq_read(&iq, NULL, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_features_create(&plan, backend, &small), HD_OK, "%s", hd_error_text());
	int64_t T = hd_features_frame_count(&small, iq.samples);
	float *all = malloc((size_t)(small.n_mels * T) * sizeof *all);
	cr_assert_eq(hd_features_compute(plan, all, &iq), HD_OK, "%s", hd_error_text());
	hd_features_fit_frames(kept, all, T, &small);
	for (int i = 0; i < SLOT; i++)
		db[i] = hd_float_to_half(kept[i]);
	free(all);
	hd_features_free(plan);
	hd_iq_free(&iq);
}

static const uint16_t *slot_of(const opened *o, int64_t sample, int64_t channel)
{
	return o->cache.db + (sample * o->cache.C + channel) * SLOT;
}

static void expect_slot(const opened *o, int64_t sample, int64_t channel, const uint16_t want[SLOT], const char *what)
{
	const uint16_t *got = slot_of(o, sample, channel);
	for (int i = 0; i < SLOT; i++)
		cr_assert_eq(got[i], want[i], "%s: sample %ld, channel %ld, [%d]: got %g dB, want %g", what,
		        (long)sample, (long)channel, i, (double)hd_half_to_float(got[i]),
		        (double)hd_half_to_float(want[i]));
}

static void expect_recording(const opened *o, int64_t sample, int64_t channel, const char *name)
{
	uint16_t want[SLOT];
	transform(want, name);
	expect_slot(o, sample, channel, want, name);
}

static void expect_silence(const opened *o, int64_t sample, int64_t channel)
{
	uint16_t want[SLOT];
	for (int i = 0; i < SLOT; i++)
		want[i] = hd_float_to_half(HD_DB_SILENCE);
	expect_slot(o, sample, channel, want, "silence");
}

Test(feature_cache, unusable_recordings_are_silent)
{
	static const char *const lines[] = {"s0,a,0a.npy", "s0,b,0b.npy", "s1,a,nan.npy", "s1,b,1b.npy", "s2,a,nan.npy",
	        "s2,b,nan.npy", "s3,a,gone.npy", "s3,b,1b.npy", "s4,b,0b.npy", "s5,a,text.npy"};
	static const hd_skip skips[] = {HD_SKIP_NONE, HD_SKIP_NONE, HD_SKIP_NON_FINITE, HD_SKIP_NONE,
	        HD_SKIP_NON_FINITE, HD_SKIP_NON_FINITE, HD_SKIP_MISSING_FILE, HD_SKIP_NONE, HD_SKIP_NONE,
	        HD_SKIP_UNREADABLE};
	static const bool valid[] = {true, true, false, true, true, false};
	/* file of each sample's two channels */
	static const char *const files[6][2] = {
	        {"0a.npy", "0b.npy"}, {NULL, "1b.npy"}, {NULL, NULL}, {NULL, "1b.npy"}, {NULL, "0b.npy"}, {NULL, NULL}};
	char path[512];
	write_manifest(lines, 10);
	write_noise("0a.npy", 1, 1, LOUD, false);
	write_noise("0b.npy", 1, 2, QUIET, false);
	write_noise("1b.npy", 1, 3, LOUD, false);
	write_noise("nan.npy", 1, 4, LOUD, true);
	in_folder(path, "text.npy");
	FILE *text = fopen(path, "w");
	cr_assert(text && fputs("not IQ\n", text) >= 0 && fclose(text) == 0);
	/* the second time, what could be read comes from the disk */
	for (int time = 0; time < 2; time++) {
		opened o = open_with(&small, 2);
		for (size_t i = 0; i < 10; i++) {
			const hd_recording *r = &o.catalog.recordings[i];
			cr_assert_eq(r->skip, skips[i], "%s: got '%s', want '%s'", lines[i], hd_skip_text(r->skip),
			        hd_skip_text(skips[i]));
			cr_assert(r->skip == HD_SKIP_NONE || (r->skip_detail && strstr(r->skip_detail, r->iq)),
			        "%s: '%s' does not name the file", lines[i], r->skip_detail ? r->skip_detail : "");
		}
		cr_assert_eq(o.cache.S, 6);
		for (int64_t s = 0; s < 6; s++) {
			cr_assert_eq(o.cache.valid[s], valid[s], "sample %ld: valid %d, want %d", (long)s,
			        o.cache.valid[s], valid[s]);
			for (int64_t c = 0; c < 2; c++) {
				if (files[s][c])
					expect_recording(&o, s, c, files[s][c]);
				else
					expect_silence(&o, s, c);
			}
		}
		close_opened(&o);
	}
}

/* Three sessions of one receiver, and the features of their recordings. */
static void three_sessions(uint16_t want[3][SLOT])
{
	static const char *const lines[] = {"s0,a,0.npy", "s1,a,1.npy", "s2,a,2.npy"};
	write_manifest(lines, 3);
	for (unsigned s = 0; s < 3; s++) {
		char name[16];
		snprintf(name, sizeof name, "%u.npy", s);
		write_noise(name, 1, s, LOUD, false);
		transform(want[s], name);
	}
}

static void replace_three(void)
{
	for (unsigned s = 0; s < 3; s++) {
		char name[16];
		snprintf(name, sizeof name, "%u.npy", s);
		replace_unseen(name, 100 + s, QUIET);
	}
}

static void expect_three(int channels, uint16_t want[3][SLOT], const char *what)
{
	opened o = open_with(&small, channels);
	cr_assert(o.cache.S == 3 && o.cache.C == channels && o.cache.H == 16 && o.cache.T == 8);
	for (int64_t s = 0; s < 3; s++) {
		cr_assert(o.cache.valid[s], "%s: sample %ld is not valid", what, (long)s);
		for (int64_t c = 0; c < channels; c++)
			expect_slot(&o, s, c, want[s], what);
	}
	close_opened(&o);
}

Test(feature_cache, second_open_reads_the_disk)
{
	uint16_t want[3][SLOT];
	three_sessions(want);
	expect_three(1, want, "first");
	expect_three(1, want, "second");
	replace_three();
	expect_three(1, want, "size and time unchanged");
	touch("1.npy");
	transform(want[1], "1.npy");
	expect_three(1, want, "newer file");
	/* other settings have a cache of their own */
	hd_feature_config other = small;
	other.f_max_hz = 3000;
	opened o = open_with(&other, 1);
	cr_assert(memcmp(slot_of(&o, 0, 0), want[0], sizeof want[0]) != 0, "f_max changes nothing");
	close_opened(&o);
	expect_three(1, want, "the first settings again");
}

Test(feature_cache, one_receiver_is_repeated)
{
	uint16_t want[3][SLOT];
	three_sessions(want);
	expect_three(3, want, "computed");
	expect_three(3, want, "from the disk");
}

/* Path of a file of the only cache. */
static void cache_file(char path[512], const char *name)
{
	char pattern[512];
	glob_t found;
	snprintf(pattern, sizeof pattern, "%s/cache/*/%s", folder, name);
	cr_assert_eq(glob(pattern, 0, NULL, &found), 0, "no %s", pattern);
	cr_assert_eq(found.gl_pathc, 1);
	snprintf(path, 512, "%s", found.gl_pathv[0]);
	globfree(&found);
}

#define SLOT_BYTES (SLOT * 2)
#define LINE_BYTES 28 /* of the index: "0 0123456789abcdef 01234567\n" */

typedef struct damage {
	const char *name, *file;
	enum { CUT, FLIP, PUT, SWAP_KEYS, REMOVE } kind;
	off_t at;
	const char *text;
} damage;

static const damage damages[] = {
        {"data cut within a slot", "features.f16", CUT, SLOT_BYTES * 3 / 2, NULL},
        {"data cut to nothing", "features.f16", CUT, 0, NULL},
        {"data gone", "features.f16", REMOVE, 0, NULL},
        {"first byte flipped", "features.f16", FLIP, 0, NULL},
        {"last byte flipped", "features.f16", FLIP, 3 * SLOT_BYTES - 1, NULL},
        {"index gone", "index", REMOVE, 0, NULL},
        {"index ends within a line", "index", CUT, LINE_BYTES + 22, NULL},
        {"rubbish in the index", "index", PUT, LINE_BYTES, "#?!"},
        {"slot that is not there", "index", PUT, LINE_BYTES, "7"},
        {"slot of another recording", "index", PUT, LINE_BYTES, "0"},
        {"keys of two recordings swapped", "index", SWAP_KEYS, LINE_BYTES + 2, NULL},
        {"digit of a key flipped", "index", FLIP, LINE_BYTES + 5, NULL},
        {"digit of a checksum flipped", "index", FLIP, 2 * LINE_BYTES - 2, NULL},
};

static void do_damage(const damage *d)
{
	char path[512], key[2][16];
	unsigned char byte;
	struct stat info;
	cache_file(path, d->file);
	int fd = open(path, O_RDWR);
	cr_assert(fd >= 0 && fstat(fd, &info) == 0, "%s", path);
	cr_assert_eq(info.st_size, strcmp(d->file, "index") != 0 ? 3 * SLOT_BYTES : 3 * LINE_BYTES, "%s: %ld bytes",
	        path, (long)info.st_size);
	switch (d->kind) {
	case CUT:
		cr_assert_eq(ftruncate(fd, d->at), 0);
		break;
	case FLIP:
		cr_assert_eq(pread(fd, &byte, 1, d->at), 1);
		byte ^= 1;
		cr_assert_eq(pwrite(fd, &byte, 1, d->at), 1);
		break;
	case PUT:
		cr_assert_eq(pwrite(fd, d->text, strlen(d->text), d->at), (ssize_t)strlen(d->text));
		break;
	case SWAP_KEYS: /* of the first line and the one at `at` */
		for (int k = 0; k < 2; k++)
			cr_assert_eq(pread(fd, key[k], sizeof key[k], k ? d->at : 2), (ssize_t)sizeof key[k]);
		for (int k = 0; k < 2; k++)
			cr_assert_eq(pwrite(fd, key[k], sizeof key[k], k ? 2 : d->at), (ssize_t)sizeof key[k]);
		break;
	case REMOVE:
		cr_assert_eq(unlink(path), 0);
	}
	close(fd);
}

Test(feature_cache, damage_is_computed_again)
{
	for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
		uint16_t want[3][SLOT];
		char cache[512];
		three_sessions(want);
		expect_three(1, want, "first");
		do_damage(&damages[i]);
		expect_three(1, want, damages[i].name);
		/* repaired for good: the recordings are not looked at again */
		replace_three();
		expect_three(1, want, damages[i].name);
		in_folder(cache, "cache");
		nftw(cache, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	}
}

Test(feature_cache, rows_are_named_by_number)
{
	static const char *const lines[] = {"s0,a,rows.npy#0", "s1,a,rows.npy#2", "s2,a,rows.npy#3", "s3,a,rows.npy",
	        "s4,a,odd#1", "s5,a,rows.npy#1x"};
	static const hd_skip skips[] = {
	        HD_SKIP_NONE, HD_SKIP_NONE, HD_SKIP_UNREADABLE, HD_SKIP_UNREADABLE, HD_SKIP_NONE, HD_SKIP_MISSING_FILE};
	char path[512];
	hd_iq iq;
	write_manifest(lines, 6);
	write_noise("rows.npy", 3, 50, LOUD, false); /* rows of seeds 50, 51, 52 */
	write_noise("row0.npy", 1, 50, LOUD, false);
	write_noise("row2.npy", 1, 52, LOUD, false);
	write_noise("odd#1", 1, 60, LOUD, false); /* a file of that very name */
	opened o = open_with(&small, 1);
	for (size_t i = 0; i < 6; i++)
		cr_assert_eq(o.catalog.recordings[i].skip, skips[i], "%s: got '%s' (%s)", lines[i],
		        hd_skip_text(o.catalog.recordings[i].skip),
		        o.catalog.recordings[i].skip_detail ? o.catalog.recordings[i].skip_detail : "");
	expect_recording(&o, 0, 0, "row0.npy");
	expect_recording(&o, 1, 0, "row2.npy");
	expect_recording(&o, 4, 0, "odd#1");
	close_opened(&o);
	in_folder(path, "rows.npy");
	cr_assert_eq(hd_iq_read(&iq, NULL, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_assert_eq(iq.rows, 3);
	hd_iq_free(&iq);
}

/* ---- statistics ---- */

Test(feature_cache, empty_filters_have_no_spread)
{
	uint16_t unused[3][SLOT];
	hd_feature_config crowded = small; /* more bands than bins at the lower end */
	float mean[64], rstd[64], silence[64];
	int empty = 0;
	hd_features *plan;
	crowded.n_mels = 64;
	three_sessions(unused);
	cr_assert_eq(hd_features_create(&plan, backend, &crowded), HD_OK, "%s", hd_error_text());
	opened o = open_with(&crowded, 1);
	hd_features_silence(silence, &crowded);
	cr_assert_eq(
	        hd_feature_statistics(mean, rstd, &o.cache, &o.samples, NULL, silence), HD_OK, "%s", hd_error_text());
	for (int m = 0; m < 64; m++) {
		cr_assert(isfinite(rstd[m]) && (rstd[m] > 0 || mean[m] == HD_DB_SILENCE), "band %d: mean %g, rstd %g",
		        m, (double)mean[m], (double)rstd[m]);
		empty += rstd[m] == 0;
	}
	cr_assert(empty > 0 && empty == hd_features_empty_filters(plan), "%d bands of rstd 0, want %d", empty,
	        hd_features_empty_filters(plan));
	hd_features_free(plan);
	close_opened(&o);
}

enum { STAT_S = 800, STAT_C = 2, STAT_M = 3, STAT_T = 4, STAT_USED = 512 };

static int compare_hashes(const void *a, const void *b)
{
	const hd_sample *x = *(const hd_sample *const *)a, *y = *(const hd_sample *const *)b;
	return (x->key_hash > y->key_hash) - (x->key_hash < y->key_hash);
}

/* Mean and standard deviation of band m over the first samples by hash. */
static void reference(double *mean, double *std, const uint16_t *db, hd_sample *const *by_hash, int m)
{
	double sum = 0, squares = 0, n = STAT_USED * STAT_C * STAT_T;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < STAT_USED * STAT_C * STAT_T; i++) {
			int sample = by_hash[i / (STAT_C * STAT_T)]->id, c = i / STAT_T % STAT_C, t = i % STAT_T;
			double v = (double)hd_half_to_float(db[((sample * STAT_C + c) * STAT_M + m) * STAT_T + t]);
			sum += pass ? 0 : v;
			squares += pass ? pow(v - sum / n, 2) : 0;
		}
	*mean = sum / n;
	*std = sqrt(squares / n);
}

Test(feature_statistics, of_the_first_training_samples_by_hash)
{
	static uint16_t db[STAT_S * STAT_C * STAT_M * STAT_T];
	static hd_sample list[STAT_S], *by_hash[STAT_S];
	static bool valid[STAT_S];
	unsigned short state[3] = {1, 2, 3};
	size_t usable = 0;
	float mean[STAT_M], rstd[STAT_M];
	static const float silence[STAT_M] = {-90, -90, -90}, offset[STAT_C] = {4, -4};
	for (int s = 0; s < STAT_S; s++) {
		list[s] =
		        (hd_sample){.id = s, .key_hash = (uint32_t)jrand48(state), .split = s % 9 ? HD_TRAIN : HD_VAL};
		valid[s] = s % 7 != 3;
		if (list[s].split == HD_TRAIN && valid[s])
			by_hash[usable++] = &list[s];
		for (int i = 0; i < STAT_C * STAT_M * STAT_T; i++) {
			/* levels drift with the hash, so that other samples give other means; band 2 stands still */
			double drift = 20.0 * list[s].key_hash / 4294967296.0;
			double level = i / STAT_T % STAT_M == 2 ? -90 : -60 + drift + 10 * erand48(state);
			db[s * STAT_C * STAT_M * STAT_T + i] = hd_float_to_half((float)level);
		}
	}
	cr_assert(usable > STAT_USED, "%zu usable samples", usable);
	qsort(by_hash, usable, sizeof(hd_sample *), compare_hashes);
	hd_feature_cache cache = {.S = STAT_S, .C = STAT_C, .H = STAT_M, .T = STAT_T, .db = db, .valid = valid};
	hd_samples samples = {.samples = list, .count = STAT_S};
	cr_assert_eq(hd_feature_statistics(mean, rstd, &cache, &samples, NULL, silence), HD_OK, "%s", hd_error_text());
	for (int m = 0; m < 2; m++) {
		double want_mean, want_std;
		reference(&want_mean, &want_std, db, by_hash, m);
		cr_assert(fabs((double)mean[m] - want_mean) <= 1e-6 * fabs(want_mean), "mean[%d]: got %.9g, want %.9g",
		        m, (double)mean[m], want_mean);
		cr_assert(fabs((double)rstd[m] * want_std - 1) <= 1e-6, "rstd[%d]: got %.9g, want %.9g", m,
		        (double)rstd[m], 1 / want_std);
	}
	cr_assert(mean[2] == -90 && rstd[2] == 0, "still band: mean %g, rstd %g", (double)mean[2], (double)rstd[2]);
	/* offsets that cancel leave the mean and widen the spread by theirs; silence does not move */
	float moved_mean[STAT_M], moved_rstd[STAT_M];
	cr_assert_eq(hd_feature_statistics(moved_mean, moved_rstd, &cache, &samples, offset, silence), HD_OK);
	cr_assert(fabs((double)(moved_mean[0] - mean[0])) < 0.5 && moved_rstd[0] < 0.9f * rstd[0],
	        "moved: mean %g against %g, rstd %g against %g", (double)moved_mean[0], (double)mean[0],
	        (double)moved_rstd[0], (double)rstd[0]);
	cr_assert(moved_mean[2] == -90 && moved_rstd[2] == 0, "silence moved to %g", (double)moved_mean[2]);
	memset(valid, 0, sizeof valid);
	cr_assert_eq(hd_feature_statistics(mean, rstd, &cache, &samples, NULL, silence), HD_E_DATA,
	        "statistics of no sample at all");
}

Test(feature_statistics, offsets_are_the_channels_differences)
{
	enum { S = 4, C = 3, SLOT_SIZE = 6 };
	static const float levels[C] = {-50, -70, 0};
	uint16_t db[S * C * SLOT_SIZE];
	bool heard[S * C], valid[S] = {true, true, true, true};
	hd_sample list[S] = {{.split = HD_TRAIN}, {.split = HD_TRAIN}, {.split = HD_TRAIN}, {.split = HD_TEST}};
	float offset[C];
	for (int i = 0; i < S * C * SLOT_SIZE; i++) {
		int c = i / SLOT_SIZE % C, sample = i / SLOT_SIZE / C;
		/* the third channel is never heard, the second not in sample 0, and the test sample is another level */
		heard[i / SLOT_SIZE] = c < 2 && !(c == 1 && sample == 0);
		db[i] = hd_float_to_half(heard[i / SLOT_SIZE] ? levels[c] + (sample == 3 ? 20.0f : 0) : HD_DB_SILENCE);
	}
	hd_feature_cache cache = {.S = S, .C = C, .H = 3, .T = 2, .db = db, .heard = heard, .valid = valid};
	hd_samples samples = {.samples = list, .count = S};
	cr_assert_eq(hd_feature_offsets(offset, &cache, &samples), HD_OK);
	cr_assert(offset[0] == 10 && offset[1] == -10 && offset[2] == 0, "%g %g %g", (double)offset[0],
	        (double)offset[1], (double)offset[2]);
}

/* ---- recordings that exist as features alone ---- */

Test(feature_cache, rendered_features_are_found_by_their_version)
{
	char path[512], manifest[512];
	float iq[2 * 400];
	uint16_t want[SLOT];
	hd_feature_sink *sink;
	for (int i = 0; i < 800; i++)
		iq[i] = 0.1f * sinf((float)(i * i));
	in_folder(path, "cache");
	in_folder(manifest, "manifest.csv");
	FILE *f = fopen(manifest, "w");
	cr_assert(f, "%s", manifest);
	fprintf(f, "session,receiver,iq,version,latitude,longitude\na,1,x/1.npy,v7,48,11\nb,1,x/1.npy,v8,48,11\n");
	cr_assert_eq(fclose(f), 0);
	cr_assert_eq(hd_feature_sink_open(&sink, path, &small, backend, 1), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_feature_sink_put(sink, 0, "x/1.npy", "v7", iq, 400), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_feature_sink_flush(sink), HD_OK, "%s", hd_error_text());
	hd_feature_sink_close(sink);
	const int64_t shape[1] = {400};
	in_folder(path, "same.npy");
	cr_assert_eq(hd_npy_write(path, "<c8", shape, 1, iq, sizeof iq), HD_OK, "%s", hd_error_text());
	transform(want, "same.npy");
	opened o = open_with(&small, 1);
	cr_assert(o.cache.valid[0] && !o.cache.valid[1], "valid: %d %d", o.cache.valid[0], o.cache.valid[1]);
	expect_slot(&o, 0, 0, want, "rendered");
	cr_assert_eq(o.catalog.recordings[1].skip, HD_SKIP_MISSING_FILE, "version v8: %s",
	        hd_skip_text(o.catalog.recordings[1].skip));
	close_opened(&o);
}
