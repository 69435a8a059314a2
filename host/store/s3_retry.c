/* SPDX-License-Identifier: Apache-2.0 */
/* What an answer means: good, to be tried again, or bad; how long to wait; what to tell the user. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/progress.h"
#include "host/common/wait.h"
#include "host/store/s3_request.h"

#define FIRST_WAIT_S 0.25
#define LONGEST_WAIT_S 20.0
#define SKEW_ALLOWED_S 900 /* S3's limit */

/* ---- judging ---- */

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++) {
		if (!strcmp(word, *list))
			return true;
	}
	return false;
}

/* Source: "Error responses", Amazon S3 API reference, and what MinIO and others send under load. */
static bool passes_by(const hd_s3_answer *a)
{
	static const char *const codes[] = {"SlowDown", "SlowDownRead", "SlowDownWrite", "InternalError",
	        "InternalFailure", "ServiceUnavailable", "Busy", "Throttling", "ThrottlingException",
	        "RequestThrottled", "RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded",
	        "RequestTimeout", "RequestTimeoutException", "OperationAborted", "ConditionalRequestConflict",
	        "BadDigest", "IncompleteBody", "XMinioServerNotInitialized", NULL};
	if (a->has_fault && is_one_of(a->fault.code, codes))
		return true;
	return a->status == 408 || a->status == 429 || a->status == 500 || a->status == 502 || a->status == 503 ||
	       a->status == 504;
}

/* Failures of the connection that the next one may not have. */
static bool may_pass(CURLcode code)
{
	switch (code) {
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_PARTIAL_FILE:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_FAIL_REWIND:
		return true;
	default:
		return false;
	}
}

/* A whole answer that refuses counts although the connection broke under the rest of the upload. */
static bool is_broken(const hd_s3_answer *a)
{
	return a->curl != CURLE_OK && a->status < 300;
}

hd_s3_verdict hd_s3_judge(const hd_s3_call *c, hd_s3_answer *a)
{
	if (is_broken(a))
		return may_pass(a->curl) ? HD_S3_AGAIN : HD_S3_BAD;
	if (!a->has_fault)
		a->has_fault = hd_s3_xml_fault(&a->fault, a->body, a->body_bytes);
	for (size_t i = 0; i < sizeof c->fine / sizeof *c->fine; i++) {
		if (a->status == c->fine[i])
			return HD_S3_GOOD;
	}
	if (a->status / 100 == 2 && !a->has_fault && (a->etag[0] || !c->wants_etag))
		return HD_S3_GOOD;
	return passes_by(a) ? HD_S3_AGAIN : HD_S3_BAD;
}

/* ---- words ---- */

static void replace_all(char *text, const char *secret)
{
	if (!secret || !*secret)
		return;
	size_t n = strlen(secret);
	for (char *at = strstr(text, secret); at; at = strstr(at, secret)) {
		size_t stars = n < 3 ? n : 3;
		memset(at, '*', stars);
		memmove(at + stars, at + n, strlen(at + n) + 1);
		at += stars;
	}
}

void hd_s3_redact(char *out, size_t capacity, const hd_s3 *s, const char *text)
{
	snprintf(out, capacity, "%s", text);
	replace_all(out, s->config.session_token);
	replace_all(out, s->config.secret_key);
	replace_all(out, s->config.access_key);
}

static hd_status unreached(const hd_s3 *s, const hd_s3_answer *a)
{
	const char *why = a->curl_text[0] ? a->curl_text : curl_easy_strerror(a->curl);
	if (a->curl == CURLE_PEER_FAILED_VERIFICATION)
		return hd_fail(HD_E_IO,
		        "%s: its certificate is not trusted (%s); AWS_CA_BUNDLE or the CA bundle setting names the PEM "
		        "file "
		        "of its authority",
		        s->endpoint, why);
	if (a->curl == CURLE_SSL_CACERT_BADFILE)
		return hd_fail(HD_E_USAGE, "%s: cannot use the CA bundle %s: %s", s->endpoint,
		        s->config.ca_bundle ? s->config.ca_bundle : "of the system", why);
	if (a->curl == CURLE_UNSUPPORTED_PROTOCOL)
		return hd_fail(HD_E_IO, "%s: what answers there does not speak HTTP (%s)", s->endpoint, why);
	if (a->curl == CURLE_OPERATION_TIMEDOUT)
		return hd_fail(HD_E_IO, "%s: timed out: %s", s->endpoint, why);
	if (a->curl == CURLE_PARTIAL_FILE || a->curl == CURLE_RECV_ERROR || a->curl == CURLE_SEND_ERROR)
		return hd_fail(HD_E_IO, "%s: the transfer broke off: %s", s->endpoint, why);
	return hd_fail(HD_E_IO, "%s: cannot be reached: %s", s->endpoint, why);
}

static hd_status skewed(const hd_s3 *s, const hd_s3_answer *a)
{
	long long by = a->skew_s < 0 ? -a->skew_s : a->skew_s;
	if (a->date && by >= 1)
		return hd_fail(HD_E_FAILED, "%s: this machine's clock is %lld s %s the server's; set the clock",
		        s->endpoint, by, a->skew_s < 0 ? "behind" : "ahead of");
	return hd_fail(
	        HD_E_FAILED, "%s: this machine's clock differs too much from the server's; set the clock", s->endpoint);
}

