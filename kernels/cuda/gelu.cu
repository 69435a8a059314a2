/* SPDX-License-Identifier: Apache-2.0 */
/* GELU (Hendrycks and Gimpel 2016), exact or by tanh; kernels/gelu.h has what both are made of. */
#include "kernels/cuda/map.cuh"
#include "kernels/gelu.h"

/*
 * Of values of 16 bits (FAST) exponentials and reciprocals are the device's approximations, subnormal numbers taken as
 * 0: with IEEE division and expf a value takes more than 60 instructions, which a device needs longer for than for its
 * 4 bytes; so it takes 22. They are off by 2 and 1 ulp at most, and the square of a number of 11 bits is exact: with
 * both at their worst the error of each of the 65536 values of either type stays within the bound of the float
 * formulas.
 */

/* 2^x */
__device__ static inline float fast_power_of_two(float x)
{
#ifdef HD_CUDA_EMULATED
	return exp2f(x);
#else
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
#endif
}

__device__ static inline float fast_reciprocal(float x)
{
#ifdef HD_CUDA_EMULATED
	return 1.0f / x;
#else
	float y;
	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
#endif
}

template <bool FAST> __device__ static inline float reciprocal(float x)
{
	return FAST ? fast_reciprocal(x) : 1.0f / x;
}

#define LOG2_E 1.44269504f

template <bool FAST> __device__ static inline float exponential(float x)
{
	return FAST ? fast_power_of_two(x * LOG2_E) : expf(x);
}

/* |x|, held where the tail has vanished; NaN stays NaN. */
__device__ static inline float held(float x, float farthest)
{
	float z = fabsf(x);
	return z > farthest ? farthest : z;
}

/* exp(-z^2/2), with what rounding z^2 lost, which is up to 8e-6 of the result. */
template <bool FAST> __device__ static inline float bell(float z)
{
	float square = z * z;
	if (FAST)
		return fast_power_of_two(-0.5f * LOG2_E * square);
	float lost = fmaf(z, z, -square), e = expf(-0.5f * square);
	return fmaf(-0.5f * lost, e, e);
}

template <bool FAST> __device__ static inline float normal_tail(float z, float e)
{
	return hd_gelu_tail_of(reciprocal<FAST>(1.0f + HD_GELU_T * z), e);
}

template <hd_gelu_form FORM, bool FAST> __device__ static inline float value(float v)
{
	float z, tail;
	if (FORM == HD_GELU_TANH) {
		z = held(v, HD_GELU_TANH_FARTHEST);
		float e = exponential<FAST>(-hd_gelu_tanh_exponent(z));
		tail = z * (FAST ? e * reciprocal<FAST>(1.0f + e) : e / (1.0f + e));
	} else {
		z = held(v, HD_GELU_FARTHEST);
		tail = z * normal_tail<FAST>(z, bell<FAST>(z));
	}
	return v > 0 ? v - tail : -tail;
}

/* Phi(x) + x phi(x); s + x s (1 - s) (2u)' with the logistic function s of 2u. */
template <hd_gelu_form FORM, bool FAST> __device__ static inline float derivative(float v)
{
	float tail, slope;
	if (FORM == HD_GELU_TANH) {
		float z = held(v, HD_GELU_TANH_FARTHEST), e = exponential<FAST>(-hd_gelu_tanh_exponent(z));
		float p = reciprocal<FAST>(1.0f + e);
		tail = e * p;
		slope = z * tail * p * hd_gelu_tanh_steepness(z);
	} else {
		float z = held(v, HD_GELU_FARTHEST), e = bell<FAST>(z);
		tail = normal_tail<FAST>(z, e);
		slope = z * HD_GELU_INV_SQRT_2PI * e;
	}
	return v > 0 ? 1.0f - tail + slope : tail - slope;
}

