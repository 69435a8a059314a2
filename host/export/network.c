/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass of host/model/forward.c as ONNX operations, weights straight from the checkpoint. */
#include "host/export/network.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "heimdall/features.h"
#include "host/common/file.h"
#include "host/export/quantize_weights.h"
#include "host/model/convnext.h"

#define NAME_BYTES 64
#define DB_LOG (M_LN10 / 10) /* dB to nepers of power */
#define OWN_VARIANCE_EPS 1e-8f
#define TRANSPOSE_TILE 32

typedef struct network {
	hd_onnx *graph;
	const hd_checkpoint *checkpoint;
	hd_model_config config;
	hd_onnx_precision precision;
	const hd_onnx_range *ranges; /* of int8-static */
	hd_onnx_value *seen;         /* smallest and largest inputs of the products so far; NULL: not wanted */
	int products;                /* so far */
} network;

static const int64_t to_nhwc[] = {0, 2, 3, 1}, to_nchw[] = {0, 3, 1, 2};

/* ---- weights ---- */

static const hd_tensor *find(const network *n, const char *name, int ndim, const int64_t *shape)
{
	const hd_tensor *t = hd_safetensors_find(&n->checkpoint->file, name);
	if (!t) {
		hd_onnx_failed(n->graph, hd_fail(HD_E_DATA, "tensor %s is missing", name));
	} else if (t->dtype != HD_F32 || t->ndim != ndim ||
	           memcmp(t->shape, shape, (size_t)ndim * sizeof *shape) != 0) {
		hd_onnx_failed(n->graph, hd_fail(HD_E_DATA, "tensor %s is of another shape or dtype", name));
		t = NULL;
	}
	return t;
}

/* The file's tensor PREFIX.WHAT as it is, and its name (NAME_BYTES); data NULL where there is none. */
static hd_onnx_tensor describe(
        const network *n, char *name, const char *prefix, const char *what, int ndim, const int64_t *shape)
{
	snprintf(name, NAME_BYTES, "%s.%s", prefix, what);
	const hd_tensor *t = find(n, name, ndim, shape);
	hd_onnx_tensor tensor = {.type = HD_ONNX_F32, .ndim = ndim, .data = t ? t->data : NULL, .mapped = true};
	memcpy(tensor.shape, shape, (size_t)ndim * sizeof *shape);
	return tensor;
}

static hd_onnx_value weight(const network *n, const char *prefix, const char *what, int ndim, const int64_t *shape)
{
	char name[NAME_BYTES];
	hd_onnx_tensor tensor = describe(n, name, prefix, what, ndim, shape);
	return tensor.data ? hd_onnx_weight(n->graph, name, &tensor) : "";
}

static hd_onnx_value half_weight(const network *n, const char *prefix, const char *what, int ndim, const int64_t *shape)
{
	char name[NAME_BYTES];
	hd_onnx_tensor tensor = describe(n, name, prefix, what, ndim, shape);
	return tensor.data ? hd_onnx_f16_weight(n->graph, name, &tensor, false) : "";
}

static hd_onnx_value cast(hd_onnx *g, hd_onnx_value x, hd_onnx_type to)
{
	hd_onnx_value y = HD_ONNX_NODE(g, "Cast", x);
	hd_onnx_attr_int(g, "to", to);
	return y;
}

/*
 * PREFIX.weight in as few bits as the precision has, as a float32 value. Cast and Mul, which ONNX Runtime computes once
 * when it loads a model; a DequantizeLinear it keeps for its fusions, and computes in every run.
 */
static hd_onnx_value stored_weight(const network *n, const char *prefix, int ndim, const int64_t *shape)
{
	char name[NAME_BYTES];
	hd_onnx *g = n->graph;
	if (n->precision == HD_ONNX_FP32)
		return weight(n, prefix, "weight", ndim, shape);
	hd_onnx_tensor tensor = describe(n, name, prefix, "weight", ndim, shape);
	if (!tensor.data)
		return "";
	if (n->precision == HD_ONNX_FP16)
		return cast(g, hd_onnx_f16_weight(g, name, &tensor, false), HD_ONNX_F32);
	hd_int8_weight w = hd_onnx_int8_weight(g, name, &tensor, false, HD_INT8_STORED_STEPS);
	return HD_ONNX_NODE(g, "Mul", cast(g, w.values, HD_ONNX_F32), w.scales);
}

