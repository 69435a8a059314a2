/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weights of a checkpoint in fewer bits. They are made from its mapping while the model's file is written, one tensor
 * at a time; nothing of them is kept.
 *
 * Eight bits are symmetric and per output channel k, the weight's k-th row: w ~ scale[k] q, q in -steps .. steps,
 * scale[k] = largest |w| of the row / steps.
 */
#ifndef HD_EXPORT_QUANTIZE_WEIGHTS_H
#define HD_EXPORT_QUANTIZE_WEIGHTS_H

#include "host/export/onnx.h"

/*
 * Steps of weights that are multiplied as integers. x86 without VNNI adds two products of unsigned activations and
 * signed weights in 16 bits, which saturate from 127 steps on (vpmaddubsw; ONNX Runtime, "Quantize ONNX models", asks
 * for reduce_range there); 2 * 255 * 64 = 32640 fits, so that 64 steps are exact on every machine.
 */
#define HD_INT8_PRODUCT_STEPS 64
/* Of weights that are stored in eight bits and multiplied as floats. */
#define HD_INT8_STORED_STEPS 127

/*
 * How a tensor that lies in lo .. hi becomes uint8: x ~ scale (q - zero_point). 0 is widened in, so that it is exact;
 * scale 1 where nothing is left to tell apart. As DynamicQuantizeLinear defines it (onnx, docs/Operators.md).
 */
typedef struct hd_uint8_range {
	float scale;
	uint8_t zero_point;
} hd_uint8_range;
hd_uint8_range hd_uint8_range_of(float lo, float hi);

/* Scale of a row of n weights; 1 for a row of zeros. Negative where a weight is not finite. */
float hd_int8_scale(const float *row, int64_t n, int steps);

typedef struct hd_int8_weight {
	hd_onnx_value values; /* int8 */
	hd_onnx_value scales; /* float32, (K) for transposed ones, else (K,1,...) that multiply the values */
} hd_int8_weight;

/*
 * of: a float32 tensor of the mapping, (K,...). transposed: (K,C) comes out as (C,K). Names: NAME_quantized and
 * NAME_scale. Writing the file fails with HD_E_NONFINITE where a weight is not finite.
 */
hd_int8_weight hd_onnx_int8_weight(
        hd_onnx *graph, const char *name, const hd_onnx_tensor *of, bool transposed, int steps);

/* The same in half precision, under its own name. Writing fails with HD_E_DATA where a weight is beyond 65504. */
hd_onnx_value hd_onnx_f16_weight(hd_onnx *graph, const char *name, const hd_onnx_tensor *of, bool transposed);

#endif
