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
 * A file in the making: a temporary one beside `path`, which takes its place at the end. A device or pipe is written to
 * directly.
 */
typedef struct hd_new_file {
	char *path;
	char *temporary; /* NULL for a device or pipe */
	int fd;
} hd_new_file;

hd_status hd_new_file_open(hd_new_file *out, const char *path);
/* Behind what is there. */
hd_status hd_new_file_append(hd_new_file *file, const void *data, size_t bytes);
/* Over what is there, from the file's beginning. */
hd_status hd_new_file_rewrite(hd_new_file *file, const void *data, size_t bytes);
/* Puts it in place; durable: with fsync of the file before and of the folder after. */
hd_status hd_new_file_commit(hd_new_file *file, int durable);
/* Closes; what was not committed is removed. */
void hd_new_file_close(hd_new_file *file);

/*
 * Writes the spans one after the other to a temporary file beside path, fsyncs it (where durable), renames it
 * over path and fsyncs the folder. On failure HD_E_IO with path and reason; an old file stays untouched.
 */
hd_status hd_file_write(const char *path, const hd_span *spans, size_t count, int durable);

/* Maps a whole file read-only; an empty file gives NULL and 0. Unmap with hd_file_unmap. */
hd_status hd_file_map(const void **data, size_t *bytes, const char *path);
void hd_file_unmap(const void *data, size_t bytes); /* NULL-safe */
/* Lets go of a part of a mapped file that is in memory; it comes back where it is read again. */
void hd_file_forget(const void *data, size_t bytes);

/* Copies a file, whole or not at all; durable as in hd_file_write. */
hd_status hd_file_copy(const char *to, const char *from, int durable);

/* Makes a symbolic link, in place of one that is there, in one step. */
hd_status hd_link_replace(const char *path, const char *target);

/* fsync of a folder: its names are on the disk. */
hd_status hd_sync_folder(const char *path);

/* Like mkdir -p. */
hd_status hd_make_folders(const char *path);

#endif
