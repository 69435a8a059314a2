/* SPDX-License-Identifier: Apache-2.0 */
/* ReLU with dropout; the mask comes from the sample's key, so it does not depend on the batch. */
#include "kernels/cuda/map.cuh"
#include "kernels/philox.h"

#define WORDS 4 /* of one draw, for as many columns */

/*
 * y (N,C) out, x (N,C) in, float; key one hd_rng_key, sample (N) int32 in, both not read where threshold is 0; any
 * alignment. An element whose word is below threshold is dropped, the others are relu(x) * scale; NaN passes.
 * Deterministic, a function of (seed, epoch, layer, sample, column) alone.
 * FLOPs 20*N*C, most of them integer products; bytes 8*N*C. Launch: a thread for four columns, block 256 threads, grid
 * at most 4096. Goal: latency, as it stands in the head (32 x 256) only.
 */
static __global__ void __launch_bounds__(HD_MAP_THREADS) forward(float *__restrict__ y, const float *__restrict__ x,
        const hd_rng_key *__restrict__ key, const int32_t *__restrict__ sample, uint32_t layer, uint32_t threshold,
        float scale, int64_t N, int64_t C)
{
	int64_t draws = (C + WORDS - 1) / WORDS;
	for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < N * draws;
	        i += (int64_t)gridDim.x * blockDim.x) {
		int64_t n = i / draws, draw = i % draws;
		uint32_t word[WORDS] = {0, 0, 0, 0};
		if (threshold > 0) {
			const uint32_t counter[4] = {(uint32_t)draw, (uint32_t)sample[n], key->epoch, layer};
			const uint32_t seed[2] = {key->seed_lo, key->seed_hi};
			hd_philox(word, counter, seed);
		}
#pragma unroll
		for (int k = 0; k < WORDS; k++) {
			int64_t c = draw * WORDS + k;
			if (c < C) {
				float v = x[n * C + c];
				/* !(v <= 0) lets NaN through */
				y[n * C + c] = word[k] < threshold ? 0.0f : !(v <= 0) ? v * scale : 0.0f;
			}
		}
	}
}

/*
 * dx out, dy, y in, n floats: dx = dy * scale where y > 0, else 0; packs of four where all are 16-byte aligned.
 * Deterministic. FLOPs n; bytes 12*n. Launch: block 256 threads, grid n/1024 rounded up, at most 4096. Goal: as
 * forward.
 */
static __global__ void __launch_bounds__(HD_MAP_THREADS)
        backward(float *dx, const float *dy, const float *y, float scale, int64_t n, bool wide)
{
	hd_map<float>(dx, dy, y, n, wide, [scale](float g, float out) { return out > 0 ? g * scale : 0.0f; });
}

extern "C" hd_status hd_cuda_relu_dropout_fwd(float *y, const float *x, const hd_rng_key *key, const int32_t *sample,
        uint32_t layer, float p, int64_t N, int64_t C, hd_stream *stream)
{
	uint32_t threshold = (uint32_t)((double)p * 4294967296.0);
	if (N > 0 && C > 0)
		forward<<<hd_cuda_blocks(N * hd_divide_up(C, WORDS), HD_MAP_THREADS, HD_CUDA_GRID_MAX), HD_MAP_THREADS,
		        0, hd_cuda_stream(stream)>>>(y, x, key, sample, layer, threshold, 1.0f / (1.0f - p), N, C);
	return HD_CUDA_LAUNCHED(relu_dropout_fwd);
}

extern "C" hd_status hd_cuda_relu_dropout_bwd(
        float *dx, const float *dy, const float *y, float p, int64_t n, hd_stream *stream)
{
	bool wide = hd_cuda_aligned16(dx) && hd_cuda_aligned16(dy) && hd_cuda_aligned16(y);
	if (n > 0)
		backward<<<hd_cuda_map_grid(n), HD_MAP_THREADS, 0, hd_cuda_stream(stream)>>>(
		        dx, dy, y, 1.0f / (1.0f - p), n, wide);
	return HD_CUDA_LAUNCHED(relu_dropout_bwd);
}
