/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall catalog: what a catalogue holds, another format for it, what is wrong with it. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "heimdall/dataset.h"
#include "host/cli/catalog_check.h"
#include "host/cli/catalog_export.h"
#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/common/memory.h"
#include "host/data/catalog_rows.h"

#define WIDTH 80
#define NAME_WIDTH 24
#define SESSIONS_SHOWN 20
#define DETAILS_SHOWN 10
#define RATES_KEPT 4
#define UNDATED INT32_MAX

typedef struct receiver_row {
	const char *name;
	size_t recordings, used, sessions;
	double rates_hz[RATES_KEPT]; /* the first of the different ones, ascending */
	size_t rates;                /* how many there are */
} receiver_row;

typedef struct session_row {
	const char *name;
	size_t recordings, emissions;
} session_row;

typedef struct month_row {
	int month; /* 12 * year + month from 0, UNDATED last */
	size_t recordings;
} month_row;

typedef struct summary {
	const hd_catalog *catalog;
	receiver_row *receivers;
	size_t receiver_count;
	session_row *sessions;
	size_t session_count, emissions;
	month_row *months;
	size_t month_count;
	size_t positions;                /* recordings with one */
	double south, north, west, east; /* degrees; east may be above 180, across the antimeridian */
	double height_km, width_km;
	double low_hz, high_hz; /* NaN where no frequency is known */
	size_t skipped[HD_SKIP_COUNT];
	hd_split_size splits[HD_SPLIT_COUNT];
} summary;

/* ---- counting ---- */

static const char *receiver_of(const hd_catalog *c, size_t i)
{
	return c->recordings[i].receiver;
}

static int by_receiver(const void *a, const void *b, void *catalog)
{
	const hd_catalog *c = catalog;
	size_t i = *(const size_t *)a, j = *(const size_t *)b;
	int order = strverscmp(receiver_of(c, i), receiver_of(c, j));
	if (!order)
		order = strcmp(c->recordings[i].session, c->recordings[j].session);
	return order ? order : (i > j) - (i < j);
}

static int by_session(const void *a, const void *b, void *catalog)
{
	const hd_catalog *c = catalog;
	size_t i = *(const size_t *)a, j = *(const size_t *)b;
	int order = strverscmp(c->recordings[i].session, c->recordings[j].session);
	if (!order)
		order = strcmp(c->recordings[i].emission, c->recordings[j].emission);
	return order ? order : (i > j) - (i < j);
}

static int by_rate(const void *a, const void *b, void *catalog)
{
	const hd_catalog *c = catalog;
	size_t i = *(const size_t *)a, j = *(const size_t *)b;
	int order = strverscmp(receiver_of(c, i), receiver_of(c, j));
	double x = c->recordings[i].sample_rate_hz, y = c->recordings[j].sample_rate_hz;
	return order ? order : (x > y) - (x < y);
}

/* order is sorted by receiver and rate, as the receivers are. */
static void count_rates(summary *s, const size_t *order)
{
	const hd_recording *before = NULL;
	receiver_row *row = s->receivers;
	for (size_t k = 0; k < s->catalog->count; k++) {
		const hd_recording *r = &s->catalog->recordings[order[k]];
		bool another = !before || strcmp(before->receiver, r->receiver) != 0;
		row += before && another;
		if (r->sample_rate_hz > 0 && (another || before->sample_rate_hz != r->sample_rate_hz)) {
			if (row->rates < RATES_KEPT)
				row->rates_hz[row->rates] = r->sample_rate_hz;
			row->rates++;
		}
		before = r;
	}
}

/* order is sorted by receiver and session. */
static void count_receivers(summary *s, const size_t *order)
{
	const hd_recording *before = NULL;
	for (size_t k = 0; k < s->catalog->count; k++) {
		const hd_recording *r = &s->catalog->recordings[order[k]];
		bool another = !before || strcmp(before->receiver, r->receiver) != 0;
		receiver_row *row = &s->receivers[another ? s->receiver_count++ : s->receiver_count - 1];
		row->name = r->receiver;
		row->recordings++;
		row->used += r->skip == HD_SKIP_NONE;
		row->sessions += another || strcmp(before->session, r->session) != 0;
		before = r;
	}
}

