/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/front_end.h"

#include <math.h>

#include "host/export/front_end_nodes.h"
#include "host/export/front_end_stft.h"

/* |I+jQ| of all channels as rows (R,samples). */
static hd_onnx_value magnitude_rows(hd_onnx *g, hd_onnx_signal kind, hd_onnx_value signal)
{
	hd_onnx_value x = signal;
	if (kind == HD_ONNX_SIGNAL_IQ)
		x = HD_ONNX_NODE(g, "Sqrt", hd_node_sum(g, hd_node2(g, "Mul", x, x), -1, false));
	x = HD_ONNX_NODE(g, "Flatten", x);
	hd_onnx_attr_int(g, "axis", 2);
	return x;
}

/* ---- frames of network inputs ---- */

/*
 * First frame of a window of W frames in the middle of T, as hd_features_fit_frames places it: there the quotient of a
 * negative number is rounded towards 0, here none is divided.
 */
static hd_onnx_value centred_start(hd_onnx *g, hd_onnx_value T, int64_t W, int64_t margin)
{
	hd_onnx_value zero = hd_onnx_i64(g, 0), two = hd_onnx_i64(g, 2), inner = hd_onnx_i64(g, W - 2 * margin);
	hd_onnx_value over = hd_node2(g, "Max", hd_node2(g, "Sub", T, inner), zero),
	              missing = hd_node2(g, "Max", hd_node2(g, "Sub", inner, T), zero);
	hd_onnx_value start = hd_node2(g, "Sub", hd_node2(g, "Div", over, two), hd_node2(g, "Div", missing, two));
	return hd_node2(g, "Sub", start, hd_onnx_i64(g, margin));
}

/* First frame of each of K windows (K), spread evenly over T frames; one alone lies in the middle. */
static hd_onnx_value window_starts(hd_onnx *g, hd_onnx_value T, hd_onnx_value K, int64_t W)
{
	hd_onnx_value one = hd_onnx_i64(g, 1);
	hd_onnx_value gaps = hd_node2(g, "Max", hd_node2(g, "Sub", K, one), one);
	hd_onnx_value last = hd_node2(g, "Max", hd_node2(g, "Sub", T, hd_onnx_i64(g, W)), hd_onnx_i64(g, 0));
	hd_onnx_value spread = hd_node2(g, "Div", hd_node2(g, "Mul", hd_node_range(g, K), last), gaps);
	return HD_ONNX_NODE(g, "Where", hd_node2(g, "Greater", K, one), spread, centred_start(g, T, W, 0));
}

/* Frames `at`, reflected at both ends of T (period 2T-2; one frame repeats). */
static hd_onnx_value reflect(hd_onnx *g, hd_onnx_value at, hd_onnx_value T)
{
	hd_onnx_value two = hd_onnx_i64(g, 2);
	hd_onnx_value period =
	        hd_node2(g, "Max", hd_node2(g, "Sub", hd_node2(g, "Mul", T, two), two), hd_onnx_i64(g, 1));
	hd_onnx_value rest = hd_node2(g, "Mod", at, period);
	return hd_node2(g, "Min", rest, hd_node2(g, "Sub", period, rest));
}

/* Mel power (R,T,M) to that of windows (R,K,W,M). */
static hd_onnx_value take_windows(hd_onnx *g, hd_onnx_value mel, hd_onnx_value T, int64_t W, hd_onnx_value *K)
{
	*K = hd_node2(g, "Max", hd_node2(g, "Div", T, hd_onnx_i64(g, W)), hd_onnx_i64(g, 1));
	hd_onnx_value starts = hd_node2(g, "Unsqueeze", window_starts(g, T, *K, W), hd_node_i64s1(g, 1));
	hd_onnx_value frames = hd_node2(
	        g, "Gather", mel, reflect(g, hd_node2(g, "Add", starts, hd_node_range(g, hd_onnx_i64(g, W))), T));
	hd_onnx_attr_int(g, "axis", 1);
	return frames;
}

