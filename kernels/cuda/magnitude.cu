/* SPDX-License-Identifier: Apache-2.0 */
/* |I+jQ| of interleaved pairs of any component type. */
#include "kernels/cuda/reduce.cuh"

namespace
{

constexpr int THREADS = 256;

/* What one thread loads at once. */
template <typename T, int V> struct alignas(2 * V * sizeof(T)) pairs {
	T v[2 * V];
};

/*
 * out   out (n) float, aligned to V floats
 * iq    in  (n,2) T, interleaved, aligned to V pairs
 *
 * out[i] = scale * sqrt((re-offset)^2 + (im-offset)^2), in float after one conversion; elementwise, so any grid gives
 * the same bits. 5 FLOP and 2 sizeof(T) + 4 bytes per element. Blocks of THREADS striding over the grid, no shared
 * memory. Goal: 90 % of the copy rate.
 */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
        magnitude_kernel(float *__restrict__ out, const T *__restrict__ iq, float offset, float scale, int64_t n)
{
	int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x, threads = (int64_t)gridDim.x * THREADS;
	for (int64_t group = thread; group < n / V; group += threads) {
		pairs<T, V> in = reinterpret_cast<const pairs<T, V> *>(iq)[group];
		hd_pack<V> result;
#pragma unroll
		for (int i = 0; i < V; i++) {
			float re = (float)in.v[2 * i] - offset, im = (float)in.v[2 * i + 1] - offset;
			result.v[i] = scale * sqrtf(re * re + im * im);
		}
		hd_store<V>(out, group, result);
	}
	int64_t rest = n / V * V + thread;
	if (rest < n) {
		float re = (float)iq[2 * rest] - offset, im = (float)iq[2 * rest + 1] - offset;
		out[rest] = scale * sqrtf(re * re + im * im);
	}
}

template <typename T> void launch(float *out, const void *iq, float offset, float scale, int64_t n, cudaStream_t stream)
{
	constexpr int V = 4;
	const T *in = static_cast<const T *>(iq);
	bool wide = hd_cuda_aligned16(out) && reinterpret_cast<uintptr_t>(iq) % sizeof(pairs<T, V>) == 0;
	unsigned grid = hd_cuda_blocks(wide ? n / V : n, THREADS, HD_CUDA_GRID_MAX);
	if (wide)
		magnitude_kernel<T, V><<<grid, THREADS, 0, stream>>>(out, in, offset, scale, n);
	else
		magnitude_kernel<T, 1><<<grid, THREADS, 0, stream>>>(out, in, offset, scale, n);
}

} /* namespace */

hd_status hd_cuda_magnitude(float *out, const void *iq, hd_dtype dt, float scale, int64_t n, hd_stream *stream)
{
	cudaStream_t on = hd_cuda_stream(stream);
	if (n == 0)
		return HD_OK;
	switch (dt) {
	case HD_I8:
		launch<int8_t>(out, iq, 0, scale, n, on);
		break;
	case HD_U8:
		launch<uint8_t>(out, iq, 127.5f, scale, n, on);
		break;
	case HD_I16:
		launch<int16_t>(out, iq, 0, scale, n, on);
		break;
	case HD_F32:
		launch<float>(out, iq, 0, scale, n, on);
		break;
	case HD_F64:
		launch<double>(out, iq, 0, scale, n, on);
		break;
	default:
		return hd_cuda_fail(HD_E_UNSUPPORTED, "magnitude: no IQ of this dtype");
	}
	return HD_CUDA_LAUNCHED(magnitude);
}