static hd_onnx_value vector(const network *n, const char *prefix, const char *what, int64_t C)
{
	return weight(n, prefix, what, 1, &C);
}

typedef struct matrix {
	const float *data; /* (rows, columns) of the mapped file */
	int64_t rows, columns;
} matrix;

static hd_status transpose(void *out, const void *source)
{
	const matrix *m = source;
	float *to = out;
	for (int64_t r0 = 0; r0 < m->rows; r0 += TRANSPOSE_TILE) {
		int64_t r1 = r0 + TRANSPOSE_TILE < m->rows ? r0 + TRANSPOSE_TILE : m->rows;
		for (int64_t c0 = 0; c0 < m->columns; c0 += TRANSPOSE_TILE) {
			int64_t c1 = c0 + TRANSPOSE_TILE < m->columns ? c0 + TRANSPOSE_TILE : m->columns;
			for (int64_t c = c0; c < c1; c++)
				for (int64_t r = r0; r < r1; r++)
					to[c * m->rows + r] = m->data[r * m->columns + c];
		}
	}
	hd_file_forget(m->data, (size_t)(m->rows * m->columns) * sizeof *m->data);
	return HD_OK;
}

/* PREFIX.weight of a linear layer from C to K: (K,C) or (K,C,1,1). */
static hd_onnx_tensor describe_matrix(const network *n, char *name, const char *prefix, int64_t C, int64_t K)
{
	return describe(n, name, prefix, "weight", n->config.backbone.conv_mlp ? 4 : 2, (int64_t[]){K, C, 1, 1});
}

/* The same as the (C,K) that MatMul takes. */
static hd_onnx_value transposed_weight(const network *n, const char *prefix, int64_t C, int64_t K)
{
	char name[NAME_BYTES];
	hd_onnx_tensor t = describe_matrix(n, name, prefix, C, K);
	if (!t.data)
		return "";
	if (n->precision == HD_ONNX_FP16)
		return hd_onnx_f16_weight(n->graph, name, &t, true);
	matrix *m = hd_onnx_keep(n->graph, sizeof *m);
	if (!m)
		return "";
	*m = (matrix){.data = t.data, .rows = K, .columns = C};
	return hd_onnx_weight(n->graph, name,
	        &(hd_onnx_tensor){.type = HD_ONNX_F32, .ndim = 2, .shape = {C, K}, .fill = transpose, .source = m});
}

/* ---- what the network is made of ---- */

static hd_onnx_value reduce(hd_onnx *g, const char *op, hd_onnx_value x, int count, const int64_t *axes)
{
	hd_onnx_value y;
	if (hd_onnx_opset(g) >= 18) {
		y = HD_ONNX_NODE(g, op, x, hd_onnx_i64s(g, count, axes));
	} else {
		y = HD_ONNX_NODE(g, op, x);
		hd_onnx_attr_ints(g, "axes", count, axes);
	}
	hd_onnx_attr_int(g, "keepdims", 1);
	return y;
}

static hd_onnx_value mean(hd_onnx *g, hd_onnx_value x, int count, const int64_t *axes)
{
	return reduce(g, "ReduceMean", x, count, axes);
}

/* What is computed in half precision, in and out; the value itself in other precisions. */
static hd_onnx_value to_half(const network *n, hd_onnx_value x)
{
	return n->precision == HD_ONNX_FP16 ? cast(n->graph, x, HD_ONNX_F16) : x;
}

static hd_onnx_value from_half(const network *n, hd_onnx_value x)
{
	return n->precision == HD_ONNX_FP16 ? cast(n->graph, x, HD_ONNX_F32) : x;
}

