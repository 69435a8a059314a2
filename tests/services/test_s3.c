/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation against a real S3 server. */
#include "tests/services/store_test.h"

#include "host/common/memory.h"

TestSuite(s3, .init = begin_test, .fini = end_test, .timeout = 120);

/* What has gone wrong in clients of S3: blanks, what URLs and forms mean something by, dots, other alphabets. */
static const char *const keys[] = {
        "plain.npy", "a b/c  d.npy", " leading and trailing ", "station=dl0abc/2024-01-01.npy", "a+b.npy", "a%2Bb.npy",
        "a%20b.npy", "100%.npy", "q?x=1&y=2#z", "semi;colon,comma:at@dollar$tilde~", "quotes'\"and`",
        "(brackets)[square]{curly}<angle>", "back\\slash", "star*bang!pipe|caret^", "dots/..hidden/.../x",
        "\xe9\x8c\xb2\xe9\x9f\xb3/\xe4\xbd\x8d\xe7\xbd\xae.npy",         /* CJK */
        "\xec\x84\x9c\xec\x9a\xb8 \xea\xb8\xb0\xeb\xa1\x9d",             /* Hangul */
        "caf\xc3\xa9/na\xc3\xafve \xc3\xbc.npy", "\xf0\x9f\x93\xa1.npy", /* beyond the first plane */
};
#define KEYS (sizeof keys / sizeof *keys)

typedef struct listing {
	char *names[2048];
	int64_t bytes[2048];
	size_t count;
	size_t prefixes;
	size_t stop_after;
} listing;

static hd_status collect(void *context, const hd_s3_listed *item)
{
	listing *l = context;
	cr_assert_lt(l->count, 2048);
	l->bytes[l->count] = item->bytes;
	l->names[l->count++] = strdup(item->key);
	l->prefixes += item->prefix;
	return l->stop_after && l->count == l->stop_after ? hd_fail(HD_E_FAILED, "enough") : HD_OK;
}

static int find(const listing *l, const char *name)
{
	for (size_t i = 0; i < l->count; i++) {
		if (!strcmp(l->names[i], name))
			return (int)i;
	}
	return -1;
}

/* SeaweedFS takes a backslash for a slash. */
static bool is_kept(const char *key)
{
	return strcmp(variable("HD_S3_SERVER"), "weed") != 0 || !strchr(key, '\\');
}

Test(s3, keys_round_trip)
{
	listing all = {0};
	char content[64], key[300], got[64];
	for (size_t i = 0; i < KEYS; i++) {
		hd_s3_object put, head, ranged;
		size_t n;
		snprintf(key, sizeof key, "keys/%s", keys[i]);
		snprintf(content, sizeof content, "content of key %zu", i);
		GOOD(hd_s3_put_bytes(direct, &put, BUCKET, key, content, strlen(content), NULL));
		GOOD(hd_s3_head(direct, &head, BUCKET, key));
		cr_assert_eq(head.bytes, (int64_t)strlen(content), "%s", key);
		cr_assert_str_eq(head.etag, put.etag);
		cr_assert_gt(head.modified, 1500000000);
		GOOD(hd_s3_get_file(direct, &head, file_in("back"), BUCKET, key));
		expect_file(file_in("back"), content, strlen(content));
		GOOD(hd_s3_get_range(direct, got, &n, &ranged, BUCKET, key, 8, 3, put.etag));
		cr_assert_eq(n, 3);
		cr_assert(!memcmp(got, "of ", 3));
		cr_assert_eq(ranged.bytes, (int64_t)strlen(content));
	}
	GOOD(hd_s3_list(direct, BUCKET, "keys/", NULL, 0, collect, &all));
	for (size_t i = 0; i < KEYS; i++) {
		snprintf(key, sizeof key, "keys/%s", keys[i]);
		cr_assert(!is_kept(key) || find(&all, key) >= 0, "'%s' is not listed", key);
		GOOD(hd_s3_delete(direct, BUCKET, key));
		hd_s3_object gone;
		expect_error(hd_s3_head(direct, &gone, BUCKET, key), HD_E_DATA, "no such object");
	}
	cr_assert_eq(all.count, KEYS);
}

/* rclone, a client of other authors, with the server as the remote "real". Key and content are in $K and $C. */
static int rclone(const char *command)
{
	char line[1024], program[600];
	snprintf(program, sizeof program, "%s/services/bin/rclone", getenv("BUILD") ? getenv("BUILD") : "build");
	if (access(program, X_OK) != 0)
		cr_skip_test("no %s", program);
	setenv("RCLONE_CONFIG_REAL_TYPE", "s3", 1);
	setenv("RCLONE_CONFIG_REAL_PROVIDER", "Other", 1);
	setenv("RCLONE_CONFIG_REAL_ACCESS_KEY_ID", variable("AWS_ACCESS_KEY_ID"), 1);
	setenv("RCLONE_CONFIG_REAL_SECRET_ACCESS_KEY", variable("AWS_SECRET_ACCESS_KEY"), 1);
	setenv("RCLONE_CONFIG_REAL_ENDPOINT", variable("HD_S3_URL"), 1);
	snprintf(line, sizeof line, "R='%s --config= --retries=1'; %s", program, command);
	return system(line);
}

