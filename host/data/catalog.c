/* SPDX-License-Identifier: Apache-2.0 */
/* Catalogues of any format: skip reasons, texts of fields, the row builder, the choice of reader and writer. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/text.h"
#include "host/data/catalog_rows.h"

#define HZ_OF_MHZ_EXPONENT 6
#define MAX_FRACTION_DIGITS 20

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
		char *texts[] = {r->id, r->session, r->emission, r->receiver, r->iq, r->version, r->seen, r->source,
		        r->extra, r->skip_detail};
		for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
			free(texts[t]);
	}
	free(catalog->recordings);
	free(catalog->path);
	*catalog = (hd_catalog){0};
}

/* ---- columns ---- */

static const struct {
	const char *name, *alias;
	bool is_number;
} columns[HD_COLUMN_COUNT] = {
#define X(name, text, alias, is_number) {text, alias, is_number},
        HD_COLUMNS(X)
#undef X
};

const char *hd_column_name(hd_column column)
{
	return columns[column].name;
}

bool hd_column_is_number(hd_column column)
{
	return columns[column].is_number;
}

static int find_alias(const char *name)
{
	for (int k = 0; k < HD_COLUMN_COUNT; k++)
		if (columns[k].alias[0] && !strcasecmp(name, columns[k].alias))
			return k;
	return -1;
}

int hd_column_find(const char *name)
{
	for (int k = 0; k < HD_COLUMN_COUNT; k++)
		if (!strcasecmp(name, columns[k].name))
			return k;
	return find_alias(name);
}

/* ---- texts to values ---- */

double hd_number_parse(const char *text)
{
	char *end;
	double value = strtod(text, &end);
	while (isspace((unsigned char)*end))
		end++;
	return end == text || *end || !isfinite(value) ? NAN : value;
}

/* Through the exponent, so that "145.5" is exactly 145500000 Hz. */
static double parse_mhz(const char *text)
{
	char scaled[64];
	double mhz = hd_number_parse(text);
	size_t mantissa = strcspn(text, "eE");
	long exponent = text[mantissa] ? strtol(text + mantissa + 1, NULL, 10) : 0;
	while (mantissa && isspace((unsigned char)text[mantissa - 1]))
		mantissa--;
	int used = snprintf(scaled, sizeof scaled, "%.*se%ld", (int)mantissa, text, exponent + HZ_OF_MHZ_EXPONENT);
	double hz = used < (int)sizeof scaled ? hd_number_parse(scaled) : NAN;
	return isfinite(mhz) && isfinite(hz) ? hz : mhz * 1e6;
}

/* "", Z, UTC, +hh, +hhmm, +hh:mm; false for anything else. */
static bool parse_zone(const char *at, double *offset_s)
{
	int hours = 0, minutes = 0, used = 0;
	*offset_s = 0;
	at += *at == ' ';
	if (!*at || !strcasecmp(at, "Z") || !strcasecmp(at, "UTC"))
		return true;
	if ((*at != '+' && *at != '-') || !isdigit((unsigned char)at[1]))
		return false;
	if (sscanf(at + 1, "%2d%n", &hours, &used) != 1)
		return false;
	const char *rest = at + 1 + used;
	rest += *rest == ':';
	used = 0;
	if (*rest && (!isdigit((unsigned char)*rest) || sscanf(rest, "%2d%n", &minutes, &used) != 1 || rest[used]))
		return false;
	*offset_s = (*at == '-' ? -1 : 1) * (hours * 3600.0 + minutes * 60.0);
	return true;
}

