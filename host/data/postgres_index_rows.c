/* SPDX-License-Identifier: Apache-2.0 */
/* A row of the database as one of the index: what is a number, where the IQ is, what is wrong with the position. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/text.h"
#include "host/data/postgres_index.h"

static hd_pg_fault judge(const char *text, double value, double limit)
{
	char *end;
	if (!text || !text[0])
		return HD_PG_FAULT_NULL;
	if (isfinite(value))
		return fabs(value) <= limit ? HD_PG_FAULT_COUNT : HD_PG_FAULT_RANGE;
	double raw = strtod(text, &end);
	if (end == text || *end)
		return HD_PG_FAULT_TEXT;
	return isnan(raw) ? HD_PG_FAULT_NAN : HD_PG_FAULT_INFINITE;
}

typedef struct position {
	const char *text[2];
	double value[2];
} position;

static void count_fault(hd_pg_index *index, const position *p)
{
	hd_pg_fault fault = judge(p->text[0], p->value[0], 90);
	if (fault == HD_PG_FAULT_COUNT)
		fault = judge(p->text[1], p->value[1], 180);
	if (fault == HD_PG_FAULT_COUNT && p->value[0] == 0 && p->value[1] == 0)
		fault = HD_PG_FAULT_ZERO;
	if (fault != HD_PG_FAULT_COUNT)
		index->faults[fault]++;
}

/* A path and a URL stand for themselves; what is left is a key, with its bucket in front or without. */
static int bind_location(hd_pg_index *index, int to, const char *text)
{
	const char *bucket = index->plan->source.iq_bucket;
	size_t length = strlen(bucket);
	char *url;
	if (text[0] == '/' || hd_behind_scheme(text) || !length)
		return sqlite3_bind_text(index->insert, to, text, -1, SQLITE_STATIC);
	if (!strncmp(text, bucket, length) && text[length] == '/')
		text += length + 1;
	url = sqlite3_mprintf("s3://%s/%s", bucket, text);
	return sqlite3_bind_text(index->insert, to, url, -1, sqlite3_free);
}

/* Where the value of a manifest's column stands in a row; -1 where no column of the database fills it. */
static int position_of(const hd_pg_plan *plan, hd_column column)
{
	for (size_t i = 0; i < plan->count; i++)
		if (plan->fields[i].column == (int)column)
			return plan->fields[i].at;
	return -1;
}

static hd_status add_piece(hd_pg_index *index, const char *text, size_t bytes, int at)
{
	if (!bytes && at < 0)
		return HD_OK;
	if (index->piece_count == HD_PG_PIECES)
		return hd_fail(HD_E_USAGE, "--iq_template %s: is too long", index->pattern);
	index->pieces[index->piece_count++] = (hd_pg_piece){text, bytes, at};
	return HD_OK;
}

/* A relative path is one below the working directory. */
hd_status hd_pg_index_prepare_place(hd_pg_index *index)
{
	static const struct {
		const char *mark;
		hd_column column;
	} marks[] = {{"{task_id}", HD_COLUMN_SESSION}, {"{session}", HD_COLUMN_SESSION}, {"{id}", HD_COLUMN_RECEIVER},
	        {"{receiver}", HD_COLUMN_RECEIVER}};
	hd_status st;
	HD_TRY(hd_iq_absolute(&index->pattern, index->plan->source.iq_template));
	for (const char *from = index->pattern, *at = from;;) {
		size_t i = 0;
		while (i < sizeof marks / sizeof *marks && strncmp(at, marks[i].mark, strlen(marks[i].mark)) != 0)
			i++;
		if (*at && i == sizeof marks / sizeof *marks) {
			at++;
			continue;
		}
		HD_TRY(add_piece(index, from, (size_t)(at - from), -1));
		if (!*at)
			break;
		HD_TRY(add_piece(index, NULL, 0, position_of(index->plan, marks[i].column)));
		from = at += strlen(marks[i].mark);
	}
done:
	return st;
}

