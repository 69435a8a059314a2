/* SPDX-License-Identifier: Apache-2.0 */
/* What a check found, as text and as JSON. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "host/cli/catalog_check.h"
#include "host/cli/result.h"
#include "host/common/json.h"

#define MAX_LISTED 1000 /* recordings with findings; the rest is in the JSON */
#define TEXT_COLUMNS 80
#define INDENT 8

static const char *time_text(char text[32], double seconds)
{
	struct tm tm;
	time_t whole = isfinite(seconds) ? (time_t)floor(seconds) : 0;
	if (!isfinite(seconds) || !gmtime_r(&whole, &tm) || !strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(text, 32, "-");
	return text;
}

/* Words of text in lines of at most TEXT_COLUMNS, later lines indented. */
static void print_wrapped(FILE *to, const char *text, int column)
{
	bool first = true;
	while (*text) {
		int length = (int)strcspn(text, " ");
		if (!first && column + 1 + length > TEXT_COLUMNS) {
			fprintf(to, "\n%*s", INDENT, "");
			column = INDENT;
		} else if (!first) {
			fputc(' ', to);
			column++;
		}
		fprintf(to, "%.*s", length, text);
		column += length;
		text += length + (text[length] == ' ');
		first = false;
	}
	fputc('\n', to);
}

static void print_note(FILE *to, const hd_note *note)
{
	fprintf(to, "  %-4s  ", hd_severity_name(hd_finding_severity(note->finding)));
	print_wrapped(to, note->text, INDENT);
}

static size_t count_finding(const hd_check *check, hd_finding finding)
{
	size_t n = 0;
	for (size_t i = 0; i < check->count; i++)
		n += hd_notes_has(&check->rows[i].notes, finding);
	return n;
}

/* ---- of a catalogue ---- */

static void print_recordings(FILE *to, const hd_check *check)
{
	/* what every recording lacks is said once, in the counts */
	bool no_rate = count_finding(check, HD_FOUND_RATE_MISSING) == check->count;
	bool no_time = count_finding(check, HD_FOUND_TIME_MISSING) == check->count;
	size_t listed = 0, more = 0;
	for (size_t i = 0; i < check->count; i++) {
		const hd_checked *c = &check->rows[i];
		bool named = false;
		for (size_t k = 0; k < c->notes.count; k++) {
			const hd_note *note = &c->notes.list[k];
			if ((no_rate && note->finding == HD_FOUND_RATE_MISSING) ||
			        (no_time && note->finding == HD_FOUND_TIME_MISSING))
				continue;
			if (!named && listed == MAX_LISTED) {
				more++;
				break;
			}
			if (!named)
				fprintf(to, "%s  (session %s, receiver %s)\n", c->name, c->recording->session,
				        c->recording->receiver);
			listed += !named;
			named = true;
			print_note(to, note);
		}
	}
	if (more)
		fprintf(to, "and %zu more recordings; --json lists all\n", more);
	if (listed)
		fputc('\n', to);
}

static void print_receivers(FILE *to, const hd_check *check)
{
	char text[32];
	fprintf(to, "%-20s %10s %6s %12s %8s\n", "receiver", "recordings", "sick", "level (dBFS)", "MAD (dB)");
	for (size_t i = 0; i < check->receiver_count; i++) {
		const hd_receiver_health *r = &check->receivers[i];
		fprintf(to, "%-20s %10zu %4.0f %% ", r->name, r->recordings,
		        100 * (double)r->sick / (double)r->recordings);
		if (r->read)
			fprintf(to, "%12.1f %8.1f\n", r->level_dbfs, r->mad_db);
		else
			fprintf(to, "%12s %8s\n", "-", "-");
		if (r->shift_db != 0)
			fprintf(to, "  warn  level shifts by %+.0f dB at %s\n", r->shift_db,
			        time_text(text, r->shift_s));
	}
	fputc('\n', to);
}

static void print_counts(FILE *to, const hd_check *check)
{
	for (int f = 0; f < HD_FINDING_COUNT; f++) {
		size_t n = count_finding(check, (hd_finding)f);
		if (n)
			fprintf(to, "%10zu  %-4s  %s\n", n, hd_severity_name(hd_finding_severity((hd_finding)f)),
			        hd_finding_text((hd_finding)f));
	}
	fprintf(to, "%zu recordings checked: %zu sick, %zu with warnings", check->count, check->sick, check->suspect);
	if (check->left_out)
		fprintf(to, "; %zu left out, not approved or filtered", check->left_out);
	fputc('\n', to);
}

void hd_check_print_catalog(FILE *to, const hd_check *check)
{
	print_recordings(to, check);
	print_receivers(to, check);
	print_counts(to, check);
}

/* ---- of files ---- */

static const char *dtype_name(hd_dtype dtype)
{
	switch (dtype) {
	case HD_F32:
		return "float32";
	case HD_F64:
		return "float64";
	case HD_I16:
		return "int16";
	case HD_I8:
		return "int8";
	case HD_U8:
		return "uint8";
	default:
		return "other";
	}
}

static void print_source(FILE *to, const hd_checked *c)
{
	const hd_iq_info *f = &c->info;
	char text[32];
	fprintf(to, "  format      %s, %s, %lld row%s of %lld samples\n", f->format, dtype_name(f->dtype),
	        (long long)f->rows, f->rows == 1 ? "" : "s", (long long)f->samples);
	fprintf(to, "  rate        ");
	if (isfinite(f->true_rate_hz))
		fprintf(to, "true %.2f Hz, ", f->true_rate_hz);
	if (f->sample_rate_hz > 0)
		fprintf(to, "header %.10g Hz\n", f->sample_rate_hz);
	else
		fprintf(to, "header none, taken as %.10g Hz\n", c->health.rate_hz);
	if (isfinite(f->frequency_hz))
		fprintf(to, "  centre      %.10g kHz\n", f->frequency_hz / 1e3);
	if (isfinite(f->start_s))
		fprintf(to, "  start       %s\n", time_text(text, f->start_s));
	if (f->stamps)
		fprintf(to, "  stamps      %lld, the first %lld stale, %lld gaps\n", (long long)f->stamps,
		        (long long)f->stale_stamps, (long long)f->gaps);
	if (isfinite(f->latitude_deg) && isfinite(f->longitude_deg))
		fprintf(to, "  position    %.6f, %.6f\n", f->latitude_deg, f->longitude_deg);
}

static void print_health(FILE *to, const hd_health *h)
{
	fprintf(to, "  duration    %.4g s\n", h->duration_s);
	fprintf(to, "  level       %.1f dBFS, peak %.4g of full scale\n", h->level_dbfs, h->peak);
	fprintf(to, "  clipped     %.3g %% of the samples\n", 100 * h->clipped_share);
	fprintf(to, "  silent      %.3g %% of the time, exact zeros %.3g %% of the samples\n", 100 * h->silent_share,
	        100 * h->zero_share);
	fprintf(to, "  DC          %.1f dB of the whole power\n", h->dc_db);
	fprintf(to, "  I/Q         gain %+.2f dB, phase %+.2f degrees\n", h->gain_imbalance_db, h->phase_error_deg);
	if (h->jump_db != 0)
		fprintf(to, "  jump        %+.1f dB at sample %lld\n", h->jump_db, (long long)h->jump_sample);
	if (h->nonfinite)
		fprintf(to, "  NaN or inf  %lld values\n", (long long)h->nonfinite);
	fprintf(to, "  content     %016llx\n", (unsigned long long)h->hash);
}

void hd_check_print_files(FILE *to, const hd_check *check)
{
	for (size_t i = 0; i < check->count; i++) {
		const hd_checked *c = &check->rows[i];
		fprintf(to, "%s%s\n", i ? "\n" : "", c->name);
		if (c->read) {
			print_source(to, c);
			print_health(to, &c->health);
		}
		for (size_t k = 0; k < c->notes.count; k++)
			print_note(to, &c->notes.list[k]);
		if (!c->notes.count)
			fprintf(to, "  nothing found\n");
	}
	if (check->count > 1) {
		fputc('\n', to);
		print_counts(to, check);
	}
}

/* ---- JSON ---- */

static void lower(char text[64], const char *name)
{
	int i = 0;
	for (; i < 63 && name[i]; i++)
		text[i] = (char)tolower((unsigned char)name[i]);
	text[i] = 0;
}

static json_t *notes_json(const hd_notes *notes)
{
	json_t *list = json_array();
	for (size_t i = 0; i < notes->count; i++) {
		const hd_note *note = &notes->list[i];
		char name[64];
		lower(name, hd_finding_name(note->finding));
		json_array_append_new(
		        list, json_pack("{s:s, s:s, s:s}", "name", name, "severity",
		                      hd_severity_name(hd_finding_severity(note->finding)), "text", note->text));
	}
	return list;
}

static void add_info(json_t *o, const hd_iq_info *f)
{
	json_object_set_new(o, "format", json_string(f->format));
	json_object_set_new(o, "rows", json_integer(f->rows));
	json_object_set_new(o, "header_rate_hz", f->sample_rate_hz > 0 ? json_real(f->sample_rate_hz) : json_null());
	json_object_set_new(o, "true_rate_hz", hd_json_number(f->true_rate_hz));
	json_object_set_new(o, "frequency_hz", hd_json_number(f->frequency_hz));
	json_object_set_new(o, "start_s", hd_json_number(f->start_s));
	json_object_set_new(o, "file_latitude_deg", hd_json_number(f->latitude_deg));
	json_object_set_new(o, "file_longitude_deg", hd_json_number(f->longitude_deg));
	json_object_set_new(o, "stamps", json_integer(f->stamps));
	json_object_set_new(o, "stale_stamps", json_integer(f->stale_stamps));
	json_object_set_new(o, "gaps", json_integer(f->gaps));
}

static void add_health(json_t *o, const hd_health *h)
{
	char hash[20];
	snprintf(hash, sizeof hash, "%016llx", (unsigned long long)h->hash);
	json_object_set_new(o, "dtype", json_string(dtype_name(h->dtype)));
	json_object_set_new(o, "samples", json_integer(h->samples));
	json_object_set_new(o, "rate_hz", h->rate_hz > 0 ? json_real(h->rate_hz) : json_null());
	json_object_set_new(o, "duration_s", hd_json_number(h->duration_s));
	json_object_set_new(o, "level_dbfs", hd_json_number(h->level_dbfs));
	json_object_set_new(o, "peak", hd_json_number(h->peak));
	json_object_set_new(o, "clipped_share", hd_json_number(h->clipped_share));
	json_object_set_new(o, "silent_share", hd_json_number(h->silent_share));
	json_object_set_new(o, "dead_share", hd_json_number(h->dead_share));
	json_object_set_new(o, "dc_steady_share", hd_json_number(h->dc_steady_share));
	json_object_set_new(o, "imbalance_sure", json_boolean(h->imbalance_sure));
	json_object_set_new(o, "longest_silence_samples", json_integer(h->longest_silence));
	json_object_set_new(o, "zero_share", hd_json_number(h->zero_share));
	json_object_set_new(o, "longest_zeros_samples", json_integer(h->longest_zeros));
	json_object_set_new(o, "dc_db", hd_json_number(h->dc_db));
	json_object_set_new(o, "gain_imbalance_db", hd_json_number(h->gain_imbalance_db));
	json_object_set_new(o, "phase_error_deg", hd_json_number(h->phase_error_deg));
	json_object_set_new(o, "jump_db", hd_json_number(h->jump_db));
	json_object_set_new(o, "jump_sample", json_integer(h->jump_sample));
	json_object_set_new(o, "nonfinite", json_integer(h->nonfinite));
	json_object_set_new(o, "constant", json_boolean(h->constant));
	json_object_set_new(o, "content", json_string(hash));
}

static json_t *row_json(const hd_checked *c)
{
	json_t *o = json_pack("{s:s, s:b}", "name", c->name, "sick", (int)hd_notes_sick(&c->notes));
	if (c->recording) {
		const hd_recording *r = c->recording;
		json_object_set_new(o, "id", json_string(r->id));
		json_object_set_new(o, "session", json_string(r->session));
		json_object_set_new(o, "emission", json_string(r->emission));
		json_object_set_new(o, "receiver", json_string(r->receiver));
		json_object_set_new(o, "latitude", hd_json_number(r->latitude_deg));
		json_object_set_new(o, "longitude", hd_json_number(r->longitude_deg));
		json_object_set_new(o, "timestamp_s", hd_json_number(r->timestamp_s));
	}
	if (c->read) {
		add_info(o, &c->info);
		add_health(o, &c->health);
	}
	json_object_set_new(o, "findings", notes_json(&c->notes));
	return o;
}

static json_t *receivers_json(const hd_check *check)
{
	json_t *list = json_array();
	for (size_t i = 0; i < check->receiver_count; i++) {
		const hd_receiver_health *r = &check->receivers[i];
		json_t *o = json_pack("{s:s, s:I, s:I, s:I}", "name", r->name, "recordings", (json_int_t)r->recordings,
		        "read", (json_int_t)r->read, "sick", (json_int_t)r->sick);
		json_object_set_new(o, "level_dbfs", hd_json_number(r->level_dbfs));
		json_object_set_new(o, "mad_db", hd_json_number(r->mad_db));
		json_object_set_new(o, "shift_db", hd_json_number(r->shift_db));
		json_object_set_new(o, "shift_s", hd_json_number(r->shift_s));
		json_array_append_new(list, o);
	}
	return list;
}

hd_status hd_check_write_json(const char *path, const hd_check *check)
{
	if (!path[0])
		return HD_OK;
	json_t *rows = json_array(), *findings = json_object();
	for (size_t i = 0; i < check->count; i++)
		json_array_append_new(rows, row_json(&check->rows[i]));
	for (int f = 0; f < HD_FINDING_COUNT; f++) {
		char name[64];
		lower(name, hd_finding_name((hd_finding)f));
		json_object_set_new(findings, name, json_integer((json_int_t)count_finding(check, (hd_finding)f)));
	}
	return hd_write_result(
	        path, json_pack("{s:s?, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "catalog", check->catalog, "checked",
	                      (json_int_t)check->count, "sick", (json_int_t)check->sick, "warned",
	                      (json_int_t)check->suspect, "left_out", (json_int_t)check->left_out, "findings", findings,
	                      "receivers", receivers_json(check), "recordings", rows));
}
