/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the catalogue's formats and its recordings: the known columns, and a builder that takes rows of named
 * text fields, whatever they were read from. Writers ask for the same texts back. One thread per builder.
 */
#ifndef HD_DATA_CATALOG_ROWS_H
#define HD_DATA_CATALOG_ROWS_H

#include <jansson.h>

#include "heimdall/catalog.h"

#define HD_MANIFEST "manifest.csv"
#define HD_CATALOG_DATABASE "catalog.sqlite"

/* Known columns: name, another name it may have ("" for none), whether it holds a number. */
#define HD_COLUMNS(X)                                                                                                  \
	X(ID, "id", "", false)                                                                                         \
	X(SESSION, "session", "session_id", false)                                                                     \
	X(EMISSION, "emission", "", false)                                                                             \
	X(RECEIVER, "receiver", "websdr_id", false)                                                                    \
	X(IQ, "iq", "", false)                                                                                         \
	X(SAMPLE_RATE, "sample_rate", "", true)                                                                        \
	X(LATITUDE, "latitude", "", true)                                                                              \
	X(LONGITUDE, "longitude", "", true)                                                                            \
	X(LABEL_SIGMA, "label_sigma_m", "", true)                                                                      \
	X(FREQUENCY_MHZ, "frequency_mhz", "", true)                                                                    \
	X(SNR_DB, "snr_db", "", true)                                                                                  \
	X(TIMESTAMP, "timestamp", "", false)                                                                           \
	X(APPROVED, "approved", "", false)                                                                             \
	X(SOURCE, "source", "", false)                                                                                 \
	X(SPLIT, "split", "", false)                                                                                   \
	X(VERSION, "version", "", false)

typedef enum hd_column {
#define X(name, text, alias, is_number) HD_COLUMN_##name,
	HD_COLUMNS(X)
#undef X
	        HD_COLUMN_COUNT
} hd_column;

#define HD_NUMBER_BYTES 40

const char *hd_column_name(hd_column column);
bool hd_column_is_number(hd_column column);

/* The column of this name or alias, letters of either case; -1 where there is none. */
int hd_column_find(const char *name);

/* ---- reading ---- */

typedef struct hd_rows {
	hd_catalog *catalog;
	const char *folder; /* what relative iq paths are below */
	bool assume_approved;
	int known[HD_COLUMN_COUNT]; /* field of each known column, -1 where absent */
	char **names;               /* of all fields */
	size_t count;
} hd_rows;

typedef struct hd_row {
	const char *place;         /* "manifest.csv:12", for errors and skip details */
	const char *const *fields; /* (count) UTF-8; NULL and missing ones are empty */
	size_t count;
	hd_skip skip; /* NONE, or why the reader knows that the row cannot be used */
	const char *reason;
} hd_row;

/*
 * Starts with the names of the fields. catalog and folder must outlive the builder. HD_E_DATA, with place in front,
 * where a required column is missing or one stands twice. Fields without a name are left out.
 */
hd_status hd_rows_begin(hd_rows *out, hd_catalog *catalog, const char *folder, bool assume_approved, const char *place,
        const char *const *names, size_t count);

/*
 * Adds one recording; what cannot be used gets its skip reason. HD_E_DATA for a text that is no UTF-8 and for a
 * split that is none. A path with a scheme ("s3://...") is left as it is.
 */
hd_status hd_rows_add(hd_rows *rows, const hd_row *row);
void hd_rows_end(hd_rows *rows); /* NULL-safe; the catalogue stays */

/* A finite number with nothing but blanks around it, else NaN. */
double hd_number_parse(const char *text);

/* ISO 8601 date and time, zone optional (UTC without), or Unix seconds; NaN where it is neither. */
double hd_time_parse(const char *text);

/* true, 1, yes, t, y and their opposites in letters of either case: 1, 0; -1 where it is neither. */
int hd_truth_parse(const char *text);

/* train, val or validation, test; -1 where it is none. */
int hd_split_parse(const char *text);
const char *hd_split_name(int split); /* "train", "val", "test"; "" for -1 */

/* ---- writing ---- */

/* The shortest of 15 to 17 digits that reads back as the same value; "" for NaN and infinity. */
void hd_number_format(char text[HD_NUMBER_BYTES], double value);

/* ISO 8601 in UTC that hd_time_parse reads back as the same value; "" for NaN. */
void hd_time_format(char text[HD_NUMBER_BYTES], double seconds);

/* What a field of the manifest holds: a text of the recording or `number`, which it fills; "" where empty. */
const char *hd_column_text(const hd_recording *recording, hd_column column, char number[HD_NUMBER_BYTES]);

/* Object whose keys are the extra columns of all recordings, in the order in which they first appear. */
hd_status hd_extra_names(json_t **out, const hd_catalog *catalog);

/* The extra columns of a recording; NULL where it has none. The caller drops the reference. */
json_t *hd_extra_load(const hd_recording *recording);

/* The iq path with the working directory in front where it is relative. Owned by the caller. */
hd_status hd_iq_absolute(char **out, const char *iq);

/* ---- formats: hd_catalog_read and hd_catalog_write choose among them ---- */

/* out is empty but for path and format; on failure the caller frees it. */
hd_status hd_manifest_read(hd_catalog *out, const char *folder, bool assume_approved);
hd_status hd_manifest_write(const char *folder, const hd_catalog *catalog);
hd_status hd_catalog_sqlite_read(hd_catalog *out, const char *path, bool assume_approved);
hd_status hd_catalog_sqlite_write(const char *folder, const hd_catalog *catalog);
hd_status hd_original_read(hd_catalog *out, const char *folder);
hd_status hd_original_write(const char *folder, const hd_catalog *catalog, const hd_samples *samples,
        struct hd_store *store, hd_raw_format raw);

#endif
