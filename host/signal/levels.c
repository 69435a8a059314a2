/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/levels.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/data/csv.h"

#define FIXED_COLUMNS 3 /* timestamp, latitude_deg, longitude_deg */
#define LEVEL_LIMIT_DB 400.0

static hd_status take_number(double *out, const hd_csv *csv, size_t column, const char *what, double low, double high)
{
	char *end;
	const char *text = csv->fields[column];
	*out = strtod(text, &end);
	if (end == text || *end || !(*out >= low && *out <= high))
		return hd_fail(HD_E_DATA, "%s:%zu: %s '%s' is no number from %g to %g", csv->path, csv->line, what,
		        text, low, high);
	return HD_OK;
}

static hd_status take_position(double *latitude_deg, double *longitude_deg, const hd_csv *csv, size_t column)
{
	hd_status st = take_number(latitude_deg, csv, column, "latitude_deg", -90, 90);
	return st == HD_OK ? take_number(longitude_deg, csv, column + 1, "longitude_deg", -180, 180) : st;
}

/* Reads the header and compares its first columns; exact: no further ones. */
static hd_status open_table(hd_csv *csv, const char *path, const char *const *names, size_t count, int exact)
{
	int more;
	hd_status st = hd_csv_open(csv, path);
	if (st == HD_OK)
		st = hd_csv_next(csv, &more);
	if (st != HD_OK)
		return st;
	for (size_t i = 0; i < count; i++)
		if (!more || i >= csv->field_count || strcmp(csv->fields[i], names[i]) != 0)
			return hd_fail(HD_E_DATA, "%s:%zu: column %zu should be '%s', is '%s'", path, csv->line, i + 1,
			        names[i], more && i < csv->field_count ? csv->fields[i] : "missing");
	if (exact && csv->field_count != count)
		return hd_fail(HD_E_DATA, "%s:%zu: unknown column '%s'", path, csv->line, csv->fields[count]);
	return HD_OK;
}

/* The next row; its length is checked. */
static hd_status next_row(hd_csv *csv, size_t columns, int *more)
{
	hd_status st = hd_csv_next(csv, more);
	if (st == HD_OK && *more && csv->field_count != columns)
		return hd_fail(HD_E_DATA, "%s:%zu: %zu fields where the header has %zu", csv->path, csv->line,
		        csv->field_count, columns);
	return st;
}

static int find_receiver(const hd_level_receiver *receivers, int R, const char *name)
{
	for (int r = 0; r < R; r++)
		if (!strcmp(receivers[r].name, name))
			return r;
	return -1;
}

/* Names become file names of recordings. */
static hd_status check_name(const hd_csv *csv, const char *name)
{
	if (!name[0] || name[0] == '.' || strlen(name) > 200 || strpbrk(name, "/\\\",\n\r#"))
		return hd_fail(HD_E_DATA, "%s:%zu: receiver '%s' cannot be a file name; rename it", csv->path,
		        csv->line, name);
	return HD_OK;
}

static hd_status add_receiver(hd_levels *l, size_t *capacity, const hd_csv *csv, const char *name)
{
	hd_status st = check_name(csv, name);
	if (st != HD_OK)
		return st;
	if (find_receiver(l->receivers, l->R, name) >= 0)
		return hd_fail(HD_E_DATA, "%s:%zu: receiver '%s' is there twice", csv->path, csv->line, name);
	st = hd_grow(&l->receivers, capacity, (size_t)l->R + 1, sizeof *l->receivers);
	if (st == HD_OK)
		st = hd_strdup(&l->receivers[l->R].name, name);
	l->R += st == HD_OK;
	return st;
}

