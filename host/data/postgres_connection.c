/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/postgres_connection.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/redact.h"
#include "host/common/stop.h"
#include "host/common/wait.h"

#define STATEMENT_LIMIT_S 45
#define SILENCE_MARGIN_S 10
#define RECONNECT_LIMIT_S 300.0
#define FIRST_PAUSE_S 0.5
#define LONGEST_PAUSE_S 15.0
#define POLL_MS 500
#define MOST_LOSSES 10

/* libpq's text in one line. */
static void one_line(char *out, size_t bytes, const char *text)
{
	size_t used = 0;
	for (; *text && used + 3 < bytes; text++) {
		if (*text != '\n')
			out[used++] = *text;
		else if (text[1])
			used += (size_t)snprintf(out + used, bytes - used, "; ");
	}
	while (used && out[used - 1] == ' ')
		used--;
	out[used] = 0;
}

static hd_status connection_error(hd_pg *pg, const char *what)
{
	char text[900];
	one_line(text, sizeof text, PQerrorMessage(pg->conn));
	pg->trouble = HD_PG_LOST;
	return hd_fail(HD_E_IO, "%s: %s%s%s", pg->name, what, text[0] ? ": " : "", text);
}

static hd_status stopped(hd_pg *pg)
{
	pg->trouble = HD_PG_STOPPED;
	return hd_fail(HD_E_INTERRUPTED, "%s: interrupted", pg->name);
}

/* ---- opening ---- */

static hd_status check_url(const hd_pg *pg)
{
	char *why = NULL;
	if (hd_password_is_unescaped(pg->url))
		return hd_fail(HD_E_USAGE,
		        "%s: the password in this URL holds one of / ? # @ [ ] or a blank, which are written %%2F %%3F "
		        "%%23 %%40 %%5B %%5D %%20; or leave it out: .pgpass and PGPASSWORD keep it",
		        pg->name);
	PQconninfoOption *options = PQconninfoParse(pg->url, &why);
	/* libpq's reason quotes what it could not read, which may be a password */
	hd_status st = options ? HD_OK
	                       : hd_fail(HD_E_USAGE, "%s: is no URL that PostgreSQL knows%s%s", pg->name,
	                                 why && !hd_has_password(pg->url) ? ": " : "",
	                                 why && !hd_has_password(pg->url) ? why : "");
	PQconninfoFree(options);
	PQfreemem(why);
	return st;
}

/* Defaults stand before the URL, which wins over them; variables win because these are left out then. */
static PGconn *connect_now(const char *url)
{
	static const char *const keepalive[][2] = {{"keepalives", "1"}, {"keepalives_idle", "15"},
	        {"keepalives_interval", "5"}, {"keepalives_count", "5"}, {"tcp_user_timeout", "45000"}};
	const char *names[16] = {0}, *values[16] = {0};
	int n = 0;
	for (size_t i = 0; i < sizeof keepalive / sizeof *keepalive; i++, n++) {
		names[n] = keepalive[i][0];
		values[n] = keepalive[i][1];
	}
	names[n] = "fallback_application_name";
	values[n++] = "heimdall";
	if (!getenv("PGCONNECT_TIMEOUT")) {
		names[n] = "connect_timeout";
		values[n++] = "20";
	}
	names[n] = "dbname";
	values[n++] = url;
	names[n] = "client_encoding";
	values[n] = "UTF8";
	return PQconnectdbParams(names, values, 1);
}

static hd_status prepare_session(hd_pg *pg)
{
	hd_status st;
	PGresult *limit = NULL;
	char sql[512];
	pg->silence_s = STATEMENT_LIMIT_S + SILENCE_MARGIN_S;
	snprintf(sql, sizeof sql,
	        "SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = hex; "
	        "SELECT set_config('statement_timeout', '%ds', false) WHERE current_setting('statement_timeout') = '0';"
	        "SET default_transaction_read_only = %s",
	        STATEMENT_LIMIT_S, pg->read_only ? "on" : "off");
	HD_TRY(hd_pg_run(pg, sql));
	HD_TRY(hd_pg_send(pg, "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'", 0, NULL));
	HD_TRY(hd_pg_take(&limit, pg));
	if (PQntuples(limit) == 1)
		pg->silence_s = strtod(PQgetvalue(limit, 0, 0), NULL) / 1000 + SILENCE_MARGIN_S;
done:
	PQclear(limit);
	return st;
}

static hd_status connect_once(hd_pg *pg)
{
	PQfinish(pg->conn);
	pg->conn = connect_now(pg->url);
	if (!pg->conn) {
		pg->trouble = HD_PG_WRONG;
		return hd_fail(HD_E_MEMORY, "%s: out of host memory", pg->name);
	}
	if (PQstatus(pg->conn) != CONNECTION_OK)
		return connection_error(pg, "cannot connect");
	return prepare_session(pg);
}

hd_status hd_pg_open(hd_pg *out, const char *url, bool read_only)
{
	hd_status st;
	*out = (hd_pg){.read_only = read_only};
	HD_TRY(hd_strdup(&out->url, url));
	HD_TRY(hd_redact(&out->name, url));
	HD_TRY(check_url(out));
	if (hd_has_password(url))
		hd_warn("the password in the URL of %s stands in the list of processes; .pgpass and PGPASSWORD keep it "
		        "out of there",
		        out->name);
	HD_TRY(connect_once(out));
done:
	if (st != HD_OK)
		hd_pg_close(out);
	return st;
}

void hd_pg_close(hd_pg *pg)
{
	if (!pg)
		return;
	PQfinish(pg->conn);
	free(pg->url);
	free(pg->name);
	*pg = (hd_pg){0};
}

