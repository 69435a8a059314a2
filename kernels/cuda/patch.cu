/* SPDX-License-Identifier: Apache-2.0 */
/* Patches of a map to rows and back. A patch row of p*C floats is contiguous on both sides. */
#include "kernels/cuda/cuda.h"

namespace
{

constexpr int LANES = 32;
constexpr int ROWS = 8;

/* Sizes in units of V, the vector that a thread moves. */
struct sizes {
	unsigned rows; /* map rows with patches: N * H/p * p, or all: N * H */
	unsigned H;
	unsigned width;  /* of a map row: W*C */
	unsigned used;   /* of it in patches: W/p * p*C */
	unsigned run;    /* of a patch row: p*C */
	unsigned across; /* patches across: W/p */
	unsigned down;   /* patches down: H/p */
	unsigned p;
};

/* Where element j of row i of the patches in line `line` (of all N * H/p) lies in cols. */
__device__ size_t patch_offset(sizes z, unsigned line, unsigned i, unsigned j)
{
	return (((size_t)line * z.across + j / z.run) * z.p + i) * z.run + j % z.run;
}

/*
 * cols  out (N,H/p,W/p,p,p,C), x in (N,H,W,C), both aligned to V
 *
 * A warp moves the part of one map row that lies in patches. Exact. 8 bytes per element.
 * Block (LANES, ROWS), grid rows/ROWS, no shared memory. Goal: 85 % of the copy rate.
 */
template <typename V>
__global__ void __launch_bounds__(LANES *ROWS) gather_kernel(V *__restrict__ cols, const V *__restrict__ x, sizes z)
{
	unsigned row = blockIdx.x * ROWS + threadIdx.y;
	if (row >= z.rows)
		return;
	unsigned line = row / z.p, i = row % z.p, n = line / z.down, h = line % z.down * z.p + i;
	const V *in = x + ((size_t)n * z.H + h) * z.width;
	for (unsigned j = threadIdx.x; j < z.used; j += LANES)
		cols[patch_offset(z, line, i, j)] = in[j];
}

/*
 * dx  out (N,H,W,C), dcols in (N,H/p,W/p,p,p,C), both aligned to V
 *
 * The reverse; zero where no patch lies. Exact. 8 bytes per element.
 * Block (LANES, ROWS), grid rows/ROWS, no shared memory. Goal: 85 % of the copy rate.
 */
template <typename V>
__global__ void __launch_bounds__(LANES *ROWS) scatter_kernel(V *__restrict__ dx, const V *__restrict__ dcols, sizes z)
{
	unsigned row = blockIdx.x * ROWS + threadIdx.y;
	if (row >= z.rows)
		return;
	unsigned n = row / z.H, h = row % z.H, line = n * z.down + h / z.p;
	unsigned used = h / z.p < z.down ? z.used : 0;
	V *out = dx + (size_t)row * z.width;
	for (unsigned j = threadIdx.x; j < z.width; j += LANES)
		out[j] = j < used ? dcols[patch_offset(z, line, h % z.p, j)] : V{};
}

/* Sizes in float4 where all patch rows start on one, else in floats; *wide tells which. */
hd_status size_up(sizes *z, bool *wide, int64_t rows, int64_t H, int64_t W, int64_t C, int64_t p, const char *op)
{
	if (rows > INT32_MAX || W * C > INT32_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "%s: 2^31 map rows or elements of a row are too many", op);
	*wide = p * C % 4 == 0 && W * C % 4 == 0;
	unsigned unit = *wide ? 4 : 1;
	*z = {(unsigned)rows, (unsigned)H, (unsigned)(W * C) / unit, (unsigned)(W / p * p * C) / unit,
	        (unsigned)(p * C) / unit, (unsigned)(W / p), (unsigned)(H / p), (unsigned)p};
	return HD_OK;
}

} /* namespace */

hd_status hd_cuda_patch_gather(void *cols, const void *x, hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C,
        int64_t p, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(patch_gather, dt);
	cudaStream_t on = hd_cuda_stream(stream);
	sizes z = {};
	bool wide = false;
	if (N * (H / p) * (W / p) * C == 0)
		return HD_OK;
	hd_status st = size_up(&z, &wide, N * (H / p) * p, H, W, C, p, "patch_gather");
	if (st != HD_OK)
		return st;
	unsigned grid = (z.rows + ROWS - 1) / ROWS;
	if (wide)
		gather_kernel<float4><<<grid, dim3(LANES, ROWS), 0, on>>>(
		        static_cast<float4 *>(cols), static_cast<const float4 *>(x), z);
	else
		gather_kernel<float><<<grid, dim3(LANES, ROWS), 0, on>>>(
		        static_cast<float *>(cols), static_cast<const float *>(x), z);
	return HD_CUDA_LAUNCHED(patch_gather);
}

hd_status hd_cuda_patch_scatter(void *dx, const void *dcols, hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C,
        int64_t p, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(patch_scatter, dt);
	cudaStream_t on = hd_cuda_stream(stream);
	sizes z = {};
	bool wide = false;
	if (N * H * W * C == 0)
		return HD_OK;
	hd_status st = size_up(&z, &wide, N * H, H, W, C, p, "patch_scatter");
	if (st != HD_OK)
		return st;
	unsigned grid = (z.rows + ROWS - 1) / ROWS;
	if (wide)
		scatter_kernel<float4><<<grid, dim3(LANES, ROWS), 0, on>>>(
		        static_cast<float4 *>(dx), static_cast<const float4 *>(dcols), z);
	else
		scatter_kernel<float><<<grid, dim3(LANES, ROWS), 0, on>>>(
		        static_cast<float *>(dx), static_cast<const float *>(dcols), z);
	return HD_CUDA_LAUNCHED(patch_scatter);
}
