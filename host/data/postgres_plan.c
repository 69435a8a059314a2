/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of a preset, and the statements of a plan. */
#include "host/data/postgres_plan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"

#define BYTEA_TYPE 17 /* pg_type.oid */
#define WIDTH 80

bool hd_pg_plan_has(const hd_pg_plan *plan, hd_column column)
{
	for (size_t i = 0; i < plan->count; i++)
		if (plan->fields[i].column == (int)column)
			return true;
	return false;
}

hd_status hd_pg_plan_add(hd_pg_plan *plan, hd_pg *pg, const char *name, hd_pg_kind kind, const char *alias,
        const char *column, const char *sql)
{
	hd_status st;
	char *quoted = NULL;
	for (size_t i = 0; i < plan->count; i++)
		if (!strcmp(plan->fields[i].name, name))
			return HD_OK;
	HD_TRY(hd_grow(&plan->fields, &plan->capacity, plan->count + 1, sizeof *plan->fields));
	hd_pg_field *f = &plan->fields[plan->count++];
	int known = hd_column_find(name);
	*f = (hd_pg_field){.kind = kind,
	        .column = known >= 0 && !strcmp(hd_column_name((hd_column)known), name) ? known : -1,
	        .at = -1};
	HD_TRY(hd_strdup(&f->name, name));
	if (!strcmp(alias, "m"))
		HD_TRY(hd_strdup(&f->from, column));
	else
		HD_TRY(hd_sprintf(&f->from, "%s%s%s", alias, alias[0] ? "." : "", column));
	if (sql) {
		HD_TRY(hd_strdup(&f->sql, sql));
	} else if (kind != HD_PG_TEMPLATE && kind != HD_PG_TRUE) {
		HD_TRY(hd_pg_quote_name(&quoted, pg, column));
		HD_TRY(hd_sprintf(&f->sql, "%s.%s", alias, quoted));
	}
done:
	free(quoted);
	return st;
}

void hd_pg_plan_free(hd_pg_plan *plan)
{
	if (!plan)
		return;
	for (size_t i = 0; i < plan->count; i++) {
		free(plan->fields[i].name);
		free(plan->fields[i].from);
		free(plan->fields[i].sql);
	}
	for (int k = 0; k < HD_PG_KEYS; k++) {
		free(plan->keys[k]);
		free(plan->key_sql[k]);
	}
	char *texts[] = {plan->server, plan->relation, plan->first_page, plan->next_page, plan->upper,
	        plan->first_digest, plan->next_digest, plan->keyless};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		free(texts[i]);
	free(plan->fields);
	*plan = (hd_pg_plan){0};
}

/* ---- keys ---- */

static hd_status add_key(hd_pg_plan *plan, hd_pg *pg, const char *name)
{
	hd_status st;
	char *quoted = NULL;
	if (plan->key_count == HD_PG_KEYS)
		return hd_fail(HD_E_DATA, "%s: the primary key has more than %d columns; --query takes a SELECT",
		        pg->name, HD_PG_KEYS);
	int k = plan->key_count++;
	HD_TRY(hd_strdup(&plan->keys[k], name));
	HD_TRY(hd_pg_quote_name(&quoted, pg, name));
	HD_TRY(hd_sprintf(&plan->key_sql[k], "m.%s", quoted));
done:
	free(quoted);
	return st;
}

/* The primary key; a view has none, and is taken at its column `id`. */
static hd_status find_key(hd_pg_plan *plan, hd_pg *pg, const hd_pg_table *table)
{
	hd_status st;
	PGresult *rows = NULL;
	const char *const values[] = {table->sql};
	HD_TRY(hd_pg_ask(&rows, pg,
	        "SELECT a.attname FROM pg_index i "
	        "CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place) "
	        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
	        "WHERE i.indrelid = $1::text::regclass AND i.indisprimary ORDER BY k.place",
	        1, values));
	for (int i = 0; i < PQntuples(rows); i++)
		HD_TRY(add_key(plan, pg, PQgetvalue(rows, i, 0)));
	plan->key_is_unique = plan->key_count > 0;
	if (!plan->key_count && hd_pg_table_type(table, "id"))
		HD_TRY(add_key(plan, pg, "id"));
	if (!plan->key_count)
		st = hd_fail(HD_E_DATA,
		        "%s: %s has neither a primary key nor a column 'id', and rows are read in the order of one; "
		        "--query takes a SELECT with a unique column 'id'",
		        pg->name, table->sql);
done:
	PQclear(rows);
	return st;
}

