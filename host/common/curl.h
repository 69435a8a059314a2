/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every user of libcurl here does alike: start it, keep it within http(s) and its redirects to itself, send a
 * body, be silent about a connection that has gone. Thread-safe for different handles.
 */
#ifndef HD_COMMON_CURL_H
#define HD_COMMON_CURL_H

#include <curl/curl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "heimdall/status.h"

/* Starts libcurl, once in the program, and makes a handle. */
hd_status hd_curl_open(CURL **out);

/*
 * For each request: http and https alone, no redirects (keys for one host do not go to another), no header of ours to a
 * proxy, no .netrc, no signals, connections kept alive.
 */
void hd_curl_guard(CURL *curl);

/* What a request sends; from memory, or (data NULL) from a file. */
typedef struct hd_curl_body {
	const void *data;
	int fd;           /* of the file, read by pread(2) */
	int64_t offset;   /* into the file */
	const char *name; /* of the file, for messages */
	int64_t bytes;
	int64_t sent;
	hd_status status; /* of reading the file; its text is set */
} hd_curl_body;

/* Sends *body by PUT, or the method that is set otherwise; it must stay until the transfer has ended. */
void hd_curl_send(CURL *curl, hd_curl_body *body);

/*
 * Between these, writing to a connection that the other side closed cannot raise SIGPIPE in this thread, which libcurl
 * leaves to its user where it is told to use no signals (CURLOPT_NOSIGNAL). The process's disposition stays as it is.
 */
typedef struct hd_curl_quiet {
	sigset_t before;
	bool pending;
} hd_curl_quiet;
void hd_curl_quiet_begin(hd_curl_quiet *quiet);
void hd_curl_quiet_end(const hd_curl_quiet *quiet);

#endif
