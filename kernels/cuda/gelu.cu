/* SPDX-License-Identifier: Apache-2.0 */
/* GELU (Hendrycks and Gimpel 2016), exact or by tanh; kernels/gelu.h has what both are made of. */
#include "kernels/cuda/map.cuh"
#include "kernels/gelu.h"

/* |x|, held where the tail has vanished; NaN stays NaN. */
__device__ static inline float held(float x, float farthest)
{
	float z = fabsf(x);
	return z > farthest ? farthest : z;
}

/* exp(-z^2/2), with what rounding z^2 lost, which is up to 8e-6 of the result. */
__device__ static inline float bell(float z)
{
	float square = z * z, lost = fmaf(z, z, -square), e = expf(-0.5f * square);
	return fmaf(-0.5f * lost, e, e);
}

template <hd_gelu_form FORM> __device__ static inline float value(float v)
{
	float z, tail;
	if (FORM == HD_GELU_TANH) {
		z = held(v, HD_GELU_TANH_FARTHEST);
		float e = expf(-hd_gelu_tanh_exponent(z));
		tail = z * (e / (1.0f + e));
	} else {
		z = held(v, HD_GELU_FARTHEST);
		tail = z * hd_gelu_tail(z, bell(z));
	}
	return v > 0 ? v - tail : -tail;
}

/* Phi(x) + x phi(x); s + x s (1 - s) (2u)' with the logistic function s of 2u. */
template <hd_gelu_form FORM> __device__ static inline float derivative(float v)
{
	float tail, slope;
	if (FORM == HD_GELU_TANH) {
		float z = held(v, HD_GELU_TANH_FARTHEST), e = expf(-hd_gelu_tanh_exponent(z)), p = 1.0f / (1.0f + e);
		tail = e * p;
		slope = z * tail * p * hd_gelu_tanh_steepness(z);
	} else {
		float z = held(v, HD_GELU_FARTHEST), e = bell(z);
		tail = hd_gelu_tail(z, e);
		slope = z * HD_GELU_INV_SQRT_2PI * e;
	}
	return v > 0 ? 1.0f - tail + slope : tail - slope;
}

/*
 * y out, x in, n floats; packs of four where both are 16-byte aligned. Deterministic. Error: one rounding, and of the
 * tail 4e-7 relatively (erf) or 1e-6 + 4e-7 times its exponent (tanh).
 * FLOPs 30*n; bytes 8*n. Launch: block 256 threads, grid n/1024 rounded up, at most 4096. Goal: 85 % of the measured
 * copy rate from 1e6 elements on.
 */
template <hd_gelu_form FORM>
static __global__ void __launch_bounds__(HD_MAP_THREADS) forward(float *y, const float *x, int64_t n, bool wide)
{
	hd_map(y, x, x, n, wide, [](float v, float) { return value<FORM>(v); });
}

/*
 * dx out, dy, x in, n floats; dx = dy * the derivative at x. Deterministic.
 * FLOPs 35*n; bytes 12*n. Launch, goal: as forward.
 */
template <hd_gelu_form FORM>
static __global__ void __launch_bounds__(HD_MAP_THREADS)
        backward(float *dx, const float *dy, const float *x, int64_t n, bool wide)
{
	hd_map(dx, dy, x, n, wide, [](float g, float v) { return g * derivative<FORM>(v); });
}

extern "C" hd_status hd_cuda_gelu_fwd(
        void *y, const void *x, hd_gelu_form form, hd_dtype dt, int64_t n, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(gelu_fwd, dt);
	float *out = (float *)y;
	const float *in = (const float *)x;
	bool wide = hd_cuda_aligned16(y) && hd_cuda_aligned16(x);
	unsigned grid = hd_cuda_map_grid(n);
	cudaStream_t cuda = hd_cuda_stream(stream);
	if (n > 0 && form == HD_GELU_TANH)
		forward<HD_GELU_TANH><<<grid, HD_MAP_THREADS, 0, cuda>>>(out, in, n, wide);
	else if (n > 0)
		forward<HD_GELU_ERF><<<grid, HD_MAP_THREADS, 0, cuda>>>(out, in, n, wide);
	return HD_CUDA_LAUNCHED(gelu_fwd);
}

extern "C" hd_status hd_cuda_gelu_bwd(
        void *dx, const void *dy, const void *x, hd_gelu_form form, hd_dtype dt, int64_t n, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(gelu_bwd, dt);
	float *out = (float *)dx;
	const float *g = (const float *)dy, *in = (const float *)x;
	bool wide = hd_cuda_aligned16(dx) && hd_cuda_aligned16(dy) && hd_cuda_aligned16(x);
	unsigned grid = hd_cuda_map_grid(n);
	cudaStream_t cuda = hd_cuda_stream(stream);
	if (n > 0 && form == HD_GELU_TANH)
		backward<HD_GELU_TANH><<<grid, HD_MAP_THREADS, 0, cuda>>>(out, g, in, n, wide);
	else if (n > 0)
		backward<HD_GELU_ERF><<<grid, HD_MAP_THREADS, 0, cuda>>>(out, g, in, n, wide);
	return HD_CUDA_LAUNCHED(gelu_bwd);
}
