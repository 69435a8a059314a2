/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

hd_status HD_CPU(add)(float *dst, const float *a, const float *b, int64_t n, hd_stream *stream)
{
	(void)stream;
#pragma omp parallel for simd schedule(static) if (parallel : n > HD_PARALLEL_MIN)
	for (int64_t i = 0; i < n; i++)
		dst[i] = a[i] + b[i];
	return HD_OK;
}
