/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's verbose output stays off: it would show keys. */
#include "host/track/mlflow_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/curl.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/text.h"
#include "host/common/wait.h"
#include "host/track/mlflow_address.h"

#define API "/api/2.0/mlflow/"
#define ARTIFACTS "/api/2.0/mlflow-artifacts/artifacts"
#define CONNECT_S 10.0
#define STALL_S 60.0
#define LONG_WORK_S 600.0 /* a server that has got a large file may put it elsewhere before it answers */
#define MAX_KEPT_BYTES ((size_t)32 << 20)
#define EXPECT_BYTES ((int64_t)1 << 20) /* from here on a refusal comes before the bytes go */
#define RETRY_AFTER_MOST_S 300.0
#define FIRST_WAIT_S 0.5
#define LONGEST_WAIT_S 10.0

struct hd_mlflow {
	hd_mlflow_address address;
	CURL *curl;
	bool (*stop)(void);
	double moved_s;
};

/* What libcurl's callbacks share; they run in the thread of the call. */
typedef struct transfer {
	hd_mlflow *client;
	hd_mlflow_answer *answer;
	char *got; /* the answer's body */
	size_t got_bytes, got_capacity;
	const char *what;  /* "runs/create", for messages */
	hd_curl_body file; /* that goes; fd -1: none */
	hd_status local;   /* what went wrong on this side; its text is set */
	curl_off_t moved;  /* bytes both ways */
	double moved_s;
	bool stalled, stopped;
	char text[CURL_ERROR_SIZE];
	char location[512];
} transfer;

void hd_mlflow_answer_free(hd_mlflow_answer *a)
{
	if (!a)
		return;
	json_decref(a->body);
	*a = (hd_mlflow_answer){0};
}

hd_status hd_mlflow_open(hd_mlflow **out, const char *uri)
{
	hd_status st;
	hd_mlflow *c = NULL;
	*out = NULL;
	HD_TRY(hd_alloc(&c, 1, sizeof *c));
	HD_TRY(hd_mlflow_address_read(&c->address, uri));
	HD_TRY(hd_curl_open(&c->curl));
	*out = c;
	c = NULL;
done:
	hd_mlflow_close(c);
	return st;
}

void hd_mlflow_close(hd_mlflow *c)
{
	hd_curl_quiet quiet;
	if (!c)
		return;
	hd_curl_quiet_begin(&quiet); /* closing says good-bye to the other side */
	if (c->curl)
		curl_easy_cleanup(c->curl);
	hd_curl_quiet_end(&quiet);
	hd_mlflow_address_free(&c->address);
	free(c);
}

const char *hd_mlflow_shown(const hd_mlflow *c)
{
	return c->address.base;
}

void hd_mlflow_stop_by(hd_mlflow *c, bool (*stop)(void))
{
	c->stop = stop;
}

double hd_mlflow_moved_s(const hd_mlflow *c)
{
	return c->moved_s;
}

/* ---- libcurl's side ---- */

static size_t on_header(char *data, size_t one, size_t bytes, void *context)
{
	transfer *t = context;
	char line[600];
	size_t n = bytes < sizeof line - 1 ? bytes : sizeof line - 1;
	(void)one;
	memcpy(line, data, n);
	while (n > 0 && (unsigned char)line[n - 1] <= ' ')
		n--;
	line[n] = 0;
	if (!strncasecmp(line, "retry-after:", 12)) {
		double seconds = strtod(line + 12, NULL);
		t->answer->retry_after_s = seconds >= 0 && seconds < RETRY_AFTER_MOST_S ? seconds : RETRY_AFTER_MOST_S;
	} else if (!strncasecmp(line, "location:", 9)) {
		snprintf(t->location, sizeof t->location, "%s", line + 9 + strspn(line + 9, " \t"));
	}
	return bytes;
}

static size_t on_body(char *data, size_t one, size_t bytes, void *context)
{
	transfer *t = context;
	(void)one;
	if (t->got_bytes + bytes > MAX_KEPT_BYTES) {
		t->local = hd_fail(HD_E_DATA, "%s: the answer to %s is longer than %zu MiB", t->client->address.base,
		        t->what, MAX_KEPT_BYTES >> 20);
		return 0;
	}
	t->local = hd_grow(&t->got, &t->got_capacity, t->got_bytes + bytes + 1, 1);
	if (t->local != HD_OK)
		return 0;
	memcpy(t->got + t->got_bytes, data, bytes);
	t->got_bytes += bytes;
	return bytes;
}

