/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether an exported model answers as the engine does: the same inputs through both, at every optimisation level of
 * ONNX Runtime and in batches of several sizes, then how long one answer takes.
 *
 * Inputs are made: features scattered as the training's statistics say, some with a missing receiver, rounded to half
 * precision as the cache keeps them; for models that take recordings, noise with a tone at levels 60 dB apart. Where
 * there is a data set, features of some of its samples come beside them.
 */
#ifndef HD_EXPORT_VALIDATE_H
#define HD_EXPORT_VALIDATE_H

#include <jansson.h>
#include <stdio.h>

#include "host/export/onnx_model.h"

/* Bounds of differences, in label units (outputs raw), or in metres. */
#define HD_VALIDATE_MAX 1e-4
#define HD_VALIDATE_MEAN 1e-5
#define HD_VALIDATE_M 2.0         /* degrees are floats: steps of up to 1.7 m at 180 degrees of longitude */
#define HD_VALIDATE_RELATIVE 1e-4 /* of an uncertainty, where that is more than HD_VALIDATE_M */

#define HD_VALIDATE_ROWS 32 /* of each kind of input at most */

/* What one level differs from the engine by: label units or metres, as `unit` of the validation says. */
typedef struct hd_validation_level {
	double position_max, position_mean;       /* of an axis in label units, or a distance */
	double uncertainty_max, uncertainty_mean; /* of an axis */
	int64_t compared;                         /* answers */
	bool passed;
	/* the answer with the largest difference of position, or the first that is no number */
	int worst_row;
	int worst_batch;
} hd_validation_level;

typedef struct hd_validation {
	char runtime[512];
	char model[4096];
	hd_onnx_outputs outputs;
	hd_onnx_input_form input;
	const char *unit; /* "label units", "m" */
	int made, real;   /* rows of each kind; row numbers count made ones first */
	hd_validation_level levels[HD_RUNTIME_LEVELS];
	bool passed; /* every level */
	int threads;
	int latency_batch; /* rows of a timed run: 1, or what the model fixes */
	int latency_runs;
	double latency_p50_ms, latency_p95_ms; /* at level all */
} hd_validation;

/*
 * HD_OK where both could be asked, whatever came out: `passed` tells. real: a loaded data set of the model's shape,
 * NULL for none (and not used for models that take recordings). threads: of an operator in ONNX Runtime, 0: all.
 * HD_E_DATA where model and checkpoint do not belong together.
 */
hd_status hd_validate(hd_validation *out, hd_runtime *runtime, const char *onnx_path, const hd_checkpoint *checkpoint,
        hd_backend *backend, const hd_dataset *real, int threads);

/* A table of at most 80 columns. */
void hd_validation_print(FILE *to, const hd_validation *validation);

/* The same as JSON; NULL on lack of memory. Values that are not finite become null. */
json_t *hd_validation_json(const hd_validation *validation);

#endif
