/* SPDX-License-Identifier: Apache-2.0 */
/* Mean over the map. */
#include "kernels/cuda/reduce.cuh"

#define THREADS 128

/*
 * y (N,C) out, x (N,P,C) in, float; W = 4: 16-byte aligned and C % 4 == 0. A thread adds the P values of its columns in
 * order: deterministic. P = 0 gives NaN.
 * FLOPs N*P*C; bytes 4*(N*P*C + N*C). Launch: a thread for W columns of a row, block 128 threads, grid at most 4096.
 * Goal: latency of one launch, as P is 4 where the networks pool.
 */
template <int W>
static __global__ void __launch_bounds__(THREADS)
        forward(float *__restrict__ y, const float *__restrict__ x, int64_t N, int64_t P, int64_t C)
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
 * dx (N,P,C) out, dy (N,C) in, float; W = 4: 16-byte aligned and C % 4 == 0. dx = dy/P, one rounding, deterministic.
 * FLOPs N*P*C; bytes 4*(N*P*C + N*C). Launch: block (32,8), a block for 8 rows of N*P, grid at most 4096. Goal: latency
 * of one launch.
 */
template <int W>
static __global__ void backward(float *__restrict__ dx, const float *__restrict__ dy, int64_t N, int64_t P, int64_t C)
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

template <int W>
static void launch_forward(float *y, const float *x, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	forward<W><<<hd_cuda_blocks(N * C / W, THREADS, HD_CUDA_GRID_MAX), THREADS, 0, hd_cuda_stream(stream)>>>(
	        y, x, N, P, C);
}

extern "C" hd_status hd_cuda_pool_fwd(
        void *y, const void *x, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(pool_fwd, dt);
	bool wide = C % 4 == 0 && hd_cuda_aligned16(y) && hd_cuda_aligned16(x);
	if (N > 0 && C > 0)
		(wide ? launch_forward<4> : launch_forward<1>)((float *)y, (const float *)x, N, P, C, stream);
	return HD_CUDA_LAUNCHED(pool_fwd);
}

template <int W>
static void launch_backward(float *dx, const float *dy, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	backward<W><<<hd_cuda_tile_grid(N * P), HD_TILE_BLOCK, 0, hd_cuda_stream(stream)>>>(dx, dy, N, P, C);
}

extern "C" hd_status hd_cuda_pool_bwd(
        void *dx, const void *dy, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(pool_bwd, dt);
	bool wide = C % 4 == 0 && hd_cuda_aligned16(dx) && hd_cuda_aligned16(dy);
	if (N > 0 && P > 0 && C > 0)
		(wide ? launch_backward<4> : launch_backward<1>)((float *)dx, (const float *)dy, N, P, C, stream);
	return HD_CUDA_LAUNCHED(pool_bwd);
}