/* ---- statements ---- */

/* Positions of fields and keys in the rows of a page; a key that is a field stands there once. */
static void number_columns(hd_pg_plan *plan)
{
	plan->columns = 0;
	for (size_t i = 0; i < plan->count; i++)
		if (plan->fields[i].sql)
			plan->fields[i].at = plan->columns++;
	for (int k = 0; k < plan->key_count; k++) {
		plan->key_at[k] = -1;
		for (size_t i = 0; i < plan->count && plan->key_at[k] < 0; i++)
			if (plan->fields[i].sql && !strcmp(plan->fields[i].sql, plan->key_sql[k]))
				plan->key_at[k] = plan->fields[i].at;
		if (plan->key_at[k] < 0)
			plan->key_at[k] = plan->columns++;
	}
}

static void put_keys(FILE *to, const hd_pg_plan *plan, const char *behind)
{
	for (int k = 0; k < plan->key_count; k++)
		fprintf(to, "%s%s%s", k ? ", " : "", plan->key_sql[k], behind);
}

static void put_parameters(FILE *to, const hd_pg_plan *plan, int first)
{
	for (int k = 0; k < plan->key_count; k++)
		fprintf(to, "%s$%d", k ? ", " : "", first + k);
}

/*
 * Rows above the last key and up to the upper one. A comparison of rows is what an index on the key answers; the
 * first column by itself lets partitions and chunks be left out.
 */
static void put_range(FILE *to, const hd_pg_plan *plan, int last)
{
	fputs(" WHERE (", to);
	put_keys(to, plan, "");
	fputs(") <= (", to);
	put_parameters(to, plan, 1);
	fputc(')', to);
	if (plan->key_count > 1)
		fprintf(to, " AND %s <= $1", plan->key_sql[0]);
	if (!last)
		return;
	fputs(" AND (", to);
	put_keys(to, plan, "");
	fputs(") > (", to);
	put_parameters(to, plan, last);
	fputc(')', to);
	if (plan->key_count > 1)
		fprintf(to, " AND %s >= $%d", plan->key_sql[0], last);
}

static void put_columns(FILE *to, const hd_pg_plan *plan)
{
	int fields = 0;
	for (size_t i = 0; i < plan->count; i++)
		if (plan->fields[i].sql)
			fprintf(to, "%s%s AS c%d", fields++ ? ", " : "", plan->fields[i].sql, plan->fields[i].at);
	for (int k = 0; k < plan->key_count; k++)
		if (plan->key_at[k] >= fields)
			fprintf(to, ", %s AS c%d", plan->key_sql[k], plan->key_at[k]);
}

/* first: the parameter of the last key, 0 for none. limit: that of the number of rows, 0 for none. */
static void put_page(FILE *to, const hd_pg_plan *plan, const char *relation, const char *joins, int last, int limit)
{
	fputs("(SELECT ", to);
	put_columns(to, plan);
	fprintf(to, " FROM (SELECT m.* FROM %s AS m", relation);
	put_range(to, plan, last);
	if (limit) {
		fputs(" ORDER BY ", to);
		put_keys(to, plan, "");
		fprintf(to, " LIMIT $%d", limit);
	}
	fprintf(to, ") AS m%s) AS q", joins);
}

typedef enum statement { FIRST_PAGE, NEXT_PAGE, UPPER, FIRST_DIGEST, NEXT_DIGEST, KEYLESS } statement;

