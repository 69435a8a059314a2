/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse mel filters and decibels. */
#include <math.h>

#include "kernels/cpu/cpu.h"

hd_status HD_CPU(mel_db)(float *db, const float *power, const int32_t *first, const int32_t *offset, const float *w,
        float floor, int64_t R, int64_t T, int64_t F, int64_t M, hd_stream *stream)
{
	(void)stream;
#pragma omp parallel for schedule(static) if (R * T * M > HD_PARALLEL_MIN / 8)
	for (int64_t i = 0; i < R * T; i++) {
		const float *frame = power + i * F;
		for (int64_t m = 0; m < M; m++) {
			float sum = 0;
			for (int32_t k = offset[m]; k < offset[m + 1]; k++)
				sum += w[k] * frame[first[m] + k - offset[m]];
			db[(i / T * M + m) * T + i % T] = 10.0f * log10f(sum + floor);
		}
	}
	return HD_OK;
}
