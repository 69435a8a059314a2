/* SPDX-License-Identifier: Apache-2.0 */
/* What --checkpoint names: a checkpoint for the engine, or an exported model for ONNX Runtime. */
#ifndef HD_CLI_ANSWERER_H
#define HD_CLI_ANSWERER_H

#include "host/export/onnx_model.h"

typedef struct hd_answerer {
	hd_checkpoint checkpoint;
	hd_runtime *runtime; /* NULL: the engine */
	hd_onnx_model onnx;
	/* of the one that is open */
	const hd_settings *recorded;
	const hd_data_card *card;
} hd_answerer;

/* By settings->checkpoint, onnxruntime and threads. */
hd_status hd_answerer_open(hd_answerer *out, const hd_settings *settings);
void hd_answerer_close(hd_answerer *answerer); /* NULL-safe */

/* hd_evaluate of whichever it is; batch: samples of a run. An exported model has to be one of features. */
hd_status hd_answerer_evaluate(hd_metrics *out, hd_prediction *predictions, hd_answerer *by, hd_backend *backend,
        const hd_dataset *dataset, int64_t batch, const int32_t *samples, int64_t count, const char *label);

#endif
