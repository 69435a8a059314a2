/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From IQ to mel levels in dB: |I+jQ| -> STFT -> power -> mel -> 10 log10(x + 1e-9).
 *
 * A plan holds window, filters and scratch memory of one back end; one thread at a time per plan.
 */
#ifndef HEIMDALL_FEATURES_H
#define HEIMDALL_FEATURES_H

#include <stdint.h>

#include "heimdall/backend.h"
#include "heimdall/iq.h"

typedef enum hd_stft_convention {
	HD_STFT_SCIPY,  /* zero boundary, padded to whole hops, scaled by 1/sum(window): scipy.signal.stft */
	HD_STFT_LIBROSA /* zero-padded centre, unscaled: librosa.stft(center=True, pad_mode="constant") */
} hd_stft_convention;

typedef enum hd_mel_scale { HD_MEL_HTK, HD_MEL_SLANEY } hd_mel_scale;
typedef enum hd_mel_norm { HD_MEL_NORM_NONE, HD_MEL_NORM_SLANEY } hd_mel_norm;
/* How 32 frames are taken from a longer recording. */
typedef enum hd_frame_mode { HD_FRAMES_CENTER, HD_FRAMES_RANDOM, HD_FRAMES_MEAN } hd_frame_mode;
typedef enum hd_normalize { HD_NORMALIZE_DATASET, HD_NORMALIZE_RECORDING } hd_normalize;

#define HD_DB_FLOOR 1e-9f    /* added to the mel power before the logarithm */
#define HD_DB_SILENCE -90.0f /* 10 log10(HD_DB_FLOOR): the level of an absent receiver */

typedef struct hd_feature_config {
	double sample_rate_hz;
	int n_fft;      /* even */
	int hop_length; /* samples */
	int n_mels;     /* M */
	int frames;     /* W, frames of one network input */
	double f_min_hz;
	double f_max_hz; /* 0: half the sample rate */
	hd_stft_convention convention;
	hd_mel_scale mel_scale;
	hd_mel_norm mel_norm;
	hd_frame_mode frame_mode;
} hd_feature_config;

typedef struct hd_features hd_features;

/*
 * Makes a plan. Empty mel filters (no bin under the triangle) are legal and stay at HD_DB_SILENCE; their
 * number is in hd_features_empty_filters(). HD_E_USAGE for settings that cannot be (with the reason).
 */
hd_status hd_features_create(hd_features **out, hd_backend *backend, const hd_feature_config *config);
void hd_features_free(hd_features *plan); /* NULL-safe */
int hd_features_empty_filters(const hd_features *plan);

/* Frames of a recording of n samples: ceil(n/hop)+1 (scipy) or n/hop+1 (librosa). */
int64_t hd_features_frame_count(const hd_feature_config *config, int64_t n);

/* All frames of every row: db (R,M,T), host memory, T = hd_features_frame_count(). */
hd_status hd_features_compute(hd_features *plan, float *db, const hd_iq *iq);

/*
 * Frames kept of each recording: `frames`, or four times as many in mode random, where training draws its
 * windows from them.
 */
int64_t hd_features_kept_frames(const hd_feature_config *config);

/*
 * Brings (M,T) levels to (M,W): center and random take the middle frames; mean averages the power of W equal
 * spans, so that levels are kept; fewer than W are extended by reflection (period 2T-2; one frame repeats).
 */
void hd_features_fit_frames(float *out, int64_t W, const float *db, int64_t T, int64_t M, hd_frame_mode mode);

#endif
