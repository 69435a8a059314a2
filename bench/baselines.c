/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What simple methods reach on measured levels, fold by fold, each trained on the other folds; and, beside them, the
 * pooled predictions of a trained network. Great-circle metres.
 *
 *   baselines --levels L --receivers R --folds F [--channels all|half] [--threads N] [--json OUT]
 *             [--predictions FILE...]
 *
 * channels half: receivers heard on at least half of all rows. predictions: what `heimdall eval --predictions` wrote,
 * one file per fold, from fold 0 on.
 */
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/geo.h"
#include "host/cli/result.h"
#include "host/common/first_error.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/statistics.h"
#include "host/data/csv.h"
#include "host/signal/fit.h"
#include "host/signal/levels.h"

#define GRID_M 40.0
#define MARGIN_M 150.0 /* of the grid around training rows and receivers */
#define NEAREST_MAX 9
#define COMMON_LEAST 5     /* receivers that two rows share at least to be neighbours, where the row has as many */
#define NOISE_CHANCE 0.006 /* of a reading below the limit, whatever the signal */
#define FEWEST_ROWS 20     /* of a law */
#define NEAR_M 100.0

typedef enum method { CENTRE, NEAREST_1, NEAREST_3, NEAREST_5, NEAREST_9, LATERATION, PROCESS, MODEL, METHODS } method;

static const char *const method_names[METHODS] = {
        "training centre", "1-NN", "3-NN", "5-NN", "9-NN", "multilateration", "Gaussian process", "model"};
static const char *const method_keys[METHODS] = {
        "centre", "nn1", "nn3", "nn5", "nn9", "multilateration", "gaussian_process", "model"};

typedef struct arguments {
	const char *levels, *receivers, *folds, *json;
	const char **predictions;
	int prediction_count, threads;
	bool half;
} arguments;

/* Errors of every method on every row, and the rows' folds. */
typedef struct outcomes {
	double *error_m[METHODS];
	int *fold;
	size_t count, model_count;
} outcomes;

/* Positions that a row is looked for at. */
typedef struct grid {
	double *north_m, *east_m;
	size_t count;
} grid;

/* What one fold's methods know. */
typedef struct fold {
	hd_fit fit;    /* of the other folds; its rows are the training rows */
	hd_levels all; /* every row */
	int number;
	const bool *used; /* (R) receivers in use */
	grid grid;
	float *law_db;  /* (R,grid) plain least-squares law */
	bool *has_law;  /* (R) */
	float *mean_db; /* (R,grid) */
	float *inverse; /* (R,grid) 1 / standard deviation */
	float *log_inverse;
} fold;

static hd_status make_grid(grid *g, const hd_fit *f)
{
	hd_status st;
	double north[2] = {INFINITY, -INFINITY}, east[2] = {INFINITY, -INFINITY};
	for (size_t i = 0; i < f->levels.count; i++) {
		north[0] = fmin(north[0], f->north_m[i]);
		north[1] = fmax(north[1], f->north_m[i]);
		east[0] = fmin(east[0], f->east_m[i]);
		east[1] = fmax(east[1], f->east_m[i]);
	}
	for (int r = 0; r < f->levels.R; r++) {
		north[0] = fmin(north[0], f->laws[r].north_m);
		north[1] = fmax(north[1], f->laws[r].north_m);
		east[0] = fmin(east[0], f->laws[r].east_m);
		east[1] = fmax(east[1], f->laws[r].east_m);
	}
	size_t rows = (size_t)((north[1] - north[0] + 2 * MARGIN_M) / GRID_M) + 1;
	size_t columns = (size_t)((east[1] - east[0] + 2 * MARGIN_M) / GRID_M) + 1;
	g->count = rows * columns;
	HD_TRY(hd_alloc(&g->north_m, g->count, sizeof *g->north_m));
	HD_TRY(hd_alloc(&g->east_m, g->count, sizeof *g->east_m));
	for (size_t i = 0; i < g->count; i++) {
		g->north_m[i] = north[0] - MARGIN_M + GRID_M * floor((double)i / (double)columns);
		g->east_m[i] = east[0] - MARGIN_M + GRID_M * (double)(i % columns);
	}
done:
	return st;
}

