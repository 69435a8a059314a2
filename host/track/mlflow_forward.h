/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run on its way to one MLflow server, in one thread: what both the sender's thread and `track push` do, step by
 * step. A step returns HD_OK however the server answered, which `end` and `problem` tell; another status is this side's
 * failure (memory, a file, stop). For the files of this folder alone.
 */
#ifndef HD_TRACK_MLFLOW_FORWARD_H
#define HD_TRACK_MLFLOW_FORWARD_H

#include "heimdall/settings.h"
#include "host/common/progress.h"
#include "host/store/store.h"
#include "host/track/metrics_log.h"
#include "host/track/mlflow_client.h"
#include "host/track/mlflow_sender.h"
#include "host/track/mlflow_state.h"

typedef struct hd_forward {
	const hd_run *run; /* borrowed */
	hd_settings settings;
	hd_mlflow *client;
	bool (*stop)(void);
	int lock_fd; /* -1: not ours yet */
	hd_mlflow_state state;
	bool found; /* the run at the server is known to be there */

	/* how the latest step ended */
	hd_mlflow_end end;
	char code[64];      /* MLflow's error_code */
	char problem[1024]; /* "" where DONE */
	bool unreachable;   /* AWAY, and nobody was there at all */
	double retry_after_s;
	double progress_s; /* hd_now_s() of the latest request that was done */
	int failures;      /* answers of 500 to one batch in a row */
	bool more;         /* the latest pass left something that it could send */

	hd_progress *bar; /* of points; NULL: none. The caller's */
	int64_t bar_begin;

	/* metrics.log */
	hd_metrics_reader *reader;
	hd_metrics_line ahead; /* read, and not in the batch */
	bool has_ahead;
	json_t *batch;             /* NULL: none */
	int64_t batch_end;         /* byte of the log behind it */
	int64_t ahead_begin;       /* byte of the log before `ahead` */
	int64_t texts_modified[2]; /* of params.json and tags.json, as sent; in ns */

	/* artifacts */
	hd_store *store;     /* of S3; NULL: not needed yet */
	double artifacts_s;  /* hd_now_s() when they were looked through last; 0: never */
	bool artifacts_left; /* some were not sent */
} hd_forward;

/* Neither asks nor locks. run is borrowed; settings are copied. */
hd_status hd_forward_open(
        hd_forward *f, const hd_run *run, const char *uri, const hd_settings *settings, bool (*stop)(void));
void hd_forward_close(hd_forward *f);

/* Locks the run and reads its state, where that is not done; *ours: it is this sender's. */
hd_status hd_forward_begin(hd_forward *f, bool *ours);

/*
 * All steps. whole: to the end, however much there is; else at most one batch of points and one file, as a thread
 * beside training does it.
 */
hd_status hd_forward_pass(hd_forward *f, bool whole);

/* What was sent and what is left, from the files alone. */
hd_status hd_forward_tell(hd_sent *out, const hd_run *run, const hd_mlflow_state *state);

/* ---- steps ---- */

/* One request; `end` says how it ended. *answer has a body where DONE, and is freed by the caller in any case. */
hd_status hd_forward_ask(
        hd_forward *f, hd_mlflow_answer *answer, const char *method, const char *path, const json_t *body);

/* mlflow_run.c: the experiment and the run, found or made. */
hd_status hd_forward_find(hd_forward *f);

/* Whether a refusal means the run as a whole, because it was deleted; then `problem` says so. */
hd_status hd_forward_check_run(hd_forward *f, bool *gone);

/* The run's status; `ended`: all points are there, so that an end may be told. */
hd_status hd_forward_status(hd_forward *f, bool ended);

/* What the server shall be told: word and end (0: none), of a process that died KILLED. */
hd_status hd_forward_wanted_status(const char **word, int64_t *end_ms, const hd_run *run);

/* mlflow_texts.c: params.json and tags.json, where they changed. */
hd_status hd_forward_texts(hd_forward *f);

/* Whether all that they hold was sent. */
hd_status hd_forward_texts_sent(bool *sent, const hd_run *run, const hd_mlflow_state *state);

/*
 * mlflow_log.c: sends items ("metrics", "params" or "tags", all within the limits of a batch); those that the server
 * refuses are found by halving and noted.
 */
hd_status hd_forward_batch(hd_forward *f, const char *kind, const json_t *items);

/* Points of metrics.log. */
hd_status hd_forward_log(hd_forward *f, bool whole);
void hd_forward_log_close(hd_forward *f);

/* mlflow_artifacts.c: files that are new or changed. */
hd_status hd_forward_artifacts(hd_forward *f, bool whole);
hd_status hd_forward_artifacts_left(int64_t *left, const hd_run *run, const hd_mlflow_state *state);

#endif
