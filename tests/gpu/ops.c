/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation of the CUDA back end against its double reference, and its copies: on a GPU (make test-gpu) and, with
 * the library that the emulation makes of the same sources, without one (make test-emu). A program of its own, not a
 * Criterion test, so that sanitizers see one process.
 *
 * ops LIBRARY [--limit ELEMENTS] [--types COUNT] [OPERATION | transfers ...]
 * --limit leaves out shapes of which two buffers hold more elements together; --types 2 leaves out half precision,
 * whose kernels are those of bfloat16. Ends with 0 where every operation is there and agrees, 1 where not, 77 where
 * there is no device.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/plugin.h"
#include "tests/cases/case.h"

#define SEED 20240117u
#define NO_DEVICE 77

/* More uploads than any ring of pinned memory has slots; all together more than a slot. */
#define PIECES 200
#define PIECE_BYTES ((size_t)3001)
#define TRANSFER_BYTES (PIECES * PIECE_BYTES)

static const double betas[] = {0, 1, 0.5};

typedef struct tally {
	int64_t limit; /* 0: none */
	int types;     /* of activations, the first of hd_case_dtypes; 0: all */
	int ran, failed, left_out;
} tally;

static bool too_large(const hd_case_run *run, int64_t limit)
{
	int64_t elements = 0;
	for (int i = 0; i < run->buffers; i++)
		elements += (int64_t)run->buffer[i].count;
	return limit && elements > limit;
}

static void check_one(
        const hd_case *op, int shape, int variant, double beta, hd_dtype dtype, hd_backend *backend, tally *t)
{
	hd_case_run run;
	uint64_t seed = SEED + (uint64_t)shape * 101 + (uint64_t)variant;
	hd_status st = hd_case_run_make(&run, op, &op->shapes[shape], variant, beta, dtype, seed, backend);
	if (st == HD_OK && too_large(&run, t->limit)) {
		t->left_out++;
	} else {
		if (st == HD_OK)
			st = hd_case_run_check(&run, backend);
		t->ran++;
	}
	hd_case_run_free(&run, backend);
	if (st != HD_OK) {
		t->failed++;
		printf("FAIL %s\n", hd_error_text());
	}
}

static void check_op(const char *name, hd_op_kind kind, hd_backend *backend, tally *t)
{
	const hd_case *op = hd_case_find(name);
	tally own = {.limit = t->limit, .types = t->types};
	if (!op || !hd_case_present(&backend->ops, name)) {
		bool missing = !op || kind == HD_REQUIRED;
		printf("%s %s: %s\n", missing ? "FAIL" : "skip", name, op ? "its slot is empty" : "it has no case");
		t->failed += missing;
		return;
	}
	int variants = op->variants > 1 ? op->variants : 1, beta_count = op->betas ? HD_COUNT(betas) : 1;
	int dtype_count;
	const hd_dtype *dtypes = hd_case_dtypes(op, &dtype_count);
	if (t->types && t->types < dtype_count)
		dtype_count = t->types;
	for (int shape = 0; shape < op->shape_count; shape++)
		for (int variant = 0; variant < variants; variant++)
			for (int b = 0; b < beta_count; b++)
				for (int d = 0; d < dtype_count; d++)
					check_one(op, shape, variant, betas[b], dtypes[d], backend, &own);
	if (own.ran == 0) {
		printf("FAIL %s: no shape ran\n", name);
		own.failed++;
	}
	printf("%-20s %4d runs, %d failed, %d too large\n", name, own.ran, own.failed, own.left_out);
	t->ran += own.ran;
	t->failed += own.failed;
	t->left_out += own.left_out;
}

static hd_status same(const char *what, const unsigned char *got, const unsigned char *want)
{
	for (size_t i = 0; i < TRANSFER_BYTES; i++)
		if (got[i] != want[i])
			return hd_fail(HD_E_FAILED, "transfers: %s: byte %zu got %d want %d", what, i, got[i], want[i]);
	return HD_OK;
}

