/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of GELU, layer scale with skip, pooling, addition, rounding to 16 bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cases/case.h"
#include "tests/ref/ref.h"

/*
 * db (C) = beta*db + column sums of dx (rows,C), whose bounds are those before it is stored, and dx's own rounding. A
 * term of db is off by what dx is. Its rounding to 16 bits is of either sign: of independent errors no larger than e_i
 * the sum exceeds 6 sqrt(sum e_i^2) with a probability below 2 exp(-18) (Hoeffding 1963). Then rows + 1 additions.
 */
static void sum_columns(hd_case_run *run, int64_t rows, int64_t C)
{
	hd_buffer *dx = hd_find(run, "dx"), *db = hd_has(run, "db") ? hd_find(run, "db") : NULL;
	double *computed = malloc((dx->count + 1) * sizeof *computed);
	if (!computed)
		abort();
	memcpy(computed, dx->bound, dx->count * sizeof *computed);
	hd_add_rounding(run, "dx");
	if (db)
		ref_column_sums(db->want, db->magnitude, db->value, dx->want, run->beta, rows, C);
	for (int64_t c = 0; db && c < C; c++) {
		double errors = 0, roundings = 0, squares = 0;
		for (int64_t i = c; i < rows * C; i += C) {
			double rounding = dx->bound[i] - computed[i];
			errors += computed[i];
			roundings += rounding;
			squares += rounding * rounding;
		}
		db->bound[c] = errors + fmin(roundings, 6 * sqrt(squares)) +
		               HD_EPS * (hd_sum_c(rows + 1) * db->magnitude[c] + fabs(db->want[c]));
	}
	free(computed);
}

/* ---- gelu; d: n, backward: rows C; variants: the forms, backward: then those without db ---- */

#define FARTHEST 15 /* behind it the tails are 0 in float */

static hd_gelu_form form_of(const hd_case_run *run)
{
	return run->variant % 2 ? HD_GELU_TANH : HD_GELU_ERF;
}

/* Infinities and large numbers among them, where there is room. */
static void gelu_input(hd_case_run *run, int64_t n)
{
	static const double special[] = {
	        INFINITY, -INFINITY, 3e38, -3e38, 1e4, -1e4, 10.3, -10.3, 13.3, -13.3, 0, 1e-40, -1e-40};
	hd_buffer *x = hd_input(run, "x", run->dtype, n, -FARTHEST, 8);
	for (int i = 0; n > HD_COUNT(special) && i < HD_COUNT(special); i++)
		hd_set(x, i, special[i]);
}

static void gelu_fwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	hd_output(run, "y", run->dtype, run->shape->d[0]);
	gelu_input(run, run->shape->d[0]);
}

static hd_status gelu_fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->gelu_fwd(hd_dev(run, "y"), hd_dev(run, "x"), form_of(run), run->dtype, run->shape->d[0], NULL);
}

/* What the bounds are made of at z = |x|, held at FARTHEST. */
typedef struct gelu_terms {
	double z;
	double tail, tail_c;   /* the share at -z; its relative error in eps */
	double slope, slope_c; /* z times the share's derivative; its error */
	double flushed;        /* what is lost where the exponential is taken as 0: it is below 0x1p-125 then */
} gelu_terms;

/*
 * erf: the kernels' tail is exp(-z^2/2) times a polynomial: rounding the exponent costs z^2/4 eps, its reduction as
 * much again, the polynomial and its fit 6 eps. The slope is the same exponential with fewer products.
 *
 * tanh: seven roundings of eps/2 make the exponent a, 3.5 a eps; the exponential, the sum, the quotient and the product
 * less than 8. The slope adds the share of the other side, wrong by the tail times what the exponential is, at most
 * 1.3 + 1 (a exp(-a) is below 0.37), 2.5 of the steepness and three products.
 */
