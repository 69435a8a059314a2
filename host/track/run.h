/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run's folder, RUNS_DIR/EXPERIMENT/NAME:
 *
 *     run.json          who it is; never changes
 *     status.json       RUNNING, FINISHED, FAILED or KILLED; process, times, how far it is
 *     config.yaml       the settings as resolved
 *     command.txt       the command, as a shell takes it
 *     params.json       object of texts: what a tracking server shows as parameters
 *     tags.json         object of texts
 *     environment.json  program, libraries, machine, variables that count
 *     catalog.csv       the samples it saw, their recordings, hashes and splits
 *     metrics.log       every point (metrics_log.h)
 *     events.out.tfevents.*   the same for TensorBoard
 *     checkpoints/      or a link to --checkpoint_dir
 *     artifacts/        pictures and tables
 *     output.log        what the program printed, where it runs detached
 *     mlflow.json       what the tracking server has (mlflow_sender.h)
 *
 * Files but the logs are replaced whole. Nothing in it holds a password or a key.
 */
#ifndef HD_TRACK_RUN_H
#define HD_TRACK_RUN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "heimdall/checkpoint.h"

#define HD_RUN_LATEST "latest" /* a link beside the runs of an experiment, to the newest */

typedef struct hd_run {
	char *folder; /* path, as it was asked for */
	char id[HD_RUN_ID];
	char *name;
	char *experiment;
	int64_t created_ms; /* Unix time */
} hd_run;

/*
 * Makes the folder of a new run. name NULL or "": PREFIX_YYYYmmdd_HHMMSS of local time. A name that is taken gets _2,
 * _3, ... behind it, so that no two runs ever share one; a '/' in a name is a '_' in its folder's. The command that
 * this process was started with is written down, passwords and keys left out. HD_E_USAGE for an empty name.
 */
hd_status hd_run_create(
        hd_run *out, const char *runs_dir, const char *experiment, const char *prefix, const char *name);

/* HD_E_DATA where the folder holds no run. */
hd_status hd_run_open(hd_run *out, const char *folder);

/*
 * The run that is meant: a folder; a name, EXPERIMENT/NAME, or an id or its first 4 or more digits within runs_dir;
 * "latest". HD_E_DATA where there is none, or several (they are listed), with the nearest name.
 */
hd_status hd_run_find(hd_run *out, const char *runs_dir, const char *which);

/* The newest run of an experiment (NULL: of all); HD_E_DATA where there is none. */
hd_status hd_run_newest(hd_run *out, const char *runs_dir, const char *experiment);

/* All runs, oldest first; experiment NULL: of all. Folders that hold none are passed over. */
hd_status hd_run_list(hd_run **out, size_t *count, const char *runs_dir, const char *experiment);
void hd_run_list_free(hd_run *runs, size_t count); /* NULL-safe */

void hd_run_free(hd_run *run); /* NULL-safe; leaves zeroes */

/* Makes the link RUNS_DIR/EXPERIMENT/latest lead to this run. */
hd_status hd_run_mark_latest(const hd_run *run);

/* Takes the folder of a run away that has not begun: the files that hd_run_create made and no others. */
void hd_run_remove(const hd_run *run);

/* "FOLDER/NAME", new text. */
hd_status hd_run_path(char **out, const hd_run *run, const char *name);

/* A JSON file of the folder, replaced whole. *out is a new reference; NULL and HD_OK where there is no such file. */
hd_status hd_run_write_json(const hd_run *run, const char *name, const json_t *value);
hd_status hd_run_read_json(json_t **out, const hd_run *run, const char *name);

/* ---- status ---- */

/* state, word; all but DIED are written */
#define HD_RUN_STATES(X)                                                                                               \
	X(RUNNING, "RUNNING")                                                                                          \
	X(FINISHED, "FINISHED")                                                                                        \
	X(FAILED, "FAILED")                                                                                            \
	X(KILLED, "KILLED")                                                                                            \
	X(DIED, "DIED") /* says RUNNING, and its process is gone */

typedef enum hd_run_state {
#define X(name, word) HD_RUN_##name,
	HD_RUN_STATES(X)
#undef X
} hd_run_state;

const char *hd_run_state_word(hd_run_state state);

typedef struct hd_run_status {
	hd_run_state state;
	char host[256];
	int64_t pid, pid_start;   /* start: of the process, clock ticks since boot (proc(5), field 22) */
	int64_t start_ms, end_ms; /* Unix time of the latest attempt; end 0: not ended */
	int64_t attempts;         /* 1, and one more with every resumption */
	int64_t epoch, epochs;    /* finished, and wanted */
	int64_t step;             /* optimizer steps */
	char message[1024];       /* why it failed; "" */
} hd_run_status;

/* A run on another host is taken at its word. HD_E_DATA where there is no status. */
hd_status hd_run_status_read(hd_run_status *out, const hd_run *run);
hd_status hd_run_status_write(const hd_run *run, const hd_run_status *status);

/* This process as status's host, pid and pid_start. */
void hd_run_status_this_process(hd_run_status *status);

/* Whether the process of a status is there, on this host. */
bool hd_run_status_is_alive(const hd_run_status *status);

/* Unix time in milliseconds. */
int64_t hd_time_ms(void);

#endif
