/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the optimizer: norm of the gradients, scaling of the loss, AdamW. */
#include <math.h>

#include "tests/cases/case.h"
#include "tests/ref/ref.h"

/* ---- sum_squares; d: n ---- */

static void squares_make(hd_case_run *run, const hd_ops *ops)
{
	hd_output(run, "out", HD_F32, 1);
	hd_input(run, "g", HD_F32, run->shape->d[0], -1, 1);
	hd_scratch(run, ops->sum_squares_work(run->shape->d[0]));
}

static hd_status squares_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->sum_squares(hd_dev(run, "out"), hd_dev(run, "g"), hd_dev(run, "work"), run->shape->d[0], NULL);
}

static void squares_reference(hd_case_run *run)
{
	hd_want(run, "out")[0] = ref_sum_squares(hd_val(run, "g"), run->shape->d[0]);
	hd_mag(run, "out")[0] = hd_want(run, "out")[0];
	hd_bound(run, "out", hd_sum_c(run->shape->d[0]));
}

static double squares_flops(const hd_shape *s)
{
	return 2 * (double)s->d[0];
}

static double squares_bytes(const hd_shape *s)
{
	return 4 * (double)s->d[0];
}

static const hd_shape squares_shapes[] = {{{0}}, {{1}}, {{15}}, {{17}}, {{1024}}, {{65537}}};
static const hd_shape squares_bench[] = {{{3400704}}, {{28000256}}};
const hd_case hd_case_sum_squares = {"sum_squares", "n", squares_shapes, HD_COUNT(squares_shapes), squares_bench,
        HD_COUNT(squares_bench), 1, false, squares_make, squares_call, squares_reference, NULL, squares_flops,
        squares_bytes, false, NULL};

/* ---- loss_scale_update; variants: the states ---- */

typedef struct scale_state {
	double scale, good, norm2;
	int32_t growth_interval;
} scale_state;

/*
 * A step like any other, growth, overflow; the limits from both sides; norms whose roots are huge, one whose quotient
 * is subnormal; scales that are no powers of two.
 */
static const scale_state scale_states[] = {{65536, 3, 7e9, 2000}, {65536, 0, 0, 2000}, {65536, 1999, 5, 2000},
        {65536, 0, 5, 1}, {65536, 5, INFINITY, 2000}, {65536, 1999, NAN, 2000}, {65536, 0, NAN, 1},
        {1, 5, INFINITY, 2000}, {1.5, 0, INFINITY, 2000}, {2, 0, NAN, 2000}, {0x1p24, 6, 1, 7}, {0x1.8p23, 6, 1, 7},
        {0x1p23, 6, 1, 7}, {0x1p24, 0, 3.4e38, 2000}, {1, 0, 3.4e38, 2000}, {1, 1, 3.4e38, 2}, {0x1p24, 0, 1e-30, 2000},
        {3, 0, 1e-30, 2000}, {1000.1, 0, 2e38, 2000}};

/* An integer in the bits of a float is the subnormal of so many 2^-149. */
static double as_float(double integer)
{
	return integer * 0x1p-149;
}

/* state: scale, inverse, good, reserved. */
static void scale_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	const scale_state *s = &scale_states[run->variant];
	hd_buffer *state = hd_output(run, "state", HD_F32, sizeof(hd_loss_scale) / sizeof(float));
	hd_set(state, 0, s->scale);
	hd_set(state, 2, as_float(s->good));
	hd_set(state, 3, as_float(77));
	hd_set(hd_output(run, "norm2", HD_F32, 1), 0, s->norm2);
}

static hd_status scale_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->loss_scale_update(
	        hd_dev(run, "state"), hd_dev(run, "norm2"), scale_states[run->variant].growth_interval, NULL);
}

/*
 * The reciprocal rounds once, half an eps of it; norm2 takes that twice and two products, two eps. A quotient below the
 * normal range is rounded to a multiple of 2^-149, and by half of that again.
 */
static void scale_reference(hd_case_run *run)
{
	hd_buffer *state = hd_find(run, "state"), *norm2 = hd_find(run, "norm2");
	double *want = state->want, good = scale_states[run->variant].good;
	want[0] = state->value[0];
	norm2->want[0] = norm2->value[0];
	ref_loss_scale_update(
	        &want[0], &want[1], &good, norm2->want, (double)scale_states[run->variant].growth_interval);
	want[2] = as_float(good);
	want[3] = state->value[3];
	hd_exact(run, "state");
	state->bound[1] = HD_EPS / 2 * want[1];
	norm2->bound[0] = isinf(norm2->want[0]) ? 0 : 2 * HD_EPS * norm2->want[0] + 0x1p-149;
	if (isnan(norm2->want[0]))
		norm2->bound[0] = HD_WANTS_NAN;
}