/* Level = a - 10 n log10(d) by ordinary least squares over the heard rows. */
static void fit_plain_law(fold *f, int r)
{
	double w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0;
	const hd_law *law = &f->fit.laws[r];
	for (size_t i = 0; i < f->fit.levels.count; i++) {
		double y = (double)f->fit.levels.rows[i].level_db[r];
		if (isnan(y))
			continue;
		double d = hypot(f->fit.north_m[i] - law->north_m, f->fit.east_m[i] - law->east_m);
		double x = 10 * log10(fmax(d, HD_FIT_NEAREST_M));
		w++;
		wx += x;
		wy += y;
		wxx += x * x;
		wxy += x * y;
	}
	if (w < 20)
		return;
	double xx = wxx - wx * wx / w, slope = (wxy - wx * wy / w) / xx, start = (wy - slope * wx) / w;
	f->has_law[r] = true;
	for (size_t g = 0; g < f->grid.count; g++) {
		double d = hypot(f->grid.north_m[g] - law->north_m, f->grid.east_m[g] - law->east_m);
		f->law_db[(size_t)r * f->grid.count + g] =
		        (float)(start + slope * 10 * log10(fmax(d, HD_FIT_NEAREST_M)));
	}
}

static hd_status map_receiver(fold *f, int r)
{
	hd_status st;
	size_t n = f->grid.count;
	double *mean = NULL, *variance = NULL;
	const hd_law *law = &f->fit.laws[r];
	if (!law->rows)
		return HD_OK;
	HD_TRY(hd_alloc(&mean, n, sizeof *mean));
	HD_TRY(hd_alloc(&variance, n, sizeof *variance));
	HD_TRY(hd_law_predict(law, f->grid.north_m, f->grid.east_m, n, mean, variance));
	double own = hd_law_emission_variance(&f->fit, law);
	for (size_t g = 0; g < n; g++) {
		double deviation = sqrt(variance[g] + own);
		f->mean_db[(size_t)r * n + g] = (float)mean[g];
		f->inverse[(size_t)r * n + g] = (float)(1 / deviation);
		f->log_inverse[(size_t)r * n + g] = (float)-log(deviation);
	}
done:
	free(variance);
	free(mean);
	return st;
}

/* log of the normal distribution function, from a table: a receiver that read noise. */
#define TABLE_LOW (-20.0)
#define TABLE_STEP 0.02
#define TABLE_POINTS 1201
static float log_phi_table[TABLE_POINTS];

static void make_log_phi(void)
{
	for (int i = 0; i < TABLE_POINTS; i++)
		log_phi_table[i] = (float)log(
		        NOISE_CHANCE + (1 - NOISE_CHANCE) * 0.5 * erfc(-(TABLE_LOW + TABLE_STEP * i) / M_SQRT2));
}

static float log_phi(float z)
{
	float at = (z - (float)TABLE_LOW) / (float)TABLE_STEP;
	at = fminf(fmaxf(at, 0), TABLE_POINTS - 1);
	return log_phi_table[(int)at];
}

