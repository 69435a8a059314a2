/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cli/answerer.h"

hd_status hd_answerer_open(hd_answerer *out, const hd_settings *settings)
{
	hd_status st;
	const char *path = settings->checkpoint;
	*out = (hd_answerer){0};
	if (hd_onnx_model_is(path)) {
		HD_TRY(hd_runtime_open(&out->runtime, settings->onnxruntime));
		HD_TRY(hd_onnx_model_open(&out->onnx, out->runtime, path, HD_RUNTIME_ALL, (int)settings->threads));
		out->recorded = &out->onnx.settings;
		out->card = &out->onnx.card;
	} else {
		HD_TRY(hd_checkpoint_open(&out->checkpoint, path));
		out->recorded = &out->checkpoint.settings;
		out->card = &out->checkpoint.card;
	}
done:
	if (st != HD_OK)
		hd_answerer_close(out);
	return st;
}

void hd_answerer_close(hd_answerer *answerer)
{
	if (!answerer)
		return;
	hd_onnx_model_close(&answerer->onnx);
	hd_runtime_close(answerer->runtime);
	hd_checkpoint_close(&answerer->checkpoint);
	*answerer = (hd_answerer){0};
}

hd_status hd_answerer_evaluate(hd_metrics *out, hd_prediction *predictions, hd_answerer *by, hd_backend *backend,
        const hd_dataset *dataset, int64_t batch, const int32_t *samples, int64_t count, const char *label)
{
	if (by->runtime)
		return hd_onnx_evaluate(out, predictions, &by->onnx, dataset, batch, samples, count, label, false);
	return hd_evaluate_checkpoint(
	        out, predictions, &by->checkpoint, backend, dataset, batch, samples, count, label);
}
