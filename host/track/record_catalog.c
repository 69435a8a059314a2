/* SPDX-License-Identifier: Apache-2.0 */
/* The recordings that a run saw: catalog.csv. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/data/csv.h"
#include "host/track/record.h"
#include "host/track/record_rows.h"

#define BUFFER_BYTES (1 << 20)

static void put_line(FILE *to, const char *const text[HD_RECORD_COLUMN_COUNT])
{
	for (int k = 0; k < HD_RECORD_COLUMN_COUNT; k++) {
		if (k)
			fputc(',', to);
		hd_csv_put(to, text[k]);
	}
	fputc('\n', to);
}

static hd_status put_rows(FILE *to, const char *path, const hd_dataset *dataset)
{
	hd_status st;
	hd_record_rows rows;
	const hd_record_row *group;
	size_t count;
	HD_TRY(hd_record_rows_open(&rows, dataset));
	put_line(to, hd_record_names);
	do {
		HD_TRY(hd_record_rows_next(&rows, &group, &count));
		for (size_t i = 0; i < count; i++)
			put_line(to, group[i].text);
	} while (count && !ferror(to));
	if (fflush(to) != 0 || ferror(to))
		st = hd_fail(HD_E_IO, "%s: cannot write: %s", path, strerror(errno));
done:
	hd_record_rows_close(&rows);
	return st;
}

hd_status hd_record_catalog(const hd_run *run, const hd_dataset *dataset)
{
	hd_status st;
	char *path = NULL, *buffer = NULL;
	hd_new_file file = {.fd = -1};
	FILE *to = NULL;
	HD_TRY(hd_run_path(&path, run, HD_RECORD_FILE));
	HD_TRY(hd_alloc(&buffer, BUFFER_BYTES, 1));
	HD_TRY(hd_new_file_open(&file, path));
	int copy = dup(file.fd);
	to = copy >= 0 ? fdopen(copy, "w") : NULL;
	if (!to) {
		if (copy >= 0)
			close(copy);
		st = hd_fail(HD_E_IO, "%s: cannot write: %s", path, strerror(errno));
		goto done;
	}
	setvbuf(to, buffer, _IOFBF, BUFFER_BYTES);
	HD_TRY(put_rows(to, path, dataset));
	HD_TRY(hd_new_file_commit(&file, 0));
done:
	if (to)
		fclose(to);
	hd_new_file_close(&file);
	free(buffer);
	free(path);
	return st;
}
