/* SPDX-License-Identifier: Apache-2.0 */
/* What the actions of `heimdall runs` share. Results go to stdout; a run is borrowed. */
#ifndef HD_CLI_RUNS_H
#define HD_CLI_RUNS_H

#include <stdio.h>

#include "heimdall/settings.h"
#include "host/track/metrics_log.h"
#include "host/track/run.h"

/* What a run's metrics.log comes to. */
typedef struct hd_run_summary {
	int64_t points, bad; /* lines; those left out for their checksum */
	int64_t last_ms;     /* time of the last line; 0 without any */
	/* of the epoch (from 1) with the least val/loss, which best.safetensors holds; NaN where there is none */
	int64_t best_epoch;
	double best_loss, best_median_m;
} hd_run_summary;

/*
 * Walks a run's metrics.log: `take` hands each line to hd_runs_take(out, line), which may be all it does (context:
 * out).
 */
hd_status hd_runs_read_log(hd_run_summary *out, const hd_run *run, hd_metrics_take take, void *context);
hd_status hd_runs_take(void *summary, const hd_metrics_line *line);

/* {"epoch", "val/loss", "val/median_m"} of the best epoch, null without one; NULL on lack of memory. */
json_t *hd_runs_best_json(const hd_run_summary *summary);

/* "47s", "12m34s", "3h05m", "2d03h"; "-" below 0. At most 7 bytes with the end for less than 100 days. */
void hd_runs_duration(char out[16], int64_t ms);

/* How long the latest attempt has taken; -1 where nobody knows. */
int64_t hd_runs_took_ms(const hd_run_status *status, const hd_run_summary *summary);

/* Local time as "2026-12-01 10:28:01". */
void hd_runs_time(char out[32], int64_t ms);

/* The state, in colour where stdout is a terminal and NO_COLOR is not set; padded with blanks to width. */
void hd_runs_print_state(hd_run_state state, int width);

/* How a run is taken up again, on stdout; nothing where it has no checkpoint to go on from. */
void hd_runs_print_resume(const hd_run *run);

/* ---- actions ---- */

hd_status hd_runs_list(const hd_settings *settings);
hd_status hd_runs_show(const hd_settings *settings, const hd_run *run);

/* The last lines of output.log, or of metrics.log where the program's output went elsewhere; then those that come. */
hd_status hd_runs_tail(const hd_settings *settings, const hd_run *run);

/*
 * SIGTERM to the run's process, and patience until it has ended; HD_OK also where it was not running. HD_E_USAGE for a
 * run on another host, HD_E_FAILED where it does not end.
 */
hd_status hd_runs_stop(const hd_settings *settings, const hd_run *run);

#endif
