/* SPDX-License-Identifier: Apache-2.0 */
/* The folder catalogue: manifest.csv, one row per recording. */
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "heimdall/catalog.h"
#include "host/common/memory.h"
#include "host/data/csv.h"

#define MANIFEST "manifest.csv"

enum {
	ID,
	SESSION,
	EMISSION,
	RECEIVER,
	IQ,
	SAMPLE_RATE,
	LATITUDE,
	LONGITUDE,
	SNR_DB,
	TIMESTAMP,
	APPROVED,
	SOURCE,
	COLUMNS
};
static const char *const column_names[COLUMNS] = {"id", "session", "emission", "receiver", "iq", "sample_rate",
        "latitude", "longitude", "snr_db", "timestamp", "approved", "source"};

typedef struct columns {
	int known[COLUMNS]; /* field of each known column, -1 where absent */
	char **names;       /* of all fields */
	size_t count;
} columns;

const char *hd_skip_text(hd_skip skip)
{
	switch (skip) {
#define X(name, text)                                                                                                  \
	case HD_SKIP_##name:                                                                                           \
		return text;
		HD_SKIPS(X)
#undef X
	default:
		return "used";
	}
}

void hd_recording_skip(hd_recording *recording, hd_skip skip, const char *format, ...)
{
	char text[1024];
	if (recording->skip != HD_SKIP_NONE)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	recording->skip = skip;
	recording->skip_detail = strdup(text);
}

void hd_catalog_free(hd_catalog *catalog)
{
	if (!catalog)
		return;
	for (size_t i = 0; i < catalog->count; i++) {
		hd_recording *r = &catalog->recordings[i];
		char *texts[] = {
		        r->id, r->session, r->emission, r->receiver, r->iq, r->source, r->extra, r->skip_detail};
		for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
			free(texts[t]);
	}
	free(catalog->recordings);
	free(catalog->path);
	*catalog = (hd_catalog){0};
}

static hd_status read_columns(columns *c, hd_csv *csv)
{
	int more;
	hd_status st = hd_csv_next(csv, &more);
	if (st != HD_OK)
		return st;
	if (!more)
		return hd_fail(HD_E_DATA, "%s: is empty; its first line names the columns", csv->path);
	for (int k = 0; k < COLUMNS; k++)
		c->known[k] = -1;
	st = hd_alloc(&c->names, csv->field_count, sizeof *c->names);
	for (size_t f = 0; st == HD_OK && f < csv->field_count; f++) {
		c->count = f + 1;
		st = hd_strdup(&c->names[f], csv->fields[f]);
		for (int k = 0; k < COLUMNS; k++) {
			if (strcasecmp(csv->fields[f], column_names[k]) != 0)
				continue;
			if (c->known[k] >= 0)
				return hd_fail(
				        HD_E_DATA, "%s:%zu: two columns '%s'", csv->path, csv->line, column_names[k]);
			c->known[k] = (int)f;
		}
	}
	if (st != HD_OK)
		return st;
	static const int required[] = {IQ, LATITUDE, LONGITUDE};
	for (size_t i = 0; i < sizeof required / sizeof *required; i++)
		if (c->known[required[i]] < 0)
			return hd_fail(
			        HD_E_DATA, "%s:%zu: no column '%s'", csv->path, csv->line, column_names[required[i]]);
	if (c->known[SESSION] < 0 && c->known[ID] < 0)
		return hd_fail(HD_E_DATA, "%s:%zu: neither a column 'session' nor 'id'", csv->path, csv->line);
	return HD_OK;
}

static const char *field(const hd_csv *csv, const columns *c, int k)
{
	int f = c->known[k];
	return f >= 0 && (size_t)f < csv->field_count ? csv->fields[f] : "";
}

/* A number, or NaN where the field is empty or none. */
static double number(const char *text)
{
	char *end;
	double value = strtod(text, &end);
	return end == text || *end ? NAN : value;
}

/* ISO 8601 date and time, zone optional (UTC without), or Unix seconds; NaN where it is neither. */
static double parse_time(const char *text)
{
	struct tm tm = {0};
	double seconds = number(text), fraction = 0;
	if (!text[0] || isfinite(seconds))
		return text[0] ? seconds : NAN;
	const char *at = strptime(text, "%Y-%m-%d", &tm);
	if (!at)
		return NAN;
	if (*at == 'T' || *at == ' ') {
		const char *clock = strptime(at + 1, "%H:%M:%S", &tm);
		if (!clock)
			clock = strptime(at + 1, "%H:%M", &tm);
		if (!clock)
			return NAN;
		at = clock;
		if (*at == '.') {
			char *end;
			fraction = strtod(at, &end);
			at = end;
		}
	}
	double offset = 0;
	int hours, minutes, used = 0;
	if (*at == '+' || *at == '-') {
		bool read = sscanf(at + 1, "%2d:%2d%n", &hours, &minutes, &used) == 2 ||
		            sscanf(at + 1, "%2d%2d%n", &hours, &minutes, &used) == 2;
		if (!read || at[1 + used])
			return NAN;
		offset = (*at == '-' ? -1 : 1) * (hours * 3600.0 + minutes * 60.0);
	} else if (*at && strcmp(at, "Z") != 0) {
		return NAN;
	}
	return (double)timegm(&tm) + fraction - offset;
}

