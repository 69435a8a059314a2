/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

hd_status HD_CPU(add)(void *dst, const void *a, const void *b, hd_dtype dt, int64_t n, hd_stream *stream)
{
	(void)stream;
	HD_ONLY_F32(dt);
	float *out = dst;
	const float *x = a, *y = b;
#pragma omp parallel for simd schedule(static) if (parallel : n > HD_PARALLEL_MIN)
	for (int64_t i = 0; i < n; i++)
		out[i] = x[i] + y[i];
	return HD_OK;
}
