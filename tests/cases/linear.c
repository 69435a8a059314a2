/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of patches and linear layers. */
#include "tests/cases/case.h"
#include "tests/ref/ref.h"

/* ---- patches; d: N H W C p ---- */

static int64_t map_size(const hd_shape *s)
{
	return s->d[0] * s->d[1] * s->d[2] * s->d[3];
}

static int64_t patch_size(const hd_shape *s)
{
	int64_t p = s->d[4];
	return s->d[0] * (s->d[1] / p * p) * (s->d[2] / p * p) * s->d[3];
}

static void gather_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	hd_output(run, "cols", run->dtype, patch_size(run->shape));
	hd_input(run, "x", run->dtype, map_size(run->shape), -1, 1);
}

static hd_status gather_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->patch_gather(hd_dev(run, "cols"), hd_dev(run, "x"), run->dtype, d[0], d[1], d[2], d[3], d[4], NULL);
}

static void gather_f(double *y, const double *x, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_patch_gather(y, x, d[0], d[1], d[2], d[3], d[4]);
}

static void gather_reference(hd_case_run *run)
{
	gather_f(hd_want(run, "cols"), hd_val(run, "x"), run);
	hd_exact(run, "cols");
}

static void scatter_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	hd_output(run, "dx", run->dtype, map_size(run->shape));
	hd_input(run, "dcols", run->dtype, patch_size(run->shape), -1, 1);
}

static hd_status scatter_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->patch_scatter(
	        hd_dev(run, "dx"), hd_dev(run, "dcols"), run->dtype, d[0], d[1], d[2], d[3], d[4], NULL);
}

static void scatter_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_patch_scatter(hd_want(run, "dx"), hd_val(run, "dcols"), d[0], d[1], d[2], d[3], d[4]);
	hd_exact(run, "dx");
}

/* Any x will do: gather is linear. */
static hd_status scatter_gradient(hd_case_run *run)
{
	return hd_check_gradient(run, "x", gather_f, hd_want(run, "dx"), map_size(run->shape), hd_want(run, "dx"),
	        hd_val(run, "dcols"), patch_size(run->shape));
}

static double no_flops(const hd_shape *s)
{
	(void)s;
	return 0;
}

static double patch_bytes(const hd_shape *s)
{
	return 8 * (double)map_size(s);
}

static double narrow_patch_bytes(const hd_shape *s)
{
	return 4 * (double)map_size(s);
}

static const hd_shape patch_shapes[] = {{{0, 4, 4, 3, 2}}, {{1, 1, 1, 1, 1}}, {{2, 5, 7, 3, 2}}, {{2, 4, 9, 5, 4}},
        {{2, 128, 32, 3, 4}}, {{2, 32, 8, 40, 2}}, {{1, 1, 3, 2, 2}}, {{2, 4, 6, 6, 2}}};
static const hd_shape patch_bench[] = {{{32, 128, 32, 3, 4}}, {{32, 32, 8, 40, 2}}, {{32, 32, 8, 192, 2}}};
const hd_case hd_case_patch_gather = {"patch_gather", "N H W C p", patch_shapes, HD_COUNT(patch_shapes), patch_bench,
        HD_COUNT(patch_bench), 1, false, gather_make, gather_call, gather_reference, NULL, no_flops, patch_bytes, true,
        narrow_patch_bytes};
const hd_case hd_case_patch_scatter = {"patch_scatter", "N H W C p", patch_shapes, HD_COUNT(patch_shapes), patch_bench,
        HD_COUNT(patch_bench), 1, false, scatter_make, scatter_call, scatter_reference, scatter_gradient, no_flops,
        patch_bytes, true, narrow_patch_bytes};

/*
 * ---- linear; d: rows C K; variant 1: no bias ----
 *
 * Products of numbers of 8 or 11 bits are exact in float, so that the bounds of float sums hold in 16 bits too, with
 * what storing a result of 16 bits rounds off (hd_bound).
 */

static void fwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	const int64_t *d = run->shape->d;
	hd_output(run, "y", run->dtype, d[0] * d[2]);
	hd_input(run, "x", run->dtype, d[0] * d[1], -1, 1);
	hd_input(run, "w", run->dtype, d[2] * d[1], -1, 1);
	if (run->variant == 0)
		hd_input(run, "b", run->dtype, d[2], -1, 1);
}

static hd_status fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->linear_fwd(hd_dev(run, "y"), hd_dev(run, "x"), hd_dev(run, "w"), hd_dev(run, "b"), run->dtype, d[0],
	        d[1], d[2], NULL);
}

static void fwd_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_linear_fwd(hd_want(run, "y"), hd_mag(run, "y"), hd_val(run, "x"), hd_val(run, "w"), hd_val(run, "b"), d[0],
	        d[1], d[2]);
	hd_bound(run, "y", hd_sum_c(d[1] + 1));
}

static void data_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	const int64_t *d = run->shape->d;
	hd_output(run, "dx", run->dtype, d[0] * d[1]);
	hd_input(run, "dy", run->dtype, d[0] * d[2], -1, 1);
	hd_input(run, "w", run->dtype, d[2] * d[1], -1, 1);
}