double hd_time_parse(const char *text)
{
	struct tm date = {0}, clock = {0};
	double seconds = hd_number_parse(text), fraction = 0, offset;
	if (isfinite(seconds))
		return seconds;
	const char *at = strptime(text, "%Y-%m-%d", &date);
	if (!at)
		return NAN;
	if ((*at == 'T' || *at == ' ') && isdigit((unsigned char)at[1])) {
		const char *time = strptime(at + 1, "%H:%M:%S", &clock);
		at = time ? time : strptime(at + 1, "%H:%M", &clock);
		if (!at)
			return NAN;
		if (*at == '.') {
			size_t digits = strspn(at + 1, "0123456789");
			fraction = strtod(at, NULL);
			at += 1 + digits;
		}
	}
	if (!parse_zone(at, &offset))
		return NAN;
	int day = date.tm_mday;
	time_t midnight = timegm(&date);
	if (date.tm_mday != day) /* 30 February */
		return NAN;
	return (double)(midnight + clock.tm_hour * 3600 + clock.tm_min * 60 + clock.tm_sec) + fraction - offset;
}

int hd_truth_parse(const char *text)
{
	static const char *const words[2][5] = {{"false", "0", "no", "f", "n"}, {"true", "1", "yes", "t", "y"}};
	for (int truth = 0; truth < 2; truth++)
		for (size_t i = 0; i < sizeof words[0] / sizeof *words[0]; i++)
			if (!strcasecmp(text, words[truth][i]))
				return truth;
	return -1;
}

static const char *const split_names[HD_SPLIT_COUNT] = {"train", "val", "test"};

int hd_split_parse(const char *text)
{
	for (int split = 0; split < HD_SPLIT_COUNT; split++)
		if (!strcasecmp(text, split_names[split]))
			return split;
	return strcasecmp(text, "validation") ? -1 : HD_VAL;
}

const char *hd_split_name(int split)
{
	return split >= 0 && split < HD_SPLIT_COUNT ? split_names[split] : "";
}

/* ---- values to texts ---- */

void hd_number_format(char text[HD_NUMBER_BYTES], double value)
{
	text[0] = 0;
	for (int digits = 15; isfinite(value) && digits <= 17; digits++) {
		snprintf(text, HD_NUMBER_BYTES, "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			return;
	}
}

static void format_mhz(char text[HD_NUMBER_BYTES], double hz)
{
	text[0] = 0;
	if (!isfinite(hz))
		return;
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, HD_NUMBER_BYTES, "%.*g", digits, hz / 1e6);
		if (parse_mhz(text) == hz)
			return;
	}
	/* the quotient was rounded: the digits of the hertz themselves, under another exponent */
	snprintf(text, HD_NUMBER_BYTES, "%.16e", hz);
	char *exponent = strchr(text, 'e');
	long shifted = strtol(exponent + 1, NULL, 10) - HZ_OF_MHZ_EXPONENT;
	snprintf(exponent, HD_NUMBER_BYTES - (size_t)(exponent - text), "e%ld", shifted);
}

void hd_time_format(char text[HD_NUMBER_BYTES], double seconds)
{
	double whole = floor(seconds), fraction = seconds - whole;
	time_t clock = (time_t)whole;
	struct tm tm;
	hd_number_format(text, seconds);
	/* years that are no four digits stay as seconds */
	if (!(fabs(seconds) < 1e11) || !gmtime_r(&clock, &tm) || tm.tm_year + 1900 < 1000 || tm.tm_year + 1900 > 9999)
		return;
	char iso[HD_NUMBER_BYTES], digits[MAX_FRACTION_DIGITS + 3];
	size_t used = strftime(iso, sizeof iso, "%Y-%m-%dT%H:%M:%S", &tm);
	for (int precision = 0; precision <= MAX_FRACTION_DIGITS && used + (size_t)precision + 3 < sizeof iso;
	        precision++) {
		snprintf(digits, sizeof digits, "%.*f", precision, fraction);
		if (digits[0] != '0')
			continue;
		snprintf(iso + used, sizeof iso - used, "%sZ", digits + 1);
		if (hd_time_parse(iso) == seconds) {
			memcpy(text, iso, sizeof iso);
			return;
		}
	}
}