/* Means of the 1, 2, ... nearest training rows, by the mean square over the receivers that heard both. */
static void answer_nearest(
        const fold *f, const hd_level_row *row, double north_m[NEAREST_MAX], double east_m[NEAREST_MAX])
{
	int R = f->all.R, least = 0;
	double best[NEAREST_MAX];
	size_t which[NEAREST_MAX] = {0};
	for (int k = 0; k < NEAREST_MAX; k++)
		best[k] = INFINITY;
	for (int r = 0; r < R && least < COMMON_LEAST; r++)
		least += f->used[r] && !isnan(row->level_db[r]);
	for (size_t i = 0; i < f->fit.levels.count; i++) {
		const float *a = row->level_db, *b = f->fit.levels.rows[i].level_db;
		double sum = 0;
		int common = 0;
		for (int r = 0; r < R; r++) {
			double miss = (double)a[r] - (double)b[r];
			if (!f->used[r] || isnan(miss))
				continue;
			sum += miss * miss;
			common++;
		}
		sum = common >= least && common > 0 ? sum / common : INFINITY;
		if (sum >= best[NEAREST_MAX - 1])
			continue;
		int k = NEAREST_MAX - 1;
		for (; k > 0 && best[k - 1] > sum; k--) {
			best[k] = best[k - 1];
			which[k] = which[k - 1];
		}
		best[k] = sum;
		which[k] = i;
	}
	double north = 0, east = 0;
	for (int k = 0; k < NEAREST_MAX; k++) {
		north += f->fit.north_m[which[k]];
		east += f->fit.east_m[which[k]];
		north_m[k] = north / (k + 1);
		east_m[k] = east / (k + 1);
	}
}

/* The grid point whose levels by the laws are nearest. */
static void answer_lateration(const fold *f, const hd_level_row *row, float *cost, double *north_m, double *east_m)
{
	size_t n = f->grid.count, best = 0;
	memset(cost, 0, n * sizeof *cost);
	for (int r = 0; r < f->all.R; r++) {
		if (!f->used[r] || isnan(row->level_db[r]) || !f->has_law[r])
			continue;
		const float *law = f->law_db + (size_t)r * n;
		float level = row->level_db[r];
		for (size_t g = 0; g < n; g++)
			cost[g] += (level - law[g]) * (level - law[g]);
	}
	for (size_t g = 1; g < n; g++)
		best = cost[g] < cost[best] ? g : best;
	*north_m = f->grid.north_m[best];
	*east_m = f->grid.east_m[best];
}

/* Mean of the posterior over the grid; a reading below a receiver's limit says no more than that. */
static void answer_process(const fold *f, const hd_level_row *row, float *like, double *north_m, double *east_m)
{
	size_t n = f->grid.count;
	memset(like, 0, n * sizeof *like);
	for (int r = 0; r < f->all.R; r++) {
		const hd_law *law = &f->fit.laws[r];
		if (!f->used[r] || isnan(row->level_db[r]) || !law->rows)
			continue;
		const float *mean = f->mean_db + (size_t)r * n, *inverse = f->inverse + (size_t)r * n,
		            *log_inverse = f->log_inverse + (size_t)r * n;
		float level = row->level_db[r], limit = (float)law->limit_db;
		if (level < limit) {
			for (size_t g = 0; g < n; g++)
				like[g] += log_phi((limit - mean[g]) * inverse[g]);
		} else {
			for (size_t g = 0; g < n; g++) {
				float z = (level - mean[g]) * inverse[g];
				like[g] += log_inverse[g] - 0.5f * z * z;
			}
		}
	}
	float top = -INFINITY;
	for (size_t g = 0; g < n; g++)
		top = fmaxf(top, like[g]);
	double sum = 0, north = 0, east = 0;
	for (size_t g = 0; g < n; g++) {
		double w = exp((double)(like[g] - top));
		sum += w;
		north += w * f->grid.north_m[g];
		east += w * f->grid.east_m[g];
	}
	*north_m = north / sum;
	*east_m = east / sum;
}

static double error_of(const fold *f, const hd_level_row *row, double north_m, double east_m)
{
	double latitude, longitude;
	hd_geo_from_local_m(&f->fit.frame, north_m, east_m, &latitude, &longitude);
	return hd_geo_distance_m(row->latitude_deg, row->longitude_deg, latitude, longitude);
}

/* ---- one fold ---- */

static void close_fold(fold *f)
{
	free(f->log_inverse);
	free(f->inverse);
	free(f->mean_db);
	free(f->has_law);
	free(f->law_db);
	free(f->grid.east_m);
	free(f->grid.north_m);
	hd_levels_free(&f->all);
	hd_fit_free(&f->fit);
}