/* Sources change as soon as an upload has returned; got, want: TRANSFER_BYTES here, first, second: on the device. */
static hd_status transfer(hd_backend *b, unsigned char *got, unsigned char *want, void *first, void *second)
{
	hd_status st = HD_OK;
	unsigned char source[PIECE_BYTES];
	for (size_t i = 0; i < PIECES; i++) {
		memset(source, (int)i + 1, PIECE_BYTES);
		memset(want + i * PIECE_BYTES, (int)i + 1, PIECE_BYTES);
		HD_TRY(b->upload(b, (char *)first + i * PIECE_BYTES, source, PIECE_BYTES, NULL));
	}
	HD_TRY(b->copy(b, second, first, TRANSFER_BYTES, NULL));
	HD_TRY(b->fill(b, first, PIECES + 1, TRANSFER_BYTES, NULL));
	HD_TRY(b->download(b, got, second, TRANSFER_BYTES, NULL));
	HD_TRY(same("uploads one after the other", got, want));
	HD_TRY(b->download(b, got, first, TRANSFER_BYTES, NULL));
	memset(want, PIECES + 1, TRANSFER_BYTES);
	HD_TRY(same("fill", got, want));
	for (size_t i = 0; i < TRANSFER_BYTES; i++)
		got[i] = want[i] = (unsigned char)(i % 251);
	HD_TRY(b->upload(b, first, got, TRANSFER_BYTES, NULL));
	memset(got, 0, TRANSFER_BYTES);
	HD_TRY(b->download(b, got, first, TRANSFER_BYTES, NULL));
	HD_TRY(same("one large upload", got, want));
done:
	return st;
}

static void check_transfers(hd_backend *backend, tally *t)
{
	hd_status st = HD_OK;
	void *first = NULL, *second = NULL;
	unsigned char *got = malloc(TRANSFER_BYTES), *want = malloc(TRANSFER_BYTES);
	if (!got || !want)
		st = hd_fail(HD_E_MEMORY, "transfers: out of memory");
	if (st == HD_OK)
		st = backend->alloc(backend, &first, TRANSFER_BYTES);
	if (st == HD_OK)
		st = backend->alloc(backend, &second, TRANSFER_BYTES);
	if (st == HD_OK)
		st = transfer(backend, got, want, first, second);
	if (st != HD_OK)
		printf("FAIL %s\n", hd_error_text());
	printf("%-20s %4d runs, %d failed, %d too large\n", "transfers", 1, st != HD_OK, 0);
	t->ran++;
	t->failed += st != HD_OK;
	backend->free(backend, second);
	backend->free(backend, first);
	free(want);
	free(got);
}

static bool wanted(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(names[i], name))
			return true;
	return count == 0;
}

static int check_all(hd_backend *backend, tally t, char **names, int count)
{
	int operations = 0;
#define HD_OP(name, kind, params)                                                                                      \
	if (wanted(#name, names, count)) {                                                                             \
		check_op(#name, kind, backend, &t);                                                                    \
		operations++;                                                                                          \
	}
#define HD_WORK(name, params)
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK
	if (wanted("transfers", names, count))
		check_transfers(backend, &t);
	printf("%s: %d operations, %d runs, %d failed, %d too large\n", backend->tier, operations, t.ran, t.failed,
	        t.left_out);
	return t.failed || !t.ran;
}

int main(int argc, char **argv)
{
	char why[512];
	hd_backend *backend;
	int at = 2;
	tally t = {.limit = 0};
	if (argc < 2) {
		fprintf(stderr, "usage: ops LIBRARY [--limit ELEMENTS] [--types COUNT] [OPERATION | transfers ...]\n");
		return 2;
	}
	for (; at + 1 < argc && !strncmp(argv[at], "--", 2); at += 2) {
		if (!strcmp(argv[at], "--limit"))
			t.limit = strtoll(argv[at + 1], NULL, 10);
		else if (!strcmp(argv[at], "--types"))
			t.types = atoi(argv[at + 1]);
	}
	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	const hd_cuda_plugin *(*get)(void) = NULL;
	if (library)
		*(void **)&get = dlsym(library, HD_CUDA_PLUGIN_SYMBOL);
	if (!get) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	if (get()->device_count(why, sizeof why) < 1) {
		printf("no device: %s\n", why);
		return NO_DEVICE;
	}
	if (get()->open(&backend, 0, hd_fail) != HD_OK) {
		fprintf(stderr, "%s\n", hd_error_text());
		return 1;
	}
	int code = check_all(backend, t, argv + at, argc - at);
	backend->close(backend);
	return code;
}
