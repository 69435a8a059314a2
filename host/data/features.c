/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/features.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/data/mel.h"

#define RANDOM_SPAN 4 /* inputs' worth of frames kept in mode random */
#define HEIGHT_STEP 32

struct hd_features {
	hd_backend *backend;
	hd_feature_config config;
	int empty_filters;
	int mel_weights;
	float scale; /* of the spectrum */
	/* device memory */
	float *window, *w;
	float *dct; /* (K,M); NULL for mel levels */
	int32_t *first, *offset;
	void *iq;
	float *magnitude, *power, *db, *cepstrum;
	size_t iq_bytes, magnitude_bytes, power_bytes, db_bytes, cepstrum_bytes;
};

static hd_status check_config(const hd_feature_config *c)
{
	double top = c->f_max_hz > 0 ? c->f_max_hz : c->sample_rate_hz / 2;
	if (!(c->sample_rate_hz > 0) || c->n_fft < 2 || c->n_fft % 2 || c->hop_length < 1 || c->hop_length > c->n_fft ||
	        c->n_mels < 1 || c->frames < 1)
		return hd_fail(HD_E_USAGE,
		        "features: n_fft %d (even), hop_length %d (at most n_fft), n_mels %d and frames %d do "
		        "not go together",
		        c->n_fft, c->hop_length, c->n_mels, c->frames);
	if (c->f_min_hz < 0 || c->f_min_hz >= top || top > c->sample_rate_hz / 2)
		return hd_fail(HD_E_USAGE,
		        "features: f_min %g Hz and f_max %g Hz must rise and stay within half the rate of %g Hz",
		        c->f_min_hz, top, c->sample_rate_hz);
	if (c->kind == HD_FEATURE_MFCC && c->n_mfcc > c->n_mels)
		return hd_fail(HD_E_USAGE, "features: n_mfcc %d is more than n_mels %d", c->n_mfcc, c->n_mels);
	return HD_OK;
}

static hd_status upload_new(hd_backend *b, void *out_pointer, const void *host, size_t bytes)
{
	void *device = NULL;
	hd_status st = b->alloc(b, &device, bytes ? bytes : 1);
	if (st == HD_OK)
		st = b->upload(b, device, host, bytes, NULL);
	memcpy(out_pointer, &device, sizeof device);
	return st;
}

/* Periodic Hann window, and the scale of the spectrum in this convention. */
static hd_status make_window(hd_features *f)
{
	float *window;
	double sum = 0;
	int n = f->config.n_fft;
	hd_status st = hd_alloc(&window, (size_t)n, sizeof *window);
	for (int i = 0; st == HD_OK && i < n; i++) {
		double v = 0.5 - 0.5 * cos(2 * M_PI * i / n);
		window[i] = (float)v;
		sum += v;
	}
	f->scale = f->config.convention == HD_STFT_SCIPY ? (float)(1 / sum) : 1.0f;
	if (st == HD_OK)
		st = upload_new(f->backend, &f->window, window, (size_t)n * sizeof *window);
	free(window);
	return st;
}

void hd_features_dct(float *out, const hd_feature_config *c)
{
	int K = c->n_mfcc, M = c->n_mels;
	for (int i = 0; i < K * M; i++) {
		int k = i / M, m = i % M;
		out[i] = (float)(sqrt((k ? 2.0 : 1.0) / M) * cos(M_PI * k * (m + 0.5) / M));
	}
}

static hd_status make_dct(hd_features *f)
{
	float *dct;
	size_t count = (size_t)f->config.n_mfcc * (size_t)f->config.n_mels;
	hd_status st = hd_alloc(&dct, count, sizeof *dct);
	if (st == HD_OK) {
		hd_features_dct(dct, &f->config);
		st = upload_new(f->backend, &f->dct, dct, count * sizeof *dct);
	}
	free(dct);
	return st;
}

