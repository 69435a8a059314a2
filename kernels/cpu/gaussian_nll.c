/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loss and its gradients, in double: rows are few. With root = sqrt(v) and z = (mu - target)/root,
 * d l/d sigma = sigma/v - (mu - target)^2 sigma/v^2 = (1 - z^2)/root * sigma/root. hypot(sigma, 0) is sigma, so a
 * label without variance changes no bit.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"

/* sigma within its bounds and d sigma/du. */
static double bounded_sigma(double *slope, double u, const hd_loss *loss)
{
	double lo = (double)loss->lo, hi = (double)loss->hi, span = hi - lo;
	double softplus = fmax(u, 0) + log1p(exp(-fabs(u)));
	if (loss->bound == HD_BOUND_CLAMP) {
		*slope = softplus >= lo && softplus <= hi ? 1 / (1 + exp(-u)) : 0;
		return fmin(fmax(softplus, lo), hi);
	}
	*slope = exp(-softplus / span) / (1 + exp(-u));
	return lo - span * expm1(-softplus / span);
}

hd_status HD_CPU(gaussian_nll)(float *sums, float *sigma, float *dmu, float *du, const float *mu, const float *u,
        const float *target, const float *weight, const float *label_sigma, const hd_loss *loss, const float *scale,
        const float *loss_scale, int64_t N, hd_stream *stream)
{
	(void)stream;
	double outer = (double)scale[0] * (loss_scale ? (double)loss_scale[0] : 1);
	double total = 0, logs = 0, squares = 0, other = 0;
	for (int64_t n = 0; n < N; n++) {
		double w = (double)weight[n], label = label_sigma ? (double)label_sigma[n] : 0;
		for (int64_t i = 2 * n; i < 2 * n + 2; i++) {
			double slope, s = bounded_sigma(&slope, (double)u[i], loss);
			sigma[i] = (float)s;
			dmu[i] = du[i] = 0;
			if (w == 0)
				continue;
			double diff = (double)mu[i] - (double)target[i], root = hypot(s, label), z = diff / root;
			double factor = loss->kind == HD_LOSS_BETA_NLL ? pow(root, 2 * (double)loss->beta) : 1;
			logs += w * log(root);
			squares += w * 0.5 * z * z;
			if (loss->kind == HD_LOSS_MSE) {
				other += w * 0.5 * diff * diff;
				dmu[i] = (float)(outer * w * diff);
				continue;
			}
			other += w * factor * (log(root) + 0.5 * z * z);
			dmu[i] = (float)(outer * w * diff / (root * root) * factor);
			du[i] = (float)(outer * w * (1 - z * z) / root * slope * (s / root) * factor);
		}
		if (w != 0)
			total += w;
	}
	sums[0] = (float)(loss->kind == HD_LOSS_NLL ? logs + squares : other);
	sums[1] = (float)total;
	sums[2] = (float)logs;
	sums[3] = (float)squares;
	return HD_OK;
}
