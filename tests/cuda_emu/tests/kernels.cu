/* SPDX-License-Identifier: Apache-2.0 */
/* Correct kernels, in every form that the rewriter and the shim headers have to know. */
#include "kernels.h"

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <mma.h>

namespace cg = cooperative_groups;

__global__ void reverse(float *data)
{
	__shared__ float s[BLOCK];
	int t = threadIdx.x;
	s[t] = data[t];
	__syncthreads();
	data[t] = s[BLOCK - 1 - t];
}

extern "C" cudaError_t launch_reverse(float *data, cudaStream_t stream)
{
	reverse<<<1, BLOCK, 0, stream>>>(data);
	return cudaGetLastError();
}

__global__ void add(float *__restrict__ out, const float *__restrict__ in, float value, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n)
		out[i] = __ldg(&in[i]) + value;
}

extern "C" cudaError_t launch_add(float *out, const float *in, float value, int n, cudaStream_t stream)
{
	add<<<(n + 127) / 128, 128, 0, stream>>>(out, in, value, n);
	return cudaGetLastError();
}

/* Sum over the block, in every thread; s has room for 32 numbers. */
template <typename T> __device__ __forceinline__ T block_sum(T value, T *s)
{
#pragma unroll
	for (int distance = 16; distance > 0; distance >>= 1)
		value += __shfl_xor_sync(0xffffffffu, value, distance);
	__syncthreads(); /* an earlier sum may still be read */
	if (threadIdx.x % 32 == 0)
		s[threadIdx.x / 32] = value;
	__syncthreads();
	value = threadIdx.x % 32 < blockDim.x / 32 ? s[threadIdx.x % 32] : T(0);
	for (int distance = 16; distance > 0; distance >>= 1)
		value += __shfl_xor_sync(0xffffffffu, value, distance);
	return value;
}

template <typename T> __global__ void __launch_bounds__(BLOCK) row_sums(T *sums, const T *x, int n)
{
	__shared__ T s[32];
	T sum = 0;
	for (int i = threadIdx.x; i < n; i += blockDim.x)
		sum += x[static_cast<size_t>(blockIdx.x) * n + i];
	sum = block_sum<T>(sum, s);
	if (threadIdx.x == 0)
		sums[blockIdx.x] = sum;
}

extern "C" cudaError_t launch_row_sums(float *sums, const float *x, int rows, int n, cudaStream_t stream)
{
	row_sums<float><<<rows, BLOCK, 0, stream>>>(sums, x, n);
	return cudaGetLastError();
}

enum { MAX_PARTS = 64 };
__device__ float parts[MAX_PARTS];
__device__ unsigned parts_done;

__global__ void total_of(float *total, const float *x, int n)
{
	__shared__ float s[32];
	__shared__ bool last;
	float sum = 0;
	for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
		sum += x[i];
	sum = block_sum<float>(sum, s);
	if (threadIdx.x == 0) {
		parts[blockIdx.x] = sum;
		__threadfence();
		last = atomicInc(&parts_done, gridDim.x - 1) == gridDim.x - 1;
		__threadfence();
	}
	__syncthreads();
	if (last && threadIdx.x == 0) {
		sum = 0;
		for (unsigned i = 0; i < gridDim.x; i++)
			sum += parts[i];
		*total = sum;
	}
}

extern "C" cudaError_t launch_total(float *total, const float *x, int n, cudaStream_t stream)
{
	total_of<<<MAX_PARTS, BLOCK, 0, stream>>>(total, x, n);
	return cudaGetLastError();
}

__global__ void histogram(int *counts, const int *values, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n)
		atomicAdd(&counts[values[i]], 1);
}

extern "C" cudaError_t launch_histogram(int *counts, const int *values, int n, cudaStream_t stream)
{
	histogram<<<(n + 63) / 64, 64, 0, stream>>>(counts, values, n);
	return cudaGetLastError();
}

/* ---- what the rewriter has to read ---- */