/* order is sorted by session and emission. */
static void count_sessions(summary *s, const size_t *order)
{
	const hd_recording *before = NULL;
	for (size_t k = 0; k < s->catalog->count; k++) {
		const hd_recording *r = &s->catalog->recordings[order[k]];
		bool another = !before || strcmp(before->session, r->session) != 0;
		session_row *row = &s->sessions[another ? s->session_count++ : s->session_count - 1];
		bool emission = another || strcmp(before->emission, r->emission) != 0;
		row->name = r->session;
		row->recordings++;
		row->emissions += emission;
		s->emissions += emission;
		before = r;
	}
}

static int month_of(double seconds)
{
	struct tm tm;
	time_t clock = (time_t)floor(seconds);
	if (!(fabs(seconds) < 1e11) || !gmtime_r(&clock, &tm))
		return UNDATED;
	return (tm.tm_year + 1900) * 12 + tm.tm_mon;
}

static int by_month(const void *a, const void *b)
{
	int x = ((const month_row *)a)->month, y = ((const month_row *)b)->month;
	return (x > y) - (x < y);
}

static hd_status count_months(summary *s)
{
	size_t n = s->catalog->count, kept = 0;
	hd_status st = hd_alloc(&s->months, n, sizeof *s->months);
	if (st != HD_OK)
		return st;
	for (size_t i = 0; i < n; i++)
		s->months[i] = (month_row){month_of(s->catalog->recordings[i].timestamp_s), 1};
	qsort(s->months, n, sizeof *s->months, by_month);
	for (size_t i = 0; i < n; i++) {
		if (kept && s->months[kept - 1].month == s->months[i].month)
			s->months[kept - 1].recordings++;
		else
			s->months[kept++] = s->months[i];
	}
	s->month_count = kept;
	return HD_OK;
}

/* Longitudes are unwrapped around the first one, so that an area across the antimeridian stays small. */
static void measure(summary *s)
{
	double first = NAN;
	s->south = s->west = INFINITY;
	s->north = s->east = -INFINITY;
	s->low_hz = s->high_hz = NAN;
	for (size_t i = 0; i < s->catalog->count; i++) {
		const hd_recording *r = &s->catalog->recordings[i];
		s->low_hz = fmin(s->low_hz, r->frequency_hz);
		s->high_hz = fmax(s->high_hz, r->frequency_hz);
		bool inside = fabs(r->latitude_deg) <= 90 && fabs(r->longitude_deg) <= 180;
		if (!inside || r->skip == HD_SKIP_BAD_POSITION || (r->latitude_deg == 0 && r->longitude_deg == 0))
			continue;
		first = isnan(first) ? r->longitude_deg : first;
		double longitude = first + remainder(r->longitude_deg - first, 360);
		s->south = fmin(s->south, r->latitude_deg);
		s->north = fmax(s->north, r->latitude_deg);
		s->west = fmin(s->west, longitude);
		s->east = fmax(s->east, longitude);
		s->positions++;
	}
	double degree_km = M_PI / 180 * HD_EARTH_RADIUS_M / 1000;
	s->height_km = (s->north - s->south) * degree_km;
	s->width_km = (s->east - s->west) * degree_km * cos((s->south + s->north) / 2 * M_PI / 180);
}

static void free_summary(summary *s)
{
	free(s->receivers);
	free(s->sessions);
	free(s->months);
}

