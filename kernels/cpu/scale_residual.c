/* SPDX-License-Identifier: Apache-2.0 */
/* Layer scale, drop path and the skip connection in one pass. */
#include "kernels/cpu/cpu.h"

hd_status HD_CPU(scale_residual_fwd)(void *y, const void *x, const void *residual, const float *gamma,
        const float *row_scale, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(scale_residual_fwd)(y, x, residual, gamma, row_scale, HD_F32, N, P, C, stream),
	        HD_WRITES(y, N * P * C), HD_READS(x, N * P * C), HD_READS(residual, N * P * C));
#pragma omp parallel for collapse(2) schedule(static) if (N * P * C > HD_PARALLEL_MIN)
	for (int64_t n = 0; n < N; n++) {
		for (int64_t p = 0; p < P; p++) {
			int64_t at = (n * P + p) * C;
			const float *in = (const float *)x + at, *skip = (const float *)residual + at;
			float *out = (float *)y + at;
			float keep = row_scale ? row_scale[n] : 1.0f;
#pragma omp simd
			for (int64_t c = 0; c < C; c++)
				out[c] = skip[c] + keep * gamma[c] * in[c];
		}
	}
	return HD_OK;
}

size_t HD_CPU(scale_residual_bwd_work)(int64_t N, int64_t P, int64_t C)
{
	(void)N;
	(void)P;
	return (size_t)(2 * HD_PIECES * C) * sizeof(float);
}

hd_status HD_CPU(scale_residual_bwd)(void *dx, float *dgamma, float *db, const void *dy, const void *x,
        const float *gamma, const float *row_scale, float beta, void *work, hd_dtype dt, int64_t N, int64_t P,
        int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt,
	        HD_CPU(scale_residual_bwd)(
	                dx, dgamma, db, dy, x, gamma, row_scale, beta, work, HD_F32, N, P, C, stream),
	        HD_WRITES(dx, N * P * C), HD_READS(dy, N * P * C), HD_READS(x, N * P * C));
	float *part = work, *bias_part = part + HD_PIECES * C;
#pragma omp parallel for schedule(static) if (N * P * C > HD_PARALLEL_MIN)
	for (int64_t piece = 0; piece < HD_PIECES; piece++) {
		float *sum = part + piece * C;
		hd_clear_sums(sum, C);
		if (db)
			hd_clear_sums(bias_part + piece * C, C);
		for (int64_t r = hd_piece_start(piece, N * P); r < hd_piece_start(piece + 1, N * P); r++) {
			const float *in = (const float *)x + r * C, *g = (const float *)dy + r * C;
			float *out = (float *)dx + r * C;
			float keep = row_scale ? row_scale[r / P] : 1.0f;
#pragma omp simd
			for (int64_t c = 0; c < C; c++) {
				out[c] = keep * gamma[c] * g[c];
				sum[c] += keep * g[c] * in[c];
			}
			if (db)
				hd_add_row(bias_part + piece * C, out, C);
		}
	}
	hd_combine_pieces(dgamma, part, beta, C);
	if (db)
		hd_combine_pieces(db, bias_part, beta, C);
	return HD_OK;
}
