/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation of kernels.def on one back end: checked against its reference on the same case object first, then
 * timed, as a share of what the device can do: min(products, memory * intensity), both measured in the same run.
 *
 * Times are the host's clock's, for a back end has no other. A sample is: caches flushed, calls queued, one wait for
 * the device.
 *   us        of a call. Where the device has its own memory, a sample is as many calls as take about 0.3 ms, each on
 *             copies of the buffers of its own, so that all start from memory and launch and wait are shared between
 *             them; on the CPU it is one call.
 *   alone us  of a sample of one call: launch, run and wait, which is what a caller who waits sees.
 *   graph us  of a call, the calls of a sample replayed as one recorded graph, so that the host hands over only once:
 *             what a call takes in a training step. Where it is there, rates and %top are by it.
 *   %top      in brackets where handing calls to the device took nine tenths of the time: then the host was measured.
 *
 * Samples are taken until the median's 95 % interval is within 1 %, at least 10, at most 1000 or --limit_s (0.5 s; then
 * at least 3); +-% is what was reached. Types are HD_F32 and, where the case comes in 16 bits, HD_BF16; HD_F16 by
 * --dtypes.
 *
 * --shapes large takes the shapes of ConvNeXt's training step (bench/common/training_step.h) instead of the cases' own.
 * They are checked at the same widths and so small a batch that the reference is quick, and timed with random contents;
 * flat operations are timed at 32 M elements at most. --budget_s: what is not begun by then is left out.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/common/arguments.h"
#include "bench/common/ceilings.h"
#include "bench/common/rows.h"
#include "bench/common/timing.h"
#include "bench/common/training_step.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/version.h"

#define SEED 7u
#define SAMPLE_S 3e-4 /* that the calls of a sample share */
#define COPIES_MOST 64
#define COPIES_BYTES ((size_t)4 << 30)
#define CHECK_FLOPS 2e8 /* up to here a reference is quick */
#define CHECK_BYTES 3e7
#define FLAT_MOST ((int64_t)1 << 25)
#define HOST_BYTES_PER_BYTE 10 /* an output of 4 bytes has 4 doubles and an image */
#define MODELS 8

typedef struct bench {
	hd_backend *backend;
	hd_bench_ceilings top;
	hd_bench_flush flush;
	hd_bench_rule rule;
	const char *op, *models, *dtypes, *shapes;
	int batches[MODELS], batch_count;
	hd_training_step *steps; /* of every model and batch asked for, with --shapes large */
	size_t step_count;
	json_t *rows;
	FILE *csv;
	double budget_s, began_s;
	int failed, timed, left_out;
} bench;

/* ---- copies of a run's buffers, so that every call of a sample finds its own cold ---- */

typedef struct copies {
	hd_backend *backend;
	hd_case_run run[COPIES_MOST]; /* 0: the run itself */
	int count;
} copies;

static size_t run_bytes(const hd_case_run *run)
{
	size_t bytes = 0;
	for (int i = 0; i < run->buffers; i++)
		bytes += run->buffer[i].count * hd_dtype_bytes(run->buffer[i].dtype);
	return bytes;
}

static hd_status add_copy(copies *c)
{
	hd_status st = HD_OK;
	hd_case_run *to = &c->run[c->count++];
	*to = c->run[0];
	for (int i = 0; i < to->buffers; i++)
		to->buffer[i].device = NULL;
	for (int i = 0; i < to->buffers; i++) {
		size_t bytes = to->buffer[i].count * hd_dtype_bytes(to->buffer[i].dtype);
		HD_TRY(c->backend->alloc(c->backend, &to->buffer[i].device, bytes));
		HD_TRY(c->backend->copy(c->backend, to->buffer[i].device, c->run[0].buffer[i].device, bytes, NULL));
	}
done:
	return st;
}

static void drop_copies(copies *c)
{
	for (int r = 1; r < c->count; r++)
		for (int i = 0; i < c->run[r].buffers; i++)
			c->backend->free(c->backend, c->run[r].buffer[i].device);
	c->count = 1;
}

