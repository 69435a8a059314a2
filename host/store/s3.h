/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of an S3 or MinIO store. One client serves any number of threads; each call takes a connection from its pool
 * and gives it back. Every attempt is signed anew; connection failures, 408, 429, 5xx, SlowDown and their like are
 * tried again after a random wait that doubles, up to the limits of the configuration. Redirects are followed within
 * the store's own host (or Amazon's) alone.
 *
 * Keys are bytes, taken and given as they are ("a b+c%2B=d" is exactly that): nothing is decoded.
 *
 * Errors begin with the object's URL. HD_E_DATA: no such object or bucket, an object that changed while it was read, an
 * answer that is none. HD_E_FAILED: refused by the server. HD_E_IO: not reached, or given up. HD_E_INTERRUPTED: the
 * configuration's stop() said so.
 */
#ifndef HD_STORE_S3_H
#define HD_STORE_S3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "heimdall/status.h"
#include "host/store/s3_config.h"
#include "host/store/s3_xml.h"

#define HD_S3_ETAG 129
#define HD_S3_KEY_MAX 1024 /* bytes */

typedef struct hd_s3 hd_s3;

typedef struct hd_s3_url {
	char *bucket;
	char *key; /* "" for the bucket itself */
} hd_s3_url;

typedef struct hd_s3_object {
	int64_t bytes;         /* of the whole object; -1 after writing it in a way that does not tell */
	char etag[HD_S3_ETAG]; /* as the server writes it, with its quotes */
	time_t modified;       /* 0 where unknown */
} hd_s3_object;

typedef struct hd_s3_put_options {
	const char *content_type; /* NULL: application/octet-stream */
	bool no_overwrite;        /* HD_E_DATA where the object exists */
} hd_s3_put_options;

/* "s3://bucket/key"; the rest of the text is the key, whatever is in it. */
bool hd_s3_is_url(const char *text);
hd_status hd_s3_url_parse(hd_s3_url *out, const char *text);
void hd_s3_url_free(hd_s3_url *url);

/* Takes what *config holds, on failure too, and leaves it empty. */
hd_status hd_s3_open(hd_s3 **out, hd_s3_config *config);
/* No call may be under way. NULL-safe. */
void hd_s3_close(hd_s3 *s);
/* When something came or went last in this thread's transfers, by the clock of hd_now_s; 0: never. */
double hd_s3_moved_s(void);
/* "https://s3.eu-west-1.amazonaws.com": what tells stores apart. */
const char *hd_s3_endpoint(const hd_s3 *s);

hd_status hd_s3_head(hd_s3 *s, hd_s3_object *out, const char *bucket, const char *key);

/*
 * Reads up to `bytes` bytes from `offset` on into out; *got is how many the object has there. etag (or NULL) is the
 * version wanted: HD_E_DATA where the object is another one.
 */
hd_status hd_s3_get_range(hd_s3 *s, void *out, size_t *got, hd_s3_object *object, const char *bucket, const char *key,
        int64_t offset, size_t bytes, const char *etag);

/* Writes the object to a temporary file beside `path`, which takes its place when all of it is there. */
hd_status hd_s3_get_file(hd_s3 *s, hd_s3_object *object, const char *path, const char *bucket, const char *key);

/*
 * Writes the object to an empty file that is open for writing; `name` is for messages. With have_etag (or NULL),
 * *unchanged tells that the object still has that ETag, and nothing was written.
 */
hd_status hd_s3_get_fd(hd_s3 *s, hd_s3_object *object, bool *unchanged, int fd, const char *name, const char *bucket,
        const char *key, const char *have_etag);

/* options may be NULL. A file that is larger than the configuration's single_bytes goes in parts. */
hd_status hd_s3_put_bytes(hd_s3 *s, hd_s3_object *object, const char *bucket, const char *key, const void *data,
        size_t bytes, const hd_s3_put_options *options);
hd_status hd_s3_put_file(hd_s3 *s, hd_s3_object *object, const char *bucket, const char *key, const char *path,
        const hd_s3_put_options *options);

/* An object that is not there is fine. */
hd_status hd_s3_delete(hd_s3 *s, const char *bucket, const char *key);

/* On the server, up to its limit (Amazon: 5 GB). from_etag (or NULL) is the version wanted. */
hd_status hd_s3_copy(hd_s3 *s, hd_s3_object *object, const char *to_bucket, const char *to_key, const char *from_bucket,
        const char *from_key, const char *from_etag);

/* Ends the listing where it returns anything but HD_OK. */
typedef hd_status (*hd_s3_each)(void *context, const hd_s3_listed *item);

/*
 * All keys that begin with prefix (NULL: all), page by page; with a delimiter ("/"; NULL: none) those that have it
 * behind the prefix are given as one common prefix. page_keys 0: as many a page as the server likes.
 */
hd_status hd_s3_list(hd_s3 *s, const char *bucket, const char *prefix, const char *delimiter, int page_keys,
        hd_s3_each each, void *context);

/* A bucket that is there already and lets these keys in is fine. */
hd_status hd_s3_make_bucket(hd_s3 *s, const char *bucket);

#endif