const char *hd_column_text(const hd_recording *r, hd_column column, char number[HD_NUMBER_BYTES])
{
	number[0] = 0;
	switch (column) {
	case HD_COLUMN_ID:
		return r->id;
	case HD_COLUMN_SESSION:
		return r->session;
	case HD_COLUMN_EMISSION:
		return r->emission;
	case HD_COLUMN_RECEIVER:
		return r->receiver;
	case HD_COLUMN_IQ:
		return r->iq;
	case HD_COLUMN_SAMPLE_RATE:
		if (r->sample_rate_hz > 0)
			hd_number_format(number, r->sample_rate_hz);
		break;
	case HD_COLUMN_LATITUDE:
		hd_number_format(number, r->latitude_deg);
		break;
	case HD_COLUMN_LONGITUDE:
		hd_number_format(number, r->longitude_deg);
		break;
	case HD_COLUMN_LABEL_SIGMA:
		hd_number_format(number, r->label_sigma_m);
		break;
	case HD_COLUMN_FREQUENCY_MHZ:
		format_mhz(number, r->frequency_hz);
		break;
	case HD_COLUMN_SNR_DB:
		hd_number_format(number, r->snr_db);
		break;
	case HD_COLUMN_TIMESTAMP:
		if (isfinite(r->timestamp_s))
			hd_time_format(number, r->timestamp_s);
		break;
	case HD_COLUMN_APPROVED:
		return r->approved ? "true" : "false";
	case HD_COLUMN_SOURCE:
		return r->source ? r->source : "";
	case HD_COLUMN_SPLIT:
		return hd_split_name(r->split);
	case HD_COLUMN_VERSION:
		return r->version ? r->version : "";
	case HD_COLUMN_COUNT:
		break;
	}
	return number;
}

json_t *hd_extra_load(const hd_recording *recording)
{
	return recording->extra ? json_loads(recording->extra, 0, NULL) : NULL;
}

hd_status hd_extra_names(json_t **out, const hd_catalog *catalog)
{
	*out = json_object();
	int failed = !*out;
	for (size_t i = 0; !failed && i < catalog->count; i++) {
		const char *name;
		json_t *value, *extra = hd_extra_load(&catalog->recordings[i]);
		json_object_foreach(extra, name, value)
		{
			if (!json_object_get(*out, name))
				failed |= json_object_set_new(*out, name, json_true());
		}
		json_decref(extra);
	}
	return failed ? hd_fail(HD_E_MEMORY, "out of host memory for the catalogue's columns") : HD_OK;
}

/* Whether a path says by itself where it is; an empty one names nothing. */
static bool stands_alone(const char *iq)
{
	return !iq[0] || iq[0] == '/' || hd_behind_scheme(iq);
}

hd_status hd_iq_absolute(char **out, const char *iq)
{
	if (stands_alone(iq))
		return hd_strdup(out, iq);
	char *here = getcwd(NULL, 0);
	if (!here) {
		*out = NULL;
		return hd_fail(HD_E_IO, "the working directory cannot be named: %s", strerror(errno));
	}
	hd_status st = hd_sprintf(out, "%s/%s", here, iq);
	free(here);
	return st;
}

/* ---- rows ---- */

/* Known columns by their names, then the missing ones by their aliases. */
static hd_status know_columns(hd_rows *rows, const char *place)
{
	for (int k = 0; k < HD_COLUMN_COUNT; k++)
		rows->known[k] = -1;
	for (size_t f = 0; f < rows->count; f++) {
		for (size_t g = 0; g < f; g++)
			if (rows->names[f][0] && !strcasecmp(rows->names[f], rows->names[g]))
				return hd_fail(HD_E_DATA, "%s: two columns '%s'", place, rows->names[f]);
		int k = hd_column_find(rows->names[f]);
		if (k >= 0 && !strcasecmp(rows->names[f], columns[k].name))
			rows->known[k] = (int)f;
	}
	for (size_t f = 0; f < rows->count; f++) {
		int k = find_alias(rows->names[f]);
		if (k >= 0 && rows->known[k] < 0)
			rows->known[k] = (int)f;
	}
	static const hd_column required[] = {HD_COLUMN_IQ, HD_COLUMN_LATITUDE, HD_COLUMN_LONGITUDE};
	for (size_t i = 0; i < sizeof required / sizeof *required; i++)
		if (rows->known[required[i]] < 0)
			return hd_fail(HD_E_DATA, "%s: no column '%s'", place, columns[required[i]].name);
	if (rows->known[HD_COLUMN_SESSION] < 0 && rows->known[HD_COLUMN_ID] < 0)
		return hd_fail(HD_E_DATA, "%s: neither a column 'session' nor 'id'", place);
	return HD_OK;
}

