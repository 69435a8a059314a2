/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in parts. Until the last step the server has no object, only parts; whatever goes wrong, a stop included, the
 * upload is aborted so that nothing stays there (parts cost as much as objects).
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/memory.h"
#include "host/store/s3_request.h"

#define MAX_PARTS 10000
#define MD5_BYTES 16
#define UPLOAD_ID_MAX 2048

typedef struct upload {
	hd_s3 *s;
	const char *bucket, *key, *path;
	int fd;
	int64_t bytes, part_bytes;
	int parts;
	char *id;
	char (*etags)[HD_S3_ETAG];
	unsigned char *md5s; /* of the parts, one after the other: what the whole one's ETag is made of */
} upload;

static hd_status start(upload *u, const hd_s3_put_options *o)
{
	hd_status st;
	hd_s3_answer a = {0};
	hd_pair query = {"uploads", ""};
	hd_pair header = {"Content-Type", o && o->content_type ? o->content_type : "application/octet-stream"};
	hd_s3_call call = {.method = "POST",
	        .bucket = u->bucket,
	        .key = u->key,
	        .query = &query,
	        .query_count = 1,
	        .headers = &header,
	        .header_count = 1};
	HD_TRY(hd_s3_perform(u->s, &call, &a));
	HD_TRY(hd_s3_say_where(hd_s3_xml_text(&u->id, a.body, a.body_bytes, NULL, "UploadId"), &call));
	if (!*u->id || strlen(u->id) > UPLOAD_ID_MAX)
		st = hd_s3_say_where(hd_fail(HD_E_DATA, "the server gives no usable upload id"), &call);
done:
	hd_s3_answer_free(&a);
	return st;
}

static hd_status send_part(upload *u, int index)
{
	hd_status st;
	hd_s3_answer a = {0};
	char number[12], sha256[HD_SHA256_HEX_BYTES], md5[HD_MD5_BASE64];
	unsigned char decoded[24];
	int64_t offset = index * u->part_bytes, left = u->bytes - offset;
	snprintf(number, sizeof number, "%d", index + 1);
	hd_pair query[] = {{"partNumber", number}, {"uploadId", u->id}};
	hd_pair header = {"Content-MD5", md5};
	hd_s3_call call = {.method = "PUT",
	        .bucket = u->bucket,
	        .key = u->key,
	        .query = query,
	        .query_count = 2,
	        .headers = &header,
	        .header_count = 1,
	        .body_fd = u->fd,
	        .body_name = u->path,
	        .body_offset = offset,
	        .body_bytes = left < u->part_bytes ? left : u->part_bytes,
	        .body_sha256 = sha256,
	        .wants_etag = true};
	HD_TRY(hd_file_digests(sha256, md5, u->fd, u->path, offset, call.body_bytes));
	if (EVP_DecodeBlock(decoded, (const unsigned char *)md5, HD_MD5_BASE64 - 1) >= MD5_BYTES)
		memcpy(u->md5s + (size_t)index * MD5_BYTES, decoded, MD5_BYTES);
	HD_TRY(hd_s3_perform(u->s, &call, &a));
	memcpy(u->etags[index], a.etag, HD_S3_ETAG);
done:
	hd_s3_answer_free(&a);
	return st;
}

static void put_escaped(FILE *to, const char *text)
{
	for (; *text; text++) {
		if (*text == '&')
			fputs("&amp;", to);
		else if (*text == '<')
			fputs("&lt;", to);
		else if (*text == '>')
			fputs("&gt;", to);
		else
			fputc(*text, to);
	}
}

static hd_status list_of_parts(char **out, const upload *u)
{
	size_t bytes;
	FILE *to = open_memstream(out, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory");
	fputs("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", to);
	for (int i = 0; i < u->parts; i++) {
		fprintf(to, "<Part><PartNumber>%d</PartNumber><ETag>", i + 1);
		put_escaped(to, u->etags[i]);
		fputs("</ETag></Part>", to);
	}
	fputs("</CompleteMultipartUpload>", to);
	bool bad = ferror(to) != 0;
	return fclose(to) != 0 || bad ? hd_fail(HD_E_MEMORY, "out of host memory") : HD_OK;
}

/* The whole one's ETag where the server makes it as Amazon does: the MD5 of the parts' MD5s, and their number. */
static bool is_our_etag(const upload *u, const char *etag)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	char text[80] = "\"";
	if (EVP_Digest(u->md5s, (size_t)u->parts * MD5_BYTES, hash, NULL, EVP_md5(), NULL) != 1)
		return false;
	for (size_t i = 0; i < MD5_BYTES; i++)
		sprintf(text + 1 + 2 * i, "%02x", hash[i]);
	sprintf(text + 1 + 2 * MD5_BYTES, "-%d\"", u->parts);
	return !strcasecmp(etag, text);
}

