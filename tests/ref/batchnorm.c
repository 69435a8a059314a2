/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "tests/ref/ref.h"

static double count_rows(const double *weight, int64_t N)
{
	double count = 0;
	for (int64_t n = 0; n < N; n++)
		count += weight[n] != 0 ? 1 : 0;
	return count;
}

void ref_batchnorm_fwd(double *y, double *mean, double *rstd, double *running_mean, double *running_var,
        const double *x, const double *gamma, const double *bias, const double *weight, double momentum, double eps,
        int64_t N, int64_t C)
{
	double count = count_rows(weight, N);
	for (int64_t c = 0; c < C; c++) {
		double mu = 0, variance = 0;
		for (int64_t n = 0; n < N; n++)
			if (weight[n] != 0)
				mu += x[n * C + c] / count;
		for (int64_t n = 0; n < N; n++)
			if (weight[n] != 0)
				variance += pow(x[n * C + c] - mu, 2) / count;
		mean[c] = mu;
		rstd[c] = 1 / sqrt(variance + eps);
		if (count >= 2) {
			running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mu;
			running_var[c] = (1 - momentum) * running_var[c] + momentum * variance * count / (count - 1);
		}
		for (int64_t n = 0; n < N; n++)
			y[n * C + c] = (x[n * C + c] - mu) * rstd[c] * gamma[c] + bias[c];
	}
}

void ref_batchnorm_bwd(double *dx, double *mx, double *dgamma, double *mg, double *dbias, double *mb,
        const double *old_dgamma, const double *old_dbias, const double *dy, const double *x, const double *mean,
        const double *rstd, const double *gamma, const double *weight, double beta, int64_t N, int64_t C)
{
	double count = count_rows(weight, N);
	for (int64_t c = 0; c < C; c++) {
		double sum = 0, dot = 0, sum_size = 0, dot_size = 0;
		for (int64_t n = 0; n < N; n++) {
			double d = dy[n * C + c], xhat = (x[n * C + c] - mean[c]) * rstd[c];
			if (weight[n] == 0)
				continue;
			sum += d;
			dot += d * xhat;
			sum_size += fabs(d);
			dot_size += fabs(d * xhat);
		}
		dgamma[c] = beta == 0 ? dot : beta * old_dgamma[c] + dot;
		mg[c] = beta == 0 ? dot_size : fabs(beta * old_dgamma[c]) + dot_size;
		dbias[c] = beta == 0 ? sum : beta * old_dbias[c] + sum;
		mb[c] = beta == 0 ? sum_size : fabs(beta * old_dbias[c]) + sum_size;
		for (int64_t n = 0; n < N; n++) {
			int64_t i = n * C + c;
			double xhat = (x[i] - mean[c]) * rstd[c], size = fabs(gamma[c]) * rstd[c];
			dx[i] = mx[i] = 0;
			if (weight[n] == 0)
				continue;
			dx[i] = gamma[c] * rstd[c] * (dy[i] - sum / count - xhat * dot / count);
			mx[i] = size * (fabs(dy[i]) + sum_size / count + fabs(xhat) * dot_size / count);
		}
	}
}

void ref_batchnorm_apply(double *y, double *m, const double *x, const double *running_mean, const double *running_var,
        const double *gamma, const double *bias, double eps, int64_t N, int64_t C)
{
	for (int64_t i = 0; i < N * C; i++) {
		int64_t c = i % C;
		double scale = gamma[c] / sqrt(running_var[c] + eps);
		y[i] = (x[i] - running_mean[c]) * scale + bias[c];
		m[i] = (fabs(x[i]) + fabs(running_mean[c])) * fabs(scale) + fabs(bias[c]);
	}
}
