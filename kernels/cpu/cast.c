/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

#define BLOCK 16384 /* elements that a thread rounds at a time */

hd_status HD_CPU(cast)(void *dst, const float *src, hd_dtype dt, int64_t n, hd_stream *stream)
{
	(void)stream;
	uint16_t *out = dst;
#pragma omp parallel for schedule(static) if (n > HD_PARALLEL_MIN)
	for (int64_t i = 0; i < n; i += BLOCK)
		HD_CPU(narrow)(out + i, src + i, dt, n - i < BLOCK ? n - i : BLOCK);
	return HD_OK;
}
