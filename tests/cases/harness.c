/* SPDX-License-Identifier: Apache-2.0 */
/* What all cases share: buffers with guards, comparison, gradient check. */
#include "tests/cases/case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref.h"

#define GUARD 64
#define GUARD_BYTE 0xa5
#define STEP 1e-4 /* of the finite differences, for inputs of about 1 */
#define GRADIENT_LIMIT 1e-6

/*
 * Guards are out of bounds for the operation where the address sanitizer sees the device's memory, as on the CPU and
 * under the emulation: else reads of them would pass unseen.
 */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

static void forbid_guards(const hd_case_run *run, bool forbidden)
{
	/* then the emulation's own mark lies on all of the device's memory */
	if (getenv("HD_EMU_POISON"))
		return;
	for (int i = 0; i < run->buffers; i++) {
		const hd_buffer *b = &run->buffer[i];
		size_t bytes = b->count * hd_dtype_bytes(b->dtype);
		ASAN_UNPOISON_MEMORY_REGION(b->base, bytes + 2 * GUARD);
		if (forbidden) {
			ASAN_POISON_MEMORY_REGION(b->base, GUARD);
			ASAN_POISON_MEMORY_REGION((char *)b->base + GUARD + bytes, GUARD);
		}
	}
}

static void *need(size_t count, size_t bytes)
{
	void *p = calloc(count ? count : 1, bytes);
	if (!p) {
		fprintf(stderr, "out of memory: %zu elements of %zu bytes\n", count, bytes);
		abort();
	}
	return p;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
double hd_random(hd_case_run *run, double low, double high)
{
	uint64_t z = run->random += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return low + (high - low) * ((double)(z >> 11) * 0x1p-53);
}

static double load(const void *data, hd_dtype dtype, size_t i)
{
	switch (dtype) {
	case HD_F32:
		return (double)((const float *)data)[i];
	case HD_F64:
		return ((const double *)data)[i];
	case HD_F16:
		return ref_half(((const uint16_t *)data)[i]);
	case HD_I8:
		return ((const int8_t *)data)[i];
	case HD_U8:
		return ((const uint8_t *)data)[i];
	case HD_I16:
		return ((const int16_t *)data)[i];
	case HD_I32:
		return ((const int32_t *)data)[i];
	case HD_BF16:
		return ref_bf16(((const uint16_t *)data)[i]);
	}
	return NAN;
}

static void store(void *data, hd_dtype dtype, size_t i, double value)
{
	switch (dtype) {
	case HD_F32:
		((float *)data)[i] = (float)value;
		break;
	case HD_F64:
		((double *)data)[i] = value;
		break;
	case HD_F16:
		((uint16_t *)data)[i] = ref_to_half(value);
		break;
	case HD_I8:
		((int8_t *)data)[i] = (int8_t)value;
		break;
	case HD_U8:
		((uint8_t *)data)[i] = (uint8_t)value;
		break;
	case HD_I16:
		((int16_t *)data)[i] = (int16_t)value;
		break;
	case HD_I32:
		((int32_t *)data)[i] = (int32_t)value;
		break;
	case HD_BF16:
		((uint16_t *)data)[i] = ref_to_bf16(value);
		break;
	}
}

void hd_set(hd_buffer *buffer, int64_t i, double value)
{
	store(buffer->image, buffer->dtype, (size_t)i, value);
	buffer->value[i] = load(buffer->image, buffer->dtype, (size_t)i);
}

static hd_buffer *add_buffer(hd_case_run *run, const char *name, hd_role role, hd_dtype dtype, size_t count)
{
	if (run->buffers == HD_CASE_BUFFERS || hd_has(run, name)) {
		fprintf(stderr, "%s: buffer '%s': one too many, or the name twice\n", run->op->name, name);
		abort();
	}
	hd_buffer *b = &run->buffer[run->buffers++];
	*b = (hd_buffer){.name = name, .role = role, .dtype = dtype, .count = count};
	b->image = need(count, hd_dtype_bytes(dtype));
	memset(b->image, 0xff, count * hd_dtype_bytes(dtype));
	if (role == HD_SCRATCH)
		return b;
	b->value = need(count, sizeof(double));
	for (size_t i = 0; i < count; i++)
		b->value[i] = load(b->image, dtype, i);
	if (role == HD_OUTPUT) {
		b->want = need(count, sizeof(double));
		b->magnitude = need(count, sizeof(double));
		b->bound = need(count, sizeof(double));
		for (size_t i = 0; i < count; i++)
			b->want[i] = b->bound[i] = NAN; /* an element without a reference fails */
	}
	return b;
}

static void randomise(hd_case_run *run, hd_buffer *b, double low, double high)
{
	bool integer = b->dtype == HD_I8 || b->dtype == HD_U8 || b->dtype == HD_I16 || b->dtype == HD_I32;
	for (size_t i = 0; i < b->count; i++) {
		double value = hd_random(run, low, high);
		hd_set(b, (int64_t)i, integer ? floor(value) : value);
	}
}

hd_buffer *hd_input(hd_case_run *run, const char *name, hd_dtype dtype, int64_t count, double low, double high)
{
	hd_buffer *b = add_buffer(run, name, HD_INPUT, dtype, (size_t)count);
	randomise(run, b, low, high);
	return b;
}

hd_buffer *hd_output(hd_case_run *run, const char *name, hd_dtype dtype, int64_t count)
{
	return add_buffer(run, name, HD_OUTPUT, dtype, (size_t)count);
}

hd_buffer *hd_gradient_output(hd_case_run *run, const char *name, int64_t count)
{
	hd_buffer *b = add_buffer(run, name, HD_OUTPUT, HD_F32, (size_t)count);
	if (run->beta != 0)
		randomise(run, b, -1, 1);
	return b;
}

hd_buffer *hd_scratch(hd_case_run *run, size_t bytes)
{
	return add_buffer(run, "work", HD_SCRATCH, HD_U8, bytes);
}

bool hd_has(const hd_case_run *run, const char *name)
{
	for (int i = 0; i < run->buffers; i++)
		if (!strcmp(run->buffer[i].name, name))
			return true;
	return false;
}

hd_buffer *hd_find(const hd_case_run *run, const char *name)
{
	for (int i = 0; i < run->buffers; i++)
		if (!strcmp(run->buffer[i].name, name))
			return (hd_buffer *)&run->buffer[i];
	fprintf(stderr, "%s: no buffer '%s'\n", run->op->name, name);
	abort();
}

void *hd_dev(const hd_case_run *run, const char *name)
{
	return hd_has(run, name) ? hd_find(run, name)->device : NULL;
}

double *hd_val(const hd_case_run *run, const char *name)
{
	return hd_has(run, name) ? hd_find(run, name)->value : NULL;
}

double *hd_want(const hd_case_run *run, const char *name)
{
	return hd_has(run, name) ? hd_find(run, name)->want : NULL;
}

double *hd_mag(const hd_case_run *run, const char *name)
{
	return hd_has(run, name) ? hd_find(run, name)->magnitude : NULL;
}

void hd_bound(hd_case_run *run, const char *name, double c)
{
	if (!hd_has(run, name))
		return;
	hd_buffer *b = hd_find(run, name);
	for (size_t i = 0; i < b->count; i++)
		b->bound[i] = c * HD_EPS * b->magnitude[i] + HD_EPS * fabs(b->want[i]);
	hd_add_rounding(run, name);
}

/* Half a spacing of 8 or 11 bits, of the largest value within the bound; below the normal range the spacing is fixed.
 */
void hd_add_rounding(hd_case_run *run, const char *name)
{
	hd_buffer *b = hd_find(run, name);
	double half = b->dtype == HD_BF16 ? 0x1p-8 : 0x1p-11, least = b->dtype == HD_BF16 ? 0x1p-134 : 0x1p-25;
	if (b->dtype != HD_BF16 && b->dtype != HD_F16)
		return;
	for (size_t i = 0; i < b->count; i++)
		b->bound[i] += half * (fabs(b->want[i]) + b->bound[i]) + least;
}

void hd_exact(hd_case_run *run, const char *name)
{
	hd_buffer *b = hd_find(run, name);
	for (size_t i = 0; i < b->count; i++)
		b->bound[i] = 0;
}

double hd_sum_c(int64_t n)
{
	return fmin((double)n, 6 * sqrt((double)n)) / 2 + 1;
}

hd_status hd_check_gradient(hd_case_run *run, const char *with_respect_to, hd_function f, const double *x, int64_t nx,
        const double *gradient, const double *g, int64_t ny)
{
	double *d = need((size_t)nx, sizeof *d), *at = need((size_t)nx, sizeof *at);
	double *plus = need((size_t)ny, sizeof *plus), *minus = need((size_t)ny, sizeof *minus);
	double numeric = 0, analytic = 0, scale = 0;
	for (int64_t i = 0; i < nx; i++) {
		d[i] = hd_random(run, -1, 1);
		at[i] = x[i] + STEP * d[i];
		analytic += gradient[i] * d[i];
		scale += fabs(gradient[i] * d[i]);
	}
	f(plus, at, run);
	for (int64_t i = 0; i < nx; i++)
		at[i] = x[i] - STEP * d[i];
	f(minus, at, run);
	for (int64_t i = 0; i < ny; i++)
		numeric += g[i] * (plus[i] - minus[i]) / (2 * STEP);
	free(minus);
	free(plus);
	free(at);
	free(d);
	if (!(fabs(numeric - analytic) <= GRADIENT_LIMIT * scale)) {
		char text[160];
		hd_describe(text, sizeof text, run);
		return hd_fail(HD_E_FAILED,
		        "%s %s seed %llu: reference gradient of %s: got %.15g, by differences %.15g, bound %.3g",
		        run->op->name, text, (unsigned long long)run->seed, with_respect_to, analytic, numeric,
		        GRADIENT_LIMIT * scale);
	}
	return HD_OK;
}

void hd_describe(char *out, size_t bytes, const hd_case_run *run)
{
	size_t at = 0;
	const char *name = run->op->dims;
	for (int i = 0; i < HD_CASE_DIMS && *name && at < bytes; i++) {
		int length = (int)strcspn(name, " ");
		at += (size_t)snprintf(
		        out + at, bytes - at, "%s%.*s=%ld", i ? " " : "", length, name, (long)run->shape->d[i]);
		name += length + (name[length] == ' ');
	}
	if (run->op->variants > 1 && at < bytes)
		at += (size_t)snprintf(out + at, bytes - at, " variant %d", run->variant);
	if (run->op->betas && at < bytes)
		at += (size_t)snprintf(out + at, bytes - at, " beta %g", run->beta);
	if (run->dtype != HD_F32 && at < bytes)
		snprintf(out + at, bytes - at, " %s", run->dtype == HD_BF16 ? "bf16" : "f16");
}

const hd_dtype *hd_case_dtypes(const hd_case *op, int *count)
{
	static const hd_dtype dtypes[] = {HD_F32, HD_BF16, HD_F16};
	*count = op->narrow ? HD_COUNT(dtypes) : 1;
	return dtypes;
}

hd_status hd_case_run_make(hd_case_run *run, const hd_case *op, const hd_shape *shape, int variant, double beta,
        hd_dtype dtype, uint64_t seed, hd_backend *backend)
{
	*run = (hd_case_run){.op = op,
	        .shape = shape,
	        .variant = variant,
	        .beta = beta,
	        .dtype = dtype,
	        .seed = seed,
	        .random = seed};
	op->make(run, &backend->ops);
	for (int i = 0; i < run->buffers; i++) {
		hd_buffer *b = &run->buffer[i];
		hd_status st = backend->alloc(backend, &b->base, b->count * hd_dtype_bytes(b->dtype) + 2 * GUARD);
		if (st != HD_OK)
			return st;
		b->device = (char *)b->base + GUARD;
	}
	return HD_OK;
}

void hd_case_run_free(hd_case_run *run, hd_backend *backend)
{
	for (int i = run->buffers - 1; i >= 0; i--) {
		hd_buffer *b = &run->buffer[i];
		backend->free(backend, b->base);
		free(b->bound);
		free(b->magnitude);
		free(b->want);
		free(b->value);
		free(b->image);
	}
	run->buffers = 0;
}

static hd_status violation(const hd_case_run *run, const hd_backend *backend, const char *name, const char *what)
{
	char text[160];
	hd_describe(text, sizeof text, run);
	return hd_fail(HD_E_FAILED, "%s %s/%s %s seed %llu: %s: %s", run->op->name, backend->name, backend->tier, text,
	        (unsigned long long)run->seed, name, what);
}

/* Contents and guards to the device, the call, everything back into `after` (one block per buffer). */
static hd_status execute(hd_case_run *run, hd_backend *backend, unsigned char **after)
{
	hd_status st = HD_OK;
	for (int i = 0; i < run->buffers; i++) {
		hd_buffer *b = &run->buffer[i];
		size_t bytes = b->count * hd_dtype_bytes(b->dtype);
		memset(after[i], GUARD_BYTE, bytes + 2 * GUARD);
		memcpy(after[i] + GUARD, b->image, bytes);
		HD_TRY(backend->upload(backend, b->base, after[i], bytes + 2 * GUARD, NULL));
	}
	HD_TRY(backend->sync(backend, NULL));
	forbid_guards(run, true);
	HD_TRY(run->op->call(&backend->ops, run));
	HD_TRY(backend->sync(backend, NULL));
	forbid_guards(run, false);
	for (int i = 0; i < run->buffers; i++) {
		hd_buffer *b = &run->buffer[i];
		HD_TRY(backend->download(
		        backend, after[i], b->base, b->count * hd_dtype_bytes(b->dtype) + 2 * GUARD, NULL));
	}
	HD_TRY(backend->sync(backend, NULL));
done:
	forbid_guards(run, false);
	if (st != HD_OK) {
		char text[160];
		hd_describe(text, sizeof text, run);
		hd_context(st, "%s %s/%s %s", run->op->name, backend->name, backend->tier, text);
	}
	return st;
}

/* The same infinity is no difference; the comparison is spelled so that NaN on either side fails. */
static bool within(double got, double want, double bound)
{
	if (bound == HD_WANTS_NAN)
		return isnan(got);
	return isinf(bound) || got == want || fabs(got - want) <= bound;
}

static hd_status compare(
        const hd_case_run *run, const hd_backend *backend, const hd_buffer *b, const unsigned char *data)
{
	for (size_t i = 0; i < b->count; i++) {
		double got = load(data, b->dtype, i), want = b->want[i];
		if (!within(got, want, b->bound[i])) {
			char what[160];
			snprintf(what, sizeof what, "index %zu got %.9g want %.9g bound %.3g", i, got, want,
			        b->bound[i]);
			return violation(run, backend, b->name, what);
		}
	}
	return HD_OK;
}

static hd_status inspect(
        const hd_case_run *run, const hd_backend *backend, const hd_buffer *b, const unsigned char *after)
{
	size_t bytes = b->count * hd_dtype_bytes(b->dtype);
	for (size_t i = 0; i < GUARD; i++) {
		if (after[i] != GUARD_BYTE)
			return violation(run, backend, b->name, "written before its start");
		if (after[GUARD + bytes + i] != GUARD_BYTE)
			return violation(run, backend, b->name, "written behind its end");
	}
	if (b->role == HD_INPUT && memcmp(after + GUARD, b->image, bytes) != 0)
		return violation(run, backend, b->name, "input changed");
	return b->role == HD_OUTPUT ? compare(run, backend, b, after + GUARD) : HD_OK;
}

hd_status hd_case_run_check(hd_case_run *run, hd_backend *backend)
{
	hd_status st = HD_OK;
	unsigned char *first[HD_CASE_BUFFERS] = {NULL}, *second[HD_CASE_BUFFERS] = {NULL};
	for (int i = 0; i < run->buffers; i++) {
		size_t bytes = run->buffer[i].count * hd_dtype_bytes(run->buffer[i].dtype) + 2 * GUARD;
		first[i] = need(bytes, 1);
		second[i] = need(bytes, 1);
	}
	run->op->reference(run);
	HD_TRY(execute(run, backend, first));
	for (int i = 0; i < run->buffers; i++)
		HD_TRY(inspect(run, backend, &run->buffer[i], first[i]));
	HD_TRY(execute(run, backend, second));
	for (int i = 0; i < run->buffers; i++) {
		size_t bytes = run->buffer[i].count * hd_dtype_bytes(run->buffer[i].dtype);
		if (run->buffer[i].role == HD_OUTPUT && memcmp(first[i], second[i], bytes + 2 * GUARD) != 0)
			HD_TRY(violation(run, backend, run->buffer[i].name, "two runs differ"));
	}
done:
	for (int i = 0; i < run->buffers; i++) {
		free(second[i]);
		free(first[i]);
	}
	return st;
}

/* A missing object gives a NULL address, which the tests report. */
#define HD_OP(name, kind, params) extern const hd_case hd_case_##name __attribute__((weak));
#define HD_WORK(name, params)
#include "kernels/kernels.def"
#undef HD_OP

const hd_case *hd_case_find(const char *name)
{
#define HD_OP(op, kind, params)                                                                                        \
	if (!strcmp(name, #op))                                                                                        \
		return &hd_case_##op;
#include "kernels/kernels.def"
#undef HD_OP
	return NULL;
}

bool hd_case_present(const hd_ops *ops, const char *name)
{
#define HD_OP(op, kind, params)                                                                                        \
	if (!strcmp(name, #op))                                                                                        \
		return ops->op != NULL;
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK
	return false;
}
