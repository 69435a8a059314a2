/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "tests/ref/ref.h"

/* A product that vanishes where its second factor does, though the first be infinite. */
static double limit(double a, double b)
{
	return b == 0 ? 0 : a * b;
}

/* sqrt(2/pi) (x + 0.044715 x^3) */
static double tanh_argument(double x)
{
	return sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x);
}

/* What multiplies x; erfc and the exponential keep the lower tail exact where 1 + erf and 1 + tanh would cancel. */
static double share(double x, hd_gelu_form form)
{
	return form == HD_GELU_TANH ? 1 / (1 + exp(-2 * tanh_argument(x))) : erfc(-x / sqrt(2)) / 2;
}

/* Its derivative; of (1 + tanh u)/2 that is the share at x times that at -x, times 2 u'. */
static double share_slope(double x, hd_gelu_form form)
{
	if (form == HD_GELU_ERF)
		return exp(-x * x / 2) / sqrt(2 * acos(-1));
	double steepness = 2 * sqrt(2 / acos(-1)) * (1 + 3 * 0.044715 * x * x);
	return limit(steepness, share(x, form) * share(-x, form));
}

void ref_gelu_fwd(double *y, const double *x, hd_gelu_form form, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = limit(x[i], share(x[i], form));
}

void ref_gelu_bwd(double *dx, const double *dy, const double *x, hd_gelu_form form, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		dx[i] = dy[i] * (share(x[i], form) + limit(x[i], share_slope(x[i], form)));
}

void ref_column_sums(
        double *db, double *mb, const double *old_db, const double *x, double beta, int64_t rows, int64_t C)
{
	for (int64_t c = 0; c < C; c++) {
		db[c] = beta == 0 ? 0 : beta * old_db[c];
		double size = fabs(db[c]);
		for (int64_t r = 0; r < rows; r++) {
			db[c] += x[r * C + c];
			size += fabs(x[r * C + c]);
		}
		if (mb)
			mb[c] = size;
	}
}

void ref_scale_residual_fwd(double *y, double *m, const double *x, const double *residual, const double *gamma,
        const double *row_scale, int64_t N, int64_t P, int64_t C)
{
	for (int64_t i = 0; i < N * P * C; i++) {
		double branch = (row_scale ? row_scale[i / C / P] : 1) * gamma[i % C] * x[i];
		y[i] = residual[i] + branch;
		if (m)
			m[i] = fabs(residual[i]) + fabs(branch);
	}
}

void ref_scale_residual_bwd(double *dx, double *dgamma, double *mg, const double *old_dgamma, const double *dy,
        const double *x, const double *gamma, const double *row_scale, double beta, int64_t N, int64_t P, int64_t C)
{
	for (int64_t c = 0; c < C; c++) {
		dgamma[c] = beta == 0 ? 0 : beta * old_dgamma[c];
		mg[c] = fabs(dgamma[c]);
	}
	for (int64_t i = 0; i < N * P * C; i++) {
		double g = (row_scale ? row_scale[i / C / P] : 1) * dy[i];
		dx[i] = g * gamma[i % C];
		dgamma[i % C] += g * x[i];
		mg[i % C] += fabs(g * x[i]);
	}
}

void ref_pool_fwd(double *y, double *m, const double *x, int64_t N, int64_t P, int64_t C)
{
	for (int64_t i = 0; i < N * C; i++) {
		double sum = 0, size = 0;
		for (int64_t p = 0; p < P; p++) {
			sum += x[(i / C * P + p) * C + i % C];
			size += fabs(x[(i / C * P + p) * C + i % C]);
		}
		y[i] = sum / (double)P;
		if (m)
			m[i] = size / (double)P;
	}
}

void ref_pool_bwd(double *dx, const double *dy, int64_t N, int64_t P, int64_t C)
{
	for (int64_t i = 0; i < N * P * C; i++)
		dx[i] = dy[i / C / P * C + i % C] / (double)P;
}

void ref_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
	uint32_t k[2] = {key[0], key[1]};
	for (int i = 0; i < 4; i++)
		out[i] = counter[i];
	for (int round = 0; round < 10; round++) {
		uint64_t a = 0xD2511F53ull * out[0], b = 0xCD9E8D57ull * out[2];
		uint32_t next[4] = {(uint32_t)(b >> 32) ^ out[1] ^ k[0], (uint32_t)b,
		        (uint32_t)(a >> 32) ^ out[3] ^ k[1], (uint32_t)a};
		for (int i = 0; i < 4; i++)
			out[i] = next[i];
		k[0] += 0x9E3779B9u;
		k[1] += 0xBB67AE85u;
	}
}

void ref_relu_dropout_fwd(double *y, const double *x, const uint32_t seed[2], uint32_t epoch, const double *sample,
        uint32_t layer, double p, int64_t N, int64_t C)
{
	for (int64_t i = 0; i < N * C; i++) {
		bool drop = false;
		if (p > 0) {
			uint32_t r[4];
			uint32_t counter[4] = {(uint32_t)(i % C / 4), (uint32_t)(int32_t)sample[i / C], epoch, layer};
			ref_philox(r, counter, seed);
			drop = (double)r[i % C % 4] < floor(p * 4294967296.0);
		}
		y[i] = drop || x[i] < 0 ? 0 : x[i] / (1 - p);
	}
}

void ref_drop_path_scale(double *scale, const double *p, const uint32_t seed[2], uint32_t epoch, const double *sample,
        int64_t B, int64_t N)
{
	for (int64_t b = 0; b < B; b++) {
		for (int64_t n = 0; n < N; n++) {
			uint32_t r[4];
			ref_philox(r,
			        (const uint32_t[4]){(uint32_t)b, (uint32_t)(int32_t)sample[n], epoch, HD_DROP_PATH},
			        seed);
			scale[b * N + n] = (double)r[0] < floor(p[b] * 4294967296.0) ? 0 : 1 / (1 - p[b]);
		}
	}
}

void ref_relu_dropout_bwd(double *dx, const double *dy, const double *y, double p, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		dx[i] = y[i] > 0 ? dy[i] / (1 - p) : 0;
}

void ref_add(double *dst, const double *a, const double *b, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		dst[i] = a[i] + b[i];
}