static gelu_terms gelu_terms_of(double x, hd_gelu_form form)
{
	gelu_terms t = {.z = fmin(fabs(x), FARTHEST)};
	double z = t.z, root = sqrt(2 / acos(-1));
	if (form == HD_GELU_ERF) {
		t.tail = erfc(z / sqrt(2)) / 2;
		t.tail_c = t.slope_c = 6 + z * z / 2;
		t.slope = z * exp(-z * z / 2) / sqrt(2 * acos(-1));
		t.flushed = 0x1p-125 * (1 + z);
		return t;
	}
	double a = 2 * root * (z + 0.044715 * z * z * z), steepness = 2 * root * (1 + 3 * 0.044715 * z * z);
	t.tail = 1 / (1 + exp(a));
	t.tail_c = 8 + 3.5 * a;
	t.slope = z * t.tail * (1 - t.tail) * steepness;
	t.slope_c = 13 + 3.5 * a;
	t.flushed = 0x1p-125 * (1 + z + z * steepness);
	return t;
}

/* Infinite results have to be the same. */
static void gelu_fwd_reference(hd_case_run *run)
{
	hd_buffer *y = hd_find(run, "y");
	const double *x = hd_val(run, "x");
	ref_gelu_fwd(y->want, x, form_of(run), run->shape->d[0]);
	for (size_t i = 0; i < y->count; i++) {
		gelu_terms t = gelu_terms_of(x[i], form_of(run));
		y->bound[i] = HD_EPS * (t.tail_c * t.tail * t.z + 2 * fabs(y->want[i])) + t.flushed;
	}
	hd_add_rounding(run, "y");
	for (size_t i = 0; i < y->count; i++)
		if (isinf(y->want[i]))
			y->bound[i] = 0;
}

static int64_t gelu_size(const hd_shape *s)
{
	return s->d[0] * s->d[1];
}

static void gelu_bwd_make(hd_case_run *run, const hd_ops *ops)
{
	const int64_t *d = run->shape->d;
	hd_output(run, "dx", run->dtype, gelu_size(run->shape));
	hd_input(run, "dy", run->dtype, gelu_size(run->shape), -1, 1);
	gelu_input(run, gelu_size(run->shape));
	if (run->variant < 2) {
		hd_gradient_output(run, "db", d[1]);
		hd_scratch(run, ops->gelu_bwd_work(d[0], d[1]));
	}
}

static hd_status gelu_bwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->gelu_bwd(hd_dev(run, "dx"), hd_dev(run, "db"), hd_dev(run, "dy"), hd_dev(run, "x"), form_of(run),
	        (float)run->beta, hd_dev(run, "work"), run->dtype, run->shape->d[0], run->shape->d[1], NULL);
}

static void gelu_bwd_reference(hd_case_run *run)
{
	hd_buffer *dx = hd_find(run, "dx");
	const double *x = hd_val(run, "x"), *dy = hd_val(run, "dy");
	ref_gelu_bwd(dx->want, dy, x, form_of(run), gelu_size(run->shape));
	for (size_t i = 0; i < dx->count; i++) {
		gelu_terms t = gelu_terms_of(x[i], form_of(run));
		double sum = t.tail_c * t.tail + t.slope_c * t.slope + (x[i] > 0 ? 2 : 0);
		dx->bound[i] = HD_EPS * (fabs(dy[i]) * sum + fabs(dx->want[i])) + t.flushed;
	}
	sum_columns(run, run->shape->d[0], run->shape->d[1]);
}

static void gelu_f(double *y, const double *x, const hd_case_run *run)
{
	ref_gelu_fwd(y, x, form_of(run), gelu_size(run->shape));
}

/* Where x is finite and of the size that differences are made for. */
static double near_zero(double x)
{
	return fmax(-FARTHEST, fmin(FARTHEST, x));
}

/* Of the bias that x ends with. */
static void gelu_f_of_bias(double *y, const double *bias, const hd_case_run *run)
{
	int64_t n = gelu_size(run->shape), C = run->shape->d[1];
	for (int64_t i = 0; i < n; i++)
		y[i] = near_zero(hd_val(run, "x")[i]) + bias[i % C];
	gelu_f(y, y, run);
}

