/* SPDX-License-Identifier: Apache-2.0 */
/* The store over real servers: copies on disk that are never older than the object, shared by threads, under a limit.
 */
#include "tests/services/store_test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "host/store/store.h"

#define KEY "fetch/a b+c=%2B/\xe9\x8c\xb2.npy"
#define URL "s3://" BUCKET "/" KEY

TestSuite(fetch, .init = begin_test, .fini = end_test, .timeout = 120);

static hd_store *open_store(const char *endpoint, int64_t cache_bytes)
{
	hd_store *s;
	hd_store_settings settings = {.flags = {.endpoint = endpoint, .attempts = 4, .stall_s = 2},
	        .cache_folder = file_in("cache"),
	        .cache_bytes = cache_bytes};
	GOOD(hd_store_open(&s, &settings));
	return s;
}

static int files_named(const char *pattern)
{
	char command[500], text[32] = "";
	snprintf(command, sizeof command, "find '%s/cache' -type f -name '%s' ! -name lock | wc -l", folder, pattern);
	FILE *pipe = popen(command, "r");
	cr_assert_not_null(fgets(text, sizeof text, pipe));
	pclose(pipe);
	return atoi(text);
}

static void put(const char *key, const void *content, size_t bytes, hd_s3_object *object)
{
	GOOD(hd_s3_put_bytes(direct, object, BUCKET, key, content, bytes, NULL));
}

Test(fetch, copies_are_used_and_never_old)
{
	hd_s3_object object;
	hd_store_file one, two, three;
	struct stat before, after;
	hd_store *s = open_store(variable("HD_S3_PROXY"), -1);
	put(KEY, "first", 5, &object);
	GOOD(hd_store_fetch(s, &one, URL));
	expect_file(one.path, "first", 5);
	cr_assert_eq(strlen(one.version) + 2, strlen(object.etag));
	cr_assert(!strncmp(one.version, object.etag + 1, strlen(one.version)), "%s of %s", one.version, object.etag);
	cr_assert_eq(stat(one.path, &before), 0);
	GOOD(hd_store_fetch(s, &two, URL));
	cr_assert_str_eq(two.path, one.path);
	cr_assert(stat(two.path, &after) == 0 && after.st_ino == before.st_ino, "fetched again");
	cr_assert_eq(requests("proxy", ""), 2, "%s", proxy_text);
	cr_assert_eq(requests("answer", "304"), 1, "%s", proxy_text);
	put(KEY, "second!", 7, &object);
	GOOD(hd_store_fetch(s, &three, URL));
	expect_file(three.path, "second!", 7);
	expect_file(one.path, "first", 5); /* who reads the old one goes on with it */
	cr_assert_str_neq(one.version, three.version);
	hd_store_release(&one);
	hd_store_release(&two);
	hd_store_release(&three);
	GOOD(hd_s3_delete(direct, BUCKET, KEY));
	expect_error(hd_store_fetch(s, &one, URL), HD_E_DATA, URL ": no such object");
	cr_assert_null(one.path);
	hd_store_close(s);
}

Test(fetch, failures_leave_nothing)
{
	hd_s3_object object;
	hd_store_file f;
	unsigned char *data = malloc(400000);
	fill(data, 400000, 3);
	put(KEY, data, 400000, &object);
	hd_store *s = open_store(variable("HD_S3_PROXY"), -1);
	control("fault short 1 GET * 200000");
	control("fault etag 1 GET * 0123");
	expect_error(hd_store_fetch(s, &f, URL), HD_E_DATA, "changed while it was read");
	cr_assert_eq(files_named("*"), 0);
	control("fault short 2 GET * 150000");
	GOOD(hd_store_fetch(s, &f, URL));
	expect_file(f.path, data, 400000);
	hd_store_release(&f);
	hd_store_close(s);
	free(data);
}

Test(fetch, put_and_nothing_kept)
{
	hd_store_file f;
	hd_store *s = open_store(variable("HD_S3_URL"), 1);
	write_file(file_in("model.onnx"), "weights", 7);
	GOOD(hd_store_put(s, "s3://" BUCKET "/models/v1/model.onnx", file_in("model.onnx"), false));
	expect_error(hd_store_put(s, "s3://" BUCKET "/models/v1/model.onnx", file_in("model.onnx"), true), HD_E_DATA,
	        "exists already");
	GOOD(hd_store_fetch(s, &f, "s3://" BUCKET "/models/v1/model.onnx"));
	expect_file(f.path, "weights", 7);
	hd_store_release(&f);
	hd_store_close(s);
	cr_assert_eq(files_named("*"), 0);
}

/* ---- many at once ---- */

#define OBJECTS 24
#define OBJECT_BYTES 200000
#define THREADS 8
#define FETCHES 30

typedef struct crew {
	hd_store *store;
	atomic_int next, bad;
} crew;

static void *work(void *context)
{
	crew *c = context;
	unsigned char *want = malloc(OBJECT_BYTES), *got = malloc(OBJECT_BYTES + 1);
	for (int i; (i = atomic_fetch_add(&c->next, 1)) < THREADS * FETCHES;) {
		char url[100];
		hd_store_file f;
		unsigned which = (unsigned)(i * 7) % OBJECTS;
		snprintf(url, sizeof url, "s3://" BUCKET "/many/%u", which);
		if (hd_store_fetch(c->store, &f, url) != HD_OK) {
			fprintf(stderr, "%s\n", hd_error_text());
			atomic_fetch_add(&c->bad, 1);
			continue;
		}
		fill(want, OBJECT_BYTES, which);
		FILE *file = fopen(f.path, "rb");
		size_t n = file ? fread(got, 1, OBJECT_BYTES + 1, file) : 0;
		if (n != OBJECT_BYTES || memcmp(want, got, n) != 0)
			atomic_fetch_add(&c->bad, 1);
		if (file)
			fclose(file);
		hd_store_release(&f);
	}
	free(want);
	free(got);
	return NULL;
}

Test(fetch, threads_share_one_store_under_a_limit)
{
	pthread_t threads[THREADS];
	hd_s3_object object;
	char key[32];
	unsigned char *data = malloc(OBJECT_BYTES);
	for (unsigned i = 0; i < OBJECTS; i++) {
		snprintf(key, sizeof key, "many/%u", i);
		fill(data, OBJECT_BYTES, i);
		put(key, data, OBJECT_BYTES, &object);
	}
	crew c = {.store = open_store(variable("HD_S3_URL"), OBJECT_BYTES * 10)};
	for (int t = 0; t < THREADS; t++)
		cr_assert_eq(pthread_create(&threads[t], NULL, work, &c), 0);
	for (int t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
	cr_assert_eq(atomic_load(&c.bad), 0);
	hd_store_close(c.store);
	cr_assert_leq(files_named("*.*"), 10);
	cr_assert_eq(files_named("new.*"), 0);
	free(data);
}
