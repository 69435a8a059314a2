/* SPDX-License-Identifier: Apache-2.0 */
/* Layer scale, drop path and the skip connection in one pass. */
#include "kernels/cuda/reduce.cuh"

/* Rows are counted in 32 bits, as a division of 64 takes as long as all else that a row's pack needs. */
#define FITS(op, N, P)                                                                                                 \
	do {                                                                                                           \
		if ((N) * (P) > INT32_MAX)                                                                             \
			return hd_cuda_fail(HD_E_UNSUPPORTED, "%s: more than 2^31 places", #op);                       \
	} while (0)

/*
 * y (N,P,C) out; x, residual (N,P,C) in, of T; gamma (C), row_scale (N) or NULL in, float; W > 1: 16-byte aligned and
 * C % W == 0. Three roundings an element and that to T, deterministic.
 * FLOPs 3*N*P*C; bytes 3*N*P*C*sizeof(T) + 4*(C + N). Launch: block (32,8), a block for 8 rows of N*P, grid at most
 * 4096. Goal: 85 % of the measured copy rate from 8192 x 192 on.
 */
template <typename T, int W>
static __global__ void __launch_bounds__(HD_TILE_COLUMNS *HD_TILE_ROWS) forward(T *__restrict__ y,
        const T *__restrict__ x, const T *__restrict__ residual, const float *__restrict__ gamma,
        const float *__restrict__ row_scale, unsigned rows, unsigned P, int64_t C)
{
	int64_t packs = C / W;
	for (unsigned r = blockIdx.x * HD_TILE_ROWS + threadIdx.y; r < rows; r += gridDim.x * HD_TILE_ROWS) {
		float keep = row_scale ? row_scale[r / P] : 1.0f;
		for (int64_t c = threadIdx.x; c < packs; c += HD_TILE_COLUMNS) {
			hd_pack<W> v = hd_load<W>(x, r * packs + c), skip = hd_load<W>(residual, r * packs + c);
			hd_pack<W> scale = hd_load<W>(gamma, c);
#pragma unroll
			for (int k = 0; k < W; k++)
				v.v[k] = skip.v[k] + keep * scale.v[k] * v.v[k];
			hd_store<W>(y, r * packs + c, v);
		}
	}
}

/*
 * dx (N,P,C) of T, part_gamma, part_bias (gridDim.y,C) float out; dgamma, db (C) float in and out; dy, x (N,P,C) of T,
 * gamma (C), row_scale (N) or NULL float in; counters (gridDim.x), 0 before and after; W > 1: 16-byte aligned and
 * C % W == 0. part_gamma: sums of row_scale*dy*x over the rows of a piece; BIAS: part_bias those of dx before it is
 * rounded. dgamma = beta * dgamma + the sums of the pieces, BIAS db too; neither is touched where counters is NULL.
 * Deterministic: thread row k of 32 adds every 32nd row of the piece in order, then the rows are added in order; the
 * last block of a group of columns adds the pieces in an order that is no block's own (hd_add_pieces).
 * FLOPs 5*N*P*C, BIAS 6*N*P*C; bytes 3*N*P*C*sizeof(T) + 4*(C + N) + 8*(pieces + 1)*C, BIAS 8*(pieces + 1)*C more.
 * Launch: grid (C/W/8 rounded up, min(128, N*P/64 rounded up)), block (8,32); shared W KiB. Goal: 75 % of the
 * measured copy rate from 8192 x 192 on.
 */
template <typename T, int W, bool BIAS>
static __global__ void __launch_bounds__(HD_SUM_THREADS)
        backward(T *__restrict__ dx, float *dgamma, float *db, float *part_gamma, float *part_bias, unsigned *counters,
                const T *__restrict__ dy, const T *__restrict__ x, const float *__restrict__ gamma,
                const float *__restrict__ row_scale, float beta, unsigned rows, unsigned P, int64_t C)
{
	__shared__ hd_pack<W> sums[HD_SUM_ROWS][HD_SUM_PACKS];
	int64_t packs = C / W, c = (int64_t)blockIdx.x * HD_SUM_PACKS + threadIdx.x;
	unsigned first = (unsigned)((uint64_t)blockIdx.y * rows / gridDim.y),
	         end = (unsigned)((blockIdx.y + (uint64_t)1) * rows / gridDim.y);
	hd_pack<W> sum = {}, bias = {};
	if (c < packs) {
		hd_pack<W> scale = hd_load<W>(gamma, c);
#pragma unroll 2
		for (unsigned r = first + threadIdx.y; r < end; r += HD_SUM_ROWS) {
			float keep = row_scale ? row_scale[r / P] : 1.0f;
			hd_pack<W> g = hd_load<W>(dy, r * packs + c), v = hd_load<W>(x, r * packs + c);
#pragma unroll
			for (int k = 0; k < W; k++) {
				g.v[k] *= keep;
				sum.v[k] += g.v[k] * v.v[k];
				g.v[k] *= scale.v[k];
				bias.v[k] += g.v[k];
			}
			hd_store<W>(dx, r * packs + c, g);
		}
	}
	hd_sum_rows<W>(part_gamma, sums, sum, C);
	if (BIAS) {
		__syncthreads();
		hd_sum_rows<W>(part_bias, sums, bias, C);
	}
	if (counters && hd_last_block(counters + blockIdx.x, gridDim.y)) {
		hd_add_pieces<W>(dgamma, part_gamma, beta, sums, C);
		if (BIAS)
			hd_add_pieces<W>(db, part_bias, beta, sums, C);
	}
}

template <typename T, int W>
static void launch_forward(T *y, const T *x, const T *residual, const float *gamma, const float *row_scale, int64_t N,
        int64_t P, int64_t C, hd_stream *stream)
{
	forward<T, W><<<hd_cuda_tile_grid(N * P), HD_TILE_BLOCK, 0, hd_cuda_stream(stream)>>>(
	        y, x, residual, gamma, row_scale, (unsigned)(N * P), (unsigned)P, C);
}

template <typename T>
static void start_forward(T *y, const T *x, const T *residual, const float *gamma, const float *row_scale, int64_t N,
        int64_t P, int64_t C, hd_stream *stream)
{
	constexpr int W = hd_width<T>::value;
	bool wide = C % W == 0 && hd_cuda_aligned16(y) && hd_cuda_aligned16(x) && hd_cuda_aligned16(residual) &&
	            hd_cuda_aligned16(gamma);
	(wide ? launch_forward<T, W> : launch_forward<T, 1>)(y, x, residual, gamma, row_scale, N, P, C, stream);
}

extern "C" hd_status hd_cuda_scale_residual_fwd(void *y, const void *x, const void *residual, const float *gamma,
        const float *row_scale, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	FITS(scale_residual_fwd, N, P);
	if (N > 0 && P > 0 && C > 0)
		HD_BY_DTYPE(scale_residual_fwd, dt,
		        start_forward<T>((T *)y, (const T *)x, (const T *)residual, gamma, row_scale, N, P, C, stream));
	return HD_CUDA_LAUNCHED(scale_residual_fwd);
}

/* Floats of the sums of one kind that scratch memory has room for. */
static int64_t part_size(int64_t N, int64_t P, int64_t C)
{
	return hd_cuda_pieces(N * P) * C;
}

extern "C" size_t hd_cuda_scale_residual_bwd_work(int64_t N, int64_t P, int64_t C)
{
	return 2 * (size_t)part_size(N, P, C) * sizeof(float);
}

/* db NULL: no such sums. */
template <typename T> struct backward_arguments {
	T *dx;
	float *dgamma, *db, *part_gamma, *part_bias;
	const T *dy, *x;
	const float *gamma, *row_scale;
	float beta;
	int64_t N, P, C;
	hd_stream *stream;
};

/* What the kernel has not done, or could not do as there are no rows. */
template <typename T> static void combine(const backward_arguments<T> &a, unsigned pieces)
{
	if (a.db)
		hd_cuda_combine_two(a.dgamma, a.db, a.part_gamma, a.part_bias, a.beta, pieces, a.C, a.stream);
	else
		hd_cuda_combine(a.dgamma, a.part_gamma, a.beta, pieces, a.C, a.stream);
}

template <typename T, int W, bool BIAS> static void launch_backward(const backward_arguments<T> &a)
{
	unsigned rows = (unsigned)(a.N * a.P), pieces = hd_cuda_pieces(rows), groups = hd_cuda_sum_groups<W>(a.C);
	unsigned *counters = hd_cuda_counters(a.stream, groups);
	backward<T, W, BIAS><<<dim3(groups, pieces), HD_SUM_BLOCK, 0, hd_cuda_stream(a.stream)>>>(a.dx, a.dgamma, a.db,
	        a.part_gamma, a.part_bias, counters, a.dy, a.x, a.gamma, a.row_scale, a.beta, rows, (unsigned)a.P, a.C);
	if (!counters)
		combine<T>(a, pieces);
}

template <typename T> static void start_backward(const backward_arguments<T> &a)
{
	constexpr int W = hd_width<T>::value;
	bool wide = a.C % W == 0 && hd_cuda_aligned16(a.dx) && hd_cuda_aligned16(a.dy) && hd_cuda_aligned16(a.x) &&
	            hd_cuda_aligned16(a.gamma);
	if (a.N == 0 || a.P == 0 || a.C == 0)
		combine<T>(a, 0);
	else if (a.db)
		(wide ? launch_backward<T, W, true> : launch_backward<T, 1, true>)(a);
	else
		(wide ? launch_backward<T, W, false> : launch_backward<T, 1, false>)(a);
}

extern "C" hd_status hd_cuda_scale_residual_bwd(void *dx, float *dgamma, float *db, const void *dy, const void *x,
        const float *gamma, const float *row_scale, float beta, void *work, hd_dtype dt, int64_t N, int64_t P,
        int64_t C, hd_stream *stream)
{
	float *part_gamma = (float *)work, *part_bias = db ? part_gamma + part_size(N, P, C) : NULL;
	FITS(scale_residual_bwd, N, P);
	HD_BY_DTYPE(scale_residual_bwd, dt,
	        start_backward<T>({(T *)dx, dgamma, db, part_gamma, part_bias, (const T *)dy, (const T *)x, gamma,
	                row_scale, beta, N, P, C, stream}));
	return HD_CUDA_LAUNCHED(scale_residual_bwd);
}
