/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall train: trains, then prints where the result is and how good. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/common/memory.h"
#include "host/train/lr_find.h"
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
	        json_pack("{s:o, s:i}", "suggestion", isnan(find.suggestion) ? json_null() : json_real(find.suggestion),
	                "steps", find.steps));
}

hd_status hd_cli_train(const hd_settings *given, const char **files, int count)
{
	(void)files;
	(void)count;
	hd_status st;
	hd_settings settings = {0};
	hd_train_result result = {0};
	if (given->list_backbones)
		return hd_cli_list_backbones(given);
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
	printf("checkpoint_path  %s\n",
	        result.checkpoint_path ? result.checkpoint_path : "none: fast_dev_run writes nothing");
	printf("onnx_path        none: this version writes no ONNX\n");
	printf("mlflow_run_id    none: this version does not track to MLflow\n");
	printf("final_metrics    validation split, best epoch of %lld\n", (long long)result.epochs);
	if (result.has_metrics)
		hd_metrics_print(stdout, &result.metrics);
	else
		printf("  no validation split\n");
	json_t *metrics = result.has_metrics ? hd_metrics_json(&result.metrics, "val") : json_object();
	HD_TRY(hd_write_result(
	        given->json, json_pack("{s:s?, s:n, s:n, s:o}", "checkpoint_path", result.checkpoint_path, "onnx_path",
	                             "mlflow_run_id", "final_metrics", metrics)));
done:
	hd_train_result_free(&result);
	hd_settings_free(&settings);
	return st;
}