/* Called all through a transfer, and once a second while nothing moves. Not 0 ends it. */
static int on_progress(void *context, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
	transfer *t = context;
	double now = hd_now_s();
	bool has_file = t->file.fd >= 0, sending = has_file && t->file.sent < t->file.bytes;
	double limit = sending ? STALL_S : has_file ? LONG_WORK_S : t->client->address.timeout_s;
	(void)down_all;
	(void)up_all;
	if (down + up != t->moved) {
		t->moved = down + up;
		t->moved_s = t->client->moved_s = now;
	}
	t->stalled = now - t->moved_s > limit;
	t->stopped = t->client->stop && t->client->stop();
	return t->stalled || t->stopped;
}

static void set_transport(CURL *curl, const hd_mlflow_address *a, bool with_keys)
{
	hd_curl_guard(curl);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(CONNECT_S * 1000));
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, a->insecure ? 0L : 1L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, a->insecure ? 0L : 2L);
	if (a->ca_file)
		curl_easy_setopt(curl, CURLOPT_CAINFO, a->ca_file);
	if (a->client_file)
		curl_easy_setopt(curl, CURLOPT_SSLCERT, a->client_file);
	if (with_keys && a->user) {
		curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		curl_easy_setopt(curl, CURLOPT_USERNAME, a->user);
		curl_easy_setopt(curl, CURLOPT_PASSWORD, a->password);
	} else if (with_keys && a->token) {
		curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
		curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, a->token);
	}
}

static void set_callbacks(CURL *curl, transfer *t)
{
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, t->text);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	if (t->file.fd >= 0)
		hd_curl_send(curl, &t->file);
}

/* ---- how it ended ---- */

static bool was_sent(CURLcode code)
{
	return code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST &&
	       code != CURLE_COULDNT_RESOLVE_PROXY && code != CURLE_SSL_CONNECT_ERROR;
}

static bool is_certificate(CURLcode code)
{
	return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
	       code == CURLE_SSL_CERTPROBLEM || code == CURLE_URL_MALFORMAT;
}

static hd_status judge_transfer(hd_mlflow_answer *a, const transfer *t, CURLcode code)
{
	const char *base = t->client->address.base, *why = t->text[0] ? t->text : curl_easy_strerror(code);
	if (t->local != HD_OK || t->file.status != HD_OK)
		return t->local != HD_OK ? t->local : t->file.status;
	if (t->stopped)
		return hd_fail(HD_E_INTERRUPTED, "%s: %s: interrupted", base, t->what);
	if (code == CURLE_OUT_OF_MEMORY)
		return hd_fail(HD_E_MEMORY, "out of host memory");
	if (is_certificate(code)) {
		a->end = HD_MLFLOW_REFUSED;
		hd_fail(HD_E_FAILED, "%s: %s; MLFLOW_TRACKING_SERVER_CERT_PATH names the certificates to trust", base,
		        why);
		return HD_OK;
	}
	a->end = HD_MLFLOW_AWAY;
	a->maybe_done = was_sent(code);
	if (t->stalled)
		hd_fail(HD_E_IO, "%s: %s: no answer", base, t->what);
	else
		hd_fail(HD_E_IO, "%s: %s: %s", base, t->what, why);
	return HD_OK;
}

static bool is_later(long status)
{
	return status == 408 || status == 425 || status == 429 || status == 499 ||
	       (status >= 500 && status != 501 && status != 505);
}

/* The server's words, unless they hold a key. */
static const char *words_of(const hd_mlflow *c, const json_t *body)
{
	const char *words = json_string_value(json_object_get(body, "message"));
	const hd_mlflow_address *a = &c->address;
	if (!words || (a->token && strstr(words, a->token)) ||
	        (a->password && a->password[0] && strstr(words, a->password)))
		return "";
	return words;
}

static void judge_answer(hd_mlflow_answer *a, const transfer *t, bool wants_body)
{
	const hd_mlflow *c = t->client;
	const char *code = json_string_value(json_object_get(a->body, "error_code")), *words = words_of(c, a->body);
	snprintf(a->code, sizeof a->code, "%s", code ? code : "");
	a->end = is_later(a->status) ? HD_MLFLOW_AWAY : HD_MLFLOW_REFUSED;
	a->maybe_done = a->end == HD_MLFLOW_AWAY;
	if (a->status / 100 == 2 && (a->body || !wants_body)) {
		a->end = HD_MLFLOW_DONE;
		return;
	}
	if (a->status / 100 == 2 || (a->status == 404 && !code && wants_body))
		hd_fail(HD_E_FAILED, "%s: %s: answers %ld, and not as an MLflow server does; look at the address",
		        c->address.base, t->what, a->status);
	else if (a->status / 100 == 3)
		hd_fail(HD_E_FAILED, "%s: %s: the server sends to %s; give its own address as --tracking_uri",
		        c->address.base, t->what, t->location[0] ? t->location : "another address");
	else if (a->status == 401)
		hd_fail(HD_E_FAILED,
		        "%s: %s: the server %s: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
		        "MLFLOW_TRACKING_TOKEN (401)",
		        c->address.base, t->what,
		        c->address.user    ? "does not take this name and password"
		        : c->address.token ? "does not take this token"
		                           : "wants a name and password, or a token");
	else
		hd_fail(HD_E_FAILED, "%s: %s: answers %ld%s%s%s%.600s", c->address.base, t->what, a->status,
		        a->code[0] ? " " : "", a->code, *words ? ": " : "", words);
}