hd_status hd_features_create(hd_features **out, hd_backend *backend, const hd_feature_config *config)
{
	hd_status st;
	hd_features *f = NULL;
	hd_mel mel = {0};
	*out = NULL;
	HD_TRY(check_config(config));
	HD_TRY(hd_alloc(&f, 1, sizeof *f));
	f->backend = backend;
	f->config = *config;
	HD_TRY(hd_mel_create(&mel, config));
	f->empty_filters = mel.empty;
	HD_TRY(make_window(f));
	if (config->kind == HD_FEATURE_MFCC)
		HD_TRY(make_dct(f));
	HD_TRY(upload_new(backend, &f->first, mel.first, (size_t)mel.M * sizeof *mel.first));
	HD_TRY(upload_new(backend, &f->offset, mel.offset, (size_t)(mel.M + 1) * sizeof *mel.offset));
	HD_TRY(upload_new(backend, &f->w, mel.w, (size_t)mel.offset[mel.M] * sizeof *mel.w));
	HD_TRY(backend->sync(backend, NULL));
	*out = f;
	f = NULL;
done:
	hd_mel_free(&mel);
	hd_features_free(f);
	return st;
}

void hd_features_free(hd_features *plan)
{
	if (!plan)
		return;
	void *buffers[] = {plan->window, plan->w, plan->dct, plan->first, plan->offset, plan->iq, plan->magnitude,
	        plan->power, plan->db, plan->cepstrum};
	for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
		if (buffers[i])
			plan->backend->free(plan->backend, buffers[i]);
	free(plan);
}

int hd_features_empty_filters(const hd_features *plan)
{
	return plan->empty_filters;
}

int64_t hd_features_frame_count(const hd_feature_config *config, int64_t n)
{
	int64_t hop = config->hop_length;
	return config->convention == HD_STFT_SCIPY ? (n + hop - 1) / hop + 1 : n / hop + 1;
}

/* Grows a device buffer. */
static hd_status want(hd_backend *b, void *pointer, size_t *have, size_t bytes)
{
	void *device;
	if (bytes <= *have)
		return HD_OK;
	memcpy(&device, pointer, sizeof device);
	if (device)
		b->free(b, device);
	device = NULL;
	*have = 0;
	hd_status st = b->alloc(b, &device, bytes);
	memcpy(pointer, &device, sizeof device);
	*have = st == HD_OK ? bytes : 0;
	return st;
}

hd_status hd_features_compute(hd_features *f, float *db, const hd_iq *iq)
{
	hd_status st;
	hd_backend *b = f->backend;
	const hd_feature_config *c = &f->config;
	int64_t R = iq->rows, n = iq->samples, M = c->n_mels, T = hd_features_frame_count(c, n), F = c->n_fft / 2 + 1;
	size_t iq_bytes = (size_t)(R * n * 2) * hd_dtype_bytes(iq->dtype),
	       db_bytes = (size_t)(R * M * T) * sizeof(float);
	HD_TRY(want(b, &f->iq, &f->iq_bytes, iq_bytes));
	HD_TRY(want(b, &f->magnitude, &f->magnitude_bytes, (size_t)(R * n) * sizeof(float)));
	HD_TRY(want(b, &f->db, &f->db_bytes, db_bytes));
	HD_TRY(b->upload(b, f->iq, iq->data, iq_bytes, NULL));
	HD_TRY(b->ops.magnitude(f->magnitude, f->iq, iq->dtype, iq->scale, R * n, NULL));
	if (b->ops.stft_mel_db) {
		HD_TRY(b->ops.stft_mel_db(f->db, f->magnitude, f->window, f->scale, f->first, f->offset, f->w,
		        HD_DB_FLOOR, R, n, T, c->n_fft, c->hop_length, M, NULL));
	} else {
		HD_TRY(want(b, &f->power, &f->power_bytes, (size_t)(R * T * F) * sizeof(float)));
		HD_TRY(b->ops.stft_power(
		        f->power, f->magnitude, f->window, f->scale, R, n, T, c->n_fft, c->hop_length, NULL));
		HD_TRY(b->ops.mel_db(f->db, f->power, f->first, f->offset, f->w, HD_DB_FLOOR, R, T, F, M, NULL));
	}
	HD_TRY(b->download(b, db, f->db, db_bytes, NULL));
	HD_TRY(b->sync(b, NULL));
done:
	return st;
}

