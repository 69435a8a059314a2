/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depthwise 7x7 convolution and LayerNorm over its channels in one pass, NHWC: the convolution needs all neighbours of
 * a channel, the norm all channels of a position, so a block takes all channels of a few positions. A thread keeps the
 * sums of a tile of 1 or 2 rows by 8, 4, 2 or 1 columns of two channels in registers from the first tap to the end of
 * the norm; the rows that tiles share come from the caches, nothing of the map goes through shared memory.
 *
 * Against two kernels this spares one trip of the map through memory and a launch: per element 6 instead of 8 bytes
 * with 16 bits and conv kept (25 % of the traffic, predicted), 4 instead of 8 without. What does not fit, that is an
 * odd number of channels, addresses that are not aligned to 16 bytes, and more channels than the block has threads for,
 * is done by the two kernels.
 */
#include "kernels/cuda/dwconv7.cuh"

namespace
{

constexpr int V = 2;          /* channels of a thread */
constexpr int BLOCK = 256;    /* threads of a block that has several tiles */
constexpr int WARPS_EACH = 4; /* warps that every multiprocessor should get before threads take a second row */

/* Threads of a block, at most: as many as their registers allow. */
template <int WIDTH, bool WHOLE> constexpr int MOST = !WHOLE ? 384 : WIDTH == 1 ? 1024 : 512;

/*
 * Sums of N values over the lanes of a warp, N a power of 2 up to 32; the lanes from i * 32 / N on get that of value i
 * in value[0]. Half of the values goes to the other half of the lanes at each step, HALF values at first N / 2: N-1
 * shuffles and a few for the rest, where N sums one by one take 5 N. A template, as an array that a loop of changing
 * length indexes goes to memory.
 */
template <int N, int HALF> __device__ __forceinline__ void scatter_sums(float (&value)[N])
{
	constexpr int LANES = HALF > 0 ? HD_WARP / N * HALF : HD_WARP / 2 / N;
	if constexpr (HALF > 0) {
		bool upper = (int)threadIdx.x & LANES;
#pragma unroll
		for (int i = 0; i < HALF; i++) {
			float keep = upper ? value[i + HALF] : value[i], send = upper ? value[i] : value[i + HALF];
			value[i] = keep + __shfl_xor_sync(HD_ALL_LANES, send, LANES);
		}
		scatter_sums<N, HALF / 2>(value);
	} else {
#pragma unroll
		for (int lanes = LANES; lanes > 0; lanes /= 2)
			value[0] += __shfl_xor_sync(HD_ALL_LANES, value[0], lanes);
	}
}

/*
 * Sums of N values over the threads of a row of the block, which is whole warps; all threads of the block take part and
 * get those of their row. part: shared memory, a pack per warp of the block, not to be used again. Adds within a warp,
 * then the warps in order.
 */
template <int N> __device__ __forceinline__ void row_sums(float (&value)[N], hd_pack<N> *part)
{
	int lane = (int)threadIdx.x % HD_WARP, warps = (int)blockDim.x / HD_WARP;
	int first = (int)threadIdx.y * warps, warp = first + (int)threadIdx.x / HD_WARP;
	scatter_sums<N, N / 2>(value);
	if (lane % (HD_WARP / N) == 0)
		part[warp].v[lane / (HD_WARP / N)] = value[0];
	__syncthreads();
#pragma unroll
	for (int i = 0; i < N; i++)
		value[i] = 0;
	for (int w = first; w < first + warps; w++) {
		hd_pack<N> of_warp = part[w];
#pragma unroll
		for (int i = 0; i < N; i++)
			value[i] += of_warp.v[i];
	}
}

/*
 * y           out (N,H,W,C) of T
 * conv        out (N,H,W,C) of T; NULL: not stored
 * mean, rstd  out (N,H,W) float
 * x           in  (N,H,W,C) of T
 * k           in  (7,7,C) float; b, gamma, bias in (C) float
 *
 * y is the norm of conv as it is stored, rounded to T, also where it is not stored; so are mean and rstd. Sums in
 * float: taps in the order of their rows and columns, then over the channels in two passes, mean and squares about it,
 * each over a thread's two channels, the lanes, the warps in order. Deterministic.
 *
 * All addresses aligned to 16 bytes, C even. Block (C/2 rounded up to whole warps, tiles), one row of the block a tile;
 * lanes without channels and rows without a tile take part in the barriers alone. Static shared memory of two packs of
 * HEIGHT*WIDTH floats per warp, 4 KB at most.
 * FLOPs: 2 per tap inside the map, 9 per element. Bytes: 3 (2 without conv) sizeof(T) per element, 8 per position, 212
 * per channel; from the L2 cache x once per HEIGHT rows, less what the block's other tiles have brought along, and the
 * taps once per multiprocessor. Goal: 60 % of the copy rate.
 */
template <typename T, int WIDTH, int HEIGHT, bool WHOLE>
__global__ void __launch_bounds__(MOST<WIDTH, WHOLE>, WIDTH == 1 || !WHOLE)
        fused_kernel(T *__restrict__ y, T *__restrict__ conv, float *__restrict__ mean, float *__restrict__ rstd,
                const T *__restrict__ x, const float *__restrict__ k, const float *__restrict__ b,
                const float *__restrict__ gamma, const float *__restrict__ bias, float eps, hd_dwconv7_map m)
{
	constexpr int EACH = WIDTH * HEIGHT;
	__shared__ hd_pack<EACH> sums[MOST<WIDTH, WHOLE> / HD_WARP];
	__shared__ hd_pack<EACH> squares[MOST<WIDTH, WHOLE> / HD_WARP];
	int c = V * (int)threadIdx.x, tile = (int)(blockIdx.x * blockDim.y + threadIdx.y);
	bool real = tile < m.N * m.tiles_h * m.tiles_w, works = real && c < m.C;
	int h0 = tile % m.tiles_h * HEIGHT, w0 = tile / m.tiles_h % m.tiles_w * WIDTH, n = tile / m.tiles_h / m.tiles_w;
	size_t first = ((size_t)n * m.H + h0) * m.W + w0; /* position of the tile */
	hd_pack<V> value[HEIGHT][WIDTH], start = works ? hd_load<V>(b + c, 0) : hd_dwconv7_zero<V>();
	float sum[EACH], square[EACH];
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int w = 0; w < WIDTH; w++)
			value[r][w] = start;
	}
	if (works)
		hd_dwconv7_tile<T, V, WIDTH, HEIGHT, WHOLE, false>(
		        value, x + (size_t)n * m.H * m.W * m.C + c, k + c, m, h0, w0);
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int w = 0; w < WIDTH; w++) {
			sum[r * WIDTH + w] = 0;
#pragma unroll
			for (int v = 0; v < V; v++) {
				value[r][w].v[v] = hd_widen(hd_narrow<T>(value[r][w].v[v]));
				sum[r * WIDTH + w] += value[r][w].v[v];
			}
			if (conv && works && h0 + r < m.H && (WHOLE || w0 + w < m.W))
				hd_store<V>(conv + (first + (size_t)r * m.W + w) * m.C + c, 0, value[r][w]);
		}
	}
	row_sums<EACH>(sum, sums);
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int w = 0; w < WIDTH; w++) {
			sum[r * WIDTH + w] /= (float)m.C;
			square[r * WIDTH + w] = 0;
#pragma unroll
			for (int v = 0; v < V; v++) {
				float away = value[r][w].v[v] - sum[r * WIDTH + w];
				value[r][w].v[v] = away;
				square[r * WIDTH + w] += works ? away * away : 0.0f;
			}
		}
	}
	row_sums<EACH>(square, squares);
	if (!works)
		return;
	hd_pack<V> factor = hd_load<V>(gamma + c, 0), shift = hd_load<V>(bias + c, 0);
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int w = 0; w < WIDTH; w++) {
			size_t at = first + (size_t)r * m.W + w;
			float scale = 1.0f / sqrtf(square[r * WIDTH + w] / (float)m.C + eps);
			if (h0 + r < m.H && (WHOLE || w0 + w < m.W)) {
#pragma unroll
				for (int v = 0; v < V; v++)
					value[r][w].v[v] = value[r][w].v[v] * scale * factor.v[v] + shift.v[v];
				hd_store<V>(y + at * m.C + c, 0, value[r][w]);
				if (threadIdx.x == 0) {
					mean[at] = sum[r * WIDTH + w];
					rstd[at] = scale;
				}
			}
		}
	}
}

