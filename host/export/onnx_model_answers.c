/* SPDX-License-Identifier: Apache-2.0 */
/* An exported model in the place of the engine, behind hd_evaluate_answers. */
#include <math.h>
#include <stdlib.h>

#include "host/common/memory.h"
#include "host/export/onnx_model.h"
#include "kernels/half.h"

typedef struct source {
	hd_onnx_model *model;
	const hd_dataset *dataset;
	hd_loss loss;
	int64_t N;
	int32_t *samples;   /* (N) of the batch that is queued */
	float *features;    /* (N,C,H,W) */
	double *mu, *sigma; /* (N,2) */
} source;

/* The window that evaluation takes (host/train/batch.c, window_start): the middle of its frames. */
void hd_onnx_model_window(float *out, const hd_dataset *d, int32_t sample, int32_t window)
{
	int64_t F = hd_features_window_frames(&d->features), W = d->features.frames, rows = d->cache.C * d->cache.H;
	const uint16_t *from = d->cache.db + sample * rows * d->cache.T + window * F + (F - W) / 2;
	for (int64_t r = 0; r < rows; r++)
		for (int64_t t = 0; t < W; t++)
			out[r * W + t] = hd_half_to_float(from[r * d->cache.T + t]);
}

static hd_status queue(void *context, int slot, const int32_t *samples, const int32_t *windows, int64_t count)
{
	(void)slot;
	source *s = context;
	const hd_dataset *d = s->dataset;
	int64_t row = d->cache.C * d->cache.H * d->features.frames;
	/* a model of a fixed number of rows gets its first one again behind the last */
	int64_t N = s->model->rows ? s->model->rows : count;
	for (int64_t i = 0; i < N; i++) {
		int64_t k = i < count ? i : 0;
		s->samples[i] = samples[k];
		hd_onnx_model_window(s->features + i * row, d, samples[k], windows[k]);
	}
	return hd_onnx_model_run(s->model,
	        &(hd_run_tensor){4, {N, d->cache.C, d->cache.H, d->features.frames}, s->features}, s->mu, s->sigma);
}

/* Adds one row's terms as the operation gaussian_nll defines them (kernels/kernels.def). */
static void add_loss(double total[4], const source *s, const hd_gaussian *g, int32_t sample)
{
	const hd_dataset *d = s->dataset;
	const hd_sample *at = &d->samples.samples[sample];
	double scale = d->card.frame.scale_m, truth[2];
	double label = (isnan(at->label_sigma_m) ? d->label_sigma_m : at->label_sigma_m) / scale;
	hd_geo_to_local_m(&d->card.frame, at->latitude_deg, at->longitude_deg, &truth[0], &truth[1]);
	for (int i = 0; i < 2; i++) {
		double diff = g->mean[i] - truth[i] / scale, variance = g->variance[i] + label * label;
		double log_term = 0.5 * log(variance), square = diff * diff / (2 * variance);
		double factor = s->loss.kind == HD_LOSS_BETA_NLL ? pow(variance, (double)s->loss.beta) : 1;
		total[0] += s->loss.kind == HD_LOSS_MSE ? 0.5 * diff * diff : factor * (log_term + square);
		total[2] += log_term;
		total[3] += square;
	}
	total[1] += 1;
}

static hd_status take(void *context, int slot, hd_gaussian *out, int64_t count, double total[4])
{
	(void)slot;
	const source *s = context;
	for (int64_t n = 0; n < count; n++) {
		for (int i = 0; i < 2; i++) {
			out[n].mean[i] = s->mu[2 * n + i];
			out[n].variance[i] = s->sigma[2 * n + i] * s->sigma[2 * n + i];
		}
		add_loss(total, s, &out[n], s->samples[n]);
	}
	return HD_OK;
}

hd_status hd_onnx_answers_open(hd_answers *out, hd_onnx_model *model, const hd_dataset *dataset, int64_t batch)
{
	hd_status st;
	hd_model_config config;
	source *s = NULL;
	size_t N = (size_t)(model->rows ? model->rows : batch);
	size_t row = (size_t)(dataset->cache.C * dataset->cache.H * dataset->features.frames);
	*out = (hd_answers){.dataset = dataset, .batch = (int64_t)N, .ahead = 1, .queue = queue, .take = take};
	if (model->input != HD_ONNX_INPUT_FEATURES)
		return hd_fail(HD_E_USAGE,
		        "a model with the input '%s' makes its own features; here it takes one "
		        "with the input 'features'",
		        hd_onnx_input_names[model->input]);
	HD_TRY(hd_model_config_from(&config, &model->settings, &model->card, (int)N));
	HD_TRY(hd_alloc(&s, 1, sizeof *s));
	out->context = s;
	*s = (source){.model = model, .dataset = dataset, .loss = config.loss, .N = (int64_t)N};
	HD_TRY(hd_alloc(&s->samples, N, sizeof *s->samples));
	HD_TRY(hd_alloc(&s->features, N * row, sizeof *s->features));
	HD_TRY(hd_alloc(&s->mu, 2 * N, sizeof *s->mu));
	HD_TRY(hd_alloc(&s->sigma, 2 * N, sizeof *s->sigma));
done:
	return st;
}

void hd_onnx_answers_close(hd_answers *answers)
{
	source *s = answers ? answers->context : NULL;
	if (!s)
		return;
	free(s->sigma);
	free(s->mu);
	free(s->features);
	free(s->samples);
	free(s);
	*answers = (hd_answers){0};
}

hd_status hd_onnx_evaluate(hd_metrics *out, hd_prediction *predictions, hd_onnx_model *model, const hd_dataset *dataset,
        int64_t batch, const int32_t *samples, int64_t count, const char *label, bool stoppable)
{
	hd_answers answers;
	hd_status st = hd_onnx_answers_open(&answers, model, dataset, batch);
	if (st == HD_OK)
		st = hd_evaluate_answers(out, predictions, &answers, samples, count, label, stoppable);
	hd_onnx_answers_close(&answers);
	return st;
}
