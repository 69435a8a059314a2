/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BatchNorm1d (Ioffe and Szegedy 2015): blocks of columns, over whose rows one thread adds in order and in double. The
 * bits do not depend on the threads.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define BLOCK 64 /* columns: four cache lines of floats, which the prefetcher follows */

static int64_t block_width(int64_t at, int64_t C)
{
	return C - at < BLOCK ? C - at : BLOCK;
}

static int64_t count_rows(const float *weight, int64_t N)
{
	int64_t count = 0;
	for (int64_t n = 0; n < N; n++)
		count += weight[n] != 0;
	return count;
}

/* Mean and biased variance of `width` columns; x: the block's first column. */
static void column_moments(double mean[BLOCK], double variance[BLOCK], const float *x, const float *weight,
        int64_t count, int64_t N, int64_t C, int64_t width)
{
	for (int64_t c = 0; c < BLOCK; c++)
		mean[c] = variance[c] = 0;
	if (!count)
		return;
	for (int64_t n = 0; n < N; n++)
		for (int64_t c = 0; weight[n] != 0 && c < width; c++)
			mean[c] += (double)x[n * C + c];
	for (int64_t c = 0; c < width; c++)
		mean[c] /= (double)count;
	for (int64_t n = 0; n < N; n++)
		for (int64_t c = 0; weight[n] != 0 && c < width; c++)
			variance[c] += ((double)x[n * C + c] - mean[c]) * ((double)x[n * C + c] - mean[c]);
	for (int64_t c = 0; c < width; c++)
		variance[c] /= (double)count;
}

/* All rows of a block; x, y, gamma, bias: at its first column. */
static void normalise(float *restrict y, const float *restrict x, const double mean[BLOCK], const double rstd[BLOCK],
        const float *restrict gamma, const float *restrict bias, int64_t N, int64_t C, int64_t width)
{
	for (int64_t n = 0; n < N; n++)
		for (int64_t c = 0; c < width; c++)
			y[n * C + c] = (float)(((double)x[n * C + c] - mean[c]) * rstd[c] * (double)gamma[c] +
			                       (double)bias[c]);
}

static float blend(float running, double fresh, float momentum)
{
	return (float)((1 - (double)momentum) * (double)running + (double)momentum * fresh);
}

hd_status HD_CPU(batchnorm_fwd)(float *y, float *mean, float *rstd, float *running_mean, float *running_var,
        const float *x, const float *gamma, const float *bias, const float *weight, float momentum, float eps,
        int64_t N, int64_t C, hd_stream *stream)
{
	(void)stream;
	int64_t count = count_rows(weight, N);
#pragma omp parallel for schedule(static) if (N * C > HD_PARALLEL_MIN)
	for (int64_t at = 0; at < C; at += BLOCK) {
		double mu[BLOCK], variance[BLOCK], scale[BLOCK];
		int64_t width = block_width(at, C);
		column_moments(mu, variance, x + at, weight, count, N, C, width);
		for (int64_t c = 0; c < width; c++) {
			scale[c] = 1 / sqrt(variance[c] + (double)eps);
			mean[at + c] = (float)mu[c];
			rstd[at + c] = (float)scale[c];
			if (count < 2)
				continue;
			double unbiased = variance[c] * (double)count / (double)(count - 1);
			running_mean[at + c] = blend(running_mean[at + c], mu[c], momentum);
			running_var[at + c] = blend(running_var[at + c], unbiased, momentum);
		}
		normalise(y + at, x + at, mu, scale, gamma + at, bias + at, N, C, width);
	}
	return HD_OK;
}

/* sum = sum dy, dot = sum dy * xhat over the rows that count; dy and x: the block's first column. */
static void column_sums(double sum[BLOCK], double dot[BLOCK], const float *dy, const float *x, const float *mean,
        const float *rstd, const float *weight, int64_t N, int64_t C, int64_t width)
{
	for (int64_t c = 0; c < BLOCK; c++)
		sum[c] = dot[c] = 0;
	for (int64_t n = 0; n < N; n++)
		for (int64_t c = 0; weight[n] != 0 && c < width; c++) {
			double g = (double)dy[n * C + c];
			sum[c] += g;
			dot[c] += g * ((double)x[n * C + c] - (double)mean[c]) * (double)rstd[c];
		}
}

/* dx = gamma * rstd * (dy - mean(dy) - xhat * mean(dy * xhat)) of one row's block; sum, dot: the means. */
static void row_backward(float *restrict dx, const float *restrict dy, const float *restrict x,
        const float *restrict mean, const float *restrict rstd, const float *restrict gamma, const double sum[BLOCK],
        const double dot[BLOCK], int64_t width)
{
	for (int64_t c = 0; c < width; c++) {
		double scale = (double)rstd[c], xhat = ((double)x[c] - (double)mean[c]) * scale;
		dx[c] = (float)((double)gamma[c] * scale * ((double)dy[c] - sum[c] - xhat * dot[c]));
	}
}

hd_status HD_CPU(batchnorm_bwd)(float *dx, float *dgamma, float *dbias, const float *dy, const float *x,
        const float *mean, const float *rstd, const float *gamma, const float *weight, float beta, int64_t N, int64_t C,
        hd_stream *stream)
{
	(void)stream;
	double count = (double)count_rows(weight, N);
#pragma omp parallel for schedule(static) if (N * C > HD_PARALLEL_MIN)
	for (int64_t at = 0; at < C; at += BLOCK) {
		double sum[BLOCK], dot[BLOCK];
		int64_t width = block_width(at, C);
		column_sums(sum, dot, dy + at, x + at, mean + at, rstd + at, weight, N, C, width);
		for (int64_t c = 0; c < width; c++) {
			float *dg = &dgamma[at + c], *db = &dbias[at + c];
			*dg = (float)((beta == 0 ? 0 : (double)beta * (double)*dg) + dot[c]);
			*db = (float)((beta == 0 ? 0 : (double)beta * (double)*db) + sum[c]);
			dot[c] /= count;
			sum[c] /= count;
		}
		for (int64_t i = at; i < N * C; i += C) {
			if (weight[i / C] != 0)
				row_backward(dx + i, dy + i, x + i, mean + at, rstd + at, gamma + at, sum, dot, width);
			else
				memset(dx + i, 0, (size_t)width * sizeof *dx);
		}
	}
	return HD_OK;
}

hd_status HD_CPU(batchnorm_apply)(float *y, const float *x, const float *running_mean, const float *running_var,
        const float *gamma, const float *bias, float eps, int64_t N, int64_t C, hd_stream *stream)
{
	(void)stream;
#pragma omp parallel for schedule(static) if (N * C > HD_PARALLEL_MIN)
	for (int64_t at = 0; at < C; at += BLOCK) {
		double mu[BLOCK], scale[BLOCK];
		int64_t width = block_width(at, C);
		for (int64_t c = 0; c < width; c++) {
			mu[c] = (double)running_mean[at + c];
			scale[c] = 1 / sqrt((double)running_var[at + c] + (double)eps);
		}
		normalise(y + at, x + at, mu, scale, gamma + at, bias + at, N, C, width);
	}
	return HD_OK;
}
