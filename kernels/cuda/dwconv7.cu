/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depthwise 7x7 convolution, NHWC, reading only what lies inside the map. Channels run along the lanes, so that every
 * access is coalesced; a thread keeps its piece of the map in registers, and the rows that neighbours share come from
 * the L1 cache, whose blocks hold all rows of a strip of channels. For maps of 8, 4, 2 or 1 columns the columns outside
 * are left out when the kernel is compiled, others go by tiles of 8 with checked columns.
 */
#include "kernels/cuda/dwconv7.h"

namespace
{

constexpr int TAPS = 7;
constexpr int REACH = 3;
constexpr int ALL = TAPS * TAPS;
constexpr int SUMS = ALL + 1; /* partial sums of a channel: the taps and the bias */
constexpr int THREADS = 256;
constexpr int STRIP = 48;      /* channels of a block, at most */
constexpr int HEIGHT = 2;      /* output rows of a thread */
constexpr int WIDEST = 8;      /* columns of a thread, at most */
constexpr int PIECES = 64;     /* pieces that the weight gradient is cut into, at most */
constexpr int PIECE_ROWS = 16; /* map rows of a piece, at least */

struct map {
	int N, H, W, C;
	int tiles_h, tiles_w; /* of a thread's output */
};

/* Channels of a block: strips of about the same width, whole 32-byte sectors. */
int strip_of(int C)
{
	int strips = (C + STRIP - 1) / STRIP, even = (C + strips - 1) / strips;
	return (even + 7) / 8 * 8;
}

/*
 * Columns w0-3 .. w0+WIDTH+2 of a map row (W,C) at channel c; WHOLE: the map is WIDTH wide, so those inside are known.
 * Columns outside are 0 and, where WHOLE, not touched by any tap.
 */
template <int WIDTH, bool WHOLE>
__device__ __forceinline__ void load_row(float (&row)[WIDTH + 2 * REACH], const float *at, int w0, int W, int C)
{
#pragma unroll
	for (int j = 0; j < WIDTH + 2 * REACH; j++) {
		int w = w0 + j - REACH;
		if (WHOLE)
			row[j] = j >= REACH && j < WIDTH + REACH ? at[(size_t)(j - REACH) * C] : 0.0f;
		else
			row[j] = w >= 0 && w < W ? at[(size_t)w * C] : 0.0f;
	}
}

/* Whether tap j of output column w lies inside, as far as is known at compile time. */
template <int WIDTH, bool WHOLE> __device__ constexpr bool inside(int w, int j)
{
	return !WHOLE || (w + j >= REACH && w + j < WIDTH + REACH);
}

/* Whether tap j lies inside for any column. */
template <int WIDTH, bool WHOLE> __device__ constexpr bool meets(int j)
{
	return !WHOLE || (j > REACH - WIDTH && j < REACH + WIDTH);
}

/*
 * y     out (N,H,W,C) float
 * x     in  (N,H,W,C) float
 * k     in  (7,7,C) float
 * start in  (C), or (N,H,W,C) with FLIP: what the sums begin with; NULL with FLIP: 0
 *
 * y = start + sum of taps; FLIP takes the taps from the far end, which is the transposed convolution. Sums in float in
 * the order of the taps' rows and columns, whatever the grid. 2 FLOP per tap inside the map; 8 bytes per element and
 * 200 per channel. A thread has WIDTH columns by HEIGHT rows of one channel: a row of x serves HEIGHT rows of y, and
 * the taps of the last HEIGHT rows stay in registers. Block (strip of channels, positions), no shared memory. Goal: 70
 * % of the copy rate.
 */
template <int WIDTH, bool WHOLE, bool FLIP>
__global__ void __launch_bounds__(THREADS) convolve_kernel(float *__restrict__ y, const float *__restrict__ x,
        const float *__restrict__ k, const float *__restrict__ start, map m)
{
	int c = (int)(blockIdx.y * blockDim.x + threadIdx.x);
	int tile = (int)(blockIdx.x * blockDim.y + threadIdx.y);
	if (c >= m.C || tile >= m.N * m.tiles_h * m.tiles_w)
		return;
	int h0 = tile % m.tiles_h * HEIGHT, w0 = tile / m.tiles_h % m.tiles_w * WIDTH, n = tile / m.tiles_h / m.tiles_w;
	size_t image = (size_t)n * m.H * m.W * m.C + c;
	float sum[HEIGHT][WIDTH], taps[HEIGHT][TAPS];
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int w = 0; w < WIDTH; w++) {
			size_t at = image + ((size_t)(h0 + r) * m.W + w0 + w) * m.C;
			bool real = h0 + r < m.H && (WHOLE || w0 + w < m.W);
			sum[r][w] = !FLIP ? start[c] : start && real ? start[at] : 0.0f;
		}
#pragma unroll
		for (int j = 0; j < TAPS; j++)
			taps[r][j] = 0;
	}
	/* row i of the taps, counted from the first row of the output; taps[r] meets row h0 + r */
	for (int i = 0; i < TAPS + HEIGHT - 1; i++) {
		int h = h0 + i - REACH;
#pragma unroll
		for (int r = HEIGHT - 1; r > 0; r--) {
#pragma unroll
			for (int j = 0; j < TAPS; j++)
				taps[r][j] = taps[r - 1][j];
		}
#pragma unroll
		for (int j = 0; j < TAPS; j++)
			if (meets<WIDTH, WHOLE>(j))
				taps[0][j] =
				        i < TAPS ? k[(size_t)(FLIP ? ALL - 1 - i * TAPS - j : i * TAPS + j) * m.C + c]
				                 : 0.0f;
		if (h < 0 || h >= m.H)
			continue;
		float row[WIDTH + 2 * REACH];
		load_row<WIDTH, WHOLE>(row, x + image + (size_t)h * m.W * m.C, w0, m.W, m.C);
#pragma unroll
		for (int r = 0; r < HEIGHT; r++) {
			if (i < r || i - r >= TAPS)
				continue;
#pragma unroll
			for (int w = 0; w < WIDTH; w++) {
#pragma unroll
				for (int j = 0; j < TAPS; j++)
					if (inside<WIDTH, WHOLE>(w, j))
						sum[r][w] += taps[r][j] * row[w + j];
			}
		}
	}
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int w = 0; w < WIDTH; w++)
			if (h0 + r < m.H && (WHOLE || w0 + w < m.W))
				y[image + ((size_t)(h0 + r) * m.W + w0 + w) * m.C] = sum[r][w];
	}
}

