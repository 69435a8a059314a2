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

/* Why a recording is left out: name, text for the table. */
#define HD_SKIPS(X)                                                                                                    \
	X(NOT_APPROVED, "not approved")                                                                                \
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
	char *iq;     /* path, resolved against the catalogue's folder */
	char *source; /* known transmitter site, NULL where empty */
	char *extra;  /* JSON object of the columns this program does not know, NULL where there are none */
	double sample_rate_hz;
	double latitude_deg;
	double longitude_deg;
	double snr_db;      /* NaN where empty */
	double timestamp_s; /* Unix time, NaN where empty; naive stamps are UTC */
	bool approved;
	hd_skip skip;
	char *skip_detail; /* what was wrong and what would be right; NULL where skip is NONE */
} hd_recording;

typedef struct hd_catalog {
	char *path; /* the folder */
	hd_recording *recordings;
	size_t count;
	size_t capacity;
} hd_catalog;

/*
 * Reads DIR/manifest.csv (RFC 4180: quoted fields, embedded commas, quotes and newlines, CRLF, BOM).
 * Required columns: iq, latitude, longitude, and session or id. Missing optional columns take defaults
 * (id: row number; emission: session; receiver: "0"; sample_rate: 0 = unknown; approved: false unless the
 * column is absent and assume_approved is set). HD_E_DATA with path:line for a file that is no catalogue;
 * single bad rows are kept with a skip reason.
 */
hd_status hd_catalog_read_folder(hd_catalog *out, const char *folder, bool assume_approved);
void hd_catalog_free(hd_catalog *catalog); /* NULL-safe; leaves zeroes */

/* Marks a recording as skipped for good: first reason wins. Thread-safe for different recordings. */
void hd_recording_skip(hd_recording *recording, hd_skip skip, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

typedef enum hd_split { HD_TRAIN, HD_VAL, HD_TEST, HD_SPLIT_COUNT } hd_split;
typedef enum hd_split_by {
	HD_SPLIT_BY_AUTO,
	HD_SPLIT_BY_SESSION,
	HD_SPLIT_BY_SOURCE,
	HD_SPLIT_BY_CELL,
	HD_SPLIT_BY_TIME
} hd_split_by;

typedef struct hd_sample {
	int32_t id;        /* position in the list sorted by (session, emission); keys randomness with key_hash */
	uint32_t key_hash; /* hash of session and emission: unchanged when rows are added */
	double latitude_deg;
	double longitude_deg;
	hd_split split;
	int64_t *recording; /* (R) index into the catalogue, -1 = receiver missing; owned by hd_samples */
} hd_sample;

typedef struct hd_samples {
	char **receivers; /* R names in channel order */
	int R;
	hd_sample *samples; /* sorted by (session, emission) */
	size_t count;
	int64_t *recording_pool;
	hd_split_by split_by; /* resolved, never AUTO */
} hd_samples;

typedef struct hd_sample_config {
	const char *receivers; /* comma-separated order, "auto": sorted names (numbers by value), first max_receivers by
	                          use */
	int max_receivers;     /* channels; 0 with "auto": all */
	double sample_rate_hz; /* recordings of another rate are skipped; 0 = take what comes, if all are the same */
	hd_split_by split_by;  /* AUTO: source where every usable recording has one, else session */
	double validation_split; /* fractions of keys, [0,1), sum < 1 */
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
void hd_samples_free(hd_samples *samples); /* NULL-safe */

/* 32-bit FNV-1a followed by a finaliser (murmur3 fmix32), stable over versions and machines. */
uint32_t hd_hash32(const void *data, size_t bytes, uint32_t seed);

/* Table: samples, recordings and sessions per split, then recordings per skip reason (also list = true: each one). */
void hd_catalog_print(FILE *to, const hd_catalog *catalog, const hd_samples *samples, bool list_skipped);

#endif
