/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The --where filter. Text is cut into conditions, each is checked against the columns there are, then every
 * recording is asked. Identifiers and other texts compare as numbers where both sides are numbers.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/memory.h"
#include "host/common/settings_table.h"
#include "host/data/catalog_rows.h"

#define SHOWN_COLUMNS 72
#define LARGEST_EXACT 9007199254740992.0 /* 2^53: whole numbers above share their doubles with neighbours */

typedef enum comparison { EQUAL, UNEQUAL, LESS, AT_MOST, MORE, AT_LEAST, BETWEEN, AMONG } comparison;

typedef enum token_kind { END, WORD, QUOTED, SYMBOL } token_kind;

typedef struct token {
	token_kind kind;
	size_t at;  /* where it starts in the text */
	char *text; /* owned; quotes taken off */
} token;

typedef struct value {
	char *text;
	double number; /* NaN where it is none or quoted */
	size_t at;
} value;

typedef struct condition {
	int column;  /* hd_column, or -1 for an extra one */
	char *extra; /* name of the extra column */
	comparison how;
	value *values;
	size_t count, capacity;
	size_t start, end; /* in the text */
} condition;

typedef struct filter {
	const char *text;
	size_t at; /* of the next token */
	token token;
	condition *conditions;
	size_t count, capacity;
} filter;

/* ---- errors ---- */

static bool starts_character(char c)
{
	return ((unsigned char)c & 0xC0) != 0x80;
}

/* The message, then the part of the text around the place with a caret below it. */
static hd_status fail_at(const filter *f, size_t at, const char *message)
{
	char shown[4 * SHOWN_COLUMNS + 1];
	size_t from = 0, column = 0, used = 0, shown_columns = 0;
	for (size_t i = 0; i < at; i++)
		column += starts_character(f->text[i]);
	/* a long text is shown from about half a line before the place */
	while (column > SHOWN_COLUMNS / 2 && strlen(f->text) > SHOWN_COLUMNS) {
		from++;
		while (!starts_character(f->text[from]))
			from++;
		column--;
	}
	for (const char *c = f->text + from; *c && used < sizeof shown - 1; c++) {
		shown_columns += starts_character(*c);
		if (shown_columns > SHOWN_COLUMNS)
			break;
		shown[used++] = iscntrl((unsigned char)*c) ? ' ' : *c;
	}
	shown[used] = 0;
	return hd_fail(HD_E_USAGE, "--where: %s\n  %s\n  %*s", message, shown, (int)column + 1, "^");
}

/* ---- tokens ---- */

static bool ends_word(char c)
{
	return !c || isspace((unsigned char)c) || strchr("()=!<>,'\"", c);
}

static hd_status take_quoted(filter *f)
{
	char quote = f->text[f->at];
	size_t length = 0, in = f->at + 1;
	hd_status st = hd_alloc(&f->token.text, strlen(f->text) - f->at + 1, 1);
	if (st != HD_OK)
		return st;
	f->token.kind = QUOTED;
	for (;; in++) {
		if (!f->text[in])
			return fail_at(f, f->at, "this quote is never closed");
		if (f->text[in] == quote && f->text[++in] != quote)
			break;
		f->token.text[length++] = f->text[in];
	}
	f->at = in;
	return HD_OK;
}

static hd_status next_token(filter *f)
{
	free(f->token.text);
	while (isspace((unsigned char)f->text[f->at]))
		f->at++;
	f->token = (token){.kind = END, .at = f->at};
	const char *at = f->text + f->at;
	size_t length = 0;
	if (!*at)
		return hd_strdup(&f->token.text, "");
	if (*at == '\'' || *at == '"')
		return take_quoted(f);
	while (!ends_word(at[length]))
		length++;
	f->token.kind = length ? WORD : SYMBOL;
	if (!length)
		length = strchr("!<>=", *at) && at[1] == '=' ? 2 : 1;
	f->at += length;
	return hd_sprintf(&f->token.text, "%.*s", (int)length, at);
}

static bool is_word(const filter *f, const char *word)
{
	return f->token.kind == WORD && !strcasecmp(f->token.text, word);
}

static bool is_symbol(const filter *f, const char *symbol)
{
	return f->token.kind == SYMBOL && !strcmp(f->token.text, symbol);
}

/* ---- columns ---- */

/* What may be asked for, for the nearest name: known columns and extra ones. */
static hd_status unknown_column(const filter *f, json_t *extra_names)
{
	hd_status st;
	const char **names = NULL, *name;
	size_t count = 0;
	char *message = NULL;
	json_t *item;
	HD_TRY(hd_alloc(&names, HD_COLUMN_COUNT + json_object_size(extra_names), sizeof *names));
	for (int k = 0; k < HD_COLUMN_COUNT; k++)
		names[count++] = hd_column_name((hd_column)k);
	json_object_foreach(extra_names, name, item) names[count++] = name;
	const char *nearest = hd_nearest_name(f->token.text, names, count);
	HD_TRY(hd_sprintf(&message, "unknown column '%s'%s%s%s", f->token.text, nearest ? "; did you mean '" : "",
	        nearest ? nearest : "", nearest ? "'?" : ""));
	st = fail_at(f, f->token.at, message);
done:
	free(message);
	free(names);
	return st;
}