/*
 * part  out (pieces, 50, C) float: sums over the piece's map rows of each tap and of dy
 * dy    in  (N,H,W,C) float, x in (N,H,W,C) float
 *
 * Piece b takes map rows b*N*H/pieces .. of all N*H. A thread has one channel and one row i of taps, and runs over the
 * piece's rows in order: no atomics, and the bits depend on the shape alone. 2 FLOP per tap inside the map; both inputs
 * come 7 times from the L1 cache, once from memory; partial sums 200 bytes per channel and piece.
 * Block (strip of channels, 7), grid (pieces, strips), no shared memory. Goal: 60 % of the copy rate.
 */
template <int WIDTH, bool WHOLE>
__global__ void __launch_bounds__(STRIP *TAPS)
        correlate_kernel(float *__restrict__ part, const float *__restrict__ dy, const float *__restrict__ x, map m)
{
	int c = (int)(blockIdx.y * blockDim.x + threadIdx.x), i = (int)threadIdx.y;
	if (c >= m.C)
		return;
	int64_t rows = (int64_t)m.N * m.H;
	int from = (int)(blockIdx.x * rows / gridDim.x), to = (int)((blockIdx.x + 1) * rows / gridDim.x);
	float sum[TAPS], bias = 0;
#pragma unroll
	for (int j = 0; j < TAPS; j++)
		sum[j] = 0;
	for (int at = from; at < to; at++) {
		int h = at % m.H + i - REACH;
		if (h < 0 || h >= m.H)
			continue;
		const float *g = dy + (size_t)at * m.W * m.C + c;
		const float *v = x + (size_t)(at + i - REACH) * m.W * m.C + c;
		for (int w0 = 0; w0 < (WHOLE ? 1 : m.W); w0 += WIDTH) {
			float row[WIDTH + 2 * REACH];
			load_row<WIDTH, WHOLE>(row, v, w0, m.W, m.C);
#pragma unroll
			for (int w = 0; w < WIDTH; w++) {
				float d = WHOLE || w0 + w < m.W ? g[(size_t)(w0 + w) * m.C] : 0.0f;
				bias += d;
#pragma unroll
				for (int j = 0; j < TAPS; j++)
					if (inside<WIDTH, WHOLE>(w, j))
						sum[j] += d * row[w + j];
			}
		}
	}
	float *out = part + (size_t)blockIdx.x * SUMS * m.C + c;
#pragma unroll
	for (int j = 0; j < TAPS; j++)
		out[(size_t)(i * TAPS + j) * m.C] = sum[j];
	/* the middle row of taps meets every row of the map */
	if (i == REACH)
		out[(size_t)ALL * m.C] = bias;
}

