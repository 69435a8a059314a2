/* SPDX-License-Identifier: Apache-2.0 */
/* Clip and AdamW in one pass over the flat buffers, a block for each chunk; the 16-bit copy is made in passing. */
#include <math.h>

#include "kernels/cuda/reduce.cuh"

namespace
{

constexpr int WIDTH = 4;
constexpr int THREADS = HD_CHUNK / WIDTH;
constexpr float CLIP_EPS = 1e-6f; /* torch.nn.utils.clip_grad_norm_ */

/* All of it device memory; kernels.def has what is what. */
struct buffers {
	float *p, *m, *v, *ema;
	void *copy;
	int32_t *skipped;
	const float *g, *norm2, *grad_scale;
	const hd_adamw_hyper *hyper;
	const float *chunk_lr, *chunk_decay;
	int64_t chunks;
};

/*
 * p, m, v (n) in and out, ema (n) or NULL in and out, g (n) in, float, 16-byte aligned; copy (n) out, of T, 8-byte
 * aligned, none where T is float; skipped (1) int32 in and out; norm2, grad_scale (1) or NULL, hyper, chunk_lr,
 * chunk_decay (n/1024) in. All scalars are read on the device, so that the host never waits for the norm. Where norm2
 * is not finite nothing is written but skipped[0] += 1. Elements are independent: deterministic. FLOPs 14*n, with ema
 * 17*n; bytes 28*n, with ema 8*n and with a copy 2*n more. A cast of its own would read p again, 6*n. Launch: grid
 * n/1024, at least 1, block 256 threads, a pack of four each; no shared memory. n is a multiple of 1024. A thread's 8
 * bytes of the copy lie beside those of its neighbours: a warp writes whole sectors of the memory, as with 16 bytes a
 * thread. Goal: 90 % of the measured copy rate from 1e7 elements on.
 */
template <typename T> __global__ void __launch_bounds__(THREADS) update(buffers b)
{
	float norm = b.norm2[0];
	if (!isfinite(norm)) {
		if (blockIdx.x == 0 && threadIdx.x == 0)
			b.skipped[0]++;
		return;
	}
	if (blockIdx.x >= b.chunks)
		return;
	int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	hd_pack<WIDTH> grad = hd_load<WIDTH>(b.g, at), first = hd_load<WIDTH>(b.m, at);
	hd_pack<WIDTH> second = hd_load<WIDTH>(b.v, at), weight = hd_load<WIDTH>(b.p, at), average = {};
	if (b.ema)
		average = hd_load<WIDTH>(b.ema, at);
	hd_adamw_hyper h = *b.hyper;
	float clip = h.max_norm > 0 ? fminf(1.0f, h.max_norm / (sqrtf(norm) + CLIP_EPS)) : 1.0f;
	if (b.grad_scale)
		clip *= b.grad_scale[0];
	float lr = h.lr * b.chunk_lr[blockIdx.x], keep = 1.0f - lr * h.weight_decay * b.chunk_decay[blockIdx.x];
	float step = lr / h.correction1, inv_root = 1.0f / sqrtf(h.correction2);
#pragma unroll
	for (int k = 0; k < WIDTH; k++) {
		grad.v[k] *= clip;
		first.v[k] = h.beta1 * first.v[k] + (1.0f - h.beta1) * grad.v[k];
		second.v[k] = h.beta2 * second.v[k] + (1.0f - h.beta2) * grad.v[k] * grad.v[k];
		weight.v[k] = weight.v[k] * keep - step * first.v[k] / (sqrtf(second.v[k]) * inv_root + h.eps);
		average.v[k] = h.ema_decay * average.v[k] + (1.0f - h.ema_decay) * weight.v[k];
	}
	hd_store<WIDTH>(b.m, at, first);
	hd_store<WIDTH>(b.v, at, second);
	hd_store<WIDTH>(b.p, at, weight);
	if (b.ema)
		hd_store<WIDTH>(b.ema, at, average);
	if (sizeof(T) == 2)
		hd_store<WIDTH>(static_cast<T *>(b.copy), at, weight);
}

template <typename T> void launch(const buffers &b, hd_stream *stream)
{
	/* one block at least: a norm that is not finite counts for empty buffers too */
	unsigned grid = (unsigned)(b.chunks > 0 ? b.chunks : 1);
	update<T><<<grid, THREADS, 0, hd_cuda_stream(stream)>>>(b);
}

} /* namespace */

hd_status hd_cuda_adamw(float *p, float *m, float *v, float *ema, void *copy, hd_dtype copy_dt, int32_t *skipped,
        const float *g, const float *norm2, const float *grad_scale, const hd_adamw_hyper *hyper, const float *chunk_lr,
        const float *chunk_decay, int64_t n, hd_stream *stream)
{
	if (n % HD_CHUNK != 0)
		return hd_cuda_fail(HD_E_FAILED, "adamw: %lld elements are no whole number of chunks of %d",
		        (long long)n, HD_CHUNK);
	if (copy && copy_dt != HD_BF16 && copy_dt != HD_F16)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "adamw: copies of the weights are bfloat16 or half");
	buffers b = {p, m, v, ema, copy, skipped, g, norm2, grad_scale, hyper, chunk_lr, chunk_decay, n / HD_CHUNK};
	HD_BY_DTYPE(adamw, copy ? copy_dt : HD_F32, launch<T>(b, stream));
	return HD_CUDA_LAUNCHED(adamw);
}
