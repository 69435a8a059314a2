/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/postgres_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"

#define INDEX_VERSION 1
#define WAIT_US 200000

static hd_status sql_error(const hd_pg_index *index, const char *what)
{
	return hd_fail(
	        HD_E_IO, "%s: %s: %s", index->part, what, index->db ? sqlite3_errmsg(index->db) : "out of memory");
}

static hd_status run(hd_pg_index *index, const char *sql)
{
	return sqlite3_exec(index->db, sql, NULL, NULL, NULL) == SQLITE_OK ? HD_OK : sql_error(index, sql);
}

/* ---- the lock ---- */

/* Whether a path is the file that is open. */
static bool is_file(const char *path, int fd)
{
	struct stat named, opened;
	return stat(path, &named) == 0 && fstat(fd, &opened) == 0 && named.st_ino == opened.st_ino &&
	       named.st_dev == opened.st_dev;
}

static hd_status wait_for_lock(hd_pg_index *index)
{
	bool told = false;
	while (flock(index->lock, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return hd_fail(HD_E_IO, "%s: cannot lock: %s", index->part, strerror(errno));
		if (!told)
			hd_message("%s: another process reads it into %s; waiting", index->name, index->path);
		told = true;
		usleep(WAIT_US);
		if (hd_stop_requested())
			return hd_fail(HD_E_INTERRUPTED, "%s: interrupted", index->name);
	}
	return HD_OK;
}

/*
 * The file in the making is the lock. Who had it may have put it in its place meanwhile: then all that was to be read
 * has been read since this process asked.
 */
static hd_status take_lock(hd_pg_index *index, bool *finished)
{
	hd_status st = HD_OK;
	do {
		if (index->lock >= 0)
			close(index->lock);
		index->lock = open(index->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
		if (index->lock < 0)
			return hd_fail(HD_E_IO, "%s: cannot open: %s", index->part, strerror(errno));
		HD_TRY(wait_for_lock(index));
		*finished = is_file(index->path, index->lock);
	} while (!*finished && !is_file(index->part, index->lock));
done:
	return st;
}

/* ---- keys as one text ---- */

static hd_status pack_key(char **out, char *const *key, int count)
{
	json_t *list = json_array();
	int failed = !list;
	for (int k = 0; k < count; k++)
		failed |= json_array_append_new(list, json_string(key[k])) != 0;
	*out = failed ? NULL : json_dumps(list, JSON_COMPACT);
	json_decref(list);
	return *out ? HD_OK : hd_fail(HD_E_DATA, "a key of the database is no UTF-8");
}

static hd_status unpack_key(char **key, const char *text, int count)
{
	hd_status st = HD_OK;
	json_t *list = text ? json_loads(text, 0, NULL) : NULL;
	for (int k = 0; k < count; k++) {
		free(key[k]);
		key[k] = NULL;
	}
	for (int k = 0; st == HD_OK && list && k < count; k++)
		st = hd_strdup(&key[k], json_string_value(json_array_get(list, (size_t)k)));
	json_decref(list);
	return st;
}

/* ---- making and taking up ---- */

/* Rows that were not yet written to the disk are lost with the machine, not with the process: another start, a new
 * file.
 */
static void boot_name(char *out, size_t bytes)
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
	out[0] = 0;
	if (f && !fgets(out, (int)bytes, f))
		out[0] = 0;
	if (f)
		fclose(f);
	out[strcspn(out, "\n")] = 0;
}

static hd_status origin_text(char **out, const hd_pg_index *index)
{
	char boot[64], *plan = NULL;
	hd_status st = hd_pg_plan_text(&plan, index->plan);
	boot_name(boot, sizeof boot);
	if (st == HD_OK)
		st = hd_sprintf(out, "%d %s\n%s\n%s", INDEX_VERSION, boot, index->name, plan);
	free(plan);
	return st;
}

static hd_status create_tables(hd_pg_index *index)
{
	hd_status st = HD_OK;
	sqlite3_str *sql = sqlite3_str_new(index->db);
	sqlite3_str_appendall(sql, "CREATE TABLE recordings (");
	for (size_t i = 0; i < index->plan->count; i++) {
		const hd_pg_field *f = &index->plan->fields[i];
		sqlite3_str_appendf(sql, "%s\"%w\" %s", i ? ", " : "", f->name,
		        f->column == HD_COLUMN_APPROVED                               ? "INTEGER"
		        : f->column >= 0 && hd_column_is_number((hd_column)f->column) ? "REAL"
		                                                                      : "TEXT");
	}
	sqlite3_str_appendall(sql,
	        "); CREATE TABLE reading (origin TEXT, upper TEXT, last TEXT, rows INTEGER, pages "
	        "INTEGER, faults TEXT); CREATE TABLE pages (number INTEGER PRIMARY KEY, last TEXT, rows "
	        "INTEGER, signature INTEGER)");
	char *text = sqlite3_str_finish(sql);
	st = text ? run(index, text) : sql_error(index, "cannot make the tables");
	sqlite3_free(text);
	return st;
}

static hd_status open_file(hd_pg_index *index)
{
	hd_status st;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
	if (sqlite3_open_v2(index->part, &index->db, flags, NULL) != SQLITE_OK)
		return sql_error(index, "cannot open");
	HD_TRY(run(index, "PRAGMA page_size = 16384; PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; "
	                  "PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -16384"));
done:
	return st;
}

static hd_status create_file(hd_pg_index *index)
{
	hd_status st;
	char *origin = NULL, *journal = NULL;
	sqlite3_stmt *insert = NULL;
	HD_TRY(origin_text(&origin, index));
	HD_TRY(hd_sprintf(&journal, "%s-journal", index->part));
	if ((unlink(journal) != 0 && errno != ENOENT) || ftruncate(index->lock, 0) != 0) {
		st = hd_fail(HD_E_IO, "%s: cannot be made anew: %s", index->part, strerror(errno));
		goto done;
	}
	HD_TRY(open_file(index));
	HD_TRY(run(index, "BEGIN"));
	HD_TRY(create_tables(index));
	if (sqlite3_prepare_v2(index->db, "INSERT INTO reading VALUES (?1, NULL, NULL, 0, 0, NULL)", -1, &insert,
	            NULL) != SQLITE_OK ||
	        sqlite3_bind_text(insert, 1, origin, -1, SQLITE_STATIC) != SQLITE_OK ||
	        sqlite3_step(insert) != SQLITE_DONE) {
		st = sql_error(index, "cannot write");
		goto done;
	}
	sqlite3_finalize(insert);
	insert = NULL;
	HD_TRY(run(index, "COMMIT"));
done:
	sqlite3_finalize(insert);
	free(journal);
	free(origin);
	return st;
}

static hd_status take_state(hd_pg_index *index, sqlite3_stmt *row)
{
	hd_status st;
	const char *faults = (const char *)sqlite3_column_text(row, 5);
	json_t *list = faults ? json_loads(faults, 0, NULL) : NULL;
	HD_TRY(unpack_key(index->upper, (const char *)sqlite3_column_text(row, 1), index->plan->key_count));
	HD_TRY(unpack_key(index->last, (const char *)sqlite3_column_text(row, 2), index->plan->key_count));
	index->rows = sqlite3_column_int64(row, 3);
	index->pages = sqlite3_column_int64(row, 4);
	for (int k = 0; k < HD_PG_FAULT_COUNT; k++)
		index->faults[k] = json_integer_value(json_array_get(list, (size_t)k));
	index->resumed = index->pages > 0;
done:
	json_decref(list);
	return st;
}

/* Whether there is a file of the same plan that can be gone on with. */
static hd_status take_up(hd_pg_index *index, bool *taken)
{
	hd_status st;
	char *origin = NULL;
	sqlite3_stmt *row = NULL;
	*taken = false;
	struct stat info;
	if (fstat(index->lock, &info) != 0 || info.st_size == 0)
		return HD_OK;
	HD_TRY(origin_text(&origin, index));
	HD_TRY(open_file(index));
	if (sqlite3_prepare_v2(index->db, "SELECT * FROM reading", -1, &row, NULL) == SQLITE_OK &&
	        sqlite3_step(row) == SQLITE_ROW && sqlite3_column_text(row, 0) &&
	        !strcmp((const char *)sqlite3_column_text(row, 0), origin)) {
		HD_TRY(take_state(index, row));
		*taken = true;
	}
done:
	sqlite3_finalize(row);
	free(origin);
	if (!*taken) {
		sqlite3_close(index->db);
		index->db = NULL;
		st = HD_OK; /* whatever is wrong with it, a new one takes its place */
	}
	return st;
}

static hd_status prepare_insert(hd_pg_index *index)
{
	sqlite3_str *sql = sqlite3_str_new(index->db);
	sqlite3_str_appendall(sql, "INSERT INTO recordings VALUES (");
	for (size_t i = 0; i < index->plan->count; i++)
		sqlite3_str_appendall(sql, i ? ",?" : "?");
	sqlite3_str_appendall(sql, ")");
	char *text = sqlite3_str_finish(sql);
	hd_status st = HD_OK;
	if (!text ||
	        sqlite3_prepare_v3(index->db, text, -1, SQLITE_PREPARE_PERSISTENT, &index->insert, NULL) != SQLITE_OK)
		st = sql_error(index, "cannot insert");
	sqlite3_free(text);
	return st;
}

hd_status hd_pg_index_open(hd_pg_index *out, bool *finished, const char *path, const hd_pg_plan *plan, const char *name)
{
	hd_status st;
	bool taken;
	*out = (hd_pg_index){.plan = plan, .lock = -1};
	*finished = false;
	HD_TRY(hd_strdup(&out->path, path));
	HD_TRY(hd_strdup(&out->name, name));
	HD_TRY(hd_sprintf(&out->part, "%s.part", path));
	HD_TRY(take_lock(out, finished));
	if (*finished)
		goto done;
	HD_TRY(take_up(out, &taken));
	if (!taken)
		HD_TRY(create_file(out));
	HD_TRY(prepare_insert(out));
	HD_TRY(hd_pg_index_prepare_place(out));
done:
	if (st != HD_OK)
		hd_pg_index_close(out);
	return st;
}

void hd_pg_index_close(hd_pg_index *index)
{
	if (!index)
		return;
	sqlite3_finalize(index->insert);
	sqlite3_close(index->db);
	if (index->lock >= 0)
		close(index->lock);
	for (int k = 0; k < HD_PG_KEYS; k++) {
		free(index->upper[k]);
		free(index->last[k]);
	}
	free(index->place);
	free(index->pattern);
	free(index->name);
	free(index->part);
	free(index->path);
	*index = (hd_pg_index){.lock = -1};
}

/* ---- pages ---- */

hd_status hd_pg_index_begin(hd_pg_index *index)
{
	return run(index, "BEGIN");
}

/* The state of the reading, and where number is not -1 a page, in one go. */
static hd_status save_state(hd_pg_index *index, int64_t number, int64_t rows, int64_t signature)
{
	hd_status st;
	char *upper = NULL, *last = NULL, *faults = NULL;
	sqlite3_stmt *page = NULL, *state = NULL;
	json_t *list = json_array();
	for (int k = 0; k < HD_PG_FAULT_COUNT; k++)
		json_array_append_new(list, json_integer(index->faults[k]));
	faults = json_dumps(list, JSON_COMPACT);
	HD_TRY(pack_key(&upper, index->upper, index->plan->key_count));
	if (index->last[0])
		HD_TRY(pack_key(&last, index->last, index->plan->key_count));
	int rc = sqlite3_prepare_v2(index->db,
	        "UPDATE reading SET upper = ?1, last = ?2, rows = ?3, pages = ?4, faults = ?5", -1, &state, NULL);
	sqlite3_bind_text(state, 1, upper, -1, SQLITE_STATIC);
	sqlite3_bind_text(state, 2, last, -1, SQLITE_STATIC);
	sqlite3_bind_int64(state, 3, index->rows);
	sqlite3_bind_int64(state, 4, index->pages);
	sqlite3_bind_text(state, 5, faults, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(state) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
	if (rc == SQLITE_OK && number >= 0) {
		rc = sqlite3_prepare_v2(index->db, "INSERT INTO pages VALUES (?1, ?2, ?3, ?4)", -1, &page, NULL);
		sqlite3_bind_int64(page, 1, number);
		sqlite3_bind_text(page, 2, last, -1, SQLITE_STATIC);
		sqlite3_bind_int64(page, 3, rows);
		sqlite3_bind_int64(page, 4, signature);
		if (rc == SQLITE_OK)
			rc = sqlite3_step(page) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
	}
	if (rc != SQLITE_OK)
		st = sql_error(index, "cannot write");
done:
	sqlite3_finalize(page);
	sqlite3_finalize(state);
	json_decref(list);
	free(faults);
	free(last);
	free(upper);
	return st;
}

static hd_status copy_key(char **to, char *const *from, int count)
{
	hd_status st = HD_OK;
	for (int k = 0; st == HD_OK && k < count; k++) {
		free(to[k]);
		st = hd_strdup(&to[k], from[k]);
	}
	return st;
}

hd_status hd_pg_index_set_upper(hd_pg_index *index, char *const *upper)
{
	hd_status st = copy_key(index->upper, upper, index->plan->key_count);
	return st == HD_OK ? save_state(index, -1, 0, 0) : st;
}

hd_status hd_pg_index_end(hd_pg_index *index, char *const *last, int64_t rows, int64_t signature)
{
	hd_status st;
	HD_TRY(copy_key(index->last, last, index->plan->key_count));
	index->rows += rows;
	index->pages++;
	HD_TRY(save_state(index, index->pages - 1, rows, signature));
	HD_TRY(run(index, "COMMIT"));
	/* begun now, or all of it is to be waited for at the end */
	sync_file_range(index->lock, 0, 0, SYNC_FILE_RANGE_WRITE);
done:
	return st;
}

hd_status hd_pg_index_page(hd_pg_page *out, hd_pg_index *index, int64_t number)
{
	hd_status st = HD_OK;
	sqlite3_stmt *find = NULL;
	*out = (hd_pg_page){0};
	if (sqlite3_prepare_v2(index->db, "SELECT last, rows, signature FROM pages WHERE number = ?1", -1, &find,
	            NULL) != SQLITE_OK)
		return sql_error(index, "cannot be read");
	for (int64_t n = number ? number - 1 : 0; n <= number; n++) {
		sqlite3_bind_int64(find, 1, n);
		if (sqlite3_step(find) != SQLITE_ROW) {
			st = sql_error(index, "a page is missing");
			goto done;
		}
		HD_TRY(unpack_key(n == number ? out->last : out->first, (const char *)sqlite3_column_text(find, 0),
		        index->plan->key_count));
		out->rows = sqlite3_column_int64(find, 1);
		out->signature = sqlite3_column_int64(find, 2);
		sqlite3_reset(find);
	}
done:
	sqlite3_finalize(find);
	if (st != HD_OK)
		hd_pg_page_free(out);
	return st;
}

void hd_pg_page_free(hd_pg_page *page)
{
	for (int k = 0; k < HD_PG_KEYS; k++) {
		free(page->first[k]);
		free(page->last[k]);
	}
	*page = (hd_pg_page){0};
}

hd_status hd_pg_index_finish(hd_pg_index *index)
{
	hd_status st = HD_OK;
	sqlite3_finalize(index->insert);
	index->insert = NULL;
	if (sqlite3_close(index->db) != SQLITE_OK)
		return sql_error(index, "cannot close");
	index->db = NULL;
	int fd = open(index->part, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		st = hd_fail(HD_E_IO, "%s: cannot be written to the disk: %s", index->part, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (st == HD_OK && rename(index->part, index->path) != 0)
		st = hd_fail(HD_E_IO, "%s: cannot be named %s: %s", index->part, index->path, strerror(errno));
	return st;
}
