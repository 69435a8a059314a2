/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix product in float32 by tiles in shared memory: for where cuBLASLt is not there or has no algorithm. */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/reduce.cuh"

namespace
{

constexpr int TILE = 64;  /* rows and columns of c of a block */
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

/*
 * p.c     out (m,n) float, read too where beta is not 0
 * p.a     in  (m,k), or (k,m) with A_TURNED; p.b in (k,n), or (n,k) with B_TURNED; p.bias in (n) or NULL; all float
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
		load_tile<!A_TURNED>(a, p.a, i0, p.m, k0, p.k);
		load_tile<B_TURNED>(b, p.b, j0, p.n, k0, p.k);
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
			if (i0 + row + i >= p.m || j0 + column + j >= p.n)
				continue;
			float *out = p.c + (i0 + row + i) * p.n + j0 + column + j;
			float old = p.beta == 0 ? 0 : p.beta * *out, bias = p.bias ? p.bias[j0 + column + j] : 0;
			*out = old + sum[i][j] + bias;
		}
	}
}

} /* namespace */

hd_status hd_cuda_gemm(const hd_product *p, cudaStream_t stream)
{
	dim3 grid((unsigned)hd_divide_up(p->m, TILE), (unsigned)hd_divide_up(p->n, TILE));
	if (p->m == 0 || p->n == 0)
		return HD_OK;
	if (hd_divide_up(p->n, TILE) > UINT16_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "gemm: %ld columns are too many", (long)p->n);
	if (p->a_turned && p->b_turned)
		gemm_kernel<true, true><<<grid, THREADS, 0, stream>>>(*p);
	else if (p->a_turned)
		gemm_kernel<true, false><<<grid, THREADS, 0, stream>>>(*p);
	else if (p->b_turned)
		gemm_kernel<false, true><<<grid, THREADS, 0, stream>>>(*p);
	else
		gemm_kernel<false, false><<<grid, THREADS, 0, stream>>>(*p);
	return HD_CUDA_LAUNCHED(gemm);
}
