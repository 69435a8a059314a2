/* SPDX-License-Identifier: Apache-2.0 */
/* The chain magnitude, STFT, mel levels. */
#include "bench/common/feature_rate.h"

#include <math.h>
#include <stdlib.h>

#include "heimdall/dataset.h"
#include "host/common/memory.h"
#include "host/data/mel.h"
#include "host/signal/random.h"

#define SAMPLES 192000
#define SEED 13u

typedef struct chain {
	hd_backend *backend;
	hd_feature_config config;
	int64_t R, T, F;
	float *iq, *x, *window, *power, *db, *w;
	int32_t *first, *offset;
} chain;

static hd_status put(const chain *c, void *out_device, const void *host, size_t bytes)
{
	hd_status st;
	void **device = out_device;
	hd_backend *b = c->backend;
	HD_TRY(b->alloc(b, device, bytes));
	if (host) {
		HD_TRY(b->upload(b, *device, host, bytes, NULL));
		HD_TRY(b->sync(b, NULL));
	}
done:
	return st;
}

static hd_status put_recordings(chain *c)
{
	hd_status st;
	float *iq = NULL;
	hd_random random = hd_random_start(SEED, 0);
	size_t count = 2 * (size_t)c->R * SAMPLES;
	HD_TRY(hd_alloc(&iq, count, sizeof *iq));
	for (size_t i = 0; i < count; i++)
		iq[i] = (float)hd_random_between(&random, -1, 1);
	HD_TRY(put(c, &c->iq, iq, count * sizeof *iq));
done:
	free(iq);
	return st;
}

static hd_status open_chain(chain *c, hd_backend *backend, int recordings)
{
	hd_status st;
	hd_settings settings = {0};
	hd_mel mel = {0};
	float *window = NULL;
	*c = (chain){.backend = backend, .R = recordings};
	HD_TRY(hd_settings_init(&settings));
	c->config = hd_feature_config_from(&settings);
	c->T = hd_features_frame_count(&c->config, SAMPLES);
	c->F = c->config.n_fft / 2 + 1;
	size_t n_fft = (size_t)c->config.n_fft, M = (size_t)c->config.n_mels, R = (size_t)c->R, T = (size_t)c->T;
	HD_TRY(hd_mel_create(&mel, &c->config));
	HD_TRY(hd_alloc(&window, n_fft, sizeof *window));
	for (size_t i = 0; i < n_fft; i++)
		window[i] = (float)(0.5 - 0.5 * cos(2 * M_PI * (double)i / (double)n_fft));
	HD_TRY(put_recordings(c));
	HD_TRY(put(c, &c->window, window, n_fft * sizeof *window));
	HD_TRY(put(c, &c->first, mel.first, M * sizeof *mel.first));
	HD_TRY(put(c, &c->offset, mel.offset, (M + 1) * sizeof *mel.offset));
	HD_TRY(put(c, &c->w, mel.w, (size_t)mel.offset[M] * sizeof *mel.w + sizeof *mel.w));
	HD_TRY(put(c, &c->x, NULL, R * SAMPLES * sizeof *c->x));
	HD_TRY(put(c, &c->db, NULL, R * M * T * sizeof *c->db));
	if (!backend->ops.stft_mel_db)
		HD_TRY(put(c, &c->power, NULL, R * T * (size_t)c->F * sizeof *c->power));
done:
	free(window);
	hd_mel_free(&mel);
	hd_settings_free(&settings);
	return st;
}

static void close_chain(chain *c)
{
	void *const all[] = {c->power, c->db, c->x, c->w, c->offset, c->first, c->window, c->iq};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		c->backend->free(c->backend, all[i]);
}

static hd_status run_chain(void *context, int number)
{
	hd_status st;
	chain *c = context;
	const hd_ops *ops = &c->backend->ops;
	const hd_feature_config *f = &c->config;
	(void)number;
	HD_TRY(ops->magnitude(c->x, c->iq, HD_F32, 1, c->R * SAMPLES, NULL));
	if (ops->stft_mel_db) {
		HD_TRY(ops->stft_mel_db(c->db, c->x, c->window, 1, c->first, c->offset, c->w, HD_DB_FLOOR, c->R,
		        SAMPLES, c->T, f->n_fft, f->hop_length, f->n_mels, NULL));
	} else {
		HD_TRY(ops->stft_power(
		        c->power, c->x, c->window, 1, c->R, SAMPLES, c->T, f->n_fft, f->hop_length, NULL));
		HD_TRY(ops->mel_db(
		        c->db, c->power, c->first, c->offset, c->w, HD_DB_FLOOR, c->R, c->T, c->F, f->n_mels, NULL));
	}
done:
	return st;
}

hd_status hd_feature_rate_measure(hd_feature_rate *out, hd_backend *backend, const hd_bench_rule *rule, int recordings)
{
	hd_status st;
	chain c = {.backend = backend};
	HD_TRY(open_chain(&c, backend, recordings));
	*out = (hd_feature_rate){.recordings = recordings,
	        .samples = SAMPLES,
	        .n_fft = c.config.n_fft,
	        .hop = c.config.hop_length,
	        .mels = c.config.n_mels,
	        .fused = backend->ops.stft_mel_db != NULL};
	HD_TRY(hd_bench_time(&out->time, backend, NULL, rule, 1, run_chain, &c));
done:
	close_chain(&c);
	return st;
}
