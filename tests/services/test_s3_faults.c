/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong between here and a real S3 server: the right result, or an error that names it. */
#include "tests/services/store_test.h"

#include <time.h>

#include "host/store/s3_request.h"

#define BYTES 1500000
#define KEY "faults/a b+c.npy"

static unsigned char *data;

static void begin(void)
{
	hd_s3_object object;
	begin_test();
	data = malloc(BYTES);
	fill(data, BYTES, 99);
	GOOD(hd_s3_put_bytes(direct, &object, BUCKET, KEY, data, BYTES, NULL));
}

static void end(void)
{
	free(data);
	end_test();
}

TestSuite(faults, .init = begin, .fini = end, .timeout = 120);

static double clock_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static hd_status get(void)
{
	hd_s3_object object;
	return hd_s3_get_file(proxied, &object, file_in("got"), BUCKET, KEY);
}

static void expect_got(int in_requests)
{
	hd_status st = get();
	cr_assert_eq(st, HD_OK, "%s", hd_error_text());
	expect_file(file_in("got"), data, BYTES);
	int seen = requests("proxy", "GET");
	cr_assert_eq(seen, in_requests, "%d requests, not %d", seen, in_requests);
}

static void expect_not_got(hd_status want, const char *words)
{
	expect_error(get(), want, words);
	expect_folder_empty();
}

/* ---- answers that pass ---- */

Test(faults, unavailable_is_tried_again)
{
	static const char *const faults[] = {"status 2 GET * 503", "status 2 GET * 500", "status 2 GET * 502",
	        "status 1 GET * 504", "status 1 GET * 429", "code 2 GET * 503,SlowDown",
	        "code 2 GET * 400,RequestTimeout", "early 2 GET *"};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		int times = atoi(strchr(faults[i], ' '));
		control("clear");
		control("fault %s", faults[i]);
		expect_got(times + 1);
	}
}

Test(faults, writing_is_tried_again)
{
	hd_s3_object object;
	control("fault code 1 PUT * 503,SlowDown");
	control("fault early 1 PUT *");
	control("fault error200 1 PUT * InternalError");
	GOOD(hd_s3_put_bytes(proxied, &object, BUCKET, "faults/put", data, BYTES, NULL));
	cr_assert_eq(requests("proxy", "PUT"), 4);
	GOOD(hd_s3_get_file(direct, &object, file_in("got"), BUCKET, "faults/put"));
	expect_file(file_in("got"), data, BYTES);
}

/* The date, and with it the signature, is that of the attempt; Retry-After is kept to. */
Test(faults, each_attempt_is_signed_anew)
{
	char first[32], second[32];
	control("fault slowdown 1 GET * 2");
	double before = clock_s();
	expect_got(2);
	cr_assert_geq(clock_s() - before, 2.0);
	const char *a = strstr(proxy_text, "date="), *b = a ? strstr(a + 1, "date=") : NULL;
	cr_assert(a && b, "%s", proxy_text);
	cr_assert(sscanf(a, "date=%31s", first) == 1 && sscanf(b, "date=%31s", second) == 1);
	cr_assert(strcmp(first, second) < 0, "%s, then %s", first, second);
	cr_assert(!strstr(proxy_text, "auth=0"));
}

/*
 * Three times four attempts have nine waits, uniform up to 0.25, 0.5 and 1 s. That they sum to less than 0.6 s has a
 * chance of 0.6^9 / (9! 0.125^3) = 1.4e-5.
 */
Test(faults, waits_between_attempts)
{
	control("fault code 99 GET * 503,SlowDown");
	double before = clock_s();
	for (int i = 0; i < 3; i++)
		expect_not_got(HD_E_FAILED, "SlowDown");
	cr_assert_geq(clock_s() - before, 0.6);
	cr_assert_leq(clock_s() - before, 3 * (0.25 + 0.5 + 1) + 5);
	cr_assert_eq(requests("proxy", "GET"), 12);
}

