/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic, bit and memory intrinsics. The fast approximations (__expf ...) are computed exactly rounded to float:
 * their errors on the device are not emulated. Included by the shim cuda_runtime.h.
 */
#ifndef HD_EMU_MATH_H
#define HD_EMU_MATH_H

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <cuda_bf16.h>
#include <math.h>
#include <type_traits>

/* Ordinary accesses; sanitizers check their bounds and the alignment of vector types. */
#define HD_EMU_LOAD(name)                                                                                              \
	template <class T> T name(const T *address)                                                                    \
	{                                                                                                              \
		return *address;                                                                                       \
	}
#define HD_EMU_STORE(name)                                                                                             \
	template <class T> void name(T *address, std::common_type_t<T> value)                                          \
	{                                                                                                              \
		*address = value;                                                                                      \
	}
HD_EMU_LOAD(__ldg)
HD_EMU_LOAD(__ldca)
HD_EMU_LOAD(__ldcg)
HD_EMU_LOAD(__ldcs)
HD_EMU_LOAD(__ldlu)
HD_EMU_LOAD(__ldcv)
HD_EMU_STORE(__stwb)
HD_EMU_STORE(__stcg)
HD_EMU_STORE(__stcs)
HD_EMU_STORE(__stwt)
#undef HD_EMU_LOAD
#undef HD_EMU_STORE

#define HD_EMU_FLOAT1(name, expression)                                                                                \
	inline float name(float a)                                                                                     \
	{                                                                                                              \
		return expression;                                                                                     \
	}
#define HD_EMU_FLOAT2(name, expression)                                                                                \
	inline float name(float a, float b)                                                                            \
	{                                                                                                              \
		return expression;                                                                                     \
	}
HD_EMU_FLOAT1(rsqrtf, 1.0f / std::sqrt(a))
HD_EMU_FLOAT1(rcbrtf, 1.0f / std::cbrt(a))
HD_EMU_FLOAT1(normcdff, 0.5f * std::erfc(a * -0.70710678118654752f))
HD_EMU_FLOAT1(sinpif, std::sin(a * 3.14159265358979324f))
HD_EMU_FLOAT1(cospif, std::cos(a * 3.14159265358979324f))
HD_EMU_FLOAT1(__expf, std::exp(a))
HD_EMU_FLOAT1(__exp10f, ::exp10f(a))
HD_EMU_FLOAT1(__logf, std::log(a))
HD_EMU_FLOAT1(__log2f, std::log2(a))
HD_EMU_FLOAT1(__log10f, std::log10(a))
HD_EMU_FLOAT1(__sinf, std::sin(a))
HD_EMU_FLOAT1(__cosf, std::cos(a))
HD_EMU_FLOAT1(__tanf, std::tan(a))
HD_EMU_FLOAT1(__tanhf, std::tanh(a))
HD_EMU_FLOAT1(__frcp_rn, 1.0f / a)
HD_EMU_FLOAT1(__fsqrt_rn, std::sqrt(a))
HD_EMU_FLOAT1(__frsqrt_rn, 1.0f / std::sqrt(a))
HD_EMU_FLOAT1(__saturatef, a > 0 ? (a < 1 ? a : 1.0f) : 0.0f)
HD_EMU_FLOAT2(__powf, std::pow(a, b))
HD_EMU_FLOAT2(__fdividef, a / b)
HD_EMU_FLOAT2(fdividef, a / b)
HD_EMU_FLOAT2(__fdiv_rn, a / b)
HD_EMU_FLOAT2(__fadd_rn, a + b)
HD_EMU_FLOAT2(__fsub_rn, a - b)
HD_EMU_FLOAT2(__fmul_rn, a *b)
#undef HD_EMU_FLOAT1
#undef HD_EMU_FLOAT2

inline float __fmaf_rn(float a, float b, float c)
{
	return std::fma(a, b, c);
}
inline double __fma_rn(double a, double b, double c)
{
	return std::fma(a, b, c);
}
inline double rsqrt(double a)
{
	return 1.0 / std::sqrt(a);
}
inline void __sincosf(float a, float *sine, float *cosine)
{
	*sine = std::sin(a);
	*cosine = std::cos(a);
}
inline void sincospif(float a, float *sine, float *cosine)
{
	*sine = sinpif(a);
	*cosine = cospif(a);
}

/* ---- conversions; _rn rounds to the nearest, _rz towards zero, _rd down, _ru up; out of range saturates ---- */

namespace hd_emu
{

template <class To, class From> To convert(From value)
{
	if (value != value)
		return 0;
	if (value >= std::ldexp(From(1), static_cast<int>(sizeof(To)) * 8 - std::is_signed_v<To>))
		return static_cast<To>(~(std::is_signed_v<To> ? To(1) << (sizeof(To) * 8 - 1) : To(0)));
	if (value < (std::is_signed_v<To> ? -std::ldexp(From(1), static_cast<int>(sizeof(To)) * 8 - 1) : From(0)))
		return std::is_signed_v<To> ? static_cast<To>(To(1) << (sizeof(To) * 8 - 1)) : To(0);
	return static_cast<To>(value);
}

template <class To, class From> To same_bits(From from)
{
	static_assert(sizeof(To) == sizeof(From), "types of one size");
	To to;
	std::memcpy(&to, &from, sizeof to);
	return to;
}

} // namespace hd_emu