/* Once. url, headers and body are set. */
static hd_status perform(hd_mlflow_answer *a, transfer *t, bool wants_body)
{
	hd_curl_quiet quiet;
	CURL *curl = t->client->curl;
	t->moved_s = hd_now_s();
	hd_curl_quiet_begin(&quiet);
	CURLcode code = curl_easy_perform(curl);
	hd_curl_quiet_end(&quiet);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &a->status);
	/* a server that refuses may close before all of a file has gone; its answer counts */
	bool answered = a->status >= 400 && (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR);
	if (code != CURLE_OK && (!answered || t->local != HD_OK || t->file.status != HD_OK))
		return judge_transfer(a, t, code);
	t->client->moved_s = hd_now_s();
	a->body = t->got_bytes ? json_loadb(t->got, t->got_bytes, JSON_ALLOW_NUL, NULL) : NULL;
	if (a->body && !json_is_object(a->body)) {
		json_decref(a->body);
		a->body = NULL;
	}
	judge_answer(a, t, wants_body);
	return HD_OK;
}

static hd_status add_header(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);
	if (!longer)
		return hd_fail(HD_E_MEMORY, "out of host memory");
	*list = longer;
	return HD_OK;
}

/* ---- requests ---- */

/* "?a=b&c=2" behind the URL. */
static hd_status add_query(char **url, CURL *curl, const json_t *query)
{
	hd_status st = HD_OK;
	const char *key;
	json_t *value;
	char before = '?', number[32];
	json_object_foreach((json_t *)query, key, value)
	{
		char *longer = NULL;
		if (json_is_integer(value))
			snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		const char *text = json_is_string(value) ? json_string_value(value) : number;
		char *escaped = curl_easy_escape(curl, text, 0);
		st = escaped ? hd_sprintf(&longer, "%s%c%s=%s", *url, before, key, escaped)
		             : hd_fail(HD_E_MEMORY, "out of host memory");
		curl_free(escaped);
		if (st != HD_OK)
			break;
		free(*url);
		*url = longer;
		before = '&';
	}
	return st;
}

/* What must not be done twice goes over a new connection: on a kept one libcurl itself sends again where it broke. */
static bool makes_something(const char *path)
{
	size_t n = strlen(path);
	return n >= 6 && !strcmp(path + n - 6, "create");
}

hd_status hd_mlflow_call(hd_mlflow *c, hd_mlflow_answer *out, const char *method, const char *path, const json_t *body)
{
	hd_status st;
	char *url = NULL, *text = NULL;
	struct curl_slist *headers = NULL;
	transfer t = {.client = c, .answer = out, .what = path, .file.fd = -1};
	*out = (hd_mlflow_answer){0};
	curl_easy_reset(c->curl);
	HD_TRY(hd_sprintf(&url, "%s" API "%s", c->address.base, path));
	if (!strcmp(method, "GET")) {
		HD_TRY(add_query(&url, c->curl, body));
	} else {
		text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(17));
		if (!text) {
			st = hd_fail(HD_E_MEMORY, "%s: the request is no JSON, or out of host memory", path);
			goto done;
		}
		HD_TRY(add_header(&headers, "Content-Type: application/json"));
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, text);
	}
	/* without it libcurl waits a second for servers that do not know 100-continue */
	HD_TRY(add_header(&headers, "Expect:"));
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c->curl, CURLOPT_FRESH_CONNECT, makes_something(path) ? 1L : 0L);
	set_transport(c->curl, &c->address, true);
	set_callbacks(c->curl, &t);
	HD_TRY(perform(out, &t, true));
done:
	curl_slist_free_all(headers);
	free(t.got);
	free(text);
	free(url);
	return st;
}