static void put_statement(FILE *to, const hd_pg_plan *plan, const char *relation, const char *joins, statement which)
{
	int keys = plan->key_count;
	switch (which) {
	case FIRST_PAGE:
	case NEXT_PAGE:
		fprintf(to, "SELECT q.*, %s FROM ", plan->signature);
		put_page(to, plan, relation, joins, which == NEXT_PAGE ? keys + 2 : 0, keys + 1);
		for (int k = 0; k < keys; k++)
			fprintf(to, "%sq.c%d", k ? ", " : " ORDER BY ", plan->key_at[k]);
		break;
	case FIRST_DIGEST:
	case NEXT_DIGEST:
		fprintf(to, "SELECT count(*), coalesce(sum(%s), 0) FROM ", plan->signature);
		put_page(to, plan, relation, joins, which == NEXT_DIGEST ? keys + 1 : 0, 0);
		break;
	case UPPER:
		fputs("SELECT ", to);
		put_keys(to, plan, "");
		fprintf(to, " FROM %s AS m WHERE (", relation);
		put_keys(to, plan, "");
		fputs(") IS NOT NULL ORDER BY ", to);
		put_keys(to, plan, " DESC");
		fputs(" LIMIT 1", to);
		break;
	case KEYLESS:
		fprintf(to, "SELECT count(*) FROM %s AS m WHERE %s IS NULL", relation, plan->key_sql[0]);
		break;
	}
}

/*
 * hash_record (PostgreSQL 14) takes each column's own hash; a type without one, and an older server, hash the row's
 * text, which takes longer.
 */
static hd_status choose_signature(hd_pg_plan *plan, hd_pg *pg, const char *relation, const char *joins)
{
	hd_status st;
	char *sql = NULL, *columns = NULL;
	size_t bytes;
	PGresult *answer = NULL;
	FILE *to = open_memstream(&columns, &bytes);
	plan->signature = "hashtext(q::text)";
	if (to)
		put_columns(to, plan);
	if (!to || fclose(to) != 0)
		return hd_fail(HD_E_MEMORY, "out of host memory for the database's statements");
	HD_TRY(hd_sprintf(&sql,
	        "SELECT hash_record(q) FROM (SELECT %s FROM (SELECT * FROM %s AS m LIMIT 1) AS m%s) AS q", columns,
	        relation, joins));
	st = hd_pg_ask(&answer, pg, sql, 0, NULL);
	if (st == HD_OK)
		plan->signature = "hash_record(q)";
	else if (pg->trouble == HD_PG_WRONG)
		st = HD_OK; /* what else is wrong shows in the statements themselves */
done:
	PQclear(answer);
	free(sql);
	free(columns);
	return st;
}

static hd_status make_statements(hd_pg_plan *plan, hd_pg *pg, const char *relation, const char *joins)
{
	char **const all[] = {[FIRST_PAGE] = &plan->first_page,
	        [NEXT_PAGE] = &plan->next_page,
	        [UPPER] = &plan->upper,
	        [FIRST_DIGEST] = &plan->first_digest,
	        [NEXT_DIGEST] = &plan->next_digest,
	        [KEYLESS] = plan->key_is_unique ? NULL : &plan->keyless};
	number_columns(plan);
	hd_status st = choose_signature(plan, pg, relation, joins);
	if (st != HD_OK)
		return st;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		size_t bytes;
		FILE *to = all[i] ? open_memstream(all[i], &bytes) : NULL;
		if (!all[i])
			continue;
		if (to)
			put_statement(to, plan, relation, joins, (statement)i);
		if (!to || fclose(to) != 0)
			return hd_fail(HD_E_MEMORY, "out of host memory for the database's statements");
	}
	return HD_OK;
}

/* ---- presets ---- */

