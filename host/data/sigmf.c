/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SigMF: metadata in JSON (NAME.sigmf-meta) beside bare samples (NAME.sigmf-data).
 * Source: Signal Metadata Format Specification 1.2. The metadata are cut into their members here and each is
 * given to jansson alone, so that a file of any number of annotations needs the memory of one.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/data/iq_formats.h"

#define PATH_BYTES 4096
#define META_ENDING ".sigmf-meta"
#define DATA_ENDING ".sigmf-data"
#define ITEM_MAX_BYTES ((size_t)128 << 10) /* jansson takes up to 30 times as much */
#define DATATYPES "cf32, cf64 and ci16 with _le or _be, ci8 and cu8"

/* ---- names ---- */

static bool ends_with(const char *text, const char *ending)
{
	size_t n = strlen(text), m = strlen(ending);
	return n > m && !strcmp(text + n - m, ending);
}

bool hd_sigmf_meta_path(char meta[4096], const char *path)
{
	char data[PATH_BYTES + sizeof DATA_ENDING];
	meta[0] = 0;
	if (ends_with(path, META_ENDING) || ends_with(path, DATA_ENDING)) {
		/* both endings have one length */
		int stem = (int)(strlen(path) - strlen(META_ENDING));
		return snprintf(meta, PATH_BYTES, "%.*s" META_ENDING, stem, path) < PATH_BYTES;
	}
	if (access(path, F_OK) == 0 || strlen(path) + sizeof META_ENDING > PATH_BYTES)
		return false;
	snprintf(data, sizeof data, "%s" DATA_ENDING, path);
	snprintf(meta, PATH_BYTES, "%s" META_ENDING, path);
	if (access(meta, F_OK) == 0 && access(data, F_OK) == 0)
		return true;
	meta[0] = 0;
	return false;
}

/* ---- members ---- */

typedef struct span {
	const char *at, *end;
} span;

typedef struct recording {
	hd_source *meta;
	hd_iq_info *info;
	bool has_global, metadata_only;
	hd_dtype dtype;
	bool big_endian;
	int64_t channels, header_bytes, trailing_bytes;
	char dataset[256];
} recording;

/* The end, or the furthest that anything may reach: looking on would only fill memory with pages of the file. */
static const char *reach(const span *s)
{
	return (size_t)(s->end - s->at) > ITEM_MAX_BYTES ? s->at + ITEM_MAX_BYTES : s->end;
}

