/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: samples of the feature cache into a model's input buffers. One thread at a time. */
#ifndef HD_TRAIN_BATCH_H
#define HD_TRAIN_BATCH_H

#include "heimdall/dataset.h"
#include "heimdall/model.h"
#include "heimdall/train.h"

typedef struct hd_batcher {
	const hd_dataset *dataset;
	hd_model *model;
	hd_backend *backend;
	/* device memory */
	uint16_t *db; /* (N,C,H,W) the rows' windows */
	int32_t *index, *start;
	float *mean, *rstd, *silence, *offset;
	hd_augment augment;
	bool augmented;
	/* host staging */
	uint16_t *host_db;
	int32_t *host_index, *host_sample;
	float *host_target, *host_weight, *host_label_sigma;
	/* a program's own change of training samples; (N,H,W,C) and one sample (C,H,W) */
	hd_transform transform;
	void *transform_context;
	float *host_input, *host_features;
} hd_batcher;

/* augment: the random changes of training batches, NULL for none; copied. */
hd_status hd_batcher_open(
        hd_batcher *out, hd_model *model, hd_backend *backend, const hd_dataset *dataset, const hd_augment *augment);
void hd_batcher_close(hd_batcher *batcher); /* NULL-safe */

/* Runs a transform on every training sample; it costs the way of each batch to the host and back. */
hd_status hd_batcher_transform(hd_batcher *batcher, hd_transform transform, void *context);

/*
 * Fills the model's input, target, weight, sample keys and random key with `count` samples (at most the model's
 * batch); rows behind them get weight 0. Training draws each row's window and its shift from (seed, epoch, sample)
 * and applies the random changes; evaluation takes the middle of the windows given (windows NULL: the first).
 */
hd_status hd_batcher_fill(hd_batcher *batcher, const int32_t *samples, const int32_t *windows, int64_t count,
        uint64_t seed, uint32_t epoch, bool training);

/* The order of an epoch: samples sorted by a random number of (seed, epoch, sample). */
hd_status hd_epoch_order(int32_t *order, int64_t count, const hd_samples *samples, uint64_t seed, uint32_t epoch);

#endif