/* iq_template with the row's session and receiver put in. */
static int bind_template(hd_pg_index *index, int to, const PGresult *rows, int row)
{
	size_t used = 0;
	for (int i = 0; i < index->piece_count; i++) {
		const hd_pg_piece *p = &index->pieces[i];
		const char *text = p->at < 0 ? p->text : PQgetvalue(rows, row, p->at);
		size_t bytes = p->at < 0 ? p->bytes : (size_t)PQgetlength(rows, row, p->at);
		if (hd_grow(&index->place, &index->place_bytes, used + bytes, 1) != HD_OK)
			return SQLITE_NOMEM;
		memcpy(index->place + used, text, bytes);
		used += bytes;
	}
	return sqlite3_bind_text(index->insert, to, index->place, (int)used, SQLITE_STATIC);
}

/*
 * As hd_number_parse, quickly where that is exact: digits that fit a double's 53 bits over a power of ten that does too
 * are rounded once (Clinger 1990, "How to read floating point numbers accurately").
 */
static double number_of(const char *text)
{
	static const double powers[] = {
	        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
	const char *at = text + (*text == '-'), *first = at;
	int64_t digits = 0;
	int behind = 0;
	while (*at >= '0' && *at <= '9' && at - first < 15)
		digits = 10 * digits + (*at++ - '0');
	if (*at == '.' && at > first)
		for (at++; *at >= '0' && *at <= '9' && at - first < 16; at++, behind++)
			digits = 10 * digits + (*at - '0');
	if (*at || at == first)
		return hd_number_parse(text);
	return (*text == '-' ? -(double)digits : (double)digits) / powers[behind];
}

/* Numbers that are none are kept as they were written, so that nothing reads as 0. */
static int bind_number(hd_pg_index *index, int to, const char *text, double value, double scale)
{
	return isfinite(value) ? sqlite3_bind_double(index->insert, to, value / scale)
	                       : sqlite3_bind_text(index->insert, to, text, -1, SQLITE_STATIC);
}

static int bind_field(hd_pg_index *index, int to, const hd_pg_field *f, const PGresult *rows, int row, position *p)
{
	const char *text = f->at < 0 || PQgetisnull(rows, row, f->at) ? NULL : PQgetvalue(rows, row, f->at);
	if (f->kind == HD_PG_TRUE)
		return sqlite3_bind_int(index->insert, to, 1);
	if (f->kind == HD_PG_TEMPLATE)
		return bind_template(index, to, rows, row);
	if (!text || !text[0])
		return sqlite3_bind_null(index->insert, to);
	if (f->kind == HD_PG_LOCATION)
		return bind_location(index, to, text);
	if (f->kind == HD_PG_TEXT)
		return sqlite3_bind_text(index->insert, to, text, PQgetlength(rows, row, f->at), SQLITE_STATIC);
	double value = number_of(text);
	if (f->column == HD_COLUMN_LATITUDE || f->column == HD_COLUMN_LONGITUDE) {
		p->text[f->column == HD_COLUMN_LONGITUDE] = text;
		p->value[f->column == HD_COLUMN_LONGITUDE] = value;
	}
	return bind_number(index, to, text, value, f->kind == HD_PG_HERTZ ? 1e6 : 1);
}

hd_status hd_pg_index_row(hd_pg_index *index, const PGresult *rows, int row)
{
	position p = {.value = {NAN, NAN}};
	int rc = SQLITE_OK;
	for (size_t i = 0; rc == SQLITE_OK && i < index->plan->count; i++)
		rc = bind_field(index, (int)i + 1, &index->plan->fields[i], rows, row, &p);
	count_fault(index, &p);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(index->insert) == SQLITE_DONE ? sqlite3_reset(index->insert) : SQLITE_ERROR;
	return rc == SQLITE_OK ? HD_OK
	                       : hd_fail(HD_E_IO, "%s: cannot insert: %s", index->part, sqlite3_errmsg(index->db));
}
