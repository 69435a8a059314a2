/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of training share: its start (start.c), the loop (train.c), single steps (steps.c), checkpoints
 * (keep.c, writer.c), tables (log.c).
 */
#ifndef HD_TRAIN_TRAINER_H
#define HD_TRAIN_TRAINER_H

#include "heimdall/train.h"
#include "host/track/tracker.h"
#include "host/train/batch.h"
#include "host/train/writer.h"

/* When to write `last` within an epoch: every so many steps, or seconds; 0: not. */
typedef struct hd_every {
	int64_t steps;
	double seconds;
} hd_every;

/* An optimizer step that is queued; its figures come into memory of alloc_host. */
typedef struct hd_step_slot {
	const int32_t *samples;
	int64_t count;
	float *sums; /* (batches,4) of gaussian_nll */
	float *norm2;
	hd_event *done;
} hd_step_slot;

#define HD_STEP_SLOTS 2

typedef struct hd_steps {
	hd_step_slot slots[HD_STEP_SLOTS];
	int most;              /* slots in use: steps that are queued and not taken */
	int64_t queued, taken; /* of the run */
} hd_steps;

/* What has come of a step. */
typedef struct hd_step {
	const int32_t *samples;
	int64_t count;
	double sums[4]; /* of gaussian_nll, over all samples */
	double norm;    /* of the gradient, before clipping */
	bool skipped;   /* because the norm is not finite: the weights are as before */
} hd_step;

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
	double saved_at_s;    /* when `last` was last written */
	hd_train_state state; /* behind the last step that was taken */
	hd_steps steps;
	int skipped_in_a_row; /* steps left out while the loss scale looks for its place */
	hd_writer writer;
	hd_tracker *tracker;    /* NULL: the run is nobody's business */
	char *overrides;        /* settings that a resumed run was given anew; NULL: none */
	double logged_at_s;     /* when points of a step were last logged */
	int64_t logged_samples; /* trained on since */
} hd_trainer;

/*
 * Everything up to the first step: data, model, weights, the state to go on from. tracked: as a run with a folder,
 * whose tracker is the caller's to finish. Close it also after failure.
 */
hd_status hd_trainer_open(hd_trainer *out, hd_settings *settings, const hd_train_hooks *hooks, bool tracked);
void hd_trainer_close(hd_trainer *trainer);

/* Reads checkpoint_every: "" or "500" (steps), "30s", "10m", "1h". HD_E_USAGE for anything else. */
hd_status hd_every_parse(hd_every *out, const char *text);

/* Scalars of optimizer step `step` (counted from 0), of all parameters; first_step: where their moments began. */
hd_adamw_hyper hd_trainer_hyper(const hd_trainer *trainer, int64_t step, int64_t first_step);

/* Samples of one optimizer step but at the end of an epoch. */
int64_t hd_trainer_step_samples(const hd_trainer *trainer);

/* The error of a loss that is not finite in the state's step: which recordings were in it. */
hd_status hd_trainer_nonfinite(const hd_trainer *trainer, const int32_t *samples, int64_t count, const char *what);

/*
 * ---- steps.c ----
 *
 * A device that works on its own is kept one step ahead: step k+1 is queued before the figures of step k are looked at.
 * Until then nobody knows whether step k was good. Nothing is written in between: checkpoints and tables come after all
 * that is queued has been taken, and a step that was not finite ends the run before them, so that neither its update,
 * which the optimizer leaves out where the gradient is not finite, nor those queued behind it reach the disk.
 */

/* After hd_trainer_open. hd_steps_close waits for the device; it comes before hd_trainer_close, also after failure. */
hd_status hd_steps_open(hd_trainer *t);
void hd_steps_close(hd_trainer *t);

/* Steps that are queued and not taken. */
static inline int64_t hd_steps_pending(const hd_trainer *t)
{
	return t->steps.queued - t->steps.taken;
}

/* Whether another step may be queued before one is taken. */
static inline bool hd_steps_room(const hd_trainer *t)
{
	return hd_steps_pending(t) < t->steps.most;
}

/*
 * Queues one optimizer step over `count` samples from `samples` on, in as many batches as it takes: gradients, then
 * hd_model_step with both scalars. `samples` must stay as they are until the step is taken.
 */
hd_status hd_steps_queue(hd_trainer *t, const int32_t *samples, int64_t count, const hd_adamw_hyper *hyper,
        const hd_adamw_hyper *backbone);

/* Waits for the oldest step that is pending, which there must be. */
hd_status hd_steps_take(hd_trainer *t, hd_step *out);

/* ---- keep.c ---- */

/* All of it after the steps that are queued were taken; files may still be on their way on return (writer.h). */

/* Writes last.safetensors with the whole state. */
hd_status hd_keep_last(hd_trainer *t);

/*
 * After an epoch's validation: counts it, writes the weights where they are among the top k (and best.safetensors),
 * then `last`, then removes what fell out of the top k, in this order, so that a kill at any point can be resumed.
 */
hd_status hd_keep_epoch(hd_trainer *t, double val_loss);

/* ---- log.c ---- */

/* Appends a row to metrics.csv, and points to the run's log; rows of epochs that a resumed run does again are dropped
 * first. */
hd_status hd_log_epoch(hd_trainer *t, const hd_metrics *train, const hd_metrics *val, double lr, double seconds);

/* A row of steps.csv: step (counted from 1), epoch, lr, loss, gradient norm before clipping; the same as points. */
hd_status hd_log_step(hd_trainer *t, double lr, const hd_step *step);

/* The best weights' metrics on the validation split as points of the last step, under best/. */
void hd_log_best(hd_trainer *t, const hd_metrics *val);

/* Starts steps.csv, or drops its rows behind the state's step. */
hd_status hd_log_begin(const hd_trainer *t);

#endif