/*
 * Mel power (R,T,M) to the means of W equal spans (R,W,M). A matrix (W,T) of 1/length within each span, 0 elsewhere;
 * of fewer frames than W, a span is one frame of the window in the middle, reflected.
 */
static hd_onnx_value take_means(hd_onnx *g, hd_onnx_value mel, hd_onnx_value T, int64_t W, int64_t margin)
{
	hd_onnx_value one = hd_onnx_i64(g, 1), width = hd_onnx_i64(g, W), spans = hd_node_range(g, hd_onnx_i64(g, W));
	hd_onnx_value enough = HD_ONNX_NODE(g, "Not", hd_node2(g, "Less", T, width));
	hd_onnx_value single = reflect(g, hd_node2(g, "Add", centred_start(g, T, W, margin), spans), T);
	hd_onnx_value start = hd_node2(g, "Div", hd_node2(g, "Mul", spans, T), width),
	              end = hd_node2(g, "Div", hd_node2(g, "Mul", hd_node2(g, "Add", spans, one), T), width);
	start = HD_ONNX_NODE(g, "Where", enough, start, single);
	end = HD_ONNX_NODE(g, "Where", enough, end, hd_node2(g, "Add", single, one));
	hd_onnx_value share =
	        hd_node2(g, "Div", hd_onnx_f32(g, 1), hd_node_cast(g, hd_node2(g, "Sub", end, start), HD_ONNX_F32));
	hd_onnx_value t = hd_node_range(g, T), column = hd_node_i64s1(g, 1);
	hd_onnx_value started = HD_ONNX_NODE(g, "Not", hd_node2(g, "Less", t, hd_node2(g, "Unsqueeze", start, column))),
	              ended = hd_node2(g, "Less", t, hd_node2(g, "Unsqueeze", end, column));
	hd_onnx_value inside = hd_node_cast(g, hd_node2(g, "And", started, ended), HD_ONNX_F32);
	return hd_node2(g, "MatMul", hd_node2(g, "Mul", inside, hd_node2(g, "Unsqueeze", share, column)), mel);
}

/* ---- levels ---- */

/*
 * Rounded where 10.0f * log10f(power + floor) is: near silence a step of half precision is where a network's first norm
 * magnifies it, and one more float's rounding puts 70 times as many levels on another side of such a step. The
 * logarithm is in double, which leaves the nearest float, as good implementations of log10f do.
 */
static hd_onnx_value decibels(hd_onnx *g, hd_onnx_value power)
{
	hd_onnx_value x = hd_node2(g, "Add", power, hd_onnx_f32(g, HD_DB_FLOOR));
	hd_onnx_value ln = HD_ONNX_NODE(g, "Log", hd_node_cast(g, x, HD_ONNX_F64));
	double *per_neper = hd_onnx_keep(g, sizeof *per_neper);
	if (!per_neper)
		return "";
	*per_neper = 1 / M_LN10;
	const hd_onnx_tensor tensor = {.type = HD_ONNX_F64, .data = per_neper};
	hd_onnx_value log10 = hd_node2(g, "Mul", ln, hd_onnx_weight(g, "front_end.log10_e", &tensor));
	return hd_node2(g, "Mul", hd_node_cast(g, log10, HD_ONNX_F32), hd_onnx_f32(g, 10));
}

/* Rows (R = N*C, K, W, M), or (R,W,M) with K = 1, to network inputs (N*K,C,M,W). */
static hd_onnx_value arrange(
        hd_onnx *g, hd_onnx_value rows, hd_onnx_value signal, hd_onnx_value K, const hd_feature_config *c)
{
	hd_onnx_value any = hd_node_i64s1(g, -1), W = hd_node_i64s1(g, c->frames), M = hd_node_i64s1(g, c->n_mels),
	              first = hd_node_i64s1(g, 0);
	hd_onnx_value C = hd_node2(g, "Unsqueeze", hd_node_size(g, signal, 1), first),
	              windows = hd_node2(g, "Unsqueeze", K, first);
	hd_onnx_value apart = HD_ONNX_NODE(g, "Concat", any, C, windows, W, M);
	hd_onnx_attr_int(g, "axis", 0);
	hd_onnx_value x = HD_ONNX_NODE(g, "Transpose", hd_node2(g, "Reshape", rows, apart));
	hd_onnx_attr_ints(g, "perm", 5, (const int64_t[]){0, 2, 1, 4, 3});
	hd_onnx_value shape = HD_ONNX_NODE(g, "Concat", any, C, M, W);
	hd_onnx_attr_int(g, "axis", 0);
	return hd_node2(g, "Reshape", x, shape);
}

