/* SPDX-License-Identifier: Apache-2.0 */
/* The folder catalogue, samples, splits that do not move, and the table. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/catalog.h"

#define SESSIONS 2000

static char folder[256];
static char file[512];

static void setup(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-catalog-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
	snprintf(file, sizeof file, "%s/manifest.csv", folder);
}

static void teardown(void)
{
	unlink(file);
	rmdir(folder);
}

TestSuite(catalog, .init = setup, .fini = teardown);

static const hd_sample_config plain = {.receivers = "auto",
        .validation_split = 0.2,
        .test_split = 0.1,
        .seed = 7,
        .cell_m = 5000,
        .time_block_s = 3600};

static void write_text(const char *text)
{
	FILE *f = fopen(file, "wb");
	cr_assert(f, "%s", file);
	cr_assert(fputs(text, f) >= 0);
	cr_assert_eq(fclose(f), 0);
}

static hd_catalog read_text(const char *text)
{
	hd_catalog catalog;
	write_text(text);
	cr_assert_eq(hd_catalog_read(&catalog, folder, true), HD_OK, "%s", hd_error_text());
	return catalog;
}

static void check_text(const char *what, const char *got, const char *want)
{
	cr_expect(got && !strcmp(got, want), "%s: got '%s', wanted '%s'", what, got ? got : "(null)", want);
}

Test(catalog, quoted_fields_defaults_and_extra_columns)
{
	hd_catalog c = read_text("\xef\xbb\xbfsession,iq,latitude,longitude,\"note, \"\"long\"\"\",sample_rate\r\n"
	                         "s1,a.npy,48,11,\"two\nlines, \"\"x\"\"\",12000\r\n"
	                         "\r\n"
	                         "s2,/abs/b.npy,-48.5,-11,,\r\n"
	                         "\"s,3\",../c.npy,1,2,last,nonsense");
	cr_assert_eq(c.count, 3, "%zu recordings", c.count);
	char path[600];
	snprintf(path, sizeof path, "%s/a.npy", folder);
	check_text("relative path", c.recordings[0].iq, path);
	check_text("absolute path", c.recordings[1].iq, "/abs/b.npy");
	snprintf(path, sizeof path, "%s/../c.npy", folder);
	check_text("path leaving the folder", c.recordings[2].iq, path);
	check_text("quoted comma", c.recordings[2].session, "s,3");
	check_text("id", c.recordings[2].id, "3");
	check_text("emission", c.recordings[1].emission, "s2");
	check_text("receiver", c.recordings[1].receiver, "0");
	check_text("extra", c.recordings[0].extra, "{\"note, \\\"long\\\"\":\"two\\nlines, \\\"x\\\"\"}");
	cr_expect_eq(c.recordings[0].sample_rate_hz, 12000, "rate %g", c.recordings[0].sample_rate_hz);
	cr_expect_eq(c.recordings[1].sample_rate_hz, 0, "empty rate %g", c.recordings[1].sample_rate_hz);
	cr_expect_eq(c.recordings[2].sample_rate_hz, 0, "nonsense rate %g", c.recordings[2].sample_rate_hz);
	cr_expect(isnan(c.recordings[0].snr_db) && isnan(c.recordings[0].timestamp_s) && !c.recordings[0].source);
	hd_catalog_free(&c);
	cr_assert(!c.recordings && !c.count && !c.path, "free leaves zeroes");
}

Test(catalog, approval_words)
{
	static const char *const yes[] = {"true", "TRUE", "1", "yes", "T"}, *const no[] = {"false", "0", "No", "f", "",
	                                                                            "maybe"};
	for (size_t i = 0; i < 11; i++) {
		char text[200];
		snprintf(text, sizeof text, "id,iq,latitude,longitude,approved\n1,a,1,1,%s\n",
		        i < 5 ? yes[i] : no[i - 5]);
		hd_catalog c = read_text(text);
		cr_expect_eq(c.recordings[0].approved, i < 5, "%s", text);
		cr_expect_eq(c.recordings[0].skip, i < 5 ? HD_SKIP_NONE : HD_SKIP_NOT_APPROVED, "%s", text);
		hd_catalog_free(&c);
	}
	hd_catalog c;
	write_text("id,iq,latitude,longitude\n1,a,1,1\n");
	cr_assert_eq(hd_catalog_read(&c, folder, false), HD_OK, "%s", hd_error_text());
	cr_expect_eq(c.recordings[0].skip, HD_SKIP_NOT_APPROVED, "no column approved, nothing assumed");
	hd_catalog_free(&c);
}

Test(catalog, timestamps)
{
	static const struct {
		const char *text;
		double want;
	} rows[] = {{"1970-01-02", 86400}, {"1970-01-01T00:01:40", 100}, {"1970-01-01 00:01:40Z", 100},
	        {"1970-01-01T00:01:40.25", 100.25}, {"1970-01-01T02:00+02:00", 0}, {"1970-01-01T00:00:00-01:30", 5400},
	        {"2024-02-29T12:00:00Z", 1709208000}, {"1709208000.5", 1709208000.5}, {"", NAN}, {"yesterday", NAN},
	        {"2024-02-29T12:00:00 noon", NAN}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char text[200];
		snprintf(text, sizeof text, "id,iq,latitude,longitude,timestamp\n1,a,1,1,%s\n", rows[i].text);
		hd_catalog c = read_text(text);
		double got = c.recordings[0].timestamp_s;
		cr_expect(got == rows[i].want || (isnan(got) && isnan(rows[i].want)), "'%s': got %.3f, wanted %.3f",
		        rows[i].text, got, rows[i].want);
		hd_catalog_free(&c);
	}
}

Test(catalog, bad_positions_are_skipped)
{
	static const char *const bad[] = {
	        ",", "nan,1", "1,nan", "90.1,0", "-90.1,0", "1,180.1", "1,-180.1", "0,0", "1,", "x,1", "inf,1"};
	static const char *const good[] = {"90,180", "-90,-180", "0,1", "1,0", "0,0.000001"};
	for (size_t i = 0; i < 16; i++) {
		char text[200];
		snprintf(text, sizeof text, "id,iq,latitude,longitude\n1,a,%s\n", i < 11 ? bad[i] : good[i - 11]);
		hd_catalog c = read_text(text);
		cr_expect_eq(c.recordings[0].skip, i < 11 ? HD_SKIP_BAD_POSITION : HD_SKIP_NONE, "%s", text);
		hd_catalog_free(&c);
	}
}

Test(catalog, files_that_are_no_catalogue)
{
	static const struct {
		const char *text, *reason;
	} rows[] = {{"", "empty"}, {"id,iq,latitude\n1,a,1\n", "longitude"}, {"id,latitude,longitude\n1,1,1\n", "'iq'"},
	        {"iq,latitude,longitude\na,1,1\n", "'session'"}, {"id,iq,IQ,latitude,longitude\n", "two columns"},
	        {"id,iq,latitude,longitude\n", "no recordings"},
	        {"id,iq,latitude,longitude\n1,a,1,1\n2,\"a,1,1\n", ":3: a quote"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		hd_catalog c;
		write_text(rows[i].text);
		cr_expect_eq(hd_catalog_read(&c, folder, true), HD_E_DATA, "row %zu", i);
		cr_expect(strstr(hd_error_text(), rows[i].reason), "row %zu: '%s' does not say '%s'", i,
		        hd_error_text(), rows[i].reason);
		cr_expect(strstr(hd_error_text(), "manifest.csv"), "row %zu: '%s' does not name the file", i,
		        hd_error_text());
	}
	unlink(file);
	hd_catalog c;
	cr_expect_eq(hd_catalog_read(&c, folder, true), HD_E_DATA, "no manifest");
}

static hd_samples build(hd_catalog *catalog, const hd_sample_config *config)
{
	hd_samples s;
	cr_assert_eq(hd_samples_build(&s, catalog, config), HD_OK, "%s", hd_error_text());
	return s;
}

#define HEAD "session,emission,receiver,iq,latitude,longitude,sample_rate\n"

Test(catalog, receivers_in_natural_order_and_missing_ones)
{
	hd_catalog c = read_text(HEAD "b,1,10,x,1,1,\nb,1,9,x,1,1,\na,2,10,x,1,1,\na,1,2,x,1,1,\nc,1,site,x,1,1,\n");
	hd_samples s = build(&c, &plain);
	static const char *const names[] = {"2", "9", "10", "site"};
	cr_assert_eq(s.R, 4, "%d receivers", s.R);
	for (int r = 0; r < 4; r++)
		check_text("receiver", s.receivers[r], names[r]);
	static const int64_t want[4][4] = {{3, -1, -1, -1}, {-1, -1, 2, -1}, {-1, 1, 0, -1}, {-1, -1, -1, 4}};
	cr_assert_eq(s.count, 4, "%zu samples", s.count);
	for (int i = 0; i < 4; i++) {
		cr_expect_eq(s.samples[i].id, i);
		for (int r = 0; r < 4; r++)
			cr_expect_eq(s.samples[i].recording[r], want[i][r], "sample %d receiver %d: %lld", i, r,
			        (long long)s.samples[i].recording[r]);
	}
	cr_expect_eq(s.samples[0].key_hash,
	        hd_hash32("a\x1f"
	                  "1",
	                3, 0),
	        "key hash");
	hd_samples_free(&s);
	hd_catalog_free(&c);
}

Test(catalog, most_used_or_named_receivers_are_kept)
{
	static const char *const text = HEAD "a,1,3,x,1,1,\nb,1,3,x,1,1,\na,1,1,x,1,1,\nb,1,2,x,1,1,\n";
	hd_catalog c = read_text(text);
	hd_sample_config config = plain;
	config.max_receivers = 2;
	hd_samples s = build(&c, &config);
	cr_assert_eq(s.R, 2);
	check_text("first", s.receivers[0], "1");
	check_text("second", s.receivers[1], "3");
	cr_expect_eq(c.recordings[3].skip, HD_SKIP_UNKNOWN_RECEIVER);
	hd_samples_free(&s);
	hd_catalog_free(&c);

	c = read_text(text);
	config = plain;
	config.receivers = "3,7";
	s = build(&c, &config);
	cr_assert_eq(s.R, 2);
	check_text("as named", s.receivers[1], "7");
	cr_expect_eq(s.samples[0].recording[1], -1, "a receiver that nobody has is missing");
	cr_expect_eq(c.recordings[2].skip, HD_SKIP_UNKNOWN_RECEIVER);
	hd_samples_free(&s);
	config.receivers = "3,3";
	cr_expect_eq(hd_samples_build(&s, &c, &config), HD_E_USAGE, "a name twice");
	hd_catalog_free(&c);
}

Test(catalog, skip_reasons_and_their_table)
{
	hd_catalog c =
	        read_text(HEAD "a,1,1,x,1,1,12000\na,1,2,x,1.000005,1,0\na,1,3,y,1.1,1,12000\na,1,1,z,1,1,12000\n"
	                       "b,1,1,x,2,2,12000\nc,1,1,w,2,2,6000\nd,1,1,x,0,0,\n");
	static const hd_skip want[] = {HD_SKIP_NONE, HD_SKIP_NONE, HD_SKIP_POSITIONS_DISAGREE, HD_SKIP_DUPLICATE,
	        HD_SKIP_NONE, HD_SKIP_WRONG_RATE, HD_SKIP_BAD_POSITION};
	hd_samples s = build(&c, &plain);
	for (size_t i = 0; i < 7; i++) {
		cr_expect_eq(c.recordings[i].skip, want[i], "row %zu: %s", i, hd_skip_text(c.recordings[i].skip));
		cr_expect_eq(!c.recordings[i].skip_detail, want[i] == HD_SKIP_NONE, "row %zu: detail", i);
	}
	char table[4096] = {0};
	FILE *to = fmemopen(table, sizeof table, "w");
	hd_catalog_print(to, &c, &s, true);
	fclose(to);
	static const char *const lines[] = {"train", "val", "test", "differs within one emission",
	        "emission and receiver again", "sample rate differs", "out of range", "0,0 is a missing position",
	        "6000 Hz", "/z: "};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		cr_expect(strstr(table, lines[i]), "no '%s' in:\n%s", lines[i], table);
	cr_expect(!strstr(table, hd_skip_text(HD_SKIP_TOO_SHORT)), "a reason nobody has:\n%s", table);
	hd_samples_free(&s);
	hd_catalog_free(&c);
}

Test(catalog, nothing_left_names_the_most_frequent_reason)
{
	hd_catalog c = read_text(HEAD "a,1,1,x,0,0,\nb,1,1,x,0,0,\n");
	hd_samples s;
	cr_assert_eq(hd_samples_build(&s, &c, &plain), HD_E_DATA);
	cr_expect(strstr(hd_error_text(), hd_skip_text(HD_SKIP_BAD_POSITION)), "'%s'", hd_error_text());
	hd_catalog_free(&c);
	c = read_text(HEAD "a,1,1,x,1,1,\na,2,1,x,1,1,\n");
	cr_assert_eq(hd_samples_build(&s, &c, &plain), HD_E_DATA, "one key cannot be split");
	cr_expect(strstr(hd_error_text(), "split"), "'%s'", hd_error_text());
	hd_catalog_free(&c);
}

/* count sessions of two emissions in the order first, first + step, ...; 500 sources, cells and hours. */
static hd_catalog many(int count, int step, bool sources)
{
	FILE *f = fopen(file, "wb");
	cr_assert(f);
	fprintf(f, "session,emission,iq,latitude,longitude,timestamp%s\n", sources ? ",source" : "");
	for (int i = 0; i < count; i++) {
		int k = (int)((int64_t)i * step % count);
		for (int e = 0; e < 2; e++) {
			fprintf(f, "s%d,%d,x,%d.5,%d.5,%d", k, e, k % 25 + 30, k / 25 % 20, k % 500 * 3600 + e);
			if (sources)
				fprintf(f, ",t%d", k % 500);
			fprintf(f, "\n");
		}
	}
	fclose(f);
	hd_catalog c;
	cr_assert_eq(hd_catalog_read(&c, folder, true), HD_OK, "%s", hd_error_text());
	return c;
}