static double scale_flops(const hd_shape *s)
{
	(void)s;
	return 5;
}

static double scale_bytes(const hd_shape *s)
{
	(void)s;
	return 2 * (sizeof(hd_loss_scale) + sizeof(float));
}

static const hd_shape scale_shapes[] = {{{1}}};
const hd_case hd_case_loss_scale_update = {"loss_scale_update", "", scale_shapes, HD_COUNT(scale_shapes), scale_shapes,
        HD_COUNT(scale_shapes), HD_COUNT(scale_states), false, scale_make, scale_call, scale_reference, NULL,
        scale_flops, scale_bytes, false, NULL};

/*
 * ---- adamw; d: n ----
 * Variants: clip not reached, clipped, clipped by a norm whose root is huge, clip off, norm NaN, norm infinite; then
 * these with ema; then all of these with a scale of the gradients; then all of these with a copy in bfloat16 and in
 * half.
 */

enum { ADAMW_BELOW, ADAMW_CLIPPED, ADAMW_HUGE, ADAMW_OFF, ADAMW_NAN, ADAMW_INFINITE, ADAMW_NORMS };
#define ADAMW_EMA ADAMW_NORMS
#define ADAMW_SCALED (2 * ADAMW_EMA)
#define ADAMW_COPY (2 * ADAMW_SCALED)
#define ADAMW_VARIANTS (3 * ADAMW_COPY)
#define ADAMW_GRAD_SCALE 0.3 /* not exact in binary, so that it rounds */
#define ADAMW_HYPER ((int)(sizeof(hd_adamw_hyper) / sizeof(float)))

static bool adamw_with(const hd_case_run *run, int what)
{
	return run->variant / what % 2;
}

static hd_dtype adamw_copy_type(const hd_case_run *run)
{
	return run->variant / ADAMW_COPY == 2 ? HD_F16 : HD_BF16;
}

static void adamw_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	static const double norm2[] = {0.25, 400, 3e38, 400, NAN, INFINITY};
	static const double hyper[ADAMW_HYPER] = {0.01, 0.9, 0.999, 1e-8, 0.05, 1, 0.271, 0.002997, 0.95};
	int64_t n = run->shape->d[0];
	int norm = run->variant % ADAMW_NORMS;
	hd_buffer *p = hd_output(run, "p", HD_F32, n), *m = hd_output(run, "m", HD_F32, n);
	hd_buffer *v = hd_output(run, "v", HD_F32, n), *skipped = hd_output(run, "skipped", HD_I32, 1);
	hd_buffer *ema = adamw_with(run, ADAMW_EMA) ? hd_output(run, "ema", HD_F32, n) : NULL;
	hd_buffer *copy = run->variant >= ADAMW_COPY ? hd_output(run, "copy", adamw_copy_type(run), n) : NULL;
	for (int64_t i = 0; i < n; i++) {
		hd_set(p, i, hd_random(run, -1, 1));
		hd_set(m, i, hd_random(run, -0.1, 0.1));
		hd_set(v, i, hd_random(run, 0.0001, 0.01));
		if (ema)
			hd_set(ema, i, hd_random(run, -1, 1));
		if (copy)
			hd_set(copy, i, hd_random(run, -1, 1));
	}
	hd_set(skipped, 0, 3);
	hd_input(run, "g", HD_F32, n, -1, 1);
	hd_set(hd_input(run, "norm2", HD_F32, 1, 0, 1), 0, norm2[norm]);
	if (adamw_with(run, ADAMW_SCALED))
		hd_set(hd_input(run, "grad_scale", HD_F32, 1, 0, 1), 0, ADAMW_GRAD_SCALE);
	hd_buffer *h = hd_input(run, "hyper", HD_F32, ADAMW_HYPER, 0, 1);
	for (int i = 0; i < ADAMW_HYPER; i++)
		hd_set(h, i, i == 5 && norm == ADAMW_OFF ? 0 : hyper[i]);
	hd_input(run, "chunk_lr", HD_F32, n / HD_CHUNK, 0.5, 1);
	hd_buffer *decay = hd_input(run, "chunk_decay", HD_F32, n / HD_CHUNK, 0, 1);
	for (int64_t i = 0; i < n / HD_CHUNK; i++)
		hd_set(decay, i, (double)(i % 2));
}