static hd_status data_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->linear_bwd_data(
	        hd_dev(run, "dx"), hd_dev(run, "dy"), hd_dev(run, "w"), run->dtype, d[0], d[1], d[2], NULL);
}

static void data_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_linear_bwd_data(
	        hd_want(run, "dx"), hd_mag(run, "dx"), hd_val(run, "dy"), hd_val(run, "w"), d[0], d[1], d[2]);
	hd_bound(run, "dx", hd_sum_c(d[2]));
}

static void f_of_x(double *y, const double *x, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_linear_fwd(y, NULL, x, hd_val(run, "w"), NULL, d[0], d[1], d[2]);
}

static hd_status data_gradient(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return hd_check_gradient(
	        run, "x", f_of_x, hd_want(run, "dx"), d[0] * d[1], hd_want(run, "dx"), hd_val(run, "dy"), d[0] * d[2]);
}

static void weight_make(hd_case_run *run, const hd_ops *ops)
{
	const int64_t *d = run->shape->d;
	hd_gradient_output(run, "dw", d[2] * d[1]);
	if (run->variant == 0)
		hd_gradient_output(run, "db", d[2]);
	hd_input(run, "dy", run->dtype, d[0] * d[2], -1, 1);
	hd_input(run, "x", run->dtype, d[0] * d[1], -1, 1);
	hd_scratch(run, ops->linear_bwd_weight_work(d[0], d[1], d[2]));
}

static hd_status weight_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->linear_bwd_weight(hd_dev(run, "dw"), hd_dev(run, "db"), hd_dev(run, "dy"), hd_dev(run, "x"),
	        (float)run->beta, hd_dev(run, "work"), run->dtype, d[0], d[1], d[2], NULL);
}

static void weight_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_linear_bwd_weight(hd_want(run, "dw"), hd_mag(run, "dw"), hd_want(run, "db"), hd_mag(run, "db"),
	        hd_val(run, "dw"), hd_val(run, "db"), hd_val(run, "dy"), hd_val(run, "x"), run->beta, d[0], d[1], d[2]);
	hd_bound(run, "dw", hd_sum_c(d[0] + 1));
	hd_bound(run, "db", hd_sum_c(d[0] + 1));
}

static void f_of_w(double *y, const double *w, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_linear_fwd(y, NULL, hd_val(run, "x"), w, NULL, d[0], d[1], d[2]);
}

static void f_of_b(double *y, const double *b, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	for (int64_t i = 0; i < d[0] * d[2]; i++)
		y[i] = b[i % d[2]];
}

static hd_status weight_gradient(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	hd_status st = HD_OK;
	if (run->beta != 0)
		return HD_OK;
	HD_TRY(hd_check_gradient(
	        run, "w", f_of_w, hd_want(run, "dw"), d[2] * d[1], hd_want(run, "dw"), hd_val(run, "dy"), d[0] * d[2]));
	if (hd_has(run, "db"))
		HD_TRY(hd_check_gradient(run, "b", f_of_b, hd_want(run, "db"), d[2], hd_want(run, "db"),
		        hd_val(run, "dy"), d[0] * d[2]));
done:
	return st;
}

static double linear_flops(const hd_shape *s)
{
	return 2 * (double)s->d[0] * (double)s->d[1] * (double)s->d[2];
}

static double linear_bytes(const hd_shape *s)
{
	return 4 * (double)(s->d[0] * s->d[1] + s->d[0] * s->d[2] + s->d[1] * s->d[2]);
}

static double narrow_linear_bytes(const hd_shape *s)
{
	return linear_bytes(s) / 2;
}

/* The gradient of the weights stays float. */
static double narrow_weight_bytes(const hd_shape *s)
{
	return linear_bytes(s) / 2 + 2 * (double)(s->d[1] * s->d[2]);
}

static const hd_shape linear_shapes[] = {{{0, 5, 3}}, {{1, 1, 1}}, {{7, 5, 3}}, {{15, 17, 31}}, {{33, 40, 160}},
        {{8, 320, 127}}, {{257, 48, 40}}, {{5, 13, 2}}, {{2, 512, 2}}, {{64, 96, 72}}};
static const hd_shape linear_bench[] = {
        {{8192, 40, 160}}, {{2048, 80, 320}}, {{512, 160, 640}}, {{128, 320, 1280}}, {{8192, 96, 384}}};
const hd_case hd_case_linear_fwd = {"linear_fwd", "rows C K", linear_shapes, HD_COUNT(linear_shapes), linear_bench,
        HD_COUNT(linear_bench), 2, false, fwd_make, fwd_call, fwd_reference, NULL, linear_flops, linear_bytes, true,
        narrow_linear_bytes};
const hd_case hd_case_linear_bwd_data = {"linear_bwd_data", "rows C K", linear_shapes, HD_COUNT(linear_shapes),
        linear_bench, HD_COUNT(linear_bench), 1, false, data_make, data_call, data_reference, data_gradient,
        linear_flops, linear_bytes, true, narrow_linear_bytes};
const hd_case hd_case_linear_bwd_weight = {"linear_bwd_weight", "rows C K", linear_shapes, HD_COUNT(linear_shapes),
        linear_bench, HD_COUNT(linear_bench), 2, true, weight_make, weight_call, weight_reference, weight_gradient,
        linear_flops, linear_bytes, true, narrow_weight_bytes};