/*
 * y out, x in, n values of T; packs of 16 bytes where both are 16-byte aligned. Deterministic. Error: one rounding to
 * T, and of the tail 4e-7 relatively (erf) or 1e-6 + 4e-7 times its exponent (tanh), 3e-7 more in 16 bits. FLOPs 30*n;
 * bytes 2*n*sizeof(T). Launch: block 256 threads, grid n/1024 or n/2048 rounded up, at most 4096. Goal: 85 % of the
 * measured copy rate from 1e6 elements on.
 */
template <typename T, hd_gelu_form FORM>
static __global__ void __launch_bounds__(HD_MAP_THREADS) forward(T *y, const T *x, int64_t n, bool wide)
{
	hd_map<T>(y, x, x, n, wide, [](float v, float) { return value<FORM, sizeof(T) == 2>(v); });
}

/*
 * dx out, dy, x in, n values of T; dx = dy * the derivative at x. Deterministic.
 * FLOPs 35*n; bytes 3*n*sizeof(T). Launch, goal: as forward.
 */
template <typename T, hd_gelu_form FORM>
static __global__ void __launch_bounds__(HD_MAP_THREADS) backward(T *dx, const T *dy, const T *x, int64_t n, bool wide)
{
	hd_map<T>(dx, dy, x, n, wide, [](float g, float v) { return g * derivative<FORM, sizeof(T) == 2>(v); });
}

/*
 * dx (rows,C), part (gridDim.y,C) float out; db (C) float in and out; dy, x (rows,C) in, of T; counters (gridDim.x), 0
 * before and after; W > 1: 16-byte aligned and C % W == 0. As backward, and part: sums of dx, before it is rounded,
 * over the rows of a piece; db = beta * db + the sums of the pieces, not touched where counters is NULL.
 * Deterministic: thread row k of 32 adds every 32nd row of the piece in order, then the rows are added in order; the
 * last block of a group of columns adds the pieces in an order that is no block's own (hd_add_pieces).
 * FLOPs 36*rows*C; bytes 3*rows*C*sizeof(T) + 8*pieces*C + 8*C. Launch: grid (C/W/8 rounded up, min(128, rows/64
 * rounded up)), block (8,32); shared W KiB. Goal: 80 % of the measured copy rate from 8192 x 768 on.
 */
template <typename T, int W, hd_gelu_form FORM>
static __global__ void __launch_bounds__(HD_SUM_THREADS, 1) backward_sums(T *__restrict__ dx, float *db, float *part,
        unsigned *counters, const T *__restrict__ dy, const T *__restrict__ x, float beta, int64_t rows, int64_t C)
{
	__shared__ hd_pack<W> sums[HD_SUM_ROWS][HD_SUM_PACKS];
	int64_t packs = C / W, c = (int64_t)blockIdx.x * HD_SUM_PACKS + threadIdx.x;
	int64_t first = (int64_t)blockIdx.y * rows / gridDim.y, end = ((int64_t)blockIdx.y + 1) * rows / gridDim.y;
	hd_pack<W> sum = {};
	if (c < packs) {
#pragma unroll 2
		for (int64_t r = first + threadIdx.y; r < end; r += HD_SUM_ROWS) {
			hd_pack<W> g = hd_load<W>(dy, r * packs + c), v = hd_load<W>(x, r * packs + c);
#pragma unroll
			for (int k = 0; k < W; k++) {
				g.v[k] *= derivative<FORM, sizeof(T) == 2>(v.v[k]);
				sum.v[k] += g.v[k];
			}
			hd_store<W>(dx, r * packs + c, g);
		}
	}
	hd_sum_rows<W>(part, sums, sum, C);
	if (counters && hd_last_block(counters + blockIdx.x, gridDim.y))
		hd_add_pieces<W>(db, part, beta, sums, C);
}

template <typename T> static void launch_forward(T *y, const T *x, hd_gelu_form form, int64_t n, hd_stream *stream)
{
	bool wide = hd_cuda_aligned16(y) && hd_cuda_aligned16(x);
	unsigned grid = hd_cuda_map_grid<T>(n);
	cudaStream_t cuda = hd_cuda_stream(stream);
	if (form == HD_GELU_TANH)
		forward<T, HD_GELU_TANH><<<grid, HD_MAP_THREADS, 0, cuda>>>(y, x, n, wide);
	else
		forward<T, HD_GELU_ERF><<<grid, HD_MAP_THREADS, 0, cuda>>>(y, x, n, wide);
}