/* jansson keeps texts in UTF-8 only. */
static bool is_utf8(const char *text)
{
	const char *at = text;
	while (*at > 0)
		at++;
	if (!*at)
		return true;
	json_t *checked = json_string(text);
	json_decref(checked);
	return checked != NULL;
}

hd_status hd_rows_begin(hd_rows *out, hd_catalog *catalog, const char *folder, bool assume_approved, const char *place,
        const char *const *names, size_t count)
{
	hd_status st;
	*out = (hd_rows){.catalog = catalog, .folder = folder, .assume_approved = assume_approved};
	HD_TRY(hd_alloc(&out->names, count, sizeof *out->names));
	for (size_t f = 0; f < count; f++) {
		if (!is_utf8(names[f])) {
			st = hd_fail(
			        HD_E_DATA, "%s: the name of column %zu is no UTF-8; save it as UTF-8", place, f + 1);
			goto done;
		}
		HD_TRY(hd_strdup(&out->names[f], names[f]));
		out->count = f + 1;
	}
	st = know_columns(out, place);
done:
	if (st != HD_OK)
		hd_rows_end(out);
	return st;
}

void hd_rows_end(hd_rows *rows)
{
	if (!rows)
		return;
	for (size_t f = 0; f < rows->count; f++)
		free(rows->names[f]);
	free(rows->names);
	*rows = (hd_rows){0};
}

static const char *field(const hd_rows *rows, const hd_row *row, hd_column column)
{
	int f = rows->known[column];
	return f >= 0 && (size_t)f < row->count && row->fields[f] ? row->fields[f] : "";
}

static hd_status keep_extra(hd_recording *r, const hd_rows *rows, const hd_row *row)
{
	json_t *extra = json_object();
	int failed = !extra;
	for (size_t f = 0; !failed && f < rows->count; f++) {
		bool known = !rows->names[f][0];
		for (int k = 0; k < HD_COLUMN_COUNT; k++)
			known = known || rows->known[k] == (int)f;
		const char *text = f < row->count && row->fields[f] ? row->fields[f] : "";
		if (!known)
			failed = json_object_set_new(extra, rows->names[f], json_string(text));
	}
	if (!failed && json_object_size(extra)) {
		r->extra = json_dumps(extra, JSON_COMPACT);
		failed = !r->extra;
	}
	json_decref(extra);
	return failed ? hd_fail(HD_E_MEMORY, "%s: out of host memory", row->place) : HD_OK;
}

static hd_status check_texts(const hd_rows *rows, const hd_row *row)
{
	for (size_t f = 0; f < row->count && f < rows->count; f++)
		if (row->fields[f] && !is_utf8(row->fields[f]))
			return hd_fail(
			        HD_E_DATA, "%s: column '%s' is no UTF-8; save it as UTF-8", row->place, rows->names[f]);
	const char *split = field(rows, row, HD_COLUMN_SPLIT);
	if (split[0] && hd_split_parse(split) < 0)
		return hd_fail(HD_E_DATA, "%s: split '%s' is none of train, val and test", row->place, split);
	return HD_OK;
}

