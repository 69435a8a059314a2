/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.csv beside a data set that was opened anew: what changed, is gone, is new. */
#include <stdlib.h>
#include <string.h>

#include "heimdall/geo.h"
#include "host/common/memory.h"
#include "host/data/csv.h"
#include "host/track/record.h"
#include "host/track/record_rows.h"

#define WHAT_BYTES 2048

/* A row of the file; its texts are the reader's until the end. */
typedef struct old_row {
	const char *text[HD_RECORD_COLUMN_COUNT];
	const hd_record_row *now; /* the same recording in the data set, NULL: gone */
} old_row;

typedef struct old_rows {
	hd_csv csv;
	size_t at[HD_RECORD_COLUMN_COUNT]; /* field of each column */
	old_row *group; /* rows of one sample, and behind them, where `ahead`, the first one of the next */
	size_t count, capacity;
	bool ahead;
} old_rows;

typedef enum kind { CHANGED, GONE, ADDED, KINDS } kind;

static const char *const kind_words[KINDS] = {"changed", "gone", "new"};

typedef struct comparison {
	FILE *to;
	int64_t most, shown[KINDS];
	hd_record_changes *counts;
	bool *taken; /* rows of the data set's sample that have their row in the file */
	size_t capacity;
} comparison;

/* ---- the file ---- */

static hd_status not_ours(const old_rows *old, const char *what)
{
	(void)hd_fail(HD_E_DATA, "%s:%zu: %s; it is not as the run wrote it", old->csv.path, old->csv.line, what);
	return HD_E_DATA;
}

static hd_status read_header(old_rows *old)
{
	int more;
	hd_status st = hd_csv_next(&old->csv, &more);
	if (st != HD_OK)
		return st;
	for (int k = 0; k < HD_RECORD_COLUMN_COUNT; k++) {
		size_t f = 0;
		while (f < old->csv.field_count && strcmp(old->csv.fields[f], hd_record_names[k]) != 0)
			f++;
		if (f == old->csv.field_count)
			return hd_fail(HD_E_DATA, "%s: no column '%s'; it is not as the run wrote it", old->csv.path,
			        hd_record_names[k]);
		old->at[k] = f;
	}
	return HD_OK;
}

/* Order of samples: as strcmp, by session and emission. */
static int compare_samples(const char *const *a, const char *const *b)
{
	int order = strcmp(a[HD_RECORD_SESSION], b[HD_RECORD_SESSION]);
	return order ? order : strcmp(a[HD_RECORD_EMISSION], b[HD_RECORD_EMISSION]);
}

/* One row behind the group; *more is false at the end. */
static hd_status read_row(old_rows *old, int *more)
{
	hd_status st;
	HD_TRY(hd_csv_next(&old->csv, more));
	if (!*more)
		goto done;
	HD_TRY(hd_grow(&old->group, &old->capacity, old->count + 1, sizeof *old->group));
	old_row *row = &old->group[old->count];
	*row = (old_row){0};
	for (int k = 0; k < HD_RECORD_COLUMN_COUNT; k++) {
		if (old->at[k] >= old->csv.field_count)
			return not_ours(old, "too few fields");
		row->text[k] = old->csv.fields[old->at[k]];
	}
	if (old->count && compare_samples(row[-1].text, row->text) > 0)
		return not_ours(old, "out of order");
done:
	return st;
}

/* The rows of the file's next sample; count is 0 at the end. */
static hd_status next_group(old_rows *old)
{
	hd_status st = HD_OK;
	int more = 1;
	if (old->ahead)
		old->group[0] = old->group[old->count];
	old->count = old->ahead;
	old->ahead = false;
	while (more && !old->ahead) {
		HD_TRY(read_row(old, &more));
		old->ahead = more && old->count && compare_samples(old->group[0].text, old->group[old->count].text);
		old->count += more && !old->ahead;
	}
done:
	return st;
}

