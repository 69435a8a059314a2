/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Activations in memory: float, bfloat16 or half, T throughout; all arithmetic is in float. Packs of W values move as
 * one where that is 16 bytes or less, else by 16 bytes; addresses of packs have to be aligned to that.
 */
#ifndef HD_KERNELS_CUDA_NUMBER_CUH
#define HD_KERNELS_CUDA_NUMBER_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

/* W values in registers. */
template <int W> struct alignas(W * sizeof(float) > 16 ? 16 : W * sizeof(float)) hd_pack {
	float v[W];
};

/* W values as they lie in memory. */
template <typename T, int W> struct alignas(W * sizeof(T) > 16 ? 16 : W * sizeof(T)) hd_stored {
	T v[W];
};

/* Values of a pack of 16 bytes: 4 or 8. */
template <typename T> struct hd_width {
	static constexpr int value = 16 / (int)sizeof(T);
};

__device__ static inline float hd_widen(float x)
{
	return x;
}

__device__ static inline float hd_widen(__nv_bfloat16 x)
{
	return __bfloat162float(x);
}

__device__ static inline float hd_widen(__half x)
{
	return __half2float(x);
}

/* To nearest even; beyond the largest half lies infinity. */
template <typename T> __device__ inline T hd_narrow(float x);

template <> __device__ inline float hd_narrow<float>(float x)
{
	return x;
}

template <> __device__ inline __nv_bfloat16 hd_narrow<__nv_bfloat16>(float x)
{
	return __float2bfloat16_rn(x);
}

template <> __device__ inline __half hd_narrow<__half>(float x)
{
	return __float2half_rn(x);
}

/* Pack number i of p. */
template <int W, typename T> __device__ static inline hd_pack<W> hd_load(const T *p, int64_t i)
{
	hd_stored<T, W> stored = reinterpret_cast<const hd_stored<T, W> *>(p)[i];
	hd_pack<W> value;
#pragma unroll
	for (int k = 0; k < W; k++)
		value.v[k] = hd_widen(stored.v[k]);
	return value;
}

template <int W, typename T> __device__ static inline void hd_store(T *p, int64_t i, const hd_pack<W> &value)
{
	hd_stored<T, W> stored;
#pragma unroll
	for (int k = 0; k < W; k++)
		stored.v[k] = hd_narrow<T>(value.v[k]);
	reinterpret_cast<hd_stored<T, W> *>(p)[i] = stored;
}

/*
 * Runs the statement with T as the type that dt names; an operation that cannot take dt fails. Launch kernels with
 * their template arguments named: kernel<T, 4><<<...>>>(...), in a function template that this calls.
 */
#define HD_BY_DTYPE(op, dt, ...)                                                                                       \
	do {                                                                                                           \
		if ((dt) == HD_F32) {                                                                                  \
			using T = float;                                                                               \
			__VA_ARGS__;                                                                                   \
		} else if ((dt) == HD_BF16) {                                                                          \
			using T = __nv_bfloat16;                                                                       \
			__VA_ARGS__;                                                                                   \
		} else if ((dt) == HD_F16) {                                                                           \
			using T = __half;                                                                              \
			__VA_ARGS__;                                                                                   \
		} else {                                                                                               \
			return hd_cuda_fail(HD_E_UNSUPPORTED, "%s: activations are float32, bfloat16 or half", #op);   \
		}                                                                                                      \
	} while (0)

#endif