/* A vector beside values in half precision. */
static hd_onnx_value half_vector(const network *n, const char *prefix, const char *what, int64_t C)
{
	return n->precision == HD_ONNX_FP16 ? half_weight(n, prefix, what, 1, &C) : vector(n, prefix, what, C);
}

/* x (...,C) times an int8 weight, without bias; integers are multiplied, their scales follow. */
static hd_onnx_value dynamic_product(const network *n, hd_onnx_value x, const hd_int8_weight *w)
{
	hd_onnx *g = n->graph;
	hd_onnx_value q = HD_ONNX_NODE(g, "DynamicQuantizeLinear", x);
	hd_onnx_value scale = hd_onnx_more_output(g), zero_point = hd_onnx_more_output(g);
	hd_onnx_value y = cast(g, HD_ONNX_NODE(g, "MatMulInteger", q, w->values, zero_point), HD_ONNX_F32);
	return HD_ONNX_NODE(g, "Mul", y, HD_ONNX_NODE(g, "Mul", scale, w->scales));
}

static hd_onnx_value static_product(
        const network *n, hd_onnx_value x, const char *prefix, const hd_int8_weight *w, const hd_onnx_range *range)
{
	hd_onnx *g = n->graph;
	char name[NAME_BYTES];
	hd_uint8_range u = hd_uint8_range_of(range->lo, range->hi);
	uint8_t *kept = hd_onnx_keep(g, sizeof *kept);
	if (!kept)
		return "";
	*kept = u.zero_point;
	snprintf(name, sizeof name, "%s.input_zero_point", prefix);
	hd_onnx_value scale = hd_onnx_f32(g, u.scale),
	              zero_point = hd_onnx_weight(g, name, &(hd_onnx_tensor){.type = HD_ONNX_U8, .data = kept});
	hd_onnx_value q = HD_ONNX_NODE(g, "QuantizeLinear", x, scale, zero_point);
	q = HD_ONNX_NODE(g, "DequantizeLinear", q, scale, zero_point);
	hd_onnx_value weights = HD_ONNX_NODE(g, "DequantizeLinear", w->values, w->scales);
	hd_onnx_attr_int(g, "axis", 1);
	return HD_ONNX_NODE(g, "MatMul", q, weights);
}

/* Each row's smallest and largest value of x (N,...), (N,1) each. */
static void see_range(network *n, hd_onnx_value x)
{
	static const int64_t all[] = {1, 2, 3};
	static const char *const ops[] = {"ReduceMin", "ReduceMax"};
	hd_onnx *g = n->graph;
	for (int i = 0; i < 2; i++) {
		hd_onnx_value y = reduce(g, ops[i], x, 3, all);
		n->seen[2 * n->products + i] = HD_ONNX_NODE(g, "Flatten", y);
		hd_onnx_attr_int(g, "axis", 1);
	}
}

/* x (...,C) of the backbone to (...,K). */
static hd_onnx_value linear(network *n, hd_onnx_value x, const char *prefix, int64_t C, int64_t K)
{
	char name[NAME_BYTES];
	hd_onnx_value y;
	if (n->precision == HD_ONNX_INT8_DYNAMIC || n->precision == HD_ONNX_INT8_STATIC) {
		hd_onnx_tensor t = describe_matrix(n, name, prefix, C, K);
		if (!t.data)
			return "";
		hd_int8_weight w = hd_onnx_int8_weight(n->graph, name, &t, true, HD_INT8_PRODUCT_STEPS);
		y = n->precision == HD_ONNX_INT8_DYNAMIC ? dynamic_product(n, x, &w)
		                                         : static_product(n, x, prefix, &w, &n->ranges[n->products]);
	} else {
		if (n->seen)
			see_range(n, x);
		y = HD_ONNX_NODE(n->graph, "MatMul", x, transposed_weight(n, prefix, C, K));
	}
	n->products++;
	return HD_ONNX_NODE(n->graph, "Add", y, half_vector(n, prefix, "bias", K));
}