Test(faults, patience_ends)
{
	control("fault code 99 GET * 503,SlowDown");
	expect_not_got(HD_E_FAILED, "SlowDown");
	cr_assert(strstr(hd_error_text(), "given up after 4 attempts"), "%s", hd_error_text());
	cr_assert(strstr(hd_error_text(), "s3://" BUCKET "/" KEY), "%s", hd_error_text());
	cr_assert_eq(requests("proxy", "GET"), 4);
	/* a wait that would end behind the limit of seconds is not begun */
	control("clear");
	control("fault slowdown 99 GET * 30");
	double before = clock_s();
	expect_not_got(HD_E_FAILED, "SlowDown");
	cr_assert_lt(clock_s() - before, 5.0);
}

/* ---- redirects ---- */

Test(faults, redirect_to_the_same_host)
{
	control("fault redirect 1 GET * %s{target}", variable("HD_S3_PROXY"));
	expect_got(2);
	control("clear");
	control("fault redirect 1 GET * {target}");
	expect_got(2);
	cr_assert(!strstr(proxy_text, "auth=0"));
	control("clear");
	control("fault redirect 99 GET * {target}");
	remove(file_in("got"));
	expect_not_got(HD_E_FAILED, "redirected 5 times");
}

/* Neither another port of this machine nor another name of it is the host that the keys are for. */
Test(faults, redirect_to_another_host_is_refused)
{
	const char *colon = strrchr(variable("HD_S3_PROXY"), ':');
	control("fault redirect 1 GET * http://127.0.0.1:%s{target}", variable("HD_S3_OTHER"));
	control("fault redirect 1 GET * http://localhost%s{target}", colon);
	control("fault redirect 1 GET * http://a:b@127.0.0.1%s{target}", colon);
	control("fault redirect 1 GET * //127.0.0.1:%s{target}", variable("HD_S3_OTHER"));
	control("fault redirect 1 GET * ftp://127.0.0.1/");
	for (int i = 0; i < 4; i++)
		expect_not_got(HD_E_FAILED, "does not go to another");
	expect_not_got(HD_E_DATA, "no http URL");
	cr_assert_eq(requests("proxy", "GET"), 5);
	cr_assert_eq(requests("other", ""), 0, "the other host was asked: %s", proxy_text);
	hd_s3_object object;
	control("fault redirect 1 PUT * http://127.0.0.1:%s{target}", variable("HD_S3_OTHER"));
	expect_error(hd_s3_put_bytes(proxied, &object, BUCKET, "x", "y", 1, NULL), HD_E_FAILED, "redirects to");
	cr_assert_eq(requests("other", ""), 0);
}

/* The other server does see what is sent to it, so that its silence means something. */
Test(faults, the_other_host_listens)
{
	char endpoint[64];
	hd_s3_object object;
	snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%s", variable("HD_S3_OTHER"));
	hd_s3 *s = client(endpoint, NULL, 0);
	expect_error(hd_s3_get_file(s, &object, file_in("x"), BUCKET, KEY), HD_E_DATA, "no S3 server");
	cr_assert_geq(requests("other", "GET"), 1);
	cr_assert(strstr(proxy_text, "auth=1"), "%s", proxy_text);
	hd_s3_close(s);
}

Test(faults, redirect_to_a_name_under_the_endpoint)
{
	char endpoint[64];
	hd_s3_object object;
	const char *colon = strrchr(variable("HD_S3_PROXY"), ':');
	snprintf(endpoint, sizeof endpoint, "http://store.localhost%s", colon);
	hd_s3 *s = client(endpoint, NULL, 0);
	control("fault redirect 1 GET * http://node1.store.localhost%s{target}", colon);
	GOOD(hd_s3_get_file(s, &object, file_in("got"), BUCKET, KEY));
	expect_file(file_in("got"), data, BYTES);
	control("log");
	cr_assert(strstr(proxy_text, "host=node1.store.localhost"), "%s", proxy_text);
	hd_s3_close(s);
}

