/* SPDX-License-Identifier: Apache-2.0 */
/* Columns of a table that is written from recordings, and the deployed system's tables. One thread. */
#ifndef HD_DATA_POSTGRES_WRITE_H
#define HD_DATA_POSTGRES_WRITE_H

#include "host/data/postgres_copy.h"

/* What a column holds besides the manifest's (hd_column). */
enum {
	HD_PG_OUT_ROW = HD_COLUMN_COUNT, /* the recording's number, from 1 */
	HD_PG_OUT_HERTZ,                 /* its frequency in whole Hz */
	HD_PG_OUT_NOW,                   /* the time of writing */
	HD_PG_OUT_OWN,                   /* and following: a form's own */
	HD_PG_OUT_EXTRA = 1000           /* and following: the catalogue's extra columns */
};

typedef struct hd_pg_form {
	const hd_catalog *catalog;
	hd_pg_out_column *columns;
	size_t count, capacity;
	json_t *extras;          /* object whose keys are the extra columns */
	const char **extra_keys; /* of extras */
	int extra_count;
	json_t *extra; /* of extra_row */
	size_t extra_row;
	char *iq;
} hd_pg_form;

/* The caller closes, also after a failure. */
hd_status hd_pg_form_open(hd_pg_form *out, const hd_catalog *catalog);
void hd_pg_form_close(hd_pg_form *form);
hd_status hd_pg_form_add(hd_pg_form *form, const char *name, const char *type, int what);

/* emission, split and version where recordings have them, and the extra columns. */
hd_status hd_pg_form_add_rest(hd_pg_form *form);

/* The cell of a recording; context is the form. */
const char *hd_pg_form_cell(
        void *context, size_t row, const hd_pg_out_column *column, char number[HD_NUMBER_BYTES], hd_status *st);

bool hd_pg_all_uuids(const hd_catalog *catalog, hd_column column);

hd_status hd_pg_write_deployed(hd_pg *pg, const hd_catalog *catalog);

#endif
