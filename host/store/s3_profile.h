/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files ~/.aws/credentials and ~/.aws/config: sections of "key = value", where a key without a value may be
 * followed by indented ones ("s3 =" and "  endpoint_url = ..." is the key "s3.endpoint_url"). Freed memory is wiped
 * first, for it holds secrets. Thread-safe for different objects.
 */
#ifndef HD_STORE_S3_PROFILE_H
#define HD_STORE_S3_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "heimdall/status.h"

typedef struct hd_ini_entry {
	char *section;
	char *key; /* "" for the section itself */
	char *value;
} hd_ini_entry;

typedef struct hd_ini {
	char *path;
	bool exists;
	hd_ini_entry *entries;
	size_t count, capacity;
} hd_ini;

/* A file that does not exist gives an empty result; one that cannot be read or parsed is HD_E_IO or HD_E_DATA. */
hd_status hd_ini_read(hd_ini *out, const char *path);
void hd_ini_free(hd_ini *ini);

bool hd_ini_has(const hd_ini *ini, const char *section);
/* NULL where it is not set, or empty. */
const char *hd_ini_get(const hd_ini *ini, const char *section, const char *key);

/* Overwrites a string and frees it; NULL-safe. */
void hd_free_secret(char *text);

#endif