/* x (N,C) of a head to (N,K); hidden layers are stored in fewer bits. */
static hd_onnx_value head_linear(
        const network *n, hd_onnx_value x, const char *prefix, int64_t C, int64_t K, bool hidden)
{
	const int64_t shape[] = {K, C};
	hd_onnx_value w = hidden ? stored_weight(n, prefix, 2, shape) : weight(n, prefix, "weight", 2, shape);
	hd_onnx_value y = HD_ONNX_NODE(n->graph, "Gemm", x, w, vector(n, prefix, "bias", K));
	hd_onnx_attr_int(n->graph, "transB", 1);
	return y;
}

typedef struct conv_shape {
	int64_t C, K, size, stride, pad;
	bool depthwise;
} conv_shape;

/* x (N,C,H,W) to (N,K,H/stride,W/stride). */
static hd_onnx_value conv(const network *n, hd_onnx_value x, const char *prefix, const conv_shape *s)
{
	hd_onnx *g = n->graph;
	const int64_t shape[] = {s->K, s->depthwise ? 1 : s->C, s->size, s->size};
	hd_onnx_value w = n->precision == HD_ONNX_FP16 ? half_weight(n, prefix, "weight", 4, shape)
	                                               : stored_weight(n, prefix, 4, shape);
	hd_onnx_value y = HD_ONNX_NODE(g, "Conv", x, w, half_vector(n, prefix, "bias", s->K));
	hd_onnx_attr_ints(g, "kernel_shape", 2, (int64_t[]){s->size, s->size});
	hd_onnx_attr_ints(g, "strides", 2, (int64_t[]){s->stride, s->stride});
	hd_onnx_attr_ints(g, "pads", 4, (int64_t[]){s->pad, s->pad, s->pad, s->pad});
	hd_onnx_attr_int(g, "group", s->depthwise ? s->C : 1);
	return y;
}

/* sqrt(variance + eps) over axes, of values whose mean there is 0. */
static hd_onnx_value deviation(hd_onnx *g, hd_onnx_value centred, float eps, int count, const int64_t *axes)
{
	hd_onnx_value variance = mean(g, HD_ONNX_NODE(g, "Mul", centred, centred), count, axes);
	return HD_ONNX_NODE(g, "Sqrt", HD_ONNX_NODE(g, "Add", variance, hd_onnx_f32(g, eps)));
}

/* LayerNorm over the last axis, of opsets that have it. */
static hd_onnx_value layer_norm(hd_onnx *g, hd_onnx_value x, hd_onnx_value gamma, hd_onnx_value bias)
{
	hd_onnx_value y = HD_ONNX_NODE(g, "LayerNormalization", x, gamma, bias);
	hd_onnx_attr_int(g, "axis", -1);
	hd_onnx_attr_float(g, "epsilon", HD_NORM_EPS);
	return y;
}

/* LayerNorm over the last axis, of C. */
static hd_onnx_value norm(const network *n, hd_onnx_value x, const char *prefix, int64_t C)
{
	hd_onnx *g = n->graph;
	hd_onnx_value gamma = vector(n, prefix, "weight", C), bias = vector(n, prefix, "bias", C);
	if (hd_onnx_opset(g) >= 17)
		return layer_norm(g, x, gamma, bias);
	static const int64_t last[] = {-1};
	hd_onnx_value centred = HD_ONNX_NODE(g, "Sub", x, mean(g, x, 1, last));
	hd_onnx_value y = HD_ONNX_NODE(g, "Div", centred, deviation(g, centred, HD_NORM_EPS, 1, last));
	return HD_ONNX_NODE(g, "Add", HD_ONNX_NODE(g, "Mul", y, gamma), bias);
}

/*
 * The same of values in the block's own precision. LayerNormalization sums in float32 whatever its input (stash_type);
 * opsets before it do all of it in float32.
 */
