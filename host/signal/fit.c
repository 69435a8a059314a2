/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/fit.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/first_error.h"
#include "host/common/memory.h"
#include "host/common/statistics.h"
#include "host/signal/law.h"
#include "host/signal/random.h"

#define CELL_M 15.0
#define LEAST_ROWS 20 /* of a receiver, for a law */
#define LOW_PERCENTILE 0.02
#define FLOOR_ABOVE_DB 1.5 /* readings of noise alone spread by about 1 dB */
#define LIMIT_ABOVE_DB 3.0

/* ---- from rows to cells ---- */

/* Cells that hold rows, in random order; the order is the same for every receiver. */
typedef struct grouping {
	size_t *cell; /* (rows) */
	size_t count;
} grouping;

typedef struct keyed {
	int64_t north, east;
	int hour;
	uint32_t order;
	size_t row;
} keyed;

static int by_cell(const void *a, const void *b)
{
	const keyed *x = a, *y = b;
	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	if (x->north != y->north)
		return x->north < y->north ? -1 : 1;
	if (x->east != y->east)
		return x->east < y->east ? -1 : 1;
	return x->hour < y->hour ? -1 : x->hour > y->hour;
}

static hd_status group_rows(grouping *g, const hd_fit *f)
{
	hd_status st;
	keyed *keys = NULL;
	size_t rows = f->levels.count;
	HD_TRY(hd_alloc(&keys, rows, sizeof *keys));
	HD_TRY(hd_alloc(&g->cell, rows, sizeof *g->cell));
	for (size_t i = 0; i < rows; i++) {
		keys[i] = (keyed){(int64_t)floor(f->north_m[i] / CELL_M), (int64_t)floor(f->east_m[i] / CELL_M),
		        f->levels.rows[i].hour, 0, i};
		hd_random random = hd_random_start((uint64_t)keys[i].north, (uint64_t)keys[i].east);
		keys[i].order = hd_random_word(&random);
	}
	qsort(keys, rows, sizeof *keys, by_cell);
	for (size_t i = 0; i < rows; i++) {
		g->count += i == 0 || by_cell(&keys[i - 1], &keys[i]) != 0;
		g->cell[keys[i].row] = g->count - 1;
	}
done:
	free(keys);
	return st;
}

static void free_cells(hd_cells *c)
{
	free(c->hour);
	free(c->noise);
	free(c->pseudo);
	free(c->signal);
	free(c->readings);
	free(c->log_distance);
	free(c->level_db);
	free(c->east_m);
	free(c->north_m);
	*c = (hd_cells){0};
}

/* Means of what receiver r heard in each cell. */
static hd_status gather_cells(hd_cells *c, const hd_fit *f, const grouping *g, int r)
{
	hd_status st;
	double **arrays[] = {&c->north_m, &c->east_m, &c->level_db, &c->log_distance, &c->readings, &c->signal,
	        &c->pseudo, &c->noise};
	for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++)
		HD_TRY(hd_alloc(arrays[k], g->count, sizeof(double)));
	HD_TRY(hd_alloc(&c->hour, g->count, sizeof *c->hour));
	for (size_t i = 0; i < f->levels.count; i++) {
		double level = (double)f->levels.rows[i].level_db[r];
		if (isnan(level))
			continue;
		size_t k = g->cell[i];
		c->readings[k]++;
		c->hour[k] = f->levels.rows[i].hour;
		c->north_m[k] += f->north_m[i];
		c->east_m[k] += f->east_m[i];
		c->level_db[k] += level;
	}
	for (size_t k = 0; k < g->count; k++) {
		double n = c->readings[k];
		if (n == 0)
			continue;
		size_t to = c->count++;
		c->readings[to] = n;
		c->hour[to] = c->hour[k];
		c->north_m[to] = c->north_m[k] / n;
		c->east_m[to] = c->east_m[k] / n;
		c->level_db[to] = c->level_db[k] / n;
		c->log_distance[to] = hd_law_log_distance(&f->laws[r], c->north_m[to], c->east_m[to]);
	}
done:
	return st;
}

/* Floor and limit of every receiver, and which hours it was on in. */
static hd_status find_limits(hd_fit *f)
{
	hd_status st;
	double *heard = NULL;
	const hd_levels *l = &f->levels;
	HD_TRY(hd_alloc(&heard, l->count, sizeof *heard));
	for (int r = 0; r < l->R; r++) {
		size_t n = 0;
		for (size_t i = 0; i < l->count; i++) {
			if (isnan(l->rows[i].level_db[r]))
				continue;
			heard[n++] = (double)l->rows[i].level_db[r];
			if (l->rows[i].hour >= 0)
				f->online[l->rows[i].hour * l->R + r] = true;
		}
		if (n < LEAST_ROWS)
			continue;
		double low = hd_quantile(heard, n, LOW_PERCENTILE);
		f->laws[r].rows = (int64_t)n;
		f->laws[r].floor_db = low + FLOOR_ABOVE_DB;
		f->laws[r].limit_db = low + LIMIT_ABOVE_DB;
	}
done:
	free(heard);
	return st;
}