static hd_status summarise(summary *s, hd_catalog *catalog, const hd_samples *samples)
{
	hd_status st;
	size_t *order = NULL;
	s->catalog = catalog;
	HD_TRY(hd_alloc(&order, catalog->count, sizeof *order));
	HD_TRY(hd_alloc(&s->receivers, catalog->count, sizeof *s->receivers));
	HD_TRY(hd_alloc(&s->sessions, catalog->count, sizeof *s->sessions));
	for (size_t i = 0; i < catalog->count; i++)
		order[i] = i;
	hd_catalog_count_skips(s->skipped, catalog);
	qsort_r(order, catalog->count, sizeof *order, by_receiver, catalog);
	count_receivers(s, order);
	qsort_r(order, catalog->count, sizeof *order, by_rate, catalog);
	count_rates(s, order);
	qsort_r(order, catalog->count, sizeof *order, by_session, catalog);
	count_sessions(s, order);
	HD_TRY(count_months(s));
	measure(s);
	for (int k = 0; k < HD_SPLIT_COUNT; k++)
		s->splits[k] = hd_samples_split_size(samples, catalog, (hd_split)k);
done:
	free(order);
	return st;
}

/* ---- printing: at most 80 columns ---- */

static bool starts_character(char c)
{
	return ((unsigned char)c & 0xC0) != 0x80;
}

/* A name in NAME_WIDTH columns, cut with ".." where it is longer. */
static void print_name(const char *name)
{
	int columns = 0, length = 0;
	for (const char *c = name; *c; c++)
		length += starts_character(*c);
	int room = length > NAME_WIDTH ? NAME_WIDTH - 2 : NAME_WIDTH;
	for (; *name; name++) {
		columns += starts_character(*name);
		if (columns > room)
			break;
		putchar((unsigned char)*name < ' ' ? ' ' : *name);
	}
	if (length > NAME_WIDTH)
		fputs("..", stdout);
	for (; length < NAME_WIDTH; length++)
		putchar(' ');
}

/* A text in lines of at most 80 columns, broken at blanks where there are some. */
static void print_wrapped(const char *text, int indent)
{
	while (*text) {
		size_t bytes = 0, blank = 0;
		for (int columns = indent; text[bytes]; bytes++) {
			columns += starts_character(text[bytes]);
			if (columns > WIDTH)
				break;
			if (text[bytes] == ' ')
				blank = bytes;
		}
		if (text[bytes] && blank)
			bytes = blank;
		printf("%*s", indent, "");
		for (size_t i = 0; i < bytes; i++)
			putchar((unsigned char)text[i] < ' ' ? ' ' : text[i]);
		putchar('\n');
		text += bytes;
		text += *text == ' ';
	}
}

static void print_receivers(const summary *s)
{
	printf("\n%-*s %10s %10s %9s  %s\n", NAME_WIDTH, "receiver", "recordings", "used", "sessions", "rate, Hz");
	for (size_t i = 0; i < s->receiver_count; i++) {
		const receiver_row *row = &s->receivers[i];
		print_name(row->name);
		printf(" %10zu %10zu %7.1f %%  ", row->recordings, row->used,
		        100.0 * (double)row->sessions / (double)s->session_count);
		if (!row->rates)
			fputs("unknown", stdout);
		else if (row->rates == 1)
			printf("%.10g", row->rates_hz[0]);
		else
			printf("%.8g, %zu more", row->rates_hz[0], row->rates - 1);
		putchar('\n');
	}
}

static void print_sessions(const summary *s)
{
	printf("\n%-*s %10s %10s\n", NAME_WIDTH, "session", "recordings", "emissions");
	for (size_t i = 0; i < s->session_count && i < SESSIONS_SHOWN; i++) {
		print_name(s->sessions[i].name);
		printf(" %10zu %10zu\n", s->sessions[i].recordings, s->sessions[i].emissions);
	}
	if (s->session_count > SESSIONS_SHOWN)
		printf("and %zu more\n", s->session_count - SESSIONS_SHOWN);
}

static void month_text(char text[16], int month)
{
	if (month == UNDATED)
		snprintf(text, 16, "undated");
	else
		snprintf(text, 16, "%04d-%02d", month / 12, month % 12 + 1);
}

