/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depthwise 7x7 convolution, NHWC, reading only what lies inside the map. Channels run along the lanes, so that every
 * access is coalesced; a thread keeps its piece of the map in registers, and the rows that neighbours share come from
 * the L1 cache, whose blocks hold all rows of a strip of channels. For maps of 8, 4, 2 or 1 columns the columns outside
 * are left out when the kernel is compiled, others go by tiles of 8 with checked columns.
 *
 * Activations are of type T: a thread has one channel of float, two of 16 bits where the number of channels is even and
 * the maps are aligned to 16 bytes, else one. Taps, bias, sums and gradients of parameters are float.
 */
#include "kernels/cuda/dwconv7.h"

#include "kernels/cuda/dwconv7.cuh"

namespace
{

typedef hd_dwconv7_map map;

constexpr int TAPS = HD_DWCONV7_TAPS;
constexpr int REACH = HD_DWCONV7_REACH;
constexpr int WIDEST = HD_DWCONV7_WIDEST;
constexpr int ALL = TAPS * TAPS;
constexpr int SUMS = ALL + 1; /* partial sums of a channel: the taps and the bias */
constexpr int THREADS = 256;
constexpr int STRIP = 48;         /* packs of channels of a block, at most */
constexpr int HEIGHT = 2;         /* output rows of a thread */
constexpr int PIECES = 128;       /* pieces that the weight gradient is cut into, at most */
constexpr int PIECE_ROWS = 16;    /* map rows of a piece, at least */
constexpr int PIECE_BLOCKS = 512; /* blocks of 2 * STRIP channels that the pieces are cut for */

/* Packs of channels of a block: strips of about the same width, whole 32-byte sectors of floats. */
int strip_of(int packs)
{
	int strips = (packs + STRIP - 1) / STRIP, even = (packs + strips - 1) / strips;
	return (even + 7) / 8 * 8;
}

/*
 * y        out (N,H,W,C) of T
 * x        in  (N,H,W,C) of T
 * k        in  (7,7,C) float
 * bias     in  (C) float, what the sums begin with; not read with FLIP
 * residual in  (N,H,W,C) of T, what the sums begin with where FLIP; NULL: 0
 *
 * y = start + sum of taps; FLIP takes the taps from the far end, which is the transposed convolution. Sums in float in
 * the order of the taps' rows and columns, whatever the grid, rounded once. 2 FLOP per tap inside the map; 2 sizeof(T)
 * bytes per element and 200 per channel. A thread has WIDTH columns by HEIGHT rows of V channels (hd_dwconv7_tile).
 * Block (strip of channels, positions), no shared memory. Goal: 70 % of the copy rate.
 */
template <typename T, int V, int WIDTH, bool WHOLE, bool FLIP>
__global__ void __launch_bounds__(THREADS) convolve_kernel(T *__restrict__ y, const T *__restrict__ x,
        const float *__restrict__ k, const float *__restrict__ bias, const T *__restrict__ residual, map m)
{
	int c = V * (int)(blockIdx.y * blockDim.x + threadIdx.x);
	int tile = (int)(blockIdx.x * blockDim.y + threadIdx.y);
	if (c >= m.C || tile >= m.N * m.tiles_h * m.tiles_w)
		return;
	int h0 = tile % m.tiles_h * HEIGHT, w0 = tile / m.tiles_h % m.tiles_w * WIDTH, n = tile / m.tiles_h / m.tiles_w;
	size_t image = (size_t)n * m.H * m.W * m.C + c;
	hd_pack<V> sum[HEIGHT][WIDTH];
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int w = 0; w < WIDTH; w++) {
			size_t at = image + ((size_t)(h0 + r) * m.W + w0 + w) * m.C;
			bool real = h0 + r < m.H && (WHOLE || w0 + w < m.W);
			sum[r][w] = !FLIP              ? hd_load<V>(bias + c, 0)
			            : residual && real ? hd_load<V>(residual + at, 0)
			                               : hd_dwconv7_zero<V>();
		}
	}
	hd_dwconv7_tile<T, V, WIDTH, HEIGHT, WHOLE, FLIP>(sum, x + image, k + c, m, h0, w0);
