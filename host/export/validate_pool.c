/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/validate_pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/data/extract.h"
#include "kernels/half.h"
#include "kernels/philox.h"

#define SEED 0x76616c69u
#define FEATURE_STREAM 0x46454154u
#define SIGNAL_STREAM 0x5349474eu
#define SCATTER 3.0         /* standard deviations at most */
#define PLAIN_MEAN_DB -60.0 /* where each recording is normalised by itself */
#define PLAIN_STD_DB 10.0
#define MISSING_EVERY 5   /* a receiver is missing in one row of so many */
#define SIGNAL_INPUTS 2.5 /* length of a recording, in inputs of the network */
#define LEVEL_STEPS 7     /* levels of recordings: 0, -10 .. -60 dB of full scale */

/* Standard normal, by Box and Muller (1958). */
static double normal(uint32_t row, uint32_t index, uint32_t stream)
{
	uint32_t words[4];
	hd_philox(words, (const uint32_t[4]){index, row, 0, stream}, (const uint32_t[2]){SEED, 0});
	double u1 = ((double)words[0] + 1) * 0x1p-32, u2 = (double)words[1] * 0x1p-32;
	return sqrt(-2 * log(u1)) * cos(2 * M_PI * u2);
}

static bool missing(int row, int64_t channel, int64_t channels)
{
	return channels > 1 && row % MISSING_EVERY == MISSING_EVERY - 1 && channel == row % channels;
}

/* ---- features ---- */

/* A level of row m and channel c: around the statistics of the training, never under silence. */
static double level(const hd_data_card *card, int row, int64_t c, int64_t m, uint32_t index, double floor)
{
	double z = fmax(-SCATTER, fmin(SCATTER, normal((uint32_t)row, index, FEATURE_STREAM)));
	double mean = card->mean ? (double)card->mean[m] : PLAIN_MEAN_DB;
	double std = !card->mean ? PLAIN_STD_DB : card->rstd[m] > 0 ? 1 / (double)card->rstd[m] : 0;
	return fmax(mean + z * std + (card->offset ? (double)card->offset[c] : 0), floor);
}

static void make_features(uint16_t *halves, const hd_dataset *d, const float *silence, int row)
{
	int64_t C = d->cache.C, H = d->cache.H, T = d->cache.T;
	for (int64_t c = 0; c < C; c++)
		for (int64_t m = 0; m < H; m++)
			for (int64_t t = 0; t < T; t++) {
				uint32_t index = (uint32_t)((c * H + m) * T + t);
				double floor = d->features.kind == HD_FEATURE_MEL ? (double)silence[m] : -INFINITY;
				halves[index] = hd_float_to_half(
				        missing(row, c, C) ? silence[m]
				                           : (float)level(&d->card, row, c, m, index, floor));
			}
}

/* The middle of the first window of a data set's sample, as the engine takes it in evaluation. */
static void take_features(uint16_t *halves, const hd_dataset *from, int32_t sample)
{
	int64_t rows = from->cache.C * from->cache.H, W = from->features.frames, T = from->cache.T;
	const uint16_t *at = from->cache.db + sample * rows * T;
	at += (hd_features_window_frames(&from->features) - W) / 2;
	for (int64_t r = 0; r < rows; r++)
		memcpy(halves + r * W, at + r * T, (size_t)W * sizeof *halves);
}

static hd_status fill_features(hd_validate_pool *p, hd_dataset *d, const hd_dataset *real)
{
	hd_status st;
	float *silence = NULL;
	int32_t *samples = NULL;
	int64_t valid = 0;
	HD_TRY(hd_alloc(&silence, (size_t)d->cache.H, sizeof *silence));
	hd_features_silence(silence, &d->features);
	if (real)
		HD_TRY(hd_dataset_split(real, HD_SPLIT_COUNT, &samples, &valid));
	p->real = (int)(valid < HD_VALIDATE_ROWS ? valid : HD_VALIDATE_ROWS);
	for (int i = 0; i < p->made; i++)
		make_features(d->cache.db + i * p->row, d, silence, i);
	for (int i = 0; i < p->real; i++)
		take_features(d->cache.db + (p->made + i) * p->row, real, samples[i * valid / p->real]);
	for (int64_t i = 0; i < (p->made + p->real) * p->row; i++)
		p->inputs[i] = hd_half_to_float(d->cache.db[i]);
done:
	free(samples);
	free(silence);
	return st;
}

/* ---- recordings ---- */

/* Noise and a tone: I and Q of one channel (n,2), full scale 1. */
static void make_signal(float *out, int64_t n, int row, int64_t channel)
{
	double amplitude = pow(10, -(double)((row + 3 * channel) % LEVEL_STEPS) / 2);
	double step = 2 * M_PI * (0.01 + 0.013 * (double)row);
	for (int64_t i = 0; i < n; i++) {
		uint32_t index = (uint32_t)(channel * n + i);
		double noise = 0.1 * normal((uint32_t)row, index, SIGNAL_STREAM);
		double envelope = amplitude * (0.6 + 0.3 * cos(step * (double)i) + noise);
		out[2 * i] = (float)(envelope * cos(0.7 * (double)i));
		out[2 * i + 1] = (float)(envelope * sin(0.7 * (double)i));
	}
}

