/* SPDX-License-Identifier: Apache-2.0 */
/* Patches of a map to rows and back. A patch row of p*C floats is contiguous on both sides. */
#include <string.h>

#include "kernels/cpu/cpu.h"

hd_status HD_CPU(patch_gather)(void *cols, const void *x, hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C,
        int64_t p, hd_stream *stream)
{
	(void)stream;
	HD_ONLY_F32(dt);
	const float *in = x;
	float *out = cols;
	int64_t Ho = H / p, Wo = W / p, run = p * C;
#pragma omp parallel for collapse(2) schedule(static) if (N * H * W * C > HD_PARALLEL_MIN)
	for (int64_t n = 0; n < N; n++)
		for (int64_t ho = 0; ho < Ho; ho++)
			for (int64_t wo = 0; wo < Wo; wo++)
				for (int64_t i = 0; i < p; i++)
					memcpy(out + (((n * Ho + ho) * Wo + wo) * p + i) * run,
					        in + ((n * H + ho * p + i) * W + wo * p) * C,
					        (size_t)run * sizeof(float));
	return HD_OK;
}

hd_status HD_CPU(patch_scatter)(void *dx, const void *dcols, hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C,
        int64_t p, hd_stream *stream)
{
	(void)stream;
	HD_ONLY_F32(dt);
	const float *in = dcols;
	float *out = dx;
	int64_t Ho = H / p, Wo = W / p, run = p * C;
#pragma omp parallel for collapse(2) schedule(static) if (N * H * W * C > HD_PARALLEL_MIN)
	for (int64_t n = 0; n < N; n++) {
		for (int64_t h = 0; h < H; h++) {
			float *row = out + (n * H + h) * W * C;
			int64_t ho = h / p, i = h % p, used = ho < Ho ? Wo * run : 0;
			for (int64_t wo = 0; wo * run < used; wo++)
				memcpy(row + wo * run, in + (((n * Ho + ho) * Wo + wo) * p + i) * run,
				        (size_t)run * sizeof(float));
			memset(row + used, 0, (size_t)(W * C - used) * sizeof(float));
		}
	}
	return HD_OK;
}