static hd_status take_column(filter *f, condition *c, json_t *extra_names)
{
	const char *name;
	json_t *item;
	if (f->token.kind != WORD && f->token.kind != QUOTED)
		return fail_at(f, f->token.at, "a column's name is wanted here");
	c->start = f->token.at;
	c->column = hd_column_find(f->token.text);
	/* an extra column may have the name that is the alias of a known one */
	json_object_foreach(extra_names, name, item)
	{
		if (!c->extra && !strcasecmp(name, f->token.text)) {
			hd_status st = hd_strdup(&c->extra, name);
			if (st != HD_OK)
				return st;
			c->column = -1;
		}
	}
	if (c->column < 0 && !c->extra)
		return unknown_column(f, extra_names);
	return next_token(f);
}

/* ---- conditions ---- */

static hd_status take_value(filter *f, condition *c)
{
	if (f->token.kind != WORD && f->token.kind != QUOTED)
		return fail_at(f, f->token.at, "a value is wanted here");
	bool quoted = f->token.kind == QUOTED;
	hd_status st = hd_grow(&c->values, &c->capacity, c->count + 1, sizeof *c->values);
	if (st != HD_OK)
		return st;
	value *v = &c->values[c->count++];
	*v = (value){.text = f->token.text, .at = f->token.at};
	f->token.text = NULL;
	c->end = f->at;
	if (c->column == HD_COLUMN_TIMESTAMP) {
		v->number = hd_time_parse(v->text);
		if (isnan(v->number))
			return fail_at(f, v->at, "no date and time; one is 2025-06-30, or '2025-06-30 12:00:00'");
	} else if (c->column == HD_COLUMN_APPROVED) {
		v->number = hd_truth_parse(v->text);
		if (v->number < 0)
			return fail_at(f, v->at, "approved is true or false");
	} else if (c->column >= 0 && hd_column_is_number((hd_column)c->column)) {
		v->number = hd_number_parse(v->text);
		if (isnan(v->number))
			return fail_at(f, v->at, "this column holds numbers, and this is none");
	} else {
		v->number = quoted ? NAN : hd_number_parse(v->text);
	}
	if (c->column == HD_COLUMN_SPLIT) {
		int split = hd_split_parse(v->text);
		if (split < 0)
			return fail_at(f, v->at, "split is train, val or test");
		free(v->text);
		v->text = NULL;
		return hd_strdup(&v->text, hd_split_name(split));
	}
	return HD_OK;
}

static hd_status take_between(filter *f, condition *c)
{
	hd_status st;
	HD_TRY(next_token(f));
	HD_TRY(take_value(f, c));
	HD_TRY(next_token(f));
	if (!is_word(f, "and"))
		return fail_at(f, f->token.at, "between A and B: 'and' is wanted here");
	HD_TRY(next_token(f));
	st = take_value(f, c);
done:
	return st;
}

static hd_status take_list(filter *f, condition *c)
{
	hd_status st;
	HD_TRY(next_token(f));
	if (!is_symbol(f, "("))
		return fail_at(f, f->token.at, "in (A, B): '(' is wanted here");
	do {
		HD_TRY(next_token(f));
		HD_TRY(take_value(f, c));
		HD_TRY(next_token(f));
	} while (is_symbol(f, ","));
	if (!is_symbol(f, ")"))
		return fail_at(f, f->token.at, "in (A, B): ',' or ')' is wanted here");
	c->end = f->at;
done:
	return st;
}

static hd_status take_condition(filter *f, condition *c, json_t *extra_names)
{
	static const char *const symbols[] = {"=", "!=", "<", "<=", ">", ">="};
	hd_status st;
	HD_TRY(take_column(f, c, extra_names));
	if (is_word(f, "between")) {
		c->how = BETWEEN;
		HD_TRY(take_between(f, c));
	} else if (is_word(f, "in")) {
		c->how = AMONG;
		HD_TRY(take_list(f, c));
	} else {
		size_t s = 0;
		while (s < sizeof symbols / sizeof *symbols && !is_symbol(f, symbols[s]))
			s++;
		if (s == sizeof symbols / sizeof *symbols)
			return fail_at(f, f->token.at, "one of = != < <= > >= between in is wanted here");
		c->how = (comparison)s;
		HD_TRY(next_token(f));
		HD_TRY(take_value(f, c));
	}
	st = next_token(f);
done:
	return st;
}

