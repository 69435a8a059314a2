/* SPDX-License-Identifier: Apache-2.0 */
/* Patch convolutions: the patches as rows of a matrix, then a linear layer. */
#include "kernels/cpu/cpu.h"

static int64_t rows_of(int64_t N, int64_t H, int64_t W, int64_t p)
{
	return N * (H / p) * (W / p);
}

/* Of the patches at the start of work, up to the next 64 bytes. */
static size_t columns_bytes(int64_t N, int64_t H, int64_t W, int64_t C, int64_t p)
{
	size_t bytes = (size_t)(rows_of(N, H, W, p) * p * p * C) * sizeof(float);
	return (bytes + 63) / 64 * 64;
}

size_t HD_CPU(patch_conv_fwd_work)(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p)
{
	(void)K;
	return columns_bytes(N, H, W, C, p);
}

hd_status HD_CPU(patch_conv_fwd)(void *y, const void *x, const void *w, const void *b, void *work, hd_dtype dt,
        int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p, hd_stream *stream)
{
	HD_IN_FLOATS(dt, HD_CPU(patch_conv_fwd)(y, x, w, b, work, HD_F32, N, H, W, C, K, p, stream),
	        HD_WRITES(y, rows_of(N, H, W, p) * K), HD_READS(x, N * H * W * C), HD_READS(w, K * p * p * C),
	        HD_READS(b, K));
	hd_status st = HD_OK;
	HD_TRY(HD_CPU(patch_gather)(work, x, dt, N, H, W, C, p, stream));
	HD_TRY(HD_CPU(linear_fwd)(y, work, w, b, dt, rows_of(N, H, W, p), p * p * C, K, stream));
done:
	return st;
}

size_t HD_CPU(patch_conv_bwd_data_work)(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p)
{
	(void)K;
	return columns_bytes(N, H, W, C, p);
}

hd_status HD_CPU(patch_conv_bwd_data)(void *dx, const void *dy, const void *w, void *work, hd_dtype dt, int64_t N,
        int64_t H, int64_t W, int64_t C, int64_t K, int64_t p, hd_stream *stream)
{
	HD_IN_FLOATS(dt, HD_CPU(patch_conv_bwd_data)(dx, dy, w, work, HD_F32, N, H, W, C, K, p, stream),
	        HD_WRITES(dx, N * H * W * C), HD_READS(dy, rows_of(N, H, W, p) * K), HD_READS(w, K * p * p * C));
	hd_status st = HD_OK;
	HD_TRY(HD_CPU(linear_bwd_data)(work, dy, w, dt, rows_of(N, H, W, p), p * p * C, K, stream));
	HD_TRY(HD_CPU(patch_scatter)(dx, work, dt, N, H, W, C, p, stream));
done:
	return st;
}

size_t HD_CPU(patch_conv_bwd_weight_work)(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p)
{
	return columns_bytes(N, H, W, C, p) + HD_CPU(linear_bwd_weight_work)(rows_of(N, H, W, p), p * p * C, K);
}

hd_status HD_CPU(patch_conv_bwd_weight)(float *dw, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p, hd_stream *stream)
{
	HD_IN_FLOATS(dt, HD_CPU(patch_conv_bwd_weight)(dw, db, dy, x, beta, work, HD_F32, N, H, W, C, K, p, stream),
	        HD_READS(dy, rows_of(N, H, W, p) * K), HD_READS(x, N * H * W * C));
	hd_status st = HD_OK;
	void *rest = (char *)work + columns_bytes(N, H, W, C, p);
	HD_TRY(HD_CPU(patch_gather)(work, x, dt, N, H, W, C, p, stream));
	HD_TRY(HD_CPU(linear_bwd_weight)(dw, db, dy, work, beta, rest, dt, rows_of(N, H, W, p), p * p * C, K, stream));
done:
	return st;
}