static hd_status adamw_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->adamw(hd_dev(run, "p"), hd_dev(run, "m"), hd_dev(run, "v"), hd_dev(run, "ema"), hd_dev(run, "copy"),
	        adamw_copy_type(run), hd_dev(run, "skipped"), hd_dev(run, "g"), hd_dev(run, "norm2"),
	        hd_dev(run, "grad_scale"), hd_dev(run, "hyper"), hd_dev(run, "chunk_lr"), hd_dev(run, "chunk_decay"),
	        run->shape->d[0], NULL);
}

/* The element as it was, to the last bit; nothing without a buffer. */
static void adamw_keep(hd_buffer *b, size_t i)
{
	if (!b)
		return;
	b->want[i] = b->value[i];
	b->bound[i] = 0;
}

/*
 * g' is off by 2.5 eps (root, sum, quotient, the scale, product), so m by 3.5 eps of its terms and v, with g' squared,
 * by 7. The step takes m's error whole, half of v's, and 6 more roundings; p adds two for the decay. The average takes
 * its share of p's error and 2 eps of its terms (1-d, product, sum). The copy is p rounded once more.
 */
static void adamw_element(hd_case_run *run, size_t i, hd_buffer *ema)
{
	hd_buffer *p = hd_find(run, "p"), *m = hd_find(run, "m"), *v = hd_find(run, "v");
	const double *h = hd_val(run, "hyper");
	double scale = hd_has(run, "grad_scale") ? hd_val(run, "grad_scale")[0] : 1;
	double lr = hd_val(run, "chunk_lr")[i / HD_CHUNK], decay = hd_val(run, "chunk_decay")[i / HD_CHUNK];
	ref_adamw(&p->want[i], &m->want[i], &v->want[i], ema ? &ema->want[i] : NULL, scale * hd_val(run, "g")[i],
	        hd_val(run, "norm2")[0], h, lr, decay);
	double old = fabs(h[1] * m->value[i]), added = fabs(m->want[i] - h[1] * m->value[i]);
	double per_m = h[0] * lr / h[6] / (sqrt(v->want[i] / h[7]) + h[3]);
	m->bound[i] = 3.5 * HD_EPS * (old + added);
	v->bound[i] = 7 * HD_EPS * v->want[i];
	p->bound[i] = per_m * (m->bound[i] + 9.5 * HD_EPS * fabs(m->want[i])) + 2 * HD_EPS * fabs(p->value[i]);
	if (ema)
		ema->bound[i] = (1 - h[8]) * p->bound[i] +
		                2 * HD_EPS * (fabs(h[8] * ema->value[i]) + fabs((1 - h[8]) * p->want[i]));
}

static void adamw_reference(hd_case_run *run)
{
	hd_buffer *p = hd_find(run, "p"), *m = hd_find(run, "m"), *v = hd_find(run, "v"),
	          *skipped = hd_find(run, "skipped"), *ema = hd_has(run, "ema") ? hd_find(run, "ema") : NULL,
	          *copy = hd_has(run, "copy") ? hd_find(run, "copy") : NULL;
	bool skip = !isfinite(hd_val(run, "norm2")[0]);
	skipped->want[0] = skipped->value[0] + skip;
	hd_exact(run, "skipped");
	for (size_t i = 0; i < p->count; i++) {
		adamw_keep(p, i);
		adamw_keep(m, i);
		adamw_keep(v, i);
		adamw_keep(ema, i);
		adamw_keep(copy, i);
		if (skip)
			continue;
		adamw_element(run, i, ema);
		if (copy) {
			copy->want[i] = p->want[i];
			copy->bound[i] = p->bound[i];
		}
	}
	if (copy && !skip)
		hd_add_rounding(run, "copy");
}

static double adamw_flops(const hd_shape *s)
{
	return 14 * (double)s->d[0];
}

static double adamw_bytes(const hd_shape *s)
{
	return 28 * (double)s->d[0]; /* without ema and copy */
}

static const hd_shape adamw_shapes[] = {{{0}}, {{HD_CHUNK}}, {{3 * HD_CHUNK}}, {{17 * HD_CHUNK}}};
static const hd_shape adamw_bench[] = {{{3400704}}, {{28000256}}};
const hd_case hd_case_adamw = {"adamw", "n", adamw_shapes, HD_COUNT(adamw_shapes), adamw_bench, HD_COUNT(adamw_bench),
        ADAMW_VARIANTS, false, adamw_make, adamw_call, adamw_reference, NULL, adamw_flops, adamw_bytes, false, NULL};
