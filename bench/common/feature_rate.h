/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a back end makes features of recordings that lie in its memory. */
#ifndef HD_BENCH_FEATURE_RATE_H
#define HD_BENCH_FEATURE_RATE_H

#include "bench/common/timing.h"

typedef struct hd_feature_rate {
	hd_bench_timing time; /* of all recordings of a call */
	int recordings, samples, n_fft, hop, mels;
	bool fused; /* by stft_mel_db, else by stft_power and mel_db */
} hd_feature_rate;

/* Magnitude of complex64 recordings of 192,000 samples, their mel levels in dB, with the settings' defaults. */
hd_status hd_feature_rate_measure(hd_feature_rate *out, hd_backend *backend, const hd_bench_rule *rule, int recordings);

#endif
