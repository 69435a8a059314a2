/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What GELU needs in both of its forms, for C and CUDA.
 *
 * erf: the normal distribution. With z = |x| its upper tail is
 * Q(z) = exp(-z^2/2) * poly(t), t = 1/(1 + 0.36 z): the form of Abramowitz and Stegun 7.1.26 with nine terms fitted
 * here to erfcx(z/sqrt 2)/2 on 0..40 by reweighted least squares; relative error 4e-7 in float.
 *
 * tanh: (1 + tanh u)/2 is the logistic function of 2u, so that with e = exp(-2|u|) the tail is e/(1 + e), which nothing
 * cancels. Pure functions.
 */
#ifndef HD_KERNELS_GELU_H
#define HD_KERNELS_GELU_H

#include "kernels/device.h"

#define HD_GELU_INV_SQRT_2PI 0.398942280f

/*
 * Beyond |x| = 13.2 the tail is below float's smallest normal number; z is held there, in the products too,
 * so that infinities do not meet a zero.
 */
#define HD_GELU_FARTHEST 13.2f

#define HD_GELU_T 0.36f

/* Q(z) for z >= 0 given t = 1/(1 + 0.36 z) and e = exp(-z^2/2). */
HD_DEVICE static inline float hd_gelu_tail_of(float t, float e)
{
	float p = -0.0302452052f;
	p = p * t + 0.139537133f;
	p = p * t - 0.223648807f;
	p = p * t + 0.107414361f;
	p = p * t - 0.000410425805f;
	p = p * t + 0.0960448664f;
	p = p * t + 0.12400843f;
	p = p * t + 0.143682f;
	p = p * t + 0.143617661f;
	return p * t * e;
}

/* Q(z) for z >= 0 given e. */
HD_DEVICE static inline float hd_gelu_tail(float z, float e)
{
	return hd_gelu_tail_of(1.0f / (1.0f + HD_GELU_T * z), e);
}

/* Beyond |x| = 10.2, where 2u is 92, e is below float's smallest normal number. */
#define HD_GELU_TANH_FARTHEST 10.2f
#define HD_GELU_TANH_SCALE 1.59576912f /* 2 sqrt(2/pi) */
#define HD_GELU_TANH_CUBIC 0.044715f

/* 2u at z >= 0. */
HD_DEVICE static inline float hd_gelu_tanh_exponent(float z)
{
	return HD_GELU_TANH_SCALE * z * (1.0f + HD_GELU_TANH_CUBIC * (z * z));
}

/* The derivative of 2u at z. */
HD_DEVICE static inline float hd_gelu_tanh_steepness(float z)
{
	return HD_GELU_TANH_SCALE * (1.0f + 3 * HD_GELU_TANH_CUBIC * (z * z));
}

#endif
