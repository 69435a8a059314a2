/* SPDX-License-Identifier: Apache-2.0 */
/* Files written whole or not at all, and folders. Thread-safe for different paths. */
#ifndef HD_COMMON_FILE_H
#define HD_COMMON_FILE_H

#include <stddef.h>

#include "heimdall/status.h"

typedef struct hd_span {
	const void *data;
	size_t bytes;
} hd_span;

/*
 * Writes the spans one after the other to a temporary file beside path, fsyncs it (where durable), renames it
 * over path and fsyncs the folder. On failure HD_E_IO with path and reason; an old file stays untouched.
 */
hd_status hd_file_write(const char *path, const hd_span *spans, size_t count, int durable);

/* Maps a whole file read-only; an empty file gives NULL and 0. Unmap with hd_file_unmap. */
hd_status hd_file_map(const void **data, size_t *bytes, const char *path);
void hd_file_unmap(const void *data, size_t bytes); /* NULL-safe */

/* Like mkdir -p. */
hd_status hd_make_folders(const char *path);

#endif
