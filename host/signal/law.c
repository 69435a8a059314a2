/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/law.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"

#define READING_NOISE_DB 1.0 /* of a reading of noise alone */
#define HUBER 1.345          /* 95 % efficiency (Huber 1981) */
#define HUBER_BETA 0.7102    /* E min(z^2, HUBER^2) of a standard normal z */
#define PRIOR_N 3.5          /* exponents of built-up areas, 2 to 5 (Rappaport 2002, table 4.2) */
#define PRIOR_N_ERROR 1.5
#define EVIDENCE_CELLS 500 /* that the covariance is chosen on */
#define LEAST_SLOPE 0.05   /* of L(S): what lies deeper in the noise tells nothing */
#define NEWTON_STEPS 6
#define BLOCK 128 /* positions of one triangular solve */

double hd_law_reading_db(const hd_law *law, double signal_db)
{
	double above = signal_db - law->floor_db;
	return above > 60 ? signal_db : law->floor_db + 10 * log10(1 + pow(10, above / 10));
}

double hd_law_log_distance(const hd_law *law, double north_m, double east_m)
{
	return 10 * log10(fmax(HD_FIT_NEAREST_M, hypot(north_m - law->north_m, east_m - law->east_m)));
}

double hd_law_signal_db(const hd_law *law, double north_m, double east_m)
{
	return law->a_db - law->n * hd_law_log_distance(law, north_m, east_m);
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

static regression sum_regression(const hd_law *law, const hd_cells *c)
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
void hd_law_fit(hd_law *law, const hd_cells *c)
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
        double *evidence, double *factor, double *weights, const hd_law *law, const hd_cells *c, size_t m)
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
static void linearise(const hd_law *law, hd_cells *c)
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

static hd_status newton(double *factor, double *weights, const hd_law *law, hd_cells *c, size_t m, int steps)
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
static hd_status choose_covariance(hd_law *law, hd_cells *c, double *factor, double *weights)
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

hd_status hd_law_fit_field(hd_law *law, hd_cells *c)
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
