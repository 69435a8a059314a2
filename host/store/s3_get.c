/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading objects. A transfer that breaks goes on where it ended, with Range and If-Match, so that the bytes are of one
 * version; what came is counted against what was announced.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/store/s3_request.h"

#define PROGRESS_BYTES 65536 /* this much more counts as getting on: patience begins anew */

typedef struct download {
	/* where to: a file or memory */
	int fd;
	const char *name;
	char *memory;
	/* what */
	int64_t from;  /* first byte of the object wanted */
	int64_t limit; /* bytes wanted at most; -1: to the end */
	const char *if_match, *unless;
	/* so far */
	hd_s3_object object;
	int64_t want; /* bytes in all; -1 until known */
	int64_t have;
	bool known; /* object is filled */
	bool begun; /* this attempt's headers have been looked at */
} download;

/* The next byte of the object that is wanted. */
static int64_t at(const download *d)
{
	return d->from + d->have;
}

static hd_status changed(const char *before, const char *after)
{
	return hd_fail(
	        HD_E_DATA, "the object changed while it was read (ETag %s, then %s); read it again", before, after);
}

/* The whole object comes although a part was asked for. */
static hd_status from_the_start(download *d)
{
	if (d->from > 0 || d->limit >= 0)
		return hd_fail(HD_E_UNSUPPORTED, "the server does not give parts of objects (Range)");
	if (d->have == 0)
		return HD_OK;
	if (ftruncate(d->fd, 0) != 0 || lseek(d->fd, 0, SEEK_SET) != 0)
		return hd_fail(HD_E_IO, "%s: cannot begin again: %s", d->name, strerror(errno));
	d->have = 0;
	return HD_OK;
}

/* Looks at the headers of a 200 or 206 before its first byte is taken. */
static hd_status begin(download *d, const hd_s3_answer *a)
{
	const char *wanted = d->known ? d->object.etag : d->if_match;
	int64_t total = a->content_bytes;
	d->begun = true;
	if (wanted && strcmp(wanted, a->etag) != 0)
		return changed(wanted, a->etag);
	/* there are servers that answer a part with 200; its Content-Range tells */
	if (a->status == 206 || a->range_from >= 0) {
		if (a->range_from != at(d))
			return hd_fail(HD_E_DATA,
			        "the server gives bytes from %lld on, asked for were those from %lld on",
			        (long long)a->range_from, (long long)at(d));
		total = a->range_total;
	} else {
		hd_status st = from_the_start(d);
		if (st != HD_OK)
			return st;
	}
	if (d->known && d->object.bytes >= 0 && total >= 0 && total != d->object.bytes)
		return hd_fail(HD_E_DATA, "the object had %lld bytes and now has %lld under the same ETag",
		        (long long)d->object.bytes, (long long)total);
	if (!d->known) {
		d->known = true;
		d->object = (hd_s3_object){.bytes = total, .modified = a->modified};
		memcpy(d->object.etag, a->etag, sizeof d->object.etag);
	}
	if (total >= 0)
		d->want = d->limit >= 0 && d->limit < total - d->from ? d->limit : total - d->from;
	return HD_OK;
}

static hd_status write_all(int fd, const char *name, const char *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t wrote = write(fd, data, bytes);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return hd_fail(HD_E_IO, "%s: cannot write: %s", name, strerror(errno));
		data += wrote;
		bytes -= (size_t)wrote;
	}
	return HD_OK;
}

static hd_status take(void *context, const hd_s3_answer *a, const void *data, size_t bytes)
{
	hd_status st = HD_OK;
	download *d = context;
	if (!d->begun)
		HD_TRY(begin(d, a));
	int64_t most = d->want >= 0 ? d->want : d->limit;
	if (most >= 0 && (int64_t)bytes > most - d->have) {
		st = hd_fail(HD_E_DATA, "the server sends more than the %lld bytes it announced", (long long)most);
		goto done;
	}
	if (d->memory)
		memcpy(d->memory + d->have, data, bytes);
	else
		HD_TRY(write_all(d->fd, d->name, data, bytes));
	d->have += (int64_t)bytes;
done:
	return st;
}

static size_t make_headers(hd_pair headers[3], char range[64], const download *d)
{
	size_t n = 0;
	const char *match = d->known ? d->object.etag : d->if_match;
	if (d->limit >= 0) {
		snprintf(range, 64, "bytes=%lld-%lld", (long long)at(d), (long long)(d->from + d->limit - 1));
		headers[n++] = (hd_pair){"Range", range};
	} else if (at(d) > 0) {
		snprintf(range, 64, "bytes=%lld-", (long long)at(d));
		headers[n++] = (hd_pair){"Range", range};
	}
	if (match)
		headers[n++] = (hd_pair){"If-Match", match};
	else if (d->unless)
		headers[n++] = (hd_pair){"If-None-Match", d->unless};
	return n;
}

