/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading recordings of 1.5 MB from an S3 server on this machine with 8 workers: this store beside curl's own program,
 * which signs too. Two ways of curl, whichever is faster: 8 processes with a share of the URLs each, and one process
 * with
 * --parallel. Ways take turns, and the median of the rounds counts. Fails below 80 % of curl.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/store/s3.h"

#define BUCKET "heimdall-bench"
#define OBJECTS 240
#define OBJECT_BYTES 1500000
#define WORKERS 8
#define ROUNDS 5
#define WANTED 0.8

enum { OURS, CURL_PROCESSES, CURL_PARALLEL, WAYS };
static const char *const names[WAYS] = {"heimdall, 8 workers", "curl, 8 processes", "curl --parallel-max 8"};

static hd_s3 *store;
static char folder[256];
static atomic_int next, bad;

static double clock_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *work(void *unused)
{
	(void)unused;
	for (int i; (i = atomic_fetch_add(&next, 1)) < OBJECTS;) {
		char key[32], path[300];
		hd_s3_object object;
		snprintf(key, sizeof key, "r/%d.npy", i);
		snprintf(path, sizeof path, "%s/%d", folder, i);
		if (hd_s3_get_file(store, &object, path, BUCKET, key) != HD_OK) {
			fprintf(stderr, "%s\n", hd_error_text());
			atomic_fetch_add(&bad, 1);
		}
	}
	return NULL;
}

static void get_ours(void)
{
	pthread_t workers[WORKERS];
	atomic_store(&next, 0);
	for (int w = 0; w < WORKERS; w++) {
		if (pthread_create(&workers[w], NULL, work, NULL) != 0)
			exit(1);
	}
	for (int w = 0; w < WORKERS; w++)
		pthread_join(workers[w], NULL);
}

/* Objects first, first + step, ...; keys go to curl by its standard input, so that no list of processes shows them. */
static pid_t start_curl(int first, int step, bool parallel)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0)
		exit(1);
	pid_t child = fork();
	if (child == 0) {
		dup2(ends[0], 0);
		execlp("curl", "curl", "-sSf", "--no-progress-meter", "-K", "-", parallel ? "--parallel" : (char *)NULL,
		        "--parallel-max", "8", (char *)NULL);
		_exit(127);
	}
	FILE *config = fdopen(ends[1], "w");
	close(ends[0]);
	if (child < 0 || !config)
		exit(1);
	fprintf(config, "aws-sigv4 = \"aws:amz:us-east-1:s3\"\nuser = \"%s:%s\"\n", getenv("AWS_ACCESS_KEY_ID"),
	        getenv("AWS_SECRET_ACCESS_KEY"));
	for (int i = first; i < OBJECTS; i += step)
		fprintf(config, "url = \"%s/%s/r/%d.npy\"\noutput = \"%s/%d\"\n", hd_s3_endpoint(store), BUCKET, i,
		        folder, i);
	fclose(config); /* it begins */
	return child;
}

static void get_curl(int processes, bool parallel)
{
	pid_t children[WORKERS];
	for (int p = 0; p < processes; p++)
		children[p] = start_curl(p, processes, parallel);
	for (int p = 0; p < processes; p++) {
		int status = -1;
		if (waitpid(children[p], &status, 0) != children[p] || status != 0)
			atomic_fetch_add(&bad, 1);
	}
}

/* Every file is there and is the object; they go, so that the next way begins with none. */
static void check_and_remove(void)
{
	unsigned char *got = malloc(OBJECT_BYTES + 1);
	for (int i = 0; i < OBJECTS; i++) {
		char path[300];
		snprintf(path, sizeof path, "%s/%d", folder, i);
		FILE *f = fopen(path, "rb");
		size_t n = f ? fread(got, 1, OBJECT_BYTES + 1, f) : 0;
		if (n != OBJECT_BYTES || got[0] != (unsigned char)i || got[n - 1] != (unsigned char)(i * 3))
			atomic_fetch_add(&bad, 1);
		if (f)
			fclose(f);
		unlink(path);
	}
	free(got);
}

static double run(int way)
{
	double begun = clock_s();
	if (way == OURS)
		get_ours();
	else
		get_curl(way == CURL_PROCESSES ? WORKERS : 1, way == CURL_PARALLEL);
	double seconds = clock_s() - begun;
	check_and_remove();
	return (double)OBJECTS * OBJECT_BYTES / seconds / 1e6;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static bool prepare(void)
{
	hd_s3_config config;
	hd_s3_object object;
	hd_s3_settings settings = {.endpoint = getenv("HD_S3_URL")};
	unsigned char *data = malloc(OBJECT_BYTES);
	hd_status st = hd_s3_config_resolve(&config, &settings, NULL);
	if (st == HD_OK)
		st = hd_s3_open(&store, &config);
	if (st == HD_OK)
		st = hd_s3_make_bucket(store, BUCKET);
	for (int i = 0; st == HD_OK && i < OBJECTS; i++) {
		char key[32];
		snprintf(key, sizeof key, "r/%d.npy", i);
		for (int b = 0; b < OBJECT_BYTES; b++)
			data[b] = (unsigned char)((unsigned)b * 2654435761U >> 13);
		data[0] = (unsigned char)i;
		data[OBJECT_BYTES - 1] = (unsigned char)(i * 3);
		st = hd_s3_put_bytes(store, &object, BUCKET, key, data, OBJECT_BYTES, NULL);
	}
	free(data);
	if (st != HD_OK)
		fprintf(stderr, "%s\n", hd_error_text());
	snprintf(folder, sizeof folder, "%s/bench-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	return st == HD_OK && mkdtemp(folder) != NULL;
}

int main(void)
{
	double rates[WAYS][ROUNDS];
	if (!getenv("HD_S3_URL") || !prepare()) {
		fprintf(stderr, "bench_s3: run it through tests/services/run.sh\n");
		return 1;
	}
	for (int way = 0; way < WAYS; way++)
		run(way); /* the server's caches */
	for (int round = 0; round < ROUNDS; round++) {
		for (int turn = 0; turn < WAYS; turn++) {
			int way = (turn + round) % WAYS;
			rates[way][round] = run(way);
		}
	}
	for (int way = 0; way < WAYS; way++) {
		qsort(rates[way], ROUNDS, sizeof(double), by_value);
		printf("%-24s %7.1f MB/s (%.1f to %.1f in %d rounds of %d x %.1f MB)\n", names[way],
		        rates[way][ROUNDS / 2], rates[way][0], rates[way][ROUNDS - 1], ROUNDS, OBJECTS,
		        OBJECT_BYTES / 1e6);
	}
	double one = rates[CURL_PROCESSES][ROUNDS / 2], other = rates[CURL_PARALLEL][ROUNDS / 2];
	double share = rates[OURS][ROUNDS / 2] / (one > other ? one : other);
	bool good = share >= WANTED && atomic_load(&bad) == 0;
	printf("%.0f %% of curl's throughput (at least %.0f %% wanted), %d files wrong: %s\n", 100 * share,
	        100 * WANTED, atomic_load(&bad), good ? "passed" : "failed");
	hd_s3_close(store);
	return good ? 0 : 1;
}