/* What no column fills is filled by flags, where they say so. */
static hd_status fill_by_flags(hd_pg_plan *plan, hd_pg *pg)
{
	static const hd_column needed[] = {HD_COLUMN_LATITUDE, HD_COLUMN_LONGITUDE, HD_COLUMN_SESSION};
	hd_status st = HD_OK;
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
		if (hd_pg_plan_has(plan, needed[i]) ||
		        (needed[i] == HD_COLUMN_SESSION && hd_pg_plan_has(plan, HD_COLUMN_ID)))
			continue;
		return hd_fail(HD_E_DATA, "%s: %s has no column '%s'; its columns are named as the manifest's",
		        pg->name, plan->relation, hd_column_name(needed[i]));
	}
	if (!hd_pg_plan_has(plan, HD_COLUMN_IQ)) {
		if (!plan->source.iq_template[0])
			return hd_fail(HD_E_DATA, "%s: %s has no column 'iq', and --iq_template is empty", pg->name,
			        plan->relation);
		HD_TRY(hd_pg_plan_add(plan, pg, "iq", HD_PG_TEMPLATE, "--iq_template", plan->source.iq_template, NULL));
	}
	if (!hd_pg_plan_has(plan, HD_COLUMN_APPROVED) && plan->source.assume_approved)
		HD_TRY(hd_pg_plan_add(plan, pg, "approved", HD_PG_TRUE, "", "--assume_approved", NULL));
done:
	return st;
}

/* Columns of a SELECT, without running it to its end. */
static hd_status describe_query(hd_pg_table *out, hd_pg *pg, const char *relation)
{
	hd_status st;
	char *sql = NULL;
	PGresult *rows = NULL;
	HD_TRY(hd_sprintf(&sql, "SELECT * FROM %s AS m LIMIT 0", relation));
	st = hd_pg_ask(&rows, pg, sql, 0, NULL);
	if (st != HD_OK) {
		hd_context(st, "--query");
		goto done;
	}
	HD_TRY(hd_alloc(&out->columns, (size_t)PQnfields(rows), sizeof *out->columns));
	for (int i = 0; i < PQnfields(rows); i++) {
		hd_pg_column *c = &out->columns[out->count++];
		HD_TRY(hd_strdup(&c->name, PQfname(rows, i)));
		HD_TRY(hd_strdup(&c->type, PQftype(rows, i) == BYTEA_TYPE ? "bytea" : ""));
	}
done:
	PQclear(rows);
	free(sql);
	return st;
}

static hd_status plan_query(hd_pg_plan *plan, hd_pg *pg)
{
	hd_status st;
	char *relation = NULL;
	hd_pg_table table = {0};
	size_t length = strlen(plan->source.query);
	while (length &&
	        (isspace((unsigned char)plan->source.query[length - 1]) || plan->source.query[length - 1] == ';'))
		length--;
	plan->preset = "query";
	HD_TRY(hd_strdup(&plan->relation, "the query"));
	/* the line's end closes a comment behind it */
	HD_TRY(hd_sprintf(&relation, "(%.*s\n)", (int)length, plan->source.query));
	HD_TRY(describe_query(&table, pg, relation));
	if (!hd_pg_table_type(&table, "id")) {
		st = hd_fail(HD_E_DATA,
		        "%s: --query: no column 'id'; rows are read in the order of that one, so it must be unique and "
		        "never NULL",
		        pg->name);
		goto done;
	}
	HD_TRY(add_key(plan, pg, "id"));
	HD_TRY(hd_pg_plan_by_name(plan, pg, &table, NULL));
	HD_TRY(fill_by_flags(plan, pg));
	HD_TRY(make_statements(plan, pg, relation, ""));
done:
	hd_pg_table_free(&table);
	free(relation);
	return st;
}

static hd_status plan_tables(hd_pg_plan *plan, hd_pg *pg, bool deployed, const hd_pg_table *table)
{
	static const char *const bookkeeping[] = {"created_at", NULL};
	hd_status st;
	char *joins = NULL;
	plan->preset = deployed ? "deployed" : "seed";
	HD_TRY(hd_strdup(&plan->relation, table->sql));
	HD_TRY(find_key(plan, pg, table));
	if (deployed)
		HD_TRY(hd_pg_plan_deployed(plan, &joins, pg, table));
	else
		HD_TRY(hd_pg_plan_by_name(plan, pg, table, bookkeeping));
	HD_TRY(fill_by_flags(plan, pg));
	HD_TRY(make_statements(plan, pg, table->sql, joins ? joins : ""));
done:
	free(joins);
	return st;
}

