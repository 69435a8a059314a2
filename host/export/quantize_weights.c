/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/quantize_weights.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/common/file.h"
#include "kernels/half.h"

#define NAME_BYTES 96
#define TILE 32                /* rows and columns that are turned at once */
#define HALF_INFINITY 65520.0f /* rounds to it */

/* A matrix of the mapping, and what becomes of it. */
typedef struct rows {
	const char *name;
	const float *data; /* (K,n) */
	int64_t K, n;
	int steps;
	bool transposed, mapped;
} rows;

static void forget(const rows *m)
{
	if (m->mapped)
		hd_file_forget(m->data, (size_t)(m->K * m->n) * sizeof *m->data);
}

/* ---- eight bits ---- */

hd_uint8_range hd_uint8_range_of(float lo, float hi)
{
	lo = fminf(lo, 0);
	hi = fmaxf(hi, 0);
	float scale = (hi - lo) / UINT8_MAX;
	if (!(scale >= FLT_MIN))
		return (hd_uint8_range){1, 0};
	/* the quotient is within 0 .. 255 but for a rounding */
	return (hd_uint8_range){scale, (uint8_t)fminf(rintf(-lo / scale), UINT8_MAX)};
}

float hd_int8_scale(const float *row, int64_t n, int steps)
{
	float largest = 0;
	bool finite = true;
	for (int64_t i = 0; i < n; i++) {
		float size = fabsf(row[i]);
		finite = finite && size <= FLT_MAX;
		largest = size > largest ? size : largest;
	}
	if (!finite)
		return -1;
	/* a subnormal scale would lose what it divides by */
	return largest > 0 ? fmaxf(largest / (float)steps, FLT_MIN) : 1;
}

static hd_status row_scale(float *out, const rows *m, int64_t k)
{
	*out = hd_int8_scale(m->data + k * m->n, m->n, m->steps);
	return *out > 0 ? HD_OK
	                : hd_fail(HD_E_NONFINITE, "%s: a weight of channel %lld is not finite", m->name, (long long)k);
}

static hd_status fill_scales(void *out, const void *source)
{
	const rows *m = source;
	float *scales = out;
	hd_status st = HD_OK;
	for (int64_t k = 0; k < m->K && st == HD_OK; k++)
		st = row_scale(&scales[k], m, k);
	return st;
}

static int8_t quantized(float w, float scale, int steps)
{
	float q = rintf(w / scale), most = (float)steps;
	return (int8_t)(q > most ? most : q < -most ? -most : q);
}

/* Rows k0 .. k1 - 1, TILE of them at most. */
static void quantize_rows(int8_t *to, const rows *m, int64_t k0, int64_t k1, const float *scales)
{
	for (int64_t c0 = 0; c0 < m->n; c0 += TILE) {
		int64_t c1 = c0 + TILE < m->n ? c0 + TILE : m->n;
		for (int64_t k = k0; k < k1; k++) {
			for (int64_t c = c0; c < c1; c++) {
				int64_t at = m->transposed ? c * m->K + k : k * m->n + c;
				to[at] = quantized(m->data[k * m->n + c], scales[k - k0], m->steps);
			}
		}
	}
}

static hd_status fill_int8(void *out, const void *source)
{
	const rows *m = source;
	float scales[TILE];
	for (int64_t k0 = 0; k0 < m->K; k0 += TILE) {
		int64_t k1 = k0 + TILE < m->K ? k0 + TILE : m->K;
		for (int64_t k = k0; k < k1; k++) {
			hd_status st = row_scale(&scales[k - k0], m, k);
			if (st != HD_OK)
				return st;
		}
		quantize_rows(out, m, k0, k1, scales);
	}
	forget(m);
	return HD_OK;
}

/* The description of a weight, kept with the graph; NULL on failure. */
static rows *keep_rows(hd_onnx *g, const char *name, const hd_onnx_tensor *of, bool transposed, int steps)
{
	size_t bytes = strlen(name) + 1;
	rows *m = hd_onnx_keep(g, sizeof *m);
	char *kept = hd_onnx_keep(g, bytes);
	if (!m || !kept)
		return NULL;
	memcpy(kept, name, bytes);
	*m = (rows){.name = kept,
	        .data = of->data,
	        .mapped = of->mapped,
	        .K = of->shape[0],
	        .n = 1,
	        .steps = steps,
	        .transposed = transposed};
	for (int d = 1; d < of->ndim; d++)
		m->n *= of->shape[d];
	return m;
}

static hd_onnx_tensor describe(const rows *m, const hd_onnx_tensor *of, hd_onnx_type type, hd_onnx_fill fill)
{
	hd_onnx_tensor t = {.type = type, .ndim = of->ndim, .fill = fill, .source = m};
	memcpy(t.shape, of->shape, sizeof t.shape);
	if (m->transposed) {
		t.ndim = 2;
		t.shape[0] = m->n;
		t.shape[1] = m->K;
	}
	return t;
}

hd_int8_weight hd_onnx_int8_weight(
        hd_onnx *graph, const char *name, const hd_onnx_tensor *of, bool transposed, int steps)
{
	hd_int8_weight out = {"", ""};
	char own[NAME_BYTES];
	rows *m = keep_rows(graph, name, of, transposed, steps);
	if (!m)
		return out;
	hd_onnx_tensor values = describe(m, of, HD_ONNX_I8, fill_int8);
	hd_onnx_tensor scales = {
	        .type = HD_ONNX_F32, .ndim = transposed ? 1 : of->ndim, .fill = fill_scales, .source = m};
	for (int d = 0; d < scales.ndim; d++)
		scales.shape[d] = d ? 1 : m->K;
	snprintf(own, sizeof own, "%s_quantized", name);
	out.values = hd_onnx_weight(graph, own, &values);
	snprintf(own, sizeof own, "%s_scale", name);
	out.scales = hd_onnx_weight(graph, own, &scales);
	return out;
}

/* ---- half precision ---- */

static hd_status fill_f16(void *out, const void *source)
{
	const rows *m = source;
	uint16_t *to = out;
	float beyond = 0;
	for (int64_t c0 = 0; c0 < m->n; c0 += TILE) {
		int64_t c1 = c0 + TILE < m->n ? c0 + TILE : m->n;
		for (int64_t k = 0; k < m->K; k++) {
			for (int64_t c = c0; c < c1; c++) {
				float w = m->data[k * m->n + c];
				to[m->transposed ? c * m->K + k : k * m->n + c] = hd_float_to_half(w);
				beyond = fabsf(w) < HALF_INFINITY ? beyond : w;
			}
		}
	}
	forget(m);
	return beyond == 0 ? HD_OK
	                   : hd_fail(HD_E_DATA, "%s: a weight of %g is beyond half precision", m->name, (double)beyond);
}

hd_onnx_value hd_onnx_f16_weight(hd_onnx *graph, const char *name, const hd_onnx_tensor *of, bool transposed)
{
	rows *m = keep_rows(graph, name, of, transposed, 0);
	if (!m)
		return "";
	hd_onnx_tensor values = describe(m, of, HD_ONNX_F16, fill_f16);
	return hd_onnx_weight(graph, name, &values);
}
