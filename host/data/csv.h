/* SPDX-License-Identifier: Apache-2.0 */
/* CSV by RFC 4180: quoted fields with commas, quotes and newlines, CRLF or LF, a byte order mark skipped. */
#ifndef HD_DATA_CSV_H
#define HD_DATA_CSV_H

#include <stddef.h>
#include <stdio.h>

#include "heimdall/status.h"

typedef struct hd_csv {
	char *text;    /* the file, fields cut in place; owned */
	char **fields; /* of the last row */
	size_t field_count, field_capacity;
	char *at, *end;
	size_t line;        /* where the last row starts, from 1 */
	size_t inner_lines; /* newlines inside its quotes */
	const char *path;
} hd_csv;

/* Reads a whole file. path must outlive the reader. */
hd_status hd_csv_open(hd_csv *out, const char *path);
void hd_csv_close(hd_csv *csv); /* NULL-safe */

/* Next row into fields; *more is false at the end. Empty lines are skipped. HD_E_DATA with path:line for an open quote.
 */
hd_status hd_csv_next(hd_csv *csv, int *more);

/* Writes one field, quoted where RFC 4180 wants it, and where blanks at an end could be lost by other readers. */
void hd_csv_put(FILE *to, const char *text);

#endif