static void print_ranges(const summary *s)
{
	char text[16];
	printf("\n%-*s %10s\n", NAME_WIDTH, "month (UTC)", "recordings");
	for (size_t i = 0; i < s->month_count; i++) {
		month_text(text, s->months[i].month);
		printf("%-*s %10zu\n", NAME_WIDTH, text, s->months[i].recordings);
	}
	if (s->positions) {
		double middle = remainder((s->west + s->east) / 2, 360);
		printf("\nlatitude   %.6f .. %.6f\n", s->south, s->north);
		printf("longitude  %.6f .. %.6f\n", remainder(s->west, 360), remainder(s->east, 360));
		printf("area       %.3f km east-west, %.3f km north-south\n", s->width_km, s->height_km);
		printf("centre     %.6f, %.6f\n", (s->south + s->north) / 2, middle);
	} else {
		printf("\narea       no positions\n");
	}
	if (isfinite(s->low_hz))
		printf("frequency  %.9g .. %.9g MHz\n", s->low_hz / 1e6, s->high_hz / 1e6);
	else
		printf("frequency  unknown\n");
}

static void print_excluded(const summary *s)
{
	for (int k = 1; k < HD_SKIP_COUNT; k++) {
		size_t shown = 0;
		if (!s->skipped[k])
			continue;
		printf("\nnot used, %s: %zu\n", hd_skip_text((hd_skip)k), s->skipped[k]);
		for (size_t i = 0; i < s->catalog->count && shown < DETAILS_SHOWN; i++) {
			const hd_recording *r = &s->catalog->recordings[i];
			if ((int)r->skip != k)
				continue;
			print_wrapped(r->skip_detail ? r->skip_detail : r->id, 2);
			shown++;
		}
		if (s->skipped[k] > shown)
			printf("  and %zu more\n", s->skipped[k] - shown);
	}
}

static void print_summary(const summary *s)
{
	print_wrapped(s->catalog->path, 0);
	char counts[256];
	snprintf(counts, sizeof counts, "%s: %zu recordings, %zu used, %zu receivers, %zu sessions, %zu emissions",
	        hd_cli_format_name(s->catalog->format), s->catalog->count, s->skipped[HD_SKIP_NONE], s->receiver_count,
	        s->session_count, s->emissions);
	print_wrapped(counts, 0);
	print_receivers(s);
	print_sessions(s);
	print_ranges(s);
	print_excluded(s);
}

/* ---- JSON ---- */

static json_t *receivers_json(const summary *s)
{
	json_t *list = json_array();
	for (size_t i = 0; i < s->receiver_count; i++) {
		const receiver_row *row = &s->receivers[i];
		json_t *rates = json_array();
		for (size_t k = 0; k < row->rates && k < RATES_KEPT; k++)
			json_array_append_new(rates, json_real(row->rates_hz[k]));
		json_array_append_new(
		        list, json_pack("{s:s, s:I, s:I, s:I, s:f, s:o}", "receiver", row->name, "recordings",
		                      (json_int_t)row->recordings, "used", (json_int_t)row->used, "sessions",
		                      (json_int_t)row->sessions, "session_share",
		                      (double)row->sessions / (double)s->session_count, "sample_rates_hz", rates));
	}
	return list;
}

static json_t *sessions_json(const summary *s)
{
	json_t *list = json_array();
	for (size_t i = 0; i < s->session_count; i++)
		json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "session", s->sessions[i].name, "recordings",
		                                    (json_int_t)s->sessions[i].recordings, "emissions",
		                                    (json_int_t)s->sessions[i].emissions));
	return list;
}

static json_t *months_json(const summary *s)
{
	json_t *list = json_array();
	char text[16];
	for (size_t i = 0; i < s->month_count; i++) {
		month_text(text, s->months[i].month);
		json_array_append_new(list,
		        json_pack("{s:s, s:I}", "month", text, "recordings", (json_int_t)s->months[i].recordings));
	}
	return list;
}

static json_t *area_json(const summary *s)
{
	if (!s->positions)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "south_deg", s->south, "north_deg", s->north,
	        "west_deg", remainder(s->west, 360), "east_deg", remainder(s->east, 360), "width_km", s->width_km,
	        "height_km", s->height_km, "centre_latitude_deg", (s->south + s->north) / 2, "centre_longitude_deg",
	        remainder((s->west + s->east) / 2, 360));
}

