/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint as an ONNX model that carries all that a consumer needs: normalisation, positions in degrees,
 * uncertainties in metres and, on request, the features of recordings; validated in ONNX Runtime beside the engine.
 */
#ifndef HEIMDALL_EXPORT_H
#define HEIMDALL_EXPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "heimdall/dataset.h"
#include "heimdall/metrics.h"
#include "heimdall/settings.h"

#define HD_ONNX_FILE "model.onnx" /* beside the checkpoint, unless --out says otherwise */

typedef struct hd_export_result {
	char *onnx_path; /* the model to use */
	double write_s;  /* time it took to write the float32 model */
	size_t bytes;    /* of that model, external data included */
	bool validated;
	json_t *report; /* object: model, validation, latency, quantized models */
} hd_export_result;

void hd_export_result_free(hd_export_result *result); /* NULL-safe */

/*
 * Writes a checkpoint as ONNX by the settings of group `export`; path: of the model, NULL for HD_ONNX_FILE beside the
 * checkpoint. metrics: of the checkpoint on the validation split, for the model's metadata; NULL where
 * unknown. dataset: loaded, what real inputs are taken from; NULL: as settings and checkpoint say. Prints what it does
 * on stderr and its tables on stdout. HD_E_FAILED where the model does not agree with the engine, or was not validated
 * under --require_validation; the model stays, named so that nobody takes it: FILE.rejected.
 */
hd_status hd_export(hd_export_result *out, const hd_settings *settings, const char *checkpoint, const char *path,
        const hd_metrics *metrics, const hd_dataset *dataset);

#endif
