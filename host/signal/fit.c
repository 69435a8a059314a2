/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/fit.h"

#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/signal/random.h"
#include "host/train/metrics.h"

#define CELL_M 15.0
#define LEAST_ROWS 20 /* of a receiver, for a law */
#define LOW_PERCENTILE 0.02
#define FLOOR_ABOVE_DB 1.5 /* readings of noise alone spread by about 1 dB */
#define LIMIT_ABOVE_DB 3.0
#define READING_NOISE_DB 1.0 /* of a reading of noise alone */
#define HUBER 1.345          /* 95 % efficiency (Huber 1981) */
#define HUBER_BETA 0.7102    /* E min(z^2, HUBER^2) of a standard normal z */
#define PRIOR_N 3.5          /* exponents of built-up areas, 2 to 5 (Rappaport 2002, table 4.2) */
#define PRIOR_N_ERROR 1.5
#define EVIDENCE_CELLS 500 /* that the covariance is chosen on */
#define LEAST_SLOPE 0.05   /* of L(S): what lies deeper in the noise tells nothing */
#define NEWTON_STEPS 6
#define BLOCK 128 /* positions of one triangular solve */
#define DRAW_STREAM 0x6c6576656c73ULL

/* The cells of one receiver. */
typedef struct cells {
	size_t count;
	double *north_m, *east_m, *level_db, *log_distance; /* 10 log10 m */
	double *readings;                                   /* in each */
	int *hour;
	double *signal, *pseudo, *noise; /* state of the Gauss-Newton steps */
} cells;

/* ---- the law ---- */

double hd_law_reading_db(const hd_law *law, double signal_db)
{
	double above = signal_db - law->floor_db;
	return above > 60 ? signal_db : law->floor_db + 10 * log10(1 + pow(10, above / 10));
}

static double log_distance(const hd_law *law, double north_m, double east_m)
{
	return 10 * log10(fmax(HD_FIT_NEAREST_M, hypot(north_m - law->north_m, east_m - law->east_m)));
}

double hd_law_signal_db(const hd_law *law, double north_m, double east_m)
{
	return law->a_db - law->n * log_distance(law, north_m, east_m);
}

double hd_law_emission_variance(const hd_fit *fit, const hd_law *law)
{
	double reading = law->reading_db * law->reading_db, common = fit->common_db * fit->common_db;
	return law->nugget_db * law->nugget_db + law->hour_db * law->hour_db + fmax(reading - common, 0.25 * reading);
}

/* Normal density over distribution function at z, for the mean of a truncated normal. */
static double mills(double z)
{
	if (z < -30) /* asymptotic series */
		return -z - 1 / z;
	return exp(-z * z / 2) / sqrt(2 * M_PI) / (0.5 * erfc(-z / M_SQRT2));
}

/* Sums of the weighted regression of signal on (1, -10 log10 d). */
typedef struct regression {
	double w, wx, wxx, wy, wxy;
	double squares;             /* for the next sigma */
	double psi_squares, linear; /* Huber's psi squared, and how many lie on its straight part */
	double uncensored, x, xx;
} regression;

static regression sum_regression(const hd_law *law, const cells *c)
{
	regression g = {0};
	for (size_t i = 0; i < c->count; i++) {
		double x = -c->log_distance[i], mean = law->a_db + law->n * x, s = law->sigma_db;
		double y = c->level_db[i], weight = 1;
		if (y < law->limit_db) {
			double z = (law->limit_db - mean) / s, lambda = mills(z);
			y = mean - s * lambda;
			g.squares += s * s * fmax(1 - z * lambda, 0);
		} else {
			double r = fabs(y - mean), psi = fmin(r, HUBER * s);
			weight = r > 0 ? psi / r : 1;
			g.squares += psi * psi / HUBER_BETA;
			g.psi_squares += psi * psi;
			g.linear += r < HUBER * s;
			g.uncensored++;
			g.x += x;
			g.xx += x * x;
		}
		g.w += weight;
		g.wx += weight * x;
		g.wxx += weight * x * x;
		g.wy += weight * y;
		g.wxy += weight * x * y;
	}
	return g;
}