static hd_onnx_value block_norm(const network *n, hd_onnx_value x, const char *prefix, int64_t C)
{
	hd_onnx *g = n->graph;
	if (n->precision != HD_ONNX_FP16 || hd_onnx_opset(g) < 17)
		return to_half(n, norm(n, from_half(n, x), prefix, C));
	return layer_norm(g, x, half_vector(n, prefix, "weight", C), half_vector(n, prefix, "bias", C));
}

static hd_onnx_value block_constant(const network *n, float value)
{
	return n->precision == HD_ONNX_FP16 ? hd_onnx_f16(n->graph, value) : hd_onnx_f32(n->graph, value);
}

/* x Phi(x), or 0.5 x (1 + tanh(sqrt(2/pi) x (1 + 0.044715 x^2))), as the model was trained. */
static hd_onnx_value gelu(const network *n, hd_onnx_value x)
{
	hd_onnx *g = n->graph;
	bool by_tanh = n->config.gelu == HD_GELU_TANH;
	hd_onnx_value y;
	if (hd_onnx_opset(g) >= 20) {
		y = HD_ONNX_NODE(g, "Gelu", x);
		if (by_tanh)
			hd_onnx_attr_text(g, "approximate", "tanh");
		return y;
	}
	if (by_tanh) {
		y = HD_ONNX_NODE(g, "Mul", HD_ONNX_NODE(g, "Mul", x, x), block_constant(n, 0.044715f));
		y = HD_ONNX_NODE(g, "Mul", x, HD_ONNX_NODE(g, "Add", y, block_constant(n, 1)));
		y = HD_ONNX_NODE(g, "Tanh", HD_ONNX_NODE(g, "Mul", y, block_constant(n, (float)sqrt(M_2_PI))));
	} else {
		y = HD_ONNX_NODE(g, "Erf", HD_ONNX_NODE(g, "Div", x, block_constant(n, (float)M_SQRT2)));
	}
	y = HD_ONNX_NODE(g, "Mul", x, HD_ONNX_NODE(g, "Add", y, block_constant(n, 1)));
	return HD_ONNX_NODE(g, "Mul", y, block_constant(n, 0.5f));
}

static hd_onnx_value permute(hd_onnx *g, hd_onnx_value x, const int64_t *order)
{
	hd_onnx_value y = HD_ONNX_NODE(g, "Transpose", x);
	hd_onnx_attr_ints(g, "perm", 4, order);
	return y;
}

/* ---- normalisation ---- */

static void fill_channels(float *out, const float *offset, int C, float (*of)(double log_gain))
{
	for (int c = 0; c < C; c++)
		out[c] = of(-(double)offset[c] * DB_LOG);
}

/*
 * A gain g on the power above silence adds 10 log10(p + q (r + s t)) dB, t = silence over the level as power ratio. For
 * g < 1 that is g + (1-g) t, else 1 + (g-1) (1-t): no term is negative, as in assemble_batch.
 */
static float gain_p(double log_gain)
{
	return log_gain < 0 ? (float)exp(log_gain) : 1;
}

static float gain_q(double log_gain)
{
	return (float)fabs(expm1(log_gain));
}

static float gain_r(double log_gain)
{
	return log_gain < 0 ? 0 : 1;
}

static float gain_s(double log_gain)
{
	return log_gain < 0 ? 1 : -1;
}

static hd_onnx_value channel_constant(const network *n, const char *name, float (*of)(double log_gain))
{
	int C = n->config.channels;
	float *values = hd_onnx_keep(n->graph, (size_t)C * sizeof *values);
	if (!values)
		return "";
	fill_channels(values, n->checkpoint->card.offset, C, of);
	return hd_onnx_f32s(n->graph, name, 3, (int64_t[]){C, 1, 1}, values);
}