static hd_status take_texts(hd_recording *r, const hd_rows *rows, const hd_row *row)
{
	hd_status st;
	char number[24];
	const char *id = field(rows, row, HD_COLUMN_ID), *session = field(rows, row, HD_COLUMN_SESSION);
	const char *emission = field(rows, row, HD_COLUMN_EMISSION), *receiver = field(rows, row, HD_COLUMN_RECEIVER);
	const char *iq = field(rows, row, HD_COLUMN_IQ), *source = field(rows, row, HD_COLUMN_SOURCE);
	const char *version = field(rows, row, HD_COLUMN_VERSION);
	snprintf(number, sizeof number, "%zu", rows->catalog->count);
	HD_TRY(hd_strdup(&r->id, id[0] ? id : number));
	HD_TRY(hd_strdup(&r->session, session[0] ? session : r->id));
	HD_TRY(hd_strdup(&r->emission, emission[0] ? emission : r->session));
	HD_TRY(hd_strdup(&r->receiver, receiver[0] ? receiver : "0"));
	HD_TRY(hd_strdup(&r->source, source[0] ? source : NULL));
	HD_TRY(hd_strdup(&r->version, version[0] ? version : NULL));
	if (stands_alone(iq))
		HD_TRY(hd_strdup(&r->iq, iq));
	else
		HD_TRY(hd_sprintf(&r->iq, "%s/%s", rows->folder, iq));
	HD_TRY(keep_extra(r, rows, row));
done:
	return st;
}

static void find_faults(hd_recording *r, const hd_rows *rows, const hd_row *row)
{
	if (row->skip != HD_SKIP_NONE)
		hd_recording_skip(r, row->skip, "%s: %s", row->place, row->reason ? row->reason : "");
	if (!r->approved)
		hd_recording_skip(r, HD_SKIP_NOT_APPROVED,
		        rows->known[HD_COLUMN_APPROVED] < 0
		                ? "%s: no column 'approved'; --assume_approved takes all as approved"
		                : "%s",
		        row->place);
	bool inside = fabs(r->latitude_deg) <= 90 && fabs(r->longitude_deg) <= 180;
	if (!inside || (r->latitude_deg == 0 && r->longitude_deg == 0))
		hd_recording_skip(r, HD_SKIP_BAD_POSITION, "%s: latitude '%s', longitude '%s'%s", row->place,
		        field(rows, row, HD_COLUMN_LATITUDE), field(rows, row, HD_COLUMN_LONGITUDE),
		        inside ? ": 0,0 is a missing position" : "");
	if (r->label_sigma_m < 0)
		hd_recording_skip(r, HD_SKIP_BAD_POSITION, "%s: label_sigma_m '%s' is negative", row->place,
		        field(rows, row, HD_COLUMN_LABEL_SIGMA));
	if (!r->iq[0])
		hd_recording_skip(r, HD_SKIP_MISSING_FILE, "%s: no iq file named", row->place);
}

hd_status hd_rows_add(hd_rows *rows, const hd_row *row)
{
	hd_catalog *c = rows->catalog;
	hd_status st;
	HD_TRY(check_texts(rows, row));
	HD_TRY(hd_grow(&c->recordings, &c->capacity, c->count + 1, sizeof *c->recordings));
	hd_recording *r = &c->recordings[c->count++];
	HD_TRY(take_texts(r, rows, row));
	r->sample_rate_hz = hd_number_parse(field(rows, row, HD_COLUMN_SAMPLE_RATE));
	r->sample_rate_hz = isfinite(r->sample_rate_hz) ? r->sample_rate_hz : 0;
	r->latitude_deg = hd_number_parse(field(rows, row, HD_COLUMN_LATITUDE));
	r->longitude_deg = hd_number_parse(field(rows, row, HD_COLUMN_LONGITUDE));
	r->label_sigma_m = hd_number_parse(field(rows, row, HD_COLUMN_LABEL_SIGMA));
	r->frequency_hz = parse_mhz(field(rows, row, HD_COLUMN_FREQUENCY_MHZ));
	r->snr_db = hd_number_parse(field(rows, row, HD_COLUMN_SNR_DB));
	r->timestamp_s = hd_time_parse(field(rows, row, HD_COLUMN_TIMESTAMP));
	r->split = hd_split_parse(field(rows, row, HD_COLUMN_SPLIT));
	r->approved = rows->known[HD_COLUMN_APPROVED] < 0 ? rows->assume_approved
	                                                  : hd_truth_parse(field(rows, row, HD_COLUMN_APPROVED)) == 1;
	find_faults(r, rows, row);
done:
	return st;
}