/*
 * dk    out (49*C) float, db out (C) float; read too where beta is not 0
 * part  in  (pieces, 50*C) float
 *
 * out = beta * out + the pieces' sums in order. 200 (pieces + 2) bytes per channel. One thread per sum, no shared
 * memory. Goal: 80 % of the copy rate, mostly from the L2 cache.
 */
__global__ void __launch_bounds__(THREADS) combine_kernel(
        float *__restrict__ dk, float *__restrict__ db, const float *__restrict__ part, float beta, int pieces, int C)
{
	int at = (int)(blockIdx.x * THREADS + threadIdx.x);
	if (at >= SUMS * C)
		return;
	float *out = at < ALL * C ? dk + at : db + at - ALL * C;
	float sum = 0;
	for (int piece = 0; piece < pieces; piece++)
		sum += part[(size_t)piece * SUMS * C + at];
	*out = (beta == 0 ? 0 : beta * *out) + sum;
}

int pieces_of(int64_t N, int64_t H)
{
	int64_t pieces = N * H / PIECE_ROWS;
	return (int)(pieces < 1 ? 1 : pieces < PIECES ? pieces : PIECES);
}

template <int WIDTH, bool WHOLE, bool FLIP>
void convolve(float *y, const float *x, const float *k, const float *start, map m, cudaStream_t stream)
{
	m.tiles_h = (m.H + HEIGHT - 1) / HEIGHT;
	m.tiles_w = (m.W + WIDTH - 1) / WIDTH;
	int strip = strip_of(m.C), tall = THREADS / strip, tiles = m.N * m.tiles_h * m.tiles_w;
	dim3 grid((unsigned)((tiles + tall - 1) / tall), (unsigned)((m.C + strip - 1) / strip));
	convolve_kernel<WIDTH, WHOLE, FLIP>
	        <<<grid, dim3((unsigned)strip, (unsigned)tall), 0, stream>>>(y, x, k, start, m);
}

template <bool FLIP>
void convolve_any(float *y, const float *x, const float *k, const float *start, map m, cudaStream_t stream)
{
	switch (m.W) {
	case 8:
		convolve<8, true, FLIP>(y, x, k, start, m, stream);
		break;
	case 4:
		convolve<4, true, FLIP>(y, x, k, start, m, stream);
		break;
	case 2:
		convolve<2, true, FLIP>(y, x, k, start, m, stream);
		break;
	case 1:
		convolve<1, true, FLIP>(y, x, k, start, m, stream);
		break;
	default:
		convolve<WIDEST, false, FLIP>(y, x, k, start, m, stream);
	}
}

