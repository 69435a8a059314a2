/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/csv.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"

hd_status hd_csv_open(hd_csv *out, const char *path)
{
	hd_status st;
	const void *map = NULL;
	size_t bytes = 0;
	*out = (hd_csv){.path = path, .line = 0};
	HD_TRY(hd_file_map(&map, &bytes, path));
	HD_TRY(hd_alloc(&out->text, bytes + 1, 1));
	if (bytes)
		memcpy(out->text, map, bytes);
	out->at = out->text;
	out->end = out->text + bytes;
	if (bytes >= 3 && !memcmp(out->text, "\xef\xbb\xbf", 3))
		out->at += 3;
done:
	hd_file_unmap(map, bytes);
	return st;
}

void hd_csv_close(hd_csv *csv)
{
	if (!csv)
		return;
	free(csv->fields);
	free(csv->text);
	*csv = (hd_csv){0};
}

/* One field from csv->at, cut in place; *last tells whether the row ends behind it. */
static hd_status take_field(hd_csv *csv, size_t *lines, int *last)
{
	hd_status st = hd_grow(&csv->fields, &csv->field_capacity, csv->field_count + 1, sizeof *csv->fields);
	if (st != HD_OK)
		return st;
	char *in = csv->at, *out = csv->at;
	csv->fields[csv->field_count++] = out;
	if (in < csv->end && *in == '"') {
		in++;
		for (;; in++) {
			if (in >= csv->end)
				return hd_fail(HD_E_DATA, "%s:%zu: a quote is never closed", csv->path, csv->line);
			if (*in == '"') {
				if (in + 1 >= csv->end || in[1] != '"')
					break;
				in++;
			}
			*lines += *in == '\n';
			*out++ = *in;
		}
		in++;
	}
	while (in < csv->end && *in != ',' && *in != '\n' && *in != '\r')
		*out++ = *in++;
	*last = in >= csv->end || *in != ',';
	if (in < csv->end && *in == '\r')
		in++;
	if (in < csv->end && (*in == '\n' || *in == ','))
		in++;
	*out = 0;
	csv->at = in;
	return HD_OK;
}

hd_status hd_csv_next(hd_csv *csv, int *more)
{
	do {
		csv->field_count = 0;
		csv->line += 1 + csv->inner_lines; /* where this row starts */
		csv->inner_lines = 0;
		*more = csv->at < csv->end;
		for (int last = !*more; !last;) {
			hd_status st = take_field(csv, &csv->inner_lines, &last);
			if (st != HD_OK)
				return st;
		}
	} while (*more && csv->field_count == 1 && !csv->fields[0][0]);
	return HD_OK;
}

void hd_csv_put(FILE *to, const char *text)
{
	size_t length = strlen(text);
	bool blank = length && (text[0] == ' ' || text[length - 1] == ' ');
	if (!blank && !strpbrk(text, ",\"\r\n")) {
		fputs(text, to);
		return;
	}
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', to);
		fputc(*text, to);
	}
	fputc('"', to);
}