static const char *session_of(const hd_catalog *c, const hd_sample *sample)
{
	return c->recordings[sample->recording[0]].session;
}

Test(catalog, splits_stay_when_rows_are_added_or_reordered)
{
	hd_catalog few = many(SESSIONS / 2, 1, false), all = many(SESSIONS, 1237, false);
	hd_samples a = build(&few, &plain), b = build(&all, &plain);
	size_t at = 0, found = 0;
	for (size_t i = 0; i < a.count; i++) {
		while (at < b.count &&
		        (strcmp(session_of(&all, &b.samples[at]), session_of(&few, &a.samples[i])) != 0 ||
		                b.samples[at].key_hash != a.samples[i].key_hash))
			at++;
		if (at == b.count)
			break;
		found++;
		cr_assert_eq(a.samples[i].split, b.samples[at].split, "%s moved", session_of(&few, &a.samples[i]));
	}
	cr_assert_eq(found, SESSIONS, "%zu of %d samples found again", found, SESSIONS);
	hd_samples_free(&a);
	hd_samples_free(&b);
	hd_catalog_free(&few);
	hd_catalog_free(&all);
}

Test(catalog, fractions_are_about_right_and_follow_the_seed)
{
	hd_catalog c = many(SESSIONS, 1, false);
	hd_samples a = build(&c, &plain);
	hd_sample_config config = plain;
	config.seed = 8;
	hd_samples b = build(&c, &config);
	int counts[HD_SPLIT_COUNT] = {0}, moved = 0;
	cr_assert_eq(a.count, 2 * SESSIONS);
	cr_assert_eq(a.split_by, HD_SPLIT_BY_SESSION);
	for (size_t i = 0; i < a.count; i++) {
		counts[a.samples[i].split]++;
		moved += a.samples[i].split != b.samples[i].split;
	}
	/* four standard deviations of a binomial of 2000 keys: 0.036 and 0.027 */
	cr_expect(fabs(counts[HD_VAL] / (2.0 * SESSIONS) - 0.2) < 0.036, "%d validation samples", counts[HD_VAL]);
	cr_expect(fabs(counts[HD_TEST] / (2.0 * SESSIONS) - 0.1) < 0.027, "%d test samples", counts[HD_TEST]);
	cr_expect(moved > SESSIONS / 2, "another seed moved %d of %zu samples", moved, a.count);
	hd_samples_free(&a);
	hd_samples_free(&b);
	hd_catalog_free(&c);
}

