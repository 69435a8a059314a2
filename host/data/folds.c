/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/folds.h"

#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/data/catalog_rows.h"
#include "host/data/csv.h"

void hd_recording_text(char text[HD_KEY_BYTES], const hd_recording *r, const char *column)
{
	char number[HD_NUMBER_BYTES];
	int known = hd_column_find(column);
	json_t *extra = known < 0 ? hd_extra_load(r) : NULL;
	const char *value = known < 0 ? json_string_value(json_object_get(extra, column))
	                              : hd_column_text(r, (hd_column)known, number);
	snprintf(text, HD_KEY_BYTES, "%s", value ? value : "");
	json_decref(extra);
}

void hd_folds_free(hd_folds *f)
{
	free(f->folds);
	free(f->keys);
}

static hd_status fold_row(hd_folds *f, const hd_csv *csv, size_t key, size_t fold)
{
	char *end;
	if (csv->field_count <= key || csv->field_count <= fold)
		return hd_fail(HD_E_DATA, "%s:%zu: fewer fields than columns", csv->path, csv->line);
	long value = strtol(csv->fields[fold], &end, 10);
	if (!*csv->fields[fold] || *end || value < 0 || value > 1000000)
		return hd_fail(
		        HD_E_DATA, "%s:%zu: fold '%s' is no number from 0", csv->path, csv->line, csv->fields[fold]);
	hd_status st = hd_grow(&f->keys, &f->keys_capacity, f->count + 1, sizeof *f->keys);
	if (st == HD_OK)
		st = hd_grow(&f->folds, &f->folds_capacity, f->count + 1, sizeof *f->folds);
	if (st != HD_OK)
		return st;
	snprintf(f->keys[f->count], HD_KEY_BYTES, "%s", csv->fields[key]);
	f->folds[f->count++] = (int)value;
	return HD_OK;
}

hd_status hd_folds_read(hd_folds *f, const char *path)
{
	static const char *const known[] = {"id", "emission", "receiver", "source", "iq", "session"};
	hd_status st;
	hd_csv csv = {0};
	int more;
	size_t fold = SIZE_MAX, key = SIZE_MAX;
	HD_TRY(hd_csv_open(&csv, path));
	HD_TRY(hd_csv_next(&csv, &more));
	for (size_t i = 0; more && i < csv.field_count; i++) {
		if (!strcmp(csv.fields[i], "fold"))
			fold = i;
		else if (key == SIZE_MAX)
			key = i;
	}
	if (fold == SIZE_MAX || key == SIZE_MAX) {
		st = hd_fail(HD_E_DATA,
		        "%s: wants a column 'fold' and one with the session (or another column of the catalogue)",
		        path);
		goto done;
	}
	/* a name that the catalogue does not have ("hour") stands for the session */
	snprintf(f->column, sizeof f->column, "session");
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(csv.fields[key], known[i]))
			snprintf(f->column, sizeof f->column, "%s", known[i]);
	for (;;) {
		HD_TRY(hd_csv_next(&csv, &more));
		if (!more)
			break;
		HD_TRY(fold_row(f, &csv, key, fold));
	}
done:
	hd_csv_close(&csv);
	return st;
}

int hd_folds_find(const hd_folds *f, const hd_recording *r)
{
	char key[HD_KEY_BYTES];
	hd_recording_text(key, r, f->column);
	for (size_t i = 0; i < f->count; i++)
		if (!strcmp(f->keys[i], key))
			return f->folds[i];
	return -1;
}