/* Takes the receivers' offsets out of levels (N,C,M,W). */
static hd_onnx_value take_offsets(const network *n, hd_onnx_value v)
{
	hd_onnx *g = n->graph;
	hd_onnx_value below = HD_ONNX_NODE(
	        g, "Mul", HD_ONNX_NODE(g, "Sub", hd_onnx_f32(g, HD_DB_SILENCE), v), hd_onnx_f32(g, (float)DB_LOG));
	hd_onnx_value t = HD_ONNX_NODE(g, "Exp", HD_ONNX_NODE(g, "Min", below, hd_onnx_f32(g, 0)));
	t = HD_ONNX_NODE(g, "Mul", t, channel_constant(n, "offset.s", gain_s));
	t = HD_ONNX_NODE(g, "Add", t, channel_constant(n, "offset.r", gain_r));
	t = HD_ONNX_NODE(g, "Mul", t, channel_constant(n, "offset.q", gain_q));
	t = HD_ONNX_NODE(g, "Add", t, channel_constant(n, "offset.p", gain_p));
	t = HD_ONNX_NODE(g, "Mul", HD_ONNX_NODE(g, "Log", t), hd_onnx_f32(g, (float)(1 / DB_LOG)));
	return HD_ONNX_NODE(g, "Add", v, t);
}

/* By the mean and deviation of each channel's own levels, before offsets are taken out. */
static hd_onnx_value normalise_by_own(const network *n, hd_onnx_value features, hd_onnx_value moved)
{
	static const int64_t window[] = {2, 3};
	hd_onnx *g = n->graph;
	hd_onnx_value mu = mean(g, features, 2, window);
	hd_onnx_value centred = HD_ONNX_NODE(g, "Sub", features, mu);
	/* what rounding left of the mean: levels are far from 0 and close to each other */
	hd_onnx_value rest = mean(g, centred, 2, window);
	hd_onnx_value by = deviation(g, HD_ONNX_NODE(g, "Sub", centred, rest), OWN_VARIANCE_EPS, 2, window);
	if (strcmp(moved, features) != 0)
		centred = HD_ONNX_NODE(g, "Sub", moved, mu);
	return HD_ONNX_NODE(g, "Div", HD_ONNX_NODE(g, "Sub", centred, rest), by);
}

static hd_onnx_value normalise(const network *n, hd_onnx_value features)
{
	hd_onnx *g = n->graph;
	const hd_data_card *card = &n->checkpoint->card;
	const int64_t rows[] = {card->height, 1};
	hd_onnx_scope(g, "normalize/");
	hd_onnx_value v = card->offset ? take_offsets(n, features) : features;
	if (!card->mean)
		return normalise_by_own(n, features, v);
	v = HD_ONNX_NODE(g, "Sub", v, hd_onnx_f32s(g, "normalize.mean", 2, rows, card->mean));
	return HD_ONNX_NODE(g, "Mul", v, hd_onnx_f32s(g, "normalize.rstd", 2, rows, card->rstd));
}

/* ---- the backbone ---- */

/* LayerNorm over the channels of x (N,C,H,W). */
static hd_onnx_value channel_norm(const network *n, hd_onnx_value x, const char *prefix, int64_t C)
{
	return permute(n->graph, norm(n, permute(n->graph, x, to_nhwc), prefix, C), to_nchw);
}

static hd_onnx_value block(network *n, hd_onnx_value x, int stage, int number, int64_t C)
{
	hd_onnx *g = n->graph;
	char at[NAME_BYTES / 2], name[NAME_BYTES];
	snprintf(at, sizeof at, "stages.%d.blocks.%d", stage, number);
	snprintf(name, sizeof name, "%s/", at);
	hd_onnx_scope(g, name);
	snprintf(name, sizeof name, "%s.conv_dw", at);
	hd_onnx_value y = conv(n, to_half(n, x), name,
	        &(conv_shape){.C = C, .K = C, .size = 7, .stride = 1, .pad = 3, .depthwise = true});
	y = permute(g, y, to_nhwc);
	snprintf(name, sizeof name, "%s.norm", at);
	y = block_norm(n, y, name, C);
	snprintf(name, sizeof name, "%s.mlp.fc1", at);
	y = gelu(n, linear(n, y, name, C, HD_MLP_RATIO * C));
	snprintf(name, sizeof name, "%s.mlp.fc2", at);
	y = from_half(n, linear(n, y, name, HD_MLP_RATIO * C, C));
	y = HD_ONNX_NODE(g, "Mul", y, vector(n, at, "gamma", C));
	return HD_ONNX_NODE(g, "Add", x, permute(g, y, to_nchw));
}

