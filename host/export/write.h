/* SPDX-License-Identifier: Apache-2.0 */
/* One ONNX file: front end, network and positions put together, with the metadata that describes them. */
#ifndef HD_EXPORT_WRITE_H
#define HD_EXPORT_WRITE_H

#include "heimdall/metrics.h"
#include "host/export/front_end.h"
#include "host/export/network.h"
#include "host/export/onnx_model.h"

typedef struct hd_onnx_form {
	int opset;
	const char *input_name;
	hd_onnx_input_form input; /* but for features, the model makes them itself */
	hd_onnx_outputs outputs;
	hd_onnx_external external;
	hd_onnx_precision precision;
	const hd_onnx_range *ranges; /* of int8-static, else NULL */
} hd_onnx_form;

/* HD_E_USAGE for outputs that are both raw and combined. */
hd_status hd_onnx_form_from(hd_onnx_form *out, const hd_settings *settings);

/*
 * Writes the checkpoint's model. Input (batch,C,H,W), or (batch,C,samples,2) or (batch,C,samples) with features;
 * outputs `positions` and `uncertainties` (batch,2), or `combined` (batch,4). metrics may be NULL; sha256: of the
 * checkpoint.
 */
hd_status hd_onnx_model_write(const char *path, const hd_checkpoint *checkpoint, const hd_onnx_form *form,
        const hd_metrics *metrics, const char *sha256);

#endif