static hd_status parse(filter *f, json_t *extra_names)
{
	hd_status st;
	HD_TRY(next_token(f));
	for (;;) {
		HD_TRY(hd_grow(&f->conditions, &f->capacity, f->count + 1, sizeof *f->conditions));
		HD_TRY(take_condition(f, &f->conditions[f->count++], extra_names));
		if (f->token.kind == END)
			break;
		if (!is_word(f, "and"))
			return fail_at(f, f->token.at,
			        is_word(f, "or") ? "conditions are joined by 'and' only; in (A, B) takes several values"
			                         : "'and' or the end is wanted here; quote texts with blanks");
		HD_TRY(next_token(f));
	}
done:
	return st;
}

static void free_filter(filter *f)
{
	for (size_t i = 0; i < f->count; i++) {
		condition *c = &f->conditions[i];
		for (size_t v = 0; v < c->count; v++)
			free(c->values[v].text);
		free(c->values);
		free(c->extra);
	}
	free(f->conditions);
	free(f->token.text);
}

/* ---- recordings ---- */

typedef struct subject {
	const char *text; /* "" where empty */
	double number;    /* NaN where it is none */
} subject;

/* The number a numeric column holds in the unit of its name; times in Unix seconds. */
static double number_of(const hd_recording *r, int column, const char *text)
{
	switch (column) {
	case HD_COLUMN_TIMESTAMP:
		return r->timestamp_s;
	case HD_COLUMN_APPROVED:
		return r->approved;
	default:
		return hd_number_parse(text);
	}
}

static bool text_only(int column)
{
	return column < 0 || (column != HD_COLUMN_TIMESTAMP && column != HD_COLUMN_APPROVED &&
	                             !hd_column_is_number((hd_column)column));
}

static bool equal(const condition *c, const subject *s, const value *v)
{
	if (!text_only(c->column))
		return s->number == v->number;
	if (!strcmp(s->text, v->text))
		return true;
	return s->number == v->number && fabs(s->number) < LARGEST_EXACT;
}

/* -1, 0, 1, or 2 where the two have no order: a number and a text. */
static int order(const condition *c, const subject *s, const value *v)
{
	if (isfinite(s->number) && isfinite(v->number))
		return (s->number > v->number) - (s->number < v->number);
	if (!text_only(c->column) || isfinite(v->number))
		return 2;
	int by_bytes = strcmp(s->text, v->text);
	return (by_bytes > 0) - (by_bytes < 0);
}

static bool holds(const condition *c, const subject *s)
{
	int first, second;
	if (!s->text[0])
		return false;
	switch (c->how) {
	case EQUAL:
		return equal(c, s, &c->values[0]);
	case UNEQUAL:
		return !equal(c, s, &c->values[0]);
	case AMONG:
		for (size_t v = 0; v < c->count; v++)
			if (equal(c, s, &c->values[v]))
				return true;
		return false;
	case BETWEEN:
		first = order(c, s, &c->values[0]);
		second = order(c, s, &c->values[1]);
		return (first == 0 || first == 1) && (second == 0 || second == -1);
	default:
		first = order(c, s, &c->values[0]);
		return first != 2 && (c->how == LESS             ? first < 0
		                             : c->how == AT_MOST ? first <= 0
		                             : c->how == MORE    ? first > 0
		                                                 : first >= 0);
	}
}

/* The first condition that does not hold, NULL where all do. */
static const condition *first_broken(const filter *f, const hd_recording *r)
{
	json_t *extra = NULL;
	const condition *broken = NULL;
	for (size_t i = 0; !broken && i < f->count; i++) {
		const condition *c = &f->conditions[i];
		char number[HD_NUMBER_BYTES];
		subject s = {.text = ""};
		if (c->column >= 0) {
			s.text = hd_column_text(r, (hd_column)c->column, number);
		} else {
			if (!extra)
				extra = hd_extra_load(r);
			const char *text = json_string_value(json_object_get(extra, c->extra));
			s.text = text ? text : "";
		}
		s.number = number_of(r, c->column, s.text);
		if (!holds(c, &s))
			broken = c;
	}
	json_decref(extra);
	return broken;
}

hd_status hd_catalog_where(hd_catalog *catalog, const char *text)
{
	hd_status st;
	filter f = {.text = text};
	json_t *extra_names = NULL;
	if (!text[strspn(text, " \t\r\n")])
		return HD_OK;
	HD_TRY(hd_extra_names(&extra_names, catalog));
	HD_TRY(parse(&f, extra_names));
	for (size_t i = 0; i < catalog->count; i++) {
		hd_recording *r = &catalog->recordings[i];
		const condition *broken = r->skip == HD_SKIP_NONE ? first_broken(&f, r) : NULL;
		if (broken)
			hd_recording_skip(r, HD_SKIP_FILTERED, "%s: not %.*s", r->id,
			        (int)(broken->end - broken->start), text + broken->start);
	}
done:
	json_decref(extra_names);
	free_filter(&f);
	return st;
}
