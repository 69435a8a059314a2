/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depthwise 7x7 convolution, NHWC, reading only the taps inside the map. Channels are taken in strips whose
 * sums stay in registers over all taps: 40 or 32 wide to hide the latency of the additions, then 8, then 1.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"

#define TAPS 7
#define REACH 3
#define WIDEST 40
#define WIDE 32
#define NARROW 8

typedef struct map {
	int64_t H, W, C;
} map;

static inline int64_t low(int64_t at)
{
	return at < REACH ? REACH - at : 0;
}

static inline int64_t high(int64_t at, int64_t size)
{
	return at + REACH >= size ? size - at + REACH : TAPS;
}

/* Width of the next strip: 40 where it spares the narrow strips that 32 would leave. */
static inline int64_t strip_width(int64_t rest)
{
	if (rest >= WIDEST && rest % WIDE != 0)
		return WIDEST;
	return rest >= WIDE ? WIDE : rest >= NARROW ? NARROW : 1;
}

/*
 * One output position, `strip` channels: acc += sum of taps. sign +1 reads the tap (i,j) at (h+i-3, w+j-3),
 * -1 reads the tap (6-i, 6-j) there, which is the transposed convolution.
 */
#define DEFINE_TAPS(strip)                                                                                             \
	static inline void taps_##strip(float *restrict y, const float *restrict x, const float *restrict k, map m,    \
	        int64_t h, int64_t w, int sign)                                                                        \
	{                                                                                                              \
		float acc[strip];                                                                                      \
		for (int c = 0; c < (strip); c++)                                                                      \
			acc[c] = y[c];                                                                                 \
		for (int64_t i = low(h); i < high(h, m.H); i++) {                                                      \
			for (int64_t j = low(w); j < high(w, m.W); j++) {                                              \
				const float *xt = x + ((h + i - REACH) * m.W + w + j - REACH) * m.C;                   \
				const float *kt =                                                                      \
				        k + (sign > 0 ? i * TAPS + j : TAPS * TAPS - 1 - i * TAPS - j) * m.C;          \
				for (int c = 0; c < (strip); c++)                                                      \
					acc[c] += kt[c] * xt[c];                                                       \
			}                                                                                              \
		}                                                                                                      \
		for (int c = 0; c < (strip); c++)                                                                      \
			y[c] = acc[c];                                                                                 \
	}
DEFINE_TAPS(40)
DEFINE_TAPS(32)
DEFINE_TAPS(8)
DEFINE_TAPS(1)

/* All positions and channels of image row h; y holds what the taps are added to. */
static void convolve_row(float *y, const float *x, const float *k, map m, int64_t h, int sign)
{
	float *row = y + h * m.W * m.C;
	for (int64_t c = 0, strip; c < m.C; c += strip) {
		strip = strip_width(m.C - c);
		for (int64_t w = 0; w < m.W; w++) {
			float *at = row + w * m.C + c;
			if (strip == WIDEST)
				taps_40(at, x + c, k + c, m, h, w, sign);
			else if (strip == WIDE)
				taps_32(at, x + c, k + c, m, h, w, sign);
			else if (strip == NARROW)
				taps_8(at, x + c, k + c, m, h, w, sign);
			else
				taps_1(at, x + c, k + c, m, h, w, sign);
		}
	}
}

hd_status HD_CPU(dwconv7_fwd)(void *y, const void *x, const float *k, const float *b, hd_dtype dt, int64_t N, int64_t H,
        int64_t W, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(dwconv7_fwd)(y, x, k, b, HD_F32, N, H, W, C, stream), HD_WRITES(y, N * H * W * C),
	        HD_READS(x, N * H * W * C));
	map m = {H, W, C};
#pragma omp parallel for collapse(2) schedule(static) if (N * H * W * C > HD_PARALLEL_MIN / 8)
	for (int64_t n = 0; n < N; n++) {
		for (int64_t h = 0; h < H; h++) {
			float *out = (float *)y + n * H * W * C;
			for (int64_t w = 0; w < W; w++)
				memcpy(out + (h * W + w) * C, b, (size_t)C * sizeof(float));
			convolve_row(out, (const float *)x + n * H * W * C, k, m, h, 1);
		}
	}
	return HD_OK;
}

hd_status HD_CPU(dwconv7_bwd_data)(void *dx, const void *dy, const float *k, const void *residual, hd_dtype dt,
        int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(dwconv7_bwd_data)(dx, dy, k, residual, HD_F32, N, H, W, C, stream),
	        HD_WRITES(dx, N * H * W * C), HD_READS(dy, N * H * W * C), HD_READS(residual, N * H * W * C));
	map m = {H, W, C};
	size_t row_bytes = (size_t)(W * C) * sizeof(float);
#pragma omp parallel for collapse(2) schedule(static) if (N * H * W * C > HD_PARALLEL_MIN / 8)
	for (int64_t n = 0; n < N; n++) {
		for (int64_t h = 0; h < H; h++) {
			float *out = (float *)dx + n * H * W * C;
			if (residual)
				memcpy(out + h * W * C, (const float *)residual + (n * H + h) * W * C, row_bytes);
			else
				memset(out + h * W * C, 0, row_bytes);
			convolve_row(out, (const float *)dy + n * H * W * C, k, m, h, -1);
		}
	}
	return HD_OK;
}

