/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall train: trains, exports the model, then prints where the result is and how good. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/cli/train.h"
#include "host/common/detach.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/stop.h"
#include "host/track/tracker.h"
#include "host/train/lr_find.h"
#include "heimdall/export.h"
#include "heimdall/publish.h"
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

/* What a training came to. */
typedef struct outcome {
	hd_train_result result;
	hd_export_result model;
	hd_published published;
} outcome;

/* The results, on stdout and as JSON. metrics: of the validation split, NULL where there are none. */
static hd_status put_results(const hd_settings *given, const char *checkpoint_path, const outcome *o,
        const hd_metrics *metrics, const char *without_metrics)
{
	const char *onnx_path = o->model.onnx_path, *run = o->result.run, *mlflow = o->result.mlflow_run_id;
	printf("checkpoint_path  %s\n", checkpoint_path ? checkpoint_path : "none: fast_dev_run writes nothing");
	printf("onnx_path        %s\n", onnx_path ? onnx_path : "none");
	if (run)
		printf("run              %s\n", run);
	printf("mlflow_run_id    %s\n", mlflow[0] ? mlflow : "none");
	if (o->published.where)
		printf("published        %s\n", o->published.where);
	printf("final_metrics    %s\n", metrics ? "validation split, best epoch" : without_metrics);
	if (metrics)
		hd_metrics_print(stdout, metrics);
	json_t *object = json_pack("{s:s?, s:s?, s:s?, s:s?, s:s?, s:o, s:O?}", "checkpoint_path", checkpoint_path,
	        "onnx_path", onnx_path, "run", run, "mlflow_run_id", mlflow[0] ? mlflow : NULL, "published",
	        o->published.where, "final_metrics", metrics ? hd_metrics_json(metrics, "val") : json_object(),
	        "export", o->model.report);
	return hd_write_result(given->json, object);
}

/* --export_only: no training, the model of a checkpoint that is there. */
static hd_status export_only(const hd_settings *given)
{
	hd_status st;
	outcome o = {0};
	char *checkpoint = NULL, *folder = NULL;
	if (given->checkpoint[0]) {
		HD_TRY(hd_strdup(&checkpoint, given->checkpoint));
	} else {
		HD_TRY(hd_tracker_checkpoints(&folder, given));
		HD_TRY(hd_sprintf(&checkpoint, "%s/best.safetensors", folder));
	}
	HD_TRY(hd_export(&o.model, given, checkpoint, NULL, NULL, NULL));
	HD_TRY(put_results(given, checkpoint, &o, NULL, "none: nothing was trained"));
done:
	hd_export_result_free(&o.model);
	free(folder);
	free(checkpoint);
	return st;
}

/* --publish, behind the run's end: its model and its id are at the tracking server then, if there is one. */
static hd_status publish(const hd_settings *given, outcome *o, const hd_metrics *metrics)
{
	const hd_publish_source source = {.onnx_path = o->model.onnx_path,
	        .checkpoint = o->result.checkpoint_path,
	        .run_folder = o->result.run,
	        .metrics = metrics,
	        .validated = o->model.validated};
	hd_status st = hd_publish(&o->published, given, &source);
	return st == HD_OK ? HD_OK
	                   : hd_context(st, "trained, not published; heimdall publish %s goes on", o->result.run);
}

hd_status hd_cli_train_run(char **run_folder, const hd_settings *given)
{
	hd_status st, ended = HD_OK;
	hd_settings settings = {0};
	outcome o = {0};
	/* SIGTERM during the export ends the run as KILLED, not as one that vanished */
	hd_stop_begin();
	/* a resumed run takes the recorded settings: training works on a copy */
	HD_TRY(hd_settings_copy(&settings, given));
	HD_TRY(hd_train(&o.result, &settings, NULL));
	const hd_metrics *metrics = o.result.has_metrics ? &o.result.metrics : NULL;
	/* the export's settings are this call's, also when a resumed run took its own from the checkpoint */
	if (given->export && o.result.checkpoint_path)
		ended = hd_export(&o.model, given, o.result.checkpoint_path, NULL, metrics, &o.result.dataset);
	if (ended == HD_OK && hd_stop_requested())
		ended = hd_fail(HD_E_INTERRUPTED, "interrupted after training; the checkpoint is complete");
	hd_train_result_end(&o.result, ended);
	if (ended == HD_OK && given->publish)
		ended = publish(given, &o, metrics);
	/* a model that could not be written leaves the checkpoint, which is named all the same */
	HD_TRY(put_results(given, o.result.checkpoint_path, &o, metrics, "no validation split"));
	st = ended;
done:
	hd_stop_end();
	if (run_folder) {
		*run_folder = o.result.run;
		o.result.run = NULL;
	}
	hd_published_free(&o.published);
	hd_export_result_free(&o.model);
	hd_train_result_free(&o.result);
	hd_settings_free(&settings);
	return st;
}

/* What does not train for good. */
static hd_status look_only(const hd_settings *given)
{
	hd_settings settings = {0};
	hd_status st = hd_settings_copy(&settings, given);
	if (st == HD_OK)
		st = given->dry_run ? hd_train_dry_run(&settings) : find_rate(given, &settings);
	hd_settings_free(&settings);
	return st;
}

hd_status hd_cli_train(const hd_settings *given, const char **files, int count)
{
	(void)files;
	(void)count;
	bool child = true;
	if (given->list_backbones)
		return hd_cli_list_backbones(given);
	if (given->export_only)
		return export_only(given);
	if (given->dry_run || given->lr_find)
		return look_only(given);
	if (given->publish && !given->export)
		return hd_fail(HD_E_USAGE, "publish needs the exported model; leave --no_export out");
	if (given->detach && !given->fast_dev_run) {
		hd_status st = hd_detach(&child);
		if (st != HD_OK || !child)
			return st;
	}
	return hd_cli_train_run(NULL, given);
}