template <int WIDTH, bool WHOLE>
void correlate(float *part, const float *dy, const float *x, map m, int pieces, cudaStream_t stream)
{
	int strip = strip_of(m.C);
	dim3 grid((unsigned)pieces, (unsigned)((m.C + strip - 1) / strip));
	correlate_kernel<WIDTH, WHOLE><<<grid, dim3((unsigned)strip, TAPS), 0, stream>>>(part, dy, x, m);
}

void correlate_any(float *part, const float *dy, const float *x, map m, int pieces, cudaStream_t stream)
{
	switch (m.W) {
	case 8:
		correlate<8, true>(part, dy, x, m, pieces, stream);
		break;
	case 4:
		correlate<4, true>(part, dy, x, m, pieces, stream);
		break;
	case 2:
		correlate<2, true>(part, dy, x, m, pieces, stream);
		break;
	case 1:
		correlate<1, true>(part, dy, x, m, pieces, stream);
		break;
	default:
		correlate<WIDEST, false>(part, dy, x, m, pieces, stream);
	}
}

/* Positions of the batch and partial sums of all channels are counted in int. */
hd_status size_up(map *m, int64_t N, int64_t H, int64_t W, int64_t C, const char *op)
{
	if (N * H * W > INT32_MAX || C > INT32_MAX / SUMS)
		return hd_cuda_fail(
		        HD_E_UNSUPPORTED, "%s: 2^31 positions or %d channels are too many", op, INT32_MAX / SUMS);
	*m = {(int)N, (int)H, (int)W, (int)C, 0, 0};
	return HD_OK;
}

} /* namespace */

hd_status hd_cuda_dwconv7_own_fwd(void *y, const void *x, const float *k, const float *b, hd_dtype dt, int64_t N,
        int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(dwconv7_fwd, dt);
	cudaStream_t on = hd_cuda_stream(stream);
	map m = {};
	if (N * H * W * C == 0)
		return HD_OK;
	hd_status st = size_up(&m, N, H, W, C, "dwconv7_fwd");
	if (st != HD_OK)
		return st;
	convolve_any<false>(static_cast<float *>(y), static_cast<const float *>(x), k, b, m, on);
	return HD_CUDA_LAUNCHED(dwconv7_fwd);
}

hd_status hd_cuda_dwconv7_own_bwd_data(void *dx, const void *dy, const float *k, const void *residual, hd_dtype dt,
        int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(dwconv7_bwd_data, dt);
	cudaStream_t on = hd_cuda_stream(stream);
	map m = {};
	if (N * H * W * C == 0)
		return HD_OK;
	hd_status st = size_up(&m, N, H, W, C, "dwconv7_bwd_data");
	if (st != HD_OK)
		return st;
	convolve_any<true>(static_cast<float *>(dx), static_cast<const float *>(dy), k,
	        static_cast<const float *>(residual), m, on);
	return HD_CUDA_LAUNCHED(dwconv7_bwd_data);
}

size_t hd_cuda_dwconv7_own_bwd_weight_work(int64_t N, int64_t H, int64_t W, int64_t C)
{
	(void)W;
	return (size_t)(pieces_of(N, H) * SUMS * C) * sizeof(float);
}

hd_status hd_cuda_dwconv7_own_bwd_weight(float *dk, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(dwconv7_bwd_weight, dt);
	cudaStream_t on = hd_cuda_stream(stream);
	float *part = static_cast<float *>(work);
	int pieces = pieces_of(N, H);
	map m = {};
	if (C == 0)
		return HD_OK;
	hd_status st = size_up(&m, N, H, W, C, "dwconv7_bwd_weight");
	if (st != HD_OK)
		return st;
	correlate_any(part, static_cast<const float *>(dy), static_cast<const float *>(x), m, pieces, on);
	unsigned grid = (unsigned)((SUMS * C + THREADS - 1) / THREADS);
	combine_kernel<<<grid, THREADS, 0, on>>>(dk, db, part, beta, pieces, m.C);
	return HD_CUDA_LAUNCHED(dwconv7_bwd_weight);
}
