/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of layer normalisation; d: rows C. */
#include <math.h>
#include <stdlib.h>

#include "tests/cases/case.h"
#include "tests/ref/ref.h"

#define NORM_EPS 1e-6f
#define SMOOTH_CHANNELS 7 /* with fewer the variance may be so small that differences do not converge */

static void fwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t rows = run->shape->d[0], C = run->shape->d[1];
	hd_output(run, "y", run->dtype, rows * C);
	hd_output(run, "mean", HD_F32, rows);
	hd_output(run, "rstd", HD_F32, rows);
	hd_buffer *x = hd_input(run, "x", run->dtype, rows * C, -3, 3);
	for (int64_t i = 0; i < rows * C; i++)
		if (i / C % 3 == 1)
			hd_set(x, i, 2.7); /* no variance */
	hd_input(run, "gamma", HD_F32, C, -1, 1);
	hd_input(run, "bias", HD_F32, C, -1, 1);
}

static hd_status fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->layernorm_fwd(hd_dev(run, "y"), hd_dev(run, "mean"), hd_dev(run, "rstd"), hd_dev(run, "x"),
	        hd_dev(run, "gamma"), hd_dev(run, "bias"), NORM_EPS, run->dtype, run->shape->d[0], run->shape->d[1],
	        NULL);
}

/*
 * The mean is off by dm = c eps mean|x|. The variance about it is off by c eps of itself and dm^2, so rstd by
 * e = half of that, relatively; y by the sum of both, times gamma, and its own three roundings.
 */
static void fwd_reference(hd_case_run *run)
{
	int64_t rows = run->shape->d[0], C = run->shape->d[1];
	const double *x = hd_val(run, "x"), *gamma = hd_val(run, "gamma"), *bias = hd_val(run, "bias");
	hd_buffer *y = hd_find(run, "y"), *mean = hd_find(run, "mean"), *rstd = hd_find(run, "rstd");
	double c = hd_sum_c(C), eps = (double)NORM_EPS;
	ref_layernorm_fwd(y->want, mean->want, rstd->want, x, gamma, bias, eps, rows, C);
	for (int64_t r = 0; r < rows; r++) {
		double size = 0, scale = rstd->want[r];
		for (int64_t i = 0; i < C; i++)
			size += fabs(x[r * C + i]) / (double)C;
		double dm = c * HD_EPS * size;
		double e = (c + 3) * HD_EPS + dm * dm * scale * scale / 2;
		mean->bound[r] = dm + HD_EPS * fabs(mean->want[r]);
		rstd->bound[r] = scale * e;
		for (int64_t i = 0; i < C; i++) {
			double away = fabs(x[r * C + i] - mean->want[r]);
			y->bound[r * C + i] = fabs(gamma[i]) * scale * (dm + away * (e + 3 * HD_EPS)) +
			                      HD_EPS * (fabs(bias[i]) + fabs(y->want[r * C + i]));
		}
	}
	hd_add_rounding(run, "y");
}

static void bwd_make(hd_case_run *run, const hd_ops *ops)
{
	int64_t rows = run->shape->d[0], C = run->shape->d[1];
	hd_output(run, "dx", run->dtype, rows * C);
	hd_gradient_output(run, "dgamma", C);
	hd_gradient_output(run, "dbias", C);
	hd_input(run, "dy", run->dtype, rows * C, -1, 1);
	hd_buffer *x = hd_input(run, "x", run->dtype, rows * C, -3, 3);
	hd_buffer *mean = hd_input(run, "mean", HD_F32, rows, 0, 1);
	hd_buffer *rstd = hd_input(run, "rstd", HD_F32, rows, 0, 1);
	hd_input(run, "gamma", HD_F32, C, -1, 1);
	for (int64_t r = 0; r < rows; r++) {
		double mu = 0, variance = 0;
		for (int64_t i = 0; i < C; i++)
			mu += x->value[r * C + i] / (double)C;
		for (int64_t i = 0; i < C; i++)
			variance += pow(x->value[r * C + i] - mu, 2) / (double)C;
		hd_set(mean, r, mu);
		hd_set(rstd, r, 1 / sqrt(variance + (double)NORM_EPS));
	}
	hd_scratch(run, ops->layernorm_bwd_work(rows, C));
}

static hd_status bwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->layernorm_bwd(hd_dev(run, "dx"), hd_dev(run, "dgamma"), hd_dev(run, "dbias"), hd_dev(run, "dy"),
	        hd_dev(run, "x"), hd_dev(run, "mean"), hd_dev(run, "rstd"), hd_dev(run, "gamma"), (float)run->beta,
	        hd_dev(run, "work"), run->dtype, run->shape->d[0], run->shape->d[1], NULL);
}