/* What the operation is called with; void is of the activations' type. */
typedef struct arguments {
	void *y, *conv;
	float *mean, *rstd;
	const void *x;
	const float *k, *b, *gamma, *bias;
	float eps;
	hd_dwconv7_map m;
	cudaStream_t stream;
} arguments;

/* Threads of a tile: whole warps. */
int tile_threads(const arguments &a)
{
	return (int)hd_divide_up(a.m.C, V * HD_WARP) * HD_WARP;
}

template <typename T, int WIDTH, int HEIGHT, bool WHOLE> void launch(const arguments &a, int64_t tiles)
{
	int threads = tile_threads(a);
	/* as many tiles a block as leave every multiprocessor a block */
	int64_t most = tiles / hd_cuda_device.multiProcessorCount, tall = BLOCK / threads;
	tall = tall < most ? tall : most;
	tall = tall < 1 ? 1 : tall;
	fused_kernel<T, WIDTH, HEIGHT, WHOLE>
	        <<<(unsigned)hd_divide_up(tiles, tall), dim3((unsigned)threads, (unsigned)tall), 0, a.stream>>>(
	                static_cast<T *>(a.y), static_cast<T *>(a.conv), a.mean, a.rstd, static_cast<const T *>(a.x),
	                a.k, a.b, a.gamma, a.bias, a.eps, a.m);
}