/* Fits everything to the other folds. */
static hd_status open_fold(fold *f, const arguments *a, int number, const bool *used)
{
	hd_status st;
	hd_levels train;
	hd_first_error error = {HD_OK};
	*f = (fold){.used = used, .number = number};
	HD_TRY(hd_levels_read(&f->all, a->levels, a->receivers, a->folds));
	HD_TRY(hd_levels_read(&train, a->levels, a->receivers, a->folds));
	st = hd_levels_leave_out(&train, number);
	if (st != HD_OK) {
		hd_levels_free(&train);
		goto done;
	}
	HD_TRY(hd_fit_levels(&f->fit, &train, a->threads));
	HD_TRY(make_grid(&f->grid, &f->fit));
	size_t R = (size_t)f->all.R, n = R * f->grid.count;
	HD_TRY(hd_alloc(&f->law_db, n, sizeof *f->law_db));
	HD_TRY(hd_alloc(&f->has_law, R, sizeof *f->has_law));
	HD_TRY(hd_alloc(&f->mean_db, n, sizeof *f->mean_db));
	HD_TRY(hd_alloc(&f->inverse, n, sizeof *f->inverse));
	HD_TRY(hd_alloc(&f->log_inverse, n, sizeof *f->log_inverse));
#pragma omp parallel for schedule(dynamic, 1)
	for (int r = 0; r < f->all.R; r++) {
		fit_plain_law(f, r);
		hd_first_error_note(&error, map_receiver(f, r));
	}
	st = hd_first_error_take(&error);
done:
	return st;
}

/* Every method's error on row i, as outcome k. */
static void answer_row(outcomes *o, size_t k, const fold *f, const hd_level_row *row, float *scratch)
{
	static const method nearest[] = {NEAREST_1, NEAREST_3, NEAREST_5, NEAREST_9};
	static const int neighbours[] = {1, 3, 5, 9};
	double north_m[NEAREST_MAX], east_m[NEAREST_MAX];
	o->fold[k] = f->number;
	/* the frame's origin is the mean of the training rows */
	o->error_m[CENTRE][k] = error_of(f, row, 0, 0);
	answer_nearest(f, row, north_m, east_m);
	for (int i = 0; i < 4; i++)
		o->error_m[nearest[i]][k] = error_of(f, row, north_m[neighbours[i] - 1], east_m[neighbours[i] - 1]);
	answer_lateration(f, row, scratch, north_m, east_m);
	o->error_m[LATERATION][k] = error_of(f, row, north_m[0], east_m[0]);
	answer_process(f, row, scratch, north_m, east_m);
	o->error_m[PROCESS][k] = error_of(f, row, north_m[0], east_m[0]);
}

static hd_status run_fold(outcomes *o, const arguments *a, int number, const bool *used)
{
	hd_status st;
	hd_first_error error = {HD_OK};
	fold f;
	size_t *rows = NULL, m = 0;
	HD_TRY(open_fold(&f, a, number, used));
	HD_TRY(hd_alloc(&rows, f.all.count, sizeof *rows));
	for (size_t i = 0; i < f.all.count; i++)
		if (f.all.hours[f.all.rows[i].hour].fold == number)
			rows[m++] = i;
#pragma omp parallel
	{
		float *scratch = NULL;
		hd_status own = hd_alloc(&scratch, f.grid.count, sizeof *scratch);
#pragma omp for schedule(dynamic, 16)
		for (size_t j = 0; j < m; j++)
			if (own == HD_OK)
				answer_row(o, o->count + j, &f, &f.all.rows[rows[j]], scratch);
		free(scratch);
		hd_first_error_note(&error, own);
	}
	o->count += m;
	hd_message("fold %d: %zu rows answered", number, m);
	st = hd_first_error_take(&error);
done:
	free(rows);
	close_fold(&f);
	return st;
}

