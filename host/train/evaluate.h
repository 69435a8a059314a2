/* SPDX-License-Identifier: Apache-2.0 */
/* Predictions and metrics of a model over a list of samples. */
#ifndef HD_TRAIN_EVALUATE_H
#define HD_TRAIN_EVALUATE_H

#include "host/train/batch.h"
#include "heimdall/metrics.h"

/* Mean (north, east) and variance of an answer, label units. */
typedef struct hd_gaussian {
	double mean[2], variance[2];
} hd_gaussian;

/*
 * Answers to batches of windows, whatever gives them: the engine, or an exported model. A batch is queued in one of
 * `ahead` slots, in turn, and taken before its slot is used again; lists may change once it is queued.
 */
typedef struct hd_answers {
	const hd_dataset *dataset;
	int64_t batch; /* windows of one at most */
	int ahead;     /* slots, at least 1 */
	void *context;
	/* windows[i] of samples[i], count of them */
	hd_status (*queue)(void *context, int slot, const int32_t *samples, const int32_t *windows, int64_t count);
	/* out (count); adds to total what gaussian_nll has as sums (4). */
	hd_status (*take)(void *context, int slot, hd_gaussian *out, int64_t count, double total[4]);
} hd_answers;

/* hd_evaluate with the answers of another source than the engine. */
hd_status hd_evaluate_answers(hd_metrics *out, hd_prediction *predictions, const hd_answers *answers,
        const int32_t *samples, int64_t count, const char *label, bool stoppable);

/*
 * Runs the model without dropout. predictions: room for count entries, or NULL. `label` names the progress bar,
 * NULL for none. With stoppable a signal (host/common/stop.h) ends it early with HD_E_INTERRUPTED.
 */
hd_status hd_evaluate(hd_metrics *out, hd_prediction *predictions, hd_batcher *batcher, const int32_t *samples,
        int64_t count, const char *label, bool stoppable);

/* hd_evaluate of a checkpoint's model, made for as long as it takes; batch: samples of one. */
hd_status hd_evaluate_checkpoint(hd_metrics *out, hd_prediction *predictions, const hd_checkpoint *checkpoint,
        hd_backend *backend, const hd_dataset *dataset, int64_t batch, const int32_t *samples, int64_t count,
        const char *label);

/* One CSV row per prediction: session, emission, split, positions, error, sigmas. Atomic. */
hd_status hd_predictions_write(
        const char *path, const hd_dataset *dataset, const hd_prediction *predictions, int64_t count);

#endif
