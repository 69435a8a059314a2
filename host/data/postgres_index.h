/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of a database as an SQLite file: table `recordings` with the manifest's columns, in the order of the key,
 * and how far the reading came. A page's rows and its last key are one transaction, so that whatever ends the
 * reading, the rows that are there are those up to the key that is there. One thread at a time; one process
 * at a time.
 */
#ifndef HD_DATA_POSTGRES_INDEX_H
#define HD_DATA_POSTGRES_INDEX_H

#include <sqlite3.h>
#include <stdint.h>

#include "host/data/postgres_plan.h"

/* Why a row's position cannot be used: name, text. */
#define HD_PG_FAULTS(X)                                                                                                \
	X(NULL, "NULL")                                                                                                \
	X(NAN, "NaN")                                                                                                  \
	X(INFINITE, "infinite")                                                                                        \
	X(RANGE, "out of range")                                                                                       \
	X(ZERO, "at 0, 0, which is a missing one")                                                                     \
	X(TEXT, "not a number")

typedef enum hd_pg_fault {
#define X(name, text) HD_PG_FAULT_##name,
	HD_PG_FAULTS(X)
#undef X
	        HD_PG_FAULT_COUNT
} hd_pg_fault;

#define HD_PG_PIECES 16

/* Of iq_template: a text, or the value at a position of the row. */
typedef struct hd_pg_piece {
	const char *text;
	size_t bytes;
	int at; /* -1: the text */
} hd_pg_piece;

typedef struct hd_pg_index {
	char *path; /* of the finished file */
	char *part; /* of the one in the making */
	char *name; /* of the database, for messages */
	int lock;   /* held from open to close */
	sqlite3 *db;
	sqlite3_stmt *insert;
	const hd_pg_plan *plan;
	char *upper[HD_PG_KEYS]; /* key up to which is read; NULL before it is known */
	char *last[HD_PG_KEYS];  /* of the last page that is there; NULL before the first */
	int64_t rows, pages;
	int64_t faults[HD_PG_FAULT_COUNT];
	char *pattern; /* iq_template, absolute */
	hd_pg_piece pieces[HD_PG_PIECES];
	int piece_count;
	char *place; /* of one row's IQ */
	size_t place_bytes;
	bool resumed; /* pages of an earlier process are there */
} hd_pg_index;

/*
 * Takes the lock and a file that an earlier process began for the same plan, or makes a new one. *finished: another
 * process made the whole index while this one waited for the lock; then there is nothing to read.
 */
hd_status hd_pg_index_open(
        hd_pg_index *out, bool *finished, const char *path, const hd_pg_plan *plan, const char *name);
void hd_pg_index_close(hd_pg_index *index); /* NULL-safe; what was not finished stays for the next process */

hd_status hd_pg_index_set_upper(hd_pg_index *index, char *const *upper);

/* Cuts iq_template at its marks; called by open. */
hd_status hd_pg_index_prepare_place(hd_pg_index *index);

/* Rows of one page: begin, each row of a result, end, which keeps last key, number and sum of signatures. */
hd_status hd_pg_index_begin(hd_pg_index *index);
hd_status hd_pg_index_row(hd_pg_index *index, const PGresult *rows, int row);
hd_status hd_pg_index_end(hd_pg_index *index, char *const *last, int64_t rows, int64_t signature);

/* One page as it was kept, from 0; *first is the key before it (NULLs for the first page). Texts are owned. */
typedef struct hd_pg_page {
	char *first[HD_PG_KEYS], *last[HD_PG_KEYS];
	int64_t rows, signature;
} hd_pg_page;
hd_status hd_pg_index_page(hd_pg_page *out, hd_pg_index *index, int64_t number);
void hd_pg_page_free(hd_pg_page *page);

/* Puts the finished file in its place. */
hd_status hd_pg_index_finish(hd_pg_index *index);

#endif
