/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From IQ to mel levels in dB: |I+jQ| -> STFT -> power -> mel -> 10 log10(x + 1e-9), or their cepstrum.
 *
 * A plan holds window, filters and scratch memory of one back end; one thread at a time per plan.
 */
#ifndef HEIMDALL_FEATURES_H
#define HEIMDALL_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

#include "heimdall/backend.h"
#include "heimdall/iq.h"

typedef enum hd_stft_convention {
	HD_STFT_SCIPY,  /* zero boundary, padded to whole hops, scaled by 1/sum(window): scipy.signal.stft */
	HD_STFT_LIBROSA /* zero-padded centre, unscaled: librosa.stft(center=True, pad_mode="constant") */
} hd_stft_convention;

typedef enum hd_mel_scale { HD_MEL_HTK, HD_MEL_SLANEY } hd_mel_scale;
typedef enum hd_mel_norm { HD_MEL_NORM_NONE, HD_MEL_NORM_SLANEY } hd_mel_norm;
/*
 * How the frames of a network input are taken from a longer recording: from its middle; at random in training from
 * its middle 4 inputs' worth; the mean of equal spans; or several windows spread evenly over it, one of them per step
 * in training, all of them fused in evaluation.
 */
typedef enum hd_frame_mode { HD_FRAMES_CENTER, HD_FRAMES_RANDOM, HD_FRAMES_MEAN, HD_FRAMES_WINDOWS } hd_frame_mode;
typedef enum hd_feature_kind { HD_FEATURE_MEL, HD_FEATURE_MFCC } hd_feature_kind;
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
	int windows; /* in mode windows */
	int margin;  /* frames kept on both sides of a window, for shifts; not in mode mean */
	hd_feature_kind kind;
	int n_mfcc;        /* K, coefficients kept of MFCC, at most n_mels */
	bool resample;     /* recordings of another rate are brought to sample_rate_hz, else refused */
	bool refuse_short; /* recordings of fewer frames than one input are refused, else reflected */
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

/* Rows of a network input: M, or K rounded up to a multiple of 32 (what the network's strides divide), rows >= K 0. */
int64_t hd_features_height(const hd_feature_config *config);

/* Windows kept of each recording; frames of each, margins included; and all of them, T of the cache. */
int64_t hd_features_windows(const hd_feature_config *config);
int64_t hd_features_window_frames(const hd_feature_config *config);
int64_t hd_features_kept_frames(const hd_feature_config *config);

/*
 * Brings (M,T) levels to (M,W), W = hd_features_kept_frames(): the frames that the mode says; a window of more frames
 * than there are is extended by reflection on both sides (period 2T-2; one frame repeats); mean averages the power of
 * W equal spans, so that levels are kept.
 */
void hd_features_fit_frames(float *out, const float *db, int64_t T, const hd_feature_config *config);

/*
 * Cepstrum: out (R,H,T), H = hd_features_height(); row k < K is the orthonormal DCT-II over mels of db (R,M,T):
 * s_k sum_m db[m] cos(pi k (m + 1/2) / M), s_0 = sqrt(1/M), s_k = sqrt(2/M); rows >= K are 0 (Davis and Mermelstein
 * 1980; the ortho convention of scipy.fft.dct). Both are host memory; the back end computes. HD_E_USAGE for a plan that
 * was not made for HD_FEATURE_MFCC.
 */
hd_status hd_features_mfcc(hd_features *plan, float *out, const float *db, int64_t R, int64_t T);

/* Its matrix: out (n_mfcc,n_mels). */
void hd_features_dct(float *out, const hd_feature_config *config);

/* What an absent receiver has in each of the H rows. */
void hd_features_silence(float *out, const hd_feature_config *config);

/*
 * Brings a recording at from_hz to to_hz (libsoxr, high quality: pass band to 0.913 of half the lower rate); it
 * becomes float, ceil(n * to/from) samples per row; levels within the pass band stay.
 */
hd_status hd_iq_resample(hd_iq *iq, double from_hz, double to_hz);

#endif
