/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judges predictions on a synthetic data set against what its levels can tell at all: the maximum-likelihood
 * position under the true path-loss law, given the true mean levels, with the scenario's area as support.
 *
 *   oracle --data DIR --predictions FILE.csv --checkpoint FILE [--json FILE]
 */
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/checkpoint.h"
#include "heimdall/geo.h"
#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/statistics.h"
#include "host/data/csv.h"
#include "host/signal/scenario.h"

#define RECEIVERS_MAX 64
#define COARSE_M 1000.0
#define FINE_M 100.0
#define FINE_HALF 15 /* fine points to each side of the best coarse one */
#define METRES_PER_DEG (HD_EARTH_RADIUS_M * M_PI / 180.0)

typedef struct truth {
	char session[64];
	double level_dbm[RECEIVERS_MAX]; /* NaN where missing */
} truth;

typedef struct grid_point {
	double latitude_deg, longitude_deg;
	float level_dbm[RECEIVERS_MAX]; /* of the law, without shadowing */
} grid_point;

typedef struct judged {
	const truth *levels;
	double latitude_deg, longitude_deg;
	double model_m, centre_m, oracle_m;
} judged;

typedef struct oracle {
	hd_scenario scenario;
	truth *truths;
	size_t truth_count, truth_capacity;
	grid_point *grid;
	size_t grid_count;
	judged *rows;
	size_t row_count, row_capacity;
	double centre_latitude_deg, centre_longitude_deg;
} oracle;

typedef struct arguments {
	const char *data, *predictions, *checkpoint, *json;
} arguments;

static hd_status parse_arguments(arguments *a, int argc, char **argv)
{
	for (int i = 1; i < argc; i += 2) {
		const char **to = !strcmp(argv[i], "--data")          ? &a->data
		                  : !strcmp(argv[i], "--predictions") ? &a->predictions
		                  : !strcmp(argv[i], "--checkpoint")  ? &a->checkpoint
		                  : !strcmp(argv[i], "--json")        ? &a->json
		                                                      : NULL;
		if (!to || i + 1 == argc)
			return hd_fail(HD_E_USAGE, to ? "%s wants a value" : "unknown argument %s", argv[i]);
		*to = argv[i + 1];
	}
	if (!a->data || !a->predictions || !a->checkpoint)
		return hd_fail(
		        HD_E_USAGE, "usage: oracle --data DIR --predictions FILE.csv --checkpoint FILE [--json FILE]");
	return HD_OK;
}

/* Positions of the named columns; HD_E_DATA for one that is missing. */
static hd_status find_columns(size_t *out, hd_csv *csv, const char *const *names, size_t count)
{
	int more;
	hd_status st = hd_csv_next(csv, &more);
	if (st != HD_OK)
		return st;
	for (size_t k = 0; k < count; k++) {
		size_t f = 0;
		while (more && f < csv->field_count && strcmp(csv->fields[f], names[k]) != 0)
			f++;
		if (!more || f == csv->field_count)
			return hd_fail(HD_E_DATA, "%s: no column '%s'", csv->path, names[k]);
		out[k] = f;
	}
	return HD_OK;
}

/* A field of the last row, "" where the row is too short. */
static const char *text_at(const hd_csv *csv, size_t field)
{
	return field < csv->field_count ? csv->fields[field] : "";
}

static hd_status number(double *out, const hd_csv *csv, size_t field)
{
	char *end;
	const char *text = text_at(csv, field);
	*out = strtod(text, &end);
	if (end == text || *end || !isfinite(*out))
		return hd_fail(HD_E_DATA, "%s:%zu: '%s' is not a number", csv->path, csv->line, text);
	return HD_OK;
}

static int by_session(const void *a, const void *b)
{
	return strcmp(((const truth *)a)->session, ((const truth *)b)->session);
}