static json_t *excluded_json(const summary *s)
{
	json_t *list = json_array();
	for (int k = 1; k < HD_SKIP_COUNT; k++)
		if (s->skipped[k])
			json_array_append_new(list, json_pack("{s:s, s:I}", "reason", hd_skip_text((hd_skip)k),
			                                    "recordings", (json_int_t)s->skipped[k]));
	return list;
}

static json_t *splits_json(const summary *s)
{
	json_t *object = json_object();
	for (int k = 0; k < HD_SPLIT_COUNT; k++)
		json_object_set_new(object, hd_split_name(k),
		        json_pack("{s:I, s:I, s:I}", "samples", (json_int_t)s->splits[k].samples, "sessions",
		                (json_int_t)s->splits[k].sessions, "recordings", (json_int_t)s->splits[k].recordings));
	return object;
}

static json_t *summary_json(const summary *s)
{
	json_t *path = json_string(s->catalog->path); /* NULL where it is no UTF-8 */
	json_t *frequency = isfinite(s->low_hz)
	                            ? json_pack("{s:f, s:f}", "low", s->low_hz / 1e6, "high", s->high_hz / 1e6)
	                            : json_null();
	return json_pack("{s:o, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "catalog",
	        path ? path : json_null(), "format", hd_cli_format_name(s->catalog->format), "recordings",
	        (json_int_t)s->catalog->count, "used", (json_int_t)s->skipped[HD_SKIP_NONE], "emissions",
	        (json_int_t)s->emissions, "receivers", receivers_json(s), "sessions", sessions_json(s), "months",
	        months_json(s), "area", area_json(s), "frequency_mhz", frequency, "left_out", excluded_json(s),
	        "splits", splits_json(s));
}

/* ---- actions ---- */

/* A catalogue of which nothing can be used is still shown, then reported as the error it is. */
static hd_status show(const hd_settings *s, const char *path)
{
	hd_status st, built;
	hd_catalog catalog = {0};
	hd_samples samples = {0};
	summary sum = {0};
	char why[1024];
	const hd_sample_config config = hd_sample_config_from(s);
	HD_TRY(hd_cli_read_catalog(&catalog, s, path));
	built = hd_samples_build(&samples, &catalog, &config);
	snprintf(why, sizeof why, "%s", built == HD_OK ? "" : hd_error_text());
	HD_TRY(summarise(&sum, &catalog, &samples));
	print_summary(&sum);
	if (built == HD_OK) {
		putchar('\n');
		hd_catalog_print(stdout, &catalog, &samples, false);
	}
	if (s->json[0])
		HD_TRY(hd_write_result(s->json, summary_json(&sum)));
	if (built != HD_OK)
		st = hd_fail(built, "%s", why);
done:
	free_summary(&sum);
	hd_samples_free(&samples);
	hd_catalog_free(&catalog);
	return st;
}

#define USAGE "catalog show|export|import|check DIR"

hd_status hd_cli_catalog(const hd_settings *s, const char **files, int count)
{
	const char *action = count ? files[0] : "";
	const char *const one[] = {s->data_dir};
	bool shows = !strcmp(action, "show");
	bool exports = !strcmp(action, "export") || !strcmp(action, "import"); /* one thing, seen from either side */
	if (!shows && !exports && strcmp(action, "check") != 0)
		return hd_fail(HD_E_USAGE, "%s%s%s" USAGE ": name one of them", action[0] ? "'" : "", action,
		        action[0] ? "' is no action; " : "");
	bool named = count > 1;
	if (!named && !s->data_dir[0])
		return hd_fail(HD_E_USAGE, "catalog %s DIR: name a catalogue", action);
	if (!shows && !exports)
		return hd_catalog_check(s, named ? files + 1 : (const char **)one, named ? count - 1 : 1);
	if (count > 2)
		return hd_fail(HD_E_USAGE, "catalog %s takes one catalogue, and '%s' is another", action, files[2]);
	return shows ? show(s, named ? files[1] : s->data_dir)
	             : hd_cli_catalog_export(s, named ? files[1] : s->data_dir);
}
