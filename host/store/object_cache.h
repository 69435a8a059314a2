/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of objects on disk, by store, bucket, key and ETag. A copy that is in use is locked (flock) and stays; of the
 * others the ones that were used longest ago go when the folder grows over its limit. Any number of threads and
 * processes may share a folder: a file gets its name when all of it is there, and its name has its size, so that one
 * cut short by a crash of the machine is not taken for a copy. Names hold a hash of the URL, never keys to sign with.
 */
#ifndef HD_STORE_OBJECT_CACHE_H
#define HD_STORE_OBJECT_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "heimdall/status.h"

typedef struct hd_object_cache hd_object_cache;

/* What tells objects apart. Strings are borrowed. */
typedef struct hd_object_name {
	const char *endpoint, *bucket, *key;
} hd_object_name;

/* A copy in use; nobody removes it before hd_cached_release. */
typedef struct hd_cached {
	char *path; /* NULL: there is none */
	char *etag; /* as the server wrote it */
	int fd;
} hd_cached;

/* A copy in the making, locked; its file is empty at first. */
typedef struct hd_caching {
	hd_object_cache *cache;
	hd_object_name name;
	char *path;
	int fd;
} hd_caching;

/* limit_bytes: of all copies together; 0 keeps only what is in use; negative: no limit. */
hd_status hd_object_cache_open(hd_object_cache **out, const char *folder, int64_t limit_bytes);
/* Removes what is over the limit. NULL-safe. */
void hd_object_cache_close(hd_object_cache *cache);

/* The newest copy of any version; out->path is NULL where there is none. */
hd_status hd_object_cache_find(hd_object_cache *cache, hd_cached *out, const hd_object_name *name);
/* Of what a call here filled, once or more often. */
void hd_cached_release(hd_cached *cached);

hd_status hd_object_cache_begin(hd_object_cache *cache, hd_caching *out, const hd_object_name *name);
/* Gives the file its name and hands it out; *making is done with. Others may have put the same there meanwhile. */
hd_status hd_object_cache_commit(hd_caching *making, hd_cached *out, const char *etag);
/* Removes what is not committed. */
void hd_object_cache_drop(hd_caching *making);

/* Brings the folder under its limit, as far as copies are not in use. Commits call it when it is due. */
hd_status hd_object_cache_trim(hd_object_cache *cache);

#endif
