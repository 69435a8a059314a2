/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where files come from: a path, a file:// URL, or an s3:// URL, whose object is fetched into a cache on disk. One
 * store serves any number of threads. The S3 client is made at the first s3:// URL, so that without one nobody is asked
 * for keys.
 */
#ifndef HD_STORE_STORE_H
#define HD_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "heimdall/status.h"
#include "host/store/s3.h"

typedef struct hd_store hd_store;

/* All of it is copied. */
typedef struct hd_store_settings {
	hd_s3_settings flags, file; /* see hd_s3_config_resolve */
	const char *cache_folder;   /* NULL: $XDG_CACHE_HOME/heimdall/objects, else ~/.cache/heimdall/objects */
	int64_t cache_bytes;        /* 0: HD_STORE_CACHE_BYTES; negative: no limit */
	bool (*stop)(void);         /* asked during transfers and waits; NULL: never. hd_stop_requested is one */
} hd_store_settings;

#define HD_STORE_CACHE_BYTES ((int64_t)20 << 30)

/* A file to read. It stays where it is until hd_store_release. */
typedef struct hd_store_file {
	char *path;    /* on this machine */
	char *version; /* the object's ETag without quotes; NULL of a file of one's own */
	int fd;        /* the lock on the copy; -1 without one */
} hd_store_file;

hd_status hd_store_open(hd_store **out, const hd_store_settings *settings);
/* No call may be under way, and every file is released. NULL-safe. */
void hd_store_close(hd_store *store);

/* Whether a location is not a path: s3:// or file://. */
bool hd_store_is_url(const char *location);

/*
 * Gives a file for the location. Of an object the version is asked for every time (one request, conditional on the copy
 * there is), so that a changed object is never taken from the cache. HD_E_DATA: no such object; HD_E_UNSUPPORTED: a URL
 * of another kind. A path is given back as it is, whether or not something is there.
 */
hd_status hd_store_fetch(hd_store *store, hd_store_file *out, const char *location);
/* Of what hd_store_fetch filled, once or more often. */
void hd_store_release(hd_store_file *file);

/* Writes a file to a location; s3:// and file:// URLs and paths. With no_overwrite HD_E_DATA where something is there.
 */
hd_status hd_store_put(hd_store *store, const char *location, const char *path, bool no_overwrite);

/* The client, for listings and the like; made where there was none. It is the store's. */
hd_status hd_store_s3(hd_s3 **out, hd_store *store);

#endif
