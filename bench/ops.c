/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation at the shapes of ConvNeXt Atto at batch 32 and one larger: checked first on the same case
 * object, then timed, as a share of what this machine can do: min(compute, bandwidth * intensity).
 */
#include <dnnl.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/version.h"
#include "tests/cases/case.h"

#define SEED 7u
#define COPY_BYTES ((size_t)256 << 20)
#define FLUSH_BYTES ((size_t)64 << 20)
#define GEMM_SIZE 1024
#define WANTED_SECONDS 0.05
#define REPEATS_MIN 5
#define REPEATS_MAX 200
#define CEILING_REPEATS 7

typedef struct machine {
	double memory_gbs; /* read plus written */
	double gflops;
} machine;

typedef struct bench {
	hd_backend *backend;
	machine top;
	unsigned char *flush;
	json_t *rows;
	FILE *csv;
	int failed;
	int timed;
} bench;

typedef struct timing {
	double median, p10, p90;
} timing;

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static timing summarise(double *times, int count)
{
	qsort(times, (size_t)count, sizeof *times, by_value);
	return (timing){times[count / 2], times[count / 10], times[count - 1 - count / 10]};
}

/*
 * The memory ceiling: an update in place, two reads and one write per element. A plain copy would read low, as its
 * target is fetched before it is written, a third transfer that no count of bytes shows.
 */
static hd_status measure_memory(machine *top)
{
	hd_status st;
	float *from = NULL, *to = NULL;
	size_t n = COPY_BYTES / sizeof(float);
	HD_TRY(hd_alloc(&from, n, sizeof *from));
	HD_TRY(hd_alloc(&to, n, sizeof *to));
	/* written first: pages never touched all map to one */
	memset(from, 1, COPY_BYTES);
	memset(to, 1, COPY_BYTES);
	for (int repeat = 0; repeat < CEILING_REPEATS; repeat++) {
		double start = hd_now_s();
#pragma omp parallel for simd schedule(static)
		for (size_t i = 0; i < n; i++)
			to[i] = 0.5f * to[i] + from[i];
		double rate = 3e-9 * (double)COPY_BYTES / (hd_now_s() - start);
		top->memory_gbs = rate > top->memory_gbs ? rate : top->memory_gbs;
	}
done:
	free(to);
	free(from);
	return st;
}

static hd_status measure_gemm(machine *top)
{
	hd_status st = HD_OK;
	float *a = NULL, *b = NULL, *c = NULL;
	size_t n = (size_t)GEMM_SIZE * GEMM_SIZE;
	HD_TRY(hd_alloc(&a, n, sizeof(float)));
	HD_TRY(hd_alloc(&b, n, sizeof(float)));
	HD_TRY(hd_alloc(&c, n, sizeof(float)));
	for (size_t i = 0; i < n; i++)
		a[i] = b[i] = (float)(i % 7);
	for (int repeat = 0; repeat < CEILING_REPEATS; repeat++) {
		double start = hd_now_s();
		if (dnnl_sgemm('N', 'N', GEMM_SIZE, GEMM_SIZE, GEMM_SIZE, 1, a, GEMM_SIZE, b, GEMM_SIZE, 0, c,
		            GEMM_SIZE) != dnnl_success)
			HD_TRY(hd_fail(HD_E_FAILED, "dnnl_sgemm of %d does not run", GEMM_SIZE));
		double rate = 2e-9 * (double)n * GEMM_SIZE / (hd_now_s() - start);
		top->gflops = rate > top->gflops ? rate : top->gflops;
	}
done:
	free(c);
	free(b);
	free(a);
	return st;
}

/* Writes more than the last-level cache holds, so that every repeat starts from memory. */
static void flush_caches(bench *b)
{
	for (size_t i = 0; i < FLUSH_BYTES; i += 64)
		b->flush[i]++;
}

static hd_status time_run(timing *out, bench *b, const hd_case_run *run)
{
	hd_status st = HD_OK;
	double times[REPEATS_MAX];
	double start = hd_now_s();
	HD_TRY(run->op->call(&b->backend->ops, run));
	HD_TRY(b->backend->sync(b->backend, NULL));
	double once = hd_now_s() - start;
	int repeats = once * REPEATS_MAX < WANTED_SECONDS ? REPEATS_MAX : (int)(WANTED_SECONDS / once);
	repeats = repeats < REPEATS_MIN ? REPEATS_MIN : repeats;
	for (int i = 0; i < repeats; i++) {
		flush_caches(b);
		start = hd_now_s();
		HD_TRY(run->op->call(&b->backend->ops, run));
		HD_TRY(b->backend->sync(b->backend, NULL));
		times[i] = hd_now_s() - start;
	}
	*out = summarise(times, repeats);
done:
	return st;
}

static void print_row(bench *b, const hd_case_run *run, timing t)
{
	char shape[160];
	double flops = run->op->flops(run->shape), bytes = run->op->bytes(run->shape);
	double gbs = 1e-9 * bytes / t.median, gflops = 1e-9 * flops / t.median;
	double by_memory = 1e-9 * bytes / b->top.memory_gbs, by_compute = 1e-9 * flops / b->top.gflops;
	double share = 100 * (by_memory > by_compute ? by_memory : by_compute) / t.median;
	hd_describe(shape, sizeof shape, run);
	printf("%-18.18s %-30.30s %8.1f %8.1f %8.1f %6.1f %6.1f %5.0f\n", run->op->name, shape, 1e6 * t.median,
	        1e6 * t.p10, 1e6 * t.p90, gbs, gflops, share);
	if (b->csv)
		fprintf(b->csv, "%s,%s,%s,%s,%.3f,%.3f,%.3f,%.3f,%.3f,%.2f\n", hd_commit, b->backend->tier,
		        run->op->name, shape, 1e6 * t.median, 1e6 * t.p10, 1e6 * t.p90, gbs, gflops, share);
	json_array_append_new(
	        b->rows, json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f}", "op", run->op->name, "shape", shape,
	                         "median_us", 1e6 * t.median, "p10_us", 1e6 * t.p10, "p90_us", 1e6 * t.p90, "gb_per_s",
	                         gbs, "gflop_per_s", gflops, "percent_of_ceiling", share));
}