/* Rows of the partial sums: 49 taps and the bias. */
#define SUMS (TAPS * TAPS + 1)

size_t HD_CPU(dwconv7_bwd_weight_work)(int64_t N, int64_t H, int64_t W, int64_t C)
{
	(void)N;
	(void)H;
	(void)W;
	return (size_t)(HD_PIECES * SUMS * C) * sizeof(float);
}

/* sum (+)= over the positions of one image where tap (i,j) is inside, `strip` channels. */
#define DEFINE_CORRELATE(strip)                                                                                        \
	static inline void correlate_##strip(                                                                          \
	        float *restrict sum, const float *restrict dy, const float *restrict x, map m, int64_t i, int64_t j)   \
	{                                                                                                              \
		float acc[strip];                                                                                      \
		int64_t di = i - REACH, dj = j - REACH;                                                                \
		int64_t h0 = di < 0 ? -di : 0, h1 = di > 0 ? m.H - di : m.H;                                           \
		int64_t w0 = dj < 0 ? -dj : 0, w1 = dj > 0 ? m.W - dj : m.W;                                           \
		for (int c = 0; c < (strip); c++)                                                                      \
			acc[c] = sum[c];                                                                               \
		for (int64_t h = h0; h < h1; h++) {                                                                    \
			for (int64_t w = w0; w < w1; w++) {                                                            \
				const float *g = dy + (h * m.W + w) * m.C;                                             \
				const float *v = x + ((h + di) * m.W + w + dj) * m.C;                                  \
				for (int c = 0; c < (strip); c++)                                                      \
					acc[c] += g[c] * v[c];                                                         \
			}                                                                                              \
		}                                                                                                      \
		for (int c = 0; c < (strip); c++)                                                                      \
			sum[c] = acc[c];                                                                               \
	}
DEFINE_CORRELATE(40)
DEFINE_CORRELATE(32)
DEFINE_CORRELATE(8)
DEFINE_CORRELATE(1)

/* Whether tap (i,j) meets the map for any output position; on small maps most do not. */
static inline int tap_meets(int64_t tap, map m)
{
	int64_t di = tap / TAPS - REACH, dj = tap % TAPS - REACH;
	return di > -m.H && di < m.H && dj > -m.W && dj < m.W;
}

static void correlate_image(float *part, const float *dy, const float *x, map m)
{
	for (int64_t tap = 0; tap < TAPS * TAPS; tap++) {
		if (!tap_meets(tap, m))
			continue;
		float *sum = part + tap * m.C;
		int64_t i = tap / TAPS, j = tap % TAPS;
		for (int64_t c = 0, strip; c < m.C; c += strip) {
			strip = strip_width(m.C - c);
			if (strip == WIDEST)
				correlate_40(sum + c, dy + c, x + c, m, i, j);
			else if (strip == WIDE)
				correlate_32(sum + c, dy + c, x + c, m, i, j);
			else if (strip == NARROW)
				correlate_8(sum + c, dy + c, x + c, m, i, j);
			else
				correlate_1(sum + c, dy + c, x + c, m, i, j);
		}
	}
	float *bias = part + (int64_t)TAPS * TAPS * m.C;
	for (int64_t p = 0; p < m.H * m.W; p++) {
#pragma omp simd
		for (int64_t c = 0; c < m.C; c++)
			bias[c] += dy[p * m.C + c];
	}
}

/* out (C) = beta*out + the pieces' sums of one row (tap or bias); the first piece's sums are used up. */
static void combine_row(float *restrict out, float *restrict part, float beta, int64_t C)
{
	for (int64_t piece = 1; piece < HD_PIECES; piece++) {
#pragma omp simd
		for (int64_t c = 0; c < C; c++)
			part[c] += part[piece * SUMS * C + c];
	}
	for (int64_t c = 0; c < C; c++)
		out[c] = (beta == 0 ? 0 : beta * out[c]) + part[c];
}

hd_status HD_CPU(dwconv7_bwd_weight)(float *dk, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt, HD_CPU(dwconv7_bwd_weight)(dk, db, dy, x, beta, work, HD_F32, N, H, W, C, stream),
	        HD_READS(dy, N * H * W * C), HD_READS(x, N * H * W * C));
	map m = {H, W, C};
	float *part = work;
	int64_t image = H * W * C;
#pragma omp parallel if (N * image > HD_PARALLEL_MIN / 8)
	{
#pragma omp for schedule(static)
		for (int64_t piece = 0; piece < HD_PIECES; piece++) {
			float *sums = part + piece * SUMS * C;
			for (int64_t tap = 0; tap < SUMS; tap++)
				if (tap == TAPS * TAPS || tap_meets(tap, m))
					memset(sums + tap * C, 0, (size_t)C * sizeof(float));
			for (int64_t n = hd_piece_start(piece, N); n < hd_piece_start(piece + 1, N); n++)
				correlate_image(sums, (const float *)dy + n * image, (const float *)x + n * image, m);
		}
#pragma omp for schedule(static)
		for (int64_t tap = 0; tap < SUMS; tap++) {
			float *out = tap < TAPS * TAPS ? dk + tap * C : db;
			if (tap == TAPS * TAPS || tap_meets(tap, m))
				combine_row(out, part + tap * C, beta, C);
			else
				for (int64_t c = 0; c < C; c++)
					out[c] = beta == 0 ? 0 : beta * out[c];
		}
	}
	return HD_OK;
}