Test(faults, another_region_is_taken_up)
{
	control("fault region 1 GET * eu-north-1");
	expect_got(requests("proxy", "GET") + 2);
}

/* ---- bodies ---- */

Test(faults, error_in_a_good_status)
{
	hd_s3_object object;
	control("fault error200 2 GET * InternalError");
	expect_got(3);
	control("clear");
	control("fault error200 1 GET * AccessDenied");
	remove(file_in("got"));
	expect_not_got(HD_E_FAILED, "AccessDenied");
	control("fault error200 1 PUT * InternalError");
	GOOD(hd_s3_copy(proxied, &object, BUCKET, "faults/copy", BUCKET, KEY, NULL));
	cr_assert_eq(requests("proxy", "PUT"), 2);
	control("fault error200 1 PUT * NoSuchKey");
	expect_error(hd_s3_copy(proxied, &object, BUCKET, "faults/copy", BUCKET, KEY, NULL), HD_E_FAILED, "NoSuchKey");
}

Test(faults, pages_are_no_objects)
{
	hd_s3_object object;
	control("fault page 1 GET *");
	expect_not_got(HD_E_DATA, "without an ETag");
	control("fault garbage 1 GET *");
	expect_not_got(HD_E_IO, "does not speak HTTP");
	control("fault noetag 1 GET *");
	expect_not_got(HD_E_DATA, "without an ETag");
	control("fault page 1 PUT *");
	expect_error(hd_s3_put_bytes(proxied, &object, BUCKET, "x", "y", 1, NULL), HD_E_DATA, "without an ETag");
	control("fault page 1 PUT *");
	expect_error(hd_s3_copy(proxied, &object, BUCKET, "x", BUCKET, KEY, NULL), HD_E_DATA, "CopyObjectResult");
}

static bool saw(const char *words)
{
	control("log");
	return strstr(proxy_text, words) != NULL;
}

/* A transfer that breaks goes on where it ended, and only if the object is the same. */
Test(faults, broken_transfers_go_on)
{
	control("fault short 1 GET * 700000");
	expect_got(2);
	cr_assert(saw("range=bytes=700000- match=\""), "%s", proxy_text);
	control("clear");
	control("fault reset 1 GET * 300000");
	control("fault short 1 GET * 300000");
	control("fault short 1 GET * 0");
	expect_got(4);
	control("clear");
	control("fault stall 1 GET * 800000,8");
	double before = clock_s();
	expect_got(2);
	cr_assert_lt(clock_s() - before, 7.0);
	control("clear");
	control("fault silence 1 GET * 8");
	expect_got(2);
}

/* Getting on begins patience anew: more breaks than attempts. */
Test(faults, many_breaks_with_progress)
{
	control("fault short 9 GET * 150000");
	expect_got(10);
}

Test(faults, short_for_ever)
{
	control("fault short 99 GET * 10");
	expect_not_got(HD_E_IO, "broke off");
	cr_assert(strstr(hd_error_text(), "given up"), "%s", hd_error_text());
}

Test(faults, silence_is_a_timeout)
{
	control("fault silence 99 GET * 20");
	double before = clock_s();
	expect_not_got(HD_E_IO, "timed out");
	cr_assert_lt(clock_s() - before, 20.0);
}

Test(faults, range_not_heeded)
{
	control("fault short 1 GET * 700000");
	control("fault norange 1 GET *");
	expect_got(2);
	unsigned char out[100];
	size_t got;
	hd_s3_object object;
	control("fault norange 1 GET *");
	expect_error(
	        hd_s3_get_range(proxied, out, &got, &object, BUCKET, KEY, 50, 100, NULL), HD_E_UNSUPPORTED, "Range");
}

Test(faults, wrong_range)
{
	control("fault short 1 GET * 700000");
	control("fault shifted 1 GET *");
	expect_not_got(HD_E_DATA, "asked for were those from 700000 on");
}

