/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of one or two values over n elements of T, in packs of 16 bytes where the addresses allow it. A thread
 * reads an element before it writes it, so that out may be a or b.
 */
#ifndef HD_KERNELS_CUDA_MAP_CUH
#define HD_KERNELS_CUDA_MAP_CUH

#include "kernels/cuda/reduce.cuh"

#define HD_MAP_THREADS 256

/* Blocks of HD_MAP_THREADS threads for n elements of T. */
template <typename T = float> static inline unsigned hd_cuda_map_grid(int64_t n)
{
	return hd_cuda_blocks(n, hd_width<T>::value * HD_MAP_THREADS, HD_CUDA_GRID_MAX);
}

/* out[i] = f(a[i], b[i]); wide: all three are 16-byte aligned. */
template <typename T, typename F>
__device__ static inline void hd_map(T *out, const T *a, const T *b, int64_t n, bool wide, F f)
{
	constexpr int W = hd_width<T>::value;
	int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, threads = (int64_t)gridDim.x * blockDim.x;
	int64_t packs = wide ? n / W : 0;
	for (int64_t i = thread; i < packs; i += threads) {
		hd_pack<W> x = hd_load<W>(a, i), y = hd_load<W>(b, i);
#pragma unroll
		for (int k = 0; k < W; k++)
			x.v[k] = f(x.v[k], y.v[k]);
		hd_store<W>(out, i, x);
	}
	for (int64_t i = packs * W + thread; i < n; i += threads)
		out[i] = hd_narrow<T>(f(hd_widen(a[i]), hd_widen(b[i])));
}

#endif
