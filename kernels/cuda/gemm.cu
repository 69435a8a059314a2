/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrix products by tiles in shared memory, for where cuBLASLt is not there or has no algorithm: in float32 without
 * tensor cores, in 16 bits by them.
 */
#include "kernels/cuda/gemm.h"

#include <mma.h>

#include "kernels/cuda/reduce.cuh"

namespace
{

constexpr int TILE = 64; /* rows and columns of c of a block */

/* ---- float32 ---- */

constexpr int DEPTH = 16; /* of k at once */
constexpr int EACH = 4;   /* rows and columns of c of a thread */
constexpr int SIDE = TILE / EACH;
constexpr int THREADS = SIDE * SIDE;
constexpr int PADDED = TILE + 4; /* keeps float4 alignment and spreads the columns over the banks */

/*
 * tile[depth][i] of op(p), whose index i runs over rows from i0 and depth over k from k0; 0 past the ends. ALONG_K: k
 * is the fast index in memory, and lanes run along it.
 */
template <bool ALONG_K>
__device__ void load_tile(
        float (*tile)[PADDED], const float *__restrict__ p, int64_t i0, int64_t rows, int64_t k0, int64_t k)
{
#pragma unroll
	for (int turn = 0; turn < TILE * DEPTH / THREADS; turn++) {
		int at = turn * THREADS + (int)threadIdx.x;
		int i = ALONG_K ? at / DEPTH : at % TILE, depth = ALONG_K ? at % DEPTH : at / TILE;
		bool real = i0 + i < rows && k0 + depth < k;
		tile[depth][i] = !real     ? 0.0f
		                 : ALONG_K ? p[(i0 + i) * k + k0 + depth]
		                           : p[(k0 + depth) * rows + i0 + i];
	}
}

/* c[i,j] = sum + beta*c[i,j] + bias[j]; O: of c, T: of the bias. */
template <typename T, typename O> __device__ void finish(const hd_product &p, int64_t i, int64_t j, float sum)
{
	O *out = static_cast<O *>(p.c) + i * p.n + j;
	float old = p.beta == 0 ? 0 : p.beta * hd_widen(*out);
	*out = hd_narrow<O>(old + sum + (p.bias ? hd_widen(static_cast<const T *>(p.bias)[j]) : 0.0f));
}

/*
 * p  all float; c out, read too where beta is not 0
 *
 * Each sum is one chain of fused multiply-adds over k in order, so the bits do not depend on the device. 2 m n k FLOP;
 * bytes: 4 k (m n/TILE + n m/TILE) from the caches, 4 m n out. Block of THREADS, grid (m/TILE, n/TILE), shared memory
 * 8.7 KB. Any alignment. Goal: 50 % of the float32 rate without tensor cores on large shapes.
 */
template <bool A_TURNED, bool B_TURNED> __global__ void __launch_bounds__(THREADS) gemm_kernel(hd_product p)
{
	__shared__ __align__(16) float a[DEPTH][PADDED];
	__shared__ __align__(16) float b[DEPTH][PADDED];
	int row = (int)threadIdx.x / SIDE * EACH, column = (int)threadIdx.x % SIDE * EACH;
	int64_t i0 = (int64_t)blockIdx.x * TILE, j0 = (int64_t)blockIdx.y * TILE;
	float sum[EACH][EACH] = {};
	for (int64_t k0 = 0; k0 < p.k; k0 += DEPTH) {
		load_tile<!A_TURNED>(a, static_cast<const float *>(p.a), i0, p.m, k0, p.k);
		load_tile<B_TURNED>(b, static_cast<const float *>(p.b), j0, p.n, k0, p.k);
		__syncthreads();
#pragma unroll
		for (int depth = 0; depth < DEPTH; depth++) {
			hd_pack<EACH> left = hd_load<EACH>(&a[depth][row], 0),
			              right = hd_load<EACH>(&b[depth][column], 0);
#pragma unroll
			for (int i = 0; i < EACH; i++) {
#pragma unroll
				for (int j = 0; j < EACH; j++)
					sum[i][j] = fmaf(left.v[i], right.v[j], sum[i][j]);
			}
		}
		__syncthreads();
	}
#pragma unroll
	for (int i = 0; i < EACH; i++) {
#pragma unroll
		for (int j = 0; j < EACH; j++) {
			if (i0 + row + i < p.m && j0 + column + j < p.n)
				finish<float, float>(p, i0 + row + i, j0 + column + j, sum[i][j]);
		}
	}
}

/* ---- 16 bits ---- */

namespace wmma = nvcuda::wmma;

constexpr int STEP = 32;     /* of k at once */
constexpr int FRAGMENT = 16; /* rows, columns and depth of a fragment */
constexpr int HALF = TILE / 2;
constexpr int LANES_OF_BLOCK = 4 * HD_WARP; /* a warp for each quarter of the tile */
constexpr int BLOCKS_AT_ONCE = 4;           /* of a multiprocessor: without it ptxas spills for a fifth */
constexpr int PADDING = 8;                  /* keeps 16-byte rows and spreads them over the banks */
constexpr int PITCH = TILE + 4;             /* of the tile of sums */
constexpr int PACK = 8;

/* A tile of an operand as it lies in memory: ACROSS elements of DOWN lines. */
template <bool ALONG_K> struct tile_of {
	static constexpr int across = ALONG_K ? STEP : TILE, down = ALONG_K ? TILE : STEP, pitch = across + PADDING;
};

/* tile = the part of p (lines,length) from line y0, element x0 on; 0 past the ends. Packs of 16 bytes where WIDE. */
template <typename T, bool ALONG_K, bool WIDE>
__device__ void copy_tile(T *tile, const T *__restrict__ p, int64_t y0, int64_t lines, int64_t x0, int64_t length)
{
	using shape = tile_of<ALONG_K>;
	constexpr int EACH_TIME = WIDE ? PACK : 1, PACKS = shape::across / EACH_TIME;
	for (int at = (int)threadIdx.x; at < PACKS * shape::down; at += LANES_OF_BLOCK) {
		int y = at / PACKS, x = at % PACKS * EACH_TIME;
		hd_stored<T, EACH_TIME> pack;
#pragma unroll
		for (int i = 0; i < EACH_TIME; i++)
			pack.v[i] = hd_narrow<T>(0.0f);
		if (y0 + y < lines && x0 + x < length)
			pack = *reinterpret_cast<const hd_stored<T, EACH_TIME> *>(p + (y0 + y) * length + x0 + x);
		*reinterpret_cast<hd_stored<T, EACH_TIME> *>(tile + y * shape::pitch + x) = pack;
	}
}

/*
 * p  a, b, bias of T; c out of O, read too where beta is not 0. WIDE: a and b start on 16 bytes, and so do their rows.
 *
 * Products of T are exact in float; tensor cores sum them in an order that the hardware fixes, so the same device gives
 * the same bits. 2 m n k FLOP; bytes: 2 k (m n/TILE + n m/TILE) from the caches, c once out. Four warps, each with
 * 32 x 32 of the 64 x 64 of a block; tiles keep memory's order, so that nothing is turned on its way. Grid (m/TILE,
 * n/TILE), shared memory 28 KB. Goal: 20 % of the tensor cores' rate on large shapes, which is more than the float32
 * kernel's; whoever wants more has cuBLASLt.
 */
template <typename T, typename O, bool A_TURNED, bool B_TURNED, bool WIDE>
__global__ void __launch_bounds__(LANES_OF_BLOCK, BLOCKS_AT_ONCE) tensor_kernel(hd_product p)
{
	using left = tile_of<!A_TURNED>;
	using right = tile_of<B_TURNED>;
	__shared__ __align__(32) T a[left::pitch * left::down];
	__shared__ __align__(32) T b[right::pitch * right::down];
	__shared__ __align__(32) float c[TILE * PITCH];
	wmma::fragment<wmma::accumulator, FRAGMENT, FRAGMENT, FRAGMENT, float> sum[2][2];
	wmma::fragment<wmma::matrix_a, FRAGMENT, FRAGMENT, FRAGMENT, T,
	        std::conditional_t<A_TURNED, wmma::col_major, wmma::row_major>>
	        rows[2];
	wmma::fragment<wmma::matrix_b, FRAGMENT, FRAGMENT, FRAGMENT, T,
	        std::conditional_t<B_TURNED, wmma::col_major, wmma::row_major>>
	        columns[2];
	int warp = (int)threadIdx.x / HD_WARP, down = warp / 2 * HALF, across = warp % 2 * HALF;
	int64_t i0 = (int64_t)blockIdx.x * TILE, j0 = (int64_t)blockIdx.y * TILE;
	const T *from_a = static_cast<const T *>(p.a), *from_b = static_cast<const T *>(p.b);
#pragma unroll
	for (int i = 0; i < 4; i++)
		wmma::fill_fragment(sum[i / 2][i % 2], 0.0f);
	for (int64_t k0 = 0; k0 < p.k; k0 += STEP) {
		copy_tile<T, !A_TURNED, WIDE>(
		        a, from_a, A_TURNED ? k0 : i0, A_TURNED ? p.k : p.m, A_TURNED ? i0 : k0, A_TURNED ? p.m : p.k);
		copy_tile<T, B_TURNED, WIDE>(
		        b, from_b, B_TURNED ? j0 : k0, B_TURNED ? p.n : p.k, B_TURNED ? k0 : j0, B_TURNED ? p.k : p.n);
		__syncthreads();
#pragma unroll
		for (int depth = 0; depth < STEP; depth += FRAGMENT) {
#pragma unroll
			for (int i = 0; i < 2; i++) {
				int y = down + i * FRAGMENT, x = across + i * FRAGMENT;
				wmma::load_matrix_sync(rows[i],
				        a + (A_TURNED ? depth * left::pitch + y : y * left::pitch + depth),
				        (unsigned)left::pitch);
				wmma::load_matrix_sync(columns[i],
				        b + (B_TURNED ? x * right::pitch + depth : depth * right::pitch + x),
				        (unsigned)right::pitch);
			}
#pragma unroll
			for (int i = 0; i < 4; i++)
				wmma::mma_sync(sum[i / 2][i % 2], rows[i / 2], columns[i % 2], sum[i / 2][i % 2]);
		}
		__syncthreads();
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		wmma::store_matrix_sync(c + (down + i / 2 * FRAGMENT) * PITCH + across + i % 2 * FRAGMENT,
		        sum[i / 2][i % 2], (unsigned)PITCH, wmma::mem_row_major);
	__syncthreads();
	for (int at = (int)threadIdx.x; at < TILE * TILE; at += LANES_OF_BLOCK) {
		int i = at / TILE, j = at % TILE;
		if (i0 + i < p.m && j0 + j < p.n)
			finish<T, O>(p, i0 + i, j0 + j, c[i * PITCH + j]);
	}
}

bool is_wide(const hd_product *p)
{
	int64_t a = p->a_turned ? p->m : p->k, b = p->b_turned ? p->k : p->n;
	return a % PACK == 0 && b % PACK == 0 && hd_cuda_aligned16(p->a) && hd_cuda_aligned16(p->b);
}

template <typename T, typename O, bool A_TURNED, bool B_TURNED>
void launch_tensor(const hd_product *p, dim3 grid, cudaStream_t stream)
{
	if (is_wide(p))
		tensor_kernel<T, O, A_TURNED, B_TURNED, true><<<grid, LANES_OF_BLOCK, 0, stream>>>(*p);
	else
		tensor_kernel<T, O, A_TURNED, B_TURNED, false><<<grid, LANES_OF_BLOCK, 0, stream>>>(*p);
}

template <typename T> void launch(const hd_product *p, dim3 grid, cudaStream_t stream)
{
	if (p->a_turned)
		launch_tensor<T, float, true, false>(p, grid, stream);
	else if (p->b_turned)
		launch_tensor<T, T, false, true>(p, grid, stream);
	else
		launch_tensor<T, T, false, false>(p, grid, stream);
}

template <> void launch<float>(const hd_product *p, dim3 grid, cudaStream_t stream)
{
	if (p->a_turned)
		gemm_kernel<true, false><<<grid, THREADS, 0, stream>>>(*p);
	else if (p->b_turned)
		gemm_kernel<false, true><<<grid, THREADS, 0, stream>>>(*p);
	else
		gemm_kernel<false, false><<<grid, THREADS, 0, stream>>>(*p);
}

} /* namespace */

hd_status hd_cuda_gemm(const hd_product *p, cudaStream_t stream)
{
	dim3 grid((unsigned)hd_divide_up(p->m, TILE), (unsigned)hd_divide_up(p->n, TILE));
	if (p->m == 0 || p->n == 0)
		return HD_OK;
	if (hd_divide_up(p->n, TILE) > UINT16_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "gemm: %ld columns are too many", (long)p->n);
	HD_BY_DTYPE(gemm, p->dt, launch<T>(p, grid, stream));
	return HD_CUDA_LAUNCHED(gemm);
}