hd_status hd_pg_reconnect(hd_pg *pg)
{
	double started = hd_now_s(), wait = FIRST_PAUSE_S;
	char why[1024];
	int losses = pg->losses + 1;
	snprintf(why, sizeof why, "%s", hd_error_text());
	if (losses > MOST_LOSSES)
		return hd_fail(HD_E_IO, "%s; lost %d times in a row without an answer between", why, MOST_LOSSES);
	hd_warn("%s; connecting again", why);
	for (;;) {
		if (!hd_wait(wait, hd_stop_requested))
			return stopped(pg);
		hd_status st = connect_once(pg);
		pg->losses = losses;
		if (st == HD_OK || pg->trouble == HD_PG_STOPPED)
			return st;
		if (hd_now_s() - started > RECONNECT_LIMIT_S) {
			snprintf(why, sizeof why, "%s", hd_error_text());
			return hd_fail(st, "%s; given up after %.0f s", why, hd_now_s() - started);
		}
		wait = fmin(2 * wait, LONGEST_PAUSE_S);
	}
}

/* ---- statements ---- */

/* By SQLSTATE (PostgreSQL, appendix A): what may work on another connection, or a moment later. */
static bool passes(const char *state)
{
	static const char *const states[] = {"08", "40001", "40P01", "53", "55P03", "57P01", "57P02", "57P03", "58030"};
	for (size_t i = 0; i < sizeof states / sizeof *states; i++)
		if (!strncmp(state, states[i], strlen(states[i])))
			return true;
	return false;
}

static hd_status statement_error(hd_pg *pg, const PGresult *result)
{
	char text[900];
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	one_line(text, sizeof text, PQresultErrorMessage(result));
	pg->trouble = HD_PG_WRONG;
	if (PQstatus(pg->conn) != CONNECTION_OK || !state || passes(state))
		pg->trouble = HD_PG_LOST;
	else if (!strcmp(state, "57014"))
		pg->trouble = HD_PG_SLOW;
	return hd_fail(pg->trouble == HD_PG_LOST ? HD_E_IO : HD_E_DATA, "%s: %s", pg->name, text);
}

hd_status hd_pg_send(hd_pg *pg, const char *sql, int count, const char *const *values)
{
	if (PQstatus(pg->conn) != CONNECTION_OK ||
	        !PQsendQueryParams(pg->conn, sql, count, NULL, values, NULL, NULL, 0))
		return connection_error(pg, "connection lost");
	return HD_OK;
}

static hd_status wait_for_result(hd_pg *pg)
{
	double heard = hd_now_s();
	while (PQisBusy(pg->conn)) {
		struct pollfd socket = {.fd = PQsocket(pg->conn), .events = POLLIN};
		int ready = poll(&socket, 1, POLL_MS);
		if (ready > 0) {
			if (!PQconsumeInput(pg->conn))
				return connection_error(pg, "connection lost");
			heard = hd_now_s();
		}
		if (hd_stop_requested())
			return stopped(pg);
		if (hd_now_s() - heard > pg->silence_s) {
			pg->trouble = HD_PG_LOST;
			return hd_fail(HD_E_IO, "%s: connection lost: no answer for %.0f s", pg->name, pg->silence_s);
		}
	}
	return HD_OK;
}

/* The last result counts, or the first that failed. */
hd_status hd_pg_take(PGresult **out, hd_pg *pg)
{
	hd_status st;
	PGresult *kept = NULL;
	*out = NULL;
	for (;;) {
		HD_TRY(wait_for_result(pg));
		PGresult *next = PQgetResult(pg->conn);
		if (!next)
			break;
		ExecStatusType status = PQresultStatus(next);
		if (status == PGRES_COPY_IN) { /* the rows are the caller's to send */
			PQclear(kept);
			*out = next;
			return HD_OK;
		}
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && st == HD_OK)
			st = statement_error(pg, next);
		PQclear(kept);
		kept = next;
		if (st != HD_OK) {
			while ((next = PQstatus(pg->conn) == CONNECTION_OK ? PQgetResult(pg->conn) : NULL))
				PQclear(next);
			goto done;
		}
	}
	if (!kept)
		st = connection_error(pg, "no answer");
done:
	if (st == HD_OK) {
		*out = kept;
		pg->losses = 0;
	} else {
		PQclear(kept);
	}
	return st;
}

hd_status hd_pg_ask(PGresult **out, hd_pg *pg, const char *sql, int count, const char *const *values)
{
	for (;;) {
		hd_status st = hd_pg_send(pg, sql, count, values);
		if (st == HD_OK)
			st = hd_pg_take(out, pg);
		if (st == HD_OK || pg->trouble != HD_PG_LOST)
			return st;
		st = hd_pg_reconnect(pg);
		if (st != HD_OK)
			return st;
	}
}

hd_status hd_pg_run(hd_pg *pg, const char *sql)
{
	PGresult *result = NULL;
	if (PQstatus(pg->conn) != CONNECTION_OK || !PQsendQuery(pg->conn, sql))
		return connection_error(pg, "connection lost");
	hd_status st = hd_pg_take(&result, pg);
	PQclear(result);
	return st;
}

hd_status hd_pg_quote_name(char **out, hd_pg *pg, const char *name)
{
	char *quoted = PQescapeIdentifier(pg->conn, name, strlen(name));
	hd_status st = quoted ? hd_strdup(out, quoted) : hd_fail(HD_E_DATA, "%s: no name: '%s'", pg->name, name);
	PQfreemem(quoted);
	return st;
}
