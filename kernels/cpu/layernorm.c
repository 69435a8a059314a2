/* SPDX-License-Identifier: Apache-2.0 */
/* LayerNorm over the last axis (Ba, Kiros, Hinton 2016), two passes over a row that stays in cache. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

hd_status HD_CPU(layernorm_fwd)(void *y, float *mean, float *rstd, const void *x, const float *gamma, const float *bias,
        float eps, hd_dtype dt, int64_t rows, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(layernorm_fwd)(y, mean, rstd, x, gamma, bias, eps, HD_F32, rows, C, stream),
	        HD_WRITES(y, rows * C), HD_READS(x, rows * C));
#pragma omp parallel for schedule(static) if (rows * C > HD_PARALLEL_MIN)
	for (int64_t r = 0; r < rows; r++) {
		const float *in = (const float *)x + r * C;
		float *out = (float *)y + r * C;
		float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
		for (int64_t c = 0; c < C; c++)
			sum += in[c];
		float mu = sum / (float)C;
#pragma omp simd reduction(+ : squares)
		for (int64_t c = 0; c < C; c++)
			squares += (in[c] - mu) * (in[c] - mu);
		float scale = 1.0f / sqrtf(squares / (float)C + eps);
#pragma omp simd
		for (int64_t c = 0; c < C; c++)
			out[c] = (in[c] - mu) * scale * gamma[c] + bias[c];
		mean[r] = mu;
		rstd[r] = scale;
	}
	return HD_OK;
}

size_t HD_CPU(layernorm_bwd_work)(int64_t rows, int64_t C)
{
	(void)rows;
	return (size_t)(2 * HD_PIECES * C) * sizeof(float);
}

/* dx = rstd * (g - mean(g) - xhat * mean(g * xhat)) with g = gamma * dy; adds to the parameter sums. */
static void row_backward(float *restrict dx, float *restrict dgamma, float *restrict dbias, const float *restrict dy,
        const float *restrict x, const float *restrict gamma, float mean, float rstd, int64_t C)
{
	float sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
	for (int64_t c = 0; c < C; c++) {
		float g = gamma[c] * dy[c], xhat = (x[c] - mean) * rstd;
		sum += g;
		dot += g * xhat;
		dgamma[c] += dy[c] * xhat;
		dbias[c] += dy[c];
	}
	sum /= (float)C;
	dot /= (float)C;
#pragma omp simd
	for (int64_t c = 0; c < C; c++)
		dx[c] = rstd * (gamma[c] * dy[c] - sum - (x[c] - mean) * rstd * dot);
}

hd_status HD_CPU(layernorm_bwd)(void *dx, float *dgamma, float *dbias, const void *dy, const void *x, const float *mean,
        const float *rstd, const float *gamma, float beta, void *work, hd_dtype dt, int64_t rows, int64_t C,
        hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt,
	        HD_CPU(layernorm_bwd)(dx, dgamma, dbias, dy, x, mean, rstd, gamma, beta, work, HD_F32, rows, C, stream),
	        HD_WRITES(dx, rows * C), HD_READS(dy, rows * C), HD_READS(x, rows * C));
	float *part = work;
#pragma omp parallel for schedule(static) if (rows * C > HD_PARALLEL_MIN)
	for (int64_t piece = 0; piece < HD_PIECES; piece++) {
		float *pg = part + piece * C, *pb = part + (HD_PIECES + piece) * C;
		memset(pg, 0, (size_t)C * sizeof(float));
		memset(pb, 0, (size_t)C * sizeof(float));
		for (int64_t r = hd_piece_start(piece, rows); r < hd_piece_start(piece + 1, rows); r++)
			row_backward((float *)dx + r * C, pg, pb, (const float *)dy + r * C, (const float *)x + r * C,
			        gamma, mean[r], rstd[r], C);
	}
	hd_combine_pieces(dgamma, part, beta, C);
	hd_combine_pieces(dbias, part + HD_PIECES * C, beta, C);
	return HD_OK;
}