#pragma unroll
	for (int r = 0; r < HEIGHT; r++) {
#pragma unroll
		for (int w = 0; w < WIDTH; w++)
			if (h0 + r < m.H && (WHOLE || w0 + w < m.W))
				hd_store<V>(y + image + ((size_t)(h0 + r) * m.W + w0 + w) * m.C, 0, sum[r][w]);
	}
}

/*
 * part  out (pieces, 50, C) float: sums over the piece's map rows of each tap and of dy; taps of columns that never
 *       lie inside of the map are left as they are
 * dy    in  (N,H,W,C) of T, x in (N,H,W,C) of T
 *
 * Piece b takes map rows b*N*H/pieces .. of all N*H. A thread has V channels and one row i of taps, and runs over the
 * piece's rows in order: no atomics, and the bits depend on the shape alone. 2 FLOP per tap inside the map; both inputs
 * come 7 times from the L1 cache, once from memory; partial sums 4 bytes per tap inside, channel and piece.
 * Block (strip of channels, 7), grid (pieces, strips), no shared memory. Goal: 60 % of the copy rate.
 */
template <typename T, int V, int WIDTH, bool WHOLE>
__global__ void __launch_bounds__(STRIP *TAPS)
        correlate_kernel(float *__restrict__ part, const T *__restrict__ dy, const T *__restrict__ x, map m)
{
	int c = V * (int)(blockIdx.y * blockDim.x + threadIdx.x), i = (int)threadIdx.y;
	if (c >= m.C)
		return;
	int64_t rows = (int64_t)m.N * m.H;
	int from = (int)(blockIdx.x * rows / gridDim.x), to = (int)((blockIdx.x + 1) * rows / gridDim.x);
	hd_pack<V> sum[TAPS], bias = hd_dwconv7_zero<V>(), one;
#pragma unroll
	for (int v = 0; v < V; v++)
		one.v[v] = 1;
#pragma unroll
	for (int j = 0; j < TAPS; j++)
		sum[j] = hd_dwconv7_zero<V>();
	for (int at = from; at < to; at++) {
		int h = at % m.H + i - REACH;
		if (h < 0 || h >= m.H)
			continue;
		const T *g = dy + (size_t)at * m.W * m.C + c;
		const T *v = x + (size_t)(at + i - REACH) * m.W * m.C + c;
		for (int w0 = 0; w0 < (WHOLE ? 1 : m.W); w0 += WIDTH) {
			hd_pack<V> row[WIDTH + 2 * REACH];
			hd_dwconv7_row<T, V, WIDTH, WHOLE>(row, v, w0, m.W, m.C);
#pragma unroll
			for (int w = 0; w < WIDTH; w++) {
				bool real = WHOLE || w0 + w < m.W;
				hd_pack<V> d = real ? hd_load<V>(g + (size_t)(w0 + w) * m.C, 0) : hd_dwconv7_zero<V>();
				hd_dwconv7_add<V>(bias, d, one);
#pragma unroll
				for (int j = 0; j < TAPS; j++)
					if (hd_dwconv7_inside<WIDTH, WHOLE>(w, j))
						hd_dwconv7_add<V>(sum[j], d, row[w + j]);
			}
		}
	}
	float *out = part + (size_t)blockIdx.x * SUMS * m.C + c;
#pragma unroll
	for (int j = 0; j < TAPS; j++)
		if (hd_dwconv7_meets<WIDTH, WHOLE>(j))
			hd_store<V>(out + (size_t)(i * TAPS + j) * m.C, 0, sum[j]);
	/* the middle row of taps meets every row of the map */
	if (i == REACH)
		hd_store<V>(out + (size_t)ALL * m.C, 0, bias);
}

/*
 * dk    out (49*C) float, db out (C) float; read too where beta is not 0
 * part  in  (pieces, 50*C) float
 * reach in  taps of columns further from the middle than this are sums of nothing
 *
 * out = beta * out + the pieces' sums in order. 4 (pieces + 2) bytes per tap and channel. One thread per sum, no shared
 * memory. Goal: 80 % of the copy rate, mostly from the L2 cache.
 */