static hd_status call_copy(void *context, int number)
{
	copies *c = context;
	return c->run[number].op->call(&c->backend->ops, &c->run[number]);
}

/* ---- the same calls as a graph ---- */

typedef struct replay {
	hd_backend *backend;
	hd_graph *graph;
} replay;

static hd_status run_replay(void *context, int number)
{
	replay *r = context;
	(void)number;
	return r->backend->run_graph(r->backend, r->graph);
}

static hd_status record(hd_graph **out, copies *c)
{
	hd_backend *b = c->backend;
	hd_status st = b->begin_capture(b);
	if (st != HD_OK)
		return st;
	for (int i = 0; i < c->count && st == HD_OK; i++)
		st = call_copy(c, i);
	hd_status ended = b->end_capture(b, out);
	return st == HD_OK ? ended : st;
}

/* All calls of a sample as one graph. What cannot be recorded has no such time, and says why. */
static hd_status time_graph(hd_bench_row *row, bench *b, const hd_bench_rule *rule, copies *c)
{
	hd_status st = HD_OK;
	replay r = {.backend = b->backend};
	hd_bench_timing t;
	if (!b->backend->begin_capture)
		return HD_OK;
	if (record(&r.graph, c) != HD_OK) {
		hd_message("%s: not timed as a graph: %s", row->op->name, hd_error_text());
		goto done;
	}
	HD_TRY(hd_bench_time(&t, b->backend, &b->flush, rule, 1, run_replay, &r));
	row->graph_s = t.median / c->count;
done:
	b->backend->close_graph(b->backend, r.graph);
	return st;
}

static hd_status time_run(hd_bench_row *row, bench *b, const hd_case_run *run)
{
	hd_status st;
	size_t available, total, bytes = run_bytes(run) + 1;
	copies *c = NULL;
	HD_TRY(hd_alloc(&c, 1, sizeof *c));
	c->backend = b->backend;
	c->run[0] = *run;
	c->count = 1;
	hd_bench_rule rule = b->rule;
	HD_TRY(hd_bench_time(&row->alone, b->backend, &b->flush, &rule, 1, call_copy, c));
	row->time = row->alone;
	if (!b->backend->own_memory)
		goto done;
	HD_TRY(b->backend->memory(b->backend, &available, &total));
	size_t room = available / 2 < COPIES_BYTES ? available / 2 : COPIES_BYTES;
	double wanted = SAMPLE_S / row->alone.median;
	int count = wanted < COPIES_MOST ? (int)wanted + 1 : COPIES_MOST;
	count = (size_t)count > room / bytes ? (int)(room / bytes) : count;
	while (c->count < count)
		HD_TRY(add_copy(c));
	HD_TRY(b->backend->sync(b->backend, NULL));
	HD_TRY(hd_bench_time(&row->time, b->backend, &b->flush, &rule, c->count, call_copy, c));
	HD_TRY(time_graph(row, b, &rule, c));
done:
	if (c)
		drop_copies(c);
	free(c);
	return st;
}

/* ---- one shape ---- */

/* The contents that a check would have put there. */
static hd_status upload(const hd_case_run *run, hd_backend *backend)
{
	hd_status st = HD_OK;
	for (int i = 0; i < run->buffers; i++) {
		const hd_buffer *buffer = &run->buffer[i];
		HD_TRY(backend->upload(
		        backend, buffer->device, buffer->image, buffer->count * hd_dtype_bytes(buffer->dtype), NULL));
	}
	HD_TRY(backend->sync(backend, NULL));
done:
	return st;
}

/* Counts what the budget has no time for. */
static bool out_of_time(bench *b)
{
	bool out = b->budget_s > 0 && hd_now_s() - b->began_s > b->budget_s;
	b->left_out += out;
	return out;
}

