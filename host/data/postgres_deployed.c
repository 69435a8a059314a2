/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deployed system's tables. A measurement knows its session by recording_session_id, by the task that made it, or
 * by having been stored while the session ran; the session knows its source, which has the position.
 */
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/data/postgres_plan.h"

/* Names of the columns that say nothing by themselves once the tables are joined. */
static const char *const links[] = {
        "recording_session_id", "websdr_station_id", "created_at", "task_id", "iq_data_location", "s3_path", NULL};

typedef struct tables {
	const hd_pg_table *m;
	hd_pg_table sessions, sources, stations;
} tables;

static hd_status find_tables(tables *t, hd_pg *pg)
{
	hd_status st;
	HD_TRY(hd_pg_table_find(&t->sessions, pg, t->m->schema, "recording_sessions"));
	HD_TRY(hd_pg_table_find(&t->sources, pg, t->m->schema, "known_sources"));
	HD_TRY(hd_pg_table_find(&t->stations, pg, t->m->schema, "websdr_stations"));
	static const char *const needed[] = {"latitude", "longitude"};
	for (size_t i = 0; i < 2; i++) {
		if (!hd_pg_table_type(&t->sources, needed[i])) {
			st = hd_fail(HD_E_DATA,
			        "%s: %s.measurements has no positions, and %s.known_sources with column '%s' is not "
			        "there; "
			        "--query takes a SELECT for other tables",
			        pg->name, t->m->schema, t->m->schema, needed[i]);
			goto done;
		}
	}
	if (!hd_pg_table_type(&t->sessions, "known_source_id"))
		st = hd_fail(HD_E_DATA,
		        "%s: %s.recording_sessions with column 'known_source_id' is not there; --query takes a SELECT "
		        "for other tables",
		        pg->name, t->m->schema);
done:
	return st;
}

/* How a session is found for a measurement. */
static hd_status session_condition(char **out, hd_pg *pg, const tables *t)
{
	const char *task = hd_pg_table_type(t->m, "task_id");
	const char *made_by = hd_pg_table_type(&t->sessions, "celery_task_id");
	if (hd_pg_table_type(t->m, "recording_session_id"))
		return hd_strdup(out, "x.id = m.recording_session_id LIMIT 1");
	if (task && made_by)
		return hd_strdup(out, strcmp(task, made_by) == 0 ? "x.celery_task_id = m.task_id LIMIT 1"
		                                                 : "x.celery_task_id::text = m.task_id::text LIMIT 1");
	if (hd_pg_table_type(t->m, "created_at") && hd_pg_table_type(&t->sessions, "session_start") &&
	        hd_pg_table_type(&t->sessions, "session_end"))
		return hd_strdup(out, "x.session_start <= m.created_at AND (x.session_end IS NULL OR m.created_at <= "
		                      "x.session_end) ORDER BY x.session_start DESC, x.id LIMIT 1");
	return hd_fail(HD_E_DATA,
	        "%s: nothing says which session a row of %s.measurements belongs to: neither recording_session_id nor "
	        "task_id with recording_sessions.celery_task_id nor created_at; --query takes a SELECT for other "
	        "tables",
	        pg->name, t->m->schema);
}

/* Whether stations can be told apart by their names. */
static hd_status names_differ(bool *out, hd_pg *pg, const hd_pg_table *stations)
{
	hd_status st;
	PGresult *answer = NULL;
	char *sql = NULL;
	*out = false;
	if (!hd_pg_table_type(stations, "name"))
		return HD_OK;
	HD_TRY(hd_sprintf(&sql, "SELECT count(*) = count(DISTINCT name) AND count(*) > 0 FROM %s", stations->sql));
	HD_TRY(hd_pg_ask(&answer, pg, sql, 0, NULL));
	*out = PQgetvalue(answer, 0, 0)[0] == 't';
done:
	PQclear(answer);
	free(sql);
	return st;
}

static hd_status add_receiver(hd_pg_plan *plan, hd_pg *pg, const tables *t)
{
	bool named = false;
	if (!hd_pg_table_type(t->m, "websdr_station_id"))
		return hd_pg_table_type(t->m, "websdr_id")
		               ? hd_pg_plan_add(plan, pg, "receiver", HD_PG_TEXT, "m", "websdr_id", NULL)
		               : HD_OK;
	hd_status st = t->stations.schema ? names_differ(&named, pg, &t->stations) : HD_OK;
	if (st != HD_OK)
		return st;
	return named ? hd_pg_plan_add(plan, pg, "receiver", HD_PG_TEXT, "websdr_stations", "name",
	                       "coalesce(w.name::text, m.websdr_station_id::text)")
	             : hd_pg_plan_add(plan, pg, "receiver", HD_PG_TEXT, "m", "websdr_station_id", NULL);
}

