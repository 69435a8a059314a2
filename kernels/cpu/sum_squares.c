/* SPDX-License-Identifier: Apache-2.0 */
/* Sum of squares of the flat gradient, in double, over fixed pieces. */
#include "kernels/cpu/cpu.h"

size_t HD_CPU(sum_squares_work)(int64_t n)
{
	(void)n;
	return HD_PIECES * sizeof(double);
}

hd_status HD_CPU(sum_squares)(float *out, const float *g, void *work, int64_t n, hd_stream *stream)
{
	(void)stream;
	double *part = work, total = 0;
#pragma omp parallel for schedule(static) if (n > HD_PARALLEL_MIN)
	for (int64_t piece = 0; piece < HD_PIECES; piece++) {
		double sum = 0;
		int64_t end = hd_piece_start(piece + 1, n);
#pragma omp simd reduction(+ : sum)
		for (int64_t i = hd_piece_start(piece, n); i < end; i++)
			sum += (double)g[i] * (double)g[i];
		part[piece] = sum;
	}
	for (int64_t piece = 0; piece < HD_PIECES; piece++)
		total += part[piece];
	out[0] = (float)total;
	return HD_OK;
}
