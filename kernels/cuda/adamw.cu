/* SPDX-License-Identifier: Apache-2.0 */
/* Clip and AdamW in one pass over the flat buffers, a block for each chunk. */
#include <math.h>

#include "kernels/cuda/reduce.cuh"

#define WIDTH 4
#define THREADS (HD_CHUNK / WIDTH)
#define CLIP_EPS 1e-6f /* torch.nn.utils.clip_grad_norm_ */

/*
 * p, m, v (n) in and out, ema (n) or NULL in and out, g (n) in, float, 16-byte aligned; skipped (1) int32 in and out;
 * norm2 (1), hyper, chunk_lr, chunk_decay (n/1024) in. All scalars are read on the device, so that the host never
 * waits for the norm. Where norm2 is not finite nothing is written but skipped[0] += 1.
 * Elements are independent: deterministic.
 * FLOPs 14*n, with ema 17*n; bytes 28*n, with ema 36*n. Launch: grid n/1024, at least 1, block 256 threads, a pack of
 * four each; no shared memory. n is a multiple of 1024. Goal: 90 % of the measured copy rate from 1e7 elements on.
 */
static __global__ void __launch_bounds__(THREADS) update(float *__restrict__ p, float *__restrict__ m,
        float *__restrict__ v, float *__restrict__ ema, int32_t *__restrict__ skipped, const float *__restrict__ g,
        const float *__restrict__ norm2, const hd_adamw_hyper *__restrict__ hyper, const float *__restrict__ chunk_lr,
        const float *__restrict__ chunk_decay, int64_t chunks)
{
	float norm = norm2[0];
	if (!isfinite(norm)) {
		if (blockIdx.x == 0 && threadIdx.x == 0)
			skipped[0]++;
		return;
	}
	if (blockIdx.x >= chunks)
		return;
	hd_adamw_hyper h = *hyper;
	float clip = h.max_norm > 0 ? fminf(1.0f, h.max_norm / (sqrtf(norm) + CLIP_EPS)) : 1.0f;
	float lr = h.lr * chunk_lr[blockIdx.x], keep = 1.0f - lr * h.weight_decay * chunk_decay[blockIdx.x];
	float step = lr / h.correction1, inv_root = 1.0f / sqrtf(h.correction2);
	int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	hd_pack<WIDTH> grad = hd_load<WIDTH>(g, at), first = hd_load<WIDTH>(m, at), second = hd_load<WIDTH>(v, at);
	hd_pack<WIDTH> weight = hd_load<WIDTH>(p, at);
#pragma unroll
	for (int k = 0; k < WIDTH; k++) {
		grad.v[k] *= clip;
		first.v[k] = h.beta1 * first.v[k] + (1.0f - h.beta1) * grad.v[k];
		second.v[k] = h.beta2 * second.v[k] + (1.0f - h.beta2) * grad.v[k] * grad.v[k];
		weight.v[k] = weight.v[k] * keep - step * first.v[k] / (sqrtf(second.v[k]) * inv_root + h.eps);
	}
	hd_store<WIDTH>(m, at, first);
	hd_store<WIDTH>(v, at, second);
	hd_store<WIDTH>(p, at, weight);
	if (ema) {
		hd_pack<WIDTH> average = hd_load<WIDTH>(ema, at);
#pragma unroll
		for (int k = 0; k < WIDTH; k++)
			average.v[k] = h.ema_decay * average.v[k] + (1.0f - h.ema_decay) * weight.v[k];
		hd_store<WIDTH>(ema, at, average);
	}
}

extern "C" hd_status hd_cuda_adamw(float *p, float *m, float *v, float *ema, int32_t *skipped, const float *g,
        const float *norm2, const hd_adamw_hyper *hyper, const float *chunk_lr, const float *chunk_decay, int64_t n,
        hd_stream *stream)
{
	if (n % HD_CHUNK != 0)
		return hd_cuda_fail(HD_E_FAILED, "adamw: %lld elements are no whole number of chunks of %d",
		        (long long)n, HD_CHUNK);
	/* one block at least: a norm that is not finite counts for empty buffers too */
	int64_t chunks = n / HD_CHUNK;
	update<<<(unsigned)(chunks > 0 ? chunks : 1), THREADS, 0, hd_cuda_stream(stream)>>>(
	        p, m, v, ema, skipped, g, norm2, hyper, chunk_lr, chunk_decay, chunks);
	return HD_CUDA_LAUNCHED(adamw);
}
