/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases of batch normalisation; d: N C. Variants: every row counts; every third has weight 0; the same with NaN in
 * these. Weights are fractions, which the statistics must not see.
 */
#include <math.h>
#include <stdlib.h>

#include "tests/cases/case.h"
#include "tests/ref/ref.h"

enum { ALL_ROWS, SOME_ROWS, NAN_ROWS, VARIANTS };

#define NORM_EPS 1e-5f
#define MOMENTUM 0.1f
#define SMOOTH_ROWS 7 /* of fewer the variance may be so small that differences do not converge */

static void make_weight(hd_case_run *run)
{
	int64_t N = run->shape->d[0];
	hd_buffer *weight = hd_input(run, "weight", HD_F32, N, 0.25, 2);
	for (int64_t n = 0; run->variant != ALL_ROWS && n < N; n += 3)
		hd_set(weight, n, 0);
}

/* NaN in the rows of weight 0. */
static void spoil(hd_case_run *run, hd_buffer *b)
{
	int64_t C = run->shape->d[1];
	for (int64_t i = 0; run->variant == NAN_ROWS && i < (int64_t)b->count; i++)
		if (hd_val(run, "weight")[i / C] == 0)
			hd_set(b, i, NAN);
}

static double count_rows(const hd_case_run *run)
{
	double count = 0;
	for (int64_t n = 0; n < run->shape->d[0]; n++)
		count += hd_val(run, "weight")[n] != 0 ? 1 : 0;
	return count;
}

static void fwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t N = run->shape->d[0], C = run->shape->d[1];
	hd_output(run, "y", HD_F32, N * C);
	hd_output(run, "mean", HD_F32, C);
	hd_output(run, "rstd", HD_F32, C);
	hd_buffer *running_mean = hd_output(run, "running_mean", HD_F32, C);
	hd_buffer *running_var = hd_output(run, "running_var", HD_F32, C);
	for (int64_t c = 0; c < C; c++) {
		hd_set(running_mean, c, hd_random(run, -1, 1));
		hd_set(running_var, c, hd_random(run, 0, 4));
	}
	make_weight(run);
	hd_buffer *x = hd_input(run, "x", HD_F32, N * C, -3, 3);
	for (int64_t i = 0; i < N * C; i++)
		if (i % C % 5 == 3)
			hd_set(x, i, 2.7); /* no variance */
	spoil(run, x);
	hd_input(run, "gamma", HD_F32, C, -1, 1);
	hd_input(run, "bias", HD_F32, C, -1, 1);
}

static hd_status fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->batchnorm_fwd(hd_dev(run, "y"), hd_dev(run, "mean"), hd_dev(run, "rstd"),
	        hd_dev(run, "running_mean"), hd_dev(run, "running_var"), hd_dev(run, "x"), hd_dev(run, "gamma"),
	        hd_dev(run, "bias"), hd_dev(run, "weight"), MOMENTUM, NORM_EPS, run->shape->d[0], run->shape->d[1],
	        NULL);
}

/*
 * Of one column. The mean is off by dm = c eps mean|x|. The variance about it is off by c eps of itself and dm^2, so
 * rstd by e = half of that, relatively; y by the sum of both, times gamma, and its own three roundings. The running
 * statistics take their share of it and 2 eps of either term.
 */