static bool is_true(const char *text)
{
	static const char *const words[] = {"true", "1", "yes", "t", "y"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcasecmp(text, words[i]))
			return true;
	return false;
}

static hd_status keep_extra(hd_recording *r, const hd_csv *csv, const columns *c)
{
	json_t *extra = json_object();
	for (size_t f = 0; f < c->count && f < csv->field_count; f++) {
		bool known = false;
		for (int k = 0; k < COLUMNS; k++)
			known = known || c->known[k] == (int)f;
		if (!known)
			json_object_set_new(extra, c->names[f], json_string(csv->fields[f]));
	}
	if (json_object_size(extra))
		r->extra = json_dumps(extra, JSON_COMPACT);
	json_decref(extra);
	return HD_OK;
}

static hd_status text_or(char **out, const char *text, const char *otherwise)
{
	return hd_strdup(out, text[0] ? text : otherwise);
}

static hd_status read_row(
        hd_recording *r, const hd_csv *csv, const columns *c, const char *folder, size_t row, bool assume_approved)
{
	hd_status st;
	char number_text[24];
	const char *iq = field(csv, c, IQ);
	snprintf(number_text, sizeof number_text, "%zu", row);
	HD_TRY(text_or(&r->id, field(csv, c, ID), number_text));
	HD_TRY(text_or(&r->session, field(csv, c, SESSION), r->id));
	HD_TRY(text_or(&r->emission, field(csv, c, EMISSION), r->session));
	HD_TRY(text_or(&r->receiver, field(csv, c, RECEIVER), "0"));
	if (field(csv, c, SOURCE)[0])
		HD_TRY(hd_strdup(&r->source, field(csv, c, SOURCE)));
	if (iq[0] == '/')
		HD_TRY(hd_strdup(&r->iq, iq));
	else
		HD_TRY(hd_sprintf(&r->iq, "%s/%s", folder, iq));
	r->sample_rate_hz = number(field(csv, c, SAMPLE_RATE));
	r->sample_rate_hz = isfinite(r->sample_rate_hz) ? r->sample_rate_hz : 0;
	r->latitude_deg = number(field(csv, c, LATITUDE));
	r->longitude_deg = number(field(csv, c, LONGITUDE));
	r->snr_db = number(field(csv, c, SNR_DB));
	r->timestamp_s = parse_time(field(csv, c, TIMESTAMP));
	r->approved = c->known[APPROVED] < 0 ? assume_approved : is_true(field(csv, c, APPROVED));
	HD_TRY(keep_extra(r, csv, c));
	if (!r->approved)
		hd_recording_skip(r, HD_SKIP_NOT_APPROVED,
		        c->known[APPROVED] < 0 ? "%s:%zu: no column 'approved'; --assume_approved takes all as approved"
		                               : "%s:%zu",
		        csv->path, csv->line);
	bool inside = fabs(r->latitude_deg) <= 90 && fabs(r->longitude_deg) <= 180;
	if (!inside || (r->latitude_deg == 0 && r->longitude_deg == 0))
		hd_recording_skip(r, HD_SKIP_BAD_POSITION, "%s:%zu: latitude '%s', longitude '%s'%s", csv->path,
		        csv->line, field(csv, c, LATITUDE), field(csv, c, LONGITUDE),
		        inside ? ": 0,0 is a missing position" : "");
	if (!iq[0])
		hd_recording_skip(r, HD_SKIP_MISSING_FILE, "%s:%zu: no iq file named", csv->path, csv->line);
done:
	return st;
}

hd_status hd_catalog_read_folder(hd_catalog *out, const char *folder, bool assume_approved)
{
	hd_status st;
	char *path = NULL;
	hd_csv csv = {0};
	columns c = {0};
	int more;
	*out = (hd_catalog){0};
	HD_TRY(hd_strdup(&out->path, folder));
	HD_TRY(hd_sprintf(&path, "%s/" MANIFEST, folder));
	st = hd_csv_open(&csv, path);
	if (st != HD_OK) {
		st = hd_context(HD_E_DATA, "%s is no folder of recordings with a " MANIFEST, folder);
		goto done;
	}
	HD_TRY(read_columns(&c, &csv));
	for (;;) {
		HD_TRY(hd_csv_next(&csv, &more));
		if (!more)
			break;
		HD_TRY(hd_grow(&out->recordings, &out->capacity, out->count + 1, sizeof *out->recordings));
		hd_recording *row = &out->recordings[out->count++];
		HD_TRY(read_row(row, &csv, &c, folder, out->count, assume_approved));
	}
	if (!out->count)
		st = hd_fail(HD_E_DATA, "%s: no recordings", path);
done:
	for (size_t f = 0; c.names && f < c.count; f++)
		free(c.names[f]);
	free(c.names);
	hd_csv_close(&csv);
	free(path);
	if (st != HD_OK)
		hd_catalog_free(out);
	return st;
}
