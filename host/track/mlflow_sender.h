/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run's folder, forwarded to an MLflow server: experiment, run, params, tags, every point of metrics.log, artifacts,
 * and how it ended. The folder is all that the sender reads: training writes there and never waits for it. What the
 * server has is in the run's mlflow.json, replaced after every batch that was acknowledged, so that another sender
 * (after a resumption, or `heimdall track push`) goes on from there; a batch whose answer was lost is sent again as it
 * was, and the run is found again by its tag heimdall.run_id. A lock on the folder keeps it to one sender at a time.
 */
#ifndef HD_TRACK_MLFLOW_SENDER_H
#define HD_TRACK_MLFLOW_SENDER_H

#include "heimdall/settings.h"
#include "host/track/run.h"

typedef struct hd_sender hd_sender;

/* What has come of it. */
typedef struct hd_sent {
	bool all;                  /* nothing is left */
	int64_t points, artifacts; /* acknowledged, in all senders of this run */
	int64_t points_left;
	char mlflow_run_id[64]; /* "" while the server has no run */
	char problem[1024];     /* why it is not all; "" */
} hd_sent;

/*
 * Starts the thread; HD_OK also where the server does not answer, which is said once with a warning, and once when it
 * is back. The folder must hold run.json, status.json, params.json and tags.json. run is borrowed until the end;
 * settings, for S3 and log_model, are copied.
 */
hd_status hd_sender_start(hd_sender **out, const hd_run *run, const char *uri, const hd_settings *settings);

/* There is more in the folder. Returns at once. */
void hd_sender_wake(hd_sender *sender);

/*
 * Sends what is left, the run's status among it, and ends the thread: waits as long as it gets on, at most patience_s
 * without that, and not at all for a server that is away; SIGTERM or SIGINT, blocked as in training, end it. Progress
 * on stderr where it takes long. *out says what is left. NULL-safe.
 */
void hd_sender_finish(hd_sender *sender, hd_sent *out, double patience_s);

/* What the run's mlflow.json says, without asking anybody. */
hd_status hd_sender_state(hd_sent *out, const hd_run *run);

/*
 * `heimdall track push`: all that is left, in this thread, patiently. HD_E_USAGE where another sender has the run;
 * HD_E_IO where the server stays away.
 */
hd_status hd_sender_push(hd_sent *out, const hd_run *run, const char *uri, const hd_settings *settings);

#endif