#define HD_EMU_CONVERT(name, To, From)                                                                                 \
	inline To name##_rn(From a)                                                                                    \
	{                                                                                                              \
		return hd_emu::convert<To>(std::nearbyint(a));                                                         \
	}                                                                                                              \
	inline To name##_rz(From a)                                                                                    \
	{                                                                                                              \
		return hd_emu::convert<To>(std::trunc(a));                                                             \
	}                                                                                                              \
	inline To name##_rd(From a)                                                                                    \
	{                                                                                                              \
		return hd_emu::convert<To>(std::floor(a));                                                             \
	}                                                                                                              \
	inline To name##_ru(From a)                                                                                    \
	{                                                                                                              \
		return hd_emu::convert<To>(std::ceil(a));                                                              \
	}
HD_EMU_CONVERT(__float2int, int, float)
HD_EMU_CONVERT(__float2uint, unsigned, float)
HD_EMU_CONVERT(__float2ll, long long, float)
HD_EMU_CONVERT(__double2int, int, double)
HD_EMU_CONVERT(__double2ll, long long, double)
#undef HD_EMU_CONVERT

#define HD_EMU_CAST(name, To, From)                                                                                    \
	inline To name(From a)                                                                                         \
	{                                                                                                              \
		return static_cast<To>(a);                                                                             \
	}
HD_EMU_CAST(__int2float_rn, float, int)
HD_EMU_CAST(__uint2float_rn, float, unsigned)
HD_EMU_CAST(__ll2float_rn, float, long long)
HD_EMU_CAST(__ull2float_rn, float, unsigned long long)
HD_EMU_CAST(__double2float_rn, float, double)
HD_EMU_CAST(__int2double_rn, double, int)
#undef HD_EMU_CAST

#define HD_EMU_BITS(name, To, From)                                                                                    \
	inline To name(From a)                                                                                         \
	{                                                                                                              \
		return hd_emu::same_bits<To>(a);                                                                       \
	}
HD_EMU_BITS(__float_as_int, int, float)
HD_EMU_BITS(__float_as_uint, unsigned, float)
HD_EMU_BITS(__int_as_float, float, int)
HD_EMU_BITS(__uint_as_float, float, unsigned)
HD_EMU_BITS(__double_as_longlong, long long, double)
HD_EMU_BITS(__longlong_as_double, double, long long)
#undef HD_EMU_BITS

/* ---- bits and integers ---- */

inline int __popc(unsigned a)
{
	return __builtin_popcount(a);
}
inline int __popcll(unsigned long long a)
{
	return __builtin_popcountll(a);
}
inline int __clz(int a)
{
	return a ? __builtin_clz(static_cast<unsigned>(a)) : 32;
}
inline int __clzll(long long a)
{
	return a ? __builtin_clzll(static_cast<unsigned long long>(a)) : 64;
}
inline int __ffs(int a)
{
	return __builtin_ffs(a);
}
inline int __ffsll(long long a)
{
	return __builtin_ffsll(a);
}
inline unsigned __brev(unsigned a)
{
	unsigned reversed = 0;
	for (int i = 0; i < 32; i++)
		reversed |= (a >> i & 1) << (31 - i);
	return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b)
{
	return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline int __mulhi(int a, int b)
{
	return static_cast<int>((static_cast<long long>(a) * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
	return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
	uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
	unsigned picked = 0;
	for (int i = 0; i < 4; i++)
		picked |= static_cast<unsigned>(bytes >> (selector >> (4 * i) & 7) * 8 & 0xff) << (8 * i);
	return picked;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift)
{
	return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift)
{
	return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}

namespace hd_emu
{
template <class A, class B>
constexpr bool comparable = (std::is_integral_v<A> && std::is_integral_v<B>) ||
                            (std::is_floating_point_v<A> && std::is_floating_point_v<B>);
} // namespace hd_emu

/* min and max take types that differ, but not an integer with a float, as CUDA's do; they pass over NaN. */
template <class A, class B, class = std::enable_if_t<hd_emu::comparable<A, B>>>
constexpr std::common_type_t<A, B> min(A a, B b)
{
	typedef std::common_type_t<A, B> T;
	if constexpr (std::is_floating_point_v<T>)
		return std::fmin(static_cast<T>(a), static_cast<T>(b));
	else
		return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B, class = std::enable_if_t<hd_emu::comparable<A, B>>>
constexpr std::common_type_t<A, B> max(A a, B b)
{
	typedef std::common_type_t<A, B> T;
	if constexpr (std::is_floating_point_v<T>)
		return std::fmax(static_cast<T>(a), static_cast<T>(b));
	else
		return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

inline long long clock64()
{
	static long long ticks;
	return ++ticks;
}
inline void __nanosleep(unsigned)
{
}
#define __trap() ::hd_emu::kernel_error("__trap", __FILE__, __LINE__)

#endif
