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
 * Sums over rows are cut into at most this many pieces, each a block's, whatever the device; the last block or a second
 * kernel adds the pieces in order.
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
 * Of kernels that sum the columns of (rows,C) besides: a block has 32 rows of 8 packs, 128 bytes of each, and the rows
 * of its piece, two or more a thread. Its columns are few, as the last block to write a piece of them adds the pieces:
 * 64 columns of at most 128 pieces are 32 KiB. Predicted for a step of ConvNeXt-Large: a launch less for each sum, of
 * 1.3 us in a graph and the time of its kernel, for about 1 us that the last block takes longer.
 */
#define HD_SUM_PACKS 8
#define HD_SUM_ROWS 32
#define HD_SUM_THREADS (HD_SUM_PACKS * HD_SUM_ROWS)
#define HD_SUM_BLOCK dim3(HD_SUM_PACKS, HD_SUM_ROWS)

static inline unsigned hd_cuda_pieces(int64_t rows)
{
	return hd_cuda_blocks(rows, 2 * HD_SUM_ROWS, HD_CUDA_PIECES);
}

/* Groups of columns, a block each. */
template <int W> static inline unsigned hd_cuda_sum_groups(int64_t C)
{
	return (unsigned)hd_divide_up(C, HD_SUM_PACKS * W);
}

/*
 * part (gridDim.y,C), row blockIdx.y = sums over the block's thread rows of sum, each thread's for pack
 * blockIdx.x*8 + threadIdx.x, added in order of the rows. All threads take part; sums is free again after a barrier.
 */
template <int W>
__device__ static inline void hd_sum_rows(
        float *part, hd_pack<W> (&sums)[HD_SUM_ROWS][HD_SUM_PACKS], const hd_pack<W> &sum, int64_t C)
{
	static_assert(W <= HD_SUM_ROWS, "a thread for each column");
	sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();
	int column = (int)(threadIdx.y * HD_SUM_PACKS + threadIdx.x);
	int64_t c = (int64_t)blockIdx.x * HD_SUM_PACKS * W + column;
	if (column < HD_SUM_PACKS * W && c < C) {
		float total = 0;
		for (int row = 0; row < HD_SUM_ROWS; row++)
			total += sums[row][column / W].v[column % W];
		part[blockIdx.y * C + c] = total;
	}
}

/*
 * Whether the block is the last of `blocks` that come here with this counter; it may read what the others had written.
 * All threads take part and all get the answer. The counter is 0 before the first and after the last.
 */
__device__ static inline bool hd_last_block(unsigned *counter, unsigned blocks)
{
	bool last = false;
	__syncthreads();
	if (threadIdx.x == 0 && threadIdx.y == 0) {
		__threadfence();
		last = atomicInc(counter, blocks - 1) == blocks - 1;
		__threadfence();
	}
	return __syncthreads_or(last);
}

/*
 * out (C) = beta * out + sums over the pieces of part (gridDim.y,C), of the columns of the block, whichever block it
 * is; beta 0 does not read out. Thread slice k adds pieces k, k + slices, ... in order, then the slices are added in
 * order. All threads take part; sums, of hd_sum_rows, is free again on return.
 */
template <int W>
__device__ static inline void hd_add_pieces(
        float *out, const float *part, float beta, hd_pack<W> (&sums)[HD_SUM_ROWS][HD_SUM_PACKS], int64_t C)
{
	constexpr int COLUMNS = HD_SUM_PACKS * W, SLICES = HD_SUM_THREADS / COLUMNS;
	float *of_slices = reinterpret_cast<float *>(sums);
	int thread = (int)(threadIdx.y * HD_SUM_PACKS + threadIdx.x), slice = thread / COLUMNS;
	int64_t c = (int64_t)blockIdx.x * COLUMNS + thread % COLUMNS;
	float sum = 0;
	if (c < C) {
#pragma unroll 8
		for (unsigned piece = (unsigned)slice; piece < gridDim.y; piece += SLICES)
			sum += part[piece * C + c];
	}
	of_slices[thread] = sum;
	__syncthreads();
	if (slice == 0 && c < C) {
		for (int k = 1; k < SLICES; k++)
			sum += of_slices[thread + k * COLUMNS];
		out[c] = (beta == 0 ? 0.0f : beta * out[c]) + sum;
	}
	__syncthreads();
}

#endif
