/* SPDX-License-Identifier: Apache-2.0 */
/* Copy, triad and products, each at the largest size that is quick enough. */
#include "bench/common/ceilings.h"

#include <stdbool.h>

#include "host/common/progress.h"
#include "tests/cases/case.h"

#define REPEATS 7
#define QUICK_S 0.02
#define MEMORY_LEAST ((size_t)16 << 20)
#define MEMORY_MOST ((size_t)1 << 30)
#define PRODUCT_LEAST 256
#define PRODUCT_MOST 8192

/* An operation on buffers without a host's side, filled with one byte each. */
typedef struct bare {
	hd_case_run run;
	hd_shape shape;
	hd_backend *backend;
} bare;

static hd_status give(bare *b, const char *name, hd_dtype dtype, size_t count)
{
	hd_status st;
	/* 0x3c3c is 0.0115 in bfloat16 and 1.06 in half precision, 0x3c3c3c3c is 0.0115 in float */
	const int byte = 0x3c;
	size_t bytes = count * hd_dtype_bytes(dtype);
	hd_buffer *buffer = &b->run.buffer[b->run.buffers];
	*buffer = (hd_buffer){.name = name, .dtype = dtype, .count = count};
	HD_TRY(b->backend->alloc(b->backend, &buffer->device, bytes));
	b->run.buffers++;
	HD_TRY(b->backend->fill(b->backend, buffer->device, byte, bytes, NULL));
	HD_TRY(b->backend->sync(b->backend, NULL));
done:
	return st;
}

static void take(bare *b)
{
	for (int i = b->run.buffers - 1; i >= 0; i--)
		b->backend->free(b->backend, b->run.buffer[i].device);
	b->run.buffers = 0;
}

/* Shortest of some calls, in seconds: a ceiling is what was reached once. */
static hd_status shortest(double *out, const bare *b)
{
	hd_status st = HD_OK;
	*out = 1e30;
	for (int i = 0; i <= REPEATS; i++) {
		double start = hd_now_s();
		HD_TRY(b->run.op->call(&b->backend->ops, &b->run));
		HD_TRY(b->backend->sync(b->backend, NULL));
		double s = hd_now_s() - start;
		*out = i > 0 && s < *out ? s : *out;
	}
done:
	return st;
}

static hd_status measure_copy(double *out_gbs, hd_backend *backend, size_t most)
{
	hd_status st = HD_OK;
	void *from = NULL, *to = NULL;
	double best = 0;
	for (size_t bytes = MEMORY_LEAST; best < QUICK_S && bytes <= most; bytes *= 2) {
		backend->free(backend, to);
		backend->free(backend, from);
		to = from = NULL;
		HD_TRY(backend->alloc(backend, &from, bytes));
		HD_TRY(backend->alloc(backend, &to, bytes));
		HD_TRY(backend->fill(backend, from, 1, bytes, NULL));
		HD_TRY(backend->fill(backend, to, 1, bytes, NULL));
		HD_TRY(backend->sync(backend, NULL));
		best = 1e30;
		for (int i = 0; i < REPEATS; i++) {
			double start = hd_now_s();
			HD_TRY(backend->copy(backend, to, from, bytes, NULL));
			HD_TRY(backend->sync(backend, NULL));
			double s = hd_now_s() - start;
			best = s < best ? s : best;
		}
		*out_gbs = 2e-9 * (double)bytes / best;
	}
done:
	backend->free(backend, to);
	backend->free(backend, from);
	return st;
}

/* In place: where a target is fetched before it is written, as on CPUs, a third array would be a hidden transfer. */
static hd_status measure_triad(double *out_gbs, hd_backend *backend, size_t most)
{
	hd_status st = HD_OK;
	double best = 0;
	bare b = {.backend = backend};
	for (size_t bytes = MEMORY_LEAST; best < QUICK_S && bytes <= most; bytes *= 2) {
		size_t n = bytes / sizeof(float);
		take(&b);
		b.shape.d[0] = (int64_t)n;
		b.run = (hd_case_run){.op = hd_case_find("add"), .shape = &b.shape, .variant = 1, .dtype = HD_F32};
		HD_TRY(give(&b, "a", HD_F32, n));
		HD_TRY(give(&b, "b", HD_F32, n));
		HD_TRY(shortest(&best, &b));
		*out_gbs = 3e-9 * (double)bytes / best;
	}
done:
	take(&b);
	return st;
}

static hd_status measure_product(double *out_gflops, int *out_size, hd_backend *backend, hd_dtype dtype, size_t most)
{
	hd_status st = HD_OK;
	double best = 0;
	bare b = {.backend = backend};
	const hd_case *op = hd_case_find("linear_fwd");
	if (!op || !backend->ops.linear_fwd || (dtype != HD_F32 && !op->narrow))
		return HD_OK;
	for (int n = PRODUCT_LEAST; best < QUICK_S && n <= PRODUCT_MOST; n *= 2) {
		size_t count = (size_t)n * (size_t)n;
		if (3 * count * hd_dtype_bytes(dtype) > most)
			break;
		take(&b);
		b.shape = (hd_shape){{n, n, n}};
		b.run = (hd_case_run){.op = op, .shape = &b.shape, .variant = 1, .dtype = dtype}; /* 1: no bias */
		HD_TRY(give(&b, "y", dtype, count));
		HD_TRY(give(&b, "x", dtype, count));
		HD_TRY(give(&b, "w", dtype, count));
		HD_TRY(shortest(&best, &b));
		double rate = 2e-9 * (double)count * n / best;
		*out_size = rate > *out_gflops ? n : *out_size;
		*out_gflops = rate > *out_gflops ? rate : *out_gflops;
	}
done:
	take(&b);
	return st;
}

hd_status hd_bench_ceilings_measure(hd_bench_ceilings *out, hd_backend *backend, bool wide)
{
	hd_status st;
	size_t available, total;
	*out = (hd_bench_ceilings){0};
	HD_TRY(backend->memory(backend, &available, &total));
	size_t most = available / 8 < MEMORY_MOST ? available / 8 : MEMORY_MOST;
	HD_TRY(measure_copy(&out->copy_gbs, backend, most));
	HD_TRY(measure_triad(&out->triad_gbs, backend, most));
	HD_TRY(measure_product(&out->f32_gflops, &out->f32_size, backend, HD_F32, most));
	if (wide) {
		HD_TRY(measure_product(&out->bf16_gflops, &out->bf16_size, backend, HD_BF16, most));
		HD_TRY(measure_product(&out->f16_gflops, &out->f16_size, backend, HD_F16, most));
	}
done:
	return st == HD_OK ? st : hd_context(st, "measuring what %s can do at most", backend->tier);
}

double hd_bench_memory_gbs(const hd_bench_ceilings *c)
{
	return c->copy_gbs > c->triad_gbs ? c->copy_gbs : c->triad_gbs;
}

double hd_bench_product_gflops(const hd_bench_ceilings *c, hd_dtype dtype)
{
	double own = dtype == HD_BF16 ? c->bf16_gflops : dtype == HD_F16 ? c->f16_gflops : c->f32_gflops;
	return own > 0 ? own : c->f32_gflops;
}

json_t *hd_bench_ceilings_json(const hd_bench_ceilings *c)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:i, s:i, s:i}", "copy_gb_per_s", c->copy_gbs, "triad_gb_per_s",
	        c->triad_gbs, "f32_gflop_per_s", c->f32_gflops, "bf16_gflop_per_s", c->bf16_gflops, "f16_gflop_per_s",
	        c->f16_gflops, "f32_size", c->f32_size, "bf16_size", c->bf16_size, "f16_size", c->f16_size);
}
