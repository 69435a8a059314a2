/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/front_end_stft.h"

#include <math.h>

#include "host/data/mel.h"
#include "host/export/front_end_nodes.h"

#define MATRIX_ELEMENTS_MAX (1 << 25) /* of one matrix: 128 MiB */

/*
 * A transform of n = a*b points in two steps (Cooley and Tukey 1965): i = b*i1 + i2, k = k1 + a*k2,
 *   X[k1 + a k2] = sum_i2 e(-i2 k2 / b) e(-i2 k1 / n) sum_i1 e(-i1 k1 / a) x[b i1 + i2],   e(v) = exp(2 pi j v).
 * Of a real signal k1 = 0 .. a/2 are enough, A of them.
 */
typedef struct transform {
	int64_t n, a, b, A;
} transform;

/* The factors of fewest multiplications per frame: 2An of the first step, 4Ab^2 of the second. */
static transform factorise(int64_t n)
{
	transform best = {n, 1, n, 1};
	double least = INFINITY;
	for (int64_t a = 1; a <= n; a++) {
		int64_t b = n / a, A = a / 2 + 1;
		double cost = (double)A * (2 * (double)n + 4 * (double)b * (double)b);
		if (n % a == 0 && cost < least) {
			least = cost;
			best = (transform){n, a, b, A};
		}
	}
	return best;
}

/* A tensor (rows,columns) of value(row, column). */
typedef double (*element)(const transform *f, int64_t row, int64_t column);
static hd_onnx_value matrix(
        hd_onnx *g, const char *name, const transform *f, int64_t rows, int64_t columns, element value)
{
	float *data = hd_onnx_keep(g, (size_t)(rows * columns) * sizeof *data);
	if (!data)
		return "";
	for (int64_t i = 0; i < rows * columns; i++)
		data[i] = (float)value(f, i / columns, i % columns);
	return hd_onnx_weight(
	        g, name, &(hd_onnx_tensor){.type = HD_ONNX_F32, .ndim = 2, .shape = {rows, columns}, .data = data});
}

/* Angle -2 pi at / period, reduced first: products of indices are exact, angles of many turns are not. */
static double angle(int64_t at, int64_t period)
{
	return -2 * M_PI * (double)(at % period) / (double)period;
}

/* Periodic Hann window, sample b*row + column. */
static double hann(const transform *f, int64_t row, int64_t column)
{
	return 0.5 - 0.5 * cos(angle(f->b * row + column, f->n));
}

static double first_cos(const transform *f, int64_t k1, int64_t i1)
{
	return cos(angle(k1 * i1, f->a));
}

static double first_sin(const transform *f, int64_t k1, int64_t i1)
{
	return sin(angle(k1 * i1, f->a));
}

static double twiddle_cos(const transform *f, int64_t k1, int64_t i2)
{
	return cos(angle(k1 * i2, f->n));
}

static double twiddle_sin(const transform *f, int64_t k1, int64_t i2)
{
	return sin(angle(k1 * i2, f->n));
}

/* Rows of the second step: b real parts, then b imaginary ones. */
static double second_real(const transform *f, int64_t row, int64_t k2)
{
	double v = angle(row % f->b * k2, f->b);
	return row < f->b ? cos(v) : -sin(v);
}

static double second_imaginary(const transform *f, int64_t row, int64_t k2)
{
	double v = angle(row % f->b * k2, f->b);
	return row < f->b ? sin(v) : cos(v);
}

/* The window's own spectrum, which is real. */
static double hann_spectrum(const transform *f, int64_t k1, int64_t k2)
{
	int64_t k = k1 + f->a * k2;
	return k == 0 ? (double)f->n / 2 : k == 1 || k == f->n - 1 ? -(double)f->n / 4 : 0;
}

/* Bin of the spectrum that the power at (k1,k2) belongs to; -1: it stands there a second time. */
static int64_t bin_of(const transform *f, int64_t k1, int64_t k2)
{
	int64_t k = k1 + f->a * k2;
	if (2 * k <= f->n)
		return k;
	return 2 * k1 % f->a == 0 ? -1 : f->n - k;
}

/* Frames (R,T,a,b) of padded x (R,L), L >= n. Gathered in the longest pieces that both hop and n are made of. */
static hd_onnx_value frames(hd_onnx *g, const transform *f, int64_t hop, hd_onnx_value x)
{
	int64_t piece = hop, rest = f->n;
	while (rest) {
		int64_t next = piece % rest;
		piece = rest;
		rest = next;
	}
	hd_onnx_value n = hd_onnx_i64(g, f->n), step = hd_onnx_i64(g, hop), one = hd_onnx_i64(g, 1);
	hd_onnx_value length = hd_node_size(g, x, 1);
	hd_onnx_value more = hd_node2(g, "Div", hd_node2(g, "Sub", length, n), step);
	hd_onnx_value used = hd_node2(g, "Add", hd_node2(g, "Mul", more, step), n);
	x = HD_ONNX_NODE(g, "Slice", x, hd_node_i64s1(g, 0), hd_node2(g, "Unsqueeze", used, hd_node_i64s1(g, 0)),
	        hd_node_i64s1(g, 1));
	x = hd_node2(g, "Reshape", x, hd_onnx_i64s(g, 3, (const int64_t[]){0, -1, piece}));
	hd_onnx_value t = hd_node_range(g, hd_node2(g, "Add", more, one));
	hd_onnx_value start =
	        hd_node2(g, "Unsqueeze", hd_node2(g, "Mul", t, hd_onnx_i64(g, hop / piece)), hd_node_i64s1(g, 1));
	hd_onnx_value within = hd_node_range(g, hd_onnx_i64(g, f->n / piece));
	x = hd_node2(g, "Gather", x, hd_node2(g, "Add", start, within));
	hd_onnx_attr_int(g, "axis", 1);
	return hd_node2(g, "Reshape", x, hd_onnx_i64s(g, 4, (const int64_t[]){0, 0, f->a, f->b}));
}