/* Spread of a cell's readings above the limit: per receiver, and the part that all receivers of a row share. */
static hd_status find_reading_spread(hd_fit *f, const grouping *g)
{
	hd_status st;
	const hd_levels *l = &f->levels;
	size_t R = (size_t)l->R;
	double *sum = NULL, *count = NULL, *squares = NULL, *freedom = NULL, shared = 0, pairs = 0;
	HD_TRY(hd_alloc(&sum, g->count * R, sizeof *sum));
	HD_TRY(hd_alloc(&count, g->count * R, sizeof *count));
	HD_TRY(hd_alloc(&squares, R, sizeof *squares));
	HD_TRY(hd_alloc(&freedom, R, sizeof *freedom));
	for (size_t i = 0; i < l->count; i++)
		for (size_t r = 0; r < R; r++) {
			double level = (double)l->rows[i].level_db[r];
			if (level >= f->laws[r].limit_db) { /* false for NaN */
				sum[g->cell[i] * R + r] += level;
				count[g->cell[i] * R + r]++;
			}
		}
	for (size_t i = 0; i < l->count; i++) {
		double all = 0, own = 0, terms = 0;
		for (size_t r = 0; r < R; r++) {
			double level = (double)l->rows[i].level_db[r], n = count[g->cell[i] * R + r];
			if (!(level >= f->laws[r].limit_db) || n < 2)
				continue;
			/* a deviation from a mean of n readings is smaller by sqrt((n - 1) / n) */
			double miss = level - sum[g->cell[i] * R + r] / n, square = miss * miss * n / (n - 1);
			squares[r] += square;
			freedom[r]++;
			all += miss * sqrt(n / (n - 1));
			own += square;
			terms++;
		}
		shared += all * all - own;
		pairs += terms * (terms - 1);
	}
	double every = 0, every_n = 0;
	for (size_t r = 0; r < R; r++) {
		every += squares[r];
		every_n += freedom[r];
	}
	/* shrunk towards the mean of all receivers, with the weight of ten readings; 2 dB where no cell has two */
	double mean = every_n > 0 ? every / every_n : 4;
	for (size_t r = 0; r < R; r++)
		f->laws[r].reading_db = sqrt((squares[r] + 10 * mean) / (freedom[r] + 10));
	f->common_db = pairs > 0 ? sqrt(fmin(fmax(shared / pairs, 0), mean)) : 0;
done:
	free(freedom);
	free(squares);
	free(count);
	free(sum);
	return st;
}

/*
 * Logistic regression by Newton steps over the rows of online hours. A wide normal prior keeps it finite where
 * every row was heard, and one on the slope says that stronger is not heard less.
 */
static hd_status fit_heard(hd_law *law, const hd_fit *f, int r)
{
	hd_status st;
	const hd_levels *l = &f->levels;
	double *mean = NULL;
	HD_TRY(hd_alloc(&mean, l->count, sizeof *mean));
	HD_TRY(hd_law_predict(law, f->north_m, f->east_m, l->count, mean, NULL));
	double b0 = 4, b1 = 0.1;
	for (int step = 0; step < 50; step++) {
		double g0 = (4 - b0) / 16, g1 = (0.1 - b1) / 0.04, h00 = 1.0 / 16, h01 = 0, h11 = 1 / 0.04;
		for (size_t i = 0; i < l->count; i++) {
			if (l->rows[i].hour < 0 || !f->online[l->rows[i].hour * l->R + r])
				continue;
			double x = hd_law_reading_db(law, mean[i]) - law->limit_db;
			double p = 1 / (1 + exp(-(b0 + b1 * x))), miss = !isnan(l->rows[i].level_db[r]) - p;
			g0 += miss;
			g1 += miss * x;
			h00 += p * (1 - p);
			h01 += p * (1 - p) * x;
			h11 += p * (1 - p) * x * x;
		}
		double det = h00 * h11 - h01 * h01;
		double d0 = (h11 * g0 - h01 * g1) / det, d1 = (h00 * g1 - h01 * g0) / det;
		double scale = fmin(1, 2 / fmax(fabs(d0), 1e-12));
		b0 += scale * d0;
		b1 += scale * d1;
		if (fabs(d0) + fabs(d1) < 1e-8)
			break;
	}
	law->heard_intercept = b0;
	law->heard_slope = fmax(b1, 0);
done:
	free(mean);
	return st;
}

static hd_status fit_receiver(hd_fit *f, const grouping *g, int r)
{
	hd_status st;
	hd_cells c = {0};
	hd_law *law = &f->laws[r];
	HD_TRY(gather_cells(&c, f, g, r));
	hd_law_fit(law, &c);
	HD_TRY(hd_law_fit_field(law, &c));
	HD_TRY(fit_heard(law, f, r));
done:
	free_cells(&c);
	return st;
}

