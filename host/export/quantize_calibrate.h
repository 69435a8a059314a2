/* SPDX-License-Identifier: Apache-2.0 */
/* What the inputs of an exported network's matrix products lie between, on samples of a data set. */
#ifndef HD_EXPORT_QUANTIZE_CALIBRATE_H
#define HD_EXPORT_QUANTIZE_CALIBRATE_H

#include "host/export/network.h"
#include "host/export/onnx_model.h"

/*
 * ranges (hd_export_product_count): the smallest and largest input of each product of the fp32 network over the
 * samples' first windows, in ONNX Runtime. The graph that puts them out lies at `path` meanwhile. HD_E_NONFINITE where
 * an input is not finite.
 */
hd_status hd_calibrate(hd_onnx_range *ranges, const hd_checkpoint *checkpoint, hd_runtime *runtime, const char *path,
        int opset, const hd_dataset *dataset, const int32_t *samples, int64_t count, int threads);

#endif