static void fwd_bound_column(hd_case_run *run, int64_t column, double count)
{
	int64_t N = run->shape->d[0], C = run->shape->d[1];
	hd_buffer *y = hd_find(run, "y"), *running_mean = hd_find(run, "running_mean"),
	          *running_var = hd_find(run, "running_var");
	const double *x = hd_val(run, "x"), *weight = hd_val(run, "weight");
	double mean = hd_want(run, "mean")[column], scale = hd_want(run, "rstd")[column], size = 0;
	double gamma = hd_val(run, "gamma")[column], bias = hd_val(run, "bias")[column], share = (double)MOMENTUM;
	double c = hd_sum_c((int64_t)count), variance = 1 / (scale * scale) - (double)NORM_EPS;
	for (int64_t n = 0; n < N; n++)
		if (weight[n] != 0)
			size += fabs(x[n * C + column]) / count;
	double dm = c * HD_EPS * size, e = (c + 3) * HD_EPS + dm * dm * scale * scale / 2;
	hd_find(run, "mean")->bound[column] = dm + HD_EPS * fabs(mean);
	hd_find(run, "rstd")->bound[column] = scale * e;
	for (int64_t n = 0; n < N; n++) {
		int64_t i = n * C + column;
		double away = fabs(x[i] - mean);
		y->bound[i] =
		        fabs(gamma) * scale * (dm + away * (e + 3 * HD_EPS)) + HD_EPS * (fabs(bias) + fabs(y->want[i]));
		if (weight[n] == 0 && run->variant == NAN_ROWS)
			y->bound[i] = INFINITY;
	}
	running_mean->bound[column] = running_var->bound[column] = 0;
	if (count < 2)
		return;
	double unbiased = count / (count - 1);
	running_mean->bound[column] =
	        share * dm + 2 * HD_EPS * (fabs(running_mean->value[column]) + share * fabs(mean));
	running_var->bound[column] = share * unbiased * ((c + 3) * HD_EPS * variance + dm * dm) +
	                             2 * HD_EPS * (running_var->value[column] + share * unbiased * variance);
}

static void fwd_reference(hd_case_run *run)
{
	hd_buffer *running_mean = hd_find(run, "running_mean"), *running_var = hd_find(run, "running_var");
	int64_t N = run->shape->d[0], C = run->shape->d[1];
	for (int64_t c = 0; c < C; c++) {
		running_mean->want[c] = running_mean->value[c];
		running_var->want[c] = running_var->value[c];
	}
	ref_batchnorm_fwd(hd_want(run, "y"), hd_want(run, "mean"), hd_want(run, "rstd"), running_mean->want,
	        running_var->want, hd_val(run, "x"), hd_val(run, "gamma"), hd_val(run, "bias"), hd_val(run, "weight"),
	        (double)MOMENTUM, (double)NORM_EPS, N, C);
	for (int64_t c = 0; c < C; c++)
		fwd_bound_column(run, c, count_rows(run));
}

static void bwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t N = run->shape->d[0], C = run->shape->d[1];
	hd_output(run, "dx", HD_F32, N * C);
	hd_gradient_output(run, "dgamma", C);
	hd_gradient_output(run, "dbias", C);
	make_weight(run);
	spoil(run, hd_input(run, "dy", HD_F32, N * C, -1, 1));
	hd_buffer *x = hd_input(run, "x", HD_F32, N * C, -3, 3);
	spoil(run, x);
	hd_buffer *mean = hd_input(run, "mean", HD_F32, C, 0, 1);
	hd_buffer *rstd = hd_input(run, "rstd", HD_F32, C, 0, 1);
	hd_input(run, "gamma", HD_F32, C, -1, 1);
	double count = count_rows(run);
	const double *weight = hd_val(run, "weight");
	for (int64_t c = 0; c < C; c++) {
		double mu = 0, variance = 0;
		for (int64_t n = 0; n < N; n++)
			mu += weight[n] != 0 ? x->value[n * C + c] / count : 0;
		for (int64_t n = 0; n < N; n++)
			variance += weight[n] != 0 ? pow(x->value[n * C + c] - mu, 2) / count : 0;
		hd_set(mean, c, mu);
		hd_set(rstd, c, 1 / sqrt(variance + (double)NORM_EPS));
	}
}

static hd_status bwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->batchnorm_bwd(hd_dev(run, "dx"), hd_dev(run, "dgamma"), hd_dev(run, "dbias"), hd_dev(run, "dy"),
	        hd_dev(run, "x"), hd_dev(run, "mean"), hd_dev(run, "rstd"), hd_dev(run, "gamma"), hd_dev(run, "weight"),
	        (float)run->beta, run->shape->d[0], run->shape->d[1], NULL);
}

