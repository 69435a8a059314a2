/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trained network as ONNX operations: normalisation, ConvNeXt, heads, bounds of sigma, positions in degrees.
 * Weights are read from the checkpoint's mapping while the file is written; it has to stay open until then.
 */
#ifndef HD_EXPORT_NETWORK_H
#define HD_EXPORT_NETWORK_H

#include "heimdall/checkpoint.h"
#include "host/export/onnx.h"

/* How matrix products and convolutions of the network are computed; everything else is float32. */
typedef enum hd_onnx_precision { HD_ONNX_FP32 } hd_onnx_precision;

/*
 * features (N,C,M,W), levels in dB as the feature cache has them, to mu and sigma (N,2) in label units, north before
 * east. Normalisation (and gain offsets) inside.
 */
hd_status hd_export_network(hd_onnx *graph, const hd_checkpoint *checkpoint, hd_onnx_precision precision,
        hd_onnx_value features, hd_onnx_value *mu, hd_onnx_value *sigma);

/*
 * mu (N,2) to positions (N,2) in degrees, latitude before longitude; sigma (N,2) to metres, north before east. Up to
 * 10,000 km from the origin positions are those of hd_geo_from_local_m but for the rounding of float32 degrees (half a
 * last place is 0.42 m of latitude beyond 64 degrees, 0.85 m of longitude beyond 128 degrees at the equator) and at
 * most 16 roundings of the distance from the origin, 2^-24 of it each: 0.5 m at 500 km.
 */
void hd_export_positions(hd_onnx *graph, const hd_label_frame *frame, hd_onnx_value mu, hd_onnx_value sigma,
        hd_onnx_value *positions, hd_onnx_value *uncertainties);

#endif
