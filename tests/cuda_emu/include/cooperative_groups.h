/* SPDX-License-Identifier: Apache-2.0 */
/* Cooperative groups: thread_block, tiles of up to 32 threads, reduce. Nothing else is emulated. */
#ifndef HD_EMU_COOPERATIVE_GROUPS_H
#define HD_EMU_COOPERATIVE_GROUPS_H

#include <cuda_runtime.h>

namespace cooperative_groups
{

struct thread_block {
	void sync(HD_EMU_SITE) const
	{
		hd_emu::syncthreads(HD_EMU_HERE);
	}
	unsigned thread_rank() const
	{
		return hd_emu::thread_index;
	}
	unsigned size() const
	{
		return blockDim.x * blockDim.y * blockDim.z;
	}
	dim3 group_index() const
	{
		return dim3(blockIdx.x, blockIdx.y, blockIdx.z);
	}
	dim3 thread_index() const
	{
		return dim3(threadIdx.x, threadIdx.y, threadIdx.z);
	}
};

inline thread_block this_thread_block()
{
	return {};
}

template <unsigned N> struct thread_block_tile {
	static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "tiles have 1, 2, 4 ... 32 threads");

	static unsigned first_lane()
	{
		return hd_emu::thread_index & 31 & ~(N - 1);
	}
	static unsigned mask()
	{
		return N == 32 ? hd_emu::ALL_LANES : ((1u << (N & 31)) - 1) << first_lane();
	}
	unsigned thread_rank() const
	{
		return hd_emu::thread_index & (N - 1);
	}
	unsigned meta_group_rank() const
	{
		return hd_emu::thread_index / N;
	}
	unsigned meta_group_size() const
	{
		return (blockDim.x * blockDim.y * blockDim.z + N - 1) / N;
	}
	static constexpr unsigned size()
	{
		return N;
	}
	static constexpr unsigned num_threads()
	{
		return N;
	}
	void sync(HD_EMU_SITE) const
	{
		__syncwarp(mask(), HD_EMU_HERE);
	}
	template <class T> T shfl(T value, int source, HD_EMU_SITE) const
	{
		return __shfl_sync(mask(), value, source, N, HD_EMU_HERE);
	}
	template <class T> T shfl_xor(T value, int bits, HD_EMU_SITE) const
	{
		return __shfl_xor_sync(mask(), value, bits, N, HD_EMU_HERE);
	}
	template <class T> T shfl_down(T value, unsigned delta, HD_EMU_SITE) const
	{
		return __shfl_down_sync(mask(), value, delta, N, HD_EMU_HERE);
	}
	template <class T> T shfl_up(T value, unsigned delta, HD_EMU_SITE) const
	{
		return __shfl_up_sync(mask(), value, delta, N, HD_EMU_HERE);
	}
	unsigned ballot(int predicate, HD_EMU_SITE) const
	{
		return __ballot_sync(mask(), predicate, HD_EMU_HERE) >> first_lane();
	}
	int any(int predicate, HD_EMU_SITE) const
	{
		return __any_sync(mask(), predicate, HD_EMU_HERE);
	}
	int all(int predicate, HD_EMU_SITE) const
	{
		return __all_sync(mask(), predicate, HD_EMU_HERE);
	}
};

template <unsigned N> thread_block_tile<N> tiled_partition(const thread_block &)
{
	return {};
}

template <class T> struct plus {
	T operator()(T a, T b) const
	{
		return a + b;
	}
};
template <class T> struct less {
	T operator()(T a, T b) const
	{
		return b < a ? b : a;
	}
};
template <class T> struct greater {
	T operator()(T a, T b) const
	{
		return a < b ? b : a;
	}
};

template <unsigned N, class T, class Op> T reduce(const thread_block_tile<N> &tile, T value, Op op, HD_EMU_SITE)
{
	for (unsigned distance = N / 2; distance > 0; distance /= 2)
		value = op(value, tile.shfl_xor(value, static_cast<int>(distance), HD_EMU_HERE));
	return value;
}

} // namespace cooperative_groups

#endif
