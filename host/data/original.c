/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The original's layout: {train,val,test}/NAME_iq.npy, complex of shape (n,) or (R,n), with NAME_label.npy, latitude
 * and longitude in degrees. NAME is a session, or session@emission; '/', '@' and '%' inside either are written as
 * %2F, %40 and %25. Receivers are the row numbers.
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heimdall/iq.h"
#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/data/catalog_rows.h"
#include "host/data/fetch.h"
#include "host/data/npy_array.h"

#define IQ_END "_iq.npy"
#define LABEL_END "_label.npy"
#define ESCAPED "/@%"

/* Fields of a row, in the order in which they are handed to the builder. */
enum { ID, SESSION, EMISSION, RECEIVER, IQ, LATITUDE, LONGITUDE, SPLIT, FIELDS };
static const char *const field_names[FIELDS] = {
        "id", "session", "emission", "receiver", "iq", "latitude", "longitude", "split"};

typedef struct name_list {
	char **names; /* without their endings; a name of two files may stand twice until unique_names */
	size_t count, capacity;
} name_list;

static void free_names(name_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->names[i]);
	free(list->names);
	*list = (name_list){0};
}

/* ---- reading ---- */

static hd_status add_name(name_list *list, const char *file, const char *ending)
{
	size_t length = strlen(file), end = strlen(ending);
	if (length <= end || strcmp(file + length - end, ending) != 0)
		return HD_OK;
	hd_status st = hd_grow(&list->names, &list->capacity, list->count + 1, sizeof *list->names);
	if (st == HD_OK)
		st = hd_sprintf(&list->names[list->count], "%.*s", (int)(length - end), file);
	list->count += st == HD_OK;
	return st;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void unique_names(name_list *list)
{
	size_t kept = 0;
	if (list->count)
		qsort(list->names, list->count, sizeof *list->names, by_name);
	for (size_t i = 0; i < list->count; i++) {
		if (kept && !strcmp(list->names[kept - 1], list->names[i]))
			free(list->names[i]);
		else
			list->names[kept++] = list->names[i];
	}
	list->count = kept;
}

/* A folder that is not there holds none. */
static hd_status list_names(name_list *out, const char *folder)
{
	hd_status st = HD_OK;
	const struct dirent *entry;
	DIR *dir = opendir(folder);
	if (!dir)
		return errno == ENOENT ? HD_OK : hd_fail(HD_E_IO, "%s: cannot be listed: %s", folder, strerror(errno));
	while (st == HD_OK && (entry = readdir(dir))) {
		st = add_name(out, entry->d_name, IQ_END);
		if (st == HD_OK)
			st = add_name(out, entry->d_name, LABEL_END);
	}
	closedir(dir);
	if (st == HD_OK)
		unique_names(out);
	return st;
}

/* Undoes %2F, %40 and %25 in place; any other % stays. */
static void unescape(char *text)
{
	char *out = text;
	for (const char *in = text; *in; in++) {
		char code[3] = {in[0] == '%' ? in[1] : '\0', in[1] ? in[2] : '\0', 0};
		const char *found = !strcasecmp(code, "2f") ? "/"
		                    : !strcmp(code, "40")   ? "@"
		                    : !strcmp(code, "25")   ? "%"
		                                            : NULL;
		*out++ = found ? *found : *in;
		in += found ? 2 : 0;
	}
	*out = 0;
}

/* Latitude and longitude as texts; on failure what is wrong, in the error text. */
static hd_status read_label(char latitude[HD_NUMBER_BYTES], char longitude[HD_NUMBER_BYTES], const char *path)
{
	double degrees[2];
	if (access(path, F_OK) != 0)
		return hd_fail(HD_E_DATA, "no label beside it: %s is missing", path);
	hd_status st = hd_npy_read_numbers(degrees, 2, path);
	if (st != HD_OK)
		return st;
	hd_number_format(latitude, degrees[0]);
	hd_number_format(longitude, degrees[1]);
	return HD_OK;
}

/* One row per receiver of NAME, or a single skipped one. */
static hd_status add_recording(hd_rows *rows, const char *root, const char *split, const char *name)
{
	hd_status st;
	hd_iq_info info = {.rows = 1};
	char *base = NULL, *iq = NULL, *label = NULL, *session = NULL, *id = NULL, *iq_row = NULL, *reason = NULL;
	char latitude[HD_NUMBER_BYTES] = "", longitude[HD_NUMBER_BYTES] = "", receiver[24];
	hd_row row = {.count = FIELDS};
	HD_TRY(hd_sprintf(&base, "%s/%s/%s", root, split, name));
	HD_TRY(hd_sprintf(&iq, "%s" IQ_END, base));
	HD_TRY(hd_sprintf(&label, "%s" LABEL_END, base));
	HD_TRY(hd_strdup(&session, name));
	char *emission = strchr(session, '@');
	if (emission) {
		*emission++ = 0;
		unescape(emission);
	}
	unescape(session);
	if (access(iq, F_OK) != 0) {
		row.skip = HD_SKIP_MISSING_FILE;
		HD_TRY(hd_sprintf(&reason, "a label without its recording %s", iq));
	} else if (hd_iq_probe(&info, iq, HD_RAW_AUTO) != HD_OK) {
		info.rows = 1;
		row.skip = HD_SKIP_UNREADABLE;
		HD_TRY(hd_strdup(&reason, hd_error_text()));
	}
	if (read_label(latitude, longitude, label) != HD_OK && row.skip == HD_SKIP_NONE) {
		row.skip = HD_SKIP_BAD_POSITION;
		HD_TRY(hd_strdup(&reason, hd_error_text()));
	}
	row.place = base;
	row.reason = reason;
	for (int64_t r = 0; r < info.rows; r++) {
		const char *suffix = info.rows > 1 ? receiver : "";
		free(id);
		free(iq_row);
		id = iq_row = NULL;
		snprintf(receiver, sizeof receiver, "#%lld", (long long)r);
		HD_TRY(hd_sprintf(&id, "%s/%s%s", split, name, suffix));
		HD_TRY(hd_sprintf(&iq_row, "%s" IQ_END "%s", name, suffix));
		free(iq);
		iq = NULL;
		HD_TRY(hd_sprintf(&iq, "%s/%s", split, iq_row));
		const char *fields[FIELDS] = {
		        id, session, emission ? emission : session, receiver + 1, iq, latitude, longitude, split};
		row.fields = fields;
		HD_TRY(hd_rows_add(rows, &row));
	}
done:
	free(reason);
	free(iq_row);
	free(id);
	free(session);
	free(label);
	free(iq);
	free(base);
	return st;
}

hd_status hd_original_read(hd_catalog *out, const char *folder)
{
	static const char *const splits[] = {"train", "val", "validation", "test"};
	hd_status st;
	hd_rows rows = {0};
	char *path = NULL;
	name_list list = {0};
	HD_TRY(hd_rows_begin(&rows, out, folder, true, folder, field_names, FIELDS));
	for (size_t s = 0; s < sizeof splits / sizeof *splits; s++) {
		free(path);
		path = NULL;
		HD_TRY(hd_sprintf(&path, "%s/%s", folder, splits[s]));
		HD_TRY(list_names(&list, path));
		for (size_t i = 0; i < list.count; i++)
			HD_TRY(add_recording(&rows, folder, splits[s], list.names[i]));
		free_names(&list);
	}
	if (!out->count)
		st = hd_fail(HD_E_DATA,
		        "%s: no recordings: neither NAME" IQ_END " nor NAME" LABEL_END " is in its train, val and test",
		        folder);
done:
	free_names(&list);
	free(path);
	hd_rows_end(&rows);
	return st;
}

/* ---- writing ---- */

static char *escape_into(char *to, const char *text)
{
	for (; *text; text++) {
		if (strchr(ESCAPED, *text))
			to += sprintf(to, "%%%02X", (unsigned)(unsigned char)*text);
		else
			*to++ = *text;
	}
	*to = 0;
	return to;
}

static const hd_recording *first_recording(const hd_catalog *catalog, const hd_samples *s, const hd_sample *sample)
{
	for (int r = 0; r < s->R; r++)
		if (sample->recording[r] >= 0)
			return &catalog->recordings[sample->recording[r]];
	return NULL;
}

/* FOLDER/split/NAME of a sample. */
static hd_status sample_base(char **out, const char *folder, const hd_recording *r, hd_split split)
{
	hd_status st;
	char *name = NULL;
	*out = NULL;
	HD_TRY(hd_alloc(&name, 3 * (strlen(r->session) + strlen(r->emission)) + 2, 1));
	char *end = escape_into(name, r->session);
	if (strcmp(r->session, r->emission) != 0) {
		*end++ = '@';
		escape_into(end, r->emission);
	}
	st = hd_sprintf(out, "%s/%s/%s", folder, hd_split_name((int)split), name);
done:
	free(name);
	return st;
}

/* Adds the recording as row r of an (R,n) array, made when the first one tells n. */
static hd_status add_row(
        float **pairs, int64_t *n, int R, int r, const hd_recording *recording, hd_store *store, hd_raw_format raw)
{
	hd_iq iq = {0};
	hd_status st;
	HD_TRY(hd_fetch_iq(&iq, NULL, store, recording->iq, raw));
	if (iq.rows != 1) {
		st = hd_fail(HD_E_DATA, "%s: holds %lld rows; name one of them as FILE#ROW", recording->iq,
		        (long long)iq.rows);
		goto done;
	}
	if (!*pairs) {
		*n = iq.samples;
		HD_TRY(hd_alloc(pairs, (size_t)R * (size_t)*n * 2, sizeof **pairs));
	}
	if (iq.samples != *n) {
		st = hd_fail(HD_E_DATA,
		        "%s: %lld samples, but another receiver of session '%s', emission '%s' has %lld; this layout "
		        "holds one length per emission: cut them, or leave it out by --where",
		        recording->iq, (long long)iq.samples, recording->session, recording->emission, (long long)*n);
		goto done;
	}
	float *row = *pairs + (size_t)r * (size_t)*n * 2;
	hd_iq_to_float(row, &iq, 0, 0, *n);
done:
	hd_iq_free(&iq);
	return st;
}

static hd_status write_sample(const char *folder, const hd_catalog *catalog, const hd_samples *s, size_t index,
        hd_store *store, hd_raw_format raw)
{
	hd_status st;
	const hd_sample *sample = &s->samples[index];
	char *base = NULL, *path = NULL, *label = NULL;
	float *pairs = NULL;
	int64_t n = 0;
	HD_TRY(sample_base(&base, folder, first_recording(catalog, s, sample), sample->split));
	HD_TRY(hd_sprintf(&path, "%s" IQ_END, base));
	HD_TRY(hd_sprintf(&label, "%s" LABEL_END, base));
	for (int r = 0; r < s->R; r++)
		if (sample->recording[r] >= 0)
			HD_TRY(add_row(&pairs, &n, s->R, r, &catalog->recordings[sample->recording[r]], store, raw));
	const int64_t shape[2] = {s->R, n}, two = 2;
	const double degrees[2] = {sample->latitude_deg, sample->longitude_deg};
	HD_TRY(hd_npy_write(path, "<c8", shape, 2, pairs, (size_t)s->R * (size_t)n * 2 * sizeof *pairs));
	HD_TRY(hd_npy_write(label, "<f8", &two, 1, degrees, sizeof degrees));
done:
	free(pairs);
	free(label);
	free(path);
	free(base);
	return st;
}

/* The layout has no place for a rate. */
static hd_status check_rates(const hd_catalog *catalog, const hd_samples *s)
{
	double rate = 0;
	for (size_t i = 0; i < s->count * (size_t)s->R; i++) {
		if (s->recording_pool[i] < 0)
			continue;
		const hd_recording *r = &catalog->recordings[s->recording_pool[i]];
		if (rate > 0 && r->sample_rate_hz > 0 && r->sample_rate_hz != rate)
			return hd_fail(HD_E_DATA,
			        "%s: recorded at %g Hz, others at %g Hz; this layout keeps no rates: export one rate, "
			        "as with --where 'sample_rate = %g'",
			        r->iq, r->sample_rate_hz, rate, rate);
		rate = r->sample_rate_hz > 0 ? r->sample_rate_hz : rate;
	}
	return HD_OK;
}

/* What the first `count` samples left, so that a new try finds an empty folder. */
static void remove_written(const char *folder, const hd_catalog *catalog, const hd_samples *s, size_t count)
{
	char path[4096], *base;
	for (size_t i = 0; i < count; i++) {
		const hd_recording *r = first_recording(catalog, s, &s->samples[i]);
		if (sample_base(&base, folder, r, s->samples[i].split) != HD_OK)
			return;
		snprintf(path, sizeof path, "%s" IQ_END, base);
		unlink(path);
		snprintf(path, sizeof path, "%s" LABEL_END, base);
		unlink(path);
		free(base);
	}
	for (int split = 0; split < HD_SPLIT_COUNT; split++) {
		snprintf(path, sizeof path, "%s/%s", folder, hd_split_name(split));
		rmdir(path);
	}
}

hd_status hd_original_write(
        const char *folder, const hd_catalog *catalog, const hd_samples *s, hd_store *store, hd_raw_format raw)
{
	hd_status st;
	hd_progress *bar = NULL;
	char *path = NULL;
	size_t written = 0;
	if (!s)
		return hd_fail(HD_E_USAGE, "%s: this layout wants samples and their splits", folder);
	HD_TRY(check_rates(catalog, s));
	for (int split = 0; split < HD_SPLIT_COUNT; split++) {
		free(path);
		path = NULL;
		HD_TRY(hd_sprintf(&path, "%s/%s", folder, hd_split_name(split)));
		HD_TRY(hd_make_folders(path));
	}
	bar = hd_progress_start("export", "emission", (int64_t)s->count);
	while (written < s->count) {
		if (hd_stop_requested()) {
			st = hd_fail(HD_E_INTERRUPTED, "%s: interrupted, nothing is left of it", folder);
			goto done;
		}
		HD_TRY(write_sample(folder, catalog, s, written++, store, raw));
		hd_progress_update(bar, (int64_t)written, NULL);
	}
done:
	hd_progress_end(bar);
	if (st != HD_OK) {
		char error[1024];
		snprintf(error, sizeof error, "%s", hd_error_text());
		remove_written(folder, catalog, s, written);
		hd_fail(st, "%s", error);
	}
	free(path);
	return st;
}
