/* SPDX-License-Identifier: Apache-2.0 */
/* ReLU with dropout; the mask comes from the sample's key, so it does not depend on the batch. */
#include "kernels/cpu/cpu.h"
#include "kernels/philox.h"

#define WORDS 4

hd_status HD_CPU(relu_dropout_fwd)(float *y, const float *x, const hd_rng_key *key, const int32_t *sample,
        uint32_t layer, float p, int64_t N, int64_t C, hd_stream *stream)
{
	(void)stream;
	float scale = 1.0f / (1.0f - p);
	uint32_t threshold = (uint32_t)((double)p * 4294967296.0);
	for (int64_t n = 0; n < N; n++) {
		for (int64_t c0 = 0; c0 < C; c0 += WORDS) {
			uint32_t r[WORDS] = {0};
			if (p > 0)
				hd_philox(r,
				        (const uint32_t[4]){
				                (uint32_t)(c0 / WORDS), (uint32_t)sample[n], key->epoch, layer},
				        (const uint32_t[2]){key->seed_lo, key->seed_hi});
			for (int64_t c = c0; c < C && c < c0 + WORDS; c++) {
				float v = x[n * C + c];
				/* !(v <= 0) lets NaN through */
				y[n * C + c] = p > 0 && r[c - c0] < threshold ? 0.0f : !(v <= 0) ? v * scale : 0.0f;
			}
		}
	}
	return HD_OK;
}

hd_status HD_CPU(relu_dropout_bwd)(float *dx, const float *dy, const float *y, float p, int64_t n, hd_stream *stream)
{
	(void)stream;
	float scale = 1.0f / (1.0f - p);
	for (int64_t i = 0; i < n; i++)
		dx[i] = y[i] > 0 ? dy[i] * scale : 0.0f;
	return HD_OK;
}