/* ---- versions ---- */

Test(faults, etag_changes_in_between)
{
	control("fault short 1 GET * 700000");
	control("fault etag 1 GET * 00112233445566778899aabbccddeeff");
	expect_not_got(HD_E_DATA, "changed while it was read");
}

static bool overwrite_once(void)
{
	static bool done;
	static bool inside;
	/* asked all through a transfer; the log shows when the first part has come */
	if (!done && !inside && requests("proxy", "GET") == 1) {
		inside = true;
		struct stat info;
		char path[600];
		snprintf(path, sizeof path, "%s.tmp%ld", file_in("got"), (long)getpid());
		hd_s3_object object;
		if (stat(path, &info) == 0 && info.st_size == 700000) {
			done = true;
			GOOD(hd_s3_put_bytes(direct, &object, BUCKET, KEY, "another", 7, NULL));
		}
		inside = false;
	}
	return false;
}

/* The real server's refusal of If-Match. */
Test(faults, object_is_overwritten_in_between)
{
	hd_s3_object object;
	hd_s3 *s = client(variable("HD_S3_PROXY"), overwrite_once, 0);
	control("fault short 1 GET * 700000");
	expect_error(hd_s3_get_file(s, &object, file_in("got"), BUCKET, KEY), HD_E_DATA, "changed while it was read");
	expect_folder_empty();
	hd_s3_close(s);
}

/* ---- answers that are lost ---- */

Test(faults, lost_answer_of_a_write)
{
	hd_s3_object object;
	hd_s3_put_options once = {.no_overwrite = true};
	GOOD(hd_s3_delete(direct, BUCKET, "faults/once"));
	control("fault lost 1 PUT *");
	GOOD(hd_s3_put_bytes(proxied, &object, BUCKET, "faults/once", data, BYTES, &once));
	GOOD(hd_s3_get_file(direct, &object, file_in("got"), BUCKET, "faults/once"));
	expect_file(file_in("got"), data, BYTES);
	/* another's object is not taken for one's own */
	control("fault code 1 PUT * 503,SlowDown");
	expect_error(
	        hd_s3_put_bytes(proxied, &object, BUCKET, "faults/once", "x", 1, &once), HD_E_DATA, "exists already");
	control("clear");
	control("fault lost 1 DELETE *");
	GOOD(hd_s3_delete(proxied, BUCKET, "faults/once"));
	expect_error(hd_s3_head(direct, &object, BUCKET, "faults/once"), HD_E_DATA, "no such object");
}

/* ---- words ---- */

Test(faults, clock_skew_in_seconds)
{
	control("fault skew 1 GET * 5000");
	expect_not_got(HD_E_FAILED, "this machine's clock is 5");
	expect_error(HD_E_FAILED, HD_E_FAILED, "s behind the server's; set the clock");
	control("fault skew 1 GET * -5000");
	expect_not_got(HD_E_FAILED, "s ahead of the server's");
}

Test(faults, keys_in_a_servers_words_are_left_out)
{
	control("fault echo 1 GET *");
	expect_not_got(HD_E_FAILED, "Credential=***/");
	cr_assert(!strstr(hd_error_text(), variable("AWS_ACCESS_KEY_ID")), "%s", hd_error_text());
}

Test(faults, nobody_listens)
{
	hd_s3_object object;
	hd_s3 *s = client("http://127.0.0.1:1", NULL, 0);
	expect_error(hd_s3_head(s, &object, BUCKET, KEY), HD_E_IO, "http://127.0.0.1:1: cannot be reached");
	hd_s3_close(s);
	s = client("http://no-such-host.invalid", NULL, 0);
	expect_error(hd_s3_head(s, &object, BUCKET, KEY), HD_E_IO, "no-such-host.invalid");
	hd_s3_close(s);
}

