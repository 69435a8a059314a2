/* SPDX-License-Identifier: Apache-2.0 */
/* The recordings of a data set's samples as rows of catalog.csv, for its writer and for whoever compares with it. */
#ifndef HD_TRACK_RECORD_ROWS_H
#define HD_TRACK_RECORD_ROWS_H

#include "heimdall/dataset.h"
#include "host/data/catalog_rows.h"

#define HD_RECORD_FILE "catalog.csv"

#define HD_RECORD_COLUMNS(X)                                                                                           \
	X(SESSION, "session")                                                                                          \
	X(EMISSION, "emission")                                                                                        \
	X(RECEIVER, "receiver")                                                                                        \
	X(ID, "id")                                                                                                    \
	X(IQ, "iq")                                                                                                    \
	X(SPLIT, "split")                                                                                              \
	X(LATITUDE, "latitude")                                                                                        \
	X(LONGITUDE, "longitude")                                                                                      \
	X(SAMPLE_RATE, "sample_rate")                                                                                  \
	X(FREQUENCY_MHZ, "frequency_mhz")                                                                              \
	X(ROW, "row")                                                                                                  \
	X(VERSION, "version")                                                                                          \
	X(LEFT_OUT, "left_out")

typedef enum hd_record_column {
#define X(name, text) HD_RECORD_##name,
	HD_RECORD_COLUMNS(X)
#undef X
	        HD_RECORD_COLUMN_COUNT
} hd_record_column;

extern const char *const hd_record_names[HD_RECORD_COLUMN_COUNT];

#define HD_RECORD_HASH_DIGITS 16
#define HD_RECORD_VERSION_BYTES 64

/* Texts are the data set's or stand in the row itself. */
typedef struct hd_record_row {
	const char *text[HD_RECORD_COLUMN_COUNT];
	bool is_file; /* version "" means that there is no file; else that it is not known */
	char number[4][HD_NUMBER_BYTES];
	char hash[HD_RECORD_HASH_DIGITS + 1];
	char version[HD_RECORD_VERSION_BYTES];
	char *iq; /* owned; NULL where the data set's will do */
} hd_record_row;

/* A walk over the samples in their order; rows are made some thousand at a time, by several threads. */
typedef struct hd_record_rows {
	const hd_dataset *dataset;
	size_t base;   /* bytes in front of an iq that lies in the catalogue's folder: that folder's name and '/' */
	char *folder;  /* these */
	size_t sample; /* the first one that is not in the block */
	size_t count;  /* rows of the block */
	size_t given;  /* of these */
	size_t capacity;
	hd_record_row *rows;
	int64_t *recording; /* (capacity) */
	hd_split *split;    /* (capacity) */
} hd_record_rows;

hd_status hd_record_rows_open(hd_record_rows *out, const hd_dataset *dataset);

/* The rows of the next sample, in channel order, until it is asked again; *count is 0 at the end. */
hd_status hd_record_rows_next(hd_record_rows *rows, const hd_record_row **out, size_t *count);
void hd_record_rows_close(hd_record_rows *rows); /* NULL-safe */

#endif