static void bwd_with(hd_case_run *run, const double *mean, const double *rstd)
{
	ref_layernorm_bwd(hd_want(run, "dx"), hd_mag(run, "dx"), hd_want(run, "dgamma"), hd_mag(run, "dgamma"),
	        hd_want(run, "dbias"), hd_mag(run, "dbias"), hd_val(run, "dgamma"), hd_val(run, "dbias"),
	        hd_val(run, "dy"), hd_val(run, "x"), mean, rstd, hd_val(run, "gamma"), run->beta, run->shape->d[0],
	        run->shape->d[1]);
}

/* Sums over C for dx, over rows for the rest; three more roundings make xhat and the terms. */
static void bwd_reference(hd_case_run *run)
{
	bwd_with(run, hd_val(run, "mean"), hd_val(run, "rstd"));
	hd_bound(run, "dx", hd_sum_c(run->shape->d[1]) + 3);
	hd_bound(run, "dgamma", hd_sum_c(run->shape->d[0] + 1) + 2);
	hd_bound(run, "dbias", hd_sum_c(run->shape->d[0] + 1));
}

/* y from x, gamma and bias; mean and rstd go to scratch. */
static void forward(double *y, const double *x, const double *gamma, const double *bias, const hd_case_run *run)
{
	int64_t rows = run->shape->d[0], C = run->shape->d[1];
	double *scratch = calloc((size_t)(2 * rows) + 1, sizeof *scratch);
	if (!scratch)
		abort();
	ref_layernorm_fwd(y, scratch, scratch + rows, x, gamma, bias, (double)NORM_EPS, rows, C);
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
	int64_t rows = run->shape->d[0], C = run->shape->d[1];
	if (run->beta != 0 || C < SMOOTH_CHANNELS)
		return HD_OK;
	double *y = calloc((size_t)(rows * C) + 1, sizeof *y), *saved = calloc((size_t)(2 * rows) + 1, sizeof *saved);
	if (!y || !saved)
		abort();
	const double *x = hd_val(run, "x"), *gamma = hd_val(run, "gamma"), *dy = hd_val(run, "dy");
	ref_layernorm_fwd(y, saved, saved + rows, x, gamma, gamma, (double)NORM_EPS, rows, C);
	bwd_with(run, saved, saved + rows);
	HD_TRY(hd_check_gradient(run, "x", f_of_x, x, rows * C, hd_want(run, "dx"), dy, rows * C));
	HD_TRY(hd_check_gradient(run, "gamma", f_of_gamma, gamma, C, hd_want(run, "dgamma"), dy, rows * C));
	HD_TRY(hd_check_gradient(run, "bias", f_of_bias, gamma, C, hd_want(run, "dbias"), dy, rows * C));
done:
	free(saved);
	free(y);
	return st;
}

static double fwd_flops(const hd_shape *s)
{
	return 8 * (double)(s->d[0] * s->d[1]);
}

static double fwd_bytes(const hd_shape *s)
{
	return 4 * (double)(2 * s->d[0] * s->d[1] + 2 * s->d[0] + 2 * s->d[1]);
}

static double fwd_narrow_bytes(const hd_shape *s)
{
	return fwd_bytes(s) - 4 * (double)(s->d[0] * s->d[1]);
}

static double bwd_flops(const hd_shape *s)
{
	return 14 * (double)(s->d[0] * s->d[1]);
}

static double bwd_bytes(const hd_shape *s)
{
	return 4 * (double)(3 * s->d[0] * s->d[1] + 2 * s->d[0] + 3 * s->d[1]);
}

static double bwd_narrow_bytes(const hd_shape *s)
{
	return bwd_bytes(s) - 6 * (double)(s->d[0] * s->d[1]);
}

/*
 * The wide ones are there for kernels whose teams grow with C: 132, 192, 384, 768, 1536, 4096 and one beyond. 80 and
 * 1000 are those of 16 bits alone, whose packs have other widths.
 */
static const hd_shape norm_shapes[] = {{{0, 8}}, {{1, 1}}, {{3, 7}}, {{5, 31}}, {{17, 33}}, {{512, 40}}, {{8, 320}},
        {{19, 80}}, {{3, 1000}}, {{2, 132}}, {{129, 192}}, {{5, 384}}, {{5, 768}}, {{33, 1536}}, {{2, 4096}},
        {{2, 4100}}};
static const hd_shape norm_bench[] = {{{8192, 40}}, {{2048, 80}}, {{512, 160}}, {{128, 320}}, {{8192, 192}},
        {{2048, 384}}, {{512, 768}}, {{128, 1536}}};
const hd_case hd_case_layernorm_fwd = {"layernorm_fwd", "rows C", norm_shapes, HD_COUNT(norm_shapes), norm_bench,
        HD_COUNT(norm_bench), 1, false, fwd_make, fwd_call, fwd_reference, NULL, fwd_flops, fwd_bytes, true,
        fwd_narrow_bytes};
const hd_case hd_case_layernorm_bwd = {"layernorm_bwd", "rows C", norm_shapes, HD_COUNT(norm_shapes), norm_bench,
        HD_COUNT(norm_bench), 1, true, bwd_make, bwd_call, bwd_reference, bwd_gradient, bwd_flops, bwd_bytes, true,
        bwd_narrow_bytes};
