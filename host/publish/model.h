/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model to publish, with all that is known about it: what its file says, the settings and the data it was trained
 * with, its metrics, its run; and whether it may be published.
 */
#ifndef HD_PUBLISH_MODEL_H
#define HD_PUBLISH_MODEL_H

#include <jansson.h>

#include "heimdall/checkpoint.h"
#include "heimdall/publish.h"
#include "host/export/onnx_peek.h"

typedef struct hd_publish_model {
	char *onnx_path;
	hd_onnx_peek peek;
	hd_settings settings; /* of the training */
	char *config;         /* those as YAML */
	hd_data_card card;
	json_t *metrics; /* object of numbers, names as hd_metrics_json with "val" */
	bool validated;  /* it ran in ONNX Runtime, beside the engine where its checkpoint is at hand */
	/* of the run; "" where unknown */
	char *run_name, *experiment, *mlflow_run_id;
	json_t *recordings; /* object: recordings of the run by split; NULL where unknown */
} hd_publish_model;

/*
 * Reads all of it and validates the model (settings->validate). HD_E_FAILED: no metrics, answers that are not the
 * engine's, no ONNX Runtime; HD_E_DATA: the model is not that of the checkpoint. Each says what to do.
 */
hd_status hd_publish_model_open(hd_publish_model *out, const hd_settings *settings, const hd_publish_source *source);
void hd_publish_model_close(hd_publish_model *model); /* NULL-safe; leaves zeroes */

/* Text of the model's metadata, "" where it has none of that key. */
const char *hd_publish_model_text(const hd_publish_model *model, const char *key);

/* A metric by its name without its split ("median_m"), of the validation split or else of any; NaN where there is none.
 */
double hd_publish_metric(const json_t *metrics, const char *name);

/* What a name means: paths in *source are new texts in `paths`, for hd_publish_found_free. */
typedef struct hd_publish_found {
	char *onnx_path, *checkpoint, *run_folder;
} hd_publish_found;

/* See hd_publish_named. HD_E_DATA where there is no such thing, or no exported model beside it, with the command. */
hd_status hd_publish_find(hd_publish_found *out, const char *runs_dir, const char *name);
void hd_publish_found_free(hd_publish_found *found); /* NULL-safe */

#endif