hd_status hd_pg_plan_make(hd_pg_plan *out, hd_pg *pg, const hd_pg_source *source)
{
	hd_status st;
	hd_pg_table table = {0};
	bool query = !strcmp(source->schema, "query") || (!strcmp(source->schema, "auto") && source->query[0]);
	const char *host = PQhost(pg->conn), *port = PQport(pg->conn);
	*out = (hd_pg_plan){.source = *source};
	st = hd_sprintf(
	        &out->server, "%s:%s/%s %s", host ? host : "", port ? port : "", PQdb(pg->conn), PQuser(pg->conn));
	if (st != HD_OK)
		return st;
	if (query && !source->query[0])
		return hd_fail(HD_E_USAGE, "--schema query: give the SELECT with --query, or query in the config");
	if (query)
		return plan_query(out, pg);
	if (source->query[0])
		return hd_fail(HD_E_USAGE, "--query goes with --schema query, not with %s", source->schema);
	HD_TRY(hd_pg_table_find(&table, pg, NULL, "measurements"));
	if (!table.schema) {
		st = hd_fail(HD_E_DATA,
		        "%s: neither the search_path nor schema heimdall has a table 'measurements'; --query takes a "
		        "SELECT for other tables",
		        pg->name);
		goto done;
	}
	bool placed = hd_pg_table_type(&table, "latitude") && hd_pg_table_type(&table, "longitude");
	bool deployed = !strcmp(source->schema, "auto") ? !placed : !strcmp(source->schema, "deployed");
	if (deployed && placed) { /* a seed's table in front of the one that was asked for */
		hd_pg_table_free(&table);
		HD_TRY(hd_pg_table_find(&table, pg, "heimdall", "measurements"));
		if (!table.schema) {
			st = hd_fail(HD_E_DATA, "%s: --schema deployed: no table heimdall.measurements", pg->name);
			goto done;
		}
	}
	HD_TRY(plan_tables(out, pg, deployed, &table));
done:
	hd_pg_table_free(&table);
	return st;
}

/* ---- texts ---- */

/* One word of a list, on a new line where it would pass the width. */
static void put_word(FILE *to, int *column, const char *word)
{
	int length = (int)strlen(word);
	if (*column + 1 + length > WIDTH && *column > 2) {
		fputs("\n ", to);
		*column = 1;
	}
	*column += fprintf(to, " %s", word);
}

void hd_pg_plan_print(const hd_pg_plan *plan, const char *name)
{
	char *text = NULL, word[512], missing[128] = "";
	size_t bytes;
	int column = 0;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return;
	fprintf(to, "%s: schema %s, %s by key (", name, plan->preset, plan->relation);
	for (int k = 0; k < plan->key_count; k++)
		fprintf(to, "%s%s", k ? ", " : "", plan->keys[k]);
	fputs(")\n ", to);
	column = 1;
	for (size_t i = 0; i < plan->count; i++) {
		const hd_pg_field *f = &plan->fields[i];
		snprintf(word, sizeof word, "%s=%s", f->name, f->from);
		put_word(to, &column, word);
	}
	if (!hd_pg_plan_has(plan, HD_COLUMN_SAMPLE_RATE))
		put_word(to, &column, "sample_rate=--sample_rate");
	if (!hd_pg_plan_has(plan, HD_COLUMN_APPROVED))
		snprintf(missing, sizeof missing,
		        "\n  nothing says what is approved: --assume_approved takes every recording");
	fputs(missing, to);
	if (fclose(to) == 0)
		hd_message("%s", text);
	free(text);
}

hd_status hd_pg_plan_text(char **out, const hd_pg_plan *plan)
{
	size_t bytes;
	*out = NULL;
	FILE *to = open_memstream(out, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for the database's statements");
	fprintf(to, "%s\n%s\n%s\n%s\n", plan->server, plan->next_page, plan->source.iq_template,
	        plan->source.iq_bucket);
	for (size_t i = 0; i < plan->count; i++)
		fprintf(to, "%s %d %d\n", plan->fields[i].name, (int)plan->fields[i].kind, plan->fields[i].at);
	return fclose(to) == 0 ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the database's statements");
}
