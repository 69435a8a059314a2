/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the CUDA kernels share: sums over a warp, a block and pieces, and the size of a launch. All sums add in an order
 * that depends on the sizes alone: the same inputs give the same bits.
 */
#ifndef HD_KERNELS_CUDA_REDUCE_CUH
#define HD_KERNELS_CUDA_REDUCE_CUH

#include <stdint.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/number.cuh"

#define HD_WARP 32
#define HD_ALL_LANES 0xffffffffu

/*
 * Sums over rows are cut into at most this many pieces, each a block's, whatever the device; a second kernel adds
 * the pieces in order.
 */
#define HD_CUDA_PIECES 128

/* Largest grid in x of a kernel that strides over what is left. */
#define HD_CUDA_GRID_MAX 4096

static inline int64_t hd_divide_up(int64_t n, int64_t by)
{
	return (n + by - 1) / by;
}

/* Blocks for n items at `each` a block, at least one, at most `most`. */
static inline unsigned hd_cuda_blocks(int64_t n, int64_t each, int64_t most)
{
	int64_t blocks = hd_divide_up(n, each);
	return (unsigned)(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

/* The address may be read by 16 bytes. */
static inline bool hd_cuda_aligned16(const void *p)
{
	return (uintptr_t)p % 16 == 0;
}

/* Sum over the 32 lanes of a warp, all of which take part; every lane gets it. */
template <typename T> __device__ static inline T hd_warp_sum(T value)
{
#pragma unroll
	for (int lanes = HD_WARP / 2; lanes > 0; lanes /= 2)
		value += __shfl_xor_sync(HD_ALL_LANES, value, lanes);
	return value;
}

/*
 * Sums of VALUES values over a block of whole warps along x, all of whose threads take part; every thread gets them.
 * part: shared memory for VALUES * blockDim.x / 32 numbers, free again on return.
 */
template <int VALUES, typename T> __device__ static inline void hd_block_sums(T (&value)[VALUES], T *part)
{
	int lane = (int)threadIdx.x % HD_WARP, warp = (int)threadIdx.x / HD_WARP, warps = (int)blockDim.x / HD_WARP;
#pragma unroll
	for (int i = 0; i < VALUES; i++) {
		T sum = hd_warp_sum<T>(value[i]);
		if (lane == 0)
			part[i * warps + warp] = sum;
	}
	__syncthreads();
#pragma unroll
	for (int i = 0; i < VALUES; i++) {
		T sum = 0;
		for (int w = 0; w < warps; w++)
			sum += part[i * warps + w];
		value[i] = sum;
	}
	__syncthreads();
}

/* One value; part: shared memory for blockDim.x / 32 numbers. */
template <typename T> __device__ static inline T hd_block_sum(T value, T *part)
{
	T values[1] = {value};
	hd_block_sums<1, T>(values, part);
	return values[0];
}

/*
 * out (C) = beta * out + sums over the pieces of part (pieces,C), float device memory; beta 0 does not read out, zero
 * pieces are a sum of 0. Launches on the stream; HD_CUDA_LAUNCHED finds its errors.
 */
void hd_cuda_combine(float *out, const float *part, float beta, int64_t pieces, int64_t C, hd_stream *stream);

/* Two such results, of as many pieces and columns each, by one launch. */
void hd_cuda_combine_two(float *first, float *second, const float *first_part, const float *second_part, float beta,
        int64_t pieces, int64_t C, hd_stream *stream);

/* Of kernels over (rows,C) without sums: 8 rows of 32 packs a block, striding over rows and columns. */
#define HD_TILE_COLUMNS 32
#define HD_TILE_ROWS 8

static inline dim3 hd_cuda_tile_grid(int64_t rows)
{
	return dim3(hd_cuda_blocks(rows, HD_TILE_ROWS, HD_CUDA_GRID_MAX));
}

#define HD_TILE_BLOCK dim3(HD_TILE_COLUMNS, HD_TILE_ROWS)

/*
 * Of kernels that sum the columns of (rows,C) besides: blocks of 32 packs and HD_SUM_ROWS rows, or twice as many where
 * there are so few columns that HD_CUDA_PIECES blocks for each are too few threads for a device.
 */
#define HD_SUM_ROWS 8
#define HD_SUM_ROWS_NARROW 16
#define HD_SUM_NARROW 2 /* blocks over the columns */

static inline unsigned hd_cuda_pieces(int64_t rows, int rows_of_block)
{
	return hd_cuda_blocks(rows, rows_of_block, HD_CUDA_PIECES);
}

/*
 * part (gridDim.y,C), row blockIdx.y = sums over the block's thread rows of sum, each thread's for pack
 * blockIdx.x*32 + threadIdx.x, added in order of the rows. All threads take part; sums is free again after a barrier.
 */
template <int W, int ROWS>
__device__ static inline void hd_sum_rows(
        float *part, hd_pack<W> (&sums)[ROWS][HD_TILE_COLUMNS], const hd_pack<W> &sum, int64_t C)
{
	static_assert(W <= ROWS, "a thread for each column");
	sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();
	int column = (int)(threadIdx.y * HD_TILE_COLUMNS + threadIdx.x);
	int64_t c = (int64_t)blockIdx.x * HD_TILE_COLUMNS * W + column;
	if (column < HD_TILE_COLUMNS * W && c < C) {
		float total = 0;
		for (int row = 0; row < ROWS; row++)
			total += sums[row][column / W].v[column % W];
		part[blockIdx.y * C + c] = total;
	}
}

#endif
