/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AWS Signature Version 4, as S3 takes it: pure functions over text, nothing is read from the machine.
 * Source: "Signature Calculations for the Authorization Header", Amazon S3 API reference. S3 encodes a path once and
 * never normalises it. Strings are freed with free(). Thread-safe.
 */
#ifndef HD_STORE_SIGV4_H
#define HD_STORE_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "host/common/sha256.h"

#define HD_MD5_BASE64 25      /* with the terminating zero */
#define HD_SIGV4_TIMESTAMP 17 /* "20130524T000000Z" and the terminating zero */
#define HD_SIGV4_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

typedef struct hd_pair {
	const char *name;
	const char *value; /* NULL is "" */
} hd_pair;

typedef struct hd_sigv4_keys {
	const char *access_key;
	const char *secret_key;
} hd_sigv4_keys;

typedef struct hd_sigv4_request {
	const char *method;
	const char *path;       /* as on the wire: percent-encoded, beginning with '/' */
	const char *query;      /* of hd_sigv4_query; NULL is "" */
	const hd_pair *headers; /* those to be signed, "host" among them; names in any case and order */
	size_t header_count;
	const char *payload_sha256; /* hex */
	const char *region;
	const char *service;                /* "s3" */
	char timestamp[HD_SIGV4_TIMESTAMP]; /* of hd_sigv4_timestamp; also sent as x-amz-date */
} hd_sigv4_request;

void hd_sigv4_timestamp(char out[HD_SIGV4_TIMESTAMP], time_t seconds);

/* The canonical query of decoded pairs, encoded and sorted: what is signed and, the same, what is sent. */
hd_status hd_sigv4_query(char **out, const hd_pair *pairs, size_t count);

/* The canonical request, and the names of its headers joined by ';'. */
hd_status hd_sigv4_canonical(char **out, char **signed_headers, const hd_sigv4_request *request);

hd_status hd_sigv4_string_to_sign(char **out, const hd_sigv4_request *request, const char *canonical);

/* The value of the Authorization header. */
hd_status hd_sigv4_authorization(char **out, const hd_sigv4_request *request, const hd_sigv4_keys *keys);

hd_status hd_md5_base64(char out[HD_MD5_BASE64], const void *data, size_t bytes);

/* Digests of `bytes` of a file from `offset` on, both in one reading. HD_E_IO where they end early. */
hd_status hd_file_digests(char sha256[HD_SHA256_HEX_BYTES], char md5[HD_MD5_BASE64], int fd, const char *path,
        long long offset, long long bytes);

#endif
