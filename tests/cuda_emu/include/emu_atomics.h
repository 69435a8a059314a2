/* SPDX-License-Identifier: Apache-2.0 */
/* Atomic operations: relaxed, as on the device. Included by the shim cuda_runtime.h. */
#ifndef HD_EMU_ATOMICS_H
#define HD_EMU_ATOMICS_H

#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

namespace hd_emu
{

template <size_t bytes> struct Word;
template <> struct Word<2> {
	typedef unsigned short type;
};
template <> struct Word<4> {
	typedef unsigned type;
};
template <> struct Word<8> {
	typedef unsigned long long type;
};

/* Replaces *address by change(*address) in one step and returns what was there. */
template <class T, class Change> T atomic_change(T *address, Change change)
{
	typedef typename Word<sizeof(T)>::type Bits;
	Bits *word = reinterpret_cast<Bits *>(address);
	Bits old_bits = __atomic_load_n(word, __ATOMIC_RELAXED), new_bits;
	T value;
	do {
		std::memcpy(static_cast<void *>(&value), &old_bits, sizeof value);
		T changed = change(value);
		std::memcpy(&new_bits, &changed, sizeof changed);
	} while (!__atomic_compare_exchange_n(word, &old_bits, new_bits, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return value;
}

template <class T> T atomic_compare_and_swap(T *address, T expected, T desired)
{
	__atomic_compare_exchange_n(address, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return expected;
}

} // namespace hd_emu

#define HD_EMU_ATOMIC(name, T, expression)                                                                             \
	inline T atomic##name(T *address, T value)                                                                     \
	{                                                                                                              \
		return hd_emu::atomic_change(address, [=](T old) { return static_cast<T>(expression); });              \
	}
#define HD_EMU_ATOMIC_INTEGER(T)                                                                                       \
	HD_EMU_ATOMIC(Add, T, old + value)                                                                             \
	HD_EMU_ATOMIC(Max, T, old < value ? value : old)                                                               \
	HD_EMU_ATOMIC(Min, T, value < old ? value : old)                                                               \
	HD_EMU_ATOMIC(And, T, old &value)                                                                              \
	HD_EMU_ATOMIC(Or, T, old | value)                                                                              \
	HD_EMU_ATOMIC(Xor, T, old ^ value)                                                                             \
	HD_EMU_ATOMIC(Exch, T, (static_cast<void>(old), value))                                                        \
	inline T atomicCAS(T *address, T expected, T desired)                                                          \
	{                                                                                                              \
		return hd_emu::atomic_compare_and_swap(address, expected, desired);                                    \
	}
HD_EMU_ATOMIC_INTEGER(int)
HD_EMU_ATOMIC_INTEGER(unsigned)
HD_EMU_ATOMIC_INTEGER(unsigned long long)
HD_EMU_ATOMIC(Sub, int, old - value)
HD_EMU_ATOMIC(Sub, unsigned, old - value)
HD_EMU_ATOMIC(Add, float, old + value)
HD_EMU_ATOMIC(Add, double, old + value)
HD_EMU_ATOMIC(Exch, float, (static_cast<void>(old), value))
HD_EMU_ATOMIC(Add, __half, __half2float(old) + __half2float(value))
HD_EMU_ATOMIC(Add, __nv_bfloat16, __bfloat162float(old) + __bfloat162float(value))
HD_EMU_ATOMIC(Inc, unsigned, old >= value ? 0 : old + 1)
HD_EMU_ATOMIC(Dec, unsigned, old == 0 || old > value ? value : old - 1)

inline __half2 atomicAdd(__half2 *address, __half2 value)
{
	return hd_emu::atomic_change(address, [=](__half2 old) {
		float2 a = __half22float2(old), b = __half22float2(value);
		return __floats2half2_rn(a.x + b.x, a.y + b.y);
	});
}
inline __nv_bfloat162 atomicAdd(__nv_bfloat162 *address, __nv_bfloat162 value)
{
	return hd_emu::atomic_change(address, [=](__nv_bfloat162 old) {
		float2 a = __bfloat1622float2(old), b = __bfloat1622float2(value);
		return __floats2bfloat162_rn(a.x + b.x, a.y + b.y);
	});
}
#undef HD_EMU_ATOMIC
#undef HD_EMU_ATOMIC_INTEGER

#endif