hd_status hd_mlflow_ask(hd_mlflow *c, hd_mlflow_answer *out, const char *method, const char *path, const json_t *body,
        double patience_s)
{
	hd_status st;
	double begun = hd_now_s(), wait = FIRST_WAIT_S;
	for (;;) {
		HD_TRY(hd_mlflow_call(c, out, method, path, body));
		double next = out->retry_after_s > wait ? out->retry_after_s : wait;
		if (out->end != HD_MLFLOW_AWAY || hd_now_s() + next - begun > patience_s)
			break;
		hd_mlflow_answer_free(out);
		if (!hd_wait(next, c->stop)) {
			st = hd_fail(HD_E_INTERRUPTED, "%s: interrupted", c->address.base);
			goto done;
		}
		wait = 2 * wait < LONGEST_WAIT_S ? 2 * wait : LONGEST_WAIT_S;
	}
	if (out->end != HD_MLFLOW_DONE)
		st = out->end == HD_MLFLOW_AWAY ? HD_E_IO : HD_E_FAILED; /* the text is the call's */
done:
	return st;
}

/* ---- files ---- */

static bool is_http(const char *uri)
{
	return !strncasecmp(uri, "http://", 7) || !strncasecmp(uri, "https://", 8);
}

static bool is_through_server(const char *uri)
{
	return !strncmp(uri, "mlflow-artifacts:", 17);
}

bool hd_mlflow_takes(const char *uri)
{
	return is_http(uri) || is_through_server(uri);
}

/* "mlflow-artifacts:/1/x" is at the tracking server, "mlflow-artifacts://host:1/1/x" at another. */
static hd_status artifact_url(char **out, bool *own, const hd_mlflow_address *a, const char *uri, const char *name)
{
	hd_status st;
	char *encoded = NULL, *encoded_path = NULL;
	const char *path = is_through_server(uri) ? uri + 17 : uri;
	size_t n = strlen(a->root);
	HD_TRY(hd_percent_encode(&encoded, name, true));
	if (is_http(uri)) {
		*own = !strncasecmp(uri, a->root, n) && (uri[n] == '/' || !uri[n]);
		HD_TRY(hd_sprintf(out, "%s/%s", uri, encoded));
	} else if (path[0] == '/' && path[1] == '/' && path[2] != '/') {
		size_t host = strcspn(path + 2, "/");
		const char *scheme_end = strstr(a->root, "://");
		*own = strlen(scheme_end + 3) == host && !strncasecmp(scheme_end + 3, path + 2, host);
		HD_TRY(hd_percent_encode(&encoded_path, path + 2 + host, true));
		HD_TRY(hd_sprintf(out, "%.*s://%.*s" ARTIFACTS "%s/%s", (int)(scheme_end - a->root), a->root, (int)host,
		        path + 2, encoded_path, encoded));
	} else {
		*own = true;
		HD_TRY(hd_percent_encode(&encoded_path, path + strspn(path, "/"), true));
		HD_TRY(hd_sprintf(out, "%s" ARTIFACTS "/%s/%s", a->base, encoded_path, encoded));
	}
done:
	free(encoded_path);
	free(encoded);
	return st;
}

static hd_status open_file(transfer *t, const char *path)
{
	struct stat about;
	t->file = (hd_curl_body){.fd = open(path, O_RDONLY | O_CLOEXEC), .name = path};
	if (t->file.fd < 0 || fstat(t->file.fd, &about) != 0)
		return hd_fail(HD_E_IO, "%s: cannot open: %s", path, strerror(errno));
	if (!S_ISREG(about.st_mode))
		return hd_fail(HD_E_IO, "%s: not a regular file", path);
	t->file.bytes = about.st_size;
	return HD_OK;
}

hd_status hd_mlflow_put(
        hd_mlflow *c, hd_mlflow_answer *out, const char *artifact_uri, const char *name, const char *path)
{
	hd_status st;
	char *url = NULL;
	bool own;
	struct curl_slist *headers = NULL;
	transfer t = {.client = c, .answer = out, .what = name, .file.fd = -1};
	*out = (hd_mlflow_answer){0};
	curl_easy_reset(c->curl);
	HD_TRY(artifact_url(&url, &own, &c->address, artifact_uri, name));
	HD_TRY(open_file(&t, path));
	HD_TRY(add_header(&headers, "Content-Type: application/octet-stream"));
	if (t.file.bytes < EXPECT_BYTES)
		HD_TRY(add_header(&headers, "Expect:"));
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	set_transport(c->curl, &c->address, own);
	set_callbacks(c->curl, &t);
	HD_TRY(perform(out, &t, false));
done:
	curl_slist_free_all(headers);
	if (t.file.fd >= 0)
		close(t.file.fd);
	free(t.got);
	free(url);
	return st;
}
