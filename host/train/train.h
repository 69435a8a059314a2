/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The training loop. Its state is a checkpoint: training that is killed at any moment and resumed from the last
 * one ends with the same bits as training that was not.
 */
#ifndef HD_TRAIN_TRAIN_H
#define HD_TRAIN_TRAIN_H

#include "host/train/metrics.h"
#include "heimdall/settings.h"

typedef struct hd_train_result {
	char *checkpoint_path; /* best.safetensors; owned */
	hd_metrics metrics;    /* of the best weights on the validation split */
	int64_t epochs;        /* run, resumed ones included */
	bool has_metrics;      /* false where there is no validation split */
} hd_train_result;

void hd_train_result_free(hd_train_result *result);

/*
 * Trains by the settings (--resume_training included) and leaves best, last and the top k in checkpoint_dir.
 * SIGTERM and SIGINT write `last` and give HD_E_INTERRUPTED. A loss that is not finite gives HD_E_NONFINITE with
 * the recordings of the batch; the last good checkpoint stays.
 */
hd_status hd_train(hd_train_result *out, hd_settings *settings);

/* Prints samples per split, skips, memory, disk and (after one timed step) hours, without training. */
hd_status hd_train_dry_run(hd_settings *settings);

#endif
