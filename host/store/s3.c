/* SPDX-License-Identifier: Apache-2.0 */
/* The short calls: HEAD, DELETE, copies, buckets. */
#include "host/common/text.h"
#include "host/store/s3.h"

#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/store/s3_request.h"

static void take_object(hd_s3_object *out, const hd_s3_answer *a)
{
	*out = (hd_s3_object){.bytes = a->content_bytes, .modified = a->modified};
	memcpy(out->etag, a->etag, sizeof out->etag);
}

/* The answer to a HEAD has no body and so no reason; a GET of the first byte has. True: it failed too, with its reason.
 */
static bool ask_why(hd_status *st, hd_s3 *s, const hd_s3_call *head)
{
	hd_s3_answer a;
	hd_s3_call get = *head;
	hd_pair range = {"Range", "bytes=0-0"};
	get.method = "GET";
	get.headers = &range;
	get.header_count = 1;
	get.fine[0] = 416; /* an empty object */
	hd_status why = hd_s3_perform(s, &get, &a);
	hd_s3_answer_free(&a);
	if (why != HD_OK)
		*st = why;
	return why != HD_OK;
}

hd_status hd_s3_head(hd_s3 *s, hd_s3_object *out, const char *bucket, const char *key)
{
	hd_status st;
	hd_s3_answer a = {0};
	hd_s3_call call = {.method = "HEAD", .bucket = bucket, .key = key, .wants_etag = true};
	*out = (hd_s3_object){0};
	HD_TRY(hd_s3_check_names(bucket, key));
	st = hd_s3_perform(s, &call, &a);
	if (st != HD_OK) {
		char text[2048];
		strncpy(text, hd_error_text(), sizeof text - 1);
		text[sizeof text - 1] = 0;
		if (a.curl != CURLE_OK || a.status / 100 != 4 || !ask_why(&st, s, &call))
			hd_fail(st, "%s", text);
		goto done;
	}
	if (a.content_bytes < 0)
		st = hd_s3_say_where(hd_fail(HD_E_DATA, "%s does not tell its size", s->endpoint), &call);
	take_object(out, &a);
done:
	hd_s3_answer_free(&a);
	return st;
}

hd_status hd_s3_delete(hd_s3 *s, const char *bucket, const char *key)
{
	hd_status st;
	hd_s3_answer a = {0};
	hd_s3_call call = {.method = "DELETE", .bucket = bucket, .key = key};
	HD_TRY(hd_s3_check_names(bucket, key));
	st = hd_s3_perform(s, &call, &a);
	if (st == HD_E_DATA && a.status == 404 && strcmp(a.fault.code, "NoSuchBucket") != 0)
		st = HD_OK;
done:
	hd_s3_answer_free(&a);
	return st;
}

hd_status hd_s3_copy(hd_s3 *s, hd_s3_object *object, const char *to_bucket, const char *to_key, const char *from_bucket,
        const char *from_key, const char *from_etag)
{
	hd_status st;
	char *encoded = NULL, *source = NULL;
	hd_s3_answer a = {0};
	*object = (hd_s3_object){.bytes = -1};
	HD_TRY(hd_s3_check_names(to_bucket, to_key));
	HD_TRY(hd_s3_check_names(from_bucket, from_key));
	HD_TRY(hd_percent_encode(&encoded, from_key, true));
	HD_TRY(hd_sprintf(&source, "/%s/%s", from_bucket, encoded));
	hd_pair headers[] = {{"x-amz-copy-source", source}, {"x-amz-copy-source-if-match", from_etag}};
	hd_s3_call call = {.method = "PUT",
	        .bucket = to_bucket,
	        .key = to_key,
	        .headers = headers,
	        .header_count = from_etag ? 2 : 1,
	        .works_long = true};
	HD_TRY(hd_s3_perform(s, &call, &a));
	st = hd_s3_say_where(hd_s3_read_etag(object, &a, "CopyObjectResult"), &call);
done:
	hd_s3_answer_free(&a);
	free(source);
	free(encoded);
	return st;
}

hd_status hd_s3_make_bucket(hd_s3 *s, const char *bucket)
{
	hd_status st;
	char *body = NULL, sha256[HD_SHA256_HEX_BYTES];
	hd_s3_answer a = {0};
	hd_s3_call call = {.method = "PUT", .bucket = bucket};
	HD_TRY(hd_s3_check_names(bucket, NULL));
	/* Amazon's first region has no name here; servers of one's own have no regions */
	if (!s->host && strcmp(s->region, "us-east-1") != 0) {
		HD_TRY(hd_sprintf(&body,
		        "<CreateBucketConfiguration "
		        "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>%s"
		        "</LocationConstraint></CreateBucketConfiguration>",
		        s->region));
		HD_TRY(hd_sha256(sha256, body, strlen(body)));
		call.body = body;
		call.body_bytes = (int64_t)strlen(body);
		call.body_sha256 = sha256;
	}
	st = hd_s3_perform(s, &call, &a);
	if (st != HD_OK && a.status == 409 && !strcmp(a.fault.code, "BucketAlreadyOwnedByYou")) {
		st = HD_OK;
	} else if (st != HD_OK && a.status == 409 && !strcmp(a.fault.code, "BucketAlreadyExists")) {
		/* whose it is, not every server knows; one that lets us in will do */
		hd_s3_answer_free(&a);
		call = (hd_s3_call){.method = "HEAD", .bucket = bucket};
		st = hd_s3_perform(s, &call, &a);
	}
done:
	hd_s3_answer_free(&a);
	free(body);
	return st;
}