/* Receivers are named by their place in the scenario, from 1. -1 where there is none of that name. */
static int receiver_index(const hd_scenario *scenario, const char *name)
{
	char *end;
	long place = strtol(name, &end, 10);
	return *name && !*end && place >= 1 && (size_t)place <= scenario->receiver_count ? (int)place - 1 : -1;
}

/* Rows of one session stand together in truth.csv. */
static hd_status read_truth(oracle *o, const char *path)
{
	static const char *const names[] = {"session", "receiver", "mean_level_dbm"};
	hd_status st;
	hd_csv csv = {0};
	size_t column[3] = {0};
	int more;
	HD_TRY(hd_csv_open(&csv, path));
	HD_TRY(find_columns(column, &csv, names, 3));
	for (;;) {
		HD_TRY(hd_csv_next(&csv, &more));
		if (!more)
			break;
		double level;
		HD_TRY(number(&level, &csv, column[2]));
		const char *session = text_at(&csv, column[0]);
		int r = receiver_index(&o->scenario, text_at(&csv, column[1]));
		if (r < 0 || strlen(session) >= sizeof o->truths->session) {
			st = hd_fail(HD_E_DATA, "%s:%zu: receiver or session is not of this scenario", path, csv.line);
			goto done;
		}
		if (o->truth_count == 0 || strcmp(o->truths[o->truth_count - 1].session, session) != 0) {
			HD_TRY(hd_grow(&o->truths, &o->truth_capacity, o->truth_count + 1, sizeof *o->truths));
			truth *t = &o->truths[o->truth_count++];
			memcpy(t->session, session, strlen(session) + 1);
			for (int i = 0; i < RECEIVERS_MAX; i++)
				t->level_dbm[i] = NAN;
		}
		o->truths[o->truth_count - 1].level_dbm[r] = level;
	}
	qsort(o->truths, o->truth_count, sizeof *o->truths, by_session);
done:
	hd_csv_close(&csv);
	return st;
}

static hd_status read_predictions(oracle *o, const char *path)
{
	static const char *const names[] = {
	        "session", "latitude", "longitude", "predicted_latitude", "predicted_longitude"};
	hd_status st;
	hd_csv csv = {0};
	size_t column[5] = {0};
	int more;
	HD_TRY(hd_csv_open(&csv, path));
	HD_TRY(find_columns(column, &csv, names, 5));
	for (;;) {
		HD_TRY(hd_csv_next(&csv, &more));
		if (!more)
			break;
		truth key;
		double value[5];
		for (size_t k = 1; k < 5; k++)
			HD_TRY(number(&value[k], &csv, column[k]));
		snprintf(key.session, sizeof key.session, "%s", text_at(&csv, column[0]));
		const truth *levels = bsearch(&key, o->truths, o->truth_count, sizeof key, by_session);
		if (!levels) {
			st = hd_fail(
			        HD_E_DATA, "%s:%zu: session '%s' is not in truth.csv", path, csv.line, key.session);
			goto done;
		}
		HD_TRY(hd_grow(&o->rows, &o->row_capacity, o->row_count + 1, sizeof *o->rows));
		o->rows[o->row_count++] = (judged){
		        .levels = levels,
		        .latitude_deg = value[1],
		        .longitude_deg = value[2],
		        .model_m = hd_geo_distance_m(value[1], value[2], value[3], value[4]),
		        .centre_m =
		                hd_geo_distance_m(value[1], value[2], o->centre_latitude_deg, o->centre_longitude_deg),
		};
	}
	if (o->row_count == 0)
		st = hd_fail(HD_E_DATA, "%s: holds no predictions", path);
done:
	hd_csv_close(&csv);
	return st;
}

static double law_dbm(const hd_scenario *s, size_t r, double latitude_deg, double longitude_deg)
{
	const hd_site *site = &s->receivers[r];
	return hd_scenario_level_dbm(
	        s, hd_geo_distance_m(latitude_deg, longitude_deg, site->latitude_deg, site->longitude_deg));
}