static hd_onnx_value stem(const network *n, hd_onnx_value x)
{
	int64_t C = n->config.backbone.widths[0];
	hd_onnx_scope(n->graph, "stem/");
	x = conv(n, to_half(n, x), "stem.0",
	        &(conv_shape){.C = n->config.channels, .K = C, .size = HD_STEM_PATCH, .stride = HD_STEM_PATCH});
	return channel_norm(n, from_half(n, x), "stem.1", C);
}

static hd_onnx_value downsample(const network *n, hd_onnx_value x, int stage)
{
	const int *widths = n->config.backbone.widths;
	char name[NAME_BYTES];
	snprintf(name, sizeof name, "stages.%d.downsample/", stage);
	hd_onnx_scope(n->graph, name);
	snprintf(name, sizeof name, "stages.%d.downsample.0", stage);
	x = to_half(n, channel_norm(n, x, name, widths[stage - 1]));
	snprintf(name, sizeof name, "stages.%d.downsample.1", stage);
	x = conv(n, x, name,
	        &(conv_shape){
	                .C = widths[stage - 1], .K = widths[stage], .size = HD_DOWN_PATCH, .stride = HD_DOWN_PATCH});
	return from_half(n, x);
}

/* Features to (N,D). */
static hd_onnx_value backbone(network *n, hd_onnx_value features)
{
	const hd_backbone *b = &n->config.backbone;
	hd_onnx_value x = normalise(n, features);
	for (int s = 0; s < HD_STAGES; s++) {
		x = s == 0 ? stem(n, x) : downsample(n, x, s);
		for (int i = 0; i < b->depths[s]; i++)
			x = block(n, x, s, i, b->widths[s]);
	}
	hd_onnx_scope(n->graph, "head/");
	x = HD_ONNX_NODE(n->graph, "Flatten", HD_ONNX_NODE(n->graph, "GlobalAveragePool", x));
	hd_onnx_attr_int(n->graph, "axis", 1);
	return norm(n, x, "head.norm", b->widths[HD_STAGES - 1]);
}

/* ---- the heads ---- */

static hd_onnx_value head_norm(const network *n, hd_onnx_value x, const char *prefix, int64_t C)
{
	if (n->config.head_norm == HD_HEAD_NORM_LAYER)
		return norm(n, x, prefix, C);
	hd_onnx_value y = HD_ONNX_NODE(n->graph, "BatchNormalization", x, vector(n, prefix, "weight", C),
	        vector(n, prefix, "bias", C), vector(n, prefix, "running_mean", C),
	        vector(n, prefix, "running_var", C));
	hd_onnx_attr_float(n->graph, "epsilon", HD_BATCH_NORM_EPS);
	return y;
}

/* x (N,D) to (N,2). */
static hd_onnx_value head(const network *n, hd_onnx_value x, const char *prefix)
{
	const hd_model_config *c = &n->config;
	int64_t C = c->backbone.widths[HD_STAGES - 1];
	char name[NAME_BYTES];
	snprintf(name, sizeof name, "%s/", prefix);
	hd_onnx_scope(n->graph, name);
	for (int i = 0; i < c->head_layers; i++) {
		int64_t K = c->head_widths[i];
		snprintf(name, sizeof name, "%s.fc%d", prefix, i + 1);
		x = head_linear(n, x, name, C, K, true);
		snprintf(name, sizeof name, "%s.norm%d", prefix, i + 1);
		x = HD_ONNX_NODE(n->graph, "Relu", head_norm(n, x, name, K));
		C = K;
	}
	snprintf(name, sizeof name, "%s.fc%d", prefix, c->head_layers + 1);
	return head_linear(n, x, name, C, 2, false);
}

/*
 * sigma within its bounds, as gaussian_nll has it. lo - span expm1(-z) = lo + span tanh(z/2) (1 + exp(-z)), which loses
 * no digits where z is small.
 */
