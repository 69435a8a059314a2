/* SPDX-License-Identifier: Apache-2.0 */
/* Barriers, shuffles, votes, reductions of a warp. Included by the shim cuda_runtime.h. */
#ifndef HD_EMU_WARP_H
#define HD_EMU_WARP_H

#include "hd_emu.h"

#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

constexpr int warpSize = 32;

namespace hd_emu
{

constexpr unsigned ALL_LANES = 0xffffffffu;

inline int lane()
{
	return static_cast<int>(thread_index & 31);
}

template <class T, class... Types> constexpr bool one_of = (std::is_same_v<T, Types> || ...);

template <class T>
constexpr bool shuffles = one_of<T, int, unsigned, long, unsigned long, long long, unsigned long long, float, double,
        __half, __half2, __nv_bfloat16, __nv_bfloat162>;

template <class T> uint64_t to_bits(const T &value)
{
	uint64_t bits = 0;
	std::memcpy(&bits, &value, sizeof value);
	return bits;
}

template <class T> T from_bits(uint64_t bits)
{
	T value;
	std::memcpy(static_cast<void *>(&value), &bits, sizeof value);
	return value;
}

template <class T> T shuffle(unsigned mask, T value, int source, int width, const char *file, int line)
{
	static_assert(shuffles<T>, "this type has no warp shuffle");
	if (width < 1 || width > 32 || (width & (width - 1)))
		kernel_error("the width of a warp shuffle is a power of two up to 32", file, line);
	return from_bits<T>(warp_collective(WARP_SHUFFLE, mask, to_bits(value), source, nullptr, file, line));
}

struct Add {
	template <class T> static T of(T a, T b)
	{
		return a + b;
	}
};
struct Min {
	template <class T> static T of(T a, T b)
	{
		return b < a ? b : a;
	}
};
struct Max {
	template <class T> static T of(T a, T b)
	{
		return a < b ? b : a;
	}
};
struct And {
	template <class T> static T of(T a, T b)
	{
		return a & b;
	}
};
struct Or {
	template <class T> static T of(T a, T b)
	{
		return a | b;
	}
};
struct Xor {
	template <class T> static T of(T a, T b)
	{
		return a ^ b;
	}
};

template <class T, class Op> void reduce_lanes(const uint64_t *values, unsigned mask, uint64_t *results)
{
	T total = {};
	bool first = true;
	for (int i = 0; i < 32; i++) {
		if (!(mask >> i & 1))
			continue;
		T value = from_bits<T>(values[i]);
		total = first ? value : Op::of(total, value);
		first = false;
	}
	for (int i = 0; i < 32; i++)
		results[i] = to_bits(total);
}

template <class Op, class T> T reduce(unsigned mask, T value, const char *file, int line)
{
	return from_bits<T>(warp_collective(WARP_REDUCE, mask, to_bits(value), 0, reduce_lanes<T, Op>, file, line));
}

inline void match_lanes(const uint64_t *values, unsigned mask, uint64_t *results)
{
	for (int i = 0; i < 32; i++) {
		results[i] = 0;
		for (int j = 0; j < 32; j++)
			if ((mask >> j & 1) && values[i] == values[j])
				results[i] |= 1ull << j;
	}
}

} // namespace hd_emu

inline void __syncthreads(HD_EMU_SITE)
{
	hd_emu::syncthreads(HD_EMU_HERE);
}
inline int __syncthreads_count(int predicate, HD_EMU_SITE)
{
	return hd_emu::syncthreads_vote(hd_emu::VOTE_COUNT, predicate, HD_EMU_HERE);
}
inline int __syncthreads_and(int predicate, HD_EMU_SITE)
{
	return hd_emu::syncthreads_vote(hd_emu::VOTE_AND, predicate, HD_EMU_HERE);
}
inline int __syncthreads_or(int predicate, HD_EMU_SITE)
{
	return hd_emu::syncthreads_vote(hd_emu::VOTE_OR, predicate, HD_EMU_HERE);
}
inline void __syncwarp(unsigned mask = hd_emu::ALL_LANES, HD_EMU_SITE)
{
	hd_emu::warp_collective(hd_emu::WARP_SYNC, mask, 0, 0, nullptr, HD_EMU_HERE);
}

inline void __threadfence()
{
	hd_emu::fence();
}
inline void __threadfence_block()
{
	hd_emu::fence();
}
inline void __threadfence_system()
{
	hd_emu::fence();
}

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, HD_EMU_SITE)
{
	int first = hd_emu::lane() & ~(width - 1);
	return hd_emu::shuffle(mask, value, first | (source & (width - 1)), width, HD_EMU_HERE);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, HD_EMU_SITE)
{
	int lane = hd_emu::lane(), source = lane ^ bits, group = ~(width - 1);
	return hd_emu::shuffle(mask, value, (source & group) > (lane & group) ? lane : source, width, HD_EMU_HERE);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, HD_EMU_SITE)
{
	int lane = hd_emu::lane(), source = lane + static_cast<int>(delta), group = ~(width - 1);
	return hd_emu::shuffle(mask, value, (source & group) != (lane & group) ? lane : source, width, HD_EMU_HERE);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, HD_EMU_SITE)
{
	int lane = hd_emu::lane(), source = lane - static_cast<int>(delta);
	return hd_emu::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, width, HD_EMU_HERE);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, HD_EMU_SITE)
{
	return static_cast<unsigned>(
	        hd_emu::warp_collective(hd_emu::WARP_BALLOT, mask, predicate != 0, 0, nullptr, HD_EMU_HERE));
}
inline int __any_sync(unsigned mask, int predicate, HD_EMU_SITE)
{
	return __ballot_sync(mask, predicate, HD_EMU_HERE) != 0;
}
inline int __all_sync(unsigned mask, int predicate, HD_EMU_SITE)
{
	return __ballot_sync(mask, !predicate, HD_EMU_HERE) == 0;
}
template <class T> unsigned __match_any_sync(unsigned mask, T value, HD_EMU_SITE)
{
	return static_cast<unsigned>(hd_emu::warp_collective(
	        hd_emu::WARP_REDUCE, mask, hd_emu::to_bits(value), 0, hd_emu::match_lanes, HD_EMU_HERE));
}
/* Which lanes run together is the hardware's choice: code that needs it is wrong. */
unsigned __activemask() = delete;

#define HD_EMU_REDUCE(name, Op)                                                                                        \
	inline unsigned __reduce_##name##_sync(unsigned mask, unsigned value, HD_EMU_SITE)                             \
	{                                                                                                              \
		return hd_emu::reduce<hd_emu::Op>(mask, value, HD_EMU_HERE);                                           \
	}                                                                                                              \
	inline int __reduce_##name##_sync(unsigned mask, int value, HD_EMU_SITE)                                       \
	{                                                                                                              \
		return hd_emu::reduce<hd_emu::Op>(mask, value, HD_EMU_HERE);                                           \
	}
HD_EMU_REDUCE(add, Add)
HD_EMU_REDUCE(min, Min)
HD_EMU_REDUCE(max, Max)
HD_EMU_REDUCE(and, And)
HD_EMU_REDUCE(or, Or)
HD_EMU_REDUCE(xor, Xor)
#undef HD_EMU_REDUCE

#endif