static hd_status refused(const hd_s3 *s, const char *code, const char *words)
{
	const char *from = s->config.keys_from;
	if (!strcmp(code, "SignatureDoesNotMatch"))
		return hd_fail(HD_E_FAILED,
		        "%s: SignatureDoesNotMatch: the secret key is not the one that the server has for this access "
		        "key "
		        "(keys from %s), or a proxy changes requests",
		        s->endpoint, from);
	if (!strcmp(code, "InvalidAccessKeyId"))
		return hd_fail(HD_E_FAILED,
		        "%s: InvalidAccessKeyId: the server does not know the access key (keys from %s)", s->endpoint,
		        from);
	if (!strcmp(code, "ExpiredToken") || !strcmp(code, "InvalidToken"))
		return hd_fail(HD_E_FAILED,
		        "%s: %s: the session token is not valid any more (keys from %s); get a new one", s->endpoint,
		        code, from);
	return hd_fail(HD_E_FAILED, "%s: access denied (%s%s%s; keys from %s)", s->endpoint, *code ? code : "403",
	        *words ? ": " : "", words, from);
}

hd_status hd_s3_failure(hd_s3 *s, const hd_s3_call *c, const hd_s3_answer *a)
{
	hd_status st;
	char words[300], code[80];
	hd_s3_redact(words, sizeof words, s, a->has_fault ? a->fault.message : "");
	hd_s3_redact(code, sizeof code, s, a->has_fault ? a->fault.code : "");
	long long by = a->skew_s < 0 ? -a->skew_s : a->skew_s;
	bool denied = a->status == 403 || a->status == 401 || !strcmp(code, "AccessDenied");
	if (is_broken(a))
		st = unreached(s, a);
	else if (!strcmp(code, "RequestTimeTooSkewed") || (denied && a->date && by >= SKEW_ALLOWED_S))
		st = skewed(s, a);
	else if (denied)
		st = refused(s, code, words);
	else if (!strcmp(code, "NoSuchBucket"))
		st = hd_fail(HD_E_DATA, "no such bucket at %s", s->endpoint);
	else if (a->status == 404 && strcmp(code, "NoSuchUpload") != 0)
		st = hd_fail(HD_E_DATA, "no such %s", c->key ? "object" : "bucket");
	else if (a->status == 412)
		st = hd_fail(HD_E_DATA, "the object is not the version that was asked for");
	else if (a->has_fault)
		st = hd_fail(
		        HD_E_FAILED, "%s answers %d %s%s%s", s->endpoint, a->status, code, *words ? ": " : "", words);
	else if (a->status / 100 == 2 && a->etag[0])
		st = hd_fail(HD_E_IO, "%s sends less than it announces", s->endpoint);
	else if (a->status / 100 == 2)
		st = hd_fail(HD_E_DATA, "%s answers %d without an ETag: no S3 server, or a page put in between",
		        s->endpoint, a->status);
	else
		st = hd_fail(HD_E_FAILED, "%s answers %d", s->endpoint, a->status);
	return hd_s3_say_where(st, c);
}

/* ---- waiting ---- */

static double next_wait(const hd_s3_patience *p, const hd_s3_answer *a)
{
	double most = FIRST_WAIT_S;
	for (int i = 1; i < p->failures && most < LONGEST_WAIT_S; i++)
		most *= 2;
	double wait = hd_chance() * (most < LONGEST_WAIT_S ? most : LONGEST_WAIT_S);
	return wait > a->retry_after_s ? wait : a->retry_after_s;
}

static hd_status sleep_for(const hd_s3 *s, const hd_s3_call *c, double seconds)
{
	return hd_wait(seconds, c->never_stop ? NULL : s->config.stop)
	               ? HD_OK
	               : hd_s3_say_where(hd_fail(HD_E_INTERRUPTED, "interrupted"), c);
}

hd_status hd_s3_wait(hd_s3 *s, const hd_s3_call *c, const hd_s3_answer *a, hd_s3_patience *p)
{
	double now = hd_now_s();
	if (p->begun_s == 0)
		p->begun_s = now;
	p->failures++;
	double wait = next_wait(p, a), gone = now - p->begun_s;
	if (p->failures < s->config.attempts && gone + wait <= s->config.retry_s)
		return sleep_for(s, c, wait);
	char text[1200];
	hd_status st = hd_s3_failure(s, c, a);
	snprintf(text, sizeof text, "%s", hd_error_text());
	return hd_fail(st, "%s (given up after %d attempts in %.0f s)", text, p->failures, gone);
}

hd_status hd_s3_perform(hd_s3 *s, const hd_s3_call *c, hd_s3_answer *a)
{
	hd_status st;
	hd_s3_patience patience = {0};
	*a = (hd_s3_answer){0};
	for (;;) {
		HD_TRY(hd_s3_attempt(s, c, a));
		hd_s3_verdict verdict = hd_s3_judge(c, a);
		if (verdict == HD_S3_GOOD)
			break;
		if (verdict == HD_S3_BAD) {
			st = hd_s3_failure(s, c, a);
			break;
		}
		HD_TRY(hd_s3_wait(s, c, a, &patience));
	}
done:
	return st;
}
