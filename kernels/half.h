/* SPDX-License-Identifier: Apache-2.0 */
/* IEEE 754 half precision, round to nearest even, and bfloat16. Pure functions. */
#ifndef HD_KERNELS_HALF_H
#define HD_KERNELS_HALF_H

#include <stdint.h>
#include <string.h>

static inline float hd_half_to_float(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 0x1f, mantissa = half & 0x3ff, bits;
	if (exponent == 0) {
		/* subnormal: an integer multiple of 2^-24 */
		float f = (float)mantissa * 0x1p-24f;
		return sign ? -f : f;
	}
	if (exponent == 31)
		bits = sign | 0x7f800000u | (mantissa << 13);
	else
		bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
	float f;
	memcpy(&f, &bits, sizeof f);
	return f;
}

static inline uint16_t hd_float_to_half(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	uint16_t sign = (uint16_t)((bits >> 16) & 0x8000);
	uint32_t magnitude = bits & 0x7fffffffu;
	if (magnitude > 0x7f800000u)
		return sign | 0x7e00;
	if (magnitude >= 0x477ff000u) /* rounds to infinity */
		return sign | 0x7c00;
	if (magnitude < 0x38800000u) {
		/* subnormal: adding 0.5 puts the rounded integer into the low bits */
		float f;
		memcpy(&f, &magnitude, sizeof f);
		f += 0.5f;
		memcpy(&bits, &f, sizeof bits);
		return (uint16_t)(sign | (bits - 0x3f000000u));
	}
	uint32_t odd = (magnitude >> 13) & 1;
	return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

/* The upper half of a float. */
static inline float hd_bf16_to_float(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;
	memcpy(&value, &wide, sizeof value);
	return value;
}

/* Round to nearest even; NaN stays one. */
static inline uint16_t hd_float_to_bf16(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	if ((bits & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

#endif