static hd_status gelu_gradient(hd_case_run *run)
{
	hd_status st;
	int64_t rows = run->shape->d[0], C = run->shape->d[1], n = rows * C;
	double *x = calloc((size_t)n + 1, sizeof *x), *dx = calloc((size_t)n + 1, sizeof *dx);
	double *bias = calloc((size_t)C + 1, sizeof *bias), *db = calloc((size_t)C + 1, sizeof *db);
	const double *dy = hd_val(run, "dy");
	if (!x || !dx || !bias || !db)
		abort();
	for (int64_t i = 0; i < n; i++)
		x[i] = near_zero(hd_val(run, "x")[i]);
	ref_gelu_bwd(dx, dy, x, form_of(run), n);
	ref_column_sums(db, NULL, NULL, dx, 0, rows, C);
	HD_TRY(hd_check_gradient(run, "x", gelu_f, x, n, dx, dy, n));
	HD_TRY(hd_check_gradient(run, "the bias", gelu_f_of_bias, bias, C, db, dy, n));
done:
	free(db);
	free(bias);
	free(dx);
	free(x);
	return st;
}

static double gelu_flops(const hd_shape *s)
{
	return 30 * (double)s->d[0];
}

static double gelu_bwd_flops(const hd_shape *s)
{
	return 31 * (double)gelu_size(s);
}

static double gelu_bwd_bytes(const hd_shape *s)
{
	return 12 * (double)gelu_size(s);
}

static double gelu_bwd_narrow_bytes(const hd_shape *s)
{
	return 6 * (double)gelu_size(s);
}

static double two_floats(const hd_shape *s)
{
	return 8 * (double)s->d[0];
}

static double three_floats(const hd_shape *s)
{
	return 12 * (double)s->d[0];
}

static double two_narrow(const hd_shape *s)
{
	return 4 * (double)s->d[0];
}

static double one_flop(const hd_shape *s)
{
	return (double)s->d[0];
}

static const hd_shape flat_shapes[] = {{{0}}, {{1}}, {{7}}, {{17}}, {{257}}, {{8193}}, {{20480}}};
static const hd_shape flat_bench[] = {{{8192 * 160}}, {{128 * 1280}}, {{8192 * 768}}};
/* Groups of 8 values from both sides, rows of which one is not aligned to them, many columns, many rows. */
static const hd_shape gelu_shapes[] = {{{0, 5}}, {{1, 1}}, {{1, 7}}, {{3, 31}}, {{5, 8}}, {{17, 33}}, {{129, 64}},
        {{257, 40}}, {{33, 264}}, {{2, 4100}}, {{69, 2051}}, {{2081, 8}}};
static const hd_shape gelu_bench[] = {{{8192, 160}}, {{128, 1280}}, {{8192, 768}}};
const hd_case hd_case_gelu_fwd = {"gelu_fwd", "n", flat_shapes, HD_COUNT(flat_shapes), flat_bench, HD_COUNT(flat_bench),
        2, false, gelu_fwd_make, gelu_fwd_call, gelu_fwd_reference, NULL, gelu_flops, two_floats, true, two_narrow};
const hd_case hd_case_gelu_bwd = {"gelu_bwd", "rows C", gelu_shapes, HD_COUNT(gelu_shapes), gelu_bench,
        HD_COUNT(gelu_bench), 4, true, gelu_bwd_make, gelu_bwd_call, gelu_bwd_reference, gelu_gradient, gelu_bwd_flops,
        gelu_bwd_bytes, true, gelu_bwd_narrow_bytes};

/* ---- add; d: n; variants: apart, dst is a, dst is b ---- */

static void add_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	static const char *const other[] = {"dst", "a", "b"};
	int64_t n = run->shape->d[0];
	hd_buffer *dst = hd_output(run, other[run->variant], HD_F32, n);
	for (int64_t i = 0; run->variant && i < n; i++)
		hd_set(dst, i, hd_random(run, -1, 1));
	if (run->variant != 1)
		hd_input(run, "a", HD_F32, n, -1, 1);
	if (run->variant != 2)
		hd_input(run, "b", HD_F32, n, -1, 1);
}

static hd_status add_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->add(run->buffer[0].device, hd_dev(run, "a"), hd_dev(run, "b"), run->shape->d[0], NULL);
}

/* One rounding, which hd_bound's term for the result covers. */
static void add_reference(hd_case_run *run)
{
	ref_add(run->buffer[0].want, hd_val(run, "a"), hd_val(run, "b"), run->shape->d[0]);
	hd_bound(run, run->buffer[0].name, 0);
}

