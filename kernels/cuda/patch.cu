/* SPDX-License-Identifier: Apache-2.0 */
/* Patches of a map to rows and back. A patch row of p*C elements is contiguous on both sides; bytes are moved, whatever
 * they stand for. */
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
 * A warp moves the part of one map row that lies in patches. Exact. Twice the size of an element each.
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
 * The reverse; zero where no patch lies. Exact. Twice the size of an element each.
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

/* Bytes that a thread moves at once: as many as all patch rows start on. */
int unit_bytes(hd_dtype dt, int64_t W, int64_t C, int64_t p)
{
	int64_t bytes = dt == HD_F32 ? 4 : 2, row = W * C * bytes, run = p * C * bytes;
	return row % 16 == 0 && run % 16 == 0 ? 16 : row % 4 == 0 && run % 4 == 0 ? 4 : 2;
}

/* Sizes in units of `unit` bytes. */
hd_status size_up(
        sizes *z, int unit, hd_dtype dt, int64_t rows, int64_t H, int64_t W, int64_t C, int64_t p, const char *op)
{
	if (dt != HD_F32 && dt != HD_BF16 && dt != HD_F16)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "%s: activations are float32, bfloat16 or half", op);
	if (rows > INT32_MAX || W * C > INT32_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "%s: 2^31 map rows or elements of a row are too many", op);
	int64_t bytes = dt == HD_F32 ? 4 : 2;
	*z = {(unsigned)rows, (unsigned)H, (unsigned)(W * C * bytes / unit), (unsigned)(W / p * p * C * bytes / unit),
	        (unsigned)(p * C * bytes / unit), (unsigned)(W / p), (unsigned)(H / p), (unsigned)p};
	return HD_OK;
}

template <typename V> void gather(void *cols, const void *x, sizes z, cudaStream_t stream)
{
	unsigned grid = (z.rows + ROWS - 1) / ROWS;
	gather_kernel<V><<<grid, dim3(LANES, ROWS), 0, stream>>>(static_cast<V *>(cols), static_cast<const V *>(x), z);
}

template <typename V> void scatter(void *dx, const void *dcols, sizes z, cudaStream_t stream)
{
	unsigned grid = (z.rows + ROWS - 1) / ROWS;
	scatter_kernel<V>
	        <<<grid, dim3(LANES, ROWS), 0, stream>>>(static_cast<V *>(dx), static_cast<const V *>(dcols), z);
}

} /* namespace */

hd_status hd_cuda_patch_gather(void *cols, const void *x, hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C,
        int64_t p, hd_stream *stream)
{
	cudaStream_t on = hd_cuda_stream(stream);
	int unit = unit_bytes(dt, W, C, p);
	sizes z = {};
	if (N * (H / p) * (W / p) * C == 0)
		return HD_OK;
	hd_status st = size_up(&z, unit, dt, N * (H / p) * p, H, W, C, p, "patch_gather");
	if (st != HD_OK)
		return st;
	if (unit == 16)
		gather<uint4>(cols, x, z, on);
	else if (unit == 4)
		gather<uint32_t>(cols, x, z, on);
	else
		gather<uint16_t>(cols, x, z, on);
	return HD_CUDA_LAUNCHED(patch_gather);
}

hd_status hd_cuda_patch_scatter(void *dx, const void *dcols, hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C,
        int64_t p, hd_stream *stream)
{
	cudaStream_t on = hd_cuda_stream(stream);
	int unit = unit_bytes(dt, W, C, p);
	sizes z = {};
	if (N * H * W * C == 0)
		return HD_OK;
	hd_status st = size_up(&z, unit, dt, N * H, H, W, C, p, "patch_scatter");
	if (st != HD_OK)
		return st;
	if (unit == 16)
		scatter<uint4>(dx, dcols, z, on);
	else if (unit == 4)
		scatter<uint32_t>(dx, dcols, z, on);
	else
		scatter<uint16_t>(dx, dcols, z, on);
	return HD_CUDA_LAUNCHED(patch_scatter);
}