/* A good answer: complete, or not all of what it announced. */
static bool is_complete(const download *d)
{
	return d->want < 0 || d->have == d->want;
}

static hd_status finish(const hd_s3_call *call, download *d, const hd_s3_answer *a)
{
	if (a->status == 304)
		return HD_OK;
	if (a->status == 416) { /* behind the end: nothing is there */
		d->object = (hd_s3_object){.bytes = a->range_total};
		memcpy(d->object.etag, a->etag, sizeof d->object.etag);
		return HD_OK;
	}
	if (!d->begun) {
		hd_status st = begin(d, a);
		if (st != HD_OK)
			return hd_s3_say_where(st, call);
	}
	if (d->want < 0) /* sent in chunks, whose end is marked */
		d->object.bytes = d->want = d->have;
	return HD_OK;
}

static hd_status bad_answer(hd_s3 *s, const hd_s3_call *call, const download *d, const hd_s3_answer *a)
{
	const char *wanted = d->known ? d->object.etag : d->if_match;
	/* some servers look at the range first: the object has become shorter than what there was of it */
	if ((a->status == 412 && wanted) || (a->status == 416 && d->have > 0))
		return hd_s3_say_where(changed(wanted, "another"), call);
	return hd_s3_failure(s, call, a);
}

static hd_status fetch(hd_s3 *s, bool *unchanged, const char *bucket, const char *key, download *d)
{
	hd_status st;
	hd_s3_answer a = {0};
	hd_s3_patience patience = {0};
	hd_pair headers[3];
	char range[64];
	hd_s3_call call = {.method = "GET",
	        .bucket = bucket,
	        .key = key,
	        .headers = headers,
	        .sink = take,
	        .context = d,
	        .wants_etag = true,
	        .fine = {d->unless ? 304 : 0, d->limit >= 0 ? 416 : 0}};
	HD_TRY(hd_s3_check_names(bucket, key));
	d->want = -1;
	for (;;) {
		int64_t before = d->have;
		call.header_count = make_headers(headers, range, d);
		d->begun = false;
		HD_TRY(hd_s3_attempt(s, &call, &a));
		hd_s3_verdict verdict = hd_s3_judge(&call, &a);
		if (verdict == HD_S3_BAD) {
			st = bad_answer(s, &call, d, &a);
			goto done;
		}
		if (verdict == HD_S3_GOOD)
			HD_TRY(finish(&call, d, &a));
		if (verdict == HD_S3_GOOD && (a.status / 100 != 2 || is_complete(d)))
			break;
		if (d->have >= before + PROGRESS_BYTES)
			patience = (hd_s3_patience){0};
		HD_TRY(hd_s3_wait(s, &call, &a, &patience));
	}
	*unchanged = a.status == 304;
done:
	hd_s3_answer_free(&a);
	return st;
}

hd_status hd_s3_get_range(hd_s3 *s, void *out, size_t *got, hd_s3_object *object, const char *bucket, const char *key,
        int64_t offset, size_t bytes, const char *etag)
{
	bool unchanged;
	download d = {.fd = -1, .memory = out, .from = offset, .limit = (int64_t)bytes, .if_match = etag};
	*got = 0;
	*object = (hd_s3_object){0};
	if (offset < 0 || bytes == 0 || bytes > INT64_MAX / 2)
		return hd_fail(HD_E_USAGE, "s3://%s/%s: a range begins at 0 or later and has a byte", bucket, key);
	hd_status st = fetch(s, &unchanged, bucket, key, &d);
	*object = d.object;
	*got = st == HD_OK ? (size_t)d.have : 0;
	return st;
}

hd_status hd_s3_get_fd(hd_s3 *s, hd_s3_object *object, bool *unchanged, int fd, const char *name, const char *bucket,
        const char *key, const char *have_etag)
{
	download d = {.fd = fd, .name = name, .limit = -1, .unless = have_etag};
	*unchanged = false;
	hd_status st = fetch(s, unchanged, bucket, key, &d);
	*object = d.object;
	return st;
}

hd_status hd_s3_get_file(hd_s3 *s, hd_s3_object *object, const char *path, const char *bucket, const char *key)
{
	hd_status st;
	bool unchanged;
	hd_new_file file = {.fd = -1};
	*object = (hd_s3_object){0};
	HD_TRY(hd_new_file_open(&file, path));
	HD_TRY(hd_s3_get_fd(s, object, &unchanged, file.fd, path, bucket, key, NULL));
	HD_TRY(hd_new_file_commit(&file, false));
done:
	hd_new_file_close(&file);
	return st;
}
