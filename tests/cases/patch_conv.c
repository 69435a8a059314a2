/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of patch convolutions; d: N H W C K p; variant 1: no bias. */
#include "tests/cases/case.h"
#include "tests/ref/ref.h"

#define SIZES(d) (d)[0], (d)[1], (d)[2], (d)[3], (d)[4], (d)[5]

static int64_t input_size(const hd_shape *s)
{
	return s->d[0] * s->d[1] * s->d[2] * s->d[3];
}

/* Output pixels. */
static int64_t rows_of(const hd_shape *s)
{
	return s->d[0] * (s->d[1] / s->d[5]) * (s->d[2] / s->d[5]);
}

static int64_t output_size(const hd_shape *s)
{
	return rows_of(s) * s->d[4];
}

/* Products of an output. */
static int64_t patch_size(const hd_shape *s)
{
	return s->d[5] * s->d[5] * s->d[3];
}

static int64_t filter_size(const hd_shape *s)
{
	return s->d[4] * patch_size(s);
}

static void fwd_make(hd_case_run *run, const hd_ops *ops)
{
	const hd_shape *s = run->shape;
	hd_output(run, "y", run->dtype, output_size(s));
	hd_input(run, "x", run->dtype, input_size(s), -1, 1);
	hd_input(run, "w", run->dtype, filter_size(s), -1, 1);
	if (run->variant == 0)
		hd_input(run, "b", run->dtype, s->d[4], -1, 1);
	hd_scratch(run, ops->patch_conv_fwd_work(SIZES(s->d)));
}

static hd_status fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->patch_conv_fwd(hd_dev(run, "y"), hd_dev(run, "x"), hd_dev(run, "w"), hd_dev(run, "b"),
	        hd_dev(run, "work"), run->dtype, SIZES(run->shape->d), NULL);
}

static void fwd_reference(hd_case_run *run)
{
	ref_patch_conv_fwd(hd_want(run, "y"), hd_mag(run, "y"), hd_val(run, "x"), hd_val(run, "w"), hd_val(run, "b"),
	        SIZES(run->shape->d));
	hd_bound(run, "y", hd_sum_c(patch_size(run->shape) + 1));
}

static void data_make(hd_case_run *run, const hd_ops *ops)
{
	const hd_shape *s = run->shape;
	hd_output(run, "dx", run->dtype, input_size(s));
	hd_input(run, "dy", run->dtype, output_size(s), -1, 1);
	hd_input(run, "w", run->dtype, filter_size(s), -1, 1);
	hd_scratch(run, ops->patch_conv_bwd_data_work(SIZES(s->d)));
}

static hd_status data_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->patch_conv_bwd_data(hd_dev(run, "dx"), hd_dev(run, "dy"), hd_dev(run, "w"), hd_dev(run, "work"),
	        run->dtype, SIZES(run->shape->d), NULL);
}

static void data_reference(hd_case_run *run)
{
	ref_patch_conv_bwd_data(
	        hd_want(run, "dx"), hd_mag(run, "dx"), hd_val(run, "dy"), hd_val(run, "w"), SIZES(run->shape->d));
	hd_bound(run, "dx", hd_sum_c(run->shape->d[4]));
}

static void f_of_x(double *y, const double *x, const hd_case_run *run)
{
	ref_patch_conv_fwd(y, NULL, x, hd_val(run, "w"), NULL, SIZES(run->shape->d));
}

/* Any x will do: the convolution is linear. */
static hd_status data_gradient(hd_case_run *run)
{
	const hd_shape *s = run->shape;
	return hd_check_gradient(run, "x", f_of_x, hd_want(run, "dx"), input_size(s), hd_want(run, "dx"),
	        hd_val(run, "dy"), output_size(s));
}

static void weight_make(hd_case_run *run, const hd_ops *ops)
{
	const hd_shape *s = run->shape;
	hd_gradient_output(run, "dw", filter_size(s));
	if (run->variant == 0)
		hd_gradient_output(run, "db", s->d[4]);
	hd_input(run, "dy", run->dtype, output_size(s), -1, 1);
	hd_input(run, "x", run->dtype, input_size(s), -1, 1);
	hd_scratch(run, ops->patch_conv_bwd_weight_work(SIZES(s->d)));
}