/* Sources, cells and hours are all numbered by session % 500 here, so one key is one residue. */
Test(catalog, no_key_is_on_two_sides)
{
	static const hd_split_by ways[] = {
	        HD_SPLIT_BY_AUTO, HD_SPLIT_BY_SOURCE, HD_SPLIT_BY_CELL, HD_SPLIT_BY_TIME, HD_SPLIT_BY_SESSION};
	for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
		hd_catalog c = many(SESSIONS, 1, true);
		hd_sample_config config = plain;
		config.split_by = ways[w];
		hd_samples s = build(&c, &config);
		int keys = ways[w] == HD_SPLIT_BY_SESSION ? SESSIONS : 500, side[SESSIONS], used[HD_SPLIT_COUNT] = {0};
		cr_expect_eq(s.split_by, w ? ways[w] : HD_SPLIT_BY_SOURCE, "resolved %d", (int)s.split_by);
		for (int k = 0; k < SESSIONS; k++)
			side[k] = -1;
		for (size_t i = 0; i < s.count; i++) {
			int k = atoi(session_of(&c, &s.samples[i]) + 1) % keys;
			cr_assert(side[k] < 0 || side[k] == (int)s.samples[i].split,
			        "way %zu: key %d on sides %d and %d", w, k, side[k], (int)s.samples[i].split);
			side[k] = (int)s.samples[i].split;
			used[side[k]]++;
		}
		cr_expect(used[HD_TRAIN] && used[HD_VAL] && used[HD_TEST], "way %zu: %d, %d, %d", w, used[0], used[1],
		        used[2]);
		hd_samples_free(&s);
		hd_catalog_free(&c);
	}
}