/* Both ways: what was written here has the same key there, and the other way round. */
Test(s3, another_client_sees_the_same_keys)
{
	for (size_t i = 0; i < KEYS; i++) {
		char key[300], content[64];
		hd_s3_object object;
		if (!is_kept(keys[i]))
			continue;
		snprintf(content, sizeof content, "content %zu", i);
		setenv("C", content, 1);
		snprintf(key, sizeof key, "ours/%s", keys[i]);
		setenv("K", key, 1);
		GOOD(hd_s3_put_bytes(direct, &object, BUCKET, key, content, strlen(content), NULL));
		cr_assert_eq(rclone("test \"$($R cat \"real:" BUCKET "/$K\")\" = \"$C\""), 0,
		        "rclone does not find '%s'", key);
		snprintf(key, sizeof key, "theirs/%s", keys[i]);
		setenv("K", key, 1);
		cr_assert_eq(rclone("printf %s \"$C\" | $R rcat \"real:" BUCKET "/$K\""), 0);
		GOOD(hd_s3_get_file(direct, &object, file_in("theirs"), BUCKET, key));
		expect_file(file_in("theirs"), content, strlen(content));
	}
}

Test(s3, sizes)
{
	/* nothing, one byte, around a server's blocks */
	static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1500000, 4194304, 4194305, 9000001};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		hd_s3_object put, got;
		unsigned char *data = malloc(sizes[i] + 1);
		fill(data, sizes[i], (unsigned)i);
		GOOD(hd_s3_put_bytes(direct, &put, BUCKET, "sizes/bytes", data, sizes[i], NULL));
		GOOD(hd_s3_get_file(direct, &got, file_in("got"), BUCKET, "sizes/bytes"));
		expect_file(file_in("got"), data, sizes[i]);
		cr_assert_str_eq(got.etag, put.etag);
		cr_assert_eq(got.bytes, (int64_t)sizes[i]);
		write_file(file_in("up"), data, sizes[i]);
		GOOD(hd_s3_put_file(direct, &put, BUCKET, "sizes/file", file_in("up"), NULL));
		GOOD(hd_s3_get_file(direct, &got, file_in("got"), BUCKET, "sizes/file"));
		expect_file(file_in("got"), data, sizes[i]);
		free(data);
	}
}

Test(s3, ranges)
{
	unsigned char data[1000], out[1000];
	hd_s3_object object;
	size_t got;
	fill(data, sizeof data, 7);
	GOOD(hd_s3_put_bytes(direct, &object, BUCKET, "ranges", data, sizeof data, NULL));
	GOOD(hd_s3_get_range(direct, out, &got, &object, BUCKET, "ranges", 0, 1, NULL));
	cr_assert(got == 1 && out[0] == data[0]);
	GOOD(hd_s3_get_range(direct, out, &got, &object, BUCKET, "ranges", 999, 1, NULL));
	cr_assert(got == 1 && out[0] == data[999]);
	GOOD(hd_s3_get_range(direct, out, &got, &object, BUCKET, "ranges", 990, 1000, NULL));
	cr_assert(got == 10 && !memcmp(out, data + 990, 10));
	GOOD(hd_s3_get_range(direct, out, &got, &object, BUCKET, "ranges", 0, 1000, NULL));
	cr_assert(got == 1000 && !memcmp(out, data, 1000));
	GOOD(hd_s3_get_range(direct, out, &got, &object, BUCKET, "ranges", 1000, 5, NULL));
	cr_assert_eq(got, 0);
	expect_error(hd_s3_get_range(direct, out, &got, &object, BUCKET, "ranges", 0, 5, "\"0123\""), HD_E_DATA,
	        "changed while it was read");
	expect_error(hd_s3_get_range(direct, out, &got, &object, BUCKET, "nothing", 0, 5, NULL), HD_E_DATA,
	        "s3://" BUCKET "/nothing: no such object");
}

Test(s3, missing_things)
{
	hd_s3_object object;
	expect_error(
	        hd_s3_head(direct, &object, BUCKET, "no/such"), HD_E_DATA, "s3://" BUCKET "/no/such: no such object");
	expect_error(hd_s3_get_file(direct, &object, file_in("x"), BUCKET, "no/such"), HD_E_DATA, "no such object");
	expect_error(hd_s3_head(direct, &object, "heimdall-no-such-bucket", "a"), HD_E_DATA, "no such bucket");
	expect_error(hd_s3_put_file(direct, &object, BUCKET, "a", file_in("absent"), NULL), HD_E_IO, "absent");
	GOOD(hd_s3_delete(direct, BUCKET, "no/such"));
	expect_folder_empty();
}

