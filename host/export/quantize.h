/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exported model in half precision and in 8 bits (host/export/network.h says what of it): written beside the float32
 * one, and measured with it on the same samples, so that nobody takes what they have not seen the price of.
 */
#ifndef HD_EXPORT_QUANTIZE_H
#define HD_EXPORT_QUANTIZE_H

#include <jansson.h>
#include <stdio.h>

#include "host/export/write.h"

/* A model that errs more than this share more than float32, by its mean or median error, is not the one to use. */
#define HD_QUANTIZE_WORSE 0.02

#define HD_QUANTIZE_SAMPLES 4096 /* evaluated at most, spread evenly over their split */

/* In the order of the setting quantize. */
typedef enum hd_quantize_choice {
	HD_QUANTIZE_NONE,
	HD_QUANTIZE_DYNAMIC,
	HD_QUANTIZE_STATIC,
	HD_QUANTIZE_FP16,
	HD_QUANTIZE_ALL
} hd_quantize_choice;

/* All is the caller's and stays as it is. */
typedef struct hd_quantize_task {
	hd_quantize_choice choice;
	const hd_checkpoint *checkpoint;
	const hd_onnx_form *form; /* of the float32 model */
	const char *path;         /* of the float32 model, written before */
	const char *sha256;       /* of the checkpoint */
	hd_runtime *runtime;
	const hd_dataset *dataset; /* loaded, of the checkpoint's shape; NULL: none at hand */
	int64_t calibration_samples;
	int64_t batch; /* samples of a run while it is evaluated */
	int threads;   /* of an operator in ONNX Runtime; 0: all cores */
} hd_quantize_task;

typedef struct hd_quantized_model {
	hd_onnx_precision precision;
	char *path;
	size_t bytes; /* with weights beside it */
	double p50_ms, p95_ms;
	hd_metrics metrics;
	double worse; /* share by which the mean or the median error is above float32's, the larger of both */
	bool passed;
	char why_not[256]; /* where there is nothing to measure: the error */
} hd_quantized_model;

typedef struct hd_quantized {
	hd_quantized_model models[HD_ONNX_PRECISIONS]; /* float32 first */
	int count;
	int use; /* which of them */
	char runtime[512];
	hd_split evaluated_on, calibrated_on;
	int64_t evaluated, calibrated; /* samples; calibrated 0 without int8-static */
	int latency_runs;              /* of one model at most */
	int threads;
} hd_quantized;

/*
 * Writes MODEL.fp16.onnx, MODEL.int8-dynamic.onnx and MODEL.int8-static.onnx (as chosen) beside MODEL.onnx, and
 * evaluates them and MODEL.onnx: errors on the validation split (test, else training, where that is empty), latency of
 * batch 1. Models that take recordings are evaluated, and timed, behind their front end, which is float32 in all of
 * them. Their metadata have their own metrics, of the validation split. int8-static is calibrated on training samples
 * (validation, else test). `use` is the one model chosen, where it
 * passed, else float32 with a warning; of several always float32.
 *
 * HD_E_USAGE without a data set, HD_E_UNSUPPORTED without a runtime. A model that cannot be written or gives no finite
 * answers fails alone: its row says why, and no file stays in its place.
 */
hd_status hd_quantize(hd_quantized *out, const hd_quantize_task *task);
void hd_quantized_free(hd_quantized *quantized); /* NULL-safe */

/* A table of at most 80 columns. */
void hd_quantized_print(FILE *to, const hd_quantized *quantized);

/* The same as JSON; NULL on lack of memory. Values that are not finite become null. */
json_t *hd_quantized_json(const hd_quantized *quantized);

#endif
