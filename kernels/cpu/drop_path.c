/* SPDX-License-Identifier: Apache-2.0 */
/* Which residual branches a training step leaves out; drawn by sample, so not by batch. */
#include "kernels/cpu/cpu.h"
#include "kernels/philox.h"

hd_status HD_CPU(drop_path_scale)(float *scale, const float *p, const hd_rng_key *key, const int32_t *sample, int64_t B,
        int64_t N, hd_stream *stream)
{
	(void)stream;
	for (int64_t i = 0; i < B * N; i++) {
		uint32_t words[4], b = (uint32_t)(i / N);
		hd_philox(words, (const uint32_t[4]){b, (uint32_t)sample[i % N], key->epoch, HD_DROP_PATH},
		        (const uint32_t[2]){key->seed_lo, key->seed_hi});
		scale[i] = words[0] < (uint32_t)((double)p[b] * 0x1p32) ? 0.0f : 1.0f / (1.0f - p[b]);
	}
	return HD_OK;
}
