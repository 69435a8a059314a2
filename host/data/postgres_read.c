/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of a database into its index, and what changed meanwhile. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/redact.h"
#include "host/data/postgres.h"
#include "host/data/postgres_index.h"

#define PAGE_ROWS 50000
#define SMALLEST_PAGE 500
#define PAGES_TOGETHER 20 /* hashed in one statement, which the server can share out */
#define REPORT_S 10.0
#define CHANGES_SHOWN 5

/* One page on its way into the index, by a thread of its own while the next one arrives. */
typedef struct keeper {
	pthread_t thread;
	bool running;
	PGresult *page;
	hd_status st;
	char why[1024];
} keeper;

typedef struct reader {
	hd_pg pg;
	hd_pg_plan plan;
	hd_pg_index index;
	keeper keeper;
	int page_rows; /* asked for at a time */
	double told_s;
	hd_pg_report report;
} reader;

/* ---- pages ---- */

/* Whether a key (NULL: none) is the upper one. */
static bool is_upper(const reader *r, char *const *key)
{
	for (int k = 0; k < r->plan.key_count; k++)
		if (!key[0] || strcmp(key[k], r->index.upper[k]) != 0)
			return false;
	return true;
}

/* Asks for the page behind a key (first[0] NULL: from the beginning). */
static hd_status send_page(reader *r, char *const *last)
{
	char rows[16];
	const char *values[HD_PG_PARAMETERS];
	int n = 0, keys = r->plan.key_count;
	snprintf(rows, sizeof rows, "%d", r->page_rows);
	for (int k = 0; k < keys; k++)
		values[n++] = r->index.upper[k];
	values[n++] = rows;
	for (int k = 0; last[0] && k < keys; k++)
		values[n++] = last[k];
	return hd_pg_send(&r->pg, last[0] ? r->plan.next_page : r->plan.first_page, n, values);
}

static void key_of(char **key, const reader *r, const PGresult *rows, int row)
{
	for (int k = 0; k < r->plan.key_count; k++)
		key[k] = PQgetvalue(rows, row, r->plan.key_at[k]);
}

static hd_status check_unique(const reader *r, const PGresult *rows, int row)
{
	if (!row || r->plan.key_is_unique ||
	        strcmp(PQgetvalue(rows, row, r->plan.key_at[0]), PQgetvalue(rows, row - 1, r->plan.key_at[0])) != 0)
		return HD_OK;
	return hd_fail(HD_E_DATA,
	        "%s: %s gives '%s' for '%s' more than once; rows are read in its order, so it must be "
	        "unique",
	        r->pg.name, r->plan.relation, PQgetvalue(rows, row, r->plan.key_at[0]), r->plan.keys[0]);
}

static hd_status keep_rows(reader *r, const PGresult *rows)
{
	hd_status st;
	int count = PQntuples(rows);
	int64_t signature = 0;
	char *last[HD_PG_KEYS] = {NULL};
	HD_TRY(hd_pg_index_begin(&r->index));
	for (int i = 0; i < count; i++) {
		HD_TRY(check_unique(r, rows, i));
		HD_TRY(hd_pg_index_row(&r->index, rows, i));
		signature += strtoll(PQgetvalue(rows, i, r->plan.columns), NULL, 10);
	}
	key_of(last, r, rows, count - 1);
	HD_TRY(hd_pg_index_end(&r->index, last, count, signature));
	if (hd_now_s() - r->told_s > REPORT_S) {
		hd_message("%s: %lld rows read", r->pg.name, (long long)r->index.rows);
		r->told_s = hd_now_s();
	}
done:
	return st;
}

static void *run_keeper(void *argument)
{
	reader *r = argument;
	keeper *k = &r->keeper;
	k->st = keep_rows(r, k->page);
	if (k->st != HD_OK)
		snprintf(k->why, sizeof k->why, "%s", hd_error_text());
	return NULL;
}

/* Waits until the last page is in the index; its error becomes this thread's. */
static hd_status finish_keeping(reader *r)
{
	keeper *k = &r->keeper;
	if (!k->running)
		return HD_OK;
	pthread_join(k->thread, NULL);
	k->running = false;
	PQclear(k->page);
	k->page = NULL;
	return k->st == HD_OK ? HD_OK : hd_fail(k->st, "%s", k->why);
}

/* Takes the page over. */
static hd_status start_keeping(reader *r, PGresult *page)
{
	keeper *k = &r->keeper;
	k->page = page;
	k->running = pthread_create(&k->thread, NULL, run_keeper, r) == 0;
	if (k->running)
		return HD_OK;
	k->page = NULL;
	PQclear(page);
	return hd_fail(HD_E_MEMORY, "%s: no thread could be started", r->pg.name);
}