/* ---- two rows ---- */

static void add(char what[WHAT_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(char what[WHAT_BYTES], const char *format, ...)
{
	va_list args;
	size_t used = strlen(what);
	used += (size_t)snprintf(what + used, WHAT_BYTES - used, "%s", used ? ", " : "");
	va_start(args, format);
	if (used < WHAT_BYTES)
		vsnprintf(what + used, WHAT_BYTES - used, format, args);
	va_end(args);
}

static bool differs(const old_row *was, const hd_record_row *is, hd_record_column column)
{
	return strcmp(was->text[column], is->text[column]) != 0;
}

static void add_text(char what[WHAT_BYTES], const old_row *was, const hd_record_row *is, hd_record_column column)
{
	if (differs(was, is, column))
		add(what, "%s %s -> %s", hd_record_names[column], was->text[column], is->text[column]);
}

static void add_position(char what[WHAT_BYTES], const old_row *was, const hd_record_row *is)
{
	if (!differs(was, is, HD_RECORD_LATITUDE) && !differs(was, is, HD_RECORD_LONGITUDE))
		return;
	double metres = hd_geo_distance_m(hd_number_parse(was->text[HD_RECORD_LATITUDE]),
	        hd_number_parse(was->text[HD_RECORD_LONGITUDE]), hd_number_parse(is->text[HD_RECORD_LATITUDE]),
	        hd_number_parse(is->text[HD_RECORD_LONGITUDE]));
	add(what, "position moved by %.*f m", metres < 10 ? 3 : 1, metres);
}

/* What the hash covers and no column shows. */
static void add_rest(char what[WHAT_BYTES], const old_row *was, const hd_record_row *is)
{
	if (differs(was, is, HD_RECORD_ROW) && !what[0])
		add(what, "another column of the catalogue");
}

/* The size of a version "SIZE SECONDS.NANOSECONDS"; -1 where it is none. */
static long long size_of(const char *version)
{
	char *end;
	size_t digits = strspn(version, "0123456789");
	if (!digits || version[digits] != ' ' || version[digits + 1 + strspn(version + digits + 1, "0123456789.-")])
		return -1;
	return strtoll(version, &end, 10);
}

/* Whether a time is all that tells two files apart. */
static bool add_version(char what[WHAT_BYTES], const old_row *was, const hd_record_row *is)
{
	const char *before = was->text[HD_RECORD_VERSION], *after = is->text[HD_RECORD_VERSION];
	bool gone = is->is_file && !after[0];
	if (!strcmp(before, after) || !before[0] || (!after[0] && !gone))
		return false;
	long long size = size_of(before), new_size = size_of(after);
	bool touched = size >= 0 && size == new_size;
	if (gone)
		add(what, "its file is not there");
	else if (touched)
		add(what, "file touched (same size, another time)");
	else if (size >= 0 && new_size >= 0)
		add(what, "file of %lld bytes -> %lld", size, new_size);
	else
		add(what, "version %s -> %s", before, after);
	return touched;
}

/* ---- samples ---- */

static void show(comparison *c, kind k, const char *const *text, const char *what)
{
	if (c->shown[k]++ >= c->most)
		return;
	fprintf(c->to, "%-7s  %s", kind_words[k], text[HD_RECORD_SESSION]);
	if (strcmp(text[HD_RECORD_SESSION], text[HD_RECORD_EMISSION]) != 0)
		fprintf(c->to, " %s", text[HD_RECORD_EMISSION]);
	fprintf(c->to, ", receiver %s (%s)%s%s\n", text[HD_RECORD_RECEIVER], text[HD_RECORD_IQ], what[0] ? ": " : "",
	        what);
}

static void compare_pair(comparison *c, const old_row *was, const hd_record_row *is)
{
	char what[WHAT_BYTES] = "";
	add_position(what, was, is);
	add_text(what, was, is, HD_RECORD_SAMPLE_RATE);
	add_text(what, was, is, HD_RECORD_FREQUENCY_MHZ);
	add_rest(what, was, is);
	add_text(what, was, is, HD_RECORD_RECEIVER);
	add_text(what, was, is, HD_RECORD_SPLIT);
	add_text(what, was, is, HD_RECORD_IQ);
	bool alone = !what[0], touched = add_version(what, was, is);
	if (!what[0]) {
		c->counts->same++;
		return;
	}
	c->counts->changed++;
	c->counts->touched += touched && alone;
	show(c, CHANGED, was->text, what);
}

static void drop(comparison *c, const old_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (rows[i].now)
			continue;
		c->counts->gone++;
		show(c, GONE, rows[i].text, "");
	}
}

static void find_new(comparison *c, const hd_record_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (c->taken[i])
			continue;
		c->counts->added++;
		show(c, ADDED, rows[i].text, "");
	}
}

