/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: samples of the feature cache into a model's input buffers. One thread at a time.
 *
 * Where the device has memory of its own and the whole cache fits beside the model, the device keeps a copy and a batch
 * names samples and windows alone; else their windows travel with each batch. Same values either way.
 */
#ifndef HD_TRAIN_BATCH_H
#define HD_TRAIN_BATCH_H

#include "heimdall/dataset.h"
#include "heimdall/model.h"
#include "heimdall/train.h"

/*
 * A batch on its way: what the host has put together and its copy on the device, both in the layout of hd_batch_layout.
 * There are two where the device works on its own: while it is at one batch, the host prepares the next.
 */
typedef struct hd_batch_slot {
	char *host, *device;
	hd_event *sent; /* to the device */
	hd_event *used; /* by the device */
} hd_batch_slot;

#define HD_BATCH_SLOTS 2

/* Bytes from the beginning of a slot; what has one entry per row comes first, then the rows' windows. */
typedef struct hd_batch_layout {
	size_t key, index, start, sample, target, weight, label_sigma, db;
} hd_batch_layout;

typedef struct hd_batcher {
	const hd_dataset *dataset;
	hd_model *model;
	hd_backend *backend;
	hd_stream *stream; /* of the copies to the device */
	hd_batch_layout layout;
	hd_batch_slot slots[HD_BATCH_SLOTS];
	int slot_count;
	int next; /* slot */
	/* device memory */
	uint16_t *cache; /* of all samples; NULL where windows travel */
	float *plain;    /* (N,H,W,C) for the transform, where the model's input is not float32 */
	float *mean, *rstd, *silence, *offset;
	hd_augment augment;
	bool augmented;
	/* a program's own change of training samples; (N,H,W,C) and one sample (C,H,W) */
	hd_transform transform;
	void *transform_context;
	float *host_input, *host_features;
} hd_batcher;

/* augment: the random changes of training batches, NULL for none; copied. */
hd_status hd_batcher_open(
        hd_batcher *out, hd_model *model, hd_backend *backend, const hd_dataset *dataset, const hd_augment *augment);
/* Copies the feature cache to the device for good, where it has memory of its own and at most half of what is free. */
hd_status hd_batcher_keep_on_device(hd_batcher *batcher);
void hd_batcher_close(hd_batcher *batcher); /* NULL-safe */

/* Runs a transform on every training sample; it costs the way of each batch to the host and back. */
hd_status hd_batcher_transform(hd_batcher *batcher, hd_transform transform, void *context);

/*
 * Fills the model's input, target, weight, sample keys and random key with `count` samples (at most the model's
 * batch); rows behind them get weight 0. Queued: the device may still be at batches before. Training draws each row's
 * window and its shift from (seed, epoch, sample) and applies the random changes; evaluation takes the middle of the
 * windows given (windows NULL: the first).
 */
hd_status hd_batcher_fill(hd_batcher *batcher, const int32_t *samples, const int32_t *windows, int64_t count,
        uint64_t seed, uint32_t epoch, bool training);

/* The order of an epoch: samples sorted by a random number of (seed, epoch, sample). */
hd_status hd_epoch_order(int32_t *order, int64_t count, const hd_samples *samples, uint64_t seed, uint32_t epoch);

#endif