static void bwd_with(hd_case_run *run, const double *mean, const double *rstd)
{
	ref_batchnorm_bwd(hd_want(run, "dx"), hd_mag(run, "dx"), hd_want(run, "dgamma"), hd_mag(run, "dgamma"),
	        hd_want(run, "dbias"), hd_mag(run, "dbias"), hd_val(run, "dgamma"), hd_val(run, "dbias"),
	        hd_val(run, "dy"), hd_val(run, "x"), mean, rstd, hd_val(run, "gamma"), hd_val(run, "weight"), run->beta,
	        run->shape->d[0], run->shape->d[1]);
}

/* Sums over the rows for all three; three more roundings make xhat and the terms. */
static void bwd_reference(hd_case_run *run)
{
	bwd_with(run, hd_val(run, "mean"), hd_val(run, "rstd"));
	hd_bound(run, "dx", hd_sum_c(run->shape->d[0]) + 3);
	hd_bound(run, "dgamma", hd_sum_c(run->shape->d[0] + 1) + 2);
	hd_bound(run, "dbias", hd_sum_c(run->shape->d[0] + 1));
}

/* y from x, gamma and bias, 0 in the rows of weight 0, whose gradient nobody reads; statistics go to scratch. */
static void forward(double *y, const double *x, const double *gamma, const double *bias, const hd_case_run *run)
{
	int64_t N = run->shape->d[0], C = run->shape->d[1];
	double *scratch = calloc((size_t)(4 * C) + 1, sizeof *scratch);
	if (!scratch)
		abort();
	ref_batchnorm_fwd(y, scratch, scratch + C, scratch + 2 * C, scratch + 3 * C, x, gamma, bias,
	        hd_val(run, "weight"), (double)MOMENTUM, (double)NORM_EPS, N, C);
	for (int64_t i = 0; i < N * C; i++)
		if (hd_val(run, "weight")[i / C] == 0)
			y[i] = 0;
	free(scratch);
}

static void f_of_x(double *y, const double *x, const hd_case_run *run)
{
	forward(y, x, hd_val(run, "gamma"), hd_val(run, "gamma"), run);
}

static void f_of_gamma(double *y, const double *gamma, const hd_case_run *run)
{
	forward(y, hd_val(run, "x"), gamma, hd_val(run, "gamma"), run);
}

static void f_of_bias(double *y, const double *bias, const hd_case_run *run)
{
	forward(y, hd_val(run, "x"), hd_val(run, "gamma"), bias, run);
}

/* With unrounded statistics, as rounding them costs more than the limit of the check. */
static hd_status bwd_gradient(hd_case_run *run)
{
	hd_status st = HD_OK;
	int64_t N = run->shape->d[0], C = run->shape->d[1];
	if (run->beta != 0 || run->variant == NAN_ROWS || count_rows(run) < SMOOTH_ROWS)
		return HD_OK;
	double *y = calloc((size_t)(N * C) + 1, sizeof *y), *saved = calloc((size_t)(4 * C) + 1, sizeof *saved);
	if (!y || !saved)
		abort();
	const double *x = hd_val(run, "x"), *gamma = hd_val(run, "gamma"), *dy = hd_val(run, "dy");
	ref_batchnorm_fwd(y, saved, saved + C, saved + 2 * C, saved + 3 * C, x, gamma, gamma, hd_val(run, "weight"),
	        (double)MOMENTUM, (double)NORM_EPS, N, C);
	bwd_with(run, saved, saved + C);
	HD_TRY(hd_check_gradient(run, "x", f_of_x, x, N * C, hd_want(run, "dx"), dy, N * C));
	HD_TRY(hd_check_gradient(run, "gamma", f_of_gamma, gamma, C, hd_want(run, "dgamma"), dy, N * C));
	HD_TRY(hd_check_gradient(run, "bias", f_of_bias, gamma, C, hd_want(run, "dbias"), dy, N * C));
done:
	free(saved);
	free(y);
	return st;
}

