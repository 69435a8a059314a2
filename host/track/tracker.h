/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What training tells the world: one run's folder, filled while it trains, and the sender that forwards it. Nothing of
 * it stops training: what cannot be written or sent is a warning. One thread, that of training.
 */
#ifndef HD_TRACK_TRACKER_H
#define HD_TRACK_TRACKER_H

#include "heimdall/backend.h"
#include "heimdall/dataset.h"
#include "heimdall/settings.h"
#include "host/track/metrics_log.h"
#include "host/track/mlflow_sender.h"
#include "host/track/run.h"

typedef struct hd_tracker hd_tracker;

/* The experiment that the settings mean: flag or HEIMDALL_EXPERIMENT_NAME, MLFLOW_EXPERIMENT_NAME, file, default. */
const char *hd_tracker_experiment(const hd_settings *settings);

/* The folder whose checkpoints are meant: --checkpoint_dir, else that of the experiment's newest run; new text. */
hd_status hd_tracker_checkpoints(char **out, const hd_settings *settings);

/*
 * Opens the run of id `resumed`, beside `checkpoint` or within runs_dir, or (resumed NULL or "") makes a new one; a run
 * that is not found is a warning and a new one. checkpoint_dir becomes the run's own where none was given. What is
 * wrong with --tags or --tracking_uri is said here, before any work: HD_E_USAGE.
 */
hd_status hd_tracker_open(hd_tracker **out, hd_settings *settings, const char *resumed, const char *checkpoint);

const hd_run *hd_tracker_run(const hd_tracker *tracker);

/* What there is to know when data and model are ready. */
typedef struct hd_tracker_start {
	const hd_settings *settings; /* as resolved */
	const hd_dataset *dataset;
	hd_backend *backend;
	int64_t parameters;    /* of the model */
	int64_t train, val;    /* samples */
	int64_t step;          /* optimizer steps done, of a resumed run */
	const char *overrides; /* settings that a resumed run was given anew; NULL: none */
} hd_tracker_start;

/* Writes what the run is made of, and starts the sender. */
hd_status hd_tracker_begin(hd_tracker *tracker, const hd_tracker_start *start);

/*
 * Points of a moment. Those that an earlier attempt wrote for the same step, with the same value to the bit, are in the
 * log already and are not written again: a resumed run does steps again whose figures were kept.
 */
void hd_tracker_log(hd_tracker *tracker, int64_t step, int64_t epoch, const hd_metric *metrics, size_t count);

/* How far the run is, for `heimdall runs`; on disk every few seconds, at once with `now`. */
void hd_tracker_progress(hd_tracker *tracker, int64_t step, int64_t epoch, bool now);

/*
 * Writes how it ended (HD_OK: FINISHED, HD_E_INTERRUPTED: KILLED, else FAILED with this thread's error text, which
 * stays as it is), draws the curves, sends what is left and closes. A new run that failed before hd_tracker_begin
 * leaves nothing, unless it is detached. sent may be NULL. NULL-safe.
 */
void hd_tracker_finish(hd_tracker *tracker, hd_status status, hd_sent *sent);

#endif