/* Positions by name; the columns' receivers are there already, with NaN for what is not found yet. */
static hd_status read_receivers(hd_levels *l, const char *path, const char *levels_path)
{
	static const char *const names[] = {"receiver", "latitude_deg", "longitude_deg"};
	hd_status st;
	hd_csv csv = {0};
	hd_levels listed = {0};
	size_t capacity = 0;
	int more = 1;
	for (int r = 0; r < l->R; r++)
		l->receivers[r].latitude_deg = NAN;
	HD_TRY(open_table(&csv, path, names, 3, 1));
	for (;;) {
		double latitude_deg, longitude_deg;
		HD_TRY(next_row(&csv, 3, &more));
		if (!more)
			break;
		HD_TRY(add_receiver(&listed, &capacity, &csv, csv.fields[0]));
		HD_TRY(take_position(&latitude_deg, &longitude_deg, &csv, 1));
		int r = find_receiver(l->receivers, l->R, csv.fields[0]);
		if (r >= 0) {
			l->receivers[r].latitude_deg = latitude_deg;
			l->receivers[r].longitude_deg = longitude_deg;
		}
	}
	for (int r = 0; r < l->R; r++)
		if (isnan(l->receivers[r].latitude_deg)) {
			st = hd_fail(HD_E_DATA, "%s: no position of receiver '%s', which %s has a column of", path,
			        l->receivers[r].name, levels_path);
			goto done;
		}
done:
	hd_levels_free(&listed);
	hd_csv_close(&csv);
	return st;
}

/* Whether a text has the form, d standing for a digit. */
static int has_form(const char *text, const char *form)
{
	for (; *form; text++, form++)
		if (*form == 'd'       ? !isdigit((unsigned char)*text)
		        : *form == ' ' ? *text != ' ' && *text != 'T'
		                       : *text != *form)
			return 0;
	return 1;
}

static int find_hour(const hd_levels *l, const char *text)
{
	for (size_t h = l->hour_count; h-- > 0;)
		if (!memcmp(l->hours[h].text, text, HD_LEVELS_HOUR - 1))
			return (int)h;
	return -1;
}

static hd_status add_row(hd_levels *l, const hd_csv *csv)
{
	hd_status st;
	size_t R = (size_t)l->R;
	const char *stamp = csv->fields[0];
	if (!has_form(stamp, "dddd-dd-dd dd:dd:dd"))
		return hd_fail(HD_E_DATA, "%s:%zu: timestamp '%s' is not of the form 2022-04-25 14:12:32", csv->path,
		        csv->line, stamp);
	HD_TRY(hd_grow(&l->rows, &l->capacity, l->count + 1, sizeof *l->rows));
	HD_TRY(hd_grow(&l->level_pool, &l->level_capacity, (l->count + 1) * R, sizeof *l->level_pool));
	hd_level_row *row = &l->rows[l->count];
	memcpy(row->stamp, stamp, HD_LEVELS_STAMP - 1);
	row->stamp[10] = ' ';
	row->number = (int64_t)l->count + 1;
	HD_TRY(take_position(&row->latitude_deg, &row->longitude_deg, csv, 1));
	row->hour = find_hour(l, row->stamp);
	if (row->hour < 0) {
		HD_TRY(hd_grow(&l->hours, &l->hour_capacity, l->hour_count + 1, sizeof *l->hours));
		row->hour = (int)l->hour_count++;
		memcpy(l->hours[row->hour].text, row->stamp, HD_LEVELS_HOUR - 1);
		l->hours[row->hour].fold = -1;
	}
	for (size_t r = 0; r < R; r++) {
		double level = NAN;
		if (csv->fields[FIXED_COLUMNS + r][0])
			HD_TRY(take_number(&level, csv, FIXED_COLUMNS + r, "level", -LEVEL_LIMIT_DB, LEVEL_LIMIT_DB));
		l->level_pool[l->count * R + r] = (float)level;
	}
	l->count++;
done:
	return st;
}

/* The pool may have moved while it grew. */
static void point_rows(hd_levels *l)
{
	for (size_t i = 0; i < l->count; i++)
		l->rows[i].level_db = l->level_pool + i * (size_t)l->R;
}