static hd_status add_fields(hd_pg_plan *plan, hd_pg *pg, const tables *t)
{
	static const struct {
		const char *name, *column;
		hd_pg_kind kind;
	} own[] = {{"id", "id", HD_PG_TEXT}, {"iq", "iq_data_location", HD_PG_LOCATION},
	        {"iq", "s3_path", HD_PG_LOCATION}, {"sample_rate", "iq_sample_rate", HD_PG_NUMBER},
	        {"frequency_mhz", "frequency_hz", HD_PG_HERTZ}};
	hd_status st;
	HD_TRY(hd_pg_table_type(t->m, "task_id")
	                ? hd_pg_plan_add(plan, pg, "session", HD_PG_TEXT, "m", "task_id", NULL)
	                : hd_pg_plan_add(plan, pg, "session", HD_PG_TEXT, "recording_sessions", "id", "s.id"));
	HD_TRY(add_receiver(plan, pg, t));
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if (hd_pg_table_type(t->m, own[i].column))
			HD_TRY(hd_pg_plan_add(plan, pg, own[i].name, own[i].kind, "m", own[i].column, NULL));
	HD_TRY(hd_pg_plan_add(plan, pg, "latitude", HD_PG_NUMBER, "known_sources", "latitude", "k.latitude"));
	HD_TRY(hd_pg_plan_add(plan, pg, "longitude", HD_PG_NUMBER, "known_sources", "longitude", "k.longitude"));
	if (hd_pg_table_type(&t->sources, "error_margin_meters"))
		HD_TRY(hd_pg_plan_add(plan, pg, "label_sigma_m", HD_PG_NUMBER, "known_sources", "error_margin_meters",
		        "k.error_margin_meters"));
	HD_TRY(hd_pg_table_type(&t->sources, "name")
	                ? hd_pg_plan_add(plan, pg, "source", HD_PG_TEXT, "known_sources", "name",
	                          "coalesce(nullif(k.name, ''), k.id::text)")
	                : hd_pg_plan_add(plan, pg, "source", HD_PG_TEXT, "known_sources", "id", "k.id"));
	if (hd_pg_table_type(&t->sessions, "approval_status"))
		HD_TRY(hd_pg_plan_add(plan, pg, "approved", HD_PG_TEXT, "recording_sessions", "approval_status",
		        "(s.approval_status::text = 'approved')"));
	HD_TRY(hd_pg_plan_by_name(plan, pg, t->m, links));
done:
	return st;
}

/* One row each at most, so that no measurement is counted twice. */
static hd_status make_joins(char **out, hd_pg *pg, const tables *t, bool stations)
{
	hd_status st;
	char *condition = NULL, *with_station = NULL;
	HD_TRY(session_condition(&condition, pg, t));
	if (stations)
		HD_TRY(hd_sprintf(&with_station,
		        " LEFT JOIN LATERAL (SELECT x.name FROM %s x WHERE x.id = m.websdr_station_id LIMIT 1) w ON "
		        "true",
		        t->stations.sql));
	st = hd_sprintf(out,
	        " LEFT JOIN LATERAL (SELECT x.* FROM %s x WHERE %s) s ON true"
	        " LEFT JOIN LATERAL (SELECT x.* FROM %s x WHERE x.id = s.known_source_id LIMIT 1) k ON true%s",
	        t->sessions.sql, condition, t->sources.sql, with_station ? with_station : "");
done:
	free(with_station);
	free(condition);
	return st;
}

hd_status hd_pg_plan_deployed(hd_pg_plan *plan, char **joins, hd_pg *pg, const hd_pg_table *measurements)
{
	hd_status st;
	tables t = {.m = measurements};
	bool stations = false;
	HD_TRY(find_tables(&t, pg));
	HD_TRY(add_fields(plan, pg, &t));
	for (size_t i = 0; i < plan->count; i++)
		stations = stations || (plan->fields[i].sql && strstr(plan->fields[i].sql, "w.name"));
	HD_TRY(make_joins(joins, pg, &t, stations));
done:
	hd_pg_table_free(&t.stations);
	hd_pg_table_free(&t.sources);
	hd_pg_table_free(&t.sessions);
	return st;
}
