/* SPDX-License-Identifier: Apache-2.0 */
/* Patches of a map to rows and back, of any type. A patch row of p*C values is contiguous on both sides. */
#include <string.h>

#include "kernels/cpu/cpu.h"

hd_status HD_CPU(patch_gather)(void *cols, const void *x, hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C,
        int64_t p, hd_stream *stream)
{
	(void)stream;
	const char *in = x;
	char *out = cols;
	int64_t Ho = H / p, Wo = W / p, pixel = C * (int64_t)hd_dtype_bytes(dt), run = p * pixel;
#pragma omp parallel for collapse(2) schedule(static) if (N * H * W * C > HD_PARALLEL_MIN)
	for (int64_t n = 0; n < N; n++)
		for (int64_t ho = 0; ho < Ho; ho++)
			for (int64_t wo = 0; wo < Wo; wo++)
				for (int64_t i = 0; i < p; i++)
					memcpy(out + (((n * Ho + ho) * Wo + wo) * p + i) * run,
					        in + ((n * H + ho * p + i) * W + wo * p) * pixel, (size_t)run);
	return HD_OK;
}

hd_status HD_CPU(patch_scatter)(void *dx, const void *dcols, hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C,
        int64_t p, hd_stream *stream)
{
	(void)stream;
	const char *in = dcols;
	char *out = dx;
	int64_t Ho = H / p, Wo = W / p, pixel = C * (int64_t)hd_dtype_bytes(dt), run = p * pixel;
#pragma omp parallel for collapse(2) schedule(static) if (N * H * W * C > HD_PARALLEL_MIN)
	for (int64_t n = 0; n < N; n++) {
		for (int64_t h = 0; h < H; h++) {
			char *row = out + (n * H + h) * W * pixel;
			int64_t ho = h / p, i = h % p, used = ho < Ho ? Wo * run : 0;
			for (int64_t wo = 0; wo * run < used; wo++)
				memcpy(row + wo * run, in + (((n * Ho + ho) * Wo + wo) * p + i) * run, (size_t)run);
			memset(row + used, 0, (size_t)(W * pixel - used));
		}
	}
	return HD_OK;
}
