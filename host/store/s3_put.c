/* SPDX-License-Identifier: Apache-2.0 */
/* Writing objects in one piece. The server checks what comes against SHA-256 (which is signed) and MD5. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/store/s3_request.h"

#define MAX_HEADERS 3

static const char *content_type(const hd_s3_put_options *o)
{
	return o && o->content_type ? o->content_type : "application/octet-stream";
}

static hd_status exists_already(const char *bucket, const char *key)
{
	return hd_fail(HD_E_DATA, "s3://%s/%s: exists already", bucket, key);
}

hd_status hd_s3_expect_absent(hd_s3 *s, const char *bucket, const char *key)
{
	hd_s3_answer a;
	hd_s3_call call = {.method = "HEAD", .bucket = bucket, .key = key, .fine = {404}};
	hd_status st = hd_s3_perform(s, &call, &a);
	if (st == HD_OK && a.status != 404)
		st = exists_already(bucket, key);
	hd_s3_answer_free(&a);
	return st;
}

/* Whether an ETag is that MD5 (base64) in hexadecimal digits. */
static bool is_md5(const char *etag, const char *md5_base64)
{
	unsigned char hash[24];
	char hex[40] = "\"";
	if (EVP_DecodeBlock(hash, (const unsigned char *)md5_base64, 24) != 18)
		return false;
	for (size_t i = 0; i < 16; i++)
		sprintf(hex + 1 + 2 * i, "%02x", hash[i]);
	strcat(hex, "\"");
	return !strcasecmp(etag, hex);
}

/*
 * A PUT that must not overwrite, and finds an object that was not there a moment ago, may have found its own: an
 * earlier attempt whose answer was lost (libcurl makes one by itself where a kept connection turns out to be closed).
 */
static hd_status was_it_ours(hd_s3 *s, hd_s3_object *object, const hd_s3_call *call, const char *md5)
{
	hd_s3_object there;
	if (hd_s3_head(s, &there, call->bucket, call->key) == HD_OK && is_md5(there.etag, md5) &&
	        there.bytes == call->body_bytes) {
		*object = there;
		return HD_OK;
	}
	return exists_already(call->bucket, call->key);
}

/* call has its body; adds what every PUT has. */
static hd_status put(hd_s3 *s, hd_s3_object *object, hd_s3_call *call, const char *md5, const hd_s3_put_options *o)
{
	hd_status st;
	hd_s3_answer a = {0};
	hd_pair headers[MAX_HEADERS] = {
	        {"Content-Type", content_type(o)}, {"Content-MD5", md5}, {"If-None-Match", "*"}};
	*object = (hd_s3_object){.bytes = -1};
	if (o && o->no_overwrite)
		HD_TRY(hd_s3_expect_absent(s, call->bucket, call->key));
	call->method = "PUT";
	call->wants_etag = true;
	call->headers = headers;
	call->header_count = o && o->no_overwrite ? 3 : 2;
	st = hd_s3_perform(s, call, &a);
	if (st != HD_OK && call->header_count == 3 && a.curl == CURLE_OK && a.status == 501) {
		/* a server that does not know the condition; that nothing was there has been seen */
		hd_s3_answer_free(&a);
		call->header_count = 2;
		st = hd_s3_perform(s, call, &a);
	}
	if (st != HD_OK && call->header_count == 3 && a.curl == CURLE_OK && a.status == 412) {
		st = was_it_ours(s, object, call, md5);
		goto done;
	}
	if (st == HD_OK) {
		object->bytes = call->body_bytes;
		memcpy(object->etag, a.etag, sizeof object->etag);
	}
done:
	hd_s3_answer_free(&a);
	return st;
}

hd_status hd_s3_put_bytes(hd_s3 *s, hd_s3_object *object, const char *bucket, const char *key, const void *data,
        size_t bytes, const hd_s3_put_options *options)
{
	hd_status st;
	char sha256[HD_SHA256_HEX_BYTES], md5[HD_MD5_BASE64];
	hd_s3_call call = {.bucket = bucket,
	        .key = key,
	        .body = data ? data : "",
	        .body_name = "memory",
	        .body_bytes = (int64_t)bytes,
	        .body_sha256 = sha256};
	HD_TRY(hd_s3_check_names(bucket, key));
	HD_TRY(hd_sha256(sha256, call.body, bytes));
	HD_TRY(hd_md5_base64(md5, call.body, bytes));
	HD_TRY(put(s, object, &call, md5, options));
done:
	return st;
}

static hd_status put_whole_file(hd_s3 *s, hd_s3_object *object, const char *bucket, const char *key, int fd,
        const char *path, int64_t bytes, const hd_s3_put_options *options)
{
	char sha256[HD_SHA256_HEX_BYTES], md5[HD_MD5_BASE64];
	hd_s3_call call = {.bucket = bucket,
	        .key = key,
	        .body_fd = fd,
	        .body_name = path,
	        .body_bytes = bytes,
	        .body_sha256 = sha256};
	hd_status st = hd_file_digests(sha256, md5, fd, path, 0, bytes);
	return st == HD_OK ? put(s, object, &call, md5, options) : st;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

hd_status hd_s3_put_file(hd_s3 *s, hd_s3_object *object, const char *bucket, const char *key, const char *path,
        const hd_s3_put_options *options)
{
	hd_status st;
	struct stat before, after;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	*object = (hd_s3_object){.bytes = -1};
	if (fd < 0 || fstat(fd, &before) != 0) {
		st = hd_fail(HD_E_IO, "%s: cannot open: %s", path, strerror(errno));
		goto done;
	}
	HD_TRY(hd_s3_check_names(bucket, key));
	if (!S_ISREG(before.st_mode)) {
		st = hd_fail(HD_E_IO, "%s: not a regular file", path);
		goto done;
	}
	if (before.st_size > s->config.single_bytes)
		HD_TRY(hd_s3_put_parts(s, object, bucket, key, fd, path, before.st_size, options));
	else
		HD_TRY(put_whole_file(s, object, bucket, key, fd, path, before.st_size, options));
	if (fstat(fd, &after) != 0 || !same_file(&before, &after))
		st = hd_fail(HD_E_IO, "%s: changed while it was sent to s3://%s/%s; send it again", path, bucket, key);
done:
	if (fd >= 0)
		close(fd);
	return st;
}
