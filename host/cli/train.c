/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall train: trains, exports the model, then prints where the result is and how good. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/train/lr_find.h"
#include "heimdall/export.h"
#include "heimdall/train.h"

static hd_status find_rate(const hd_settings *given, hd_settings *settings)
{
	hd_lr_find find;
	hd_status st = hd_train_lr_find(&find, settings);
	if (st != HD_OK)
		return st;
	if (isnan(find.suggestion))
		printf("suggestion  none: the loss did not fall at any of %d rates\n", find.steps);
	else
		printf("suggestion  --learning_rate %.3g\n", find.suggestion);
	return hd_write_result(given->json,
	        json_pack("{s:o, s:i}", "suggestion", hd_json_number(find.suggestion), "steps", find.steps));
}

/* The four results, on stdout and as JSON. metrics: of the validation split, NULL where there are none. */
static hd_status put_results(const hd_settings *given, const char *checkpoint_path, const hd_export_result *model,
        const hd_metrics *metrics, const char *without_metrics)
{
	const char *onnx_path = model->onnx_path;
	printf("checkpoint_path  %s\n", checkpoint_path ? checkpoint_path : "none: fast_dev_run writes nothing");
	printf("onnx_path        %s\n", onnx_path ? onnx_path : "none");
	printf("mlflow_run_id    none: this version does not track to MLflow\n");
	printf("final_metrics    %s\n", metrics ? "validation split, best epoch" : without_metrics);
	if (metrics)
		hd_metrics_print(stdout, metrics);
	json_t *object = json_pack("{s:s?, s:s?, s:n, s:o, s:O?}", "checkpoint_path", checkpoint_path, "onnx_path",
	        onnx_path, "mlflow_run_id", "final_metrics", metrics ? hd_metrics_json(metrics, "val") : json_object(),
	        "export", model->report);
	return hd_write_result(given->json, object);
}

/* --export_only: no training, the model of a checkpoint that is there. */
static hd_status export_only(const hd_settings *given)
{
	hd_status st;
	hd_export_result model = {0};
	char *checkpoint = NULL;
	HD_TRY(given->checkpoint[0] ? hd_strdup(&checkpoint, given->checkpoint)
	                            : hd_sprintf(&checkpoint, "%s/best.safetensors", given->checkpoint_dir));
	HD_TRY(hd_export(&model, given, checkpoint, NULL, NULL, NULL));
	HD_TRY(put_results(given, checkpoint, &model, NULL, "none: nothing was trained"));
done:
	hd_export_result_free(&model);
	free(checkpoint);
	return st;
}

hd_status hd_cli_train(const hd_settings *given, const char **files, int count)
{
	(void)files;
	(void)count;
	hd_status st;
	hd_settings settings = {0};
	hd_train_result result = {0};
	hd_export_result model = {0};
	hd_status exported = HD_OK;
	if (given->list_backbones)
		return hd_cli_list_backbones(given);
	if (given->export_only)
		return export_only(given);
	/* a resumed run takes the recorded settings: training works on a copy */
	HD_TRY(hd_settings_copy(&settings, given));
	if (settings.dry_run) {
		st = hd_train_dry_run(&settings);
		goto done;
	}
	if (settings.lr_find) {
		st = find_rate(given, &settings);
		goto done;
	}
	HD_TRY(hd_train(&result, &settings, NULL));
	const hd_metrics *metrics = result.has_metrics ? &result.metrics : NULL;
	/* the export's settings are this call's, also when a resumed run took its own from the checkpoint */
	if (given->export && result.checkpoint_path)
		exported = hd_export(&model, given, result.checkpoint_path, NULL, metrics, &result.dataset);
	/* a model that could not be written leaves the checkpoint, which is named all the same */
	HD_TRY(put_results(given, result.checkpoint_path, &model, metrics, "no validation split"));
	st = exported;
done:
	hd_export_result_free(&model);
	hd_train_result_free(&result);
	hd_settings_free(&settings);
	return st;
}
