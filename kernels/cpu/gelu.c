/* SPDX-License-Identifier: Apache-2.0 */
/* GELU (Hendrycks and Gimpel 2016), exact or by tanh; kernels/gelu.h has what both are made of. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/gelu.h"

#define LOG2E 1.44269504f
#define LN2_HIGH 0.693359375f
#define LN2_LOW (-2.12194440e-4f)
#define EXP_SMALLEST (-87.0f)

/*
 * exp(x + rest) for -1000 < x <= 0 and tiny rest, 0 below EXP_SMALLEST; 0x1.8p23 rounds to an integer; the
 * polynomial is Taylor's to 1/720; NaN stays NaN.
 */
static inline float exp_negative(float x, float rest)
{
	float n = (x * LOG2E + 0x1.8p23f) - 0x1.8p23f;
	float r = x - n * LN2_HIGH - n * LN2_LOW + rest;
	float p = 1.0f / 720;
	p = p * r + 1.0f / 120;
	p = p * r + 1.0f / 24;
	p = p * r + 1.0f / 6;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	/* unsigned: what NaN converts to must not overflow */
	uint32_t bits = ((uint32_t)(int32_t)n + 127u) << 23;
	float power;
	memcpy(&power, &bits, sizeof power);
	return x < EXP_SMALLEST ? 0.0f : p * power;
}

/*
 * exp(-z^2/2). z^2 is up to 174, where its rounding error alone would be 8e-6 of the result, so the part
 * that rounding lost goes in separately; without FMA it comes from the upper 12 bits, whose square is exact.
 */
static inline float bell(float z)
{
	float square = z * z;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
	float lost = __builtin_fmaf(z, z, -square);
#else
	uint32_t bits;
	memcpy(&bits, &z, sizeof bits);
	bits &= 0xFFFFF000u;
	float top;
	memcpy(&top, &bits, sizeof top);
	float lost = (top * top - square) + (z - top) * (z + top);
#endif
	return exp_negative(-0.5f * square, -0.5f * lost);
}

/* |x|, held where the tail has vanished; NaN stays NaN. */
static inline float held(float x, float farthest)
{
	float z = fabsf(x);
	return z > farthest ? farthest : z;
}

static inline float erf_value(float v)
{
	float z = held(v, HD_GELU_FARTHEST), tail = z * hd_gelu_tail(z, bell(z));
	return v > 0 ? v - tail : -tail;
}

static inline float tanh_value(float v)
{
	float z = held(v, HD_GELU_TANH_FARTHEST), e = exp_negative(-hd_gelu_tanh_exponent(z), 0);
	float tail = z * (e / (1.0f + e));
	return v > 0 ? v - tail : -tail;
}

/* d/dx x Phi(x) = Phi(x) + x phi(x). */
static inline float erf_slope(float v)
{
	float z = held(v, HD_GELU_FARTHEST), e = bell(z), q = hd_gelu_tail(z, e);
	float slope = z * HD_GELU_INV_SQRT_2PI * e;
	return v > 0 ? 1.0f - q + slope : q - slope;
}

/* d/dx x s(2u) = s + x s (1 - s) (2u)', s the logistic function. */
static inline float tanh_slope(float v)
{
	float z = held(v, HD_GELU_TANH_FARTHEST), e = exp_negative(-hd_gelu_tanh_exponent(z), 0);
	float p = 1.0f / (1.0f + e), q = e * p;
	float slope = z * q * p * hd_gelu_tanh_steepness(z);
	return v > 0 ? 1.0f - q + slope : q - slope;
}

hd_status HD_CPU(gelu_fwd)(void *y, const void *x, hd_gelu_form form, hd_dtype dt, int64_t n, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(gelu_fwd)(y, x, form, HD_F32, n, stream), HD_WRITES(y, n), HD_READS(x, n));
	const float *in = x;
	float *out = y;
	if (form == HD_GELU_TANH) {
#pragma omp parallel for simd schedule(static) if (parallel : n > HD_PARALLEL_MIN)
		for (int64_t i = 0; i < n; i++)
			out[i] = tanh_value(in[i]);
		return HD_OK;
	}
#pragma omp parallel for simd schedule(static) if (parallel : n > HD_PARALLEL_MIN)
	for (int64_t i = 0; i < n; i++)
		out[i] = erf_value(in[i]);
	return HD_OK;
}

static void backward(
        float *restrict dx, const float *restrict dy, const float *restrict x, hd_gelu_form form, int64_t n)
{
	if (form == HD_GELU_TANH) {
#pragma omp simd
		for (int64_t i = 0; i < n; i++)
			dx[i] = dy[i] * tanh_slope(x[i]);
		return;
	}
#pragma omp simd
	for (int64_t i = 0; i < n; i++)
		dx[i] = dy[i] * erf_slope(x[i]);
}

size_t HD_CPU(gelu_bwd_work)(int64_t rows, int64_t C)
{
	(void)rows;
	return (size_t)(HD_PIECES * C) * sizeof(float);
}

hd_status HD_CPU(gelu_bwd)(void *dx, float *db, const void *dy, const void *x, hd_gelu_form form, float beta,
        void *work, hd_dtype dt, int64_t rows, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(gelu_bwd)(dx, db, dy, x, form, beta, work, HD_F32, rows, C, stream),
	        HD_WRITES(dx, rows * C), HD_READS(dy, rows * C), HD_READS(x, rows * C));
	const float *in = x, *g = dy;
	float *out = dx, *part = work;
#pragma omp parallel for schedule(static) if (rows * C > HD_PARALLEL_MIN)
	for (int64_t piece = 0; piece < HD_PIECES; piece++) {
		if (!db) {
			int64_t from = hd_piece_start(piece, rows * C), to = hd_piece_start(piece + 1, rows * C);
			backward(out + from, g + from, in + from, form, to - from);
			continue;
		}
		hd_clear_sums(part + piece * C, C);
		for (int64_t r = hd_piece_start(piece, rows); r < hd_piece_start(piece + 1, rows); r++) {
			backward(out + r * C, g + r * C, in + r * C, form, C);
			hd_add_row(part + piece * C, out + r * C, C);
		}
	}
	if (db)
		hd_combine_pieces(db, part, beta, C);
	return HD_OK;
}
