/* SPDX-License-Identifier: Apache-2.0 */
/* Layer scale, drop path and the skip connection in one pass. */
#include "kernels/cuda/reduce.cuh"

/*
 * y (N,P,C) out; x, residual (N,P,C), gamma (C), row_scale (N) or NULL in; float; W = 4: 16-byte aligned and
 * C % 4 == 0. Three roundings an element, deterministic.
 * FLOPs 3*N*P*C; bytes 4*(3*N*P*C + C + N). Launch: block (32,8), a block for 8 rows of N*P, grid at most 4096.
 * Goal: 85 % of the measured copy rate from 8192 x 192 on.
 */
template <int W>
static __global__ void forward(float *__restrict__ y, const float *__restrict__ x, const float *__restrict__ residual,
        const float *__restrict__ gamma, const float *__restrict__ row_scale, int64_t N, int64_t P, int64_t C)
{
	int64_t packs = C / W;
	for (int64_t r = (int64_t)blockIdx.x * HD_TILE_ROWS + threadIdx.y; r < N * P;
	        r += (int64_t)gridDim.x * HD_TILE_ROWS) {
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
 * dx (N,P,C), part (gridDim.y,C) out; dy, x (N,P,C), gamma (C), row_scale (N) or NULL in; float; W = 4: 16-byte aligned
 * and C % 4 == 0. part: sums of row_scale*dy*x over the rows of a piece.
 * Deterministic: thread row k of eight adds every eighth row of the piece in order, then the eight are added in order;
 * hd_cuda_combine adds the pieces.
 * FLOPs 5*N*P*C; bytes 4*(3*N*P*C + C + N + 2*pieces*C). Launch: grid (C/W/32 rounded up, min(128, N*P/8 rounded up)),
 * block (32,8); shared 1 KiB * W. Goal: 75 % of the measured copy rate from 8192 x 192 on.
 */
template <int W>
static __global__ void backward(float *__restrict__ dx, float *__restrict__ part, const float *__restrict__ dy,
        const float *__restrict__ x, const float *__restrict__ gamma, const float *__restrict__ row_scale, int64_t N,
        int64_t P, int64_t C)
{
	__shared__ hd_pack<W> sums[HD_TILE_ROWS][HD_TILE_COLUMNS];
	int64_t packs = C / W, c = (int64_t)blockIdx.x * HD_TILE_COLUMNS + threadIdx.x;
	int64_t first = (int64_t)blockIdx.y * (N * P) / gridDim.y,
	        end = ((int64_t)blockIdx.y + 1) * (N * P) / gridDim.y;
	hd_pack<W> sum = {};
	if (c < packs) {
		hd_pack<W> scale = hd_load<W>(gamma, c);
		for (int64_t r = first + threadIdx.y; r < end; r += HD_TILE_ROWS) {
			float keep = row_scale ? row_scale[r / P] : 1.0f;
			hd_pack<W> g = hd_load<W>(dy, r * packs + c), v = hd_load<W>(x, r * packs + c);
#pragma unroll
			for (int k = 0; k < W; k++) {
				g.v[k] *= keep;
				sum.v[k] += g.v[k] * v.v[k];
				g.v[k] *= scale.v[k];
			}
			hd_store<W>(dx, r * packs + c, g);
		}
	}
	sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();
	if (threadIdx.y == 0 && c < packs) {
		for (int row = 1; row < HD_TILE_ROWS; row++) {
#pragma unroll
			for (int k = 0; k < W; k++)
				sum.v[k] += sums[row][threadIdx.x].v[k];
		}
		hd_store<W>(part, blockIdx.y * packs + c, sum);
	}
}

template <int W>
static void launch_forward(float *y, const float *x, const float *residual, const float *gamma, const float *row_scale,
        int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	forward<W><<<hd_cuda_tile_grid(N * P), HD_TILE_BLOCK, 0, hd_cuda_stream(stream)>>>(
	        y, x, residual, gamma, row_scale, N, P, C);
}

extern "C" hd_status hd_cuda_scale_residual_fwd(void *y, const void *x, const void *residual, const float *gamma,
        const float *row_scale, hd_dtype dt, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(scale_residual_fwd, dt);
	bool wide = C % 4 == 0 && hd_cuda_aligned16(y) && hd_cuda_aligned16(x) && hd_cuda_aligned16(residual) &&
	            hd_cuda_aligned16(gamma);
	if (N > 0 && P > 0 && C > 0)
		(wide ? launch_forward<4> : launch_forward<1>)((float *)y, (const float *)x, (const float *)residual,
		        gamma, row_scale, N, P, C, stream);
	return HD_CUDA_LAUNCHED(scale_residual_fwd);
}

static unsigned pieces(int64_t N, int64_t P)
{
	return hd_cuda_blocks(N * P, HD_TILE_ROWS, HD_CUDA_PIECES);
}

extern "C" size_t hd_cuda_scale_residual_bwd_work(int64_t N, int64_t P, int64_t C)
{
	return (size_t)pieces(N, P) * (size_t)C * sizeof(float);
}

template <int W>
static void launch_backward(float *dx, float *part, const float *dy, const float *x, const float *gamma,
        const float *row_scale, int64_t N, int64_t P, int64_t C, hd_stream *stream)
{
	dim3 grid((unsigned)hd_divide_up(C / W, HD_TILE_COLUMNS), pieces(N, P));
	backward<W><<<grid, HD_TILE_BLOCK, 0, hd_cuda_stream(stream)>>>(dx, part, dy, x, gamma, row_scale, N, P, C);
}

extern "C" hd_status hd_cuda_scale_residual_bwd(void *dx, float *dgamma, const void *dy, const void *x,
        const float *gamma, const float *row_scale, float beta, void *work, hd_dtype dt, int64_t N, int64_t P,
        int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(scale_residual_bwd, dt);
	bool wide = C % 4 == 0 && hd_cuda_aligned16(dx) && hd_cuda_aligned16(dy) && hd_cuda_aligned16(x) &&
	            hd_cuda_aligned16(gamma) && hd_cuda_aligned16(work);
	unsigned made = 0;
	if (N > 0 && P > 0 && C > 0) {
		(wide ? launch_backward<4> : launch_backward<1>)((float *)dx, (float *)work, (const float *)dy,
		        (const float *)x, gamma, row_scale, N, P, C, stream);
		made = pieces(N, P);
	}
	hd_cuda_combine(dgamma, (const float *)work, beta, made, C, stream);
	return HD_CUDA_LAUNCHED(scale_residual_bwd);
}
