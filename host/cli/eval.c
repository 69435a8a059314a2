/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall eval: metrics in metres of a checkpoint or an exported model on a split. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/answerer.h"
#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/common/memory.h"
#include "host/train/batch_size.h"
#include "host/train/evaluate.h"

hd_status hd_cli_eval(const hd_settings *given, const char **files, int file_count)
{
	(void)files;
	(void)file_count;
	hd_status st;
	hd_settings settings = {0};
	char *differences = NULL;
	hd_answerer by = {0};
	hd_backend *backend = NULL;
	hd_dataset dataset = {0};
	hd_prediction *predictions = NULL;
	hd_metrics metrics = {0};
	int32_t *samples = NULL;
	int64_t count = 0;
	if (!given->checkpoint[0])
		return hd_fail(HD_E_USAGE, "--checkpoint: name the checkpoint to evaluate");
	HD_TRY(hd_answerer_open(&by, given));
	if (by.runtime && by.onnx.input != HD_ONNX_INPUT_FEATURES) {
		st = hd_fail(HD_E_USAGE,
		        "%s takes the recording itself ('%s'); eval takes models of features, as "
		        "predict takes both",
		        given->checkpoint, hd_onnx_input_names[by.onnx.input]);
		goto done;
	}
	HD_TRY(hd_settings_copy(&settings, given));
	HD_TRY(hd_settings_inherit(&settings, by.recorded, &differences));
	HD_TRY(hd_backend_open(&backend, given->accelerator, given->devices, (int)given->threads));
	HD_TRY(hd_dataset_open(&dataset, &settings, by.card));
	HD_TRY(hd_dataset_load(&dataset, &settings, backend));
	HD_TRY(hd_dataset_split(&dataset, (hd_split)hd_settings_choice("split", given->split), &samples, &count));
	if (!count) {
		st = hd_fail(HD_E_DATA, "%s: no sample in split '%s'", dataset.catalog.path, given->split);
		goto done;
	}
	HD_TRY(hd_batch_size_resolve(&settings, by.card, backend, count, true));
	HD_TRY(hd_alloc(&predictions, (size_t)count, sizeof *predictions));
	HD_TRY(hd_answerer_evaluate(
	        &metrics, predictions, &by, backend, &dataset, settings.batch_size, samples, count, "eval"));
	printf("%s on %s, split %s\n", given->checkpoint, dataset.catalog.path, given->split);
	hd_metrics_print(stdout, &metrics);
	if (given->predictions[0])
		HD_TRY(hd_predictions_write(given->predictions, &dataset, predictions, count));
	HD_TRY(hd_write_result(given->json, hd_metrics_json(&metrics, given->split)));
done:
	free(predictions);
	free(samples);
	hd_dataset_close(&dataset);
	hd_backend_close(backend);
	hd_answerer_close(&by);
	free(differences);
	hd_settings_free(&settings);
	return st;
}