/* ---- the network's answers ---- */

static hd_status read_predictions(outcomes *o, size_t room, const char *path, int number)
{
	static const char *const names[] = {"latitude", "longitude", "predicted_latitude", "predicted_longitude"};
	hd_status st;
	hd_csv csv = {0};
	int more;
	size_t column[4] = {SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX};
	HD_TRY(hd_csv_open(&csv, path));
	HD_TRY(hd_csv_next(&csv, &more));
	for (size_t f = 0; more && f < csv.field_count; f++)
		for (int c = 0; c < 4; c++)
			column[c] = strcmp(csv.fields[f], names[c]) ? column[c] : f;
	for (;;) {
		double value[4];
		HD_TRY(hd_csv_next(&csv, &more));
		if (!more)
			break;
		for (int c = 0; c < 4; c++) {
			char *end = NULL;
			value[c] = column[c] < csv.field_count ? strtod(csv.fields[column[c]], &end) : 0;
			if (!end || end == csv.fields[column[c]] || *end) {
				st = hd_fail(HD_E_DATA, "%s:%zu: no number in column '%s'", path, csv.line, names[c]);
				goto done;
			}
		}
		if (o->model_count == room) {
			st = hd_fail(HD_E_DATA, "%s:%zu: more predictions than rows of levels", path, csv.line);
			goto done;
		}
		o->fold[o->model_count + room] = number;
		o->error_m[MODEL][o->model_count++] = hd_geo_distance_m(value[0], value[1], value[2], value[3]);
	}
done:
	hd_csv_close(&csv);
	return st;
}

/* ---- table ---- */

/* One line of the table; its numbers as JSON too. */
static hd_status report_method(json_t *to, method m, const double *error_m, const int *folds, size_t n, int fold_count)
{
	double *sorted, sum = 0, near = 0;
	hd_status st = hd_alloc(&sorted, n, sizeof *sorted);
	if (st != HD_OK)
		return st;
	json_t *medians = json_array();
	for (size_t i = 0; i < n; i++) {
		sorted[i] = error_m[i];
		sum += error_m[i];
		near += error_m[i] < NEAR_M;
	}
	double median = hd_quantile(sorted, n, 0.5), p90 = hd_quantile(sorted, n, 0.9);
	printf("%-17s %6.0f %6.0f %6.0f %5.1f %% ", method_names[m], median, sum / (double)n, p90,
	        100 * near / (double)n);
	for (int k = 0; k < fold_count; k++) {
		size_t in = 0;
		for (size_t i = 0; i < n; i++)
			if (folds[i] == k)
				sorted[in++] = error_m[i];
		double of_fold = hd_quantile(sorted, in, 0.5);
		printf(" %5.0f", of_fold);
		json_array_append_new(medians, json_real(of_fold));
	}
	printf("\n");
	json_object_set_new(to, method_keys[m],
	        json_pack("{s:f, s:f, s:f, s:f, s:I, s:o}", "median_m", median, "mean_m", sum / (double)n, "p90_m", p90,
	                "within_100m", near / (double)n, "rows", (json_int_t)n, "fold_median_m", medians));
	free(sorted);
	return HD_OK;
}

static hd_status report(const outcomes *o, const arguments *a, size_t room, int receivers, int fold_count)
{
	hd_status st = HD_OK;
	json_t *json = json_object();
	printf("%zu rows, %d receivers heard on %s; metres\n", o->count, receivers,
	        a->half ? "at least half of them" : "any");
	printf("%-17s %6s %6s %6s %7s  median per fold\n", "", "median", "mean", "P90", "<100 m");
	for (int m = 0; m < MODEL; m++)
		HD_TRY(report_method(json, (method)m, o->error_m[m], o->fold, o->count, fold_count));
	if (o->model_count)
		HD_TRY(report_method(json, MODEL, o->error_m[MODEL], o->fold + room, o->model_count, fold_count));
	if (o->model_count && o->model_count != o->count)
		hd_warn("the model answered %zu of %zu rows", o->model_count, o->count);
	return hd_write_result(a->json ? a->json : "", json);
done:
	json_decref(json);
	return st;
}

