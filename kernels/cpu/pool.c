/* SPDX-License-Identifier: Apache-2.0 */
/* Mean over the map. */
#include <string.h>

#include "kernels/cpu/cpu.h"

hd_status HD_CPU(pool_fwd)(void *y, const void *x, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_ONLY_F32(dt);
	for (int64_t n = 0; n < N; n++) {
		float *out = (float *)y + n * C;
		memset(out, 0, (size_t)C * sizeof(float));
		for (int64_t p = 0; p < P; p++) {
			const float *in = (const float *)x + (n * P + p) * C;
#pragma omp simd
			for (int64_t c = 0; c < C; c++)
				out[c] += in[c];
		}
#pragma omp simd
		for (int64_t c = 0; c < C; c++)
			out[c] /= (float)P;
	}
	return HD_OK;
}

hd_status HD_CPU(pool_bwd)(void *dx, const void *dy, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_ONLY_F32(dt);
	for (int64_t n = 0; n < N; n++) {
		const float *g = (const float *)dy + n * C;
		for (int64_t p = 0; p < P; p++) {
			float *out = (float *)dx + (n * P + p) * C;
#pragma omp simd
			for (int64_t c = 0; c < C; c++)
				out[c] = g[c] / (float)P;
		}
	}
	return HD_OK;
}
