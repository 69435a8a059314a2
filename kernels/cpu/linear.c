/* SPDX-License-Identifier: Apache-2.0 */
/* Linear layers: products by oneDNN's sgemm (row-major), bias and its gradient here. */
#include <dnnl.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* c (m,n) = op(a) op(b) + beta*c; m, n > 0. Over k = 0 terms it is beta*c, which sgemm refuses to compute. */
static hd_status product(char ta, char tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
        int64_t ldb, float beta, float *c, int64_t ldc)
{
	if (k == 0) {
		for (int64_t i = 0; i < m * n; i++)
			c[i] = beta == 0 ? 0 : beta * c[i];
		return HD_OK;
	}
	dnnl_status_t status = dnnl_sgemm(ta, tb, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
	if (status != dnnl_success)
		return hd_fail(
		        HD_E_FAILED, "dnnl_sgemm %ld x %ld x %ld: status %d", (long)m, (long)n, (long)k, (int)status);
	return HD_OK;
}

hd_status HD_CPU(linear_fwd)(void *y, const void *x, const void *w, const void *b, hd_dtype dt, int64_t rows, int64_t C,
        int64_t K, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(linear_fwd)(y, x, w, b, HD_F32, rows, C, K, stream), HD_WRITES(y, rows * K),
	        HD_READS(x, rows * C), HD_READS(w, K * C), HD_READS(b, K));
	float *out = y;
	if (rows == 0 || K == 0)
		return HD_OK;
	if (b) {
#pragma omp parallel for schedule(static) if (rows * K > HD_PARALLEL_MIN)
		for (int64_t r = 0; r < rows; r++)
			memcpy(out + r * K, b, (size_t)K * sizeof(float));
	}
	return product('N', 'T', rows, K, C, x, C, w, C, b ? 1.0f : 0.0f, out, K);
}

hd_status HD_CPU(linear_bwd_data)(
        void *dx, const void *dy, const void *w, hd_dtype dt, int64_t rows, int64_t C, int64_t K, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(linear_bwd_data)(dx, dy, w, HD_F32, rows, C, K, stream), HD_WRITES(dx, rows * C),
	        HD_READS(dy, rows * K), HD_READS(w, K * C));
	if (rows == 0 || C == 0)
		return HD_OK;
	return product('N', 'N', rows, C, K, dy, K, w, C, 0.0f, dx, C);
}

size_t HD_CPU(linear_bwd_weight_work)(int64_t rows, int64_t C, int64_t K)
{
	(void)rows;
	(void)C;
	return (size_t)(HD_PIECES * K) * sizeof(float);
}

/* Column sums of dy (rows,K), piece by piece. */
static void bias_gradient(float *db, const float *dy, float beta, float *part, int64_t rows, int64_t K)
{
#pragma omp parallel for schedule(static) if (rows * K > HD_PARALLEL_MIN)
	for (int64_t piece = 0; piece < HD_PIECES; piece++) {
		hd_clear_sums(part + piece * K, K);
		for (int64_t r = hd_piece_start(piece, rows); r < hd_piece_start(piece + 1, rows); r++)
			hd_add_row(part + piece * K, dy + r * K, K);
	}
	hd_combine_pieces(db, part, beta, K);
}

hd_status HD_CPU(linear_bwd_weight)(float *dw, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t rows, int64_t C, int64_t K, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(linear_bwd_weight)(dw, db, dy, x, beta, work, HD_F32, rows, C, K, stream),
	        HD_READS(dy, rows * K), HD_READS(x, rows * C));
	if (db)
		bias_gradient(db, dy, beta, work, rows, K);
	if (K == 0 || C == 0)
		return HD_OK;
	return product('T', 'N', K, C, rows, dy, K, x, C, beta, dw, C);
}
