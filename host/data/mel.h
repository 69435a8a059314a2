/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse mel filter banks. */
#ifndef HD_DATA_MEL_H
#define HD_DATA_MEL_H

#include "heimdall/features.h"

/* Filter m covers bins first[m] .. with weights w[offset[m] .. offset[m+1]). All owned. */
typedef struct hd_mel {
	int M;
	int empty;       /* filters without any bin under them */
	int32_t *first;  /* (M) */
	int32_t *offset; /* (M+1) */
	float *w;
} hd_mel;

/*
 * Triangles between M+2 points equally spaced in mel. HTK: mel = 2595 log10(1 + f/700) (Young et al., The HTK
 * Book, section 5.4). Slaney: linear to 1 kHz at 3 mel per 200 Hz, then 27 mel per factor 6.4 (Slaney, Auditory
 * Toolbox, 1998). Norm slaney divides each triangle by half its width in Hz.
 */
hd_status hd_mel_create(hd_mel *out, const hd_feature_config *config);
void hd_mel_free(hd_mel *mel); /* NULL-safe */

/* Hertz to mel and back. */
double hd_mel_from_hz(double hz, hd_mel_scale scale);
double hd_mel_to_hz(double mel, hd_mel_scale scale);

#endif
