/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "tests/ref/ref.h"

void ref_layernorm_fwd(double *y, double *mean, double *rstd, const double *x, const double *gamma, const double *bias,
        double eps, int64_t rows, int64_t C)
{
	for (int64_t r = 0; r < rows; r++) {
		double mu = 0, variance = 0;
		for (int64_t c = 0; c < C; c++)
			mu += x[r * C + c] / (double)C;
		for (int64_t c = 0; c < C; c++)
			variance += pow(x[r * C + c] - mu, 2) / (double)C;
		mean[r] = mu;
		rstd[r] = 1 / sqrt(variance + eps);
		for (int64_t c = 0; c < C; c++)
			y[r * C + c] = (x[r * C + c] - mu) * rstd[r] * gamma[c] + bias[c];
	}
}

void ref_layernorm_bwd(double *dx, double *mx, double *dgamma, double *mg, double *dbias, double *mb,
        const double *old_dgamma, const double *old_dbias, const double *dy, const double *x, const double *mean,
        const double *rstd, const double *gamma, double beta, int64_t rows, int64_t C)
{
	for (int64_t c = 0; c < C; c++) {
		dgamma[c] = beta == 0 ? 0 : beta * old_dgamma[c];
		dbias[c] = beta == 0 ? 0 : beta * old_dbias[c];
		mg[c] = fabs(dgamma[c]);
		mb[c] = fabs(dbias[c]);
	}
	for (int64_t r = 0; r < rows; r++) {
		double sum = 0, dot = 0, sum_size = 0, dot_size = 0;
		for (int64_t c = 0; c < C; c++) {
			double d = dy[r * C + c], xhat = (x[r * C + c] - mean[r]) * rstd[r];
			sum += gamma[c] * d / (double)C;
			dot += gamma[c] * d * xhat / (double)C;
			sum_size += fabs(gamma[c] * d) / (double)C;
			dot_size += fabs(gamma[c] * d * xhat) / (double)C;
			dgamma[c] += d * xhat;
			mg[c] += fabs(d * xhat);
			dbias[c] += d;
			mb[c] += fabs(d);
		}
		for (int64_t c = 0; c < C; c++) {
			double g = gamma[c] * dy[r * C + c], xhat = (x[r * C + c] - mean[r]) * rstd[r];
			dx[r * C + c] = rstd[r] * (g - sum - xhat * dot);
			mx[r * C + c] = rstd[r] * (fabs(g) + sum_size + fabs(xhat) * dot_size);
		}
	}
}