const hd_case hd_case_add = {"add", "n", flat_shapes, HD_COUNT(flat_shapes), flat_bench, HD_COUNT(flat_bench), 3, false,
        add_make, add_call, add_reference, NULL, one_flop, three_floats, false, NULL};

/* ---- cast; d: n; variants: the types ---- */

static hd_dtype cast_type(const hd_case_run *run)
{
	return run->variant ? HD_F16 : HD_BF16;
}

/* Ties to both sides, the largest that is finite and what rounds beyond, subnormals, zeros. */
static void cast_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	static const double special[] = {0, -0.0, INFINITY, -INFINITY, 3.4e38, -3.38e38, 1 + 0x1p-8, 1 + 0x1.8p-7,
	        1 + 0x1p-8 + 0x1p-23, 1 + 0x1p-11, 1 + 0x1.8p-10, 1 + 0x1p-11 + 0x1p-23, 65504, 65519.99, 65520, -65536,
	        0x1p-14, 0x1.ffcp-15, 0x1.8p-24, 0x1p-25, 0x1.00002p-25, 0x1p-126, 0x1p-133, 0x1.8p-133, 0x1p-134,
	        0x1p-149};
	int64_t n = run->shape->d[0];
	hd_output(run, "dst", cast_type(run), n);
	hd_buffer *src = hd_input(run, "src", HD_F32, n, -2, 2);
	for (int64_t i = 0; i < n && i < HD_COUNT(special); i++)
		hd_set(src, i, special[i]);
}

static hd_status cast_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->cast(hd_dev(run, "dst"), hd_dev(run, "src"), cast_type(run), run->shape->d[0], NULL);
}

static void cast_reference(hd_case_run *run)
{
	hd_buffer *dst = hd_find(run, "dst");
	const double *src = hd_val(run, "src");
	for (size_t i = 0; i < dst->count; i++)
		dst->want[i] = run->variant ? ref_half(ref_to_half(src[i])) : ref_bf16(ref_to_bf16(src[i]));
	hd_exact(run, "dst");
}

static double no_flops(const hd_shape *s)
{
	(void)s;
	return 0;
}

static double cast_bytes(const hd_shape *s)
{
	return 6 * (double)s->d[0];
}

static const hd_shape cast_shapes[] = {{{0}}, {{1}}, {{7}}, {{31}}, {{257}}, {{8193}}, {{3 * HD_CHUNK}}};
static const hd_shape cast_bench[] = {{{3400704}}, {{28000256}}};
const hd_case hd_case_cast = {"cast", "n", cast_shapes, HD_COUNT(cast_shapes), cast_bench, HD_COUNT(cast_bench), 2,
        false, cast_make, cast_call, cast_reference, NULL, no_flops, cast_bytes, false, NULL};

/* ---- scale_residual; d: N P C; odd variants: row_scale NULL; backward: from 2 on db NULL ---- */

static int64_t map_size(const hd_shape *s)
{
	return s->d[0] * s->d[1] * s->d[2];
}

static void row_scale_input(hd_case_run *run)
{
	if (run->variant % 2)
		return;
	hd_buffer *b = hd_input(run, "row_scale", HD_F32, run->shape->d[0], 1, 2);
	for (int64_t n = 0; n < run->shape->d[0]; n += 2)
		hd_set(b, n, n % 4 ? 0 : 1.25);
}

static void skip_fwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	hd_output(run, "y", run->dtype, map_size(run->shape));
	hd_input(run, "x", run->dtype, map_size(run->shape), -1, 1);
	hd_input(run, "residual", run->dtype, map_size(run->shape), -1, 1);
	hd_input(run, "gamma", HD_F32, run->shape->d[2], -1, 1);
	row_scale_input(run);
}

static hd_status skip_fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->scale_residual_fwd(hd_dev(run, "y"), hd_dev(run, "x"), hd_dev(run, "residual"),
	        hd_dev(run, "gamma"), hd_dev(run, "row_scale"), run->dtype, d[0], d[1], d[2], NULL);
}

