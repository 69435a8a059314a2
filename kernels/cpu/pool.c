/* SPDX-License-Identifier: Apache-2.0 */
/* Mean over the map. */
#include "kernels/cpu/cpu.h"

hd_status HD_CPU(pool_fwd)(float *y, const void *x, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(pool_fwd)(y, x, HD_F32, N, P, C, stream), HD_READS(x, N * P * C));
	for (int64_t n = 0; n < N; n++) {
		float *out = y + n * C;
		hd_clear_sums(out, C);
		for (int64_t p = 0; p < P; p++)
			hd_add_row(out, (const float *)x + (n * P + p) * C, C);
#pragma omp simd
		for (int64_t c = 0; c < C; c++)
			out[c] /= (float)P;
	}
	return HD_OK;
}

hd_status HD_CPU(pool_bwd)(void *dx, const float *dy, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(pool_bwd)(dx, dy, HD_F32, N, P, C, stream), HD_WRITES(dx, N * P * C));
	for (int64_t n = 0; n < N; n++) {
		const float *g = dy + n * C;
		for (int64_t p = 0; p < P; p++) {
			float *out = (float *)dx + (n * P + p) * C;
#pragma omp simd
			for (int64_t c = 0; c < C; c++)
				out[c] = g[c] / (float)P;
		}
	}
	return HD_OK;
}