static hd_status bench_shape(bench *b, const hd_case *op, const hd_shape *shape, hd_dtype dtype, bool checked)
{
	hd_case_run run = {.buffers = 0};
	hd_bench_row row = {.op = op, .shape = *shape, .dtype = dtype, .backend = b->backend, .top = &b->top};
	hd_status st;
	if (out_of_time(b))
		return HD_OK;
	HD_TRY(hd_case_run_make(&run, op, shape, 0, 0, dtype, SEED, b->backend));
	if (checked)
		HD_TRY(upload(&run, b->backend));
	else
		HD_TRY(hd_case_run_check(&run, b->backend));
	hd_describe(row.text, sizeof row.text, &run);
	HD_TRY(time_run(&row, b, &run));
	hd_bench_row_print(&row, stdout);
	if (b->csv)
		hd_bench_row_csv(&row, b->csv);
	json_array_append_new(b->rows, hd_bench_row_json(&row));
	b->timed++;
done:
	hd_case_run_free(&run, b->backend);
	fflush(stdout);
	return st;
}

/* The same widths at a batch for which the reference is quick. */
static hd_status check_small(bench *b, const hd_case *op, const hd_shape *shape, hd_dtype dtype)
{
	hd_status st;
	hd_case_run run = {.buffers = 0};
	hd_shape small = *shape;
	while (small.d[0] > 1 && (op->flops(&small) > CHECK_FLOPS || op->bytes(&small) > CHECK_BYTES))
		small.d[0] /= 2;
	HD_TRY(hd_case_run_make(&run, op, &small, 0, 0, dtype, SEED, b->backend));
	HD_TRY(hd_case_run_check(&run, b->backend));
done:
	hd_case_run_free(&run, b->backend);
	return st;
}

static void count_failure(bench *b, const char *name, hd_status st)
{
	if (st == HD_OK)
		return;
	printf("%-21s FAILED: %s\n", name, hd_error_text());
	json_array_append_new(b->rows, json_pack("{s:s, s:s}", "op", name, "failed", hd_error_text()));
	b->failed++;
}

/* ---- the shapes of a training step ---- */

/* A row's sizes as the case names them; false where they do not fit. */
static bool shape_of(hd_shape *out, const hd_case *op, const hd_step_row *row)
{
	*out = (hd_shape){{0}};
	if (!strcmp(op->dims, row->dims)) {
		memcpy(out->d, row->d, sizeof out->d);
	} else if (!strcmp(op->dims, "n")) {
		out->d[0] = 1;
		for (int i = 0; i < HD_STEP_DIMS && row->d[i]; i++)
			out->d[0] *= row->d[i];
	} else {
		return false;
	}
	if (!strcmp(op->dims, "n") && out->d[0] > FLAT_MOST)
		out->d[0] = FLAT_MOST;
	return true;
}

static bool seen_before(const bench *b, const hd_case *op, size_t step, size_t row, const hd_shape *shape, bool wide)
{
	for (size_t s = 0; s <= step; s++)
		for (size_t i = 0; i < (s == step ? row : b->steps[s].count); i++) {
			const hd_step_row *r = &b->steps[s].rows[i];
			hd_shape other;
			if (!strcmp(r->op, op->name) && (r->dtype == HD_F32) == wide && shape_of(&other, op, r) &&
			        !memcmp(&other, shape, sizeof other))
				return true;
		}
	return false;
}

static void bench_step_row(bench *b, const hd_case *op, const hd_shape *shape, hd_dtype dtype)
{
	long free_bytes = sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
	if (op->bytes(shape) * HOST_BYTES_PER_BYTE > (double)free_bytes / 2) {
		hd_message("%s: a shape left out: its contents take more than half of this machine's free memory",
		        op->name);
		b->left_out++;
		return;
	}
	if (out_of_time(b))
		return;
	hd_status st = check_small(b, op, shape, dtype);
	if (st == HD_OK)
		st = bench_shape(b, op, shape, dtype, true);
	count_failure(b, op->name, st);
}

