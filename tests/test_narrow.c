/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU back end in 16 bits: it computes as with floats and rounds once, to nearest even, bit for bit. */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "tests/cases/case.h"
#include "tests/ref/ref.h"

#define VALUES 65536
#define ROUNDS 50

/* More elements than a thread converts at a time, and no multiple of what a vector holds. */
#define ROWS 261
#define IN 43
#define OUT 131

static const char *const tiers[] = {"base", "v2", "v3", "v4"};
static const hd_dtype types[] = {HD_BF16, HD_F16};

static const char *name_of(hd_dtype dt)
{
	return dt == HD_BF16 ? "bf16" : "f16";
}

static double ref_widen(uint16_t bits, hd_dtype dt)
{
	return dt == HD_BF16 ? ref_bf16(bits) : ref_half(bits);
}

static uint16_t ref_narrow(double value, hd_dtype dt)
{
	return dt == HD_BF16 ? ref_to_bf16(value) : ref_to_half(value);
}

static void *need(size_t count, size_t bytes)
{
	void *p = calloc(count, bytes);
	cr_assert_not_null(p);
	return p;
}

/* Runs check with every tier that this processor has and each type. */
static void on_all(void (*check)(hd_backend *backend, hd_dtype dt))
{
	int ran = 0;
	for (int t = 0; t < HD_COUNT(tiers); t++) {
		hd_backend *backend;
		if (hd_backend_open_cpu(&backend, tiers[t], 0) != HD_OK)
			continue;
		for (int d = 0; d < HD_COUNT(types); d++)
			check(backend, types[d]);
		hd_backend_close(backend);
		ran++;
	}
	cr_assert(ran > 0, "this processor has no tier of this build");
}

/* The mean over a map of one pixel is the value itself. */
static void check_widening(hd_backend *b, hd_dtype dt)
{
	uint16_t *x = need(VALUES, sizeof *x);
	float *y = need(VALUES, sizeof *y);
	for (int i = 0; i < VALUES; i++)
		x[i] = (uint16_t)i;
	cr_assert_eq(b->ops.pool_fwd(y, x, dt, 1, 1, VALUES, NULL), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < VALUES; i++) {
		double want = ref_widen(x[i], dt);
		cr_expect(isnan(want) ? isnan(y[i]) : (double)y[i] == want, "%s %s %04x: got %.9g, want %.9g", b->tier,
		        name_of(dt), i, (double)y[i], want);
	}
	free(y);
	free(x);
}

Test(narrow, every_value_of_16_bits_widens_exactly)
{
	on_all(check_widening);
}

/* Between each two neighbours: their middle and the floats beside it; the values themselves, and what is no number. */
static void check_rounding(hd_backend *b, hd_dtype dt)
{
	float *src = need(4 * VALUES, sizeof *src);
	uint16_t *dst = need(4 * VALUES, sizeof *dst);
	for (int i = 0; i < VALUES; i++) {
		float low = (float)ref_widen((uint16_t)i, dt), high = (float)ref_widen((uint16_t)(i + 1), dt);
		float middle = isfinite(low) && isfinite(high) ? (low + high) / 2 : low;
		src[4 * i] = low;
		src[4 * i + 1] = middle;
		src[4 * i + 2] = nextafterf(middle, INFINITY);
		src[4 * i + 3] = nextafterf(middle, -INFINITY);
	}
	cr_assert_eq(b->ops.cast(dst, src, dt, 4 * VALUES, NULL), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < 4 * VALUES; i++) {
		uint16_t want = ref_narrow((double)src[i], dt);
		cr_expect(isnan(src[i]) ? isnan(ref_widen(dst[i], dt)) : dst[i] == want,
		        "%s %s %.9g: got %04x, want %04x", b->tier, name_of(dt), (double)src[i], dst[i], want);
	}
	free(dst);
	free(src);
}

Test(narrow, rounds_to_nearest_even)
{
	on_all(check_rounding);
}

/* A linear layer; what is of 16 bits, and the same as floats. */
typedef struct layer {
	uint16_t x[ROWS * IN], w[OUT * IN], b[OUT], y[ROWS * OUT];
	float wide_x[ROWS * IN], wide_w[OUT * IN], wide_b[OUT], wide_y[ROWS * OUT];
} layer;

