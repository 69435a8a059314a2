/* SPDX-License-Identifier: Apache-2.0 */
/* One request to an S3 store: sent, signed, redirected, judged, repeated. For the files of this folder alone. */
#ifndef HD_STORE_S3_REQUEST_H
#define HD_STORE_S3_REQUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "heimdall/status.h"
#include "host/common/curl.h"
#include "host/store/s3.h"
#include "host/store/sigv4.h"

typedef struct hd_s3_line {
	CURL *curl;
	struct hd_s3_line *next;
} hd_s3_line;

struct hd_s3 {
	hd_s3_config config;
	char *endpoint;               /* in full, for messages and for the cache */
	char *scheme, *host, *prefix; /* of config.endpoint; NULL, NULL, "" for Amazon's */
	pthread_mutex_t mutex;        /* guards what follows */
	hd_s3_line *idle;             /* connections */
	char region[65];              /* the configuration's, or what the server said */
};

struct hd_s3_answer;

/* Takes a piece of a good answer's body; not HD_OK ends the transfer with that status. */
typedef hd_status (*hd_s3_sink)(void *context, const struct hd_s3_answer *answer, const void *data, size_t bytes);

typedef struct hd_s3_call {
	const char *method;
	const char *bucket;
	const char *key; /* NULL: the bucket */
	const hd_pair *query;
	size_t query_count;
	const hd_pair *headers; /* besides host, x-amz-date, x-amz-content-sha256 and the session's token */
	size_t header_count;
	const void *body; /* NULL: body_fd, where there is a body at all */
	int body_fd;
	const char *body_name; /* of body_fd, for messages */
	int64_t body_offset, body_bytes;
	const char *body_sha256; /* NULL: there is no body */
	hd_s3_sink sink;         /* NULL: the body is kept in the answer */
	void *context;
	bool wants_etag; /* a good answer has one */
	bool works_long; /* the server may be silent for minutes before it answers */
	bool never_stop; /* clean-up that is done although the program ends */
	int fine[2];     /* statuses that are good besides 2xx; 0 is none */
} hd_s3_call;

typedef struct hd_s3_answer {
	CURLcode curl;
	char curl_text[CURL_ERROR_SIZE];
	int status; /* 0: none came */
	char etag[HD_S3_ETAG];
	int64_t content_bytes;           /* -1: not told */
	int64_t range_from, range_total; /* of Content-Range; -1: not told */
	time_t date, modified;           /* 0: not told */
	int64_t skew_s;                  /* this machine's clock minus the server's */
	int retry_after_s;
	char location[2048];
	char region[65];
	char *body; /* what did not go to the sink */
	size_t body_bytes, body_capacity;
	hd_s3_fault fault; /* of the body, where it is one */
	bool has_fault;
} hd_s3_answer;

void hd_s3_answer_free(hd_s3_answer *answer);

/* Takes an ETag; the quotes that some servers leave out (in XML above all) are put around it. HD_E_DATA: too long. */
hd_status hd_s3_take_etag(char out[HD_S3_ETAG], const char *text);

/*
 * Takes "ETag" of the answer's body, whose root element is named: a good status with another body is an error that came
 * late.
 */
hd_status hd_s3_read_etag(hd_s3_object *out, const hd_s3_answer *answer, const char *root);

/* ---- s3_client.c ---- */

/* A request's place: what goes on the wire and is signed. */
typedef struct hd_s3_target {
	char *scheme, *host, *path, *query; /* host with its port where that is not the scheme's own */
	char region[65];
} hd_s3_target;

hd_status hd_s3_aim(hd_s3_target *out, hd_s3 *s, const hd_s3_call *call);
void hd_s3_target_free(hd_s3_target *target);

/* Whether the answer sends elsewhere: a redirect, or the name of another region. */
bool hd_s3_is_moved(const hd_s3_target *target, const hd_s3_answer *answer);

/* Turns the target to where the answer sends, or refuses: keys for one host do not go to another. */
hd_status hd_s3_follow(hd_s3_target *target, hd_s3 *s, const hd_s3_call *call, const hd_s3_answer *answer);

hd_status hd_s3_line_take(hd_s3_line **out, hd_s3 *s);
void hd_s3_line_give(hd_s3 *s, hd_s3_line *line);

/* "s3://bucket/key: " in front of this thread's error text; returns `status`. */
hd_status hd_s3_say_where(hd_status status, const hd_s3_call *call);

/* ---- s3_request.c ---- */

/*
 * One attempt, with its redirects. HD_OK: the answer says how it went, also where no answer came. Otherwise it cannot
 * be tried again: refused redirect, the sink's failure, memory, stop.
 */
hd_status hd_s3_attempt(hd_s3 *s, const hd_s3_call *call, hd_s3_answer *answer);

/* ---- s3_retry.c ---- */

typedef enum hd_s3_verdict { HD_S3_GOOD, HD_S3_AGAIN, HD_S3_BAD } hd_s3_verdict;

/* What has been tried in a row without getting on. */
typedef struct hd_s3_patience {
	int failures;
	double begun_s; /* of CLOCK_MONOTONIC; 0: not begun */
} hd_s3_patience;

/* Reads the answer's <Error>, if it is one, and judges. */
hd_s3_verdict hd_s3_judge(const hd_s3_call *call, hd_s3_answer *answer);

/* Sets the error text of a bad answer. */
hd_status hd_s3_failure(hd_s3 *s, const hd_s3_call *call, const hd_s3_answer *answer);

/* Waits before the next attempt; at the end of patience, fails as hd_s3_failure does and says how often it was tried.
 */
hd_status hd_s3_wait(hd_s3 *s, const hd_s3_call *call, const hd_s3_answer *answer, hd_s3_patience *patience);

/* Attempts until the answer is good. answer keeps the last one, on failure too; free it in either case. */
hd_status hd_s3_perform(hd_s3 *s, const hd_s3_call *call, hd_s3_answer *answer);

/* Copies text with every key of the configuration replaced by "***". */
void hd_s3_redact(char *out, size_t capacity, const hd_s3 *s, const char *text);

/* ---- s3_put.c, s3_multipart.c ---- */

hd_status hd_s3_check_names(const char *bucket, const char *key);

/* HD_E_DATA where the object exists. */
hd_status hd_s3_expect_absent(hd_s3 *s, const char *bucket, const char *key);

/* Sends an open file in parts; what was begun is aborted on any failure. */
hd_status hd_s3_put_parts(hd_s3 *s, hd_s3_object *object, const char *bucket, const char *key, int fd, const char *path,
        int64_t bytes, const hd_s3_put_options *options);

#endif
