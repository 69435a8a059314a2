/* SPDX-License-Identifier: Apache-2.0 */
/* Cepstrum of mel levels: a small matrix times every recording's map. */
#include "kernels/cuda/cuda.h"

namespace
{

constexpr int TILE = 32;          /* frames, coefficients and mels of a tile */
constexpr int ROWS = 8;           /* warps of a block, each a coefficient at a time */
constexpr int EACH = TILE / ROWS; /* coefficients of a thread */

/*
 * out     out (R,H,T) float
 * db      in  (R,M,T) float
 * dct     in  (K,M) float
 *
 * A block makes TILE coefficients of TILE frames of one recording. Levels and matrix come through shared memory, TILE
 * mels at a time; a level is used for EACH coefficients of a thread, a weight by all lanes of a warp. Each sum runs in
 * the order of the mels, so the bits do not depend on the grid. Rows >= K are written as zeros.
 * FLOPs 2 R K M T; bytes 4 R T (M ceil(H/TILE) + H), the matrix being read from the cache.
 * Block (TILE, ROWS), grid (R ceil(T/TILE), ceil(H/TILE)), shared memory 8.3 KB. Goal: 60 % of the copy rate up to 32
 * coefficients.
 */
__global__ void __launch_bounds__(TILE *ROWS) mfcc_kernel(float *__restrict__ out, const float *__restrict__ db,
        const float *__restrict__ dct, int M, int K, int H, int T, int tiles)
{
	__shared__ float levels[TILE][TILE];
	__shared__ float weights[TILE][TILE + 1];
	int lane = (int)threadIdx.x, warp = (int)threadIdx.y;
	size_t r = blockIdx.x / tiles;
	int t = (int)(blockIdx.x % tiles) * TILE + lane, base = (int)blockIdx.y * TILE;
	const float *in = db + r * M * T;
	float sum[EACH] = {0};
	for (int from = 0; from < M && base < K; from += TILE) {
		for (int row = warp; row < TILE; row += ROWS) {
			bool level = from + row < M && t < T, weight = base + row < K && from + lane < M;
			levels[row][lane] = level ? in[(size_t)(from + row) * T + t] : 0.0f;
			weights[row][lane] = weight ? dct[(size_t)(base + row) * M + from + lane] : 0.0f;
		}
		__syncthreads();
		int mels = M - from < TILE ? M - from : TILE;
		for (int m = 0; m < mels; m++)
#pragma unroll
			for (int i = 0; i < EACH; i++)
				sum[i] = fmaf(weights[warp + i * ROWS][m], levels[m][lane], sum[i]);
		__syncthreads();
	}
#pragma unroll
	for (int i = 0; i < EACH; i++) {
		int k = base + warp + i * ROWS;
		if (k < H && t < T)
			out[(r * H + k) * T + t] = k < K ? sum[i] : 0.0f;
	}
}

} /* namespace */

extern "C" hd_status hd_cuda_mfcc(float *out, const float *db, const float *dct, int64_t R, int64_t M, int64_t K,
        int64_t H, int64_t T, hd_stream *stream)
{
	constexpr int64_t most_rows = (int64_t)TILE * 65535;
	int64_t tiles = (T + TILE - 1) / TILE;
	if (R == 0 || H == 0 || T == 0)
		return HD_OK;
	if (R * tiles > INT32_MAX || M > INT32_MAX || T > INT32_MAX || H > most_rows)
		return hd_cuda_fail(
		        HD_E_UNSUPPORTED, "mfcc: more than 2^31 frames or mels, or 2^21 coefficients, at once");
	dim3 grid((unsigned)(R * tiles), (unsigned)((H + TILE - 1) / TILE));
	mfcc_kernel<<<grid, dim3(TILE, ROWS), 0, hd_cuda_stream(stream)>>>(
	        out, db, dct, (int)M, (int)K, (int)H, (int)T, (int)tiles);
	return HD_CUDA_LAUNCHED(mfcc);
}
