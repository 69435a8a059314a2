/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What recordings there are: rows of a catalogue, grouped into samples (session, emission) heard by up to
 * R receivers, and split into train, validation and test without leaks.
 */
#ifndef HEIMDALL_CATALOG_H
#define HEIMDALL_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "heimdall/geo.h"
#include "heimdall/iq.h"

/* Why a recording is left out: name, text for the table. */
#define HD_SKIPS(X)                                                                                                    \
	X(NOT_APPROVED, "not approved")                                                                                \
	X(FILTERED, "left out by --where")                                                                             \
	X(BAD_POSITION, "position missing or out of range")                                                            \
	X(POSITIONS_DISAGREE, "position differs within one emission")                                                  \
	X(WRONG_RATE, "sample rate differs from the configured one")                                                   \
	X(UNKNOWN_RECEIVER, "receiver not among the configured ones")                                                  \
	X(DUPLICATE, "same session, emission and receiver again")                                                      \
	X(MISSING_FILE, "IQ file missing")                                                                             \
	X(UNREADABLE, "IQ file unreadable")                                                                            \
	X(NON_FINITE, "NaN or infinity in the IQ")                                                                     \
	X(TOO_SHORT, "too short")

typedef enum hd_skip {
	HD_SKIP_NONE,
#define X(name, text) HD_SKIP_##name,
	HD_SKIPS(X)
#undef X
	        HD_SKIP_COUNT
} hd_skip;

const char *hd_skip_text(hd_skip skip);

typedef struct hd_recording {
	char *id;
	char *session;
	char *emission; /* defaults to the session */
	char *receiver;
	char *iq;      /* path, resolved against the catalogue's folder */
	char *version; /* of the IQ's content where its file need not be there (an ETag), NULL: by size and time */
	char *seen;    /* version that its store gave when features were asked for, NULL: a path, or not asked */
	char *source;  /* known transmitter site, NULL where empty */
	char *extra;   /* JSON object of the columns this program does not know, NULL where there are none */
	double sample_rate_hz;
	double latitude_deg;
	double longitude_deg;
	double label_sigma_m; /* standard deviation of the position per axis, NaN where empty */
	double frequency_hz;  /* NaN where empty */
	double snr_db;        /* NaN where empty */
	double timestamp_s;   /* Unix time, NaN where empty; naive stamps are UTC */
	bool approved;
	int split; /* hd_split where the catalogue fixes it, else -1 */
	hd_skip skip;
	char *skip_detail; /* what was wrong and what would be right; NULL where skip is NONE */
} hd_recording;

typedef enum hd_catalog_format {
	HD_CATALOG_FOLDER,
	HD_CATALOG_SQLITE,
	HD_CATALOG_ORIGINAL,
	HD_CATALOG_POSTGRESQL
} hd_catalog_format;

typedef struct hd_catalog {
	char *path; /* as it was named: a folder, a .sqlite file or a URL, which is without its password then */
	hd_catalog_format format;
	hd_recording *recordings;
	size_t count;
	size_t capacity;
} hd_catalog;

/*
 * Reads a catalogue: a folder with manifest.csv (RFC 4180: quoted fields, embedded commas, quotes and newlines,
 * CRLF, BOM), a folder with catalog.sqlite or a .sqlite or .db file (table `recordings` with the manifest's columns),
 * or the original's layout ({train,val,test}/NAME_iq.npy with NAME_label.npy, latitude and longitude).
 *
 * Columns (aliases in brackets): iq, latitude, longitude are required, and session [session_id] or id. Missing
 * optional ones take defaults (id: row number; emission: session; receiver [websdr_id]: "0"; sample_rate: 0 =
 * unknown; approved: false unless the column is absent and assume_approved is set; label_sigma_m, frequency_mhz,
 * snr_db, timestamp, source, split, version: none). HD_E_DATA with path:line for what is no catalogue; single bad rows
 * are kept with a skip reason.
 */
hd_status hd_catalog_read(hd_catalog *out, const char *path, bool assume_approved);

/*
 * The same for whatever data_dir may name: a database's URL (postgresql://...) is read into an SQLite index in
 * cache_dir, or .heimdall-cache of the working directory, as schema, query, iq_template and iq_bucket say, and the
 * catalogue from there. HD_E_IO where the database cannot be reached or stays away for five minutes.
 */
struct hd_settings;
hd_status hd_catalog_open(hd_catalog *out, const char *path, bool assume_approved, const struct hd_settings *settings);

/*
 * Writes a catalogue into a folder (made where missing; one that holds a catalogue is refused). FOLDER and SQLITE
 * name the recordings where they are (absolute paths); ORIGINAL copies them: one complex64 array (R,n) per sample
 * in the split it has, silent (zero) rows for missing receivers, NAME = session, or session@emission where they
 * differ. Skipped recordings stay in FOLDER and SQLITE and are left out of ORIGINAL. samples, store (of recordings
 * named by URL; NULL for paths alone) and raw (format of files of bare samples) are of ORIGINAL.
 */
struct hd_samples;
struct hd_store;
hd_status hd_catalog_write(const char *folder, hd_catalog_format format, const hd_catalog *catalog,
        const struct hd_samples *samples, struct hd_store *store, hd_raw_format raw);

