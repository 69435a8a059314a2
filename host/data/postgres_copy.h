/* SPDX-License-Identifier: Apache-2.0 */
/* A new table and its rows, by COPY. Used inside a transaction, by one thread. */
#ifndef HD_DATA_POSTGRES_COPY_H
#define HD_DATA_POSTGRES_COPY_H

#include "host/data/catalog_rows.h"
#include "host/data/postgres_connection.h"

typedef struct hd_pg_out_column {
	const char *name; /* quoted here */
	const char *type; /* SQL: type, NOT NULL, PRIMARY KEY */
	int what;         /* for the cell function */
} hd_pg_out_column;

/*
 * Text of a cell in PostgreSQL's input form, NULL for NULL: one that is kept elsewhere, or written into `number`.
 * Sets *st where it cannot be made.
 */
typedef const char *(*hd_pg_cell)(
        void *context, size_t row, const hd_pg_out_column *column, char number[HD_NUMBER_BYTES], hd_status *st);

/*
 * CREATE TABLE table (columns; constraint, where not NULL) and its rows. table and constraint are SQL. HD_E_USAGE where
 * the table is there.
 */
hd_status hd_pg_write_table(hd_pg *pg, const char *table, const hd_pg_out_column *columns, size_t count,
        const char *constraint, size_t rows, hd_pg_cell cell, void *context);

#endif
