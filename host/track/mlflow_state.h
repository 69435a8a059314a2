/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an MLflow server has of a run: the run's mlflow.json, which is replaced after everything that was acknowledged.
 * Losing it loses nothing: the run is found by its tag, and what comes twice the server takes once. For the files of
 * this folder alone.
 */
#ifndef HD_TRACK_MLFLOW_STATE_H
#define HD_TRACK_MLFLOW_STATE_H

#include "host/track/run.h"

typedef struct hd_mlflow_state {
	char *server;        /* its URL without user and password; NULL: none yet */
	char *experiment_id; /* these three: NULL where not known yet */
	char *run_id;
	char *artifact_uri;
	bool with_model;   /* the model is sent too */
	int64_t offset;    /* of metrics.log: what stands before it was acknowledged */
	int64_t points;    /* acknowledged */
	int64_t bad_lines; /* of metrics.log, left out for their checksum */
	char status[16];   /* the run's at the server */
	json_t *params;    /* name there: CRC-32 of the value */
	json_t *tags;      /* the same */
	json_t *artifacts; /* path there: [bytes, time of the last change in ns] */
	json_t *refused;   /* texts: what the server does not take, and why; the first of them */
	int64_t refused_count;
	char problem[1024]; /* why it was not all, when it was tried last; "" */
} hd_mlflow_state;

/* A file that is not there, or is none, gives an empty state. */
hd_status hd_mlflow_state_read(hd_mlflow_state *out, const hd_run *run);
hd_status hd_mlflow_state_write(const hd_mlflow_state *state, const hd_run *run);
void hd_mlflow_state_free(hd_mlflow_state *state);

/* Nothing sent yet, to this server. */
hd_status hd_mlflow_state_reset(hd_mlflow_state *state, const char *server);

/* Notes what the server refused, once. */
hd_status hd_mlflow_state_refuse(hd_mlflow_state *state, const char *what, const char *why);

/* Keeps a run to one sender at a time, until the descriptor is closed. *fd is -1 where another one has it. */
hd_status hd_mlflow_lock(int *fd, const hd_run *run);

#endif
