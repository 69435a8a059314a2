/* SPDX-License-Identifier: Apache-2.0 */
/* Exact GELU (Hendrycks and Gimpel 2016): x * Phi(x); kernels/gelu.h has the normal distribution. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/gelu.h"

#define LOG2E 1.44269504f
#define LN2_HIGH 0.693359375f
#define LN2_LOW (-2.12194440e-4f)
#define EXP_SMALLEST (-87.0f)

/*
 * exp(x + rest) for -88 < x <= 0 and tiny rest, 0 below EXP_SMALLEST; 0x1.8p23 rounds to an integer; the
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
static inline float held(float x)
{
	float z = fabsf(x);
	return z > HD_GELU_FARTHEST ? HD_GELU_FARTHEST : z;
}

hd_status HD_CPU(gelu_fwd)(void *y, const void *x, hd_dtype dt, int64_t n, hd_stream *stream)
{
	(void)stream;
	HD_ONLY_F32(dt);
	const float *in = x;
	float *out = y;
#pragma omp parallel for simd schedule(static) if (parallel : n > HD_PARALLEL_MIN)
	for (int64_t i = 0; i < n; i++) {
		float v = in[i], z = held(v);
		float tail = z * hd_gelu_tail(z, bell(z));
		out[i] = v > 0 ? v - tail : -tail;
	}
	return HD_OK;
}

/* d/dx x Phi(x) = Phi(x) + x phi(x). */
hd_status HD_CPU(gelu_bwd)(void *dx, const void *dy, const void *x, hd_dtype dt, int64_t n, hd_stream *stream)
{
	(void)stream;
	HD_ONLY_F32(dt);
	const float *in = x, *g = dy;
	float *out = dx;
#pragma omp parallel for simd schedule(static) if (parallel : n > HD_PARALLEL_MIN)
	for (int64_t i = 0; i < n; i++) {
		float v = in[i], z = held(v);
		float e = bell(z);
		float q = hd_gelu_tail(z, e);
		float slope = z * HD_GELU_INV_SQRT_2PI * e;
		out[i] = g[i] * (v > 0 ? 1.0f - q + slope : q - slope);
	}
	return HD_OK;
}
