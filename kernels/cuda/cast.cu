/* SPDX-License-Identifier: Apache-2.0 */
/* Floats to the type of activations: the copy of the weights that products read. */
#include "kernels/cuda/reduce.cuh"

#define THREADS 256

/*
 * dst (n) of T out, src (n) float in; packs of 16 bytes of T where wide says that both are 16-byte aligned. One
 * rounding, deterministic. FLOPs 0; bytes n*(4 + sizeof(T)). Launch: block 256 threads, grid n/1024 or n/2048 rounded
 * up, at most 4096. Goal: 90 % of the measured copy rate from 1e7 elements on.
 */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
        convert(T *__restrict__ dst, const float *__restrict__ src, int64_t n, bool wide)
{
	constexpr int W = hd_width<T>::value;
	int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x, threads = (int64_t)gridDim.x * THREADS;
	int64_t packs = wide ? n / W : 0;
	for (int64_t i = thread; i < packs; i += threads)
		hd_store<W>(dst, i, hd_load<W>(src, i));
	for (int64_t i = packs * W + thread; i < n; i += threads)
		dst[i] = hd_narrow<T>(src[i]);
}

template <typename T> static void launch(T *dst, const float *src, int64_t n, hd_stream *stream)
{
	unsigned grid = hd_cuda_blocks(n, hd_width<T>::value * THREADS, HD_CUDA_GRID_MAX);
	bool wide = hd_cuda_aligned16(dst) && hd_cuda_aligned16(src);
	convert<T><<<grid, THREADS, 0, hd_cuda_stream(stream)>>>(dst, src, n, wide);
}

extern "C" hd_status hd_cuda_cast(void *dst, const float *src, hd_dtype dt, int64_t n, hd_stream *stream)
{
	if (n > 0)
		HD_BY_DTYPE(cast, dt, launch<T>((T *)dst, src, n, stream));
	return HD_CUDA_LAUNCHED(cast);
}