static hd_onnx_value bound_sigma(const network *n, hd_onnx_value u)
{
	hd_onnx *g = n->graph;
	const hd_loss *loss = &n->config.loss;
	float span = loss->hi - loss->lo;
	hd_onnx_value softplus = HD_ONNX_NODE(g, "Softplus", u);
	if (loss->bound == HD_BOUND_CLAMP)
		return HD_ONNX_NODE(g, "Clip", softplus, hd_onnx_f32(g, loss->lo), hd_onnx_f32(g, loss->hi));
	hd_onnx_value z = HD_ONNX_NODE(g, "Div", softplus, hd_onnx_f32(g, span));
	hd_onnx_value tanh_half = HD_ONNX_NODE(g, "Tanh", HD_ONNX_NODE(g, "Mul", z, hd_onnx_f32(g, 0.5f)));
	hd_onnx_value more =
	        HD_ONNX_NODE(g, "Add", HD_ONNX_NODE(g, "Exp", HD_ONNX_NODE(g, "Neg", z)), hd_onnx_f32(g, 1));
	hd_onnx_value above = HD_ONNX_NODE(g, "Mul", HD_ONNX_NODE(g, "Mul", tanh_half, more), hd_onnx_f32(g, span));
	return HD_ONNX_NODE(g, "Add", above, hd_onnx_f32(g, loss->lo));
}

const char *hd_onnx_precision_name(hd_onnx_precision precision)
{
	static const char *const names[HD_ONNX_PRECISIONS] = {"fp32", "fp16", "int8-dynamic", "int8-static"};
	return names[precision];
}

int hd_export_product_count(const hd_backbone *backbone)
{
	int blocks = 0;
	for (int s = 0; s < HD_STAGES; s++)
		blocks += backbone->depths[s];
	return 2 * blocks;
}

static hd_status start(network *n)
{
	if (hd_onnx_status(n->graph) == HD_OK)
		hd_onnx_failed(
		        n->graph, hd_model_config_from(&n->config, &n->checkpoint->settings, &n->checkpoint->card, 1));
	return hd_onnx_status(n->graph);
}

hd_status hd_export_network(hd_onnx *graph, const hd_checkpoint *checkpoint, hd_onnx_precision precision,
        const hd_onnx_range *ranges, hd_onnx_value features, hd_onnx_value *mu, hd_onnx_value *sigma)
{
	network n = {.graph = graph, .checkpoint = checkpoint, .precision = precision, .ranges = ranges};
	*mu = *sigma = "";
	if (precision == HD_ONNX_INT8_STATIC && !ranges)
		hd_onnx_failed(graph, hd_fail(HD_E_FAILED, "ONNX graph: int8-static takes calibrated ranges"));
	hd_status st = start(&n);
	if (st != HD_OK)
		return st;
	hd_onnx_value pooled = backbone(&n, features);
	*mu = head(&n, pooled, "position_head");
	*sigma = bound_sigma(&n, head(&n, pooled, "uncertainty_head"));
	hd_onnx_scope(graph, "");
	return hd_onnx_status(graph);
}

hd_status hd_export_ranges(
        hd_onnx *graph, const hd_checkpoint *checkpoint, hd_onnx_value features, hd_onnx_value *ranges)
{
	network n = {.graph = graph, .checkpoint = checkpoint, .precision = HD_ONNX_FP32};
	*ranges = "";
	hd_status st = start(&n);
	if (st != HD_OK)
		return st;
	int count = 2 * hd_export_product_count(&n.config.backbone);
	n.seen = hd_onnx_keep(graph, (size_t)count * sizeof *n.seen);
	if (!n.seen)
		return hd_onnx_status(graph);
	backbone(&n, features);
	hd_onnx_scope(graph, "");
	*ranges = hd_onnx_node(graph, "Concat", count, n.seen);
	hd_onnx_attr_int(graph, "axis", 1);
	return hd_onnx_status(graph);
}
