/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which columns of a database are which of the manifest's, and the statements that read them in pages.
 *
 * Presets: `seed`, a table `measurements` with positions of its own; `deployed`, `measurements` beside
 * `recording_sessions`, `known_sources` and `websdr_stations`; `query`, the user's SELECT, whose columns have the
 * manifest's names. Tables are looked for along the search_path, then in schema `heimdall`.
 */
#ifndef HD_DATA_POSTGRES_PLAN_H
#define HD_DATA_POSTGRES_PLAN_H

#include "host/data/catalog_rows.h"
#include "host/data/postgres_connection.h"

#define HD_PG_KEYS 4 /* columns of a key, at most */

typedef enum hd_pg_kind {
	HD_PG_TEXT,
	HD_PG_NUMBER,
	HD_PG_HERTZ,    /* a frequency in Hz, where the manifest has MHz */
	HD_PG_LOCATION, /* a path, a URL, bucket/key or a key */
	HD_PG_TEMPLATE, /* no column: the IQ's place by iq_template */
	HD_PG_TRUE      /* no column: approved, because --assume_approved says so */
} hd_pg_kind;

typedef struct hd_pg_field {
	char *name; /* of the manifest's column, or the extra column's own */
	char *from; /* what fills it, for messages */
	char *sql;  /* NULL where no column does */
	hd_pg_kind kind;
	int column; /* hd_column, or -1 */
	int at;     /* position in the page's rows, or -1 */
} hd_pg_field;

typedef struct hd_pg_source {
	const char *schema; /* auto, seed, deployed or query */
	const char *query;
	const char *iq_template; /* {task_id} and {session}: the session; {id} and {receiver}: the receiver */
	const char *iq_bucket;   /* of locations that name none */
	bool assume_approved;
} hd_pg_source;

typedef struct hd_pg_plan {
	const char *preset;
	char *server;   /* which one it is: host, port, database, user */
	char *relation; /* "public.measurements", or "the query" */
	char *keys[HD_PG_KEYS];
	char *key_sql[HD_PG_KEYS];
	int key_at[HD_PG_KEYS]; /* position in the page's rows */
	int key_count;
	bool key_is_unique; /* the database says so */
	hd_pg_field *fields;
	size_t count, capacity;
	const char *signature; /* SQL: a row's hash */
	int columns;           /* of the page's rows, before the row's signature */
	char *first_page;      /* parameters: upper key, rows */
	char *next_page;       /* upper key, rows, last key */
	char *upper;           /* the highest key there is */
	char *first_digest;    /* count and sum of signatures up to the upper key */
	char *next_digest;     /* upper key, last key */
	char *keyless;         /* counts rows without a key; NULL where there can be none */
	hd_pg_source source;   /* texts stay the caller's */
} hd_pg_plan;

/*
 * Looks at the database. HD_E_DATA where no preset fits, naming what is missing and --query. The caller frees the
 * plan, also after a failure.
 */
hd_status hd_pg_plan_make(hd_pg_plan *out, hd_pg *pg, const hd_pg_source *source);
void hd_pg_plan_free(hd_pg_plan *plan); /* NULL-safe */

/* The preset and what fills each field, on stderr in lines of at most 80 columns. */
void hd_pg_plan_print(const hd_pg_plan *plan, const char *name);

/* One text that is the same where two plans would read the same. Owned by the caller. */
hd_status hd_pg_plan_text(char **out, const hd_pg_plan *plan);

/* ---- parts: tables, and the presets' fields ---- */

typedef struct hd_pg_column {
	char *name, *type;
} hd_pg_column;

typedef struct hd_pg_table {
	char *schema; /* NULL where the table was not found */
	char *sql;    /* quoted, with its schema */
	hd_pg_column *columns;
	size_t count;
} hd_pg_table;

/* Empty where there is none. schema NULL: along the search_path, then `heimdall`. */
hd_status hd_pg_table_find(hd_pg_table *out, hd_pg *pg, const char *schema, const char *name);
void hd_pg_table_free(hd_pg_table *table);

/* The type of a column, NULL where the table has none of this name. */
const char *hd_pg_table_type(const hd_pg_table *table, const char *column);

/*
 * Adds a field. alias "m" and column name the SQL where sql is NULL. A field of this name that is there stays.
 */
hd_status hd_pg_plan_add(hd_pg_plan *plan, hd_pg *pg, const char *name, hd_pg_kind kind, const char *alias,
        const char *column, const char *sql);
bool hd_pg_plan_has(const hd_pg_plan *plan, hd_column column);

/* Fields of `m` by the manifest's names, and the others as they are, without those listed (ended by NULL). */
hd_status hd_pg_plan_by_name(hd_pg_plan *plan, hd_pg *pg, const hd_pg_table *table, const char *const *except);

/* Fields of the deployed system; *joins is the SQL that goes behind `m`. Owned by the caller. */
hd_status hd_pg_plan_deployed(hd_pg_plan *plan, char **joins, hd_pg *pg, const hd_pg_table *measurements);

#endif