/* ---- the choice of reader and writer ---- */

static bool holds(const char *folder, const char *name)
{
	char path[4096];
	return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path && access(path, F_OK) == 0;
}

static bool holds_original(const char *folder)
{
	return holds(folder, "train") || holds(folder, "val") || holds(folder, "validation") || holds(folder, "test");
}

static hd_status read_found(hd_catalog *out, const char *path, bool assume_approved)
{
	struct stat info;
	if (stat(path, &info) != 0)
		return hd_fail(HD_E_DATA, "%s: no such catalogue: %s", path, strerror(errno));
	if (!S_ISDIR(info.st_mode)) {
		out->format = HD_CATALOG_SQLITE;
		return hd_catalog_sqlite_read(out, path, assume_approved);
	}
	if (holds(path, HD_MANIFEST)) {
		out->format = HD_CATALOG_FOLDER;
		return hd_manifest_read(out, path, assume_approved);
	}
	if (holds(path, HD_CATALOG_DATABASE)) {
		char *database;
		hd_status st = hd_sprintf(&database, "%s/" HD_CATALOG_DATABASE, path);
		out->format = HD_CATALOG_SQLITE;
		if (st == HD_OK)
			st = hd_catalog_sqlite_read(out, database, assume_approved);
		free(database);
		return st;
	}
	if (holds_original(path)) {
		out->format = HD_CATALOG_ORIGINAL;
		return hd_original_read(out, path);
	}
	return hd_fail(HD_E_DATA,
	        "%s is no folder of recordings: neither " HD_MANIFEST " nor " HD_CATALOG_DATABASE
	        " nor train, val or test is in it",
	        path);
}

hd_status hd_catalog_read(hd_catalog *out, const char *path, bool assume_approved)
{
	hd_status st;
	*out = (hd_catalog){0};
	HD_TRY(hd_strdup(&out->path, path));
	HD_TRY(read_found(out, path, assume_approved));
done:
	if (st != HD_OK)
		hd_catalog_free(out);
	return st;
}

hd_status hd_catalog_new_folder(const char *folder)
{
	if (!folder[0])
		return hd_fail(HD_E_USAGE, "no folder named to write the catalogue into; --out names it");
	if (holds(folder, HD_MANIFEST) || holds(folder, HD_CATALOG_DATABASE) || holds_original(folder))
		return hd_fail(HD_E_USAGE, "%s: holds a catalogue already; name another folder", folder);
	return hd_make_folders(folder);
}

hd_status hd_catalog_write(const char *folder, hd_catalog_format format, const hd_catalog *catalog,
        const struct hd_samples *samples, struct hd_store *store, hd_raw_format raw)
{
	hd_status st = hd_catalog_new_folder(folder);
	if (st != HD_OK)
		return st;
	switch (format) {
	case HD_CATALOG_FOLDER:
		return hd_manifest_write(folder, catalog);
	case HD_CATALOG_SQLITE:
		return hd_catalog_sqlite_write(folder, catalog);
	case HD_CATALOG_ORIGINAL:
		return hd_original_write(folder, catalog, samples, store, raw);
	case HD_CATALOG_POSTGRESQL:
		break; /* is no folder: hd_postgres_write */
	}
	return hd_fail(HD_E_USAGE, "%s: format %d of catalogues is not known", folder, (int)format);
}