/* As predict does it: as many windows as lie side by side, of whole recordings in memory. */
static hd_status fill_signals(
        hd_validate_pool *p, hd_dataset *d, hd_backend *backend, hd_onnx_input_form form, int64_t n)
{
	hd_status st;
	hd_extractor extractor = {0};
	hd_skip skip;
	float *pairs = NULL;
	int64_t C = d->cache.C, slot = C * d->cache.H * d->cache.T;
	HD_TRY(hd_alloc(&pairs, (size_t)(C * n * 2), sizeof *pairs));
	HD_TRY(hd_extractor_open(&extractor, backend, &d->features));
	for (int i = 0; i < p->made; i++) {
		memset(pairs, 0, (size_t)(C * n * 2) * sizeof *pairs);
		for (int64_t c = 0; c < C; c++)
			if (!missing(i, c, C))
				make_signal(pairs + c * n * 2, n, i, c);
		hd_iq iq = {.rows = C, .samples = n, .dtype = HD_F32, .scale = 1, .data = pairs};
		HD_TRY(hd_extract(&extractor, d->cache.db + i * slot, &iq, 0, "a made recording", &skip));
		float *to = p->inputs + i * p->row;
		for (int64_t k = 0; form == HD_ONNX_INPUT_MAGNITUDE && k < C * n; k++)
			to[k] = sqrtf(pairs[2 * k] * pairs[2 * k] + pairs[2 * k + 1] * pairs[2 * k + 1]);
		if (form == HD_ONNX_INPUT_IQ)
			memcpy(to, pairs, (size_t)(C * n * 2) * sizeof *pairs);
	}
done:
	hd_extractor_close(&extractor);
	free(pairs);
	return st;
}

/* ---- both ---- */

/* The engine's answers to all samples of a data set that has no catalogue. */
static hd_status ask_engine(
        hd_validate_pool *p, const hd_checkpoint *checkpoint, hd_backend *backend, const hd_dataset *d)
{
	int rows = p->made + p->real;
	int32_t list[2 * HD_VALIDATE_ROWS];
	hd_metrics metrics;
	for (int i = 0; i < rows; i++)
		list[i] = i;
	return hd_evaluate_checkpoint(&metrics, p->answers, checkpoint, backend, d, HD_VALIDATE_ROWS, list, rows, NULL);
}

/* The shape of an input, and the features that the engine gets for it; samples of a recording. */
static int64_t set_shape(hd_validate_pool *p, hd_dataset *d, const hd_onnx_model *model, int64_t n)
{
	hd_feature_config *c = &d->features;
	int64_t C = d->card.channels;
	c->margin = 0;
	if (model->input == HD_ONNX_INPUT_FEATURES) {
		c->frame_mode = HD_FRAMES_CENTER;
		p->ndim = 4;
		memcpy(p->shape, (const int64_t[]){0, C, d->card.height, c->frames}, sizeof p->shape);
	} else {
		int64_t T = hd_features_frame_count(c, n);
		if (c->frame_mode != HD_FRAMES_MEAN) {
			c->frame_mode = HD_FRAMES_WINDOWS;
			c->windows = T > c->frames ? (int)(T / c->frames) : 1;
		}
		p->ndim = model->input == HD_ONNX_INPUT_IQ ? 4 : 3;
		memcpy(p->shape, (const int64_t[]){0, C, n, 2}, sizeof p->shape);
	}
	p->row = 1;
	for (int i = 1; i < p->ndim; i++)
		p->row *= p->shape[i];
	return n;
}

hd_status hd_validate_pool_open(hd_validate_pool *p, const hd_onnx_model *model, const hd_checkpoint *checkpoint,
        hd_backend *backend, const hd_dataset *real)
{
	hd_status st;
	size_t most = 2 * HD_VALIDATE_ROWS;
	hd_dataset d = {.card = checkpoint->card, .features = hd_feature_config_from(&checkpoint->settings)};
	int64_t n = (int64_t)(SIGNAL_INPUTS * d.features.frames * d.features.hop_length);
	*p = (hd_validate_pool){.made = HD_VALIDATE_ROWS};
	int64_t samples = set_shape(p, &d, model, n);
	d.cache = (hd_feature_cache){.S = (int64_t)most,
	        .C = d.card.channels,
	        .H = d.card.height,
	        .T = hd_features_kept_frames(&d.features)};
	HD_TRY(hd_alloc(&d.cache.db, most * (size_t)(d.cache.C * d.cache.H * d.cache.T), sizeof *d.cache.db));
	HD_TRY(hd_alloc(&d.samples.samples, most, sizeof *d.samples.samples));
	d.samples.count = most;
	HD_TRY(hd_alloc(&p->inputs, most * (size_t)p->row, sizeof *p->inputs));
	HD_TRY(hd_alloc(&p->answers, most, sizeof *p->answers));
	HD_TRY(model->input == HD_ONNX_INPUT_FEATURES ? fill_features(p, &d, real)
	                                              : fill_signals(p, &d, backend, model->input, samples));
	HD_TRY(ask_engine(p, checkpoint, backend, &d));
done:
	hd_feature_cache_close(&d.cache);
	hd_samples_free(&d.samples);
	if (st != HD_OK)
		hd_validate_pool_close(p);
	return st;
}

void hd_validate_pool_close(hd_validate_pool *pool)
{
	if (!pool)
		return;
	free(pool->answers);
	free(pool->inputs);
	*pool = (hd_validate_pool){0};
}
