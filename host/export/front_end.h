/* SPDX-License-Identifier: Apache-2.0 */
/* The features of recordings as ONNX operations: what `heimdall predict` does before and behind the network. */
#ifndef HD_EXPORT_FRONT_END_H
#define HD_EXPORT_FRONT_END_H

#include "heimdall/features.h"
#include "host/export/onnx.h"

typedef enum hd_onnx_signal { HD_ONNX_SIGNAL_IQ, HD_ONNX_SIGNAL_MAGNITUDE } hd_onnx_signal;

/*
 * signal (N,C,samples,2) I and Q, or (N,C,samples) magnitudes, samples known only at a run, zeros for a missing
 * receiver; to features (N*K,C,H,W) in dB rounded to half precision as the feature cache keeps them, K windows spread
 * over the recording as predict takes them (one in mode mean). *windows: K, an int64 scalar of the graph.
 */
void hd_export_front_end(hd_onnx *graph, const hd_feature_config *config, hd_onnx_signal kind, hd_onnx_value signal,
        hd_onnx_value *features, hd_onnx_value *windows);

/*
 * mu and sigma (N*K,2) of windows to one answer (N,2) each: the mean and standard deviation of the mixture of their
 * Gaussians weighted by 1/variance (host/train/evaluate.c, fuse).
 */
void hd_export_fuse(hd_onnx *graph, hd_onnx_value windows, hd_onnx_value *mu, hd_onnx_value *sigma);

#endif
