/* SPDX-License-Identifier: Apache-2.0 */
/* The second stage of sums over rows. */
#include "kernels/cuda/reduce.cuh"

#define COLUMNS 32
#define ROWS 16

/* A result with the sums of the pieces that it is made of. */
typedef struct column_sums {
	float *out;
	const float *part;
} column_sums;

/*
 * out (C) in and out, part (pieces,C) in, of the first where blockIdx.y is 0, else of the second; float, any alignment.
 * beta 0 does not read out.
 * Deterministic: thread row k of sixteen adds pieces k, k+16, ... in order, then the sixteen sums are added in order.
 * FLOPs pieces*C + C; bytes 4*(pieces*C + 2*C), of each. Launch: grid (C/32 rounded up, 1 or 2), block (32,16); shared
 * 2 KiB. Any sizes.
 * Goal: latency of one launch, as pieces*C is small beside what made it: the at most 8 pieces of a thread are on their
 * way together.
 */
static __global__ void __launch_bounds__(COLUMNS *ROWS)
        combine(column_sums first, column_sums second, float beta, int64_t pieces, int64_t C)
{
	__shared__ float sums[ROWS][COLUMNS];
	int64_t c = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
	float *__restrict__ out = blockIdx.y == 0 ? first.out : second.out;
	const float *__restrict__ part = blockIdx.y == 0 ? first.part : second.part;
	float sum = 0;
	if (c < C) {
#pragma unroll 8
		for (int64_t piece = threadIdx.y; piece < pieces; piece += ROWS)
			sum += part[piece * C + c];
	}
	sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();
	if (threadIdx.y == 0 && c < C) {
		for (int row = 1; row < ROWS; row++)
			sum += sums[row][threadIdx.x];
		out[c] = (beta == 0 ? 0.0f : beta * out[c]) + sum;
	}
}

static void launch(
        column_sums first, column_sums second, unsigned count, float beta, int64_t pieces, int64_t C, hd_stream *stream)
{
	dim3 grid((unsigned)hd_divide_up(C, COLUMNS), count);
	if (C > 0)
		combine<<<grid, dim3(COLUMNS, ROWS), 0, hd_cuda_stream(stream)>>>(first, second, beta, pieces, C);
}

void hd_cuda_combine(float *out, const float *part, float beta, int64_t pieces, int64_t C, hd_stream *stream)
{
	column_sums only = {out, part};
	launch(only, only, 1, beta, pieces, C, stream);
}

void hd_cuda_combine_two(float *first, float *second, const float *first_part, const float *second_part, float beta,
        int64_t pieces, int64_t C, hd_stream *stream)
{
	launch({first, first_part}, {second, second_part}, 2, beta, pieces, C, stream);
}