Test(catalog, two_keys_leave_neither_training_nor_validation_empty)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		hd_catalog c = read_text(HEAD "a,1,1,x,1,1,\na,2,1,x,1,1,\nb,1,1,x,1,1,\n");
		hd_sample_config config = plain;
		config.seed = seed;
		hd_samples s = build(&c, &config);
		int counts[HD_SPLIT_COUNT] = {0};
		for (size_t i = 0; i < s.count; i++)
			counts[s.samples[i].split]++;
		cr_expect(counts[HD_TRAIN] && counts[HD_VAL], "seed %llu: %d train, %d val, %d test",
		        (unsigned long long)seed, counts[HD_TRAIN], counts[HD_VAL], counts[HD_TEST]);
		cr_expect_eq(s.samples[0].split, s.samples[1].split, "seed %llu: session a on two sides",
		        (unsigned long long)seed);
		hd_samples_free(&s);
		hd_catalog_free(&c);
	}
}

/* Stable over versions: splits of existing data sets hang on these. fmix32 of the FNV-1a values. */
Test(catalog, hash_is_stable)
{
	cr_assert_eq(hd_hash32("", 0, 2166136261u), 0u, "fmix32 of 0 is 0");
	cr_assert_neq(hd_hash32("a", 1, 0), hd_hash32("b", 1, 0));
	cr_assert_neq(hd_hash32("a", 1, 0), hd_hash32("a", 1, 1));
}

