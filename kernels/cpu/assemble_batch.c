/* SPDX-License-Identifier: Apache-2.0 */
/* Cached half-precision features to a normalised NHWC batch, with the random changes of training. */
#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/philox.h"
#include "kernels/cpu/cpu.h"

#define VARIANCE_EPS 1e-8
#define WORDS 4

/* What every row of a call shares. */
typedef struct shared {
	const float *mean, *rstd, *silence, *offset;
	const hd_augment *augment;
	uint32_t key[2], epoch;
	int64_t C, M, T, W;
} shared;

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

static void draw(uint32_t words[WORDS], const shared *s, uint32_t counter, uint32_t sample, uint32_t stream)
{
	hd_philox(words, (const uint32_t[4]){counter, sample, s->epoch, stream}, s->key);
}

/* Words below it are a share of all. */
static uint32_t threshold(float share)
{
	return (uint32_t)((double)share * 0x1p32);
}

/* Natural logarithm of 10 to the tenth: dB to nepers of power. */
#define DB_LOG 0.23025850929940457f

/* A level after the gain e^log_gain on its power above that of silence. Both forms add positive terms only. */
static float move_level(float v, float quiet, float gain, float log_gain)
{
	float t = expf(fminf(0, (quiet - v) * DB_LOG));
	float moved = log_gain < 0 ? gain + (1 - gain) * t : 1 + (gain - 1) * (1 - t);
	return v + logf(moved) * (1 / DB_LOG);
}

/* Level added to a channel; *silent where the channel is taken away. */
static float draw_level(bool *silent, const shared *s, int64_t c, float share, uint32_t sample)
{
	uint32_t words[WORDS];
	float level = s->offset ? -s->offset[c] : 0;
	*silent = false;
	if (!s->augment)
		return level;
	draw(words, s, (uint32_t)c, sample, HD_AUGMENT_CHANNEL);
	*silent = words[0] < threshold(share);
	if (s->augment->level_jitter > 0) {
		double u1 = ((double)words[1] + 1) * 0x1p-32, u2 = (double)words[2] * 0x1p-32;
		level += (float)((double)s->augment->level_jitter * sqrt(-2 * log(u1)) * cos(2 * M_PI * u2));
	}
	return level;
}

static void assemble_channel(
        float *out, const uint16_t *db, const shared *s, int64_t c, float factor, float share, uint32_t sample)
{
	float own_mean = 0, own_rstd = 0;
	bool silent;
	float log_gain = draw_level(&silent, s, c, share, sample) * DB_LOG, gain = expf(log_gain);
	if (!s->mean)
		window_statistics(db, s->M, s->T, s->W, &own_mean, &own_rstd);
	for (int64_t m = 0; m < s->M; m++) {
		float mu = s->mean ? s->mean[m] : own_mean, scale = (s->mean ? s->rstd[m] : own_rstd) * factor;
		float quiet = s->silence[m];
		for (int64_t t = 0; t < s->W; t++) {
			float v = hd_half_to_float(db[m * s->T + t]);
			if (silent)
				v = quiet;
			else if (log_gain != 0)
				v = move_level(v, quiet, gain, log_gain);
			out[(m * s->W + t) * s->C + c] = (v - mu) * scale;
		}
	}
}

static void drop_values(float *row, const shared *s, uint32_t sample)
{
	uint32_t words[WORDS], dropped = threshold(s->augment->dropout);
	int64_t n = s->M * s->W * s->C;
	for (int64_t i = 0; i < n; i += WORDS) {
		draw(words, s, (uint32_t)(i / WORDS), sample, HD_AUGMENT_VALUE);
		for (int64_t k = i; k < n && k < i + WORDS; k++)
			row[k] = words[k - i] < dropped ? 0.0f : row[k];
	}
}

static void assemble_row(float *row, const uint16_t *db, const shared *s, uint32_t sample)
{
	uint32_t words[WORDS];
	float factor = 1, share = 0;
	if (s->augment) {
		draw(words, s, 0, sample, HD_AUGMENT_SAMPLE);
		factor = s->augment->scale_min +
		         (s->augment->scale_max - s->augment->scale_min) * ((float)words[0] * 0x1p-32f);
		share = s->augment->receiver_dropout * ((float)words[1] * 0x1p-32f);
	}
	for (int64_t c = 0; c < s->C; c++)
		assemble_channel(row, db + c * s->M * s->T, s, c, factor, share, sample);
	if (s->augment && s->augment->dropout > 0)
		drop_values(row, s, sample);
}

hd_status HD_CPU(assemble_batch)(void *out, const uint16_t *db, const int32_t *index, const int32_t *start,
        const float *mean, const float *rstd, const float *silence, const float *offset, const hd_augment *augment,
        const hd_rng_key *key, const int32_t *sample, hd_dtype dt, int64_t N, int64_t C, int64_t M, int64_t T,
        int64_t W, hd_stream *stream)
{
	(void)stream;
	HD_IN_FLOATS(dt,
	        HD_CPU(assemble_batch)(out, db, index, start, mean, rstd, silence, offset, augment, key, sample, HD_F32,
	                N, C, M, T, W, stream),
	        HD_WRITES(out, N * M * W * C));
	shared s = {.mean = mean,
	        .rstd = rstd,
	        .silence = silence,
	        .offset = offset,
	        .augment = augment,
	        .C = C,
	        .M = M,
	        .T = T,
	        .W = W};
	if (augment) {
		s.key[0] = key->seed_lo;
		s.key[1] = key->seed_hi;
		s.epoch = key->epoch;
	}
#pragma omp parallel for schedule(static)
	for (int64_t n = 0; n < N; n++) {
		float *row = (float *)out + n * M * W * C;
		if (index[n] < 0)
			memset(row, 0, (size_t)(M * W * C) * sizeof(float));
		else
			assemble_row(row, db + index[n] * C * M * T + start[n], &s, augment ? (uint32_t)sample[n] : 0);
	}
	return HD_OK;
}
