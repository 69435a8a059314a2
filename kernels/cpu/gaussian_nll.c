/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gaussian negative log likelihood and its gradients (Nix and Weigend 1994), sigma between smooth bounds:
 * d sigma/du = exp(-s/(hi-lo)) * sigmoid(u).
 */
#include <math.h>

#include "kernels/cpu/cpu.h"

hd_status HD_CPU(gaussian_nll)(float *sums, float *sigma, float *dmu, float *du, const float *mu, const float *u,
        const float *target, const float *weight, float lo, float hi, float scale, int64_t N, hd_stream *stream)
{
	(void)stream;
	double total = 0, logs = 0, squares = 0, span = (double)hi - (double)lo;
	for (int64_t n = 0; n < N; n++) {
		double w = (double)weight[n];
		for (int64_t i = 2 * n; i < 2 * n + 2; i++) {
			double v = (double)u[i];
			double softplus = fmax(v, 0) + log1p(exp(-fabs(v)));
			double s = (double)lo - span * expm1(-softplus / span);
			sigma[i] = (float)s;
			if (w == 0) {
				dmu[i] = du[i] = 0;
				continue;
			}
			double diff = (double)mu[i] - (double)target[i], z = diff / s;
			double slope = exp(-softplus / span) / (1 + exp(-v));
			logs += w * log(s);
			squares += w * 0.5 * z * z;
			dmu[i] = (float)((double)scale * w * diff / (s * s));
			du[i] = (float)((double)scale * w * (1 - z * z) / s * slope);
		}
		if (w != 0)
			total += w;
	}
	sums[0] = (float)(logs + squares);
	sums[1] = (float)total;
	sums[2] = (float)logs;
	sums[3] = (float)squares;
	return HD_OK;
}
