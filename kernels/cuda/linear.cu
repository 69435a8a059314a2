/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear layers: products (product.h), of which the bias is a part; its gradient is a sum of columns made here.
 */
#include "kernels/cuda/product.h"
#include "kernels/cuda/reduce.cuh"

namespace
{

constexpr int COLUMNS = 32; /* packs of columns of a block */
constexpr int ROWS = 8;
constexpr int PIECE_ROWS = 64; /* rows of a piece of the bias gradient, at least */

/*
 * part  out (pieces,K) float: column sums over the piece's rows
 * dy    in  (rows,K) of T, read by packs of W, of which a row has `packs`
 *
 * Piece b takes rows b*rows/pieces on. A thread adds every ROWS-th row of W columns in order, and the block's ROWS
 * sums are added in order: the bits depend on the shape alone. 1 FLOP and sizeof(T) bytes per element. Block (COLUMNS,
 * ROWS), grid (pieces, packs/COLUMNS), shared memory W KB. Goal: 80 % of the copy rate.
 */
template <typename T, int W>
__global__ void __launch_bounds__(COLUMNS *ROWS)
        column_sums_kernel(float *__restrict__ part, const T *__restrict__ dy, int64_t rows, int packs)
{
	__shared__ float sums[W][ROWS][COLUMNS];
	int pack = (int)(blockIdx.y * COLUMNS + threadIdx.x);
	int64_t from = blockIdx.x * rows / gridDim.x, to = (blockIdx.x + 1) * rows / gridDim.x;
	hd_pack<W> sum = {};
	for (int64_t row = from + threadIdx.y; row < to && pack < packs; row += ROWS) {
		hd_pack<W> value = hd_load<W>(dy, row * packs + pack);
#pragma unroll
		for (int i = 0; i < W; i++)
			sum.v[i] += value.v[i];
	}
#pragma unroll
	for (int i = 0; i < W; i++)
		sums[i][threadIdx.y][threadIdx.x] = sum.v[i];
	__syncthreads();
	if (threadIdx.y != 0 || pack >= packs)
		return;
	for (int y = 1; y < ROWS; y++) {
#pragma unroll
		for (int i = 0; i < W; i++)
			sum.v[i] += sums[i][y][threadIdx.x];
	}
	hd_store<W>(part, (int64_t)blockIdx.x * packs + pack, sum);
}

int64_t pieces_of(int64_t rows)
{
	int64_t pieces = rows / PIECE_ROWS;
	return pieces < 1 ? 1 : pieces < HD_CUDA_PIECES ? pieces : HD_CUDA_PIECES;
}

template <typename T, int W>
void launch_sums(float *part, const void *dy, int64_t rows, int64_t K, int64_t pieces, hd_stream *stream)
{
	dim3 grid((unsigned)pieces, (unsigned)hd_divide_up(K / W, COLUMNS));
	column_sums_kernel<T, W><<<grid, dim3(COLUMNS, ROWS), 0, hd_cuda_stream(stream)>>>(
	        part, static_cast<const T *>(dy), rows, (int)(K / W));
}

template <typename T>
void column_sums(float *part, const void *dy, int64_t rows, int64_t K, int64_t pieces, hd_stream *stream)
{
	constexpr int W = hd_width<T>::value;
	if (K % W == 0 && hd_cuda_aligned16(dy) && hd_cuda_aligned16(part))
		launch_sums<T, W>(part, dy, rows, K, pieces, stream);
	else
		launch_sums<T, 1>(part, dy, rows, K, pieces, stream);
}

hd_status bias_gradient(
        float *db, const void *dy, float beta, float *part, hd_dtype dt, int64_t rows, int64_t K, hd_stream *stream)
{
	int64_t pieces = pieces_of(rows);
	if (K == 0)
		return HD_OK;
	if (hd_divide_up(K, COLUMNS) > UINT16_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "linear_bwd_weight: %ld outputs are too many", (long)K);
	HD_BY_DTYPE(linear_bwd_weight, dt, column_sums<T>(part, dy, rows, K, pieces, stream));
	hd_cuda_combine(db, part, beta, pieces, K, stream);
	return HD_CUDA_LAUNCHED(linear_bwd_weight);
}

/* A type that products do not have is an error of the operation. */
hd_status multiply(const char *op, const hd_product *p, hd_stream *stream)
{
	if (p->dt != HD_F32 && p->dt != HD_BF16 && p->dt != HD_F16)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "%s: activations are float32, bfloat16 or half", op);
	return hd_cuda_multiply(p, stream);
}

} /* namespace */

hd_status hd_cuda_linear_fwd(void *y, const void *x, const void *w, const void *b, hd_dtype dt, int64_t rows, int64_t C,
        int64_t K, hd_stream *stream)
{
	hd_product p = {y, x, w, b, dt, false, true, rows, K, C, 0};
	return multiply("linear_fwd", &p, stream);
}

hd_status hd_cuda_linear_bwd_data(
        void *dx, const void *dy, const void *w, hd_dtype dt, int64_t rows, int64_t C, int64_t K, hd_stream *stream)
{
	hd_product p = {dx, dy, w, NULL, dt, false, false, rows, C, K, 0};
	return multiply("linear_bwd_data", &p, stream);
}

size_t hd_cuda_linear_bwd_weight_work(int64_t rows, int64_t C, int64_t K)
{
	(void)C;
	return (size_t)(pieces_of(rows) * K) * sizeof(float);
}

hd_status hd_cuda_linear_bwd_weight(float *dw, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t rows, int64_t C, int64_t K, hd_stream *stream)
{
	if (db) {
		hd_status st = bias_gradient(db, dy, beta, static_cast<float *>(work), dt, rows, K, stream);
		if (st != HD_OK)
			return st;
	}
	hd_product p = {dw, dy, x, NULL, dt, true, false, K, C, rows, beta};
	return multiply("linear_bwd_weight", &p, stream);
}
