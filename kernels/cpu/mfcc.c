/* SPDX-License-Identifier: Apache-2.0 */
/* Cepstrum of mel levels: a small matrix times every recording's map. */
#include <string.h>

#include "kernels/cpu/cpu.h"

/* Rows of the output are apart, and each adds its terms in the order of the mels: the bits do not depend on threads. */
hd_status HD_CPU(mfcc)(float *out, const float *db, const float *dct, int64_t R, int64_t M, int64_t K, int64_t H,
        int64_t T, hd_stream *stream)
{
	(void)stream;
#pragma omp parallel for schedule(static) if (R * H * T > HD_PARALLEL_MIN / 8)
	for (int64_t i = 0; i < R * H; i++) {
		int64_t k = i % H, mels = k < K ? M : 0;
		const float *levels = db + i / H * M * T;
		float *row = out + i * T;
		memset(row, 0, (size_t)T * sizeof *row);
		for (int64_t m = 0; m < mels; m++)
			for (int64_t t = 0; t < T; t++)
				row[t] += dct[k * M + m] * levels[m * T + t];
	}
	return HD_OK;
}