/* Heads and optimizer are float in every step: a row of the list with 16-bit maps says by its type which it is. */
static void bench_step(bench *b, const hd_case *op)
{
	int dtype_count;
	const hd_dtype *dtypes = hd_case_dtypes(op, &dtype_count);
	for (size_t s = 0; s < b->step_count; s++)
		for (size_t i = 0; i < b->steps[s].count; i++) {
			const hd_step_row *row = &b->steps[s].rows[i];
			hd_shape shape;
			bool wide = row->dtype == HD_F32;
			if (strcmp(row->op, op->name) != 0 || !shape_of(&shape, op, row) ||
			        seen_before(b, op, s, i, &shape, wide))
				continue;
			for (int d = 0; d < (wide ? 1 : dtype_count); d++)
				if (hd_bench_listed(b->dtypes, hd_bench_dtype_name(dtypes[d])) || wide)
					bench_step_row(b, op, &shape, dtypes[d]);
		}
}

static hd_status list_steps(bench *b)
{
	hd_status st = HD_OK;
	int count;
	const hd_backbone *list = hd_backbone_list(&count);
	HD_TRY(hd_alloc(&b->steps, (size_t)(count * b->batch_count), sizeof *b->steps));
	for (int i = 0; i < count; i++)
		for (int k = 0; k < b->batch_count && hd_bench_listed(b->models, list[i].name); k++) {
			hd_model_config config;
			HD_TRY(hd_bench_model(&config, list[i].name, b->batches[k], NULL, NULL));
			HD_TRY(hd_training_step_list(&b->steps[b->step_count++], &config, HD_BF16));
		}
	if (!b->step_count)
		st = hd_fail(HD_E_USAGE, "--models %s: no such size; train --list_backbones lists them", b->models);
done:
	return st;
}

/* ---- all of them ---- */

static void bench_op(bench *b, const char *name)
{
	const hd_case *op = hd_case_find(name);
	if (!op) {
		count_failure(b, name, hd_fail(HD_E_FAILED, "it has no case"));
		return;
	}
	if (!hd_case_present(&b->backend->ops, name)) {
		printf("%-21s left out: its slot is empty\n", name);
		json_array_append_new(b->rows, json_pack("{s:s, s:s}", "op", name, "left_out", "its slot is empty"));
		return;
	}
	if (b->steps) {
		bench_step(b, op);
		return;
	}
	int dtype_count;
	const hd_dtype *dtypes = hd_case_dtypes(op, &dtype_count);
	for (int d = 0; d < dtype_count; d++)
		for (int i = 0; i < op->bench_count && hd_bench_listed(b->dtypes, hd_bench_dtype_name(dtypes[d])); i++)
			count_failure(b, name, bench_shape(b, op, &op->bench[i], dtypes[d], false));
}

static hd_status run_all(bench *b)
{
	bool known = false;
	const hd_bench_ceilings *top = &b->top;
	printf("commit %s, %s/%s, %d threads; at most: copy %.1f GB/s, triad %.1f GB/s, products f32 %.0f", hd_commit,
	        b->backend->name, b->backend->tier, b->backend->threads, top->copy_gbs, top->triad_gbs,
	        top->f32_gflops);
	if (top->bf16_gflops > 0)
		printf(", bf16 %.0f", top->bf16_gflops);
	if (top->f16_gflops > 0)
		printf(", f16 %.0f", top->f16_gflops);
	printf(" GFLOP/s\n");
	hd_bench_row_heading(stdout);
#define HD_OP(name, kind, params)                                                                                      \
	if (hd_bench_listed(b->op, #name)) {                                                                           \
		known = true;                                                                                          \
		bench_op(b, #name);                                                                                    \
	}
#define HD_WORK(name, params)
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK
	return known ? HD_OK : hd_fail(HD_E_USAGE, "--op %s: no such operation; kernels/kernels.def lists them", b->op);
}

static hd_status write_json(const bench *b, const char *path)
{
	json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:o, s:{s:f, s:i, s:i, s:f, s:I}, s:O}", "version",
	        hd_version, "commit", hd_commit, "backend", b->backend->name, "device", b->backend->tier, "reason",
	        b->backend->reason, "threads", b->backend->threads, "ceilings", hd_bench_ceilings_json(&b->top), "rule",
	        "half_width", b->rule.half_width, "least", b->rule.least, "most", b->rule.most, "limit_s",
	        b->rule.limit_s, "flush_bytes", (json_int_t)b->flush.bytes, "rows", b->rows);
	hd_status st = all ? hd_json_write(path, all, 6) : hd_fail(HD_E_MEMORY, "no memory for the results");
	json_decref(all);
	return st;
}

