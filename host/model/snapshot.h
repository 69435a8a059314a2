/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a model's weights on the device, to write from while the model goes on training. */
#ifndef HD_MODEL_SNAPSHOT_H
#define HD_MODEL_SNAPSHOT_H

#include "heimdall/model.h"

typedef struct hd_snapshot hd_snapshot;

/*
 * Device memory for the weights, moments and average of a model, which must outlive it, and a stream of its own.
 * HD_E_MEMORY where the device has no room.
 */
hd_status hd_snapshot_open(hd_snapshot **out, const hd_model *model);
void hd_snapshot_close(hd_snapshot *snapshot); /* NULL-safe */

/* Queues a copy of what the model holds behind all that is queued on the main stream, and does not wait for it. */
hd_status hd_snapshot_take(hd_snapshot *snapshot);

/*
 * A view of the copy that can be read as a model's weights, moments and average (hd_model_read and what builds on it),
 * and for nothing else. One other thread may read it while the model goes on; hd_snapshot_take comes after it is done.
 */
const hd_model *hd_snapshot_model(const hd_snapshot *snapshot);

#endif