Test(s3, no_overwrite)
{
	hd_s3_object object;
	hd_s3_put_options options = {.no_overwrite = true, .content_type = "text/plain"};
	char out[16];
	size_t got;
	GOOD(hd_s3_delete(direct, BUCKET, "once"));
	GOOD(hd_s3_put_bytes(direct, &object, BUCKET, "once", "first", 5, &options));
	expect_error(
	        hd_s3_put_bytes(direct, &object, BUCKET, "once", "other", 5, &options), HD_E_DATA, "exists already");
	GOOD(hd_s3_get_range(direct, out, &got, &object, BUCKET, "once", 0, sizeof out, NULL));
	cr_assert(got == 5 && !memcmp(out, "first", 5));
	GOOD(hd_s3_put_bytes(direct, &object, BUCKET, "once", "second", 6, NULL));
}

Test(s3, copies)
{
	hd_s3_object put, copy, got;
	GOOD(hd_s3_put_bytes(direct, &put, BUCKET, "from/a b+c%2B=\xe9\x8c\xb2", "copied", 6, NULL));
	GOOD(hd_s3_copy(direct, &copy, BUCKET, "to/x y", BUCKET, "from/a b+c%2B=\xe9\x8c\xb2", put.etag));
	GOOD(hd_s3_get_file(direct, &got, file_in("copy"), BUCKET, "to/x y"));
	expect_file(file_in("copy"), "copied", 6);
	cr_assert_str_eq(got.etag, copy.etag);
	expect_error(
	        hd_s3_copy(direct, &copy, BUCKET, "to/z", BUCKET, "from/absent", NULL), HD_E_DATA, "no such object");
}

/* ---- listings ---- */

#define LISTED 23

Test(s3, lists_page_by_page)
{
	static const int pages[] = {1, 7, 22, 23, 24, 0};
	char key[64];
	hd_s3_object object;
	for (int i = 0; i < LISTED; i++) {
		snprintf(key, sizeof key, "list/%s/n%02d", i % 2 ? "odd" : "even", i);
		GOOD(hd_s3_put_bytes(direct, &object, BUCKET, key, key, (size_t)i, NULL));
	}
	for (size_t p = 0; p < sizeof pages / sizeof *pages; p++) {
		listing l = {0};
		GOOD(hd_s3_list(direct, BUCKET, "list/", NULL, pages[p], collect, &l));
		cr_assert_eq(l.count, LISTED, "%d a page: %zu keys", pages[p], l.count);
		for (int i = 0; i < LISTED; i++) {
			snprintf(key, sizeof key, "list/%s/n%02d", i % 2 ? "odd" : "even", i);
			int at = find(&l, key);
			cr_assert_geq(at, 0, "%s", key);
			cr_assert_eq(l.bytes[at], i);
		}
	}
	listing folders = {0}, none = {0}, some = {.stop_after = 3};
	GOOD(hd_s3_list(direct, BUCKET, "list/", "/", 1, collect, &folders));
	cr_assert_eq(folders.count, 2);
	cr_assert_eq(folders.prefixes, 2);
	cr_assert_geq(find(&folders, "list/odd/"), 0);
	GOOD(hd_s3_list(direct, BUCKET, "no/such/prefix", NULL, 0, collect, &none));
	cr_assert_eq(none.count, 0);
	expect_error(hd_s3_list(direct, BUCKET, "list/", NULL, 2, collect, &some), HD_E_FAILED, "enough");
	cr_assert_eq(some.count, 3);
	expect_error(hd_s3_list(direct, "heimdall-no-such-bucket", "", NULL, 0, collect, &none), HD_E_DATA,
	        "no such bucket");
}

/* ---- parts ---- */

#define PART ((int64_t)5 << 20) /* S3's smallest */

Test(s3, multipart)
{
	hd_s3 *s = client(variable("HD_S3_URL"), NULL, PART);
	static const int64_t sizes[] = {PART + 1, 2 * PART, 3 * PART + 12345};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		hd_s3_object put, head;
		unsigned char *data = malloc((size_t)sizes[i]);
		fill(data, (size_t)sizes[i], 40 + (unsigned)i);
		write_file(file_in("large"), data, (size_t)sizes[i]);
		GOOD(hd_s3_put_file(s, &put, BUCKET, "parts/a b+c", file_in("large"), NULL));
		GOOD(hd_s3_head(s, &head, BUCKET, "parts/a b+c"));
		cr_assert_eq(head.bytes, sizes[i]);
		/* rclone gives an object made of parts another one than it said */
		cr_assert(!strcmp(head.etag, put.etag) || !strcmp(variable("HD_S3_SERVER"), "rclone"));
		GOOD(hd_s3_get_file(s, &head, file_in("got"), BUCKET, "parts/a b+c"));
		expect_file(file_in("got"), data, (size_t)sizes[i]);
		free(data);
	}
	hd_s3_put_options once = {.no_overwrite = true};
	hd_s3_object object;
	expect_error(hd_s3_put_file(s, &object, BUCKET, "parts/a b+c", file_in("large"), &once), HD_E_DATA,
	        "exists already");
	hd_s3_close(s);
}

