/* SPDX-License-Identifier: Apache-2.0 */
/* A timed operation as a line of a table, of a CSV file, as JSON. Pure but for the file that is written to. */
#ifndef HD_BENCH_ROWS_H
#define HD_BENCH_ROWS_H

#include <jansson.h>
#include <stdio.h>

#include "bench/common/ceilings.h"
#include "bench/common/timing.h"
#include "tests/cases/case.h"

typedef struct hd_bench_row {
	const hd_case *op;
	hd_shape shape;
	hd_dtype dtype;
	char text[160]; /* hd_describe */
	const hd_backend *backend;
	const hd_bench_ceilings *top;
	hd_bench_timing time;  /* of a call among many */
	hd_bench_timing alone; /* of a call that is waited for */
	double graph_s;        /* of a call, all of a sample replayed as a graph; 0: not recorded */
} hd_bench_row;

void hd_bench_row_heading(FILE *to);
void hd_bench_row_print(const hd_bench_row *row, FILE *to);
void hd_bench_row_csv_heading(FILE *to);
void hd_bench_row_csv(const hd_bench_row *row, FILE *to);
json_t *hd_bench_row_json(const hd_bench_row *row); /* new; NULL on lack of memory */

#endif