namespace
{

constexpr int N = 64;

template <typename T, int M> __global__ void forms(T *out)
{
	__shared__ T a[M][N / 2 /* half */];
	__shared__ alignas(16) __nv_bfloat16 b[32 * M]; // a line comment, with a ; in it
	__shared__ __align__(16) float4 v4[4];
	__shared__ int single;
	extern __shared__ __align__(16) unsigned char raw[];
	T *d = reinterpret_cast<T *>(raw);
	int t = threadIdx.x;
	a[t / 32][t % 32] = T(t);
	b[t] = __float2bfloat16(1.0f);
	if (t < 4)
		v4[t] = make_float4(1, 2, 3, 4);
	if (t == 0)
		single = 5;
	d[t] = T(1);
	__syncthreads();
	/* <<<not a launch>>>, __shared__ neither */
	out[t] = a[(63 - t) / 32][(63 - t) % 32] + T(__bfloat162float(b[63 - t])) + T(v4[t & 3].w) + d[63 - t] +
	         T(single);
}

struct Parameters {
	float *out;
	int n;
};

__global__ void takes_struct(const __grid_constant__ Parameters p)
{
	const char *text = "k<<<1, 2>>>(x); __shared__ int y;";
	if (threadIdx.x == 0)
		p.out[0] += static_cast<float>(p.n) + (text[0] == 'k' ? 1.0f : 0.0f) + ('"' == '\"' ? 0 : 1'000.0f);
}

} // namespace

extern "C" cudaError_t launch_forms(float *out, cudaStream_t stream)
{
	bool shifts = (64 >> 2) > 1 && (1 << 3) == 8;
	if (!shifts)
		return cudaErrorUnknown;
	forms<float, 2><<<dim3{1}, dim3(N),
	        N * sizeof(float), // dynamic
	        stream>>>(out);
	takes_struct<<<1, 32, 0, stream>>>(Parameters{out, 41});
	return cudaGetLastError();
}

__global__ void masks(unsigned *out)
{
	unsigned lane = threadIdx.x & 31, mask = lane < 16 ? 0x0000ffffu : 0xffff0000u, sum = lane;
	for (int distance = 8; distance > 0; distance /= 2)
		sum += __shfl_down_sync(mask, sum, distance, 16);
	unsigned odd = __ballot_sync(0xffffffffu, lane & 1), highest = __reduce_max_sync(0xffffffffu, lane);
	int few = __syncthreads_count(lane < 4);
	__syncwarp(mask);
	if (lane < 16)
		__syncwarp(0xffffu);
	__syncwarp();
	out[threadIdx.x] = sum + odd + highest + static_cast<unsigned>(few);
}

extern "C" cudaError_t launch_masks(unsigned *out, cudaStream_t stream)
{
	masks<<<1, 64, 0, stream>>>(out);
	return cudaGetLastError();
}

__global__ void votes(unsigned *out)
{
	unsigned lane = threadIdx.x;
	unsigned results[8];
	results[0] = static_cast<unsigned>(__any_sync(0xffffffffu, lane == 31));
	results[1] = static_cast<unsigned>(__all_sync(0xffffffffu, lane < 31));
	results[2] = __match_any_sync(0xffffffffu, lane % 4);
	results[3] = static_cast<unsigned>(__reduce_add_sync(0xffffffffu, static_cast<int>(lane) - 31));
	results[4] = static_cast<unsigned>(__syncthreads_and(1));
	results[5] = static_cast<unsigned>(__syncthreads_or(lane == 7));
	results[6] = __shfl_up_sync(0xffffffffu, lane, 3);
	results[7] = __shfl_sync(0xffffffffu, lane * 10, 5, 8);
	if (lane == 1)
		for (int i = 0; i < 8; i++)
			out[i] = results[i];
}

extern "C" cudaError_t launch_votes(unsigned *out, cudaStream_t stream)
{
	votes<<<1, 32, 0, stream>>>(out);
	return cudaGetLastError();
}

__global__ void groups(float *out, const float *in)
{
	cg::thread_block block = cg::this_thread_block();
	cg::thread_block_tile<8> tile = cg::tiled_partition<8>(block);
	float sum = cg::reduce(tile, in[block.thread_rank()], cg::plus<float>());
	block.sync();
	if (tile.thread_rank() == 0)
		out[tile.meta_group_rank()] = sum;
}

extern "C" cudaError_t launch_groups(float *out, const float *in, cudaStream_t stream)
{
	groups<<<1, BLOCK, 0, stream>>>(out, in);
	return cudaGetLastError();
}

/* Every number is 1 where the intrinsic is right. */
__global__ void numbers(float *out, int n)
{
	int i = 0;
	float results[24];
	results[i++] = __float_as_int(1.0f) == 0x3f800000;
	results[i++] = __int_as_float(0x40000000) == 2.0f;
	results[i++] = __popc(0xf0f0u) == 8 && __popcll(~0ull) == 64;
	results[i++] = __clz(1) == 31 && __clz(0) == 32 && __clzll(1) == 63;
	results[i++] = __ffs(8) == 4 && __ffs(0) == 0;
	results[i++] = __brev(1u) == 0x80000000u;
	results[i++] = __umulhi(0x80000000u, 6u) == 3u && __mulhi(-2, 0x40000000) == -1;
	results[i++] = __byte_perm(0x33221100u, 0x77665544u, 0x7520u) == 0x77552200u;
	results[i++] = __funnelshift_l(0x80000000u, 1u, 1) == 3u && __funnelshift_r(1u, 1u, 1) == 0x80000000u;
	results[i++] = rsqrtf(4.0f) == 0.5f && __fdividef(1.0f, 4.0f) == 0.25f && __frcp_rn(8.0f) == 0.125f;
	results[i++] = fabsf(__expf(1.0f) - 2.7182818f) < 1e-6f && fabsf(__logf(2.0f) - 0.6931472f) < 1e-6f;
	results[i++] = __saturatef(2.0f) == 1.0f && __saturatef(-1.0f) == 0.0f && __saturatef(nanf("")) == 0.0f;
	results[i++] = __float2int_rn(2.5f) == 2 && __float2int_rz(-1.9f) == -1 && __float2int_ru(1.1f) == 2;
	results[i++] = __float2int_rd(3e9f) == 2147483647 && __float2int_rn(nanf("")) == 0;
	results[i++] = __float2uint_rz(-4.0f) == 0u && __float2uint_rz(4e9f) == 4000000000u;
	results[i++] = min(3, 4u) == 3u && max(-1, 2) == 2 && min(1.0f, nanf("")) == 1.0f && max(2.0, 3.5f) == 3.5;
	results[i++] = __fmaf_rn(2.0f, 3.0f, 1.0f) == 7.0f && __fadd_rn(1.0f, 2.0f) == 3.0f;
	results[i++] = warpSize == 32 && blockDim.y == 1 && gridDim.x == 1;
	results[i++] = normcdff(0.0f) == 0.5f && fabsf(sinpif(0.5f) - 1.0f) < 1e-6f;
	for (int k = 0; k < n; k++)
		out[k] = k < i ? results[k] : 1.0f;
}

extern "C" cudaError_t launch_numbers(float *out, int n, cudaStream_t stream)
{
	numbers<<<1, 1, 0, stream>>>(out, n);
	return cudaGetLastError();
}

__global__ void half_steps(float *out, const float *in, int n)
{
	int i = threadIdx.x;
	if (i >= n)
		return;
	__half h = __float2half(in[i]);
	__nv_bfloat16 b = __float2bfloat16_rn(in[i]);
	__nv_bfloat162 pair = __floats2bfloat162_rn(in[i], 1.0f);
	__half2 halves = __floats2half2_rn(in[i], 2.0f);
	float2 both = __bfloat1622float2(pair), two = __half22float2(halves);
	out[i] = __half2float(h) + __bfloat162float(b) + both.x + both.y + two.x + two.y;
}

extern "C" cudaError_t launch_half(float *out, const float *in, int n, cudaStream_t stream)
{
	half_steps<<<1, 64, 0, stream>>>(out, in, n);
	return cudaGetLastError();
}

/* out: 0 count, 1 highest, 2 lowest, 3 taken by compare-and-swap, 4 and, 5 or, 6 xor of 4 x 64 threads. */
__global__ void atomics(int *out, float *sum)
{
	int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
	atomicAdd(&out[0], 1);
	atomicMax(&out[1], i);
	atomicMin(&out[2], -i);
	atomicCAS(&out[3], 0, i + 1);
	atomicAnd(&out[4], ~(i & 1));
	atomicOr(&out[5], i);
	atomicXor(&out[6], i);
	atomicAdd(sum, 0.5f);
}

extern "C" cudaError_t launch_atomics(int *out, float *sum, cudaStream_t stream)
{
	atomics<<<4, 64, 0, stream>>>(out, sum);
	return cudaGetLastError();
}

/* Tiles through two buffers with one barrier per tile; float4 loads. */
__global__ void double_buffer(float *out, const float *in, int tiles)
{
	extern __shared__ float4 buffers[];
	int t = threadIdx.x, next = blockDim.x - 1 - t;
	const float4 *from = reinterpret_cast<const float4 *>(in);
	float4 *to = reinterpret_cast<float4 *>(out);
	buffers[t] = from[t];
	__syncthreads();
	for (int tile = 0; tile < tiles; tile++) {
		float4 *here = buffers + (tile & 1) * blockDim.x, *there = buffers + (~tile & 1) * blockDim.x;
		if (tile + 1 < tiles)
			there[t] = from[(tile + 1) * blockDim.x + t];
		to[tile * blockDim.x + t] = here[next];
		__syncthreads();
	}
}

extern "C" cudaError_t launch_double_buffer(float *out, const float *in, int n, cudaStream_t stream)
{
	const int threads = 32;
	double_buffer<<<1, threads, 2 * threads * sizeof(float4), stream>>>(out, in, n / (4 * threads));
	return cudaGetLastError();
}

/* C (m,n) = A (m,k) B (k,n), a warp per 16 x 16 tile; m, n, k multiples of 16. */
__global__ void wmma_product(float *c, const __nv_bfloat16 *a, const __nv_bfloat16 *b, int n, int k)
{
	using namespace nvcuda;
	int row = blockIdx.y * 16, column = blockIdx.x * 16;
	wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> left;
	wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::row_major> right;
	wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
	wmma::fill_fragment(sum, 0.0f);
	for (int i = 0; i < k; i += 16) {
		wmma::load_matrix_sync(left, a + static_cast<size_t>(row) * k + i, k);
		wmma::load_matrix_sync(right, b + static_cast<size_t>(i) * n + column, n);
		wmma::mma_sync(sum, left, right, sum);
	}
	for (int i = 0; i < sum.num_elements; i++)
		sum.x[i] *= 0.5f;
	wmma::store_matrix_sync(c + static_cast<size_t>(row) * n + column, sum, n, wmma::mem_row_major);
}

extern "C" cudaError_t launch_wmma(float *c, const void *a, const void *b, int m, int n, int k, cudaStream_t stream)
{
	wmma_product<<<dim3(n / 16, m / 16), 32, 0, stream>>>(
	        c, static_cast<const __nv_bfloat16 *>(a), static_cast<const __nv_bfloat16 *>(b), n, k);
	return cudaGetLastError();
}

__constant__ float polynomial[4];

extern "C" cudaError_t set_polynomial(const float c[4], cudaStream_t stream)
{
	return cudaMemcpyToSymbolAsync(polynomial, c, 4 * sizeof(float), 0, cudaMemcpyHostToDevice, stream);
}

__global__ void evaluate(float *out, const float *in, int n)
{
	for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
		out[i] = ((polynomial[3] * in[i] + polynomial[2]) * in[i] + polynomial[1]) * in[i] + polynomial[0];
}

extern "C" cudaError_t launch_polynomial(float *out, const float *in, int n, cudaStream_t stream)
{
	cudaLaunchConfig_t config = {};
	config.gridDim = dim3(3);
	config.blockDim = dim3(64);
	config.stream = stream;
	return cudaLaunchKernelEx(&config, evaluate, out, in, n);
}

__global__ void empty()
{
}

extern "C" cudaError_t launch_empty(
        unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned block_z, size_t shared_bytes, cudaStream_t stream)
{
	empty<<<dim3(grid_x, grid_y), dim3(block_x, 1, block_z), shared_bytes, stream>>>();
	return cudaPeekAtLastError();
}

extern "C" cudaError_t allow_empty_shared(int bytes)
{
	return cudaFuncSetAttribute(empty, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

extern "C" int empty_occupancy(int threads, size_t shared_bytes)
{
	int blocks = -1;
	cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, threads, shared_bytes);
	return blocks;
}