/* ---- who may ---- */

Test(s3, wrong_keys_are_named)
{
	hd_s3_object object;
	hd_s3_config config;
	hd_s3 *s;
	const char *secret = variable("AWS_SECRET_ACCESS_KEY"), *access_key = variable("AWS_ACCESS_KEY_ID");
	hd_s3_settings wrong = {
	        .endpoint = variable("HD_S3_URL"), .access_key = access_key, .secret_key = "wrong/secret"};
	GOOD(hd_s3_config_resolve(&config, &wrong, NULL));
	GOOD(hd_s3_open(&s, &config));
	expect_error(hd_s3_head(s, &object, BUCKET, "a"), HD_E_FAILED, "SignatureDoesNotMatch");
	cr_assert(!strstr(hd_error_text(), "wrong/secret") && !strstr(hd_error_text(), access_key));
	hd_s3_close(s);
	hd_s3_settings unknown = {.endpoint = variable("HD_S3_URL"), .access_key = "HDNOSUCHKEY", .secret_key = secret};
	GOOD(hd_s3_config_resolve(&config, &unknown, NULL));
	GOOD(hd_s3_open(&s, &config));
	expect_error(hd_s3_put_bytes(s, &object, BUCKET, "a", "x", 1, NULL), HD_E_FAILED, "InvalidAccessKeyId");
	cr_assert(!strstr(hd_error_text(), secret));
	hd_s3_close(s);
	if (!strcmp(variable("HD_S3_SERVER"), "rclone"))
		return; /* has other words for requests that are not signed */
	hd_s3_settings nobody = {.endpoint = variable("HD_S3_URL"), .anonymous = true};
	GOOD(hd_s3_config_resolve(&config, &nobody, NULL));
	GOOD(hd_s3_open(&s, &config));
	expect_error(hd_s3_get_file(s, &object, file_in("x"), BUCKET, "a"), HD_E_FAILED, "access denied");
	hd_s3_close(s);
}

/* The server's own judgement of a clock that is an hour off, both ways. */
Test(s3, clock_skew_is_named)
{
	static const int64_t ahead[] = {3600, -3600};
	for (size_t i = 0; i < 2; i++) {
		hd_s3 *s;
		hd_s3_object object;
		hd_s3_config config;
		hd_s3_settings settings = {.endpoint = variable("HD_S3_URL")};
		GOOD(hd_s3_config_resolve(&config, &settings, NULL));
		config.clock_ahead_s = ahead[i];
		GOOD(hd_s3_open(&s, &config));
		hd_status st = hd_s3_put_bytes(s, &object, BUCKET, "skewed", "x", 1, NULL);
		expect_error(st, HD_E_FAILED, "this machine's clock is 3");
		expect_error(st, HD_E_FAILED, ahead[i] > 0 ? "ahead of the server's" : "behind the server's");
		expect_error(hd_s3_head(s, &object, BUCKET, "skewed"), HD_E_FAILED, "clock");
		hd_s3_close(s);
	}
}

/* The bucket in the host's name; libcurl takes every name under localhost for this machine. */
Test(s3, virtual_host_style)
{
	if (!strcmp(variable("HD_S3_SERVER"), "rclone"))
		cr_skip_test("rclone takes either style, not both");
	hd_s3 *s;
	hd_s3_object object;
	hd_s3_config config;
	hd_s3_settings settings = {.endpoint = variable("HD_S3_NAMED"), .style = "virtual", .attempts = 1};
	GOOD(hd_s3_config_resolve(&config, &settings, NULL));
	GOOD(hd_s3_open(&s, &config));
	GOOD(hd_s3_put_bytes(s, &object, BUCKET, "virtual/a b+c%2B", "by name", 7, NULL));
	GOOD(hd_s3_get_file(direct, &object, file_in("by_name"), BUCKET, "virtual/a b+c%2B"));
	expect_file(file_in("by_name"), "by name", 7);
	GOOD(hd_s3_get_file(s, &object, file_in("by_name_too"), BUCKET, "virtual/a b+c%2B"));
	expect_file(file_in("by_name_too"), "by name", 7);
	hd_s3_close(s);
}