/* Cepstrum (N,C,H,W) of levels (N,C,M,W), as hd_features_mfcc makes it. */
static hd_onnx_value cepstrum(hd_onnx *g, hd_onnx_value levels, const hd_feature_config *c)
{
	int64_t M = c->n_mels, H = hd_features_height(c);
	float *dct = hd_onnx_keep(g, (size_t)(H * M) * sizeof *dct);
	if (!dct)
		return "";
	hd_features_dct(dct, c); /* rows behind stay 0 */
	const hd_onnx_tensor tensor = {.type = HD_ONNX_F32, .ndim = 2, .shape = {H, M}, .data = dct};
	return hd_node2(g, "MatMul", hd_onnx_weight(g, "front_end.dct", &tensor), levels);
}

void hd_export_front_end(hd_onnx *g, const hd_feature_config *c, hd_onnx_signal kind, hd_onnx_value signal,
        hd_onnx_value *features, hd_onnx_value *windows)
{
	hd_onnx_value mel = hd_export_mel_power(g, c, magnitude_rows(g, kind, signal));
	hd_onnx_value T = hd_node_size(g, mel, 1), rows;
	if (c->frame_mode == HD_FRAMES_MEAN) {
		*windows = hd_onnx_i64(g, 1);
		rows = take_means(g, mel, T, c->frames, c->margin);
	} else {
		rows = take_windows(g, mel, T, c->frames, windows);
	}
	hd_onnx_value levels = arrange(g, decibels(g, rows), signal, *windows, c);
	if (c->kind == HD_FEATURE_MFCC)
		levels = cepstrum(g, levels, c);
	*features = hd_node_cast(g, hd_node_cast(g, levels, HD_ONNX_F16), HD_ONNX_F32);
}

void hd_export_fuse(hd_onnx *g, hd_onnx_value windows, hd_onnx_value *mu, hd_onnx_value *sigma)
{
	hd_onnx_value shape = HD_ONNX_NODE(g, "Concat", hd_node_i64s1(g, -1),
	        hd_node2(g, "Unsqueeze", windows, hd_node_i64s1(g, 0)), hd_node_i64s1(g, 2));
	hd_onnx_attr_int(g, "axis", 0);
	hd_onnx_value mean = hd_node2(g, "Reshape", *mu, shape), deviation = hd_node2(g, "Reshape", *sigma, shape);
	hd_onnx_value variance = hd_node2(g, "Mul", deviation, deviation);
	hd_onnx_value precision = hd_node2(g, "Div", hd_onnx_f32(g, 1), variance);
	hd_onnx_value weight = hd_node2(g, "Div", precision, hd_node_sum(g, precision, 1, true));
	hd_onnx_value centre = hd_node_sum(g, hd_node2(g, "Mul", weight, mean), 1, true);
	/* squares of differences, never differences of squares: windows lie much nearer to each other than to the
	 * origin */
	hd_onnx_value off = hd_node2(g, "Sub", mean, centre);
	hd_onnx_value spread = hd_node2(g, "Add", variance, hd_node2(g, "Mul", off, off));
	*mu = hd_node2(g, "Squeeze", centre, hd_node_i64s1(g, 1));
	*sigma = HD_ONNX_NODE(g, "Sqrt", hd_node_sum(g, hd_node2(g, "Mul", weight, spread), 1, false));
}