static hd_status fit_receivers(hd_fit *f, const grouping *g, int threads)
{
	hd_first_error error = {HD_OK};
#pragma omp parallel num_threads(threads > 0 ? threads : omp_get_num_procs())
	{
		/* the library's own threads would change the order of its sums */
		omp_set_num_threads(1);
#pragma omp for schedule(dynamic, 1)
		for (int r = 0; r < f->levels.R; r++) {
			if (f->laws[r].rows)
				hd_first_error_note(&error, fit_receiver(f, g, r));
		}
	}
	return hd_first_error_take(&error);
}

hd_status hd_fit_levels(hd_fit *out, hd_levels *levels, int threads)
{
	hd_status st;
	grouping g = {0};
	double latitude = 0, longitude = 0;
	*out = (hd_fit){.levels = *levels};
	*levels = (hd_levels){0};
	const hd_levels *l = &out->levels;
	for (size_t i = 0; i < l->count; i++) {
		latitude += l->rows[i].latitude_deg / (double)l->count;
		longitude += l->rows[i].longitude_deg / (double)l->count;
	}
	out->frame = (hd_label_frame){latitude, longitude, 1};
	HD_TRY(hd_alloc(&out->north_m, l->count, sizeof *out->north_m));
	HD_TRY(hd_alloc(&out->east_m, l->count, sizeof *out->east_m));
	HD_TRY(hd_alloc(&out->laws, (size_t)l->R, sizeof *out->laws));
	HD_TRY(hd_alloc(&out->online, l->hour_count * (size_t)l->R, sizeof *out->online));
	for (size_t i = 0; i < l->count; i++)
		hd_geo_to_local_m(&out->frame, l->rows[i].latitude_deg, l->rows[i].longitude_deg, &out->north_m[i],
		        &out->east_m[i]);
	for (int r = 0; r < l->R; r++) {
		hd_law *law = &out->laws[r];
		law->receiver = l->receivers[r].name;
		hd_geo_to_local_m(&out->frame, l->receivers[r].latitude_deg, l->receivers[r].longitude_deg,
		        &law->north_m, &law->east_m);
	}
	HD_TRY(find_limits(out));
	int heard = 0;
	for (int r = 0; r < l->R; r++)
		heard += out->laws[r].rows > 0;
	if (!heard) {
		st = hd_fail(HD_E_DATA, "fit: no receiver has %d levels, too few for a path-loss law", LEAST_ROWS);
		goto done;
	}
	HD_TRY(group_rows(&g, out));
	HD_TRY(find_reading_spread(out, &g));
	HD_TRY(fit_receivers(out, &g, threads));
done:
	free(g.cell);
	if (st != HD_OK)
		hd_fit_free(out);
	return st;
}

void hd_fit_free(hd_fit *f)
{
	if (!f)
		return;
	for (int r = 0; f->laws && r < f->levels.R; r++) {
		free(f->laws[r].factor);
		free(f->laws[r].weights);
		free(f->laws[r].cell_east_m);
		free(f->laws[r].cell_north_m);
	}
	free(f->online);
	free(f->laws);
	free(f->east_m);
	free(f->north_m);
	hd_levels_free(&f->levels);
	*f = (hd_fit){0};
}

hd_status hd_fit_write(const hd_fit *f, const char *path)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for the fitted laws");
	fprintf(to, "receiver,a,n,sigma,D,nugget,rows,a_error,n_error,law_sigma,floor,reading,cells,heard_intercept,"
	            "heard_slope,hour\n");
	for (int r = 0; r < f->levels.R; r++) {
		const hd_law *l = &f->laws[r];
		if (l->rows)
			fprintf(to, "%s,%.4f,%.4f,%.4f,%.1f,%.4f,%lld,%.4f,%.4f,%.4f,%.2f,%.4f,%lld,%.4f,%.4f,%.4f\n",
			        l->receiver, l->a_db, l->n, l->field_db, l->length_m, l->nugget_db, (long long)l->rows,
			        l->a_error_db, l->n_error, l->sigma_db, l->floor_db, l->reading_db, (long long)l->cells,
			        l->heard_intercept, l->heard_slope, l->hour_db);
	}
	fclose(to);
	hd_status st = hd_file_write(path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	return st;
}

void hd_fit_print(FILE *to, const hd_fit *f)
{
	fprintf(to, "%-24s %7s %5s %7s %6s %8s %7s %6s\n", "receiver", "a dB", "n", "sigma dB", "D m", "nugget dB",
	        "floor dB", "rows");
	for (int r = 0; r < f->levels.R; r++) {
		const hd_law *l = &f->laws[r];
		if (l->rows)
			fprintf(to, "%-24.24s %7.1f %5.2f %8.1f %6.0f %9.1f %8.1f %6lld\n", l->receiver, l->a_db, l->n,
			        l->field_db, l->length_m, l->nugget_db, l->floor_db, (long long)l->rows);
	}
}