/* Takes the page that was asked for; NULL where it has to be asked for again. */
static hd_status take_page(PGresult **out, reader *r)
{
	hd_status st = hd_pg_take(out, &r->pg);
	if (st == HD_OK)
		return HD_OK;
	if (r->pg.trouble == HD_PG_LOST)
		return hd_pg_reconnect(&r->pg);
	if (r->pg.trouble == HD_PG_SLOW && r->page_rows > SMALLEST_PAGE) {
		r->page_rows /= 4;
		hd_warn("%s: a page took longer than the statement_timeout; going on with %d rows at a time",
		        r->pg.name, r->page_rows);
		return HD_OK;
	}
	if (r->pg.trouble == HD_PG_SLOW)
		return hd_fail(st,
		        "%s: %d rows take longer than the statement_timeout: is there an index on (%s)? "
		        "PGOPTIONS='-c statement_timeout=10min' gives more time",
		        r->pg.name, r->page_rows, r->plan.keys[0]);
	return st;
}

/* A page is kept while the next one arrives, which was asked for before. */
static hd_status read_pages(reader *r)
{
	hd_status st = HD_OK;
	bool asked = false, done = is_upper(r, r->index.last);
	while (!done) {
		PGresult *page = NULL;
		if (!asked) {
			HD_TRY(finish_keeping(r));
			if (send_page(r, r->index.last) != HD_OK) {
				HD_TRY(hd_pg_reconnect(&r->pg));
				continue;
			}
		}
		asked = false;
		HD_TRY(take_page(&page, r));
		if (!page)
			continue;
		st = finish_keeping(r);
		if (st != HD_OK || !PQntuples(page)) { /* none: what was left has been deleted */
			PQclear(page);
			break;
		}
		char *last[HD_PG_KEYS] = {NULL};
		key_of(last, r, page, PQntuples(page) - 1);
		done = is_upper(r, last);
		asked = !done && send_page(r, last) == HD_OK;
		HD_TRY(start_keeping(r, page));
	}
done:
	if (st == HD_OK)
		return finish_keeping(r);
	if (r->keeper.running) { /* its own error comes after the one that is there */
		pthread_join(r->keeper.thread, NULL);
		PQclear(r->keeper.page);
		r->keeper = (keeper){0};
	}
	return st;
}

/* ---- what changed ---- */

static hd_status digest(int64_t *rows, int64_t *signature, reader *r, char *const *first, char *const *last)
{
	PGresult *answer = NULL;
	const char *values[HD_PG_PARAMETERS];
	int n = 0;
	for (int k = 0; k < r->plan.key_count; k++)
		values[n++] = last[k];
	for (int k = 0; first[0] && k < r->plan.key_count; k++)
		values[n++] = first[k];
	hd_status st = hd_pg_ask(&answer, &r->pg, first[0] ? r->plan.next_digest : r->plan.first_digest, n, values);
	if (st == HD_OK) {
		*rows = strtoll(PQgetvalue(answer, 0, 0), NULL, 10);
		*signature = strtoll(PQgetvalue(answer, 0, 1), NULL, 10);
	}
	PQclear(answer);
	return st;
}

static void note_change(reader *r, const hd_pg_page *page, int64_t rows)
{
	if (r->report.pages_changed++ < CHANGES_SHOWN)
		hd_warn("%s: changed while it was read: %s%s%s .. %s, %lld rows then, %lld now", r->pg.name,
		        r->plan.keys[0], page->first[0] ? " behind " : "", page->first[0] ? page->first[0] : "",
		        page->last[0], (long long)page->rows, (long long)rows);
	r->report.rows_added += rows > page->rows ? rows - page->rows : 0;
	r->report.rows_removed += rows < page->rows ? page->rows - rows : 0;
}

/* Pages from..to-1 as they were and as they are; the last of all goes up to the upper key, whose row may be gone. */
static hd_status compare_range(bool *same, hd_pg_page *was, int64_t *rows, reader *r, int64_t from, int64_t to)
{
	hd_status st;
	hd_pg_page page = {0};
	int64_t signature, kept = 0, kept_signature = 0;
	HD_TRY(hd_pg_index_page(was, &r->index, from));
	for (int64_t i = from; i < to; i++) {
		hd_pg_page_free(&page);
		HD_TRY(hd_pg_index_page(&page, &r->index, i));
		kept += page.rows;
		kept_signature += page.signature;
	}
	HD_TRY(digest(rows, &signature, r, was->first, to < r->index.pages ? page.last : r->index.upper));
	*same = *rows == kept && signature == kept_signature;
done:
	hd_pg_page_free(&page);
	return st;
}

/* Several pages at once, and those one by one where something is not the same. */
static hd_status compare_pages(reader *r)
{
	hd_status st = HD_OK;
	hd_pg_page was = {0};
	bool same;
	int64_t rows, pages = r->index.pages;
	for (int64_t from = 0; from < pages; from += PAGES_TOGETHER) {
		int64_t to = from + PAGES_TOGETHER < pages ? from + PAGES_TOGETHER : pages;
		HD_TRY(compare_range(&same, &was, &rows, r, from, to));
		hd_pg_page_free(&was);
		for (int64_t i = from; !same && i < to; i++) {
			bool page_same;
			HD_TRY(compare_range(&page_same, &was, &rows, r, i, i + 1));
			if (!page_same)
				note_change(r, &was, rows);
			hd_pg_page_free(&was);
		}
	}
	if (r->report.pages_changed)
		hd_warn("%s: rows of %lld of %lld pages were inserted, deleted or changed while they were read (%lld "
		        "more, %lld fewer); the index has them as they were; reading again takes them as they are",
		        r->pg.name, (long long)r->report.pages_changed, (long long)r->index.pages,
		        (long long)r->report.rows_added, (long long)r->report.rows_removed);
done:
	hd_pg_page_free(&was);
	return st;
}

