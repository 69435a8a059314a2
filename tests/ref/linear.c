/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stddef.h>

#include "tests/ref/ref.h"

/* Sums value and |value| into the element's two places. */
static void put(double *y, double *m, int64_t i, double value, double size)
{
	y[i] = value;
	if (m)
		m[i] = size;
}

void ref_patch_gather(double *cols, const double *x, int64_t N, int64_t H, int64_t W, int64_t C, int64_t p)
{
	int64_t at = 0;
	for (int64_t n = 0; n < N; n++)
		for (int64_t h = 0; h < H / p; h++)
			for (int64_t w = 0; w < W / p; w++)
				for (int64_t i = 0; i < p; i++)
					for (int64_t j = 0; j < p; j++)
						for (int64_t c = 0; c < C; c++)
							cols[at++] = x[((n * H + h * p + i) * W + w * p + j) * C + c];
}

void ref_patch_scatter(double *dx, const double *dcols, int64_t N, int64_t H, int64_t W, int64_t C, int64_t p)
{
	int64_t at = 0;
	for (int64_t i = 0; i < N * H * W * C; i++)
		dx[i] = 0;
	for (int64_t n = 0; n < N; n++)
		for (int64_t h = 0; h < H / p; h++)
			for (int64_t w = 0; w < W / p; w++)
				for (int64_t i = 0; i < p; i++)
					for (int64_t j = 0; j < p; j++)
						for (int64_t c = 0; c < C; c++)
							dx[((n * H + h * p + i) * W + w * p + j) * C + c] = dcols[at++];
}

void ref_linear_fwd(
        double *y, double *m, const double *x, const double *w, const double *b, int64_t rows, int64_t C, int64_t K)
{
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t k = 0; k < K; k++) {
			double sum = b ? b[k] : 0, size = fabs(sum);
			for (int64_t c = 0; c < C; c++) {
				sum += x[r * C + c] * w[k * C + c];
				size += fabs(x[r * C + c] * w[k * C + c]);
			}
			put(y, m, r * K + k, sum, size);
		}
	}
}

void ref_linear_bwd_data(double *dx, double *m, const double *dy, const double *w, int64_t rows, int64_t C, int64_t K)
{
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t c = 0; c < C; c++) {
			double sum = 0, size = 0;
			for (int64_t k = 0; k < K; k++) {
				sum += dy[r * K + k] * w[k * C + c];
				size += fabs(dy[r * K + k] * w[k * C + c]);
			}
			put(dx, m, r * C + c, sum, size);
		}
	}
}

void ref_linear_bwd_weight(double *dw, double *mw, double *db, double *mb, const double *old_dw, const double *old_db,
        const double *dy, const double *x, double beta, int64_t rows, int64_t C, int64_t K)
{
	for (int64_t k = 0; k < K; k++) {
		for (int64_t c = 0; c < C; c++) {
			double sum = beta == 0 ? 0 : beta * old_dw[k * C + c], size = fabs(sum);
			for (int64_t r = 0; r < rows; r++) {
				sum += dy[r * K + k] * x[r * C + c];
				size += fabs(dy[r * K + k] * x[r * C + c]);
			}
			put(dw, mw, k * C + c, sum, size);
		}
		if (!db)
			continue;
		double sum = beta == 0 ? 0 : beta * old_db[k], size = fabs(sum);
		for (int64_t r = 0; r < rows; r++) {
			sum += dy[r * K + k];
			size += fabs(dy[r * K + k]);
		}
		put(db, mb, k, sum, size);
	}
}