/* Its end may have been reached in an attempt whose answer was lost; the upload is gone then and the object is there.
 */
static hd_status was_it_ended(const upload *u, hd_s3_object *object, hd_status st)
{
	char text[2048];
	snprintf(text, sizeof text, "%s", hd_error_text());
	if (hd_s3_head(u->s, object, u->bucket, u->key) == HD_OK && object->bytes == u->bytes &&
	        is_our_etag(u, object->etag))
		return HD_OK;
	return hd_fail(st, "%s", text);
}

/* *ended: the upload is no more, so that there is nothing to abort. */
static hd_status end(upload *u, hd_s3_object *object, const hd_s3_put_options *o, bool *ended)
{
	hd_status st;
	hd_s3_answer a = {0};
	char *body = NULL, sha256[HD_SHA256_HEX_BYTES];
	hd_pair query = {"uploadId", u->id};
	hd_pair headers[] = {{"Content-Type", "application/xml"}, {"If-None-Match", "*"}};
	hd_s3_call call = {.method = "POST",
	        .bucket = u->bucket,
	        .key = u->key,
	        .query = &query,
	        .query_count = 1,
	        .headers = headers,
	        .header_count = o && o->no_overwrite ? 2 : 1,
	        .body_name = "the list of parts",
	        .body_sha256 = sha256,
	        .works_long = true};
	HD_TRY(list_of_parts(&body, u));
	HD_TRY(hd_sha256(sha256, body, strlen(body)));
	call.body = body;
	call.body_bytes = (int64_t)strlen(body);
	st = hd_s3_perform(u->s, &call, &a);
	if (st == HD_OK) {
		*object = (hd_s3_object){.bytes = u->bytes};
		st = hd_s3_say_where(hd_s3_read_etag(object, &a, "CompleteMultipartUploadResult"), &call);
	} else if (a.curl == CURLE_OK && (a.status == 404 || a.status == 412)) {
		st = was_it_ended(u, object, st);
	}
	if (st != HD_OK && a.curl == CURLE_OK && a.status == 412)
		st = hd_fail(HD_E_DATA, "s3://%s/%s: exists already", u->bucket, u->key);
	*ended = st == HD_OK;
done:
	free(body);
	hd_s3_answer_free(&a);
	return st;
}

/* Keeps the error text of what went wrong; an abort that fails is added to it. */
static hd_status abort_upload(upload *u, hd_status st)
{
	hd_s3_answer a = {0};
	char text[2048];
	hd_pair query = {"uploadId", u->id};
	hd_s3_call call = {.method = "DELETE",
	        .bucket = u->bucket,
	        .key = u->key,
	        .query = &query,
	        .query_count = 1,
	        .never_stop = true,
	        .fine = {404}};
	snprintf(text, sizeof text, "%s", hd_error_text());
	bool gone = hd_s3_perform(u->s, &call, &a) == HD_OK;
	hd_s3_answer_free(&a);
	return hd_fail(
	        st, "%s%s", text, gone ? "" : " (and its parts stay on the server: the upload could not be aborted)");
}

hd_status hd_s3_put_parts(hd_s3 *s, hd_s3_object *object, const char *bucket, const char *key, int fd, const char *path,
        int64_t bytes, const hd_s3_put_options *options)
{
	hd_status st;
	bool ended = false;
	upload u = {.s = s, .bucket = bucket, .key = key, .path = path, .fd = fd, .bytes = bytes};
	u.part_bytes = s->config.part_bytes;
	while ((bytes + u.part_bytes - 1) / u.part_bytes > MAX_PARTS)
		u.part_bytes *= 2;
	u.parts = (int)((bytes + u.part_bytes - 1) / u.part_bytes);
	if (options && options->no_overwrite)
		HD_TRY(hd_s3_expect_absent(s, bucket, key));
	HD_TRY(hd_alloc(&u.etags, (size_t)u.parts, sizeof *u.etags));
	HD_TRY(hd_alloc(&u.md5s, (size_t)u.parts, MD5_BYTES));
	HD_TRY(start(&u, options));
	for (int i = 0; i < u.parts; i++)
		HD_TRY(send_part(&u, i));
	HD_TRY(end(&u, object, options, &ended));
done:
	if (st != HD_OK && u.id && !ended)
		st = abort_upload(&u, st);
	free(u.id);
	free(u.md5s);
	free(u.etags);
	return st;
}
