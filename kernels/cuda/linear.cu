/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear layers: products (product.h), of which the bias is a part; its gradient is a sum of columns made here.
 */
#include "kernels/cuda/product.h"
#include "kernels/cuda/reduce.cuh"

namespace
{

/*
 * db       in, out (K) float: beta * db + column sums; not touched where counters is NULL
 * part     out (gridDim.y,K) float: column sums over the piece's rows
 * counters in, out (gridDim.x), 0 before and after
 * dy       in (rows,K) of T, read by packs of W; W > 1: 16-byte aligned and K % W == 0
 *
 * Piece b takes rows b*rows/pieces on. A thread adds every 32nd row of W columns in order, then the block's 32 sums are
 * added in order, then by the last block of a group of columns the pieces (hd_add_pieces): the bits depend on the shape
 * alone. 1 FLOP and sizeof(T) bytes per element. Block (8,32), grid (K/W/8 rounded up, min(128, rows/64 rounded up)),
 * shared memory W KiB. Goal: 80 % of the copy rate.
 */
template <typename T, int W>
__global__ void __launch_bounds__(HD_SUM_THREADS) column_sums_kernel(
        float *db, float *part, unsigned *counters, const T *__restrict__ dy, float beta, int64_t rows, int64_t K)
{
	__shared__ hd_pack<W> sums[HD_SUM_ROWS][HD_SUM_PACKS];
	int64_t packs = K / W, pack = (int64_t)blockIdx.x * HD_SUM_PACKS + threadIdx.x;
	int64_t from = blockIdx.y * rows / gridDim.y, to = (blockIdx.y + 1) * rows / gridDim.y;
	hd_pack<W> sum = {};
	for (int64_t row = from + threadIdx.y; row < to && pack < packs; row += HD_SUM_ROWS) {
		hd_pack<W> value = hd_load<W>(dy, row * packs + pack);
#pragma unroll
		for (int i = 0; i < W; i++)
			sum.v[i] += value.v[i];
	}
	hd_sum_rows<W>(part, sums, sum, K);
	if (counters && hd_last_block(counters + blockIdx.x, gridDim.y))
		hd_add_pieces<W>(db, part, beta, sums, K);
}

template <typename T, int W>
void launch_sums(float *db, float *part, const void *dy, float beta, int64_t rows, int64_t K, hd_stream *stream)
{
	unsigned groups = hd_cuda_sum_groups<W>(K), pieces = hd_cuda_pieces(rows);
	unsigned *counters = hd_cuda_counters(stream, groups);
	column_sums_kernel<T, W><<<dim3(groups, pieces), HD_SUM_BLOCK, 0, hd_cuda_stream(stream)>>>(
	        db, part, counters, static_cast<const T *>(dy), beta, rows, K);
	if (!counters)
		hd_cuda_combine(db, part, beta, pieces, K, stream);
}

template <typename T>
void column_sums(float *db, float *part, const void *dy, float beta, int64_t rows, int64_t K, hd_stream *stream)
{
	constexpr int W = hd_width<T>::value;
	if (K % W == 0 && hd_cuda_aligned16(dy))
		launch_sums<T, W>(db, part, dy, beta, rows, K, stream);
	else
		launch_sums<T, 1>(db, part, dy, beta, rows, K, stream);
}

hd_status bias_gradient(
        float *db, const void *dy, float beta, float *part, hd_dtype dt, int64_t rows, int64_t K, hd_stream *stream)
{
	if (K == 0)
		return HD_OK;
	HD_BY_DTYPE(linear_bwd_weight, dt, column_sums<T>(db, part, dy, beta, rows, K, stream));
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
	return (size_t)hd_cuda_pieces(rows) * (size_t)K * sizeof(float);
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