static hd_status weight_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->patch_conv_bwd_weight(hd_dev(run, "dw"), hd_dev(run, "db"), hd_dev(run, "dy"), hd_dev(run, "x"),
	        (float)run->beta, hd_dev(run, "work"), run->dtype, SIZES(run->shape->d), NULL);
}

static void weight_reference(hd_case_run *run)
{
	ref_patch_conv_bwd_weight(hd_want(run, "dw"), hd_mag(run, "dw"), hd_want(run, "db"), hd_mag(run, "db"),
	        hd_val(run, "dw"), hd_val(run, "db"), hd_val(run, "dy"), hd_val(run, "x"), run->beta,
	        SIZES(run->shape->d));
	hd_bound(run, "dw", hd_sum_c(rows_of(run->shape) + 1));
	hd_bound(run, "db", hd_sum_c(rows_of(run->shape) + 1));
}

static void f_of_w(double *y, const double *w, const hd_case_run *run)
{
	ref_patch_conv_fwd(y, NULL, hd_val(run, "x"), w, NULL, SIZES(run->shape->d));
}

static void f_of_b(double *y, const double *b, const hd_case_run *run)
{
	for (int64_t i = 0; i < output_size(run->shape); i++)
		y[i] = b[i % run->shape->d[4]];
}

static hd_status weight_gradient(hd_case_run *run)
{
	const hd_shape *s = run->shape;
	hd_status st = HD_OK;
	if (run->beta != 0)
		return HD_OK;
	HD_TRY(hd_check_gradient(run, "w", f_of_w, hd_want(run, "dw"), filter_size(s), hd_want(run, "dw"),
	        hd_val(run, "dy"), output_size(s)));
	if (hd_has(run, "db"))
		HD_TRY(hd_check_gradient(run, "b", f_of_b, hd_want(run, "db"), s->d[4], hd_want(run, "db"),
		        hd_val(run, "dy"), output_size(s)));
done:
	return st;
}

static double conv_flops(const hd_shape *s)
{
	return 2 * (double)output_size(s) * (double)patch_size(s);
}

static double conv_bytes(const hd_shape *s)
{
	return 4 * (double)(input_size(s) + output_size(s) + filter_size(s));
}

static double narrow_bytes(const hd_shape *s)
{
	return conv_bytes(s) / 2;
}

/* The gradient of the filters stays float. */
static double narrow_weight_bytes(const hd_shape *s)
{
	return conv_bytes(s) / 2 + 2 * (double)filter_size(s);
}

static const hd_shape conv_shapes[] = {{{0, 4, 4, 3, 5, 2}}, {{1, 1, 1, 1, 1, 1}}, {{2, 5, 7, 3, 6, 2}},
        {{2, 4, 9, 5, 7, 4}}, {{1, 3, 3, 2, 3, 4}}, {{2, 32, 8, 3, 40, 4}}, {{3, 8, 2, 31, 17, 2}},
        {{2, 16, 4, 40, 80, 2}}};
static const hd_shape conv_bench[] = {{{32, 128, 32, 3, 40, 4}}, {{32, 32, 8, 40, 80, 2}}, {{32, 16, 4, 80, 160, 2}},
        {{32, 8, 2, 160, 320, 2}}, {{32, 32, 8, 96, 192, 2}}};
const hd_case hd_case_patch_conv_fwd = {"patch_conv_fwd", "N H W C K p", conv_shapes, HD_COUNT(conv_shapes), conv_bench,
        HD_COUNT(conv_bench), 2, false, fwd_make, fwd_call, fwd_reference, NULL, conv_flops, conv_bytes, true,
        narrow_bytes};
const hd_case hd_case_patch_conv_bwd_data = {"patch_conv_bwd_data", "N H W C K p", conv_shapes, HD_COUNT(conv_shapes),
        conv_bench, HD_COUNT(conv_bench), 1, false, data_make, data_call, data_reference, data_gradient, conv_flops,
        conv_bytes, true, narrow_bytes};
const hd_case hd_case_patch_conv_bwd_weight = {"patch_conv_bwd_weight", "N H W C K p", conv_shapes,
        HD_COUNT(conv_shapes), conv_bench, HD_COUNT(conv_bench), 2, true, weight_make, weight_call, weight_reference,
        weight_gradient, conv_flops, conv_bytes, true, narrow_weight_bytes};