static hd_s3 *tls_client(const char *endpoint, const char *bundle)
{
	hd_s3 *s;
	hd_s3_config config;
	hd_s3_settings settings = {.endpoint = endpoint, .ca_bundle = bundle, .attempts = 2};
	GOOD(hd_s3_config_resolve(&config, &settings, NULL));
	GOOD(hd_s3_open(&s, &config));
	return s;
}

Test(faults, certificates_are_verified)
{
	char named[64];
	hd_s3_object object;
	hd_s3 *s = tls_client(variable("HD_S3_TLS"), NULL);
	expect_error(hd_s3_get_file(s, &object, file_in("got"), BUCKET, KEY), HD_E_IO, "certificate is not trusted");
	hd_s3_close(s);
	s = tls_client(variable("HD_S3_TLS"), file_in("no.pem"));
	expect_error(hd_s3_head(s, &object, BUCKET, KEY), HD_E_USAGE, "no.pem");
	hd_s3_close(s);
	/* trusted, but not for this name */
	snprintf(named, sizeof named, "https://store.localhost%s", strrchr(variable("HD_S3_TLS"), ':'));
	s = tls_client(named, variable("HD_S3_CA"));
	expect_error(hd_s3_head(s, &object, BUCKET, KEY), HD_E_IO, "certificate is not trusted");
	hd_s3_close(s);
	cr_assert_eq(requests("proxy", ""), 0, "%s", proxy_text);
	expect_folder_empty();
	s = tls_client(variable("HD_S3_TLS"), variable("HD_S3_CA"));
	GOOD(hd_s3_get_file(s, &object, file_in("got"), BUCKET, KEY));
	expect_file(file_in("got"), data, BYTES);
	/* not from there to where anyone can listen */
	control("fault redirect 1 GET * %s{target}", variable("HD_S3_PROXY"));
	expect_error(hd_s3_get_file(s, &object, file_in("x"), BUCKET, KEY), HD_E_FAILED, "does not go to another");
	hd_s3_close(s);
}

/* Nor does writing to a connection that the other side closed end the program by a signal. */
Test(faults, resets_under_tls)
{
	hd_s3_object object;
	hd_s3 *s = tls_client(variable("HD_S3_TLS"), variable("HD_S3_CA"));
	control("fault early 1 PUT *");
	GOOD(hd_s3_put_bytes(s, &object, BUCKET, "faults/tls", data, BYTES, NULL));
	control("fault reset 1 GET * 700000");
	GOOD(hd_s3_get_file(s, &object, file_in("got"), BUCKET, "faults/tls"));
	expect_file(file_in("got"), data, BYTES);
	hd_s3_close(s);
}

/* ---- parts ---- */

#define PART ((int64_t)5 << 20)
#define LARGE (2 * PART + 1000)

/* The uploads that are open, as the server's own answer. */
static void expect_no_uploads(void)
{
	hd_s3_answer a;
	hd_pair query[] = {{"uploads", ""}, {"prefix", "faults/"}};
	hd_s3_call call = {.method = "GET", .bucket = BUCKET, .query = query, .query_count = 2};
	GOOD(hd_s3_perform(direct, &call, &a));
	cr_assert(a.body && strstr(a.body, "ListMultipartUploadsResult"), "%s", a.body ? a.body : "nothing");
	cr_assert(!strstr(a.body, "<UploadId>"), "%s", a.body);
	hd_s3_answer_free(&a);
}

static unsigned char *large_file(void)
{
	unsigned char *large = malloc(LARGE);
	fill(large, LARGE, 5);
	write_file(file_in("large"), large, LARGE);
	return large;
}

static void expect_parts_fail(bool (*stop)(void), const char *fault, hd_status want, const char *words)
{
	hd_s3_object object;
	hd_s3 *s = client(variable("HD_S3_PROXY"), stop, PART);
	free(large_file());
	if (fault)
		control("fault %s", fault);
	expect_error(hd_s3_put_file(s, &object, BUCKET, "faults/parts", file_in("large"), NULL), want, words);
	cr_assert_eq(requests("proxy", "DELETE"), 1, "%s", proxy_text);
	expect_no_uploads();
	expect_error(hd_s3_head(direct, &object, BUCKET, "faults/parts"), HD_E_DATA, "no such object");
	hd_s3_close(s);
}