/* ---- groups that are given ---- */

static hd_split split_of(const hd_samples *s, const hd_catalog *c, const char *session)
{
	for (size_t i = 0; i < s->count; i++)
		if (!strcmp(c->recordings[s->samples[i].recording[0]].session, session))
			return s->samples[i].split;
	cr_assert_fail("no session %s", session);
	return HD_SPLIT_COUNT;
}

/* Writes a second file beside the manifest. */
static const char *write_folds(const char *text)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/folds.csv", folder);
	FILE *f = fopen(path, "wb");
	cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", path);
	return path;
}

Test(catalog, a_fold_is_the_test_split)
{
	hd_catalog c = read_text("session,iq,latitude,longitude,site\na,x,1,1,n\nb,x,2,1,n\nc,x,3,1,s\nd,x,4,1,s\n");
	hd_sample_config config = plain;
	config.folds = write_folds("hour,fold\r\na,0\r\nb,1\r\nc,0\r\nd,1\r\n");
	config.fold = 1;
	hd_samples s = build(&c, &config);
	cr_expect_eq(s.split_by, HD_SPLIT_BY_FOLDS);
	cr_expect(split_of(&s, &c, "b") == HD_TEST && split_of(&s, &c, "d") == HD_TEST);
	cr_expect(split_of(&s, &c, "a") != HD_TEST && split_of(&s, &c, "c") != HD_TEST);
	cr_expect(split_of(&s, &c, "a") != split_of(&s, &c, "c"), "one of two trains, one validates");
	hd_samples_free(&s);
	config.validation_split = 0;
	s = build(&c, &config);
	cr_expect(split_of(&s, &c, "a") == HD_TRAIN && split_of(&s, &c, "c") == HD_TRAIN);
	hd_samples_free(&s);

	static const struct {
		const char *text, *words;
	} wrong[] = {{"hour,fold\na,0\nb,1\nc,0\n", "no fold for session 'd'"}, {"hour,group\na,0\n", "'fold'"},
	        {"fold\n0\n", "'fold'"}, {"hour,fold\na,zero\n", "folds.csv:2"}, {"hour,fold\na\n", "folds.csv:2"},
	        {"hour,fold\na,0\nb,0\nc,0\nd,0\n", "no sample is in fold 1"}};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		config.folds = write_folds(wrong[i].text);
		cr_expect_eq(hd_samples_build(&s, &c, &config), HD_E_DATA, "folds %zu", i);
		cr_expect(strstr(hd_error_text(), wrong[i].words), "folds %zu: '%s'", i, hd_error_text());
		hd_samples_free(&s);
	}
	config.folds = write_folds("fold,source\n0,\n");
	cr_expect_eq(hd_samples_build(&s, &c, &config), HD_E_DATA, "every source is empty and in fold 0");
	hd_samples_free(&s);
	unlink(config.folds);
	hd_catalog_free(&c);
}

