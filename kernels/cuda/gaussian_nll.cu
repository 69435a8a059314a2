/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loss and its gradients, in double: rows are few. With root = sqrt(v) and z = (mu - target)/root,
 * d l/d sigma = sigma/v - (mu - target)^2 sigma/v^2 = (1 - z^2)/root * sigma/root.
 */
#include "kernels/cuda/reduce.cuh"

#define THREADS 256

enum { TOTAL, WEIGHT, LOGS, SQUARES, SUMS };

/* sigma within its bounds and d sigma/du. */
__device__ static inline double bounded_sigma(double *slope, double u, const hd_loss &loss)
{
	double lo = (double)loss.lo, hi = (double)loss.hi, span = hi - lo;
	double softplus = fmax(u, 0.0) + log1p(exp(-fabs(u)));
	if (loss.bound == HD_BOUND_CLAMP) {
		*slope = softplus >= lo && softplus <= hi ? 1 / (1 + exp(-u)) : 0;
		return fmin(fmax(softplus, lo), hi);
	}
	*slope = exp(-softplus / span) / (1 + exp(-u));
	return lo - span * expm1(-softplus / span);
}

/*
 * sums (4), sigma, dmu, du (N,2) out; mu, u, target (N,2), weight (N), label_sigma (N) or NULL in; float, any
 * alignment; scale (1), loss_scale (1) or NULL for 1 float in, device memory, as the host knows neither. mu, target and
 * label_sigma of rows of weight 0 are not read.
 * In double, rounded once. Deterministic: a thread adds every 256th row in order, then xor shuffles, then the warps in
 * order.
 * FLOPs 80*N, in double; bytes 52*N. Launch: one block of 256 threads; shared 256 bytes. Goal: latency of one launch up
 * to a batch of 512.
 */
static __global__ void __launch_bounds__(THREADS, 1) loss_rows(float *__restrict__ sums, float *__restrict__ sigma,
        float *__restrict__ dmu, float *__restrict__ du, const float *__restrict__ mu, const float *__restrict__ u,
        const float *__restrict__ target, const float *__restrict__ weight, const float *__restrict__ label_sigma,
        hd_loss loss, const float *__restrict__ scale, const float *__restrict__ loss_scale, int64_t N)
{
	__shared__ double part[SUMS * THREADS / HD_WARP];
	double sum[SUMS] = {0, 0, 0, 0};
	double total_scale = (double)scale[0] * (loss_scale ? (double)loss_scale[0] : 1);
	for (int64_t n = threadIdx.x; n < N; n += THREADS) {
		double w = (double)weight[n], label = w != 0 && label_sigma ? (double)label_sigma[n] : 0;
		if (w != 0)
			sum[WEIGHT] += w;
		for (int64_t i = 2 * n; i < 2 * n + 2; i++) {
			double slope, s = bounded_sigma(&slope, (double)u[i], loss), grad_mu = 0, grad_u = 0;
			sigma[i] = (float)s;
			if (w != 0) {
				double diff = (double)mu[i] - (double)target[i], root = hypot(s, label),
				       z = diff / root;
				double factor = loss.kind == HD_LOSS_BETA_NLL ? pow(root, 2 * (double)loss.beta) : 1;
				sum[LOGS] += w * log(root);
				sum[SQUARES] += w * 0.5 * z * z;
				if (loss.kind == HD_LOSS_MSE) {
					sum[TOTAL] += w * 0.5 * diff * diff;
					grad_mu = total_scale * w * diff;
				} else {
					sum[TOTAL] += w * factor * (log(root) + 0.5 * z * z);
					grad_mu = total_scale * w * diff / (root * root) * factor;
					grad_u = total_scale * w * (1 - z * z) / root * slope * (s / root) * factor;
				}
			}
			dmu[i] = (float)grad_mu;
			du[i] = (float)grad_u;
		}
	}
	hd_block_sums<SUMS, double>(sum, part);
	if (threadIdx.x < SUMS) {
		double value = sum[TOTAL];
#pragma unroll
		for (int i = 1; i < SUMS; i++)
			if ((int)threadIdx.x == i)
				value = sum[i];
		sums[threadIdx.x] = (float)value;
	}
}

extern "C" hd_status hd_cuda_gaussian_nll(float *sums, float *sigma, float *dmu, float *du, const float *mu,
        const float *u, const float *target, const float *weight, const float *label_sigma, const hd_loss *loss,
        const float *scale, const float *loss_scale, int64_t N, hd_stream *stream)
{
	loss_rows<<<1, THREADS, 0, hd_cuda_stream(stream)>>>(
	        sums, sigma, dmu, du, mu, u, target, weight, label_sigma, *loss, scale, loss_scale, N);
	return HD_CUDA_LAUNCHED(gaussian_nll);
}