/* Two roundings of the branch: one eps. */
static void skip_fwd_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_scale_residual_fwd(hd_want(run, "y"), hd_mag(run, "y"), hd_val(run, "x"), hd_val(run, "residual"),
	        hd_val(run, "gamma"), hd_val(run, "row_scale"), d[0], d[1], d[2]);
	hd_bound(run, "y", 1);
}

static void skip_bwd_make(hd_case_run *run, const hd_ops *ops)
{
	const int64_t *d = run->shape->d;
	hd_output(run, "dx", run->dtype, map_size(run->shape));
	hd_gradient_output(run, "dgamma", d[2]);
	if (run->variant < 2)
		hd_gradient_output(run, "db", d[2]);
	hd_input(run, "dy", run->dtype, map_size(run->shape), -1, 1);
	hd_input(run, "x", run->dtype, map_size(run->shape), -1, 1);
	hd_input(run, "gamma", HD_F32, d[2], -1, 1);
	row_scale_input(run);
	hd_scratch(run, ops->scale_residual_bwd_work(d[0], d[1], d[2]));
}

static hd_status skip_bwd_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->scale_residual_bwd(hd_dev(run, "dx"), hd_dev(run, "dgamma"), hd_dev(run, "db"), hd_dev(run, "dy"),
	        hd_dev(run, "x"), hd_dev(run, "gamma"), hd_dev(run, "row_scale"), (float)run->beta, hd_dev(run, "work"),
	        run->dtype, d[0], d[1], d[2], NULL);
}

/*
 * dx: two roundings, one eps of the result; sums of row_scale * dy, which gamma multiplies at the end, make no more of
 * db. dgamma: a sum over N*P of products of three.
 */
static void skip_bwd_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	hd_buffer *dx = hd_find(run, "dx");
	ref_scale_residual_bwd(dx->want, hd_want(run, "dgamma"), hd_mag(run, "dgamma"), hd_val(run, "dgamma"),
	        hd_val(run, "dy"), hd_val(run, "x"), hd_val(run, "gamma"), hd_val(run, "row_scale"), run->beta, d[0],
	        d[1], d[2]);
	for (size_t i = 0; i < dx->count; i++)
		dx->bound[i] = HD_EPS * fabs(dx->want[i]);
	sum_columns(run, d[0] * d[1], d[2]);
	hd_bound(run, "dgamma", hd_sum_c(d[0] * d[1] + 1) + 0.5);
}

/* The skip adds a constant; x stands in for it. */
static void skip_f_of_x(double *y, const double *x, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_scale_residual_fwd(
	        y, NULL, x, hd_val(run, "x"), hd_val(run, "gamma"), hd_val(run, "row_scale"), d[0], d[1], d[2]);
}

static void skip_f_of_gamma(double *y, const double *gamma, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_scale_residual_fwd(
	        y, NULL, hd_val(run, "x"), hd_val(run, "x"), gamma, hd_val(run, "row_scale"), d[0], d[1], d[2]);
}

/* Of the bias that x ends with. */
static void skip_f_of_bias(double *y, const double *bias, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	for (int64_t i = 0; i < map_size(run->shape); i++)
		y[i] = hd_val(run, "x")[i] + bias[i % d[2]];
	skip_f_of_x(y, y, run);
}

static hd_status skip_gradient(hd_case_run *run)
{
	hd_status st = HD_OK;
	int64_t n = map_size(run->shape), C = run->shape->d[2];
	const double *dy = hd_val(run, "dy");
	if (run->beta != 0)
		return HD_OK;
	HD_TRY(hd_check_gradient(run, "x", skip_f_of_x, hd_val(run, "x"), n, hd_want(run, "dx"), dy, n));
	HD_TRY(hd_check_gradient(
	        run, "gamma", skip_f_of_gamma, hd_val(run, "gamma"), C, hd_want(run, "dgamma"), dy, n));
	if (hd_has(run, "db")) /* linear in the bias: it stands at gamma as well as anywhere */
		HD_TRY(hd_check_gradient(
		        run, "the bias", skip_f_of_bias, hd_val(run, "gamma"), C, hd_want(run, "db"), dy, n));
done:
	return st;
}

static double skip_flops(const hd_shape *s)
{
	return 3 * (double)map_size(s);
}

static double skip_bytes(const hd_shape *s)
{
	return 12 * (double)map_size(s);
}

