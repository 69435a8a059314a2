/* SPDX-License-Identifier: Apache-2.0 */
/* Mean over the map: where activations of 16 bits end, as heads run in float. */
#include "kernels/cuda/reduce.cuh"

#define THREADS 128

/*
 * y (N,C) float out, x (N,P,C) of T in; W > 1: 16-byte aligned and C % W == 0. A thread adds the P values of its
 * columns in order: deterministic. P = 0 gives NaN. FLOPs N*P*C; bytes N*P*C*sizeof(T) + 4*N*C. Launch: a thread for W
 * columns of a row, block 128 threads, grid at most 4096. Goal: latency of one launch, as P is 4 where the networks
 * pool.
 */
template <typename T, int W>
static __global__ void __launch_bounds__(THREADS)
        forward(float *__restrict__ y, const T *__restrict__ x, int64_t N, int64_t P, int64_t C)
{
	int64_t packs = C / W;
	for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < N * packs;
	        i += (int64_t)gridDim.x * THREADS) {
		int64_t at = i / packs * P * packs + i % packs;
		hd_pack<W> sum = {};
		for (int64_t p = 0; p < P; p++) {
			hd_pack<W> v = hd_load<W>(x, at + p * packs);
#pragma unroll
			for (int k = 0; k < W; k++)
				sum.v[k] += v.v[k];
		}
#pragma unroll
		for (int k = 0; k < W; k++)
			sum.v[k] /= (float)P;
		hd_store<W>(y, i, sum);
	}
}

/*
 * dx (N,P,C) of T out, dy (N,C) float in; W > 1: 16-byte aligned and C % W == 0. dx = dy/P, rounded once, in 16 bits
 * twice; deterministic.
 * FLOPs N*P*C; bytes N*P*C*sizeof(T) + 4*N*C. Launch: block (32,8), a block for 8 rows of N*P, grid at most 4096. Goal:
 * latency of one launch.
 */
template <typename T, int W>
static __global__ void __launch_bounds__(HD_TILE_COLUMNS *HD_TILE_ROWS)
        backward(T *__restrict__ dx, const float *__restrict__ dy, int64_t N, int64_t P, int64_t C)
{
	int64_t packs = C / W;
	for (int64_t r = (int64_t)blockIdx.x * HD_TILE_ROWS + threadIdx.y; r < N * P;
	        r += (int64_t)gridDim.x * HD_TILE_ROWS) {
		for (int64_t c = threadIdx.x; c < packs; c += HD_TILE_COLUMNS) {
			hd_pack<W> v = hd_load<W>(dy, r / P * packs + c);
#pragma unroll
			for (int k = 0; k < W; k++)
				v.v[k] /= (float)P;
			hd_store<W>(dx, r * packs + c, v);
		}
	}
}

template <typename T, int W>
static void launch_forward(float *y, const T *x, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	forward<T, W><<<hd_cuda_blocks(N * C / W, THREADS, HD_CUDA_GRID_MAX), THREADS, 0, hd_cuda_stream(stream)>>>(
	        y, x, N, P, C);
}

template <typename T>
static void start_forward(float *y, const T *x, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	constexpr int W = hd_width<T>::value;
	bool wide = C % W == 0 && hd_cuda_aligned16(y) && hd_cuda_aligned16(x);
	(wide ? launch_forward<T, W> : launch_forward<T, 1>)(y, x, N, P, C, stream);
}

extern "C" hd_status hd_cuda_pool_fwd(
        float *y, const void *x, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	if (N > 0 && C > 0)
		HD_BY_DTYPE(pool_fwd, dt, start_forward<T>(y, (const T *)x, N, P, C, stream));
	return HD_CUDA_LAUNCHED(pool_fwd);
}

template <typename T, int W>
static void launch_backward(T *dx, const float *dy, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	backward<T, W><<<hd_cuda_tile_grid(N * P), HD_TILE_BLOCK, 0, hd_cuda_stream(stream)>>>(dx, dy, N, P, C);
}

template <typename T>
static void start_backward(T *dx, const float *dy, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	constexpr int W = hd_width<T>::value;
	bool wide = C % W == 0 && hd_cuda_aligned16(dx) && hd_cuda_aligned16(dy);
	(wide ? launch_backward<T, W> : launch_backward<T, 1>)(dx, dy, N, P, C, stream);
}

extern "C" hd_status hd_cuda_pool_bwd(
        void *dx, const float *dy, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	if (N > 0 && P > 0 && C > 0)
		HD_BY_DTYPE(pool_bwd, dt, start_backward<T>((T *)dx, dy, N, P, C, stream));
	return HD_CUDA_LAUNCHED(pool_bwd);
}