static void apply_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t N = run->shape->d[0], C = run->shape->d[1];
	hd_output(run, "y", HD_F32, N * C);
	hd_input(run, "x", HD_F32, N * C, -3, 3);
	hd_input(run, "running_mean", HD_F32, C, -1, 1);
	hd_buffer *running_var = hd_input(run, "running_var", HD_F32, C, 0, 4);
	for (int64_t c = 0; c < C; c += 5)
		hd_set(running_var, c, 0);
	hd_input(run, "gamma", HD_F32, C, -1, 1);
	hd_input(run, "bias", HD_F32, C, -1, 1);
}

static hd_status apply_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->batchnorm_apply(hd_dev(run, "y"), hd_dev(run, "x"), hd_dev(run, "running_mean"),
	        hd_dev(run, "running_var"), hd_dev(run, "gamma"), hd_dev(run, "bias"), NORM_EPS, run->shape->d[0],
	        run->shape->d[1], NULL);
}

/* Sum, root and quotient: 2 eps of the scale; products and sums, also with mean * scale taken first: 2 more. */
static void apply_reference(hd_case_run *run)
{
	ref_batchnorm_apply(hd_want(run, "y"), hd_mag(run, "y"), hd_val(run, "x"), hd_val(run, "running_mean"),
	        hd_val(run, "running_var"), hd_val(run, "gamma"), hd_val(run, "bias"), (double)NORM_EPS,
	        run->shape->d[0], run->shape->d[1]);
	hd_bound(run, "y", 4);
}

static double fwd_flops(const hd_shape *s)
{
	return 8 * (double)(s->d[0] * s->d[1]);
}

static double fwd_bytes(const hd_shape *s)
{
	return 4 * (double)(2 * s->d[0] * s->d[1] + s->d[0] + 8 * s->d[1]);
}

static double bwd_flops(const hd_shape *s)
{
	return 13 * (double)(s->d[0] * s->d[1]);
}

static double bwd_bytes(const hd_shape *s)
{
	return 4 * (double)(3 * s->d[0] * s->d[1] + s->d[0] + 5 * s->d[1]);
}

static double apply_flops(const hd_shape *s)
{
	return 4 * (double)(s->d[0] * s->d[1]);
}

static double apply_bytes(const hd_shape *s)
{
	return 4 * (double)(2 * s->d[0] * s->d[1] + 4 * s->d[1]);
}

static const hd_shape norm_shapes[] = {
        {{0, 8}}, {{1, 1}}, {{1, 31}}, {{2, 64}}, {{3, 7}}, {{31, 1}}, {{17, 33}}, {{32, 128}}, {{257, 64}}};
static const hd_shape norm_bench[] = {{{32, 256}}, {{512, 512}}};
const hd_case hd_case_batchnorm_fwd = {"batchnorm_fwd", "N C", norm_shapes, HD_COUNT(norm_shapes), norm_bench,
        HD_COUNT(norm_bench), VARIANTS, false, fwd_make, fwd_call, fwd_reference, NULL, fwd_flops, fwd_bytes, false,
        NULL};
const hd_case hd_case_batchnorm_bwd = {"batchnorm_bwd", "N C", norm_shapes, HD_COUNT(norm_shapes), norm_bench,
        HD_COUNT(norm_bench), VARIANTS, true, bwd_make, bwd_call, bwd_reference, bwd_gradient, bwd_flops, bwd_bytes,
        false, NULL};
const hd_case hd_case_batchnorm_apply = {"batchnorm_apply", "N C", norm_shapes, HD_COUNT(norm_shapes), norm_bench,
        HD_COUNT(norm_bench), 1, false, apply_make, apply_call, apply_reference, NULL, apply_flops, apply_bytes, false,
        NULL};
