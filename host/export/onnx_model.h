/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exported model: an .onnx file that says in its metadata what it was trained as, what goes in and what comes out.
 * One thread at a time per model.
 */
#ifndef HD_EXPORT_ONNX_MODEL_H
#define HD_EXPORT_ONNX_MODEL_H

#include "heimdall/checkpoint.h"
#include "host/export/runtime.h"
#include "host/train/evaluate.h"

/* Keys of the metadata. */
#define HD_ONNX_KEY_FORMAT "heimdall.format"       /* HD_ONNX_FORMAT */
#define HD_ONNX_KEY_CONFIG "heimdall.config"       /* settings, YAML as in a checkpoint */
#define HD_ONNX_KEY_CARD "heimdall.card"           /* hd_data_card_write */
#define HD_ONNX_KEY_OUTPUTS "heimdall.outputs"     /* hd_onnx_outputs_names */
#define HD_ONNX_KEY_INPUT "heimdall.input"         /* hd_onnx_input_names */
#define HD_ONNX_KEY_PRECISION "heimdall.precision" /* hd_onnx_precision_name */
#define HD_ONNX_KEY_COMMIT "heimdall.commit"       /* of the program that wrote it */
#define HD_ONNX_KEY_RUN "heimdall.run_id"
#define HD_ONNX_KEY_RUN_ID "heimdall.run_id"   /* of the training */
#define HD_ONNX_KEY_SHA256 "heimdall.sha256"   /* of the checkpoint's file */
#define HD_ONNX_KEY_METRICS "heimdall.metrics" /* JSON */
#define HD_ONNX_FORMAT "1"

/* Outputs "positions" and "uncertainties" are (N,2), "combined" is (N,4). */
typedef enum hd_onnx_outputs {
	HD_ONNX_OUTPUTS_POSITIONS, /* latitude and longitude in degrees; sigma north and east in metres */
	HD_ONNX_OUTPUTS_RAW,       /* mu and sigma, north and east in label units */
	HD_ONNX_OUTPUTS_COMBINED,  /* latitude, longitude, sigma north, sigma east in one */
	HD_ONNX_OUTPUTS_COUNT
} hd_onnx_outputs;

typedef enum hd_onnx_input_form {
	HD_ONNX_INPUT_FEATURES,  /* (N,C,H,W) dB, as the feature cache has them */
	HD_ONNX_INPUT_IQ,        /* (N,C,samples,2) I and Q, full scale 1, zeros for a missing receiver */
	HD_ONNX_INPUT_MAGNITUDE, /* (N,C,samples) sqrt(I^2 + Q^2) of that */
	HD_ONNX_INPUT_COUNT
} hd_onnx_input_form;

/* Values of the keys, in the order of the enums. */
extern const char *const hd_onnx_outputs_names[HD_ONNX_OUTPUTS_COUNT];
extern const char *const hd_onnx_input_names[HD_ONNX_INPUT_COUNT];

typedef struct hd_onnx_model {
	hd_session *session;
	hd_settings settings; /* of the training */
	hd_data_card card;
	hd_onnx_outputs outputs;
	hd_onnx_input_form input;
	int position, uncertainty; /* which output; the same one where they are combined */
	int64_t rows;              /* N where the model fixes it, else 0 */
} hd_onnx_model;

/* Whether a file is an ONNX model and no checkpoint: by its ending .onnx, else by its first bytes. */
bool hd_onnx_model_is(const char *path);

/*
 * HD_E_DATA with the file where it is no model of this program, or its metadata and its ports disagree. The runtime has
 * to stay open.
 */
hd_status hd_onnx_model_open(
        hd_onnx_model *out, hd_runtime *runtime, const char *path, hd_runtime_level level, int threads);
void hd_onnx_model_close(hd_onnx_model *model); /* NULL-safe */

/*
 * One run. input as the form says, data of N rows; mu and sigma (N,2), label units, north before east: degrees and
 * metres are turned back with the card's frame. HD_E_NONFINITE where the answer is not finite.
 */
hd_status hd_onnx_model_run(hd_onnx_model *model, const hd_run_tensor *input, double *mu, double *sigma);

/* The same as the model puts it out: latitude, longitude or north, east; sigma in metres or label units. */
hd_status hd_onnx_model_run_raw(hd_onnx_model *model, const hd_run_tensor *input, float *position, float *uncertainty);

/* One row of such a model's input (C,H,W): the features of a sample's window. */
void hd_onnx_model_window(float *out, const hd_dataset *dataset, int32_t sample, int32_t window);

/* How long runs of one input take. */
typedef struct hd_onnx_latency {
	int runs;
	double p50_ms, p95_ms;
} hd_onnx_latency;

/* After runs that warm up, 100 of them, or as many as fit into 5 s but 20. */
hd_status hd_onnx_model_time(hd_onnx_latency *out, hd_onnx_model *model, const hd_run_tensor *input);

/*
 * The model as a source of answers for hd_evaluate_answers, on features; batch: rows of a run, where the model does not
 * fix them. The dataset has to stay open. HD_E_USAGE for a model whose input is no features.
 */
hd_status hd_onnx_answers_open(hd_answers *out, hd_onnx_model *model, const hd_dataset *dataset, int64_t batch);
void hd_onnx_answers_close(hd_answers *answers); /* NULL-safe; after a failed open too */

/* hd_evaluate_answers of the model. */
hd_status hd_onnx_evaluate(hd_metrics *out, hd_prediction *predictions, hd_onnx_model *model, const hd_dataset *dataset,
        int64_t batch, const int32_t *samples, int64_t count, const char *label, bool stoppable);

#endif