static hd_status make_grid(oracle *o)
{
	const hd_scenario *s = &o->scenario;
	double middle = (s->latitude_min_deg + s->latitude_max_deg) / 2 * M_PI / 180.0;
	double height_deg = s->latitude_max_deg - s->latitude_min_deg,
	       width_deg = s->longitude_max_deg - s->longitude_min_deg;
	size_t rows = (size_t)(height_deg * METRES_PER_DEG / COARSE_M) + 2;
	size_t columns = (size_t)(width_deg * METRES_PER_DEG * cos(middle) / COARSE_M) + 2;
	hd_status st = hd_alloc(&o->grid, rows * columns, sizeof *o->grid);
	if (st != HD_OK)
		return st;
	o->grid_count = rows * columns;
#pragma omp parallel for
	for (size_t i = 0; i < rows * columns; i++) {
		size_t row = i / columns, column = i % columns;
		grid_point *p = &o->grid[i];
		p->latitude_deg = s->latitude_min_deg + height_deg * (double)row / (double)(rows - 1);
		p->longitude_deg = s->longitude_min_deg + width_deg * (double)column / (double)(columns - 1);
		for (size_t r = 0; r < s->receiver_count; r++)
			p->level_dbm[r] = (float)law_dbm(s, r, p->latitude_deg, p->longitude_deg);
	}
	return HD_OK;
}

/* Squared misfit in dB^2: the shadowing's sigma is one number, so the most likely point has the least misfit. */
static double misfit_at(const hd_scenario *s, const truth *t, double latitude_deg, double longitude_deg)
{
	double sum = 0;
	for (size_t r = 0; r < s->receiver_count; r++) {
		double d = t->level_dbm[r] - law_dbm(s, r, latitude_deg, longitude_deg);
		sum += isnan(d) ? 0 : d * d;
	}
	return sum;
}

static double misfit_on_grid(const hd_scenario *s, const truth *t, const grid_point *p)
{
	double sum = 0;
	for (size_t r = 0; r < s->receiver_count; r++) {
		double d = t->level_dbm[r] - (double)p->level_dbm[r];
		sum += isnan(d) ? 0 : d * d;
	}
	return sum;
}

static double clamp(double x, double low, double high)
{
	return fmin(fmax(x, low), high);
}

static double oracle_error_m(const oracle *o, const judged *row)
{
	const hd_scenario *s = &o->scenario;
	const grid_point *start = o->grid;
	double best = INFINITY;
	for (size_t i = 0; i < o->grid_count; i++) {
		double misfit = misfit_on_grid(s, row->levels, &o->grid[i]);
		if (misfit < best) {
			best = misfit;
			start = &o->grid[i];
		}
	}
	double latitude = start->latitude_deg, longitude = start->longitude_deg;
	double north_deg = FINE_M / METRES_PER_DEG, east_deg = north_deg / cos(start->latitude_deg * M_PI / 180.0);
	best = INFINITY;
	for (int i = -FINE_HALF; i <= FINE_HALF; i++) {
		for (int j = -FINE_HALF; j <= FINE_HALF; j++) {
			double north =
			        clamp(start->latitude_deg + i * north_deg, s->latitude_min_deg, s->latitude_max_deg);
			double east =
			        clamp(start->longitude_deg + j * east_deg, s->longitude_min_deg, s->longitude_max_deg);
			double misfit = misfit_at(s, row->levels, north, east);
			if (misfit < best) {
				best = misfit;
				latitude = north;
				longitude = east;
			}
		}
	}
	return hd_geo_distance_m(row->latitude_deg, row->longitude_deg, latitude, longitude);
}

static double mean(const double *values, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += values[i];
	return sum / (double)n;
}

