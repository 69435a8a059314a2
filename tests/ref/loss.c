/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "tests/ref/ref.h"

void ref_gaussian_nll(double sums[4], double *sigma, double *dmu, double *du, const double *mu, const double *u,
        const double *target, const double *weight, double lo, double hi, double scale, int64_t N)
{
	double range = hi - lo;
	sums[0] = sums[1] = sums[2] = sums[3] = 0;
	for (int64_t i = 0; i < 2 * N; i++) {
		double w = weight[i / 2];
		double s = u[i] > 0 ? u[i] + log1p(exp(-u[i])) : log1p(exp(u[i]));
		sigma[i] = lo - range * expm1(-s / range);
		dmu[i] = du[i] = 0;
		if (w == 0)
			continue;
		double r = target[i] - mu[i], s2 = sigma[i] * sigma[i];
		double dsigma = exp(-s / range) / (1 + exp(-u[i]));
		sums[1] += i % 2 ? w : 0;
		sums[2] += w * log(sigma[i]);
		sums[3] += w * r * r / (2 * s2);
		dmu[i] = -scale * w * r / s2;
		du[i] = scale * w * (1 / sigma[i] - r * r / (s2 * sigma[i])) * dsigma;
	}
	sums[0] = sums[2] + sums[3];
}

double ref_sum_squares(const double *g, int64_t n)
{
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += g[i] * g[i];
	return sum;
}

void ref_adamw(
        double *p, double *m, double *v, double g, double norm2, const double h[8], double chunk_lr, double chunk_decay)
{
	double lr = h[0] * chunk_lr, max_norm = h[5];
	if (max_norm > 0)
		g *= fmin(1, max_norm / (sqrt(norm2) + 1e-6));
	*p *= 1 - lr * h[4] * chunk_decay;
	*m = h[1] * *m + (1 - h[1]) * g;
	*v = h[2] * *v + (1 - h[2]) * g * g;
	*p -= lr / h[6] * *m / (sqrt(*v / h[7]) + h[3]);
}