/* y (R,L) and the mean (R,1) taken out of it to power (R,T,A*b). */
static hd_onnx_value power_spectrum(hd_onnx *g, const transform *f, int64_t hop, hd_onnx_value y, hd_onnx_value mean)
{
	int64_t a = f->a, b = f->b, A = f->A;
	hd_onnx_value u = hd_node2(g, "Mul", frames(g, f, hop, y), matrix(g, "front_end.window", f, a, b, hann));
	hd_onnx_value re = hd_node2(g, "MatMul", matrix(g, "front_end.first_cos", f, A, a, first_cos), u),
	              im = hd_node2(g, "MatMul", matrix(g, "front_end.first_sin", f, A, a, first_sin), u);
	hd_onnx_value c = matrix(g, "front_end.twiddle_cos", f, A, b, twiddle_cos),
	              s = matrix(g, "front_end.twiddle_sin", f, A, b, twiddle_sin);
	hd_onnx_value turned =
	        HD_ONNX_NODE(g, "Concat", hd_node2(g, "Sub", hd_node2(g, "Mul", re, c), hd_node2(g, "Mul", im, s)),
	                hd_node2(g, "Add", hd_node2(g, "Mul", re, s), hd_node2(g, "Mul", im, c)));
	hd_onnx_attr_int(g, "axis", 3);
	re = hd_node2(g, "MatMul", turned, matrix(g, "front_end.second_real", f, 2 * b, b, second_real));
	im = hd_node2(g, "MatMul", turned, matrix(g, "front_end.second_imaginary", f, 2 * b, b, second_imaginary));
	hd_onnx_value level = hd_node2(g, "Unsqueeze", mean, hd_onnx_i64s(g, 2, (const int64_t[]){2, 3}));
	re = hd_node2(g, "Add", re,
	        hd_node2(g, "Mul", level, matrix(g, "front_end.window_spectrum", f, A, b, hann_spectrum)));
	hd_onnx_value power = hd_node2(g, "Add", hd_node2(g, "Mul", re, re), hd_node2(g, "Mul", im, im));
	return hd_node2(g, "Reshape", power, hd_onnx_i64s(g, 3, (const int64_t[]){0, 0, A * b}));
}

/* Mel filters (A*b,M) over the power as it comes, with the square of the spectrum's scale in them. */
static hd_onnx_value mel_matrix(hd_onnx *g, const transform *f, const hd_feature_config *c)
{
	hd_mel mel = {0};
	int64_t M = c->n_mels;
	/* the window's sum is n/2 */
	double scale = c->convention == HD_STFT_SCIPY ? 2 / (double)f->n : 1;
	float *dense = hd_onnx_keep(g, (size_t)(f->A * f->b * M) * sizeof *dense);
	hd_status st = dense ? hd_mel_create(&mel, c) : HD_OK;
	hd_onnx_failed(g, st);
	if (!dense || st != HD_OK)
		return "";
	for (int64_t i = 0; i < f->A * f->b; i++) {
		int64_t k = bin_of(f, i / f->b, i % f->b);
		for (int64_t m = 0; m < M; m++) {
			int64_t at = k - mel.first[m], count = mel.offset[m + 1] - mel.offset[m];
			double w = k >= 0 && at >= 0 && at < count ? (double)mel.w[mel.offset[m] + at] : 0;
			dense[i * M + m] = (float)(w * scale * scale);
		}
	}
	hd_mel_free(&mel);
	return hd_onnx_weight(g, "front_end.mel",
	        &(hd_onnx_tensor){.type = HD_ONNX_F32, .ndim = 2, .shape = {f->A * f->b, M}, .data = dense});
}

hd_onnx_value hd_export_mel_power(hd_onnx *g, const hd_feature_config *c, hd_onnx_value x)
{
	int64_t n = c->n_fft, half = n / 2;
	transform f = factorise(n);
	if (f.A * f.a > MATRIX_ELEMENTS_MAX || 2 * f.b * f.b > MATRIX_ELEMENTS_MAX) {
		hd_onnx_failed(g,
		        hd_fail(HD_E_UNSUPPORTED,
		                "n_fft %lld has too large a prime factor to be put into an ONNX graph", (long long)n));
		return "";
	}
	/* zeros on both sides; scipy's convention fills up the last hop, librosa's leaves a part of one out */
	int64_t fill = c->convention == HD_STFT_SCIPY ? c->hop_length - 1 : 0;
	hd_onnx_value padded = hd_node2(g, "Pad", x, hd_onnx_i64s(g, 4, (const int64_t[]){0, half, 0, half + fill}));
	/*
	 * A carrier stands 100 dB and more above what mel bands tell apart, and float32 keeps 140 dB. So the mean of
	 * the recording, of whatever precision, is taken out and its spectrum, which is known, put back.
	 */
	hd_onnx_value samples = hd_node_cast(g, hd_node_size(g, x, 1), HD_ONNX_F32);
	hd_onnx_value mean = hd_node2(g, "Div", hd_node_sum(g, x, 1, true), samples);
	hd_onnx_value y = hd_node2(g, "Sub", padded, mean);
	hd_onnx_value power = power_spectrum(g, &f, c->hop_length, y, mean);
	return hd_node2(g, "MatMul", power, mel_matrix(g, &f, c));
}