/* ---- the run ---- */

static hd_status parse_arguments(arguments *a, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		const struct {
			const char *flag;
			const char **to;
		} texts[] = {{"--levels", &a->levels}, {"--receivers", &a->receivers}, {"--folds", &a->folds},
		        {"--json", &a->json}};
		bool known = false;
		for (size_t k = 0; value && k < sizeof texts / sizeof *texts; k++) {
			if (strcmp(argv[i], texts[k].flag) != 0)
				continue;
			*texts[k].to = value;
			known = true;
		}
		if (!known && value && !strcmp(argv[i], "--threads")) {
			a->threads = (int)strtol(value, NULL, 10);
			known = true;
		} else if (!known && value && !strcmp(argv[i], "--channels") &&
		           (!strcmp(value, "half") || !strcmp(value, "all"))) {
			a->half = !strcmp(value, "half");
			known = true;
		} else if (!known && value && !strcmp(argv[i], "--predictions")) {
			a->predictions = (const char **)&argv[i + 1];
			while (i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0) {
				a->prediction_count++;
				i++;
			}
			continue;
		}
		if (!known)
			return hd_fail(HD_E_USAGE,
			        "%s: baselines --levels L --receivers R --folds F [--channels all|half] "
			        "[--threads N] [--json OUT] [--predictions FILE...]",
			        argv[i]);
		i++;
	}
	if (!a->levels || !a->receivers || !a->folds)
		return hd_fail(HD_E_USAGE, "--levels, --receivers and --folds are needed");
	return HD_OK;
}

/* Which receivers are in use, and how many. */
static int choose_receivers(bool *used, const hd_levels *l, bool half)
{
	int count = 0;
	for (int r = 0; r < l->R; r++) {
		size_t n = 0;
		for (size_t i = 0; i < l->count; i++)
			n += !isnan(l->rows[i].level_db[r]);
		used[r] = half ? 2 * n >= l->count : n > 0;
		count += used[r];
	}
	return count;
}

static hd_status run(int argc, char **argv)
{
	hd_status st;
	arguments a = {0};
	outcomes o = {0};
	hd_levels whole = {0};
	bool *used = NULL;
	int folds = 0;
	make_log_phi();
	HD_TRY(parse_arguments(&a, argc, argv));
	if (a.threads > 0)
		omp_set_num_threads(a.threads);
	HD_TRY(hd_levels_read(&whole, a.levels, a.receivers, a.folds));
	HD_TRY(hd_alloc(&used, (size_t)whole.R, sizeof *used));
	int receivers = choose_receivers(used, &whole, a.half);
	for (size_t h = 0; h < whole.hour_count; h++)
		folds = whole.hours[h].fold >= folds ? whole.hours[h].fold + 1 : folds;
	for (int m = 0; m < METHODS; m++)
		HD_TRY(hd_alloc(&o.error_m[m], whole.count, sizeof **o.error_m));
	HD_TRY(hd_alloc(&o.fold, 2 * whole.count, sizeof *o.fold));
	for (int k = 0; k < folds; k++)
		HD_TRY(run_fold(&o, &a, k, used));
	for (int k = 0; k < a.prediction_count; k++)
		HD_TRY(read_predictions(&o, whole.count, a.predictions[k], k));
	HD_TRY(report(&o, &a, whole.count, receivers, folds));
done:
	free(o.fold);
	for (int m = 0; m < METHODS; m++)
		free(o.error_m[m]);
	free(used);
	hd_levels_free(&whole);
	return st;
}

int main(int argc, char **argv)
{
	setlocale(LC_NUMERIC, "C");
	hd_status st = run(argc, argv);
	if (st != HD_OK)
		fprintf(stderr, "baselines: %s\n", hd_error_text());
	return hd_status_exit_code(st);
}
