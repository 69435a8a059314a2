/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/curl.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define UPLOAD_BUFFER_BYTES 524288L

static void begin(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

hd_status hd_curl_open(CURL **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, begin);
	*out = curl_easy_init();
	return *out ? HD_OK : hd_fail(HD_E_MEMORY, "libcurl: out of host memory");
}

void hd_curl_guard(CURL *curl)
{
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE); /* none of ours to a proxy */
	curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "heimdall");
	curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
}

/* ---- bodies ---- */

static size_t on_read(char *out, size_t one, size_t capacity, void *context)
{
	hd_curl_body *b = context;
	int64_t left = b->bytes - b->sent;
	size_t n = left < (int64_t)capacity ? (size_t)left : capacity;
	ssize_t got = (ssize_t)n;
	(void)one;
	if (n == 0)
		return 0;
	if (b->data) {
		memcpy(out, (const char *)b->data + b->sent, n);
	} else {
		do
			got = pread(b->fd, out, n, b->offset + b->sent);
		while (got < 0 && errno == EINTR);
	}
	if (got <= 0) {
		b->status = hd_fail(HD_E_IO, "%s: cannot read: %s", b->name,
		        got < 0 ? strerror(errno) : "it became shorter meanwhile");
		return CURL_READFUNC_ABORT;
	}
	b->sent += got;
	return (size_t)got;
}

static int on_seek(void *context, curl_off_t offset, int origin)
{
	hd_curl_body *b = context;
	if (origin != SEEK_SET || offset < 0 || offset > b->bytes)
		return CURL_SEEKFUNC_FAIL;
	b->sent = offset;
	return CURL_SEEKFUNC_OK;
}

void hd_curl_send(CURL *curl, hd_curl_body *body)
{
	curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)body->bytes);
	curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_BYTES);
	curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(curl, CURLOPT_READDATA, body);
	curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(curl, CURLOPT_SEEKDATA, body);
}

/* ---- SIGPIPE ---- */

static sigset_t pipe_alone(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	return set;
}

static bool is_pending(void)
{
	sigset_t pending;
	sigemptyset(&pending);
	sigpending(&pending);
	return sigismember(&pending, SIGPIPE) == 1;
}

void hd_curl_quiet_begin(hd_curl_quiet *quiet)
{
	const sigset_t set = pipe_alone();
	quiet->pending = is_pending();
	pthread_sigmask(SIG_BLOCK, &set, &quiet->before);
}

void hd_curl_quiet_end(const hd_curl_quiet *quiet)
{
	const struct timespec at_once = {0};
	const sigset_t set = pipe_alone();
	if (!quiet->pending && is_pending())
		sigtimedwait(&set, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
}
