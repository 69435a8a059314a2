/* SPDX-License-Identifier: Apache-2.0 */
/* The second stage of sums over rows. */
#include "kernels/cuda/reduce.cuh"

#define COLUMNS 32
#define ROWS 8

/*
 * out (C) in and out, part (pieces,C) in; float, any alignment. beta 0 does not read out.
 * Deterministic: thread row k of eight adds pieces k, k+8, ... in order, then the eight sums are added in order.
 * FLOPs pieces*C + C; bytes 4*(pieces*C + 2*C). Launch: grid C/32 rounded up, block (32,8); shared 1 KiB. Any sizes.
 * Goal: latency of one launch, as pieces*C is small beside what made it.
 */
static __global__ void combine(
        float *__restrict__ out, const float *__restrict__ part, float beta, int64_t pieces, int64_t C)
{
	__shared__ float sums[ROWS][COLUMNS];
	int64_t c = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
	float sum = 0;
	if (c < C)
		for (int64_t piece = threadIdx.y; piece < pieces; piece += ROWS)
			sum += part[piece * C + c];
	sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();
	if (threadIdx.y == 0 && c < C) {
		for (int row = 1; row < ROWS; row++)
			sum += sums[row][threadIdx.x];
		out[c] = (beta == 0 ? 0.0f : beta * out[c]) + sum;
	}
}

void hd_cuda_combine(float *out, const float *part, float beta, int64_t pieces, int64_t C, hd_stream *stream)
{
	if (C == 0)
		return;
	combine<<<(unsigned)hd_divide_up(C, COLUMNS), dim3(COLUMNS, ROWS), 0, hd_cuda_stream(stream)>>>(
	        out, part, beta, pieces, C);
}
