/* SPDX-License-Identifier: Apache-2.0 */
/* One fault per kernel. Without its fault each would do what its wanted result in test_faults.c says. */
#include "kernels.h"

#include <cuda_runtime.h>

#define PLANT(name, grid, block, bytes)                                                                                \
	extern "C" cudaError_t plant_##name(float *data, cudaStream_t stream)                                          \
	{                                                                                                              \
		name<<<grid, block, bytes, stream>>>(data);                                                            \
		return cudaGetLastError();                                                                             \
	}

__global__ void missing_syncthreads(float *data)
{
	__shared__ float s[BLOCK];
	int t = threadIdx.x;
	s[t] = data[t];
	data[t] = s[BLOCK - 1 - t];
}
PLANT(missing_syncthreads, 1, BLOCK, 0)

__global__ void missing_second_syncthreads(float *data)
{
	__shared__ float s[BLOCK];
	int t = threadIdx.x;
	for (int round = 0; round < 2; round++) {
		s[t] = data[t];
		__syncthreads();
		data[t] = s[BLOCK - 1 - t];
	}
}
PLANT(missing_second_syncthreads, 1, BLOCK, 0)

__global__ void missing_syncwarp(float *data)
{
	__shared__ float s[BLOCK];
	int t = threadIdx.x;
	s[t] = data[t];
	__syncthreads();
	if (t < 32)
		for (int half = 16; half > 0; half >>= 1)
			if (t < half)
				s[t] += s[t + half];
	__syncthreads();
	data[t] = s[0];
}
PLANT(missing_syncwarp, 1, BLOCK, 0)

__global__ void write_behind_global(float *data)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	data[i + (blockIdx.x == gridDim.x - 1)] = 1;
}
PLANT(write_behind_global, PLANTED / BLOCK, BLOCK, 0)

__global__ void read_behind_global(float *data)
{
	if (threadIdx.x == 0)
		data[0] = data[PLANTED];
}
PLANT(read_behind_global, 1, 1, 0)

__global__ void write_behind_static_shared(float *data)
{
	__shared__ float s[BLOCK];
	int t = threadIdx.x;
	s[t + 1] = data[t];
	__syncthreads();
	data[t] = s[t];
}
PLANT(write_behind_static_shared, 1, BLOCK, 0)

__global__ void read_behind_dynamic_shared(float *data)
{
	extern __shared__ float s[];
	int t = threadIdx.x;
	s[t] = data[t];
	__syncthreads();
	data[t] = s[t + 1];
}
PLANT(read_behind_dynamic_shared, 1, BLOCK, BLOCK * sizeof(float))

__global__ void inner_index_of_shared(float *data)
{
	__shared__ float s[BLOCK / 32][32];
	int t = threadIdx.x;
	s[t / 32][t % 32] = data[t];
	__syncthreads();
	data[t] = s[t / 32 / 2][t % 32 + 1];
}
PLANT(inner_index_of_shared, 1, BLOCK, 0)

__global__ void divergent_barrier(float *data)
{
	int t = threadIdx.x;
	if (t < BLOCK / 2) {
		data[t] = 1;
		__syncthreads();
	} else {
		data[t] = 2;
		__syncthreads();
	}
}
PLANT(divergent_barrier, 1, BLOCK, 0)

__global__ void early_exit(float *data)
{
	int t = threadIdx.x;
	if (t >= 200)
		return;
	data[t] = 1;
	__syncthreads();
}
PLANT(early_exit, 1, BLOCK, 0)

__global__ void half_of_the_mask(float *data)
{
	int t = threadIdx.x;
	float value = data[t];
	if (t % 32 < 16)
		value += __shfl_xor_sync(0xffffffffu, value, 8);
	data[t] = value;
}
PLANT(half_of_the_mask, 1, BLOCK, 0)

__global__ void caller_outside_of_mask(float *data)
{
	data[threadIdx.x] = __shfl_sync(0xffffu, data[threadIdx.x], 0);
}
PLANT(caller_outside_of_mask, 1, 32, 0)

__global__ void shuffle_from_outside(float *data)
{
	int t = threadIdx.x;
	if (t < 16)
		data[t] = __shfl_sync(0xffffu, data[t], 20);
}
PLANT(shuffle_from_outside, 1, 32, 0)