static hd_status report(const oracle *o, const arguments *a)
{
	hd_status st;
	double *model = NULL, *centre = NULL, *best = NULL;
	json_t *json = NULL;
	char *text = NULL;
	size_t n = o->row_count;
	HD_TRY(hd_alloc(&model, n, sizeof *model));
	HD_TRY(hd_alloc(&centre, n, sizeof *centre));
	HD_TRY(hd_alloc(&best, n, sizeof *best));
	for (size_t i = 0; i < n; i++) {
		model[i] = o->rows[i].model_m;
		centre[i] = o->rows[i].centre_m;
		best[i] = o->rows[i].oracle_m;
	}
	double model_m = hd_quantile(model, n, 0.5), centre_m = hd_quantile(centre, n, 0.5),
	       best_m = hd_quantile(best, n, 0.5);
	printf("%zu samples              median      mean\n", n);
	printf("  model            %9.0f m %9.0f m\n", model_m, mean(model, n));
	printf("  training centre  %9.0f m %9.0f m\n", centre_m, mean(centre, n));
	printf("  oracle           %9.0f m %9.0f m\n", best_m, mean(best, n));
	printf("model / oracle %.2f, model / centre %.2f (medians)\n", model_m / best_m, model_m / centre_m);
	json = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:s}", "median_error_m", model_m, "mae_m",
	        mean(model, n), "centre_median_error_m", centre_m, "centre_mae_m", mean(centre, n),
	        "oracle_median_error_m", best_m, "oracle_mae_m", mean(best, n), "model_over_oracle", model_m / best_m,
	        "model_over_centre", model_m / centre_m, "samples", (json_int_t)n, "checkpoint_path", a->checkpoint);
	if (!json || !(text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(8)))) {
		st = hd_fail(
		        HD_E_FAILED, "the result cannot be written as JSON: a ratio is not finite, or memory ran out");
		goto done;
	}
	if (a->json) {
		hd_span spans[] = {{text, strlen(text)}, {"\n", 1}};
		HD_TRY(hd_file_write(a->json, spans, 2, 1));
	}
done:
	free(text);
	json_decref(json);
	free(best);
	free(centre);
	free(model);
	return st;
}

static hd_status run(oracle *o, int argc, char **argv)
{
	hd_status st;
	arguments a = {0};
	char *scenario_path = NULL, *truth_path = NULL;
	hd_checkpoint checkpoint = {0};
	HD_TRY(parse_arguments(&a, argc, argv));
	HD_TRY(hd_checkpoint_open(&checkpoint, a.checkpoint));
	o->centre_latitude_deg = checkpoint.card.centre_latitude_deg;
	o->centre_longitude_deg = checkpoint.card.centre_longitude_deg;
	HD_TRY(hd_sprintf(&scenario_path, "%s/scenario.yaml", a.data));
	HD_TRY(hd_sprintf(&truth_path, "%s/truth.csv", a.data));
	HD_TRY(hd_scenario_read(&o->scenario, scenario_path));
	if (o->scenario.receiver_count > RECEIVERS_MAX) {
		st = hd_fail(HD_E_DATA, "%s: more than %d receivers", scenario_path, RECEIVERS_MAX);
		goto done;
	}
	HD_TRY(read_truth(o, truth_path));
	HD_TRY(read_predictions(o, a.predictions));
	HD_TRY(make_grid(o));
#pragma omp parallel for schedule(dynamic, 1)
	for (size_t i = 0; i < o->row_count; i++)
		o->rows[i].oracle_m = oracle_error_m(o, &o->rows[i]);
	HD_TRY(report(o, &a));
done:
	hd_checkpoint_close(&checkpoint);
	free(truth_path);
	free(scenario_path);
	return st;
}

int main(int argc, char **argv)
{
	oracle o = {0};
	setlocale(LC_NUMERIC, "C");
	hd_status st = run(&o, argc, argv);
	if (st != HD_OK)
		fprintf(stderr, "oracle: %s\n", hd_error_text());
	free(o.rows);
	free(o.grid);
	free(o.truths);
	hd_scenario_free(&o.scenario);
	return hd_status_exit_code(st);
}