__global__ void __launch_bounds__(THREADS) combine_kernel(float *__restrict__ dk, float *__restrict__ db,
        const float *__restrict__ part, float beta, int pieces, int reach, int C)
{
	int at = (int)(blockIdx.x * THREADS + threadIdx.x);
	if (at >= SUMS * C)
		return;
	float *out = at < ALL * C ? dk + at : db + at - ALL * C;
	int column = at / C % TAPS - REACH, summed = at < ALL * C && abs(column) > reach ? 0 : pieces;
	float sum = 0;
	for (int piece = 0; piece < summed; piece++)
		sum += part[(size_t)piece * SUMS * C + at];
	*out = (beta == 0 ? 0 : beta * *out) + sum;
}

/* So many that the device is filled, yet no more than the partial sums of wide maps are worth. */
int pieces_of(int64_t N, int64_t H, int64_t C)
{
	int64_t strips = (C + 2 * STRIP - 1) / (2 * STRIP), most = PIECE_BLOCKS / (strips < 1 ? 1 : strips);
	int64_t pieces = N * H / PIECE_ROWS;
	pieces = pieces < PIECES ? pieces : PIECES;
	pieces = pieces < most ? pieces : most;
	return (int)(pieces < 1 ? 1 : pieces);
}

/* What the convolutions launch with; void is of the activations' type. */
typedef struct arguments {
	void *out;
	const void *in, *residual;
	const float *k, *bias;
	map m;
	cudaStream_t stream;
} arguments;

template <typename T, int V, int WIDTH, bool WHOLE, bool FLIP> void convolve(const arguments &a)
{
	map m = a.m;
	m.tiles_h = (m.H + HEIGHT - 1) / HEIGHT;
	m.tiles_w = (m.W + WIDTH - 1) / WIDTH;
	int packs = m.C / V, strip = strip_of(packs), tall = THREADS / strip, tiles = m.N * m.tiles_h * m.tiles_w;
	dim3 grid((unsigned)((tiles + tall - 1) / tall), (unsigned)((packs + strip - 1) / strip));
	convolve_kernel<T, V, WIDTH, WHOLE, FLIP>
	        <<<grid, dim3((unsigned)strip, (unsigned)tall), 0, a.stream>>>(static_cast<T *>(a.out),
	                static_cast<const T *>(a.in), a.k, a.bias, static_cast<const T *>(a.residual), m);
}

template <typename T, int V, bool FLIP> void convolve_width(const arguments &a)
{
	switch (a.m.W) {
	case 8:
		convolve<T, V, 8, true, FLIP>(a);
		break;
	case 4:
		convolve<T, V, 4, true, FLIP>(a);
		break;
	case 2:
		convolve<T, V, 2, true, FLIP>(a);
		break;
	case 1:
		convolve<T, V, 1, true, FLIP>(a);
		break;
	default:
		convolve<T, V, WIDEST, false, FLIP>(a);
	}
}

/* Channels of a thread where the number of channels and the addresses allow: 4 bytes. */
template <typename T> constexpr int pack_of()
{
	return 4 / (int)sizeof(T);
}

template <typename T, bool FLIP> void convolve_any(const arguments &a)
{
	constexpr int V = pack_of<T>();
	bool aligned = hd_cuda_aligned16(a.out) && hd_cuda_aligned16(a.in) && hd_cuda_aligned16(a.residual) &&
	               hd_cuda_aligned16(a.k) && hd_cuda_aligned16(a.bias);
	if (a.m.C % V == 0 && aligned)
		convolve_width<T, V, FLIP>(a);
	else
		convolve_width<T, 1, FLIP>(a);
}

/* What the weight gradient launches with. */
typedef struct correlation {
	float *part;
	const void *dy, *x;
	map m;
	int pieces;
	cudaStream_t stream;
} correlation;

