/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of training share: its start (start.c), the loop (train.c), checkpoints (keep.c), tables (log.c). */
#ifndef HD_TRAIN_TRAINER_H
#define HD_TRAIN_TRAINER_H

#include "heimdall/train.h"
#include "host/train/batch.h"

/* When to write `last` within an epoch: every so many steps, or seconds; 0: not. */
typedef struct hd_every {
	int64_t steps;
	double seconds;
} hd_every;

typedef struct hd_trainer {
	hd_settings *settings;
	hd_train_hooks hooks;
	hd_backend *backend;
	hd_dataset dataset;
	hd_model *model;
	hd_batcher batcher;
	int32_t *train, *val; /* sample indices; train is put into each epoch's order */
	int64_t train_count, val_count;
	int64_t steps_per_epoch; /* optimizer steps */
	hd_every every;
	double saved_at_s; /* when `last` was last written */
	hd_train_state state;
} hd_trainer;

/* Everything up to the first step: data, model, weights, the state to go on from. Close it also after failure. */
hd_status hd_trainer_open(hd_trainer *out, hd_settings *settings, const hd_train_hooks *hooks);
void hd_trainer_close(hd_trainer *trainer);

/* Reads checkpoint_every: "" or "500" (steps), "30s", "10m", "1h". HD_E_USAGE for anything else. */
hd_status hd_every_parse(hd_every *out, const char *text);

/* Scalars of optimizer step `step` (counted from 0), of all parameters; first_step: where their moments began. */
hd_adamw_hyper hd_trainer_hyper(const hd_trainer *trainer, int64_t step, int64_t first_step);

/* Samples of one optimizer step but at the end of an epoch. */
int64_t hd_trainer_step_samples(const hd_trainer *trainer);

/*
 * Gradients of one optimizer step over `count` samples from `samples` on, in as many batches as it takes.
 * sums: of gaussian_nll, over all of them.
 */
hd_status hd_trainer_gradient(hd_trainer *trainer, double sums[4], const int32_t *samples, int64_t count);

/* The error of a loss that is not finite: which recordings were in the step. */
hd_status hd_trainer_nonfinite(const hd_trainer *trainer, const int32_t *samples, int64_t count, const char *what);

/* ---- keep.c ---- */

/* Writes last.safetensors with the whole state. */
hd_status hd_keep_last(hd_trainer *t);

/*
 * After an epoch's validation: counts it, writes the weights where they are among the top k (and best.safetensors),
 * then `last`, then removes what fell out of the top k, in this order, so that a kill at any point can be resumed.
 */
hd_status hd_keep_epoch(hd_trainer *t, double val_loss);

/* ---- log.c ---- */

/* Appends a row to metrics.csv; rows of epochs that a resumed run does again are dropped first. */
hd_status hd_log_epoch(hd_trainer *t, const hd_metrics *train, const hd_metrics *val, double lr, double seconds);

/* A row of steps.csv: step (counted from 1), epoch, lr, loss, gradient norm before clipping. */
hd_status hd_log_step(const hd_trainer *t, double lr, double loss, double gradient_norm);

/* Starts steps.csv, or drops its rows behind the state's step. */
hd_status hd_log_begin(const hd_trainer *t);

#endif