static hd_status open_csv(bench *b, const char *path)
{
	b->csv = fopen(path, "w");
	if (!b->csv)
		return hd_fail(HD_E_IO, "%s: %s; name a file that can be written", path, strerror(errno));
	hd_bench_row_csv_heading(b->csv);
	return HD_OK;
}

/* Checks what was asked for before anything is measured. */
static hd_status prepare(bench *b, const char *accelerator, const char *threads, const char *batches)
{
	hd_status st;
	double thread_count = 0;
	HD_TRY(hd_bench_number(&thread_count, "--threads", threads, 0));
	b->batch_count = hd_bench_numbers(b->batches, MODELS, batches);
	if (!b->batch_count)
		HD_TRY(hd_fail(HD_E_USAGE, "--batches %s: give numbers with commas between", batches));
	if (strcmp(b->shapes, "bench") != 0 && strcmp(b->shapes, "large") != 0)
		HD_TRY(hd_fail(HD_E_USAGE, "--shapes %s: bench or large", b->shapes));
	if (!strcmp(b->shapes, "large"))
		HD_TRY(list_steps(b));
	HD_TRY(hd_bench_backend_open(&b->backend, accelerator, (int)thread_count));
	HD_TRY(hd_bench_flush_open(&b->flush, b->backend, 0));
	HD_TRY(hd_bench_ceilings_measure(&b->top, b->backend, true));
	b->rows = json_array();
done:
	return st;
}

static void close_bench(bench *b)
{
	for (size_t i = 0; i < b->step_count; i++)
		hd_training_step_free(&b->steps[i]);
	free(b->steps);
	json_decref(b->rows);
	hd_bench_flush_close(&b->flush);
	hd_backend_close(b->backend);
}

int main(int argc, char **argv)
{
	hd_status st;
	bench b = {.models = "tiny,base,large", .dtypes = "f32,bf16", .shapes = "bench", .rule = HD_BENCH_RULE};
	const char *json = NULL, *csv = NULL, *accelerator = "auto", *threads = NULL, *limit = NULL,
	           *batches = "32,256", *budget = NULL;
	const hd_bench_flag flags[] = {{"--accelerator", &accelerator, "cpu|gpu|auto"}, {"--op", &b.op, "NAME,..."},
	        {"--shapes", &b.shapes, "bench|large"}, {"--models", &b.models, "tiny,base,large"},
	        {"--batches", &batches, "32,256"}, {"--dtypes", &b.dtypes, "f32,bf16,f16"},
	        {"--limit_s", &limit, "SECONDS"}, {"--budget_s", &budget, "SECONDS"}, {"--threads", &threads, "COUNT"},
	        {"--json", &json, "FILE"}, {"--csv", &csv, "FILE"}};
	HD_TRY(hd_bench_arguments(flags, HD_COUNT(flags), argc, argv));
	b.began_s = hd_now_s();
	HD_TRY(hd_bench_number(&b.rule.limit_s, "--limit_s", limit, 0));
	HD_TRY(hd_bench_number(&b.budget_s, "--budget_s", budget, 0));
	HD_TRY(prepare(&b, accelerator, threads, batches));
	if (csv)
		HD_TRY(open_csv(&b, csv));
	HD_TRY(run_all(&b));
	if (json)
		HD_TRY(write_json(&b, json));
	printf("%d timed, %d failed, %d left out\n", b.timed, b.failed, b.left_out);
done:
	if (st != HD_OK)
		fprintf(stderr, "error: %s\n", hd_error_text());
	if (b.csv && fclose(b.csv) != 0 && st == HD_OK) {
		fprintf(stderr, "error: %s: %s\n", csv, strerror(errno));
		st = HD_E_IO;
	}
	close_bench(&b);
	return st != HD_OK ? hd_status_exit_code(st) : b.failed || !b.timed;
}
