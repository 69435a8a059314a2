/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catalogues in SQLite: table `recordings` with the manifest's columns, or where that is missing a table or view
 * `measurements`, whose session_id and websdr_id are aliases. Opened read-only.
 */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/data/catalog_rows.h"

#define PLACE_BYTES 4200
#define MAGIC "SQLite format 3"
#define WRITE_VERSION_AT 18 /* of the file header: 2 where a write-ahead log is used */
#define BUSY_MS 5000

static hd_status sql_error(sqlite3 *db, const char *path, const char *what)
{
	return hd_fail(HD_E_DATA, "%s: %s: %s", path, what, db ? sqlite3_errmsg(db) : "out of memory");
}

/* ---- reading ---- */

/* Whether it is a database at all, and one in write-ahead mode that nobody has open. */
static hd_status look_at_header(bool *idle_wal, const char *path)
{
	unsigned char head[WRITE_VERSION_AT + 2] = {0};
	char log[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return hd_fail(HD_E_IO, "%s: cannot open: %s", path, strerror(errno));
	ssize_t got = read(fd, head, sizeof head);
	close(fd);
	if (got != (ssize_t)sizeof head || memcmp(head, MAGIC, sizeof MAGIC) != 0)
		return hd_fail(HD_E_DATA,
		        "%s: is no SQLite database; a catalogue is a folder with " HD_MANIFEST " or a .sqlite file",
		        path);
	snprintf(log, sizeof log, "%s-wal", path);
	*idle_wal = head[WRITE_VERSION_AT + 1] == 2 && access(log, F_OK) != 0;
	return HD_OK;
}

/* file:PATH?... with everything but letters, digits, '/', '.', '-' and '_' escaped. */
static hd_status database_uri(char **out, const char *path, bool immutable)
{
	hd_status st;
	char *full = realpath(path, NULL), *escaped = NULL;
	if (!full) {
		*out = NULL;
		return hd_fail(HD_E_IO, "%s: cannot open: %s", path, strerror(errno));
	}
	HD_TRY(hd_alloc(&escaped, 3 * strlen(full) + 1, 1));
	char *to = escaped;
	for (const char *at = full; *at; at++) {
		if (strchr("/.-_", *at) || (*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z') ||
		        (*at >= 'a' && *at <= 'z'))
			*to++ = *at;
		else
			to += sprintf(to, "%%%02X", (unsigned)(unsigned char)*at);
	}
	st = hd_sprintf(out, "file:%s?mode=ro%s", escaped, immutable ? "&immutable=1" : "");
done:
	free(escaped);
	free(full);
	return st;
}

/*
 * A database in write-ahead mode would leave a log and an index beside it even when it is only read; while no log
 * is there nobody writes, and it can be taken as a file that does not change.
 */
static hd_status open_to_read(sqlite3 **out, const char *path)
{
	hd_status st;
	char *uri = NULL;
	bool idle_wal = false;
	HD_TRY(look_at_header(&idle_wal, path));
	HD_TRY(database_uri(&uri, path, idle_wal));
	if (sqlite3_open_v2(uri, out, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) != SQLITE_OK) {
		st = sql_error(*out, path, "cannot open");
		goto done;
	}
	sqlite3_busy_timeout(*out, BUSY_MS);
done:
	free(uri);
	return st;
}

static hd_status find_table(const char **out, sqlite3 *db, const char *path)
{
	static const char *const tables[] = {"recordings", "measurements"};
	hd_status st = HD_OK;
	sqlite3_stmt *find = NULL;
	*out = NULL;
	if (sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_master WHERE type IN ('table','view') AND lower(name) = ?1",
	            -1, &find, NULL) != SQLITE_OK)
		return sql_error(db, path, "cannot be read");
	for (size_t i = 0; st == HD_OK && !*out && i < sizeof tables / sizeof *tables; i++) {
		sqlite3_bind_text(find, 1, tables[i], -1, SQLITE_STATIC);
		int rc = sqlite3_step(find);
		if (rc == SQLITE_ROW)
			*out = tables[i];
		else if (rc != SQLITE_DONE)
			st = sql_error(db, path, "cannot be read");
		sqlite3_reset(find);
	}
	sqlite3_finalize(find);
	if (st == HD_OK && !*out)
		st = hd_fail(HD_E_DATA, "%s: has neither a table 'recordings' nor 'measurements'", path);
	return st;
}

/* In the order of insertion; views and tables without a rowid in the order they give. */
static hd_status select_rows(sqlite3_stmt **out, sqlite3 *db, const char *path, const char *table)
{
	char sql[128];
	snprintf(sql, sizeof sql, "SELECT * FROM main.%s ORDER BY rowid", table);
	if (sqlite3_prepare_v2(db, sql, -1, out, NULL) == SQLITE_OK)
		return HD_OK;
	snprintf(sql, sizeof sql, "SELECT * FROM main.%s", table);
	if (sqlite3_prepare_v2(db, sql, -1, out, NULL) == SQLITE_OK)
		return HD_OK;
	snprintf(sql, sizeof sql, "table '%s'", table);
	return sql_error(db, path, sql);
}

typedef struct fields {
	const char **texts; /* (count) */
	char (*numbers)[HD_NUMBER_BYTES];
	size_t count;
} fields;

/* SQLite prints reals with 15 digits only. */
static void take_fields(fields *f, sqlite3_stmt *rows)
{
	for (size_t i = 0; i < f->count; i++) {
		if (sqlite3_column_type(rows, (int)i) == SQLITE_FLOAT) {
			hd_number_format(f->numbers[i], sqlite3_column_double(rows, (int)i));
			f->texts[i] = f->numbers[i];
		} else {
			f->texts[i] = (const char *)sqlite3_column_text(rows, (int)i);
		}
	}
}

static hd_status read_rows(hd_rows *rows, sqlite3_stmt *select, sqlite3 *db, const char *path, const char *table)
{
	hd_status st;
	char place[PLACE_BYTES];
	size_t number = 0;
	fields f = {.count = (size_t)sqlite3_column_count(select)};
	int rc;
	HD_TRY(hd_alloc(&f.texts, f.count, sizeof *f.texts));
	HD_TRY(hd_alloc(&f.numbers, f.count, sizeof *f.numbers));
	while ((rc = sqlite3_step(select)) == SQLITE_ROW) {
		snprintf(place, sizeof place, "%s: %s row %zu", path, table, ++number);
		take_fields(&f, select);
		const hd_row row = {.place = place, .fields = f.texts, .count = f.count};
		HD_TRY(hd_rows_add(rows, &row));
	}
	if (rc != SQLITE_DONE)
		st = sql_error(db, path, table);
done:
	free(f.numbers);
	free(f.texts);
	return st;
}

static hd_status begin_rows(hd_rows *rows, hd_catalog *out, sqlite3_stmt *select, const char *folder,
        bool assume_approved, const char *place)
{
	hd_status st;
	size_t count = (size_t)sqlite3_column_count(select);
	const char **names = NULL;
	HD_TRY(hd_alloc(&names, count, sizeof *names));
	for (size_t i = 0; i < count; i++) {
		names[i] = sqlite3_column_name(select, (int)i);
		if (!names[i]) {
			st = hd_fail(HD_E_MEMORY, "%s: out of host memory", place);
			goto done;
		}
	}
	st = hd_rows_begin(rows, out, folder, assume_approved, place, names, count);
done:
	free(names);
	return st;
}

hd_status hd_catalog_sqlite_read(hd_catalog *out, const char *path, bool assume_approved)
{
	hd_status st;
	sqlite3 *db = NULL;
	sqlite3_stmt *select = NULL;
	const char *table, *slash = strrchr(path, '/');
	char *folder = NULL, place[PLACE_BYTES];
	hd_rows rows = {0};
	HD_TRY(hd_sprintf(&folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : "."));
	HD_TRY(open_to_read(&db, path));
	HD_TRY(find_table(&table, db, path));
	HD_TRY(select_rows(&select, db, path, table));
	snprintf(place, sizeof place, "%s: table '%s'", path, table);
	HD_TRY(begin_rows(&rows, out, select, folder, assume_approved, place));
	HD_TRY(read_rows(&rows, select, db, path, table));
	if (!out->count)
		st = hd_fail(HD_E_DATA, "%s: no recordings", place);
done:
	hd_rows_end(&rows);
	sqlite3_finalize(select);
	sqlite3_close(db);
	free(folder);
	return st;
}

/* ---- writing ---- */

/* CREATE TABLE with every column; names are quoted by SQLite itself. */
static hd_status create_table(sqlite3 *db, const char *path, json_t *extra_names)
{
	hd_status st = HD_OK;
	const char *name;
	json_t *value;
	sqlite3_str *sql = sqlite3_str_new(db);
	sqlite3_str_appendall(sql, "CREATE TABLE recordings (");
	for (int k = 0; k < HD_COLUMN_COUNT; k++)
		sqlite3_str_appendf(sql, "%s%s %s", k ? ", " : "", hd_column_name((hd_column)k),
		        k == HD_COLUMN_APPROVED             ? "INTEGER"
		        : hd_column_is_number((hd_column)k) ? "REAL"
		                                            : "TEXT");
	json_object_foreach(extra_names, name, value) sqlite3_str_appendf(sql, ", \"%w\" TEXT", name);
	sqlite3_str_appendall(sql, ")");
	char *text = sqlite3_str_finish(sql);
	if (!text || sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		st = sql_error(db, path, "cannot make the table");
	sqlite3_free(text);
	return st;
}

static hd_status prepare_insert(sqlite3_stmt **out, sqlite3 *db, const char *path, size_t columns)
{
	hd_status st = HD_OK;
	sqlite3_str *sql = sqlite3_str_new(db);
	sqlite3_str_appendall(sql, "INSERT INTO recordings VALUES (");
	for (size_t i = 0; i < columns; i++)
		sqlite3_str_appendall(sql, i ? ",?" : "?");
	sqlite3_str_appendall(sql, ")");
	char *text = sqlite3_str_finish(sql);
	if (!text || sqlite3_prepare_v2(db, text, -1, out, NULL) != SQLITE_OK)
		st = sql_error(db, path, "cannot insert");
	sqlite3_free(text);
	return st;
}

/* An empty text of a known column is NULL. */
static int bind_field(sqlite3_stmt *insert, const hd_recording *r, hd_column k, const char *iq)
{
	char number[HD_NUMBER_BYTES];
	const char *text = k == HD_COLUMN_IQ ? iq : hd_column_text(r, k, number);
	if (k == HD_COLUMN_APPROVED)
		return sqlite3_bind_int(insert, (int)k + 1, r->approved);
	if (!text[0])
		return sqlite3_bind_null(insert, (int)k + 1);
	if (hd_column_is_number(k))
		return sqlite3_bind_double(insert, (int)k + 1, hd_number_parse(text));
	return sqlite3_bind_text(insert, (int)k + 1, text, -1, SQLITE_TRANSIENT);
}

static hd_status insert_row(
        sqlite3 *db, sqlite3_stmt *insert, const char *path, const hd_recording *r, json_t *extra_names)
{
	const char *name;
	char *iq;
	json_t *value, *extra;
	int column = HD_COLUMN_COUNT, rc = SQLITE_OK;
	hd_status st = hd_iq_absolute(&iq, r->iq);
	if (st != HD_OK)
		return st;
	extra = hd_extra_load(r);
	for (int k = 0; rc == SQLITE_OK && k < HD_COLUMN_COUNT; k++)
		rc = bind_field(insert, r, (hd_column)k, iq);
	json_object_foreach(extra_names, name, value)
	{
		const char *text = json_string_value(json_object_get(extra, name));
		if (rc == SQLITE_OK)
			rc = sqlite3_bind_text(insert, ++column, text ? text : "", -1, SQLITE_TRANSIENT);
	}
	if (rc == SQLITE_OK && sqlite3_step(insert) == SQLITE_DONE)
		rc = sqlite3_reset(insert);
	else
		rc = SQLITE_ERROR;
	if (rc != SQLITE_OK)
		st = hd_fail(HD_E_IO, "%s: cannot insert: %s", path, sqlite3_errmsg(db));
	json_decref(extra);
	free(iq);
	return st;
}

static hd_status write_database(const char *path, const hd_catalog *catalog)
{
	hd_status st;
	sqlite3 *db = NULL;
	sqlite3_stmt *insert = NULL;
	json_t *extra_names = NULL;
	HD_TRY(hd_extra_names(&extra_names, catalog));
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK ||
	        sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK) {
		st = sql_error(db, path, "cannot create");
		goto done;
	}
	HD_TRY(create_table(db, path, extra_names));
	HD_TRY(prepare_insert(&insert, db, path, HD_COLUMN_COUNT + json_object_size(extra_names)));
	for (size_t i = 0; i < catalog->count; i++)
		HD_TRY(insert_row(db, insert, path, &catalog->recordings[i], extra_names));
	if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		st = hd_fail(HD_E_IO, "%s: cannot write: %s", path, sqlite3_errmsg(db));
done:
	sqlite3_finalize(insert);
	sqlite3_close(db);
	json_decref(extra_names);
	return st;
}

hd_status hd_catalog_sqlite_write(const char *folder, const hd_catalog *catalog)
{
	hd_status st;
	char *path = NULL, *temporary = NULL;
	HD_TRY(hd_sprintf(&path, "%s/" HD_CATALOG_DATABASE, folder));
	HD_TRY(hd_sprintf(&temporary, "%s.tmp%ld", path, (long)getpid()));
	unlink(temporary);
	st = write_database(temporary, catalog);
	if (st == HD_OK && rename(temporary, path) != 0)
		st = hd_fail(HD_E_IO, "%s: cannot replace: %s", path, strerror(errno));
	if (st != HD_OK)
		unlink(temporary);
done:
	free(temporary);
	free(path);
	return st;
}
