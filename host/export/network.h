/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trained network as ONNX operations: normalisation, ConvNeXt, heads, bounds of sigma, positions in degrees.
 * Weights are read from the checkpoint's mapping while the file is written; it has to stay open until then.
 */
#ifndef HD_EXPORT_NETWORK_H
#define HD_EXPORT_NETWORK_H

#include "heimdall/checkpoint.h"
#include "host/export/onnx.h"

/*
 * How the network is computed. Normalisation, the sums from block to block with their layer scale, the heads' norms and
 * last layers, bounds and positions are float32 in all of them.
 *
 * fp16: convolutions and blocks in half precision.
 * int8: the two matrix products of each block, where nearly all operations are, of uint8 activations and int8 weights
 * (hd_int8_weight). Activations have one range per tensor: int8-dynamic takes it from each batch as it comes (so that
 * an answer depends a little on the others of its batch), int8-static from calibration. Kernels of convolutions and the
 * heads' hidden layers are stored in 8 bits and multiplied as float32.
 */
typedef enum hd_onnx_precision {
	HD_ONNX_FP32,
	HD_ONNX_FP16,
	HD_ONNX_INT8_DYNAMIC,
	HD_ONNX_INT8_STATIC,
	HD_ONNX_PRECISIONS
} hd_onnx_precision;

const char *hd_onnx_precision_name(hd_onnx_precision precision); /* "fp32", "fp16", "int8-dynamic", "int8-static" */

/* What the input of a matrix product lies between. */
typedef struct hd_onnx_range {
	float lo, hi;
} hd_onnx_range;

/* Matrix products of the blocks, two each, in the order of the network. */
int hd_export_product_count(const hd_backbone *backbone);

/*
 * features (N,C,M,W), levels in dB as the feature cache has them, to mu and sigma (N,2) in label units, north before
 * east. Normalisation (and gain offsets) inside. ranges (hd_export_product_count): of int8-static, else NULL.
 */
hd_status hd_export_network(hd_onnx *graph, const hd_checkpoint *checkpoint, hd_onnx_precision precision,
        const hd_onnx_range *ranges, hd_onnx_value features, hd_onnx_value *mu, hd_onnx_value *sigma);

/* features to the smallest and largest input of each product in fp32, for each row: (N, 2 hd_export_product_count). */
hd_status hd_export_ranges(
        hd_onnx *graph, const hd_checkpoint *checkpoint, hd_onnx_value features, hd_onnx_value *ranges);

/*
 * mu (N,2) to positions (N,2) in degrees, latitude before longitude; sigma (N,2) to metres, north before east. Up to
 * 10,000 km from the origin positions are those of hd_geo_from_local_m but for the rounding of float32 degrees (half a
 * last place is 0.42 m of latitude beyond 64 degrees, 0.85 m of longitude beyond 128 degrees at the equator) and at
 * most 16 roundings of the distance from the origin, 2^-24 of it each: 0.5 m at 500 km.
 */
void hd_export_positions(hd_onnx *graph, const hd_label_frame *frame, hd_onnx_value mu, hd_onnx_value sigma,
        hd_onnx_value *positions, hd_onnx_value *uncertainties);

#endif
