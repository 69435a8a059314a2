/* SPDX-License-Identifier: Apache-2.0 */
/* One attempt: signing, libcurl's side of it, and the redirects on its way. libcurl's verbose output stays off. */
#include "host/store/s3_request.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/memory.h"
#include "host/common/progress.h"

#define MAX_HOPS 5
#define MAX_HEADERS 16
#define MAX_KEPT_BYTES ((size_t)32 << 20) /* of an answer: a page of 1000 keys is under 4 MB */
#define SLOW_BYTES_PER_S 1000L
#define LONG_WORK_S 600.0

/* What libcurl's callbacks share; they run in the thread of the call. */
typedef struct transfer {
	hd_s3 *s;
	const hd_s3_call *call;
	hd_s3_answer *answer;
	hd_curl_body body;
	hd_status local;  /* what went wrong on this side; its text is set */
	curl_off_t moved; /* bytes both ways, and when they last became more */
	double moved_s, stall_s;
	bool stalled;
} transfer;

void hd_s3_answer_free(hd_s3_answer *a)
{
	free(a->body);
	*a = (hd_s3_answer){0};
}

static void forget_headers(hd_s3_answer *a)
{
	a->status = 0;
	a->etag[0] = a->location[0] = a->region[0] = 0;
	a->content_bytes = a->range_from = a->range_total = -1;
	a->date = a->modified = 0;
	a->skew_s = 0;
	a->retry_after_s = 0;
	a->body_bytes = 0;
	a->has_fault = false;
	a->fault = (hd_s3_fault){0};
}

/* ---- what comes ---- */

/* "bytes 5-9/10", "bytes 5-9/" + "*" where the total is unknown, "bytes " + "*" + "/10" of a range that is none */
static void read_content_range(hd_s3_answer *a, const char *text)
{
	long long from, to, total;
	if (sscanf(text, "bytes %lld-%lld/%lld", &from, &to, &total) == 3) {
		a->range_from = from;
		a->range_total = total;
	} else if (sscanf(text, "bytes %lld-%lld/", &from, &to) == 2) {
		a->range_from = from;
	} else if (sscanf(text, "bytes */%lld", &total) == 1) {
		a->range_total = total;
	}
}

static int small_number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);
	return end == text || value < 0 ? 0 : value > 3600 ? 3600 : (int)value;
}

hd_status hd_s3_take_etag(char out[HD_S3_ETAG], const char *text)
{
	bool quoted = strchr(text, '"') != NULL;
	int used = snprintf(out, HD_S3_ETAG, "%s%s%s", quoted ? "" : "\"", text, quoted ? "" : "\"");
	if (used < HD_S3_ETAG && *text)
		return HD_OK;
	out[0] = 0;
	return *text ? hd_fail(HD_E_DATA, "the server's ETag has %zu characters", strlen(text)) : HD_OK;
}

hd_status hd_s3_read_etag(hd_s3_object *out, const hd_s3_answer *a, const char *root)
{
	char *etag = NULL;
	hd_status st = hd_s3_xml_text(&etag, a->body, a->body_bytes, root, "ETag");
	if (st == HD_OK)
		st = hd_s3_take_etag(out->etag, etag);
	free(etag);
	return st;
}

static hd_status take_field(transfer *t, const char *name, const char *value)
{
	hd_s3_answer *a = t->answer;
	if (!strcasecmp(name, "etag")) {
		return hd_s3_take_etag(a->etag, value);
	} else if (!strcasecmp(name, "content-length")) {
		a->content_bytes = strtoll(value, NULL, 10);
	} else if (!strcasecmp(name, "content-range")) {
		read_content_range(a, value);
	} else if (!strcasecmp(name, "location")) {
		snprintf(a->location, sizeof a->location, "%s", value);
	} else if (!strcasecmp(name, "x-amz-bucket-region")) {
		snprintf(a->region, sizeof a->region, "%s", value);
	} else if (!strcasecmp(name, "retry-after")) {
		a->retry_after_s = small_number(value);
	} else if (!strcasecmp(name, "last-modified")) {
		time_t when = curl_getdate(value, NULL);
		a->modified = when > 0 ? when : 0;
	} else if (!strcasecmp(name, "date")) {
		time_t when = curl_getdate(value, NULL);
		a->date = when > 0 ? when : 0;
		a->skew_s = a->date ? time(NULL) + t->s->config.clock_ahead_s - a->date : 0;
	}
	return HD_OK;
}

static size_t on_header(char *data, size_t one, size_t bytes, void *context)
{
	transfer *t = context;
	char line[2304];
	size_t n = bytes < sizeof line - 1 ? bytes : sizeof line - 1;
	memcpy(line, data, n);
	while (n > 0 && (unsigned char)line[n - 1] <= ' ')
		n--;
	line[n] = 0;
	(void)one;
	if (!strncmp(line, "HTTP/", 5)) { /* the next answer: after 100, or on a repeated connection */
		const char *blank = strchr(line, ' ');
		forget_headers(t->answer);
		t->answer->status = blank ? (int)strtol(blank, NULL, 10) : 0;
		return bytes;
	}
	char *colon = strchr(line, ':');
	if (!colon)
		return bytes;
	*colon = 0;
	t->local = take_field(t, line, colon + 1 + strspn(colon + 1, " \t"));
	return t->local == HD_OK ? bytes : 0;
}