/* Expectation and maximisation (Dempster 1977) with Huber's weights; converges from anywhere, slowly. */
static void fit_law(hd_law *law, const cells *c)
{
	double sum = 0, x = 0;
	for (size_t i = 0; i < c->count; i++) {
		sum += c->level_db[i];
		x += c->log_distance[i];
	}
	law->n = PRIOR_N;
	law->a_db = (sum + law->n * x) / (double)c->count;
	law->sigma_db = 10;
	regression g = {0};
	for (int step = 0; step < 1000; step++) {
		g = sum_regression(law, c);
		double prior = law->sigma_db * law->sigma_db / (PRIOR_N_ERROR * PRIOR_N_ERROR);
		double xx = g.wxx - g.wx * g.wx / g.w, xy = g.wxy - g.wx * g.wy / g.w;
		double n = (xy + prior * PRIOR_N) / (xx + prior), a = (g.wy - n * g.wx) / g.w;
		double sigma = fmax(0.01, sqrt(g.squares / (double)c->count));
		double change = fabs(n - law->n) + fabs(a - law->a_db) + fabs(sigma - law->sigma_db);
		law->n = n;
		law->a_db = a;
		law->sigma_db = sigma;
		if (change < 1e-5)
			break;
	}
	/* Huber 1981, eq. 7.6.8 without its small-sample factor */
	double m = g.uncensored, share = g.linear / m, centred = g.xx - g.x * g.x / m;
	double variance = g.psi_squares / fmax(m - 2, 1) / (share * share);
	law->n_error = sqrt(variance / centred);
	law->a_error_db = sqrt(variance * (1 / m + g.x * g.x / (m * m) / centred));
}

/* ---- the process ---- */

static double covariance(const hd_law *law, double north1, double east1, double north2, double east2)
{
	double north = north1 - north2, east = east1 - east2;
	return exp(-sqrt(north * north + east * east) / law->length_m);
}

/*
 * Factor (m,m) and weights (m) for the pseudo readings of the first m cells; log evidence (Rasmussen and Williams,
 * eq. 2.30) without its constant.
 */
static hd_status condition(
        double *evidence, double *factor, double *weights, const hd_law *law, const cells *c, size_t m)
{
	double field = law->field_db * law->field_db, hour = law->hour_db * law->hour_db, fit = 0, determinant = 0;
	for (size_t j = 0; j < m; j++) {
		factor[j * m + j] = field + hour + c->noise[j];
		for (size_t i = j + 1; i < m; i++)
			factor[j * m + i] =
			        field * covariance(law, c->north_m[i], c->east_m[i], c->north_m[j], c->east_m[j]) +
			        (c->hour[i] == c->hour[j] ? hour : 0);
		weights[j] = c->pseudo[j] - (law->a_db - law->n * c->log_distance[j]);
	}
	lapack_int size = (lapack_int)m;
	lapack_int info = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', size, factor, size);
	if (!info)
		info = LAPACKE_dtrtrs_work(LAPACK_COL_MAJOR, 'L', 'N', 'N', size, 1, factor, size, weights, size);
	if (!info) {
		for (size_t i = 0; i < m; i++) {
			fit += weights[i] * weights[i];
			determinant += log(factor[i * m + i]);
		}
		info = LAPACKE_dtrtrs_work(LAPACK_COL_MAJOR, 'L', 'T', 'N', size, 1, factor, size, weights, size);
	}
	if (info)
		return hd_fail(HD_E_NONFINITE, "receiver '%s': its covariance of %zu cells cannot be factored (%d)",
		        law->receiver, m, (int)info);
	*evidence = -fit / 2 - determinant;
	return HD_OK;
}