static void fill(uint16_t *narrow, float *wide, int n, hd_dtype dt, hd_case_run *draw)
{
	for (int i = 0; i < n; i++) {
		narrow[i] = ref_narrow(hd_random(draw, -1, 1), dt);
		wide[i] = (float)ref_widen(narrow[i], dt);
	}
}

static layer *new_layer(hd_dtype dt)
{
	layer *l = need(1, sizeof *l);
	hd_case_run draw = {.random = 7};
	fill(l->x, l->wide_x, ROWS * IN, dt, &draw);
	fill(l->w, l->wide_w, OUT * IN, dt, &draw);
	fill(l->b, l->wide_b, OUT, dt, &draw);
	return l;
}

static int wrong_values(const layer *l, hd_dtype dt)
{
	int wrong = 0;
	for (int i = 0; i < ROWS * OUT; i++)
		wrong += l->y[i] != ref_narrow((double)l->wide_y[i], dt);
	return wrong;
}

static void check_layer(hd_backend *b, hd_dtype dt)
{
	layer *l = new_layer(dt);
	for (int bias = 0; bias < 2; bias++) {
		cr_assert_eq(b->ops.linear_fwd(l->y, l->x, l->w, bias ? l->b : NULL, dt, ROWS, IN, OUT, NULL), HD_OK,
		        "%s", hd_error_text());
		cr_assert_eq(b->ops.linear_fwd(l->wide_y, l->wide_x, l->wide_w, bias ? l->wide_b : NULL, HD_F32, ROWS,
		                     IN, OUT, NULL),
		        HD_OK, "%s", hd_error_text());
		int wrong = wrong_values(l, dt);
		cr_expect(wrong == 0, "%s %s%s: %d of %d values are not the rounded float", b->tier, name_of(dt),
		        bias ? " with bias" : "", wrong, ROWS * OUT);
	}
	free(l);
}

Test(narrow, an_operation_gives_the_rounded_floats)
{
	on_all(check_layer);
}

Test(narrow, takes_no_other_types)
{
	hd_backend *b;
	uint16_t x[8] = {0};
	float y[8];
	cr_assert_eq(hd_backend_open_cpu(&b, NULL, 1), HD_OK, "%s", hd_error_text());
	cr_expect_eq(b->ops.pool_fwd(y, x, HD_I16, 1, 1, 8, NULL), HD_E_UNSUPPORTED);
	hd_backend_close(b);
}

typedef struct worker {
	hd_backend *backend;
	hd_dtype dt;
	layer *l;
	int wrong;
} worker;

static void *work(void *data)
{
	worker *w = data;
	layer *l = w->l;
	for (int i = 0; i < ROUNDS; i++) {
		/* fewer rows now and then, so that memory grows */
		int64_t rows = i % 3 ? ROWS : 1 + i;
		memset(l->y, 0xff, sizeof l->y);
		if (w->backend->ops.linear_fwd(l->y, l->x, l->w, l->b, w->dt, ROWS, IN, OUT, NULL) != HD_OK)
			w->wrong++;
		w->wrong += wrong_values(l, w->dt);
		if (w->backend->ops.pool_fwd(l->wide_x, l->x, w->dt, 1, 1, rows, NULL) != HD_OK)
			w->wrong++;
	}
	return NULL;
}

/* Each with a back end of its own; their float copies do not meet. */
Test(narrow, threads_run_side_by_side)
{
	worker w[HD_COUNT(types)] = {{0}};
	pthread_t thread[HD_COUNT(types)];
	for (int i = 0; i < HD_COUNT(types); i++) {
		w[i] = (worker){.dt = types[i], .l = new_layer(types[i])};
		cr_assert_eq(hd_backend_open_cpu(&w[i].backend, NULL, 1), HD_OK, "%s", hd_error_text());
		cr_assert_eq(w[i].backend->ops.linear_fwd(w[i].l->wide_y, w[i].l->wide_x, w[i].l->wide_w,
		                     w[i].l->wide_b, HD_F32, ROWS, IN, OUT, NULL),
		        HD_OK, "%s", hd_error_text());
	}
	for (int i = 0; i < HD_COUNT(types); i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, work, &w[i]), 0);
	for (int i = 0; i < HD_COUNT(types); i++) {
		pthread_join(thread[i], NULL);
		cr_expect(w[i].wrong == 0, "%s: %d wrong values", name_of(types[i]), w[i].wrong);
		hd_backend_close(w[i].backend);
		free(w[i].l);
	}
}
