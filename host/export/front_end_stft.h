/* SPDX-License-Identifier: Apache-2.0 */
/* Magnitudes to mel power as ONNX operations. */
#ifndef HD_EXPORT_FRONT_END_STFT_H
#define HD_EXPORT_FRONT_END_STFT_H

#include "heimdall/features.h"
#include "host/export/onnx.h"

/*
 * x (R,samples) to mel power (R,T,M), before the floor; T = hd_features_frame_count(samples).
 *
 * By matrix products, in every opset: the operator STFT (opset 17) takes ONNX Runtime 1.32's CPU 1.5 to 3 times as long
 * at lengths that are powers of two, has 350 times the error at others (n_fft 1000), and has no kernel on most devices.
 * HD_E_UNSUPPORTED for an n_fft whose largest prime factor is in the thousands: its matrices would be larger than any
 * network.
 */
hd_onnx_value hd_export_mel_power(hd_onnx *graph, const hd_feature_config *config, hd_onnx_value x);

#endif