/* Straight line through L(S) at the present signal: what a reading says of S, and how surely. */
static void linearise(const hd_law *law, cells *c)
{
	double nugget = law->nugget_db * law->nugget_db, reading = law->reading_db * law->reading_db;
	for (size_t i = 0; i < c->count; i++) {
		double noise_share = 1 / (1 + pow(10, (c->signal[i] - law->floor_db) / 10));
		double slope = fmax(1 - noise_share, LEAST_SLOPE);
		double miss = c->level_db[i] - hd_law_reading_db(law, c->signal[i]);
		double spread = READING_NOISE_DB * noise_share / slope;
		c->pseudo[i] = c->signal[i] + miss / slope;
		c->noise[i] = nugget + reading / c->readings[i] + spread * spread;
	}
}

static hd_status newton(double *factor, double *weights, const hd_law *law, cells *c, size_t m, int steps)
{
	double evidence;
	for (int step = 0; step < steps; step++) {
		linearise(law, c);
		hd_status st = condition(&evidence, factor, weights, law, c, m);
		if (st != HD_OK)
			return st;
		/* halved and bounded: L(S) bends most where readings meet the floor */
		for (size_t i = 0; i < m; i++) {
			double change = c->pseudo[i] - c->noise[i] * weights[i] - c->signal[i];
			c->signal[i] += fmin(fmax(0.7 * change, -10), 10);
		}
	}
	return HD_OK;
}

/* Coordinate ascent of the evidence over a grid, on the first cells (they lie in random order). */
static hd_status choose_covariance(hd_law *law, cells *c, double *factor, double *weights)
{
	static const double lengths_m[] = {15, 30, 60, 120, 240, 480}, shares[] = {0.35, 0.5, 0.7, 1, 1.4},
	                    nuggets[] = {0.1, 0.2, 0.3, 0.45, 0.6}, hours[] = {0, 0.15, 0.3, 0.5, 0.8};
	size_t m = c->count < EVIDENCE_CELLS ? c->count : EVIDENCE_CELLS;
	law->length_m = 60;
	law->field_db = law->sigma_db * 0.9;
	law->nugget_db = law->sigma_db * 0.3;
	law->hour_db = law->sigma_db * 0.15;
	for (int round = 0; round < 2; round++) {
		hd_status st = newton(factor, weights, law, c, m, NEWTON_STEPS);
		double best = -INFINITY;
		for (int which = 0; which < 4; which++) {
			const double *grid = which == 0   ? lengths_m
			                     : which == 1 ? shares
			                     : which == 2 ? nuggets
			                                  : hours;
			double *at = which == 0   ? &law->length_m
			             : which == 1 ? &law->field_db
			             : which == 2 ? &law->nugget_db
			                          : &law->hour_db;
			double unit = which == 0 ? 1 : law->sigma_db, chosen = *at, before = law->nugget_db;
			int points = which == 0 ? 6 : 5;
			for (int k = 0; st == HD_OK && k < points; k++) {
				double evidence, shift;
				*at = grid[k] * unit;
				shift = law->nugget_db * law->nugget_db - before * before;
				for (size_t i = 0; i < m; i++)
					c->noise[i] += shift;
				st = condition(&evidence, factor, weights, law, c, m);
				for (size_t i = 0; i < m; i++)
					c->noise[i] -= shift;
				if (evidence > best) {
					best = evidence;
					chosen = *at;
				}
			}
			*at = chosen;
			double kept = law->nugget_db * law->nugget_db - before * before;
			for (size_t i = 0; i < m; i++)
				c->noise[i] += kept;
		}
		if (st != HD_OK)
			return st;
	}
	return HD_OK;
}

static hd_status fit_field(hd_law *law, cells *c)
{
	hd_status st;
	double *factor = NULL;
	size_t m = c->count;
	HD_TRY(hd_alloc(&factor, m * m, sizeof *factor));
	HD_TRY(hd_alloc(&law->weights, m, sizeof *law->weights));
	HD_TRY(hd_alloc(&law->factor, m * m, sizeof *law->factor));
	for (size_t i = 0; i < m; i++)
		c->signal[i] = law->a_db - law->n * c->log_distance[i];
	HD_TRY(choose_covariance(law, c, factor, law->weights));
	for (size_t i = 0; i < m; i++)
		c->signal[i] = law->a_db - law->n * c->log_distance[i];
	HD_TRY(newton(factor, law->weights, law, c, m, NEWTON_STEPS));
	for (size_t i = 0; i < m * m; i++)
		law->factor[i] = (float)factor[i];
	law->cells = (int64_t)m;
	law->cell_north_m = c->north_m;
	law->cell_east_m = c->east_m;
	c->north_m = c->east_m = NULL;
done:
	free(factor);
	return st;
}

