/* SPDX-License-Identifier: Apache-2.0 */
/* Cached half-precision features to a normalised NHWC batch. */
#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/cpu/cpu.h"

#define VARIANCE_EPS 1e-8

/* Mean and 1/sqrt(variance + eps) of an (M,W) window of rows T long. */
static void window_statistics(const uint16_t *db, int64_t M, int64_t T, int64_t W, float *mean, float *rstd)
{
	double sum = 0, squares = 0;
	for (int64_t m = 0; m < M; m++)
		for (int64_t t = 0; t < W; t++)
			sum += (double)hd_half_to_float(db[m * T + t]);
	double mu = sum / (double)(M * W);
	for (int64_t m = 0; m < M; m++) {
		for (int64_t t = 0; t < W; t++) {
			double d = (double)hd_half_to_float(db[m * T + t]) - mu;
			squares += d * d;
		}
	}
	*mean = (float)mu;
	*rstd = (float)(1 / sqrt(squares / (double)(M * W) + VARIANCE_EPS));
}

static void assemble_channel(float *out, const uint16_t *db, const float *mean, const float *rstd, int64_t C, int64_t M,
        int64_t T, int64_t W)
{
	float own_mean = 0, own_rstd = 0;
	if (!mean)
		window_statistics(db, M, T, W, &own_mean, &own_rstd);
	for (int64_t m = 0; m < M; m++) {
		float mu = mean ? mean[m] : own_mean, scale = mean ? rstd[m] : own_rstd;
		for (int64_t t = 0; t < W; t++)
			out[(m * W + t) * C] = (hd_half_to_float(db[m * T + t]) - mu) * scale;
	}
}

hd_status HD_CPU(assemble_batch)(void *out, const uint16_t *db, const int32_t *index, const int32_t *start,
        const float *mean, const float *rstd, hd_dtype dt, int64_t N, int64_t C, int64_t M, int64_t T, int64_t W,
        hd_stream *stream)
{
	(void)stream;
	HD_ONLY_F32(dt);
#pragma omp parallel for schedule(static)
	for (int64_t n = 0; n < N; n++) {
		float *row = (float *)out + n * M * W * C;
		if (index[n] < 0) {
			memset(row, 0, (size_t)(M * W * C) * sizeof(float));
			continue;
		}
		for (int64_t c = 0; c < C; c++)
			assemble_channel(row + c, db + (index[n] * C + c) * M * T + start[n], mean, rstd, C, M, T, W);
	}
	return HD_OK;
}
