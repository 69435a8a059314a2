/* SPDX-License-Identifier: Apache-2.0 */
/* train --dry_run: what a run would need, without reading a recording. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "heimdall/train.h"
#include "host/store/store.h"
#include "host/train/batch_size.h"
#include "host/train/precision.h"
#include "host/train/trainer.h"

#define STEPS_BEFORE 3
#define TIMED_STEPS 3

/* Seconds of one training step on made-up inputs; the first steps pay for cold caches and recordings. */
static hd_status time_step(hd_model *model, hd_backend *backend, double *out)
{
	hd_status st;
	const hd_model_io *io = hd_model_buffers(model);
	const hd_model_config *c = hd_model_get_config(model);
	hd_adamw_hyper hyper = {
	        .lr = 1e-6f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .correction1 = 1, .correction2 = 1};
	size_t n = (size_t)c->batch;
	double started = 0;
	float *ones = NULL;
	HD_TRY(hd_alloc(&ones, n, sizeof *ones));
	for (size_t i = 0; i < n; i++)
		ones[i] = 1;
	HD_TRY(backend->upload(backend, io->weight, ones, n * sizeof *ones, NULL));
	HD_TRY(backend->fill(backend, io->target, 0, 2 * n * sizeof(float), NULL));
	HD_TRY(backend->fill(backend, io->sample, 0, n * sizeof(int32_t), NULL));
	HD_TRY(backend->fill(backend, io->key, 0, sizeof(hd_rng_key), NULL));
	HD_TRY(backend->fill(backend, io->input, 0,
	        n * (size_t)(c->height * c->width * c->channels) * hd_dtype_bytes(hd_model_map_dtype(model)), NULL));
	for (int i = 0; i < STEPS_BEFORE + TIMED_STEPS; i++) {
		if (i == STEPS_BEFORE)
			started = hd_now_s();
		HD_TRY(hd_model_train_batch(model, 1.0f, false));
		HD_TRY(hd_model_step(model, &hyper, NULL));
		HD_TRY(backend->sync(backend, NULL));
	}
	*out = (hd_now_s() - started) / TIMED_STEPS;
done:
	free(ones);
	return st;
}

/* Marks recordings whose file is missing, without reading any. */
static void mark_missing(hd_dataset *d)
{
	for (size_t i = 0; i < d->catalog.count; i++) {
		hd_recording *r = &d->catalog.recordings[i];
		if (r->skip == HD_SKIP_NONE && !r->version && !hd_store_is_url(r->iq) && !hd_iq_exists(r->iq))
			hd_recording_skip(r, HD_SKIP_MISSING_FILE, "%s", r->iq);
	}
}

static void print_dry_run(const hd_trainer *t, double step_s, size_t parameter_bytes, size_t activation_bytes)
{
	const hd_settings *s = t->settings;
	const hd_dataset *d = &t->dataset;
	int64_t count[HD_SPLIT_COUNT] = {0}, batch = s->batch_size;
	for (size_t i = 0; i < d->samples.count; i++)
		count[d->samples.samples[i].split]++;
	int64_t batches = (count[HD_TRAIN] + batch - 1) / batch, val_batches = (count[HD_VAL] + batch - 1) / batch;
	int64_t samples = hd_trainer_step_samples(t), steps = (count[HD_TRAIN] + samples - 1) / samples;
	double features = (double)hd_dataset_feature_bytes(d), parameters = (double)hd_model_parameter_count(t->model);
	double forward_s = step_s / 3; /* backward is two thirds of a step */
	double hours = (step_s * (double)batches + forward_s * (double)val_batches) * (double)s->epochs / 3600;
	hd_catalog_print(stdout, &d->catalog, &d->samples, true);
	printf("back end    %s, %s, %d threads (%s)\n", t->backend->name, t->backend->tier, t->backend->threads,
	        t->backend->reason);
	printf("model       ConvNeXt %s, %.2f M parameters, precision %s\n", s->backbone_size, parameters / 1e6,
	        s->precision);
	printf("memory      %.1f MB parameters and moments, %.1f MB activations, %.1f MB features\n",
	        (double)parameter_bytes / 1e6, (double)activation_bytes / 1e6, features / 1e6);
	printf("disk        %.1f MB features, %.1f MB checkpoints\n", features / 1e6,
	        parameters * sizeof(float) * (double)(s->save_top_k + 1 + 3) / 1e6);
	printf("steps       %lld per epoch of %lld samples\n", (long long)steps, (long long)count[HD_TRAIN]);
	printf("time        %.3f s per step (measured), %.2f h for %lld epochs, features not counted\n", step_s, hours,
	        (long long)s->epochs);
}

hd_status hd_train_dry_run(hd_settings *settings)
{
	hd_status st;
	hd_trainer t = {.settings = settings};
	hd_model_config config;
	size_t parameter_bytes, activation_bytes;
	int64_t parameters;
	double step_s = 0;
	HD_TRY(hd_backend_open(&t.backend, settings->accelerator, settings->devices, (int)settings->threads));
	HD_TRY(hd_precision_settle(settings, t.backend));
	HD_TRY(hd_dataset_open(&t.dataset, settings, NULL));
	mark_missing(&t.dataset);
	HD_TRY(hd_batch_size_resolve(settings, &t.dataset.card, t.backend, (int64_t)t.dataset.samples.count, false));
	HD_TRY(hd_model_config_from(&config, settings, &t.dataset.card, (int)settings->batch_size));
	config.label_sigma = hd_dataset_has_label_sigma(&t.dataset);
	hd_precision_apply(&config, settings);
	HD_TRY(hd_model_footprint(t.backend, &config, &parameter_bytes, &activation_bytes, &parameters));
	HD_TRY(hd_model_create(&t.model, t.backend, &config));
	HD_TRY(hd_model_initialize(t.model, (uint64_t)settings->seed));
	HD_TRY(time_step(t.model, t.backend, &step_s));
	print_dry_run(&t, step_s, parameter_bytes, activation_bytes);
done:
	hd_trainer_close(&t);
	return st;
}
