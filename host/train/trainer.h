/* SPDX-License-Identifier: Apache-2.0 */
/* What the loop (train.c), its checkpoints (keep.c) and the dry run (dry_run.c) share. */
#ifndef HD_TRAIN_TRAINER_H
#define HD_TRAIN_TRAINER_H

#include "host/train/batch.h"
#include "host/train/metrics.h"

typedef struct hd_trainer {
	hd_settings *settings;
	hd_backend *backend;
	hd_dataset dataset;
	hd_model *model;
	hd_batcher batcher;
	int32_t *train, *val; /* sample indices; train is put into each epoch's order */
	int64_t train_count, val_count;
	int64_t steps_per_epoch;
	hd_train_state state;
} hd_trainer;

void hd_trainer_close(hd_trainer *trainer);

/* Writes last.safetensors with the whole state. */
hd_status hd_keep_last(hd_trainer *t);

/*
 * After an epoch's validation: counts it, writes the weights where they are among the top k (and best.safetensors),
 * then `last`, then removes what fell out of the top k, in this order, so that a kill at any point can be resumed.
 */
hd_status hd_keep_epoch(hd_trainer *t, double val_loss);

/* Appends a row to metrics.csv; rows of epochs that a resumed run does again are dropped first. */
hd_status hd_metrics_log(hd_trainer *t, double train_loss, double train_log_term, double train_mse_term,
        const hd_metrics *val, double lr, double seconds);

#endif
