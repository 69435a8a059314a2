/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernels of the depthwise 7x7 convolution share: the sums of a tile of the map that a thread has in
 * registers. Maps are NHWC of type T; a thread has V neighbouring channels, 4 bytes with 16 bits a value, so that a
 * warp reads whole lines of 128 bytes and the sums still fit in registers.
 */
#ifndef HD_KERNELS_CUDA_DWCONV7_CUH
#define HD_KERNELS_CUDA_DWCONV7_CUH

#include "kernels/cuda/reduce.cuh"

#define HD_DWCONV7_TAPS 7
#define HD_DWCONV7_REACH 3
#define HD_DWCONV7_WIDEST 8 /* columns of a thread, at most */

struct hd_dwconv7_map {
	int N, H, W, C;
	int tiles_h, tiles_w; /* of a thread's output */
};

/* Whether tap j of output column w lies inside, as far as is known at compile time: WHOLE, the map is WIDTH wide. */
template <int WIDTH, bool WHOLE> __device__ constexpr bool hd_dwconv7_inside(int w, int j)
{
	return !WHOLE || (w + j >= HD_DWCONV7_REACH && w + j < WIDTH + HD_DWCONV7_REACH);
}

/* Whether tap j lies inside for any column. */
template <int WIDTH, bool WHOLE> __device__ constexpr bool hd_dwconv7_meets(int j)
{
	return !WHOLE || (j > HD_DWCONV7_REACH - WIDTH && j < HD_DWCONV7_REACH + WIDTH);
}

template <int V> __device__ __forceinline__ hd_pack<V> hd_dwconv7_zero()
{
	hd_pack<V> zero;
#pragma unroll
	for (int v = 0; v < V; v++)
		zero.v[v] = 0;
	return zero;
}

/* acc += a * b, each channel of its own. */
template <int V>
__device__ __forceinline__ void hd_dwconv7_add(hd_pack<V> &acc, const hd_pack<V> &a, const hd_pack<V> &b)
{
#pragma unroll
	for (int v = 0; v < V; v++)
		acc.v[v] += a.v[v] * b.v[v];
}

/*
 * Columns w0-3 .. w0+WIDTH+2 of a map row (W,C) whose first column is at `at`; those outside are 0 and, where WHOLE,
 * not touched by any tap.
 */
template <typename T, int V, int WIDTH, bool WHOLE>
__device__ __forceinline__ void hd_dwconv7_row(
        hd_pack<V> (&row)[WIDTH + 2 * HD_DWCONV7_REACH], const T *at, int w0, int W, int C)
{
#pragma unroll
	for (int j = 0; j < WIDTH + 2 * HD_DWCONV7_REACH; j++) {
		int w = w0 + j - HD_DWCONV7_REACH;
		bool real = WHOLE ? j >= HD_DWCONV7_REACH && j < WIDTH + HD_DWCONV7_REACH : w >= 0 && w < W;
		int column = WHOLE ? j - HD_DWCONV7_REACH : w;
		row[j] = real ? hd_load<V>(at + (size_t)column * C, 0) : hd_dwconv7_zero<V>();
	}
}

/*
 * sum[r][w] += the taps of output row h0 + r, column w0 + w; x: the image's first position, k: the first tap, both at
 * the thread's channels. FLIP takes the taps from the far end, which is the transposed convolution. The order of the
 * sums is that of the taps' rows and columns. A row of x serves HEIGHT rows of sums, and the taps of the last HEIGHT
 * rows stay in registers; rows outside of the map are not gone through, but for the taps that the next ones need.
 */
template <typename T, int V, int WIDTH, int HEIGHT, bool WHOLE, bool FLIP>
__device__ __forceinline__ void hd_dwconv7_tile(hd_pack<V> (&sum)[HEIGHT][WIDTH], const T *__restrict__ x,
        const float *__restrict__ k, hd_dwconv7_map m, int h0, int w0)
{
	constexpr int TAPS = HD_DWCONV7_TAPS, ROWS = TAPS + HEIGHT - 1;
	hd_pack<V> taps[HEIGHT][TAPS];
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int j = 0; j < TAPS; j++)
			taps[r][j] = hd_dwconv7_zero<V>();
	}
	/* row i of the taps, counted from the first row of the output; taps[r] meets row h0 + r */
	int top = h0 - HD_DWCONV7_REACH, from = max(0, 1 - HEIGHT - top), to = min(ROWS, m.H - top);
#pragma unroll HEIGHT
	for (int i = from; i < to; i++) {
#pragma unroll
		for (int r = HEIGHT - 1; r > 0; r--) {
#pragma unroll
			for (int j = 0; j < TAPS; j++)
				taps[r][j] = taps[r - 1][j];
		}
		int tap = (FLIP ? TAPS - 1 - i : i) * TAPS;
#pragma unroll
		for (int j = 0; j < TAPS; j++)
			if (hd_dwconv7_meets<WIDTH, WHOLE>(j) && i < TAPS)
				taps[0][j] = hd_load<V>(k + (size_t)(tap + (FLIP ? TAPS - 1 - j : j)) * m.C, 0);
		if (top + i < 0)
			continue;
		hd_pack<V> row[WIDTH + 2 * HD_DWCONV7_REACH];
		hd_dwconv7_row<T, V, WIDTH, WHOLE>(row, x + (size_t)(top + i) * m.W * m.C, w0, m.W, m.C);
#pragma unroll
		for (int r = 0; r < HEIGHT; r++) {
			if (i < r || i - r >= TAPS)
				continue;
#pragma unroll
			for (int w = 0; w < WIDTH; w++) {
#pragma unroll
				for (int j = 0; j < TAPS; j++)
					if (hd_dwconv7_inside<WIDTH, WHOLE>(w, j))
						hd_dwconv7_add<V>(sum[r][w], taps[r][j], row[w + j]);
			}
		}
	}
}

/* Positions of the batch and partial sums of all channels are counted in int: what does not fit fails. */
static inline hd_status hd_dwconv7_size_up(
        hd_dwconv7_map *m, int64_t N, int64_t H, int64_t W, int64_t C, const char *op)
{
	constexpr int SUMS = HD_DWCONV7_TAPS * HD_DWCONV7_TAPS + 1;
	if (N * H * W > INT32_MAX || C > INT32_MAX / SUMS)
		return hd_cuda_fail(
		        HD_E_UNSUPPORTED, "%s: 2^31 positions or %d channels are too many", op, INT32_MAX / SUMS);
	*m = {(int)N, (int)H, (int)W, (int)C, 0, 0};
	return HD_OK;
}

#endif