static double skip_narrow_bytes(const hd_shape *s)
{
	return 6 * (double)map_size(s);
}

static const hd_shape map_shapes[] = {{{0, 4, 8}}, {{1, 1, 1}}, {{3, 5, 7}}, {{5, 3, 31}}, {{1, 7, 33}}, {{2, 256, 40}},
        {{2, 4, 320}}, {{17, 2, 5}}, {{3, 23, 2051}}};
static const hd_shape map_bench[] = {
        {{32, 256, 40}}, {{32, 64, 80}}, {{32, 16, 160}}, {{32, 4, 320}}, {{32, 256, 192}}};
const hd_case hd_case_scale_residual_fwd = {"scale_residual_fwd", "N P C", map_shapes, HD_COUNT(map_shapes), map_bench,
        HD_COUNT(map_bench), 2, false, skip_fwd_make, skip_fwd_call, skip_fwd_reference, NULL, skip_flops, skip_bytes,
        true, skip_narrow_bytes};
const hd_case hd_case_scale_residual_bwd = {"scale_residual_bwd", "N P C", map_shapes, HD_COUNT(map_shapes), map_bench,
        HD_COUNT(map_bench), 4, true, skip_bwd_make, skip_bwd_call, skip_bwd_reference, skip_gradient, skip_flops,
        skip_bytes, true, skip_narrow_bytes};

/* ---- pool; d: N P C; the pooled side is float ---- */

static void pool_fwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	hd_output(run, "y", HD_F32, run->shape->d[0] * run->shape->d[2]);
	hd_input(run, "x", run->dtype, map_size(run->shape), -1, 1);
}

static hd_status pool_fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->pool_fwd(hd_dev(run, "y"), hd_dev(run, "x"), run->dtype, d[0], d[1], d[2], NULL);
}

static void pool_fwd_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_pool_fwd(hd_want(run, "y"), hd_mag(run, "y"), hd_val(run, "x"), d[0], d[1], d[2]);
	hd_bound(run, "y", hd_sum_c(d[1]));
}

static void pool_bwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	hd_output(run, "dx", run->dtype, map_size(run->shape));
	hd_input(run, "dy", HD_F32, run->shape->d[0] * run->shape->d[2], -1, 1);
}

static hd_status pool_bwd_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->pool_bwd(hd_dev(run, "dx"), hd_dev(run, "dy"), run->dtype, d[0], d[1], d[2], NULL);
}

/* A quotient, or a product with a rounded reciprocal: one eps. */
static void pool_bwd_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_pool_bwd(hd_want(run, "dx"), hd_val(run, "dy"), d[0], d[1], d[2]);
	hd_bound(run, "dx", 0);
}

static void pool_f(double *y, const double *x, const hd_case_run *run)
{
	ref_pool_fwd(y, NULL, x, run->shape->d[0], run->shape->d[1], run->shape->d[2]);
}

static hd_status pool_gradient(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return hd_check_gradient(run, "x", pool_f, hd_want(run, "dx"), map_size(run->shape), hd_want(run, "dx"),
	        hd_val(run, "dy"), d[0] * d[2]);
}

static double pool_flops(const hd_shape *s)
{
	return (double)map_size(s);
}

static double pool_bytes(const hd_shape *s)
{
	return 4 * (double)(map_size(s) + s->d[0] * s->d[2]);
}

static double pool_narrow_bytes(const hd_shape *s)
{
	return 2 * (double)map_size(s) + 4 * (double)(s->d[0] * s->d[2]);
}

const hd_case hd_case_pool_fwd = {"pool_fwd", "N P C", map_shapes, HD_COUNT(map_shapes), map_bench, HD_COUNT(map_bench),
        1, false, pool_fwd_make, pool_fwd_call, pool_fwd_reference, NULL, pool_flops, pool_bytes, true,
        pool_narrow_bytes};
const hd_case hd_case_pool_bwd = {"pool_bwd", "N P C", map_shapes, HD_COUNT(map_shapes), map_bench, HD_COUNT(map_bench),
        1, false, pool_bwd_make, pool_bwd_call, pool_bwd_reference, pool_gradient, pool_flops, pool_bytes, true,
        pool_narrow_bytes};