Test(faults, parts_are_aborted)
{
	expect_parts_fail(NULL, "code 99 PUT partNumber=2 403,AccessDenied", HD_E_FAILED, "AccessDenied");
}

Test(faults, parts_are_aborted_when_the_line_is_down)
{
	expect_parts_fail(NULL, "early 99 PUT partNumber=3", HD_E_IO, "given up after 4 attempts");
}

Test(faults, parts_are_aborted_when_the_end_fails)
{
	expect_parts_fail(NULL, "error200 99 POST uploadId= InternalError", HD_E_FAILED, "InternalError");
}

static bool after_a_part(void)
{
	static bool stopped;
	static int asked;
	if (!stopped && ++asked % 4 == 0)
		stopped = requests("proxy", "PUT") >= 2;
	return stopped;
}

Test(faults, parts_are_aborted_on_a_stop)
{
	expect_parts_fail(after_a_part, "silence 99 PUT partNumber=2 1", HD_E_INTERRUPTED, "interrupted");
}

Test(faults, parts_survive_faults)
{
	hd_s3_object object;
	hd_s3 *s = client(variable("HD_S3_PROXY"), NULL, PART);
	unsigned char *large = large_file();
	control("fault code 1 POST uploads 503,SlowDown");
	control("fault early 1 PUT partNumber=1&");
	control("fault lost 1 PUT partNumber=2&");
	control("fault code 1 PUT partNumber=3& 500,InternalError");
	control("fault error200 1 POST uploadId= InternalError");
	if (strcmp(variable("HD_S3_SERVER"), "rclone") != 0) /* whose ETag does not tell whether it was this upload */
		control("fault lost 1 POST uploadId=");
	GOOD(hd_s3_put_file(s, &object, BUCKET, "faults/survives", file_in("large"), NULL));
	cr_assert_eq(object.bytes, LARGE);
	GOOD(hd_s3_get_file(direct, &object, file_in("back"), BUCKET, "faults/survives"));
	expect_file(file_in("back"), large, LARGE);
	expect_no_uploads();
	free(large);
	hd_s3_close(s);
}

/* ---- stopping ---- */

static bool at_once(void)
{
	return true;
}

Test(faults, stop_ends_waits_and_transfers)
{
	hd_s3_object object;
	hd_s3 *s = client(variable("HD_S3_PROXY"), at_once, 0);
	control("fault slowdown 99 GET * 15");
	double before = clock_s();
	expect_error(hd_s3_get_file(s, &object, file_in("got"), BUCKET, KEY), HD_E_INTERRUPTED, "interrupted");
	cr_assert_lt(clock_s() - before, 5.0);
	expect_folder_empty();
	hd_s3_close(s);
}

/* ---- listings ---- */

static hd_status count(void *context, const hd_s3_listed *item)
{
	(void)item;
	++*(int *)context;
	return HD_OK;
}

Test(faults, listings)
{
	hd_s3_object object;
	int keys = 0;
	char key[64];
	for (int i = 0; i < 5; i++) {
		snprintf(key, sizeof key, "listed/%d", i);
		GOOD(hd_s3_put_bytes(direct, &object, BUCKET, key, "x", 1, NULL));
	}
	control("fault code 1 GET * 503,SlowDown");
	control("fault error200 1 GET continuation-token InternalError");
	control("fault short 1 GET continuation-token 50");
	GOOD(hd_s3_list(proxied, BUCKET, "listed/", NULL, 2, count, &keys));
	cr_assert_eq(keys, 5);
	control("fault page 1 GET *");
	expect_error(hd_s3_list(proxied, BUCKET, "listed/", NULL, 2, count, &keys), HD_E_DATA, "");
}
