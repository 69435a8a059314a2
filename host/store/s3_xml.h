/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The XML of S3's answers. Names are taken without their name space, for servers differ in it; a document type
 * declaration is refused (entities). Thread-safe.
 */
#ifndef HD_STORE_S3_XML_H
#define HD_STORE_S3_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"

/* Once per process, before the first document; safe to call again and from any thread. */
void hd_s3_xml_begin(void);

typedef struct hd_s3_fault {
	char code[64];     /* "SlowDown" */
	char message[400]; /* the server's words; may repeat keys, see hd_s3_redact */
	char region[65];   /* where the bucket is, if it says so */
} hd_s3_fault;

/* Whether a body is an <Error>; fills *out. Anything else, text that is no XML included, is false. */
bool hd_s3_xml_fault(hd_s3_fault *out, const char *body, size_t bytes);

/*
 * The text of an element under a root of that name ("CopyObjectResult", "ETag"; NULL: of any); HD_E_DATA where the root
 * is another or the element is missing.
 */
hd_status hd_s3_xml_text(char **out, const char *body, size_t bytes, const char *root, const char *element);

typedef struct hd_s3_listed {
	char *key;      /* or the common prefix */
	char *etag;     /* "" of a prefix */
	char *modified; /* as sent: "2009-10-12T17:50:30.000Z" */
	int64_t bytes;
	bool prefix; /* stands for all keys that begin with it */
} hd_s3_listed;

typedef struct hd_s3_page {
	hd_s3_listed *items;
	size_t count, capacity;
	bool truncated;
	char *next; /* continuation token; NULL on the last page */
} hd_s3_page;

hd_status hd_s3_xml_list(hd_s3_page *out, const char *body, size_t bytes);
void hd_s3_page_free(hd_s3_page *page);

#endif