static hd_status read_levels(hd_levels *l, const char *path)
{
	static const char *const names[FIXED_COLUMNS] = {"timestamp", "latitude_deg", "longitude_deg"};
	hd_status st;
	hd_csv csv = {0};
	size_t capacity = 0;
	int more = 1;
	HD_TRY(open_table(&csv, path, names, FIXED_COLUMNS, 0));
	size_t columns = csv.field_count;
	if (columns == FIXED_COLUMNS) {
		st = hd_fail(HD_E_DATA, "%s:%zu: no column of a receiver behind longitude_deg", path, csv.line);
		goto done;
	}
	for (size_t i = FIXED_COLUMNS; i < columns; i++)
		HD_TRY(add_receiver(l, &capacity, &csv, csv.fields[i]));
	for (;;) {
		HD_TRY(next_row(&csv, columns, &more));
		if (!more)
			break;
		HD_TRY(add_row(l, &csv));
	}
	if (!l->count) {
		st = hd_fail(HD_E_DATA, "%s: no row of levels", path);
		goto done;
	}
	point_rows(l);
done:
	hd_csv_close(&csv);
	return st;
}

static hd_status read_folds(hd_levels *l, const char *path, const char *levels_path)
{
	static const char *const names[] = {"hour", "fold"};
	hd_status st;
	hd_csv csv = {0};
	int more = 1;
	HD_TRY(open_table(&csv, path, names, 2, 1));
	for (;;) {
		double fold;
		HD_TRY(next_row(&csv, 2, &more));
		if (!more)
			break;
		const char *hour = csv.fields[0];
		if (!has_form(hour, "dddd-dd-dd dd") || strlen(hour) != HD_LEVELS_HOUR - 1) {
			st = hd_fail(
			        HD_E_DATA, "%s:%zu: hour '%s' is not of the form 2022-04-25 14", path, csv.line, hour);
			goto done;
		}
		HD_TRY(take_number(&fold, &csv, 1, "fold", 0, 1e6));
		if (fold != floor(fold)) {
			st = hd_fail(HD_E_DATA, "%s:%zu: fold '%s' is no whole number", path, csv.line, csv.fields[1]);
			goto done;
		}
		int h = find_hour(l, hour);
		if (h >= 0 && l->hours[h].fold >= 0) {
			st = hd_fail(HD_E_DATA, "%s:%zu: hour '%s' is there twice", path, csv.line, hour);
			goto done;
		}
		if (h >= 0)
			l->hours[h].fold = (int)fold;
	}
	for (size_t h = 0; h < l->hour_count; h++)
		if (l->hours[h].fold < 0) {
			st = hd_fail(HD_E_DATA, "%s: no fold of hour '%s', which %s has rows of", path,
			        l->hours[h].text, levels_path);
			goto done;
		}
done:
	hd_csv_close(&csv);
	return st;
}

hd_status hd_levels_read(hd_levels *out, const char *levels, const char *receivers, const char *folds)
{
	hd_status st;
	*out = (hd_levels){0};
	HD_TRY(read_levels(out, levels));
	HD_TRY(read_receivers(out, receivers, levels));
	if (folds && folds[0])
		HD_TRY(read_folds(out, folds, levels));
done:
	if (st != HD_OK)
		hd_levels_free(out);
	return st;
}

hd_status hd_levels_make(hd_levels *out, const hd_level_receiver *receivers, int R, size_t count)
{
	hd_status st;
	*out = (hd_levels){0};
	HD_TRY(hd_alloc(&out->receivers, (size_t)R, sizeof *out->receivers));
	for (; out->R < R; out->R++) {
		out->receivers[out->R] = receivers[out->R];
		out->receivers[out->R].name = NULL;
		HD_TRY(hd_strdup(&out->receivers[out->R].name, receivers[out->R].name));
	}
	HD_TRY(hd_grow(&out->rows, &out->capacity, count, sizeof *out->rows));
	HD_TRY(hd_grow(&out->level_pool, &out->level_capacity, count * (size_t)R, sizeof *out->level_pool));
	for (out->count = 0; out->count < count; out->count++)
		out->rows[out->count] = (hd_level_row){.hour = -1, .number = (int64_t)out->count + 1};
	for (size_t i = 0; i < count * (size_t)R; i++)
		out->level_pool[i] = NAN;
	point_rows(out);
done:
	if (st != HD_OK)
		hd_levels_free(out);
	return st;
}

