/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests against real S3 servers share: clients, a folder, the fault proxy's control line. The servers are
 * started by tests/services/run.sh, which sets the HD_S3_* and AWS_* variables. Include once per test program.
 */
#ifndef HD_TESTS_SERVICES_STORE_TEST_H
#define HD_TESTS_SERVICES_STORE_TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/store/s3.h"
#include "tests/services/control.h"

#define BUCKET "heimdall-test"
#define TEXT_BYTES 65536

static char folder[256];
static hd_s3 *direct, *proxied; /* clients of the server itself and through the proxy */

static inline const char *file_in(const char *name)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

/* Keys come from the environment. Waits are as in earnest, limits are shorter. */
static inline hd_s3 *client(const char *endpoint, bool (*stop)(void), int64_t part_bytes)
{
	hd_s3 *s;
	hd_s3_config config;
	hd_s3_settings settings = {.endpoint = endpoint, .attempts = 4, .retry_s = 20, .connect_s = 3, .stall_s = 2};
	GOOD(hd_s3_config_resolve(&config, &settings, NULL));
	config.stop = stop;
	if (part_bytes)
		config.single_bytes = config.part_bytes = part_bytes;
	GOOD(hd_s3_open(&s, &config));
	return s;
}

/* A command to the servers' proxy; its answer is in proxy_text. */
#define control(...) control_at("HD_S3_CONTROL", __VA_ARGS__)

/* How many requests the proxy (or the other host) saw of a method; "" is any. */
static inline int requests(const char *where, const char *method)
{
	int count = 0;
	char start[64];
	snprintf(start, sizeof start, "%s %s", where, method);
	control("log");
	for (const char *line = proxy_text; *line;) {
		count += !strncmp(line, start, strlen(start));
		const char *end = strchr(line, '\n');
		if (!end)
			break;
		line = end + 1;
	}
	return count;
}

static inline void begin_test(void)
{
	snprintf(folder, sizeof folder, "%s/heimdall-s3-XXXXXX", variable("TMPDIR"));
	cr_assert_not_null(mkdtemp(folder));
	direct = client(variable("HD_S3_URL"), NULL, 0);
	GOOD(hd_s3_make_bucket(direct, BUCKET));
	proxied = client(variable("HD_S3_PROXY"), NULL, 0);
	control("clear");
}

/* Files stay: run.sh looks through them for keys and removes them. */
static inline void end_test(void)
{
	hd_s3_close(direct);
	hd_s3_close(proxied);
}

/* Bytes that differ everywhere and come again from the seed. */
static inline void fill(unsigned char *out, size_t bytes, unsigned seed)
{
	unsigned long long x = seed * 2654435761ULL + 88172645463325252ULL;
	for (size_t i = 0; i < bytes; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = (unsigned char)(x >> 24);
	}
}

static inline void write_file(const char *path, const void *data, size_t bytes)
{
	FILE *f = fopen(path, "wb");
	cr_assert(f, "%s", path);
	cr_assert_eq(fwrite(data, 1, bytes, f), bytes);
	cr_assert_eq(fclose(f), 0);
}

static inline void expect_file(const char *path, const void *data, size_t bytes)
{
	FILE *f = fopen(path, "rb");
	cr_assert(f, "%s is not there", path);
	unsigned char *got = malloc(bytes + 1);
	size_t n = fread(got, 1, bytes + 1, f);
	fclose(f);
	cr_assert_eq(n, bytes, "%s has %zu bytes of %zu", path, n, bytes);
	cr_assert(!memcmp(got, data, bytes), "%s differs", path);
	free(got);
}

static inline void expect_absent(const char *path)
{
	cr_assert_neq(access(path, F_OK), 0, "%s is there", path);
}

/* No temporary file is left behind either. */
static inline void expect_folder_empty(void)
{
	char command[400];
	snprintf(command, sizeof command, "test -z \"$(ls -A '%s')\"", folder);
	cr_assert_eq(system(command), 0, "files are left in %s", folder);
}

static inline void expect_error(hd_status got, hd_status want, const char *words)
{
	cr_assert_eq(got, want, "status %d (%s), not %d", got, got == HD_OK ? "ok" : hd_error_text(), want);
	cr_assert(strstr(hd_error_text(), words), "no '%s' in: %s", words, hd_error_text());
}

#endif