template <typename T, int V, int WIDTH, bool WHOLE> void correlate(const correlation &a)
{
	int packs = a.m.C / V, strip = strip_of(packs);
	dim3 grid((unsigned)a.pieces, (unsigned)((packs + strip - 1) / strip));
	correlate_kernel<T, V, WIDTH, WHOLE><<<grid, dim3((unsigned)strip, TAPS), 0, a.stream>>>(
	        a.part, static_cast<const T *>(a.dy), static_cast<const T *>(a.x), a.m);
}

template <typename T, int V> void correlate_width(const correlation &a)
{
	switch (a.m.W) {
	case 8:
		correlate<T, V, 8, true>(a);
		break;
	case 4:
		correlate<T, V, 4, true>(a);
		break;
	case 2:
		correlate<T, V, 2, true>(a);
		break;
	case 1:
		correlate<T, V, 1, true>(a);
		break;
	default:
		correlate<T, V, WIDEST, false>(a);
	}
}

template <typename T> void correlate_any(const correlation &a)
{
	constexpr int V = pack_of<T>();
	if (a.m.C % V == 0 && hd_cuda_aligned16(a.dy) && hd_cuda_aligned16(a.x) && hd_cuda_aligned16(a.part))
		correlate_width<T, V>(a);
	else
		correlate_width<T, 1>(a);
}

} /* namespace */

hd_status hd_cuda_dwconv7_own_fwd(void *y, const void *x, const float *k, const float *b, hd_dtype dt, int64_t N,
        int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	arguments a = {};
	if (N * H * W * C == 0)
		return HD_OK;
	hd_status st = hd_dwconv7_size_up(&a.m, N, H, W, C, "dwconv7_fwd");
	if (st != HD_OK)
		return st;
	a.out = y;
	a.in = x;
	a.k = k;
	a.bias = b;
	a.stream = hd_cuda_stream(stream);
	HD_BY_DTYPE(dwconv7_fwd, dt, convolve_any<T, false>(a));
	return HD_CUDA_LAUNCHED(dwconv7_fwd);
}

hd_status hd_cuda_dwconv7_own_bwd_data(void *dx, const void *dy, const float *k, const void *residual, hd_dtype dt,
        int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	arguments a = {};
	if (N * H * W * C == 0)
		return HD_OK;
	hd_status st = hd_dwconv7_size_up(&a.m, N, H, W, C, "dwconv7_bwd_data");
	if (st != HD_OK)
		return st;
	a.out = dx;
	a.in = dy;
	a.k = k;
	a.residual = residual;
	a.stream = hd_cuda_stream(stream);
	HD_BY_DTYPE(dwconv7_bwd_data, dt, convolve_any<T, true>(a));
	return HD_CUDA_LAUNCHED(dwconv7_bwd_data);
}

size_t hd_cuda_dwconv7_own_bwd_weight_work(int64_t N, int64_t H, int64_t W, int64_t C)
{
	(void)W;
	return (size_t)(pieces_of(N, H, C) * SUMS * C) * sizeof(float);
}

hd_status hd_cuda_dwconv7_own_bwd_weight(float *dk, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	correlation a = {};
	if (C == 0)
		return HD_OK;
	hd_status st = hd_dwconv7_size_up(&a.m, N, H, W, C, "dwconv7_bwd_weight");
	if (st != HD_OK)
		return st;
	a.part = static_cast<float *>(work);
	a.dy = dy;
	a.x = x;
	a.pieces = pieces_of(N, H, C);
	a.stream = hd_cuda_stream(stream);
	HD_BY_DTYPE(dwconv7_bwd_weight, dt, correlate_any<T>(a));
	int reach = W == 1 || W == 2 ? (int)W - 1 : REACH;
	unsigned grid = (unsigned)((SUMS * C + THREADS - 1) / THREADS);
	combine_kernel<<<grid, THREADS, 0, a.stream>>>(dk, db, a.part, beta, a.pieces, reach, a.m.C);
	return HD_CUDA_LAUNCHED(dwconv7_bwd_weight);
}
