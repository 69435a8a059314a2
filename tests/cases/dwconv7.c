/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the depthwise convolution, alone and with LayerNorm behind it; d: N H W C. */
#include <math.h>
#include <stdlib.h>

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
	hd_output(run, "y", run->dtype, size_of(run->shape));
	hd_input(run, "x", run->dtype, size_of(run->shape), -1, 1);
	hd_input(run, "k", HD_F32, 49 * C, -1, 1);
	hd_input(run, "b", HD_F32, C, -1, 1);
}

static hd_status fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->dwconv7_fwd(hd_dev(run, "y"), hd_dev(run, "x"), hd_dev(run, "k"), hd_dev(run, "b"), run->dtype,
	        d[0], d[1], d[2], d[3], NULL);
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
	hd_output(run, "dx", run->dtype, size_of(run->shape));
	hd_input(run, "dy", run->dtype, size_of(run->shape), -1, 1);
	hd_input(run, "k", HD_F32, 49 * run->shape->d[3], -1, 1);
	hd_input(run, "zero", HD_F32, run->shape->d[3], 0, 0);
	if (run->variant == 0)
		hd_input(run, "residual", run->dtype, size_of(run->shape), -1, 1);
}

static hd_status data_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->dwconv7_bwd_data(hd_dev(run, "dx"), hd_dev(run, "dy"), hd_dev(run, "k"), hd_dev(run, "residual"),
	        run->dtype, d[0], d[1], d[2], d[3], NULL);
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
	hd_input(run, "dy", run->dtype, size_of(run->shape), -1, 1);
	hd_input(run, "x", run->dtype, size_of(run->shape), -1, 1);
	hd_input(run, "k", HD_F32, 49 * d[3], -1, 1);
	hd_input(run, "b", HD_F32, d[3], -1, 1);
	hd_scratch(run, ops->dwconv7_bwd_weight_work(d[0], d[1], d[2], d[3]));
}

static hd_status weight_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->dwconv7_bwd_weight(hd_dev(run, "dk"), hd_dev(run, "db"), hd_dev(run, "dy"), hd_dev(run, "x"),
	        (float)run->beta, hd_dev(run, "work"), run->dtype, d[0], d[1], d[2], d[3], NULL);
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

#define NORM_EPS 1e-6f

/* Variant 1 does not keep the convolution. */
static void fused_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t C = run->shape->d[3], rows = run->shape->d[0] * run->shape->d[1] * run->shape->d[2];
	hd_output(run, "y", run->dtype, rows * C);
	if (run->variant == 0)
		hd_output(run, "conv", run->dtype, rows * C);
	hd_output(run, "mean", HD_F32, rows);
	hd_output(run, "rstd", HD_F32, rows);
	hd_input(run, "x", run->dtype, rows * C, -1, 1);
	hd_input(run, "k", HD_F32, 49 * C, -1, 1);
	hd_input(run, "b", HD_F32, C, -1, 1);
	hd_input(run, "gamma", HD_F32, C, -1, 1);
	hd_input(run, "bias", HD_F32, C, -1, 1);
}

static hd_status fused_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->dwconv7_layernorm_fwd(hd_dev(run, "y"), hd_dev(run, "conv"), hd_dev(run, "mean"),
	        hd_dev(run, "rstd"), hd_dev(run, "x"), hd_dev(run, "k"), hd_dev(run, "b"), hd_dev(run, "gamma"),
	        hd_dev(run, "bias"), NORM_EPS, run->dtype, d[0], d[1], d[2], d[3], NULL);
}

/*
 * Bounds of one position whose C sums of the convolution, `conv`, are off by `error` each, which holds also where they
 * have been rounded to 16 bits before the norm; r: the position.
 *
 * Off by e_i, the mean is off by mean(e) and by dm, the rounding of its own sum. To take the mean away only makes a
 * vector shorter, so the standard deviation s is off by q = sqrt(mean(e^2)) at most, and rstd lies between that of s +
 * q and that of s - q; the roundings of its own sum add `own`, relatively, as for the norm alone. In y the distance
 * from the mean is off by e_i + mean(e) + dm, and times gamma all that is added up.
 */
static void bound_position(hd_case_run *run, const double *conv, const double *error, int64_t r)
{
	int64_t C = run->shape->d[3];
	hd_buffer *y = hd_find(run, "y"), *mean = hd_find(run, "mean"), *rstd = hd_find(run, "rstd");
	const double *gamma = hd_val(run, "gamma"), *bias = hd_val(run, "bias");
	double size = 0, variance = 0, off = 0, square = 0, c = hd_sum_c(C), mu = mean->want[r], scale = rstd->want[r];
	for (int64_t i = 0; i < C; i++) {
		size += (fabs(conv[i]) + error[i]) / (double)C;
		variance += pow(conv[i] - mu, 2) / (double)C;
		off += error[i] / (double)C;
		square += pow(error[i], 2) / (double)C;
	}
	double s = sqrt(variance), q = sqrt(square), dm = c * HD_EPS * size;
	double low = 1 / sqrt(pow(s + q, 2) + (double)NORM_EPS);
	double high = 1 / sqrt(pow(fmax(s - q, 0), 2) + (double)NORM_EPS);
	double own = (c + 3) * HD_EPS + dm * dm * high * high / 2;
	mean->bound[r] = off + dm + HD_EPS * (fabs(mu) + off);
	rstd->bound[r] = fmax(high - scale, scale - low) + high * own;
	for (int64_t i = 0; i < C; i++) {
		double moved = error[i] + off + dm, away = fabs(conv[i] - mu) + moved;
		y->bound[r * C + i] = fabs(gamma[i]) * (scale * moved + away * (rstd->bound[r] + 3 * HD_EPS * high)) +
		                      HD_EPS * (fabs(bias[i]) + fabs(y->want[r * C + i]));
	}
}