extern "C" hd_status hd_cuda_gelu_fwd(
        void *y, const void *x, hd_gelu_form form, hd_dtype dt, int64_t n, hd_stream *stream)
{
	if (n > 0)
		HD_BY_DTYPE(gelu_fwd, dt, launch_forward<T>((T *)y, (const T *)x, form, n, stream));
	return HD_CUDA_LAUNCHED(gelu_fwd);
}

/* dx, dy and x are all there is; db NULL: no sums. */
template <typename T> struct backward_arguments {
	T *dx;
	float *db, *part;
	const T *dy, *x;
	float beta;
	int64_t rows, C;
	hd_stream *stream;
};

template <typename T, hd_gelu_form FORM> static void launch_backward(const backward_arguments<T> &a)
{
	int64_t n = a.rows * a.C;
	bool wide = hd_cuda_aligned16(a.dx) && hd_cuda_aligned16(a.dy) && hd_cuda_aligned16(a.x);
	backward<T, FORM>
	        <<<hd_cuda_map_grid<T>(n), HD_MAP_THREADS, 0, hd_cuda_stream(a.stream)>>>(a.dx, a.dy, a.x, n, wide);
}

template <typename T, int W, hd_gelu_form FORM> static void launch_sums_by(const backward_arguments<T> &a)
{
	unsigned groups = hd_cuda_sum_groups<W>(a.C), pieces = hd_cuda_pieces(a.rows);
	unsigned *counters = hd_cuda_counters(a.stream, groups);
	backward_sums<T, W, FORM><<<dim3(groups, pieces), HD_SUM_BLOCK, 0, hd_cuda_stream(a.stream)>>>(
	        a.dx, a.db, a.part, counters, a.dy, a.x, a.beta, a.rows, a.C);
	if (!counters)
		hd_cuda_combine(a.db, a.part, a.beta, pieces, a.C, a.stream);
}

template <typename T, hd_gelu_form FORM> static void launch_sums(const backward_arguments<T> &a)
{
	constexpr int W = hd_width<T>::value;
	bool wide = a.C % W == 0 && hd_cuda_aligned16(a.dx) && hd_cuda_aligned16(a.dy) && hd_cuda_aligned16(a.x);
	(wide ? launch_sums_by<T, W, FORM> : launch_sums_by<T, 1, FORM>)(a);
}

template <typename T> static void start_backward(const backward_arguments<T> &a, hd_gelu_form form)
{
	bool tanh = form == HD_GELU_TANH;
	if (a.db)
		(tanh ? launch_sums<T, HD_GELU_TANH> : launch_sums<T, HD_GELU_ERF>)(a);
	else
		(tanh ? launch_backward<T, HD_GELU_TANH> : launch_backward<T, HD_GELU_ERF>)(a);
}

extern "C" size_t hd_cuda_gelu_bwd_work(int64_t rows, int64_t C)
{
	return (size_t)hd_cuda_pieces(rows) * (size_t)C * sizeof(float);
}

extern "C" hd_status hd_cuda_gelu_bwd(void *dx, float *db, const void *dy, const void *x, hd_gelu_form form, float beta,
        void *work, hd_dtype dt, int64_t rows, int64_t C, hd_stream *stream)
{
	float *part = (float *)work;
	if (rows > 0 && C > 0)
		HD_BY_DTYPE(gelu_bwd, dt,
		        start_backward<T>(
		                {(T *)dx, db, part, (const T *)dy, (const T *)x, beta, rows, C, stream}, form));
	else if (db)
		hd_cuda_combine(db, part, beta, 0, C, stream);
	return HD_CUDA_LAUNCHED(gelu_bwd);
}
