/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution, then LayerNorm: image by image, so that the norm finds the map in the cache. */
#include <omp.h>

#include "kernels/cpu/cpu.h"

hd_status HD_CPU(dwconv7_layernorm_fwd)(void *y, void *conv, float *mean, float *rstd, const void *x, const float *k,
        const float *b, const float *gamma, const float *bias, float eps, hd_dtype dt, int64_t N, int64_t H, int64_t W,
        int64_t C, hd_stream *stream)
{
	HD_IN_FLOATS(dt,
	        HD_CPU(dwconv7_layernorm_fwd)(
	                y, conv, mean, rstd, x, k, b, gamma, bias, eps, HD_F32, N, H, W, C, stream),
	        HD_WRITES(y, N * H * W * C), HD_WRITES(conv, N * H * W * C), HD_READS(x, N * H * W * C));
	int64_t P = H * W;
	/* the norm reads a row before it writes it, so that the map may lie in y; neither of the two fails with float32
	 */
#pragma omp parallel for schedule(static) if (N >= omp_get_max_threads())
	for (int64_t n = 0; n < N; n++) {
		float *out = (float *)y + n * P * C, *map = conv ? (float *)conv + n * P * C : out;
		HD_CPU(dwconv7_fwd)(map, (const float *)x + n * P * C, k, b, dt, 1, H, W, C, stream);
		HD_CPU(layernorm_fwd)(out, mean + n * P, rstd + n * P, map, gamma, bias, eps, dt, P, C, stream);
	}
	return HD_OK;
}
