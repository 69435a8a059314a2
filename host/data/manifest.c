/* SPDX-License-Identifier: Apache-2.0 */
/* The folder catalogue: manifest.csv, one row per recording. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/data/catalog_rows.h"
#include "host/data/csv.h"

#define PLACE_BYTES 4200

static hd_status read_rows(hd_rows *rows, hd_csv *csv)
{
	char place[PLACE_BYTES];
	for (;;) {
		int more;
		hd_status st = hd_csv_next(csv, &more);
		if (st != HD_OK || !more)
			return st;
		snprintf(place, sizeof place, "%s:%zu", csv->path, csv->line);
		for (size_t f = rows->count; f < csv->field_count; f++)
			if (csv->fields[f][0])
				return hd_fail(HD_E_DATA, "%s: %zu fields for %zu columns; a comma inside wants quotes",
				        place, csv->field_count, rows->count);
		const hd_row row = {
		        .place = place, .fields = (const char *const *)csv->fields, .count = csv->field_count};
		st = hd_rows_add(rows, &row);
		if (st != HD_OK)
			return st;
	}
}

hd_status hd_manifest_read(hd_catalog *out, const char *folder, bool assume_approved)
{
	hd_status st;
	char *path = NULL, place[PLACE_BYTES];
	hd_csv csv = {0};
	hd_rows rows = {0};
	int more;
	HD_TRY(hd_sprintf(&path, "%s/" HD_MANIFEST, folder));
	HD_TRY(hd_csv_open(&csv, path));
	HD_TRY(hd_csv_next(&csv, &more));
	if (!more) {
		st = hd_fail(HD_E_DATA, "%s: is empty; its first line names the columns", path);
		goto done;
	}
	snprintf(place, sizeof place, "%s:%zu", path, csv.line);
	HD_TRY(hd_rows_begin(
	        &rows, out, folder, assume_approved, place, (const char *const *)csv.fields, csv.field_count));
	HD_TRY(read_rows(&rows, &csv));
	if (!out->count)
		st = hd_fail(HD_E_DATA, "%s: no recordings", path);
done:
	hd_rows_end(&rows);
	hd_csv_close(&csv);
	free(path);
	return st;
}

static void write_names(FILE *to, json_t *extra_names)
{
	const char *name;
	json_t *value;
	for (int k = 0; k < HD_COLUMN_COUNT; k++)
		fprintf(to, "%s%s", k ? "," : "", hd_column_name((hd_column)k));
	json_object_foreach(extra_names, name, value)
	{
		fputc(',', to);
		hd_csv_put(to, name);
	}
	fputc('\n', to);
}

static hd_status write_row(FILE *to, const hd_recording *r, json_t *extra_names)
{
	const char *name;
	char number[HD_NUMBER_BYTES], *iq;
	json_t *value;
	hd_status st = hd_iq_absolute(&iq, r->iq);
	if (st != HD_OK)
		return st;
	for (int k = 0; k < HD_COLUMN_COUNT; k++) {
		if (k)
			fputc(',', to);
		hd_csv_put(to, k == HD_COLUMN_IQ ? iq : hd_column_text(r, (hd_column)k, number));
	}
	json_t *extra = hd_extra_load(r);
	json_object_foreach(extra_names, name, value)
	{
		const char *text = json_string_value(json_object_get(extra, name));
		fputc(',', to);
		hd_csv_put(to, text ? text : "");
	}
	fputc('\n', to);
	json_decref(extra);
	free(iq);
	return HD_OK;
}

hd_status hd_manifest_write(const char *folder, const hd_catalog *catalog)
{
	hd_status st;
	char *path = NULL, *text = NULL;
	size_t bytes = 0;
	json_t *extra_names = NULL;
	FILE *to = NULL;
	HD_TRY(hd_sprintf(&path, "%s/" HD_MANIFEST, folder));
	HD_TRY(hd_extra_names(&extra_names, catalog));
	to = open_memstream(&text, &bytes);
	if (to) {
		write_names(to, extra_names);
		for (size_t i = 0; i < catalog->count; i++)
			HD_TRY(write_row(to, &catalog->recordings[i], extra_names));
	}
	int failed = !to || ferror(to);
	if (to && fclose(to) != 0)
		failed = 1;
	to = NULL;
	if (failed) {
		st = hd_fail(HD_E_MEMORY, "%s: out of host memory for %zu rows", path, catalog->count);
		goto done;
	}
	const hd_span span = {text, bytes};
	st = hd_file_write(path, &span, 1, 1);
done:
	if (to)
		fclose(to);
	free(text);
	json_decref(extra_names);
	free(path);
	return st;
}
