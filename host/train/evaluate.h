/* SPDX-License-Identifier: Apache-2.0 */
/* Predictions and metrics of a model over a list of samples. */
#ifndef HD_TRAIN_EVALUATE_H
#define HD_TRAIN_EVALUATE_H

#include "host/train/batch.h"
#include "heimdall/metrics.h"

/*
 * Runs the model without dropout. predictions: room for count entries, or NULL. `label` names the progress bar,
 * NULL for none. With stoppable a signal (host/common/stop.h) ends it early with HD_E_INTERRUPTED.
 */
hd_status hd_evaluate(hd_metrics *out, hd_prediction *predictions, hd_batcher *batcher, const int32_t *samples,
        int64_t count, const char *label, bool stoppable);

/* One CSV row per prediction: session, emission, split, positions, error, sigmas. Atomic. */
hd_status hd_predictions_write(
        const char *path, const hd_dataset *dataset, const hd_prediction *predictions, int64_t count);

#endif