static hd_status keep(hd_s3_answer *a, const char *data, size_t bytes)
{
	if (a->body_bytes + bytes > MAX_KEPT_BYTES)
		return hd_fail(HD_E_DATA, "the server's answer is longer than %zu MiB", MAX_KEPT_BYTES >> 20);
	hd_status st = hd_grow(&a->body, &a->body_capacity, a->body_bytes + bytes + 1, 1);
	if (st != HD_OK)
		return st;
	memcpy(a->body + a->body_bytes, data, bytes);
	a->body_bytes += bytes;
	a->body[a->body_bytes] = 0;
	return HD_OK;
}

static size_t on_body(char *data, size_t one, size_t bytes, void *context)
{
	transfer *t = context;
	hd_s3_answer *a = t->answer;
	/* an answer without an ETag is no object, whatever its status says: a server's <Error>, or a proxy's page */
	bool object = t->call->sink && a->status / 100 == 2 && (a->etag[0] || !t->call->wants_etag);
	(void)one;
	t->local = object ? t->call->sink(t->call->context, a, data, bytes) : keep(a, data, bytes);
	return t->local == HD_OK ? bytes : 0;
}

/* ---- how it goes ---- */

static _Thread_local double moved_here_s;

double hd_s3_moved_s(void)
{
	return moved_here_s;
}

/* Called all through a transfer, and once a second while nothing moves. Not 0 ends it. */
static int on_progress(void *context, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
	transfer *t = context;
	double now = hd_now_s();
	(void)down_all;
	(void)up_all;
	if (down + up != t->moved || t->moved_s == 0) {
		t->moved = down + up;
		t->moved_s = moved_here_s = now;
	}
	/* libcurl's own limit is on a mean over seconds, in which what came before hides a standstill */
	t->stalled = now - t->moved_s > t->stall_s;
	return t->stalled || (!t->call->never_stop && t->s->config.stop && t->s->config.stop());
}

/* ---- headers and signature ---- */

typedef struct headers {
	hd_pair pairs[MAX_HEADERS];
	size_t count;
	struct curl_slist *list; /* as libcurl takes them */
	char timestamp[HD_SIGV4_TIMESTAMP];
} headers;

static hd_status add_pair(headers *h, const char *name, const char *value)
{
	for (const char *c = value; *c; c++) {
		if ((unsigned char)*c < ' ' || *c == 127)
			return hd_fail(HD_E_USAGE, "the header %s would have a control character in it", name);
	}
	if (h->count == MAX_HEADERS)
		return hd_fail(HD_E_FAILED, "more than %d headers", MAX_HEADERS);
	h->pairs[h->count++] = (hd_pair){name, value};
	return HD_OK;
}

static hd_status add_line(headers *h, const char *name, const char *value)
{
	hd_status st;
	char *line = NULL;
	HD_TRY(hd_sprintf(&line, "%s: %s", name, value));
	struct curl_slist *longer = curl_slist_append(h->list, line);
	if (longer)
		h->list = longer;
	else
		st = hd_fail(HD_E_MEMORY, "out of host memory");
done:
	if (line)
		OPENSSL_cleanse(line, strlen(line));
	free(line);
	return st;
}

static void free_headers(headers *h)
{
	for (struct curl_slist *line = h->list; line; line = line->next)
		OPENSSL_cleanse(line->data, strlen(line->data));
	curl_slist_free_all(h->list);
}

static hd_status add_authorization(headers *h, const hd_s3 *s, const hd_s3_call *c, const hd_s3_target *t)
{
	hd_status st;
	char *authorization = NULL;
	hd_sigv4_request request = {.method = c->method,
	        .path = t->path,
	        .query = t->query,
	        .headers = h->pairs,
	        .header_count = h->count,
	        .payload_sha256 = c->body_sha256 ? c->body_sha256 : HD_SIGV4_EMPTY_SHA256,
	        .region = t->region,
	        .service = "s3"};
	hd_sigv4_keys keys = {s->config.access_key, s->config.secret_key};
	memcpy(request.timestamp, h->timestamp, sizeof request.timestamp);
	HD_TRY(hd_sigv4_authorization(&authorization, &request, &keys));
	HD_TRY(add_line(h, "Authorization", authorization));
done:
	if (authorization)
		OPENSSL_cleanse(authorization, strlen(authorization));
	free(authorization);
	return st;
}