hd_status hd_levels_leave_out(hd_levels *l, int fold)
{
	size_t kept = 0, hours = 0;
	for (size_t i = 0; i < l->count; i++) {
		hd_level_row row = l->rows[i];
		if (row.hour >= 0 && l->hours[row.hour].fold == fold)
			continue;
		if (kept != i)
			memcpy(l->level_pool + kept * (size_t)l->R, row.level_db, (size_t)l->R * sizeof(float));
		l->rows[kept++] = row;
	}
	if (kept == l->count)
		return hd_fail(HD_E_DATA, "fold %d: no row of levels is in it", fold);
	if (!kept)
		return hd_fail(HD_E_DATA, "fold %d: all rows of levels are in it, none is left", fold);
	l->count = kept;
	for (size_t h = 0; h < l->hour_count; h++) {
		if (l->hours[h].fold == fold)
			continue;
		for (size_t i = 0; i < kept; i++)
			if (l->rows[i].hour == (int)h)
				l->rows[i].hour = (int)hours;
		l->hours[hours++] = l->hours[h];
	}
	l->hour_count = hours;
	point_rows(l);
	return HD_OK;
}

hd_status hd_levels_write(const hd_levels *l, const char *out, const char *levels_name, const char *receivers_name)
{
	hd_status st;
	char path[4096], *text[2] = {NULL, NULL};
	size_t bytes[2];
	FILE *levels = open_memstream(&text[0], &bytes[0]), *receivers = open_memstream(&text[1], &bytes[1]);
	if (!levels || !receivers) {
		st = hd_fail(HD_E_MEMORY, "out of host memory for the levels");
	} else {
		fprintf(levels, "timestamp,latitude_deg,longitude_deg");
		fprintf(receivers, "receiver,latitude_deg,longitude_deg\n");
		for (int r = 0; r < l->R; r++) {
			const hd_level_receiver *at = &l->receivers[r];
			fprintf(levels, ",%s", at->name);
			fprintf(receivers, "%s,%.10g,%.10g\n", at->name, at->latitude_deg, at->longitude_deg);
		}
		fprintf(levels, "\n");
		for (size_t i = 0; i < l->count; i++) {
			const hd_level_row *row = &l->rows[i];
			fprintf(levels, "%s,%.8f,%.8f", row->stamp, row->latitude_deg, row->longitude_deg);
			for (int r = 0; r < l->R; r++) {
				if (isnan(row->level_db[r]))
					fprintf(levels, ",");
				else
					fprintf(levels, ",%.4f", (double)row->level_db[r]);
			}
			fprintf(levels, "\n");
		}
		st = HD_OK;
	}
	if (levels)
		fclose(levels);
	if (receivers)
		fclose(receivers);
	if (st == HD_OK) {
		snprintf(path, sizeof path, "%s/%s", out, levels_name);
		st = hd_file_write(path, &(hd_span){text[0], bytes[0]}, 1, 0);
	}
	if (st == HD_OK) {
		snprintf(path, sizeof path, "%s/%s", out, receivers_name);
		st = hd_file_write(path, &(hd_span){text[1], bytes[1]}, 1, 0);
	}
	free(text[1]);
	free(text[0]);
	return st;
}

void hd_levels_free(hd_levels *l)
{
	if (!l)
		return;
	for (int r = 0; r < l->R; r++)
		free(l->receivers[r].name);
	free(l->receivers);
	free(l->hours);
	free(l->rows);
	free(l->level_pool);
	*l = (hd_levels){0};
}