/* ---- the whole ---- */

static hd_status fix_upper(reader *r)
{
	hd_status st;
	PGresult *key = NULL;
	char *upper[HD_PG_KEYS] = {NULL};
	if (r->index.upper[0])
		return HD_OK;
	HD_TRY(hd_pg_ask(&key, &r->pg, r->plan.upper, 0, NULL));
	if (!PQntuples(key)) {
		st = hd_fail(HD_E_DATA, "%s: %s has no rows", r->pg.name, r->plan.relation);
		goto done;
	}
	for (int k = 0; k < r->plan.key_count; k++)
		upper[k] = PQgetvalue(key, 0, k);
	HD_TRY(hd_pg_index_set_upper(&r->index, upper));
done:
	PQclear(key);
	return st;
}

static hd_status count_keyless(reader *r)
{
	PGresult *answer = NULL;
	if (!r->plan.keyless)
		return HD_OK;
	hd_status st = hd_pg_ask(&answer, &r->pg, r->plan.keyless, 0, NULL);
	if (st == HD_OK)
		r->report.keyless = strtoll(PQgetvalue(answer, 0, 0), NULL, 10);
	if (r->report.keyless)
		hd_warn("%s: %lld rows have no '%s' and are left out", r->pg.name, (long long)r->report.keyless,
		        r->plan.keys[0]);
	PQclear(answer);
	return st;
}

static void tell_faults(const reader *r)
{
	static const char *const texts[] = {
#define X(name, text) text,
	        HD_PG_FAULTS(X)
#undef X
	};
	for (int k = 0; k < HD_PG_FAULT_COUNT; k++)
		if (r->index.faults[k])
			hd_message("%s: %lld positions %s", r->pg.name, (long long)r->index.faults[k], texts[k]);
}

static hd_status fill_index(reader *r)
{
	hd_status st;
	double started = hd_now_s();
	int64_t before = r->index.rows;
	r->page_rows = PAGE_ROWS;
	r->told_s = started;
	if (r->index.resumed)
		hd_message("%s: going on behind %lld rows of an earlier reading", r->pg.name, (long long)before);
	HD_TRY(fix_upper(r));
	HD_TRY(read_pages(r));
	HD_TRY(compare_pages(r));
	HD_TRY(count_keyless(r));
	tell_faults(r);
	r->report.rows = r->index.rows;
	HD_TRY(hd_pg_index_finish(&r->index));
	double took = hd_now_s() - started;
	hd_message("%s: %lld rows in %.1f s, %.0f rows/s", r->pg.name, (long long)r->report.rows, took,
	        (double)(r->report.rows - before) / (took > 1e-3 ? took : 1e-3));
done:
	return st;
}

hd_status hd_postgres_index(hd_pg_report *out_report, const char *index, const char *url, const hd_pg_source *source)
{
	hd_status st;
	reader r = {.index = {.lock = -1}};
	bool finished = false;
	HD_TRY(hd_pg_open(&r.pg, url, true));
	HD_TRY(hd_pg_plan_make(&r.plan, &r.pg, source));
	hd_pg_plan_print(&r.plan, r.pg.name);
	HD_TRY(hd_pg_index_open(&r.index, &finished, index, &r.plan, r.pg.name));
	if (!finished)
		HD_TRY(fill_index(&r));
	*out_report = r.report;
done:
	hd_pg_index_close(&r.index);
	hd_pg_plan_free(&r.plan);
	hd_pg_close(&r.pg);
	return st;
}

/* Different servers, presets and queries have indices of their own. */
static hd_status index_path(char **out, const char *folder, const char *name, const hd_pg_source *source)
{
	char *what = NULL;
	hd_status st = hd_sprintf(&what, "%s\n%s\n%s\n%s\n%s\n%d", name, source->schema, source->query,
	        source->iq_template, source->iq_bucket, (int)source->assume_approved);
	if (st == HD_OK)
		st = hd_sprintf(out, "%s/catalog-%08x%08x.sqlite", folder, hd_hash32(what, strlen(what), 1),
		        hd_hash32(what, strlen(what), 2));
	free(what);
	return st;
}

hd_status hd_postgres_read(hd_catalog *out, const char *url, const char *folder, const hd_pg_source *source)
{
	hd_status st;
	char *path = NULL, *name = NULL;
	hd_pg_report report;
	HD_TRY(hd_redact(&name, url));
	HD_TRY(hd_make_folders(folder));
	HD_TRY(index_path(&path, folder, name, source));
	HD_TRY(hd_postgres_index(&report, path, url, source));
	HD_TRY(hd_catalog_sqlite_read(out, path, source->assume_approved));
done:
	free(path);
	free(name);
	return st;
}
