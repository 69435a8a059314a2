/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run's metrics as a log on disk, to which lines are only ever appended, and its reader. One line is one moment:
 *
 *     TIME_MS STEP EPOCH name=value name=value ... CRC
 *
 * with blanks between, values of full precision (%.17g; nan, inf, -inf) and the CRC-32 (zlib's, eight hexadecimal
 * digits) of what stands before the last blank. A line without its end is still being written, or was cut off by a
 * crash; one with a wrong checksum is left out and counted.
 */
#ifndef HD_TRACK_METRICS_LOG_H
#define HD_TRACK_METRICS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"

#define HD_METRICS_PER_LINE 64
#define HD_METRIC_NAME 250 /* bytes at most, as MLflow takes them: letters, digits, and _ - . / : */

typedef struct hd_metric {
	const char *name;
	double value; /* NaN and infinities are values like others */
} hd_metric;

/* The metrics of a moment. Of a reader the names are the reader's, until it is asked again. */
typedef struct hd_metrics_line {
	int64_t time_ms; /* Unix time */
	int64_t step;    /* optimizer steps since the beginning */
	int64_t epoch;
	size_t count;
	hd_metric metrics[HD_METRICS_PER_LINE];
} hd_metrics_line;

typedef struct hd_metrics_log hd_metrics_log;

/* Opens for appending, made where missing. A last line that was cut off is ended, so that it stands alone. */
hd_status hd_metrics_log_open(hd_metrics_log **out, const char *path);

/*
 * Appends a line with one write; it is the system's from there on, also if the program dies. HD_E_USAGE for a name that
 * is none.
 */
hd_status hd_metrics_log_append(hd_metrics_log *log, const hd_metrics_line *line);
void hd_metrics_log_close(hd_metrics_log *log); /* NULL-safe */

typedef struct hd_metrics_reader hd_metrics_reader;

/* From a byte on, where a line begins. A file that is not there yet is one without lines. */
hd_status hd_metrics_reader_open(hd_metrics_reader **out, const char *path, int64_t offset);

/* The next whole line; *got is false where there is none yet, and later there may be. */
hd_status hd_metrics_reader_next(hd_metrics_reader *reader, hd_metrics_line *out, bool *got);

/* Byte behind the last line that was given or left out. */
int64_t hd_metrics_reader_offset(const hd_metrics_reader *reader);

/* Lines left out so far for their checksum. */
int64_t hd_metrics_reader_bad(const hd_metrics_reader *reader);
void hd_metrics_reader_close(hd_metrics_reader *reader); /* NULL-safe */

/* Takes a line; what is not HD_OK ends the walk with that. */
typedef hd_status (*hd_metrics_take)(void *context, const hd_metrics_line *line);

/* All whole lines of a log from a byte on, in order. *bad: lines left out for their checksum; NULL: of no interest. */
hd_status hd_metrics_log_each(const char *path, int64_t offset, hd_metrics_take take, void *context, int64_t *bad);

/* A metric of a line; NaN where it is not there. */
double hd_metrics_line_value(const hd_metrics_line *line, const char *name);

#endif