Test(catalog, a_column_or_the_catalogue_decides)
{
	char text[8192] = "session,iq,latitude,longitude,site,split\n";
	for (int i = 0; i < 90; i++)
		sprintf(text + strlen(text), "s%02d,x,%d,1,site%d,%s\n", i, 1 + i % 50, i / 3,
		        i < 60   ? "train"
		        : i < 75 ? "val"
		                 : "test");
	hd_catalog c = read_text(text);
	hd_sample_config config = plain;
	hd_samples s = build(&c, &config);
	cr_expect_eq(s.split_by, HD_SPLIT_BY_CATALOG);
	for (size_t i = 0; i < s.count; i++)
		cr_assert_eq(s.samples[i].split, i < 60 ? HD_TRAIN : i < 75 ? HD_VAL : HD_TEST, "sample %zu", i);
	hd_samples_free(&s);
	config.split_by = HD_SPLIT_BY_COLUMN;
	hd_status st = hd_samples_build(&s, &c, &config);
	cr_expect(
	        st == HD_E_USAGE && strstr(hd_error_text(), "split_column"), "no column named: '%s'", hd_error_text());
	hd_samples_free(&s);
	config.split_column = "site";
	s = build(&c, &config);
	size_t count[HD_SPLIT_COUNT] = {0};
	for (size_t i = 0; i < s.count; i++) {
		cr_assert_eq(s.samples[i].split, s.samples[i / 3 * 3].split, "site%zu lies on two sides", i / 3);
		count[s.samples[i].split]++;
	}
	cr_expect(count[HD_TRAIN] > 30 && count[HD_VAL] && count[HD_TEST], "%zu %zu %zu", count[0], count[1], count[2]);
	hd_samples_free(&s);
	hd_catalog_free(&c);
}

Test(catalog, rates_within_a_crystals_error_are_the_same)
{
	cr_expect(!hd_rate_differs(12000, 12001) && !hd_rate_differs(12001.2, 12001));
	cr_expect(hd_rate_differs(12000, 12001.3) && hd_rate_differs(192000, 191000));
	hd_catalog c = read_text(HEAD "a,1,1,x,1,1,12001\nb,1,1,x,2,2,48000\n");
	hd_sample_config config = plain;
	config.sample_rate_hz = 12000;
	config.validation_split = config.test_split = 0;
	config.resample = true;
	hd_samples s = build(&c, &config);
	cr_expect_eq(s.count, 2, "both are resampled");
	hd_samples_free(&s);
	config.resample = false;
	s = build(&c, &config);
	cr_expect(s.count == 1 && c.recordings[0].skip == HD_SKIP_NONE && c.recordings[1].skip == HD_SKIP_WRONG_RATE);
	hd_samples_free(&s);
	hd_catalog_free(&c);
}