static void skip_space(span *s)
{
	const char *end = reach(s);
	while (s->at < end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
		s->at++;
}

static bool take(span *s, char c)
{
	skip_space(s);
	if (s->at >= s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

/* A string with its quotes. */
static bool take_string(span *out, span *s)
{
	skip_space(s);
	const char *end = reach(s);
	out->at = s->at;
	if (!take(s, '"'))
		return false;
	while (s->at < end && *s->at != '"')
		s->at += *s->at == '\\' && end - s->at > 1 ? 2 : 1;
	if (s->at >= end)
		return false;
	out->end = ++s->at;
	return true;
}

/* One value: up to the comma or bracket that ends it. What it holds is for jansson to judge. */
static bool take_value(span *out, span *s)
{
	span text, near = *s;
	int64_t depth = 0;
	skip_space(&near);
	near.end = reach(&near);
	out->at = near.at;
	for (; near.at < near.end; near.at++) {
		char c = *near.at;
		if (c == '"') {
			if (!take_string(&text, &near))
				return false;
			near.at--;
		} else if (c == '{' || c == '[') {
			depth++;
		} else if (depth == 0 && (c == ',' || c == '}' || c == ']')) {
			break;
		} else if (c == '}' || c == ']') {
			depth--;
		}
	}
	out->end = s->at = near.at;
	return depth == 0 && near.at < near.end && out->end > out->at;
}

static hd_status bad_json(const recording *r, const char *at, const char *what)
{
	return hd_fail(
	        HD_E_DATA, "is no valid JSON near byte %zu: %s", (size_t)(at - (const char *)r->meta->data), what);
}

/* The next value, read by jansson; the caller drops it. */
static hd_status parse_item(json_t **out, span *item, const recording *r, span *s)
{
	json_error_t error;
	*out = NULL;
	skip_space(s);
	const char *at = s->at;
	if (!take_value(item, s))
		return bad_json(r, at, "an item that is missing, cut or longer than 128 KiB");
	*out = json_loadb(item->at, (size_t)(item->end - item->at), JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	return *out ? HD_OK : bad_json(r, at + (error.position > 0 ? error.position : 0), error.text);
}

/* ---- meaning ---- */

/* A number of the object; *value stays where the key is missing. */
static hd_status number_of(double *value, const json_t *object, const char *key)
{
	const json_t *v = json_object_get(object, key);
	if (!v)
		return HD_OK;
	if (!json_is_number(v))
		return hd_fail(HD_E_DATA, "%s is no number", key);
	*value = json_number_value(v);
	return HD_OK;
}

static hd_status count_of(int64_t *value, const json_t *object, const char *key, int64_t low)
{
	const json_t *v = json_object_get(object, key);
	if (!v)
		return HD_OK;
	if (!json_is_integer(v) || json_integer_value(v) < low)
		return hd_fail(HD_E_DATA, "%s is no whole number from %lld on", key, (long long)low);
	*value = json_integer_value(v);
	return HD_OK;
}

static hd_status read_datatype(recording *r, const json_t *global)
{
	static const struct {
		const char *name;
		hd_dtype dtype;
	} types[] = {{"cf32", HD_F32}, {"cf64", HD_F64}, {"ci16", HD_I16}, {"ci8", HD_I8}, {"cu8", HD_U8}};
	const char *text = json_string_value(json_object_get(global, "core:datatype"));
	if (!text)
		return hd_fail(HD_E_DATA, "global: core:datatype is missing; known are " DATATYPES);
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		size_t length = strlen(types[i].name);
		if (strncmp(text, types[i].name, length) != 0)
			continue;
		const char *order = text + length;
		r->dtype = types[i].dtype;
		r->big_endian = !strcmp(order, "_be");
		if (r->big_endian || !strcmp(order, "_le") || (!*order && hd_dtype_bytes(r->dtype) == 1))
			return HD_OK;
	}
	return hd_fail(HD_E_DATA, "global: core:datatype '%.40s' %s; known are " DATATYPES, text,
	        text[0] == 'r' ? "is real, but IQ is complex" : "is not known");
}

static hd_status read_global(recording *r, const json_t *global)
{
	hd_status st;
	if (!json_is_object(global))
		return hd_fail(HD_E_DATA, "\"global\" is no object");
	HD_TRY(read_datatype(r, global));
	HD_TRY(number_of(&r->info->sample_rate_hz, global, "core:sample_rate"));
	if (r->info->sample_rate_hz < 0 || !isfinite(r->info->sample_rate_hz))
		return hd_fail(HD_E_DATA, "global: core:sample_rate of %g Hz", r->info->sample_rate_hz);
	HD_TRY(count_of(&r->channels, global, "core:num_channels", 1));
	HD_TRY(count_of(&r->trailing_bytes, global, "core:trailing_bytes", 0));
	r->metadata_only = json_is_true(json_object_get(global, "core:metadata_only"));
	const char *dataset = json_string_value(json_object_get(global, "core:dataset"));
	if (dataset && (strchr(dataset, '/') || strlen(dataset) >= sizeof r->dataset))
		return hd_fail(
		        HD_E_DATA, "global: core:dataset '%.60s' is no name of a file beside the metadata", dataset);
	snprintf(r->dataset, sizeof r->dataset, "%s", dataset ? dataset : "");
done:
	return st;
}

/* ISO 8601, as 2017-11-27T10:41:56.25Z, in UTC or with an offset; NaN for other texts. */
static double parse_datetime(const char *text)
{
	struct tm t = {0};
	char *end;
	const char *at = strptime(text, "%Y-%m-%d", &t);
	if (!at || (*at != 'T' && *at != ' '))
		return NAN;
	at = strptime(at + 1, "%H:%M:%S", &t);
	if (!at)
		return NAN;
	double seconds = 0, offset = 0;
	if (*at == '.') {
		seconds = strtod(at, &end);
		at = end;
	}
	if (*at == '+' || *at == '-') {
		int hours, minutes, used = 0;
		if (sscanf(at + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2)
			return NAN;
		offset = (*at == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
		at += 1 + used;
	} else if (*at == 'Z' || *at == 'z') {
		at++;
	}
	return *at ? NAN : (double)timegm(&t) + seconds - offset;
}

static hd_status read_capture(recording *r, size_t index, const json_t *capture)
{
	hd_status st;
	int64_t header_bytes = 0;
	if (!json_is_object(capture))
		return hd_fail(HD_E_DATA, "captures[%zu] is no object", index);
	HD_TRY(count_of(&header_bytes, capture, "core:header_bytes", 0));
	if (index > 0) {
		if (header_bytes)
			st = hd_fail(HD_E_DATA,
			        "captures[%zu]: core:header_bytes between samples cannot be read; cut the "
			        "recording into one file for each capture",
			        index);
		goto done;
	}
	r->header_bytes = header_bytes;
	HD_TRY(number_of(&r->info->frequency_hz, capture, "core:frequency"));
	const char *start = json_string_value(json_object_get(capture, "core:datetime"));
	if (start)
		r->info->start_s = parse_datetime(start);
done:
	return st;
}

/*
 * The position of what an annotation marks. The core:geolocation of global and of captures is the receiver's
 * (specification, Global Object) and does not pass here.
 */
static hd_status read_annotation(recording *r, size_t index, const json_t *annotation)
{
	hd_status st;
	double latitude = NAN, longitude = NAN;
	if (!json_is_object(annotation))
		return hd_fail(HD_E_DATA, "annotations[%zu] is no object", index);
	if (!isnan(r->info->latitude_deg))
		return HD_OK;
	HD_TRY(number_of(&latitude, annotation, "core:latitude"));
	HD_TRY(number_of(&longitude, annotation, "core:longitude"));
	const json_t *place = json_object_get(json_object_get(annotation, "core:geolocation"), "coordinates");
	if (json_is_number(json_array_get(place, 0)) && json_is_number(json_array_get(place, 1))) {
		longitude = json_number_value(json_array_get(place, 0));
		latitude = json_number_value(json_array_get(place, 1));
	}
	if (fabs(latitude) > 90 || fabs(longitude) > 180)
		return hd_fail(HD_E_DATA,
		        "annotations[%zu]: latitude %g, longitude %g is no place; GeoJSON's order is longitude, "
		        "latitude",
		        index, latitude, longitude);
	if (!isnan(latitude) && !isnan(longitude)) {
		r->info->latitude_deg = latitude;
		r->info->longitude_deg = longitude;
	}
done:
	return st;
}

/* ---- the file ---- */

static hd_status read_list(
        recording *r, span *s, const char *name, hd_status (*read)(recording *r, size_t index, const json_t *item))
{
	hd_status st = HD_OK;
	json_t *value = NULL;
	span item;
	if (!take(s, '['))
		return bad_json(r, s->at, name);
	for (size_t index = 0; !take(s, ']'); index++) {
		if (index > 0 && !take(s, ','))
			return bad_json(r, s->at, "a comma or ] is missing");
		HD_TRY(parse_item(&value, &item, r, s));
		HD_TRY(read(r, index, value));
		json_decref(value);
		value = NULL;
		hd_source_forget(r->meta, (size_t)(item.at - (const char *)r->meta->data));
	}
done:
	json_decref(value);
	return st;
}

static bool is_key(span key, const char *name)
{
	return (size_t)(key.end - key.at) == strlen(name) + 2 && !memcmp(key.at + 1, name, strlen(name));
}

static hd_status read_member(recording *r, span key, span *s)
{
	hd_status st;
	json_t *object = NULL;
	span value;
	if (is_key(key, "captures"))
		return read_list(r, s, "captures are a list", read_capture);
	if (is_key(key, "annotations"))
		return read_list(r, s, "annotations are a list", read_annotation);
	HD_TRY(parse_item(&object, &value, r, s));
	if (!is_key(key, "global"))
		goto done;
	if (r->has_global) {
		st = bad_json(r, key.at, "a second \"global\"");
		goto done;
	}
	r->has_global = true;
	st = read_global(r, object);
done:
	json_decref(object);
	return st;
}

static hd_status read_meta(recording *r)
{
	hd_status st = HD_OK;
	span s = {(const char *)r->meta->data, (const char *)r->meta->data + r->meta->bytes}, key;
	if (!take(&s, '{'))
		return bad_json(r, s.at, "SigMF metadata are an object");
	for (bool first = true; !take(&s, '}'); first = false) {
		if (!first && !take(&s, ','))
			return bad_json(r, s.at, "a comma or } is missing");
		if (!take_string(&key, &s) || !take(&s, ':'))
			return bad_json(r, s.at, "a name or : is missing");
		HD_TRY(read_member(r, key, &s));
	}
	skip_space(&s);
	if (s.at != s.end)
		return bad_json(r, s.at, "text behind the object");
	if (!r->has_global)
		return hd_fail(HD_E_DATA, "has no \"global\", which holds core:datatype");
done:
	return st;
}

/* The file of samples beside the metadata. */
static hd_status open_data(hd_source *data, char path[PATH_BYTES], const recording *r, const char *meta_path)
{
	const char *slash = strrchr(meta_path, '/'), *dot = strrchr(slash ? slash : meta_path, '.');
	int used, folder = slash ? (int)(slash + 1 - meta_path) : 0;
	int stem = dot ? (int)(dot - meta_path) : (int)strlen(meta_path);
	if (r->dataset[0])
		used = snprintf(path, PATH_BYTES, "%.*s%s", folder, meta_path, r->dataset);
	else
		used = snprintf(path, PATH_BYTES, "%.*s" DATA_ENDING, stem, meta_path);
	if (used >= PATH_BYTES)
		return hd_fail(HD_E_IO, "the name of its file of samples is too long");
	if (r->metadata_only || access(path, F_OK) != 0)
		return hd_fail(HD_E_DATA, "its file of samples %s is missing; fetch it too", path);
	const void *map;
	hd_status st = hd_file_map(&map, &data->bytes, path);
	data->data = map;
	return st;
}

hd_status hd_sigmf_parse(hd_layout *l, hd_iq_info *info, hd_source *data, hd_source *meta, const char *meta_path)
{
	char path[PATH_BYTES];
	recording r = {.meta = meta, .info = info, .channels = 1};
	info->format = "sigmf";
	hd_status st = read_meta(&r);
	if (st == HD_OK)
		st = open_data(data, path, &r, meta_path);
	if (st != HD_OK)
		return st;
	int64_t width = (int64_t)hd_dtype_bytes(r.dtype), bytes = (int64_t)data->bytes, frame;
	if (__builtin_mul_overflow(2 * width, r.channels, &frame))
		return hd_fail(HD_E_DATA, "global: core:num_channels %lld is impossible", (long long)r.channels);
	if (r.header_bytes > bytes || r.trailing_bytes > bytes - r.header_bytes)
		return hd_fail(HD_E_DATA, "%s: %lld bytes are less than its core:header_bytes and core:trailing_bytes",
		        path, (long long)bytes);
	bytes -= r.header_bytes + r.trailing_bytes;
	if (bytes % frame)
		return hd_fail(HD_E_DATA,
		        "%s: %lld bytes are not a whole number of samples of %lld bytes (%lld channels): truncated, or "
		        "of another core:datatype",
		        path, (long long)bytes, (long long)frame, (long long)r.channels);
	if (!bytes)
		return hd_fail(HD_E_DATA, "%s: holds no samples", path);
	hd_layout_pairs(l, r.dtype, r.channels, bytes / frame, data->data + r.header_bytes);
	l->swap = r.big_endian != HD_HOST_BIG_ENDIAN && width > 1;
	/* channels lie beside one another, sample for sample */
	l->row_step = 2 * width;
	l->sample_step = frame;
	return HD_OK;
}
