/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of one or two values over n elements, in packs of four where the addresses allow it. A thread reads an
 * element before it writes it, so that out may be a or b.
 */
#ifndef HD_KERNELS_CUDA_MAP_CUH
#define HD_KERNELS_CUDA_MAP_CUH

#include "kernels/cuda/reduce.cuh"

#define HD_MAP_WIDTH 4
#define HD_MAP_THREADS 256

/* Blocks of HD_MAP_THREADS threads for n elements. */
static inline unsigned hd_cuda_map_grid(int64_t n)
{
	return hd_cuda_blocks(n, HD_MAP_WIDTH * HD_MAP_THREADS, HD_CUDA_GRID_MAX);
}

/* out[i] = f(a[i], b[i]); wide: all three are 16-byte aligned. */
template <typename F>
__device__ static inline void hd_map(float *out, const float *a, const float *b, int64_t n, bool wide, F f)
{
	int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, threads = (int64_t)gridDim.x * blockDim.x;
	int64_t packs = wide ? n / HD_MAP_WIDTH : 0;
	for (int64_t i = thread; i < packs; i += threads) {
		hd_pack<HD_MAP_WIDTH> x = hd_load<HD_MAP_WIDTH>(a, i), y = hd_load<HD_MAP_WIDTH>(b, i);
#pragma unroll
		for (int k = 0; k < HD_MAP_WIDTH; k++)
			x.v[k] = f(x.v[k], y.v[k]);
		hd_store<HD_MAP_WIDTH>(out, i, x);
	}
	for (int64_t i = packs * HD_MAP_WIDTH + thread; i < n; i += threads)
		out[i] = f(a[i], b[i]);
}

#endif