__global__ void divergent_warp(float *data)
{
	int t = threadIdx.x;
	float value = data[t];
	if (t % 2)
		value += __shfl_xor_sync(0xffffffffu, value, 2);
	else
		value -= __shfl_xor_sync(0xffffffffu, value, 2);
	data[t] = value;
}
PLANT(divergent_warp, 1, 32, 0)

__global__ void mask_of_missing_lanes(float *data)
{
	data[threadIdx.x] = __shfl_sync(0x1ffffffu, data[threadIdx.x], 0);
}
PLANT(mask_of_missing_lanes, 1, 24, 0)

__global__ void race_between_blocks(float *data)
{
	if (threadIdx.x == blockIdx.x)
		data[0] += 1;
}
PLANT(race_between_blocks, 4, BLOCK, 0)

__global__ void race_between_blocks_with_barrier(float *data)
{
	__shared__ float s[BLOCK];
	s[threadIdx.x] = data[BLOCK + threadIdx.x];
	__syncthreads();
	if (threadIdx.x == 0) {
		float sum = 0;
		for (int i = 0; i < BLOCK; i++)
			sum += s[i];
		data[0] += sum;
	}
	__syncthreads();
	if (threadIdx.x == 0)
		data[1] = s[0];
}
PLANT(race_between_blocks_with_barrier, 4, BLOCK, 0)

__device__ unsigned finished_blocks;

/* The last block reads what the others wrote, and nothing orders the two. */
__global__ void missing_fence(float *data)
{
	if (threadIdx.x != 0)
		return;
	data[1 + blockIdx.x] = 1;
	if (atomicAdd(&finished_blocks, 1u) == gridDim.x - 1) {
		float sum = 0;
		for (unsigned i = 0; i < gridDim.x; i++)
			sum += data[1 + i];
		data[0] = sum;
	}
}
PLANT(missing_fence, 4, 32, 0)

__global__ void race_of_atomic_and_store(float *data)
{
	if (threadIdx.x != 0)
		return;
	if (blockIdx.x == 0)
		data[0] = 0;
	else
		atomicAdd(&data[0], 1.0f);
}
PLANT(race_of_atomic_and_store, 2, 32, 0)

__global__ void shared_read_before_written(float *data)
{
	__shared__ float s[BLOCK];
	int t = threadIdx.x;
	if (t > 0)
		s[t] = data[t];
	__syncthreads();
	data[t] = s[t];
}
PLANT(shared_read_before_written, 1, BLOCK, 0)

__global__ void misaligned_float4(float *data)
{
	float4 v = *reinterpret_cast<float4 *>(data + 1);
	data[0] = v.x;
}
PLANT(misaligned_float4, 1, 1, 0)

__global__ void copies_from(float *data, const float *from)
{
	data[threadIdx.x] = from[threadIdx.x];
}

extern "C" cudaError_t plant_host_pointer(float *data, cudaStream_t stream)
{
	static float on_the_host[BLOCK];
	copies_from<<<1, BLOCK, 0, stream>>>(data, on_the_host);
	return cudaGetLastError();
}

__global__ void too_much_static_shared(float *data)
{
	__shared__ float s[13 << 10];
	s[threadIdx.x] = 1;
	data[threadIdx.x] = s[threadIdx.x];
}
PLANT(too_much_static_shared, 1, 32, 0)

__global__ void no_dynamic_shared(float *data)
{
	extern __shared__ float s[];
	s[threadIdx.x] = 1;
	data[threadIdx.x] = s[threadIdx.x];
}
PLANT(no_dynamic_shared, 1, 32, 0)

__global__ void more_shared_than_a_block_has(float *data)
{
	__shared__ float s[4 << 10];
	s[threadIdx.x] = 1;
	data[threadIdx.x] = s[threadIdx.x];
}
PLANT(more_shared_than_a_block_has, 1, 32, 40 << 10)

/* Half a warp waits for the block, half for its warp. */
__global__ void waits_for_ever(float *data)
{
	if (threadIdx.x < 16)
		__syncthreads();
	else
		__syncwarp();
	data[threadIdx.x] = 1;
}
PLANT(waits_for_ever, 1, 32, 0)

__global__ void trap(float *data)
{
	if (data[threadIdx.x] < 2)
		__trap();
}
PLANT(trap, 1, 32, 0)
