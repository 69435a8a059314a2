/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the depthwise convolution; d: N H W C. */
#include "tests/cases/case.h"
#include "tests/ref/ref.h"

#define TERMS 50 /* taps and bias, or taps and residual */

static int64_t size_of(const hd_shape *s)
{
	return s->d[0] * s->d[1] * s->d[2] * s->d[3];
}

static void fwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t C = run->shape->d[3];
	hd_output(run, "y", HD_F32, size_of(run->shape));
	hd_input(run, "x", HD_F32, size_of(run->shape), -1, 1);
	hd_input(run, "k", HD_F32, 49 * C, -1, 1);
	hd_input(run, "b", HD_F32, C, -1, 1);
}

static hd_status fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->dwconv7_fwd(hd_dev(run, "y"), hd_dev(run, "x"), hd_dev(run, "k"), hd_dev(run, "b"), HD_F32, d[0],
	        d[1], d[2], d[3], NULL);
}

static void fwd_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_dwconv7_fwd(hd_want(run, "y"), hd_mag(run, "y"), hd_val(run, "x"), hd_val(run, "k"), hd_val(run, "b"), d[0],
	        d[1], d[2], d[3]);
	hd_bound(run, "y", hd_sum_c(TERMS));
}

static void data_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	hd_output(run, "dx", HD_F32, size_of(run->shape));
	hd_input(run, "dy", HD_F32, size_of(run->shape), -1, 1);
	hd_input(run, "k", HD_F32, 49 * run->shape->d[3], -1, 1);
	hd_input(run, "zero", HD_F32, run->shape->d[3], 0, 0);
	if (run->variant == 0)
		hd_input(run, "residual", HD_F32, size_of(run->shape), -1, 1);
}

static hd_status data_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->dwconv7_bwd_data(hd_dev(run, "dx"), hd_dev(run, "dy"), hd_dev(run, "k"), hd_dev(run, "residual"),
	        HD_F32, d[0], d[1], d[2], d[3], NULL);
}

static void data_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_dwconv7_bwd_data(hd_want(run, "dx"), hd_mag(run, "dx"), hd_val(run, "dy"), hd_val(run, "k"),
	        hd_val(run, "residual"), d[0], d[1], d[2], d[3]);
	hd_bound(run, "dx", hd_sum_c(TERMS));
}

static void f_of_x(double *y, const double *x, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_dwconv7_fwd(y, NULL, x, hd_val(run, "k"), hd_val(run, "zero"), d[0], d[1], d[2], d[3]);
}

static hd_status data_gradient(hd_case_run *run)
{
	if (hd_has(run, "residual"))
		return HD_OK; /* an added constant, not part of the derivative */
	int64_t n = size_of(run->shape);
	return hd_check_gradient(run, "x", f_of_x, hd_val(run, "dy"), n, hd_want(run, "dx"), hd_val(run, "dy"), n);
}

static void weight_make(hd_case_run *run, const hd_ops *ops)
{
	const int64_t *d = run->shape->d;
	hd_gradient_output(run, "dk", 49 * d[3]);
	hd_gradient_output(run, "db", d[3]);
	hd_input(run, "dy", HD_F32, size_of(run->shape), -1, 1);
	hd_input(run, "x", HD_F32, size_of(run->shape), -1, 1);
	hd_input(run, "k", HD_F32, 49 * d[3], -1, 1);
	hd_input(run, "b", HD_F32, d[3], -1, 1);
	hd_scratch(run, ops->dwconv7_bwd_weight_work(d[0], d[1], d[2], d[3]));
}

static hd_status weight_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->dwconv7_bwd_weight(hd_dev(run, "dk"), hd_dev(run, "db"), hd_dev(run, "dy"), hd_dev(run, "x"),
	        (float)run->beta, hd_dev(run, "work"), HD_F32, d[0], d[1], d[2], d[3], NULL);
}

static void weight_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_dwconv7_bwd_weight(hd_want(run, "dk"), hd_mag(run, "dk"), hd_want(run, "db"), hd_mag(run, "db"),
	        hd_val(run, "dk"), hd_val(run, "db"), hd_val(run, "dy"), hd_val(run, "x"), run->beta, d[0], d[1], d[2],
	        d[3]);
	hd_bound(run, "dk", hd_sum_c(d[0] * d[1] * d[2] + 1));
	hd_bound(run, "db", hd_sum_c(d[0] * d[1] * d[2] + 1));
}

static void f_of_k(double *y, const double *k, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_dwconv7_fwd(y, NULL, hd_val(run, "x"), k, hd_val(run, "b"), d[0], d[1], d[2], d[3]);
}

static void f_of_b(double *y, const double *b, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_dwconv7_fwd(y, NULL, hd_val(run, "x"), hd_val(run, "k"), b, d[0], d[1], d[2], d[3]);
}

static hd_status weight_gradient(hd_case_run *run)
{
	hd_status st = HD_OK;
	int64_t n = size_of(run->shape), C = run->shape->d[3];
	if (run->beta != 0)
		return HD_OK;
	HD_TRY(hd_check_gradient(run, "k", f_of_k, hd_val(run, "k"), 49 * C, hd_want(run, "dk"), hd_val(run, "dy"), n));
	HD_TRY(hd_check_gradient(run, "b", f_of_b, hd_val(run, "b"), C, hd_want(run, "db"), hd_val(run, "dy"), n));
done:
	return st;
}

/* Positions along an axis of n from which a tap is inside, over all 7 taps. */
static double pairs(int64_t n)
{
	double sum = 0;
	for (int64_t i = -3; i <= 3; i++)
		sum += n > (i < 0 ? -i : i) ? (double)(n - (i < 0 ? -i : i)) : 0;
	return sum;
}

static double conv_flops(const hd_shape *s)
{
	return 2 * (double)(s->d[0] * s->d[3]) * pairs(s->d[1]) * pairs(s->d[2]);
}

static double conv_bytes(const hd_shape *s)
{
	return 8 * (double)size_of(s) + 4 * 50 * (double)s->d[3];
}

static const hd_shape conv_shapes[] = {{{0, 4, 4, 8}}, {{1, 1, 1, 1}}, {{1, 2, 3, 7}}, {{2, 7, 5, 9}}, {{1, 3, 8, 31}},
        {{1, 8, 6, 33}}, {{2, 32, 8, 40}}, {{2, 4, 1, 320}}, {{17, 3, 2, 5}}};
static const hd_shape conv_bench[] = {
        {{32, 32, 8, 40}}, {{32, 16, 4, 80}}, {{32, 8, 2, 160}}, {{32, 4, 1, 320}}, {{32, 32, 8, 96}}};
const hd_case hd_case_dwconv7_fwd = {"dwconv7_fwd", "N H W C", conv_shapes, HD_COUNT(conv_shapes), conv_bench,
        HD_COUNT(conv_bench), 1, false, fwd_make, fwd_call, fwd_reference, NULL, conv_flops, conv_bytes, false, NULL};
const hd_case hd_case_dwconv7_bwd_data = {"dwconv7_bwd_data", "N H W C", conv_shapes, HD_COUNT(conv_shapes), conv_bench,
        HD_COUNT(conv_bench), 2, false, data_make, data_call, data_reference, data_gradient, conv_flops, conv_bytes,
        false, NULL};
const hd_case hd_case_dwconv7_bwd_weight = {"dwconv7_bwd_weight", "N H W C", conv_shapes, HD_COUNT(conv_shapes),
        conv_bench, HD_COUNT(conv_bench), 1, true, weight_make, weight_call, weight_reference, weight_gradient,
        conv_flops, conv_bytes, false, NULL};
