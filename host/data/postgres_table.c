/* SPDX-License-Identifier: Apache-2.0 */
/* Tables as the database's own catalogue knows them, and fields by the names of their columns. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/memory.h"
#include "host/data/postgres_plan.h"

/* Names that columns have besides the manifest's own and its aliases; the first that is there counts. */
static const struct {
	const char *column, *name;
	hd_pg_kind kind;
} other_names[] = {{"task_id", "session", HD_PG_TEXT}, {"iq_data_location", "iq", HD_PG_LOCATION},
        {"s3_path", "iq", HD_PG_LOCATION}, {"frequency_hz", "frequency_mhz", HD_PG_HERTZ}};

static hd_status take_columns(hd_pg_table *t, hd_pg *pg, const PGresult *rows, const char *name)
{
	hd_status st;
	char *schema = NULL, *table = NULL;
	HD_TRY(hd_alloc(&t->columns, (size_t)PQntuples(rows), sizeof *t->columns));
	HD_TRY(hd_strdup(&t->schema, PQgetvalue(rows, 0, 0)));
	HD_TRY(hd_pg_quote_name(&schema, pg, t->schema));
	HD_TRY(hd_pg_quote_name(&table, pg, name));
	HD_TRY(hd_sprintf(&t->sql, "%s.%s", schema, table));
	/* a table of this name in a later schema is another one */
	for (int i = 0; i < PQntuples(rows) && !strcmp(PQgetvalue(rows, i, 0), t->schema); i++) {
		hd_pg_column *c = &t->columns[t->count++];
		HD_TRY(hd_strdup(&c->name, PQgetvalue(rows, i, 1)));
		HD_TRY(hd_strdup(&c->type, PQgetvalue(rows, i, 2)));
	}
done:
	free(table);
	free(schema);
	return st;
}

hd_status hd_pg_table_find(hd_pg_table *out, hd_pg *pg, const char *schema, const char *name)
{
	hd_status st;
	PGresult *rows = NULL;
	const char *const values[] = {name, schema};
	*out = (hd_pg_table){0};
	HD_TRY(hd_pg_ask(&rows, pg,
	        "SELECT n.nspname, a.attname, format_type(a.atttypid, NULL) FROM pg_class c "
	        "JOIN pg_namespace n ON n.oid = c.relnamespace "
	        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
	        "WHERE c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND CASE WHEN $2::text IS NULL "
	        "THEN n.nspname = ANY (current_schemas(false)) OR n.nspname = 'heimdall' ELSE n.nspname = $2 END "
	        "ORDER BY coalesce(array_position(current_schemas(false), n.nspname), 2147483647), n.nspname, a.attnum",
	        2, values));
	if (PQntuples(rows))
		HD_TRY(take_columns(out, pg, rows, name));
done:
	PQclear(rows);
	return st;
}

void hd_pg_table_free(hd_pg_table *table)
{
	for (size_t i = 0; i < table->count; i++) {
		free(table->columns[i].name);
		free(table->columns[i].type);
	}
	free(table->columns);
	free(table->schema);
	free(table->sql);
	*table = (hd_pg_table){0};
}

const char *hd_pg_table_type(const hd_pg_table *table, const char *column)
{
	for (size_t i = 0; i < table->count; i++)
		if (!strcmp(table->columns[i].name, column))
			return table->columns[i].type;
	return NULL;
}

static bool listed(const char *name, const char *const *list)
{
	for (; list && *list; list++)
		if (!strcmp(name, *list))
			return true;
	return false;
}

static hd_pg_kind kind_of(int column)
{
	if (column == HD_COLUMN_IQ)
		return HD_PG_LOCATION;
	return column >= 0 && hd_column_is_number((hd_column)column) ? HD_PG_NUMBER : HD_PG_TEXT;
}

static hd_status add_known(hd_pg_plan *plan, hd_pg *pg, const hd_pg_table *table, bool aliases)
{
	for (size_t i = 0; i < table->count; i++) {
		const char *name = table->columns[i].name;
		int k = hd_column_find(name);
		if (k < 0 || (strcasecmp(name, hd_column_name((hd_column)k)) != 0) != aliases)
			continue;
		hd_status st = hd_pg_plan_add(plan, pg, hd_column_name((hd_column)k), kind_of(k), "m", name, NULL);
		if (st != HD_OK)
			return st;
	}
	return HD_OK;
}

static bool taken(const hd_pg_plan *plan, const char *column)
{
	for (size_t i = 0; i < plan->count; i++)
		if (!strcmp(plan->fields[i].from, column) || !strcasecmp(plan->fields[i].name, column))
			return true;
	return false;
}

hd_status hd_pg_plan_by_name(hd_pg_plan *plan, hd_pg *pg, const hd_pg_table *table, const char *const *except)
{
	hd_status st;
	/* where rows were numbered anew, the old name of the recording stands beside the number */
	if (hd_pg_table_type(table, "recording_id"))
		HD_TRY(hd_pg_plan_add(plan, pg, "id", HD_PG_TEXT, "m", "recording_id", NULL));
	HD_TRY(add_known(plan, pg, table, false));
	HD_TRY(add_known(plan, pg, table, true));
	for (size_t i = 0; i < sizeof other_names / sizeof *other_names; i++)
		if (hd_pg_table_type(table, other_names[i].column) && !listed(other_names[i].column, except))
			HD_TRY(hd_pg_plan_add(
			        plan, pg, other_names[i].name, other_names[i].kind, "m", other_names[i].column, NULL));
	for (size_t i = 0; i < table->count; i++) {
		const hd_pg_column *c = &table->columns[i];
		if (!taken(plan, c->name) && !listed(c->name, except) && strcmp(c->type, "bytea") != 0)
			HD_TRY(hd_pg_plan_add(plan, pg, c->name, HD_PG_TEXT, "m", c->name, NULL));
	}
done:
	return st;
}
