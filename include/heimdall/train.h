/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The training loop. Its state is a checkpoint: training that is killed at any moment and resumed from the last
 * one ends with the same bits as training that was not.
 */
#ifndef HEIMDALL_TRAIN_H
#define HEIMDALL_TRAIN_H

#include "heimdall/dataset.h"
#include "heimdall/metrics.h"
#include "heimdall/settings.h"

typedef struct hd_train_result {
	char *checkpoint_path; /* best.safetensors; owned; NULL with fast_dev_run */
	hd_metrics metrics;    /* of the best weights on the validation split */
	int64_t epochs;        /* run, resumed ones included */
	bool has_metrics;      /* false where there is no validation split */
	hd_dataset dataset;    /* that it was trained on, loaded; empty with fast_dev_run */
	/* the run; NULL with fast_dev_run, and when it has ended */
	struct hd_tracker *tracker;
	char *run;              /* its folder, runs_dir/experiment/name; owned; NULL with fast_dev_run */
	char mlflow_run_id[64]; /* at the tracking server, known when the run has ended; "" where it has none */
} hd_train_result;

/*
 * Ends the run, as FINISHED with HD_OK, KILLED with HD_E_INTERRUPTED, FAILED with anything else and this thread's error
 * text: for what belongs to it and comes behind the training, as an export. Sends what the tracking server does not
 * have yet, as long as it gets on. hd_train_result_free ends a run that has not ended as FINISHED.
 */
void hd_train_result_end(hd_train_result *result, hd_status status);

void hd_train_result_free(hd_train_result *result);

/*
 * Changes one training sample's network input, features (C,H,W) of normalised float values, in place: what a data
 * set's transform is in PyTorch. Called once per sample and epoch, from one thread, behind the built-in augmentation
 * and never on validation samples. To keep runs repeatable it draws randomness from sample->key_hash and epoch alone.
 */
typedef hd_status (*hd_transform)(
        void *context, float *features, int64_t C, int64_t H, int64_t W, const hd_sample *sample, uint32_t epoch);

/* A program's own code within training; each may be NULL. */
typedef struct hd_train_hooks {
	void *context; /* handed to each */
	hd_transform transform;
	/* after an epoch's validation; val holds the training loss where there is no validation split */
	void (*epoch_end)(void *context, int64_t epoch, const hd_metrics *train, const hd_metrics *val);
} hd_train_hooks;

/*
 * Trains by the settings (--resume_training included) and leaves best, last and the top k in checkpoint_dir.
 * SIGTERM and SIGINT write `last` and give HD_E_INTERRUPTED. A loss that is not finite gives HD_E_NONFINITE with
 * the recordings of the batch; the last good checkpoint stays. hooks: NULL for none.
 */
hd_status hd_train(hd_train_result *out, hd_settings *settings, const hd_train_hooks *hooks);

/* Prints samples per split, skips, memory, disk and (after one timed step) hours, without training. */
hd_status hd_train_dry_run(hd_settings *settings);

#endif