/* Two rows a thread where that leaves work for the whole device, else one. */
template <typename T, int WIDTH, bool WHOLE> void launch_height(arguments a)
{
	a.m.tiles_w = (a.m.W + WIDTH - 1) / WIDTH;
	a.m.tiles_h = (a.m.H + 1) / 2;
	int64_t tiles = (int64_t)a.m.N * a.m.tiles_h * a.m.tiles_w, each = hd_cuda_device.multiProcessorCount;
	if (tiles >= each && tiles * tile_threads(a) >= each * WARPS_EACH * HD_WARP) {
		launch<T, WIDTH, 2, WHOLE>(a, tiles);
	} else {
		a.m.tiles_h = a.m.H;
		launch<T, WIDTH, 1, WHOLE>(a, (int64_t)a.m.N * a.m.tiles_h * a.m.tiles_w);
	}
}

template <typename T> void launch_width(const arguments &a)
{
	switch (a.m.W) {
	case 8:
		launch_height<T, 8, true>(a);
		break;
	case 4:
		launch_height<T, 4, true>(a);
		break;
	case 2:
		launch_height<T, 2, true>(a);
		break;
	case 1:
		launch_height<T, 1, true>(a);
		break;
	default:
		launch_height<T, HD_DWCONV7_WIDEST, false>(a);
	}
}

/* Threads of a block for maps of that width, at most. */
int most_threads(int W)
{
	switch (W) {
	case 8:
		return MOST<8, true>;
	case 4:
		return MOST<4, true>;
	case 2:
		return MOST<2, true>;
	case 1:
		return MOST<1, true>;
	default:
		return MOST<HD_DWCONV7_WIDEST, false>;
	}
}

bool fits(const arguments &a)
{
	return a.m.C % V == 0 && tile_threads(a) <= most_threads(a.m.W) && hd_cuda_aligned16(a.y) &&
	       hd_cuda_aligned16(a.conv) && hd_cuda_aligned16(a.x) && hd_cuda_aligned16(a.k) &&
	       hd_cuda_aligned16(a.b) && hd_cuda_aligned16(a.gamma) && hd_cuda_aligned16(a.bias);
}

} /* namespace */

extern "C" hd_status hd_cuda_dwconv7_layernorm_fwd(void *y, void *conv, float *mean, float *rstd, const void *x,
        const float *k, const float *b, const float *gamma, const float *bias, float eps, hd_dtype dt, int64_t N,
        int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	arguments a = {};
	if (N * H * W * C == 0)
		return HD_OK;
	hd_status st = hd_dwconv7_size_up(&a.m, N, H, W, C, "dwconv7_layernorm_fwd");
	if (st != HD_OK)
		return st;
	a.y = y;
	a.conv = conv;
	a.mean = mean;
	a.rstd = rstd;
	a.x = x;
	a.k = k;
	a.b = b;
	a.gamma = gamma;
	a.bias = bias;
	a.eps = eps;
	a.stream = hd_cuda_stream(stream);
	if (fits(a)) {
		HD_BY_DTYPE(dwconv7_layernorm_fwd, dt, launch_width<T>(a));
		return HD_CUDA_LAUNCHED(dwconv7_layernorm_fwd);
	}
	/* without a place of its own the map goes to that of y, where the norm of a row may overwrite it */
	void *map = conv ? conv : y;
	st = hd_cuda_dwconv7_fwd(map, x, k, b, dt, N, H, W, C, stream);
	return st != HD_OK ? st : hd_cuda_layernorm_fwd(y, mean, rstd, map, gamma, bias, eps, dt, N * H * W, C, stream);
}