hd_status hd_law_predict(
        const hd_law *law, const double *north_m, const double *east_m, size_t count, double *mean_db, double *variance)
{
	hd_status st;
	float *k = NULL;
	size_t m = (size_t)law->cells;
	double field = law->field_db * law->field_db;
	HD_TRY(hd_alloc(&k, m * BLOCK, sizeof *k));
	for (size_t first = 0; first < count; first += BLOCK) {
		size_t points = count - first < BLOCK ? count - first : BLOCK;
		for (size_t p = 0; p < points; p++) {
			double sum = 0, north = north_m[first + p], east = east_m[first + p];
			for (size_t i = 0; i < m; i++) {
				double v =
				        field * covariance(law, north, east, law->cell_north_m[i], law->cell_east_m[i]);
				sum += v * law->weights[i];
				k[p * m + i] = (float)v;
			}
			mean_db[first + p] = hd_law_signal_db(law, north, east) + sum;
		}
		if (!variance)
			continue;
		lapack_int size = (lapack_int)m;
		lapack_int info = LAPACKE_strtrs_work(
		        LAPACK_COL_MAJOR, 'L', 'N', 'N', size, (lapack_int)points, law->factor, size, k, size);
		if (info) {
			st = hd_fail(HD_E_NONFINITE, "receiver '%s': its covariance is singular", law->receiver);
			goto done;
		}
		for (size_t p = 0; p < points; p++) {
			double sum = 0;
			for (size_t i = 0; i < m; i++)
				sum += (double)k[p * m + i] * (double)k[p * m + i];
			variance[first + p] = fmax(field - sum, 0);
		}
	}
done:
	free(k);
	return st;
}

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

static void free_cells(cells *c)
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
	*c = (cells){0};
}

/* Means of what receiver r heard in each cell. */
static hd_status gather_cells(cells *c, const hd_fit *f, const grouping *g, int r)
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
		c->log_distance[to] = log_distance(&f->laws[r], c->north_m[to], c->east_m[to]);
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
	cells c = {0};
	hd_law *law = &f->laws[r];
	HD_TRY(gather_cells(&c, f, g, r));
	fit_law(law, &c);
	HD_TRY(fit_field(law, &c));
	HD_TRY(fit_heard(law, f, r));
done:
	free_cells(&c);
	return st;
}

static hd_status fit_receivers(hd_fit *f, const grouping *g, int threads)
{
	hd_status first = HD_OK;
	char text[2048] = "";
#pragma omp parallel num_threads(threads > 0 ? threads : omp_get_num_procs())
	{
		/* the library's own threads would change the order of its sums */
		omp_set_num_threads(1);
#pragma omp for schedule(dynamic, 1)
		for (int r = 0; r < f->levels.R; r++) {
			hd_status st = f->laws[r].rows ? fit_receiver(f, g, r) : HD_OK;
			if (st != HD_OK) {
#pragma omp critical
				if (first == HD_OK) {
					first = st;
					snprintf(text, sizeof text, "%s", hd_error_text());
				}
			}
		}
	}
	return first == HD_OK ? HD_OK : hd_fail(first, "%s", text);
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
	            "heard_slope\n");
	for (int r = 0; r < f->levels.R; r++) {
		const hd_law *l = &f->laws[r];
		if (l->rows)
			fprintf(to, "%s,%.4f,%.4f,%.4f,%.1f,%.4f,%lld,%.4f,%.4f,%.4f,%.2f,%.4f,%lld,%.4f,%.4f\n",
			        l->receiver, l->a_db, l->n, l->field_db, l->length_m, l->nugget_db, (long long)l->rows,
			        l->a_error_db, l->n_error, l->sigma_db, l->floor_db, l->reading_db, (long long)l->cells,
			        l->heard_intercept, l->heard_slope);
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