/* ---- from the frames of a recording to those of network inputs ---- */

int64_t hd_features_height(const hd_feature_config *c)
{
	return c->kind == HD_FEATURE_MFCC ? (c->n_mfcc + HEIGHT_STEP - 1) / HEIGHT_STEP * HEIGHT_STEP : c->n_mels;
}

int64_t hd_features_windows(const hd_feature_config *c)
{
	return c->frame_mode == HD_FRAMES_WINDOWS ? c->windows : 1;
}

int64_t hd_features_window_frames(const hd_feature_config *c)
{
	if (c->frame_mode == HD_FRAMES_MEAN)
		return c->frames;
	return (c->frame_mode == HD_FRAMES_RANDOM ? (int64_t)RANDOM_SPAN * c->frames : c->frames) + 2 * c->margin;
}

int64_t hd_features_kept_frames(const hd_feature_config *c)
{
	return hd_features_windows(c) * hd_features_window_frames(c);
}

/* Mean power of frames [from, to) in dB. */
static float mean_power_db(const float *db, int64_t from, int64_t to)
{
	double sum = 0;
	for (int64_t t = from; t < to; t++)
		sum += pow(10, (double)db[t] / 10);
	return (float)(10 * log10(sum / (double)(to - from)));
}

/* Frame `at` of T, reflected at both ends. */
static int64_t reflect(int64_t at, int64_t T)
{
	int64_t period = T > 1 ? 2 * T - 2 : 1;
	at = ((at % period) + period) % period;
	return at < T ? at : period - at;
}

void hd_features_fit_frames(float *out, const float *db, int64_t T, const hd_feature_config *c)
{
	int64_t K = hd_features_windows(c), F = hd_features_window_frames(c);
	for (int64_t m = 0; m < c->n_mels; m++) {
		const float *in = db + m * T;
		float *to = out + m * K * F;
		for (int64_t w = 0; w < K * F; w++) {
			if (c->frame_mode == HD_FRAMES_MEAN && T >= F) {
				to[w] = mean_power_db(in, w * T / F, (w + 1) * T / F);
				continue;
			}
			/* windows spread evenly; one alone, or of a short recording, lies in the middle */
			int64_t inner = F - 2 * c->margin, start = (T - inner) / 2 - c->margin;
			if (K > 1 && T > F)
				start = w / F * (T - F) / (K - 1);
			to[w] = in[reflect(start + w % F, T)];
		}
	}
}

hd_status hd_features_mfcc(hd_features *f, float *out, const float *db, int64_t R, int64_t T)
{
	hd_status st;
	hd_backend *b = f->backend;
	int64_t M = f->config.n_mels, K = f->config.n_mfcc, H = hd_features_height(&f->config);
	size_t db_bytes = (size_t)(R * M * T) * sizeof(float), bytes = (size_t)(R * H * T) * sizeof(float);
	if (!f->dct)
		return hd_fail(HD_E_USAGE, "features: a cepstrum of a plan that was made for mel levels");
	HD_TRY(want(b, &f->db, &f->db_bytes, db_bytes));
	HD_TRY(want(b, &f->cepstrum, &f->cepstrum_bytes, bytes));
	HD_TRY(b->upload(b, f->db, db, db_bytes, NULL));
	HD_TRY(b->ops.mfcc(f->cepstrum, f->db, f->dct, R, M, K, H, T, NULL));
	HD_TRY(b->download(b, out, f->cepstrum, bytes, NULL));
	HD_TRY(b->sync(b, NULL));
done:
	return st;
}

void hd_features_silence(float *out, const hd_feature_config *c)
{
	int64_t H = hd_features_height(c);
	for (int64_t h = 0; h < H; h++)
		out[h] = c->kind == HD_FEATURE_MEL ? HD_DB_SILENCE : 0;
	if (c->kind == HD_FEATURE_MFCC)
		out[0] = HD_DB_SILENCE * sqrtf((float)c->n_mels);
}