/* A folder to write a catalogue into: made where missing; HD_E_USAGE where it holds one. */
hd_status hd_catalog_new_folder(const char *folder);

/*
 * Marks recordings that do not match as HD_SKIP_FILTERED. Text: conditions joined by "and", of a column (known or
 * extra) and = != < <= > >=, "between A and B", "in (A, B, ...)"; numbers compare as numbers, `timestamp` with
 * ISO dates and times (UTC without a zone; a date alone is its first second), texts may be quoted. An empty field
 * matches nothing. HD_E_USAGE with the place in the text and, for an unknown column, the nearest known one.
 */
hd_status hd_catalog_where(hd_catalog *catalog, const char *text);
void hd_catalog_free(hd_catalog *catalog); /* NULL-safe; leaves zeroes */

/* Marks a recording as skipped for good: first reason wins. Thread-safe for different recordings. */
/* Order of receivers' names: numbers by value, everything else by bytes behind them. As strcmp. */
int hd_name_compare(const char *a, const char *b);

/* Whether a rate counts as another one: crystals are within 100 ppm, rates within that are the same. */
bool hd_rate_differs(double a_hz, double b_hz);

void hd_recording_skip(hd_recording *recording, hd_skip skip, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

typedef enum hd_split { HD_TRAIN, HD_VAL, HD_TEST, HD_SPLIT_COUNT } hd_split;
typedef enum hd_split_by {
	HD_SPLIT_BY_AUTO,
	HD_SPLIT_BY_SESSION,
	HD_SPLIT_BY_SOURCE,
	HD_SPLIT_BY_CELL,
	HD_SPLIT_BY_TIME,
	HD_SPLIT_BY_COLUMN,
	HD_SPLIT_BY_FOLDS,  /* the test split is a fold of a file */
	HD_SPLIT_BY_CATALOG /* the catalogue says itself */
} hd_split_by;

typedef struct hd_sample {
	int32_t id;        /* position in the list sorted by (session, emission); keys randomness with key_hash */
	uint32_t key_hash; /* hash of session and emission: unchanged when rows are added */
	double latitude_deg;
	double longitude_deg;
	double label_sigma_m; /* of the position, per axis: the largest of its recordings; NaN where none says */
	hd_split split;
	int64_t *recording; /* (R) index into the catalogue, -1 = receiver missing; owned by hd_samples */
} hd_sample;

typedef struct hd_samples {
	char **receivers; /* R names in channel order */
	int R;
	hd_sample *samples; /* sorted by (session, emission) */
	size_t count;
	int64_t *recording_pool;
	hd_split_by split_by;                /* resolved, never AUTO */
	int receivers_seen;                  /* receivers of the usable recordings, R of them taken */
	size_t sessions_seen, sessions_kept; /* with any receiver, and with one of those taken */
} hd_samples;

typedef struct hd_sample_config {
	const char *receivers; /* comma-separated order; "auto": the max_receivers most used, in the order of their
	                          names (numbers by value); "all": every one in that order */
	int max_receivers;
	double sample_rate_hz; /* recordings of another rate are skipped; 0 = take what comes, if all are the same */
	bool resample;         /* recordings of another rate are taken too */
	const char *folds;     /* CSV with fold and session, or another column of the manifest; NULL: splits by hash */
	int fold;              /* the fold that is the test split */
	hd_split_by split_by;  /* AUTO: the catalogue's own, else source where every recording has one, else session */
	const char *split_column; /* for COLUMN */
	double validation_split;  /* fractions of keys, [0,1), sum < 1 */
	double test_split;
	uint64_t seed;
	double cell_m;       /* edge of a cell for split_by cell */
	double time_block_s; /* length of a block for split_by time */
} hd_sample_config;

/*
 * Groups the usable recordings into samples and assigns splits: a key's side is a hash of (key, seed)
 * compared with the fractions, so added rows never move old ones. Sets skip reasons on recordings.
 * HD_E_DATA where nothing is left, naming the most frequent reason.
 */
hd_status hd_samples_build(hd_samples *out, hd_catalog *catalog, const hd_sample_config *config);
/* Leaves `most` samples, spread evenly over all, where there are more; recording_pool stays whole. */
void hd_samples_thin(hd_samples *samples, size_t most);
void hd_samples_free(hd_samples *samples); /* NULL-safe */

/* 32-bit FNV-1a followed by a finaliser (murmur3 fmix32), stable over versions and machines. */
uint32_t hd_hash32(const void *data, size_t bytes, uint32_t seed);

typedef struct hd_split_size {
	size_t samples, sessions, recordings;
} hd_split_size;

/* How much is in a split. */
hd_split_size hd_samples_split_size(const hd_samples *samples, const hd_catalog *catalog, hd_split split);

/* Adds the number of recordings of each skip reason to counts (HD_SKIP_COUNT). */
void hd_catalog_count_skips(size_t *counts, const hd_catalog *catalog);

/* Table: samples, recordings and sessions per split, then recordings per skip reason (also list = true: each one). */
void hd_catalog_print(FILE *to, const hd_catalog *catalog, const hd_samples *samples, bool list_skipped);

#endif