/* Pairs rows of one sample whose texts of a column are the same. */
static void pair_by(comparison *c, old_rows *old, const hd_record_row *now, size_t count, hd_record_column column)
{
	for (size_t i = 0; i < old->count; i++) {
		for (size_t k = 0; k < count && !old->group[i].now; k++) {
			if (c->taken[k] || differs(&old->group[i], &now[k], column))
				continue;
			old->group[i].now = &now[k];
			c->taken[k] = true;
		}
	}
}

static hd_status compare_sample(comparison *c, old_rows *old, const hd_record_row *now, size_t count)
{
	pair_by(c, old, now, count, HD_RECORD_RECEIVER);
	pair_by(c, old, now, count, HD_RECORD_IQ);
	for (size_t i = 0; i < old->count; i++)
		if (old->group[i].now)
			compare_pair(c, &old->group[i], old->group[i].now);
	drop(c, old->group, old->count);
	find_new(c, now, count);
	return next_group(old);
}

/* Both are in the same order: one walk along both. */
static hd_status walk(comparison *c, old_rows *old, hd_record_rows *rows)
{
	hd_status st;
	const hd_record_row *now;
	size_t count;
	HD_TRY(next_group(old));
	HD_TRY(hd_record_rows_next(rows, &now, &count));
	while (old->count || count) {
		int order = !old->count ? 1 : !count ? -1 : compare_samples(old->group[0].text, now[0].text);
		if (order < 0) {
			drop(c, old->group, old->count);
			HD_TRY(next_group(old));
			continue;
		}
		HD_TRY(hd_grow(&c->taken, &c->capacity, count, sizeof *c->taken));
		memset(c->taken, 0, count * sizeof *c->taken);
		if (order > 0)
			find_new(c, now, count);
		else
			HD_TRY(compare_sample(c, old, now, count));
		HD_TRY(hd_record_rows_next(rows, &now, &count));
	}
done:
	return st;
}

hd_status hd_record_compare(
        hd_record_changes *out, FILE *to, int64_t most, const hd_run *run, const hd_dataset *dataset)
{
	hd_status st;
	char *path = NULL;
	old_rows old = {0};
	hd_record_rows rows = {0};
	*out = (hd_record_changes){0};
	comparison c = {.to = to, .most = most, .counts = out};
	HD_TRY(hd_run_path(&path, run, HD_RECORD_FILE));
	HD_TRY(hd_csv_open(&old.csv, path));
	HD_TRY(read_header(&old));
	HD_TRY(hd_record_rows_open(&rows, dataset));
	HD_TRY(walk(&c, &old, &rows));
	for (int k = 0; k < KINDS; k++)
		if (c.shown[k] > most)
			fprintf(to, "... and %lld more %s\n", (long long)(c.shown[k] - most), kind_words[k]);
done:
	free(c.taken);
	hd_record_rows_close(&rows);
	hd_csv_close(&old.csv);
	free(old.group);
	free(path);
	return st;
}
