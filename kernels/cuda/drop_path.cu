/* SPDX-License-Identifier: Apache-2.0 */
/* Which residual branches a training step leaves out; drawn by sample, so not by batch. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/philox.h"

#define THREADS 256

/*
 * scale (B,N) out, p (B) in, float; key one hd_rng_key, sample (N) int32 in; any alignment. Deterministic, a function
 * of (seed, epoch, block, sample) alone; the threshold is made in double.
 * FLOPs 45*B*N, most of them integer; bytes 4*(B*N + B + N). Launch: a thread an element, block 256 threads, grid at
 * most 4096. Goal: latency of one launch.
 */
static __global__ void __launch_bounds__(THREADS) draw(float *__restrict__ scale, const float *__restrict__ p,
        const hd_rng_key *__restrict__ key, const int32_t *__restrict__ sample, int64_t B, int64_t N)
{
	for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < B * N;
	        i += (int64_t)gridDim.x * blockDim.x) {
		int64_t b = i / N;
		const uint32_t counter[4] = {(uint32_t)b, (uint32_t)sample[i % N], key->epoch, HD_DROP_PATH};
		const uint32_t seed[2] = {key->seed_lo, key->seed_hi};
		uint32_t word[4];
		hd_philox(word, counter, seed);
		scale[i] = word[0] < (uint32_t)((double)p[b] * 4294967296.0) ? 0.0f : 1.0f / (1.0f - p[b]);
	}
}

extern "C" hd_status hd_cuda_drop_path_scale(float *scale, const float *p, const hd_rng_key *key, const int32_t *sample,
        int64_t B, int64_t N, hd_stream *stream)
{
	if (B > 0 && N > 0)
		draw<<<hd_cuda_blocks(B * N, THREADS, HD_CUDA_GRID_MAX), THREADS, 0, hd_cuda_stream(stream)>>>(
		        scale, p, key, sample, B, N);
	return HD_CUDA_LAUNCHED(drop_path_scale);
}
