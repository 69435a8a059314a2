/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inputs of a model's training step: a batch of made-up cached features in device memory, its labels, and the operation
 * that assembles it, as training does before every step. Random, for a device that multiplies zeros takes less power
 * and runs faster. One thread at a time.
 */
#ifndef HD_BENCH_STEP_INPUTS_H
#define HD_BENCH_STEP_INPUTS_H

#include "heimdall/model.h"

typedef struct hd_step_inputs {
	hd_backend *backend;
	hd_model *model;
	hd_dtype dtype;    /* of the model's input */
	void *db;          /* (N,C,M,W) half floats */
	int32_t *index;    /* (N) */
	int32_t *start;    /* (N) */
	float *statistics; /* mean, rstd and silence, (M) each */
} hd_step_inputs;

/* Fills the model's labels too; the input is of the type of its maps. Close also after failure. */
hd_status hd_step_inputs_open(hd_step_inputs *out, hd_backend *backend, hd_model *model);
hd_status hd_step_inputs_assemble(const hd_step_inputs *inputs); /* queued */
void hd_step_inputs_close(hd_step_inputs *inputs);               /* NULL-safe in what it holds */

#endif
