/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to PostgreSQL that notices within a minute when it is lost, and comes back. One thread at a time.
 *
 * Whatever libpq knows names the server: the URL, a service file, PG* variables, .pgpass. Sessions speak UTF-8, ISO
 * dates in UTC and floats that read back exactly; a statement ends after 45 s unless the user set another
 * statement_timeout. Silence of 55 s (10 s more than the statement's limit) counts as a lost connection. Passwords
 * stand in no text that is made here.
 */
#ifndef HD_DATA_POSTGRES_CONNECTION_H
#define HD_DATA_POSTGRES_CONNECTION_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "heimdall/status.h"

#define HD_PG_PARAMETERS 16 /* of one statement, at most */

typedef enum hd_pg_trouble {
	HD_PG_WRONG, /* the statement or the server's state: again it would fail again */
	HD_PG_LOST,  /* the connection, or what the server could not do just then */
	HD_PG_SLOW,  /* the statement ran into its time limit */
	HD_PG_STOPPED
} hd_pg_trouble;

typedef struct hd_pg {
	PGconn *conn;
	char *url;
	char *name; /* the URL without its password, for messages */
	bool read_only;
	double silence_s; /* after which the connection counts as lost */
	int losses;       /* in a row, without an answer between */
	hd_pg_trouble trouble;
} hd_pg;

/*
 * Connects. HD_E_USAGE for a URL that is none; HD_E_IO where the server cannot be reached or refuses, with the
 * reason. read_only: the session changes nothing.
 */
hd_status hd_pg_open(hd_pg *out, const char *url, bool read_only);
void hd_pg_close(hd_pg *pg); /* NULL-safe */

/*
 * Sends a statement with its parameters as text ($1, ...; NULL is NULL) and takes what comes back, which the caller
 * clears. On failure pg->trouble says of which kind, and out is NULL.
 */
hd_status hd_pg_send(hd_pg *pg, const char *sql, int count, const char *const *values);
hd_status hd_pg_take(PGresult **out, hd_pg *pg);

/* Both, again after a lost connection: for statements that may run twice. */
hd_status hd_pg_ask(PGresult **out, hd_pg *pg, const char *sql, int count, const char *const *values);

/* Statements without parameters or rows, separated by ';'. */
hd_status hd_pg_run(hd_pg *pg, const char *sql);

/*
 * Connects again after HD_PG_LOST, with pauses of 0.5 s doubling to 15 s, for five minutes at most; HD_E_IO then.
 * HD_E_INTERRUPTED where the program is to stop.
 */
hd_status hd_pg_reconnect(hd_pg *pg);

/* "name" for a statement, quotes inside doubled. Owned by the caller. */
hd_status hd_pg_quote_name(char **out, hd_pg *pg, const char *name);

#endif
