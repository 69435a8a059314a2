/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/turn.h"

#include "kernels/cuda/map.cuh"

namespace
{

constexpr int TILE = 32;
constexpr int ROWS = 8;

/*
 * out  out (columns,rows) float, read too where beta is not 0; in in (rows,columns) float
 *
 * A block turns a tile of TILE x TILE through shared memory, so that both sides are coalesced. One rounding where beta
 * is not 0, else exact. 8 bytes per element, 12 with beta. Block (TILE, ROWS), grid (columns/TILE, rows/TILE), shared
 * memory 4.2 KB. Goal: 60 % of the copy rate for large sizes; here the filters, which are small, stay in the L2 cache.
 */
__global__ void __launch_bounds__(TILE *ROWS)
        turn_kernel(float *__restrict__ out, const float *__restrict__ in, float beta, int64_t rows, int64_t columns)
{
	__shared__ float tile[TILE][TILE + 1];
	int64_t row = (int64_t)blockIdx.y * TILE, column = (int64_t)blockIdx.x * TILE;
	for (int i = threadIdx.y; i < TILE; i += ROWS)
		if (row + i < rows && column + threadIdx.x < columns)
			tile[i][threadIdx.x] = in[(row + i) * columns + column + threadIdx.x];
	__syncthreads();
	for (int i = threadIdx.y; i < TILE; i += ROWS) {
		int64_t r = row + threadIdx.x, c = column + i;
		if (r < rows && c < columns) {
			float *to = out + c * rows + r;
			*to = (beta == 0 ? 0.0f : beta * *to) + tile[threadIdx.x][i];
		}
	}
}

/*
 * y  in, out (rows,C) float; b in (C) float
 *
 * One rounding. 8 bytes per element. Threads in turn over all elements, no shared memory. Goal: 85 % of the copy rate.
 */
__global__ void __launch_bounds__(HD_MAP_THREADS)
        bias_kernel(float *__restrict__ y, const float *__restrict__ b, int64_t n, int64_t C)
{
	int64_t threads = (int64_t)gridDim.x * blockDim.x;
	for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads)
		y[i] += b[i % C];
}

/*
 * p  out (n) of T
 *
 * The last step of splitmix64 (Steele, Lea, Flood 2014) over seed and index, rounded to T. sizeof(T) bytes per element.
 */
template <typename T>
__global__ void __launch_bounds__(HD_MAP_THREADS) random_kernel(T *p, int64_t n, uint32_t seed, bool absolute)
{
	int64_t threads = (int64_t)gridDim.x * blockDim.x;
	for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads) {
		uint64_t z = (((uint64_t)seed << 40) + (uint64_t)i) * 0x9e3779b97f4a7c15u;
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
		z ^= z >> 31;
		float value = (float)(z >> 40) * 0x1p-23f - 1.0f;
		p[i] = hd_narrow<T>(absolute && value < 0 ? -value : value);
	}
}

template <typename T> void fill(void *p, int64_t n, uint32_t seed, bool absolute, cudaStream_t stream)
{
	random_kernel<T><<<hd_cuda_map_grid(n), HD_MAP_THREADS, 0, stream>>>(static_cast<T *>(p), n, seed, absolute);
}

} /* namespace */

hd_status hd_cuda_turn(float *out, const float *in, float beta, int64_t rows, int64_t columns, cudaStream_t stream)
{
	if (rows * columns == 0)
		return HD_OK;
	if (hd_divide_up(rows, TILE) > UINT16_MAX || columns > INT32_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "turn: %ld x %ld is too large", (long)rows, (long)columns);
	dim3 grid((unsigned)hd_divide_up(columns, TILE), (unsigned)hd_divide_up(rows, TILE));
	turn_kernel<<<grid, dim3(TILE, ROWS), 0, stream>>>(out, in, beta, rows, columns);
	return HD_CUDA_LAUNCHED(turn);
}

hd_status hd_cuda_add_bias(float *y, const float *b, int64_t rows, int64_t C, cudaStream_t stream)
{
	int64_t n = rows * C;
	if (n > 0)
		bias_kernel<<<hd_cuda_map_grid(n), HD_MAP_THREADS, 0, stream>>>(y, b, n, C);
	return HD_CUDA_LAUNCHED(add_bias);
}

hd_status hd_cuda_fill_random(void *p, hd_dtype dt, int64_t n, uint32_t seed, bool absolute, cudaStream_t stream)
{
	if (n > 0)
		HD_BY_DTYPE(fill_random, dt, fill<T>(p, n, seed, absolute, stream));
	return HD_CUDA_LAUNCHED(fill_random);
}