static hd_status make_headers(headers *h, const hd_s3 *s, const hd_s3_call *c, const hd_s3_target *t)
{
	hd_status st;
	HD_TRY(add_pair(h, "Host", t->host));
	if (!s->config.anonymous) {
		hd_sigv4_timestamp(h->timestamp, time(NULL) + s->config.clock_ahead_s);
		HD_TRY(add_pair(h, "x-amz-date", h->timestamp));
		if (s->config.session_token)
			HD_TRY(add_pair(h, "x-amz-security-token", s->config.session_token));
		HD_TRY(add_pair(h, "x-amz-content-sha256", c->body_sha256 ? c->body_sha256 : HD_SIGV4_EMPTY_SHA256));
	}
	for (size_t i = 0; i < c->header_count; i++)
		HD_TRY(add_pair(h, c->headers[i].name, c->headers[i].value));
	if (!s->config.anonymous)
		HD_TRY(add_authorization(h, s, c, t));
	for (size_t i = 0; i < h->count; i++)
		HD_TRY(add_line(h, h->pairs[i].name, h->pairs[i].value));
	/* without it libcurl waits a second for servers that do not know 100-continue */
	HD_TRY(add_line(h, "Expect", ""));
done:
	return st;
}

/* ---- one request ---- */

static void set_body(CURL *curl, const hd_s3_call *c, transfer *t)
{
	if (!strcmp(c->method, "HEAD")) {
		curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
		return;
	}
	/* a PUT or POST of nothing says so too: Content-Length: 0 */
	if (c->body_sha256 || c->method[0] == 'P') {
		t->body = (hd_curl_body){.data = c->body,
		        .fd = c->body_fd,
		        .offset = c->body_offset,
		        .name = c->body_name,
		        .bytes = c->body_bytes};
		hd_curl_send(curl, &t->body);
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, c->method);
}

static void set_limits(CURL *curl, const hd_s3_config *config, transfer *t)
{
	t->stall_s = t->call->works_long && config->stall_s < LONG_WORK_S ? LONG_WORK_S : config->stall_s;
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(config->connect_s * 1000));
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES_PER_S);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, t->stall_s < 1 ? 1L : (long)t->stall_s);
}

static void set_safety(CURL *curl, const hd_s3_config *config)
{
	hd_curl_guard(curl);
	curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L); /* a proxy's answer is not the store's */
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
	if (config->ca_bundle)
		curl_easy_setopt(curl, CURLOPT_CAINFO, config->ca_bundle);
}

static void set_callbacks(CURL *curl, transfer *t)
{
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, t->answer->curl_text);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 524288L);
}

static hd_status send_to(hd_s3 *s, const hd_s3_call *c, const hd_s3_target *t, hd_s3_answer *a, CURL *curl)
{
	hd_status st;
	char *url = NULL;
	headers h = {0};
	hd_curl_quiet quiet;
	transfer way = {.s = s, .call = c, .answer = a};
	forget_headers(a);
	a->curl_text[0] = 0;
	HD_TRY(hd_sprintf(&url, "%s://%s%s%s%s", t->scheme, t->host, t->path, *t->query ? "?" : "", t->query));
	HD_TRY(make_headers(&h, s, c, t));
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L); /* "." and ".." are keys like others */
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, h.list);
	set_safety(curl, &s->config);
	set_limits(curl, &s->config, &way);
	set_callbacks(curl, &way);
	set_body(curl, c, &way);
	hd_curl_quiet_begin(&quiet);
	a->curl = curl_easy_perform(curl);
	hd_curl_quiet_end(&quiet);
	if (way.local != HD_OK || way.body.status != HD_OK) {
		st = way.local != HD_OK ? way.local : way.body.status;
	} else if (way.stalled && a->curl == CURLE_ABORTED_BY_CALLBACK) {
		a->curl = CURLE_OPERATION_TIMEDOUT;
		snprintf(a->curl_text, sizeof a->curl_text, "nothing came for %.0f s", way.stall_s);
	} else if (a->curl == CURLE_ABORTED_BY_CALLBACK) {
		st = hd_fail(HD_E_INTERRUPTED, "interrupted");
	} else if (a->curl == CURLE_OUT_OF_MEMORY) {
		st = hd_fail(HD_E_MEMORY, "out of host memory");
	}
done:
	free_headers(&h);
	free(url);
	return st;
}

hd_status hd_s3_attempt(hd_s3 *s, const hd_s3_call *c, hd_s3_answer *a)
{
	hd_status st;
	hd_s3_target t = {0};
	hd_s3_line *line = NULL;
	HD_TRY(hd_s3_line_take(&line, s));
	HD_TRY(hd_s3_aim(&t, s, c));
	for (int hop = 0;; hop++) {
		HD_TRY(send_to(s, c, &t, a, line->curl));
		if (!a->has_fault)
			a->has_fault = hd_s3_xml_fault(&a->fault, a->body, a->body_bytes);
		if (a->curl != CURLE_OK || !hd_s3_is_moved(&t, a))
			break;
		if (hop == MAX_HOPS) {
			st = hd_fail(HD_E_FAILED, "redirected %d times in a row", MAX_HOPS);
			goto done;
		}
		HD_TRY(hd_s3_follow(&t, s, c, a));
	}
done:
	hd_s3_target_free(&t);
	hd_s3_line_give(s, line);
	return hd_s3_say_where(st, c);
}
