/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "tests/ref/ref.h"

/* sigma from u, and d sigma/du. */
static double bounded_sigma(double *slope, double u, const hd_loss *loss)
{
	double lo = (double)loss->lo, hi = (double)loss->hi, range = hi - lo;
	double s = u > 0 ? u + log1p(exp(-u)) : log1p(exp(u));
	*slope = 1 / (1 + exp(-u));
	if (loss->bound == HD_BOUND_SMOOTH) {
		*slope *= exp(-s / range);
		return lo - range * expm1(-s / range);
	}
	if (s < lo || s > hi)
		*slope = 0;
	return s < lo ? lo : s > hi ? hi : s;
}

void ref_gaussian_nll(double sums[4], double *sigma, double *dmu, double *du, const double *mu, const double *u,
        const double *target, const double *weight, const double *label_sigma, const hd_loss *loss, double scale,
        int64_t N)
{
	sums[0] = sums[1] = sums[2] = sums[3] = 0;
	for (int64_t i = 0; i < 2 * N; i++) {
		double w = weight[i / 2], slope, label = label_sigma ? label_sigma[i / 2] : 0;
		sigma[i] = bounded_sigma(&slope, u[i], loss);
		dmu[i] = du[i] = 0;
		if (w == 0)
			continue;
		double r = target[i] - mu[i], v = sigma[i] * sigma[i] + label * label;
		double factor = loss->kind == HD_LOSS_BETA_NLL ? pow(v, (double)loss->beta) : 1;
		sums[1] += i % 2 ? w : 0;
		sums[2] += w * log(v) / 2;
		sums[3] += w * r * r / (2 * v);
		if (loss->kind == HD_LOSS_MSE) {
			sums[0] += w * r * r / 2;
			dmu[i] = -scale * w * r;
			continue;
		}
		sums[0] += w * factor * (log(v) / 2 + r * r / (2 * v));
		dmu[i] = -scale * w * factor * r / v;
		du[i] = scale * w * factor * (sigma[i] / v - r * r * sigma[i] / (v * v)) * slope;
	}
}

double ref_sum_squares(const double *g, int64_t n)
{
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += g[i] * g[i];
	return sum;
}

void ref_loss_scale_update(double *scale, double *inverse, double *good, double *norm2, double growth_interval)
{
	*inverse = 1 / *scale;
	*norm2 /= *scale * *scale;
	if (!isfinite(*norm2)) {
		*scale = *scale < 2 ? 1 : *scale / 2;
		*good = 0;
	} else if (++*good == growth_interval) {
		*scale = *scale > 8388608 ? 16777216 : *scale * 2;
		*good = 0;
	}
}

void ref_adamw(double *p, double *m, double *v, double *ema, double g, double norm2, const double h[9], double chunk_lr,
        double chunk_decay)
{
	double lr = h[0] * chunk_lr, max_norm = h[5];
	if (max_norm > 0)
		g *= fmin(1, max_norm / (sqrt(norm2) + 1e-6));
	*p *= 1 - lr * h[4] * chunk_decay;
	*m = h[1] * *m + (1 - h[1]) * g;
	*v = h[2] * *v + (1 - h[2]) * g * g;
	*p -= lr / h[6] * *m / (sqrt(*v / h[7]) + h[3]);
	if (ema)
		*ema = h[8] * *ema + (1 - h[8]) * *p;
}