static hd_status bench_shape(bench *b, const hd_case *op, const hd_shape *shape)
{
	hd_case_run run;
	timing t;
	hd_status st = HD_OK;
	HD_TRY(hd_case_run_make(&run, op, shape, 0, 0, HD_F32, SEED, b->backend));
	HD_TRY(hd_case_run_check(&run, b->backend));
	HD_TRY(time_run(&t, b, &run));
	print_row(b, &run, t);
	b->timed++;
done:
	hd_case_run_free(&run, b->backend);
	return st;
}

static void bench_op(bench *b, const char *name)
{
	const hd_case *op = hd_case_find(name);
	if (!op) {
		printf("%-18s FAILED: no case object\n", name);
		b->failed++;
		return;
	}
	if (!hd_case_present(&b->backend->ops, name)) {
		printf("%-18s skipped: slot is empty\n", name);
		return;
	}
	for (int i = 0; i < op->bench_count; i++) {
		if (bench_shape(b, op, &op->bench[i]) == HD_OK)
			continue;
		printf("%-18s FAILED: %s\n", name, hd_error_text());
		b->failed++;
	}
	fflush(stdout);
}

static hd_status open_csv(bench *b, const char *path)
{
	b->csv = fopen(path, "w");
	if (!b->csv)
		return hd_fail(HD_E_IO, "%s: %s; name a file that can be written", path, strerror(errno));
	fprintf(b->csv, "commit,tier,op,shape,median_us,p10_us,p90_us,gb_per_s,gflop_per_s,percent_of_ceiling\n");
	return HD_OK;
}

static hd_status write_json(const bench *b, const char *path)
{
	json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:i, s:f, s:f, s:O}", "version", hd_version, "commit", hd_commit,
	        "backend", b->backend->name, "tier", b->backend->tier, "threads", b->backend->threads,
	        "memory_gb_per_s", b->top.memory_gbs, "gflop_per_s", b->top.gflops, "rows", b->rows);
	int bad = !all || json_dump_file(all, path, JSON_INDENT(1)) != 0;
	json_decref(all);
	return bad ? hd_fail(HD_E_IO, "%s: cannot be written; name a file that can", path) : HD_OK;
}

static hd_status run_all(bench *b, const char *only)
{
	int known = only == NULL;
	printf("commit %s, %s/%s, %d threads; ceilings: memory %.1f GB/s, sgemm %.0f GFLOP/s\n", hd_commit,
	        b->backend->name, b->backend->tier, b->backend->threads, b->top.memory_gbs, b->top.gflops);
	printf("%-18s %-30s %8s %8s %8s %6s %6s %5s\n", "op", "shape", "us", "p10", "p90", "GB/s", "GFLOPs", "%top");
#define HD_OP(name, kind, params)                                                                                      \
	if (!only || !strcmp(only, #name)) {                                                                           \
		known = 1;                                                                                             \
		bench_op(b, #name);                                                                                    \
	}
#define HD_WORK(name, params)
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK
	if (!known)
		return hd_fail(HD_E_USAGE, "--op %s: no such operation; kernels/kernels.def lists them", only);
	return HD_OK;
}

int main(int argc, char **argv)
{
	hd_status st = HD_OK;
	bench b = {0};
	const char *json = NULL, *csv = NULL, *only = NULL;
	for (int i = 1; i < argc; i++) {
		const char **value = !strcmp(argv[i], "--json") ? &json : !strcmp(argv[i], "--csv") ? &csv : NULL;
		value = !strcmp(argv[i], "--op") ? &only : value;
		if (!value || i + 1 == argc) {
			fprintf(stderr, "usage: %s [--json FILE] [--csv FILE] [--op NAME]\n", argv[0]);
			return hd_status_exit_code(HD_E_USAGE);
		}
		*value = argv[++i];
	}
	HD_TRY(hd_backend_open(&b.backend, "cpu", 0));
	HD_TRY(hd_alloc(&b.flush, FLUSH_BYTES, 1));
	b.rows = json_array();
	if (csv)
		HD_TRY(open_csv(&b, csv));
	HD_TRY(measure_memory(&b.top));
	HD_TRY(measure_gemm(&b.top));
	HD_TRY(run_all(&b, only));
	if (json)
		HD_TRY(write_json(&b, json));
	printf("%d timed, %d failed\n", b.timed, b.failed);
done:
	if (st != HD_OK)
		fprintf(stderr, "error: %s\n", hd_error_text());
	if (b.csv && fclose(b.csv) != 0 && st == HD_OK)
		st = hd_fail(HD_E_IO, "%s: %s", csv, strerror(errno));
	json_decref(b.rows);
	free(b.flush);
	hd_backend_close(b.backend);
	return st != HD_OK ? hd_status_exit_code(st) : b.failed || !b.timed;
}