static void fused_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	int64_t rows = d[0] * d[1] * d[2], C = d[3];
	/* the convolution as if it were kept, for its bounds */
	double *conv = calloc((size_t)(3 * rows * C) + 1, sizeof *conv);
	if (!conv)
		abort();
	double *m = conv + rows * C, *error = m + rows * C;
	hd_case_run kept = {.op = run->op, .buffers = 1};
	kept.buffer[0] = (hd_buffer){.name = "conv",
	        .dtype = run->dtype,
	        .count = (size_t)(rows * C),
	        .want = conv,
	        .magnitude = m,
	        .bound = error};
	ref_dwconv7_layernorm_fwd(hd_want(run, "y"), conv, m, hd_want(run, "mean"), hd_want(run, "rstd"),
	        hd_val(run, "x"), hd_val(run, "k"), hd_val(run, "b"), hd_val(run, "gamma"), hd_val(run, "bias"),
	        (double)NORM_EPS, d[0], d[1], d[2], C);
	hd_bound(&kept, "conv", hd_sum_c(TERMS));
	for (int64_t r = 0; r < rows; r++)
		bound_position(run, conv + r * C, error + r * C, r);
	hd_add_rounding(run, "y");
	for (int64_t i = 0; i < rows * C && hd_has(run, "conv"); i++) {
		hd_want(run, "conv")[i] = conv[i];
		hd_find(run, "conv")->bound[i] = error[i];
	}
	free(conv);
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

static double conv_narrow_bytes(const hd_shape *s)
{
	return 4 * (double)size_of(s) + 4 * 50 * (double)s->d[3];
}

static double fused_flops(const hd_shape *s)
{
	return conv_flops(s) + 8 * (double)size_of(s);
}

/* Statistics of a position, taps, bias and the norm's parameters. */
static double fused_rest(const hd_shape *s)
{
	return 8 * (double)(s->d[0] * s->d[1] * s->d[2]) + 4 * 52 * (double)s->d[3];
}

static double fused_bytes(const hd_shape *s)
{
	return 12 * (double)size_of(s) + fused_rest(s);
}

static double fused_narrow_bytes(const hd_shape *s)
{
	return 6 * (double)size_of(s) + fused_rest(s);
}

/* Every width that kernels know, with even and odd channels, and more channels than one strip of theirs has. */
static const hd_shape conv_shapes[] = {{{0, 4, 4, 8}}, {{1, 1, 1, 1}}, {{1, 2, 3, 7}}, {{2, 7, 5, 9}}, {{1, 3, 8, 31}},
        {{1, 8, 6, 33}}, {{2, 32, 8, 40}}, {{2, 4, 1, 320}}, {{17, 3, 2, 5}}, {{2, 5, 4, 98}}, {{1, 6, 2, 34}},
        {{1, 9, 11, 6}}};
static const hd_shape conv_bench[] = {{{32, 32, 8, 40}}, {{32, 16, 4, 80}}, {{32, 8, 2, 160}}, {{32, 4, 1, 320}},
        {{32, 32, 8, 96}}, {{32, 32, 8, 192}}, {{32, 16, 4, 384}}, {{32, 8, 2, 768}}, {{32, 4, 1, 1536}}};
const hd_case hd_case_dwconv7_fwd = {"dwconv7_fwd", "N H W C", conv_shapes, HD_COUNT(conv_shapes), conv_bench,
        HD_COUNT(conv_bench), 1, false, fwd_make, fwd_call, fwd_reference, NULL, conv_flops, conv_bytes, true,
        conv_narrow_bytes};
const hd_case hd_case_dwconv7_bwd_data = {"dwconv7_bwd_data", "N H W C", conv_shapes, HD_COUNT(conv_shapes), conv_bench,
        HD_COUNT(conv_bench), 2, false, data_make, data_call, data_reference, data_gradient, conv_flops, conv_bytes,
        true, conv_narrow_bytes};
const hd_case hd_case_dwconv7_bwd_weight = {"dwconv7_bwd_weight", "N H W C", conv_shapes, HD_COUNT(conv_shapes),
        conv_bench, HD_COUNT(conv_bench), 1, true, weight_make, weight_call, weight_reference, weight_gradient,
        conv_flops, conv_bytes, true, conv_narrow_bytes};

/*
 * Few positions with the channels of ConvNeXt, for blocks of many warps; many with few channels, for threads with two
 * rows and blocks with several tiles; odd channels and too many, which two kernels take.
 */
static const hd_shape fused_shapes[] = {{{0, 4, 4, 8}}, {{1, 1, 1, 1}}, {{1, 2, 3, 7}}, {{2, 7, 5, 9}}, {{1, 3, 8, 31}},
        {{1, 5, 8, 192}}, {{2, 16, 8, 40}}, {{1, 6, 4, 384}}, {{1, 8, 2, 768}}, {{2, 4, 1, 1536}}, {{1, 2, 1, 2050}},
        {{1, 9, 11, 66}}, {{1, 3, 5, 770}}, {{34, 31, 8, 2}}, {{34, 31, 4, 2}}, {{34, 31, 2, 6}}, {{34, 31, 1, 10}},
        {{132, 3, 1, 66}}, {{12, 31, 19, 2}}, {{3, 2, 7, 32}}};
const hd_case hd_case_dwconv7_layernorm_fwd = {"dwconv7_layernorm_fwd", "N H W C", fused_shapes, HD_COUNT(fused_shapes),
        conv_bench, HD_COUNT(conv_bench), 2, false, fused_make, fused_call, fused_reference, NULL, fused_flops,
        fused_bytes, true, fused_narrow_bytes};
