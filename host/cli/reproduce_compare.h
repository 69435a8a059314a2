/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics of two runs of the same settings, point for point. */
#ifndef HD_CLI_REPRODUCE_COMPARE_H
#define HD_CLI_REPRODUCE_COMPARE_H

#include <jansson.h>
#include <stdio.h>

#include "host/track/run.h"

typedef struct hd_run_points hd_run_points;

/* Points of metrics.log but those that are never the same: times, memory. Of a step that was done twice, the later. */
hd_status hd_run_points_read(hd_run_points **out, const hd_run *run);
void hd_run_points_free(hd_run_points *points); /* NULL-safe */

/* Both are borrowed. */
typedef struct hd_run_comparison {
	const hd_run_points *then, *now;
	int64_t end_step;             /* of `now`, steps behind it are left out */
	int64_t compared, equal;      /* points of both; those of them with the same value, or both NaN */
	int64_t only_then, only_now;  /* points that the other run has not */
	int64_t epochs, equal_epochs; /* that both have points of, and those of them in which all are equal */
	/* the first point that differs; "" where none does */
	char first_name[256];
	int64_t first_step, first_epoch; /* epoch from 1 */
	double first_then, first_now;
} hd_run_comparison;

/*
 * Compares up to the last epoch's end of `then`; whole: it came to its end, so that all that `now` has more counts too.
 */
void hd_run_compare(hd_run_comparison *out, const hd_run_points *then, const hd_run_points *now, bool whole);

/* Whether there was something to compare and all of it is the same. */
bool hd_run_is_equal(const hd_run_comparison *comparison);

/* At most 80 columns: the epochs that differ, then the last value of every metric of the validation split. */
void hd_run_comparison_print(FILE *to, const hd_run_comparison *comparison);

/* All last values and the counts; NULL on lack of memory. */
json_t *hd_run_comparison_json(const hd_run_comparison *comparison);

#endif
