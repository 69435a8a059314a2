/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/postgres_copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"

#define FLUSH_BYTES (256 * 1024)

typedef struct sink {
	hd_pg *pg;
	char *text;
	size_t used, capacity;
} sink;

static hd_status put(sink *s, const char *data, size_t bytes)
{
	hd_status st = hd_grow(&s->text, &s->capacity, s->used + bytes, 1);
	if (st != HD_OK)
		return st;
	memcpy(s->text + s->used, data, bytes);
	s->used += bytes;
	return HD_OK;
}

/* One field of COPY's text format, in which a backslash is before what would end a field or a row. */
static hd_status put_field(sink *s, const char *text)
{
	hd_status st = HD_OK;
	if (!text)
		return put(s, "\\N", 2);
	while (st == HD_OK && *text) {
		size_t plain = strcspn(text, "\\\t\n\r");
		st = put(s, text, plain);
		text += plain;
		if (st == HD_OK && *text) {
			const char escaped[2] = {'\\', *text == '\t'   ? 't'
			                               : *text == '\n' ? 'n'
			                               : *text == '\r' ? 'r'
			                                               : '\\'};
			st = put(s, escaped, sizeof escaped);
			text++;
		}
	}
	return st;
}

static hd_status flush(sink *s)
{
	if (s->used && PQputCopyData(s->pg->conn, s->text, (int)s->used) != 1)
		return hd_fail(HD_E_IO, "%s: %s", s->pg->name, PQerrorMessage(s->pg->conn));
	s->used = 0;
	return HD_OK;
}

static hd_status put_rows(
        sink *s, const hd_pg_out_column *columns, size_t count, size_t rows, hd_pg_cell cell, void *context)
{
	hd_status st = HD_OK;
	char number[HD_NUMBER_BYTES];
	for (size_t i = 0; i < rows; i++) {
		for (size_t c = 0; c < count; c++) {
			const char *text = cell(context, i, &columns[c], number, &st);
			if (st != HD_OK)
				goto done;
			HD_TRY(put_field(s, text));
			HD_TRY(put(s, c + 1 < count ? "\t" : "\n", 1));
		}
		if (s->used > FLUSH_BYTES)
			HD_TRY(flush(s));
	}
	HD_TRY(flush(s));
done:
	return st;
}

static hd_status copy_rows(hd_pg *pg, const char *table, const hd_pg_out_column *columns, size_t count, size_t rows,
        hd_pg_cell cell, void *context)
{
	hd_status st;
	char *sql = NULL;
	PGresult *answer = NULL;
	sink s = {.pg = pg};
	HD_TRY(hd_sprintf(&sql, "COPY %s FROM STDIN", table));
	HD_TRY(hd_pg_send(pg, sql, 0, NULL));
	HD_TRY(hd_pg_take(&answer, pg));
	st = put_rows(&s, columns, count, rows, cell, context);
	if (PQputCopyEnd(pg->conn, st == HD_OK ? NULL : "the rows could not be made") != 1 && st == HD_OK)
		st = hd_fail(HD_E_IO, "%s: %s", pg->name, PQerrorMessage(pg->conn));
	if (st == HD_OK) {
		PQclear(answer);
		answer = NULL;
		HD_TRY(hd_pg_take(&answer, pg));
	}
done:
	free(s.text);
	PQclear(answer);
	free(sql);
	return st;
}

static hd_status create_table(
        hd_pg *pg, const char *table, const hd_pg_out_column *columns, size_t count, const char *constraint)
{
	hd_status st = HD_OK;
	char *sql = NULL, *quoted = NULL;
	size_t bytes;
	FILE *to = open_memstream(&sql, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for a table of the database");
	fprintf(to, "CREATE TABLE %s (", table);
	for (size_t c = 0; st == HD_OK && c < count; c++) {
		st = hd_pg_quote_name(&quoted, pg, columns[c].name);
		fprintf(to, "%s%s %s", c ? ", " : "", quoted ? quoted : "", columns[c].type);
		free(quoted);
		quoted = NULL;
	}
	fprintf(to, "%s%s)", constraint ? ", " : "", constraint ? constraint : "");
	if (fclose(to) != 0 && st == HD_OK)
		st = hd_fail(HD_E_MEMORY, "out of host memory for a table of the database");
	if (st == HD_OK)
		st = hd_pg_run(pg, sql);
	if (st != HD_OK && strstr(hd_error_text(), "already exists"))
		st = hd_fail(
		        HD_E_USAGE, "%s: has a table %s already; name another database or schema", pg->name, table);
	free(sql);
	return st;
}

hd_status hd_pg_write_table(hd_pg *pg, const char *table, const hd_pg_out_column *columns, size_t count,
        const char *constraint, size_t rows, hd_pg_cell cell, void *context)
{
	hd_status st = create_table(pg, table, columns, count, constraint);
	return st == HD_OK ? copy_rows(pg, table, columns, count, rows, cell, context) : st;
}
