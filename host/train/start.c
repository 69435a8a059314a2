/* SPDX-License-Identifier: Apache-2.0 */
/* The start of training: settings of a checkpoint, back end, data, model, weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/detach.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/model/pretrained.h"
#include "host/model/weights.h"
#include "host/train/batch_size.h"
#include "host/train/precision.h"
#include "host/train/trainer.h"

void hd_trainer_close(hd_trainer *t)
{
	free(t->overrides);
	hd_train_state_free(&t->state);
	hd_batcher_close(&t->batcher);
	hd_model_free(t->model);
	free(t->val);
	free(t->train);
	hd_dataset_close(&t->dataset);
	hd_backend_close(t->backend);
}

/* --checkpoint, or the newest in the folder that is meant. */
static hd_status find_checkpoint(char **out, const hd_settings *s)
{
	char *folder = NULL;
	if (s->checkpoint[0])
		return hd_strdup(out, s->checkpoint);
	hd_status st = hd_tracker_checkpoints(&folder, s);
	if (st == HD_OK)
		st = hd_checkpoint_find_newest(out, folder);
	free(folder);
	return st;
}

/* Settings and state of the run to resume; what was set anew and differs is named. *path is new text. */
static hd_status open_resumed(hd_trainer *t, hd_checkpoint *from, char **out_path)
{
	hd_status st;
	char *path = NULL;
	HD_TRY(find_checkpoint(&path, t->settings));
	HD_TRY(hd_checkpoint_open(from, path));
	if (!hd_checkpoint_has_state(from)) {
		st = hd_fail(HD_E_DATA, "%s: holds weights only; resume from last.safetensors", path);
		goto done;
	}
	HD_TRY(hd_settings_inherit(t->settings, &from->settings, &t->overrides));
	if (t->overrides)
		hd_warn("resuming with other settings than before: %s", t->overrides);
	if (!t->settings->given[HD_SET_threads] && from->threads > 0)
		t->settings->threads = from->threads;
	hd_message(
	        "resuming %s: epoch %lld, step %lld", path, (long long)from->state.epoch, (long long)from->state.step);
	*out_path = path;
	path = NULL;
done:
	free(path);
	return st;
}

/* Published weights, and the size that they have where none was given. */
static hd_status open_weights(hd_trainer *t, hd_weights *weights, const char *path)
{
	hd_settings *s = t->settings;
	hd_status st = hd_weights_open(weights, path);
	if (st == HD_OK && weights->size.name && !s->given[HD_SET_backbone_size])
		st = hd_settings_set(s, "backbone_size", weights->size.name, path);
	return st;
}

/* Settings that the weights of a checkpoint depend on; what was given otherwise is named. */
static hd_status inherit_checkpoint(hd_trainer *t, const hd_checkpoint *from, const char *path)
{
	char *differences = NULL;
	hd_status st = hd_settings_inherit_model(t->settings, &from->settings, &differences);
	if (st == HD_OK && differences)
		hd_warn("%s was trained with other settings: %s", path, differences);
	if (st == HD_OK)
		hd_message("weights, receivers, label frame and statistics from %s", path);
	free(differences);
	return st;
}

/* What to start from: a checkpoint of this program, published weights, or (neither opened) random numbers. */
static hd_status open_pretrained(hd_trainer *t, hd_checkpoint *from, hd_weights *weights)
{
	hd_status st;
	const char *name = t->settings->pretrained;
	char *path = NULL, *missing = NULL;
	HD_TRY(hd_pretrained_find(&path, name, t->settings->backbone_size));
	if (!path && strcmp(name, "auto") != 0)
		goto done;
	if (!path) {
		HD_TRY(hd_pretrained_missing(&missing, name, t->settings->backbone_size));
		hd_warn("RANDOM WEIGHTS: %s", missing);
		goto done;
	}
	st = hd_checkpoint_open(from, path);
	if (st == HD_OK)
		st = inherit_checkpoint(t, from, path);
	else if (st == HD_E_DATA)
		st = open_weights(t, weights, path);
done:
	free(missing);
	free(path);
	return st;
}

/* Another back end or tier rounds differently; the recorded one is taken where it is there and no other was asked for.
 */
static hd_status open_backend(hd_trainer *t, const hd_checkpoint *from)
{
	const hd_settings *s = t->settings;
	bool resumed = s->resume_training && from->tier, chosen = s->given[HD_SET_accelerator];
	hd_backend *same;
	if (resumed && !chosen && !strcmp(from->backend, "cpu") &&
	        hd_backend_open_cpu(&same, from->tier, (int)s->threads) == HD_OK) {
		snprintf(same->reason, sizeof same->reason, "CPU: as the run that is resumed");
		t->backend = same;
		return HD_OK;
	}
	hd_status st = hd_backend_open(&t->backend, s->accelerator, s->devices, (int)s->threads);
	if (st == HD_OK && resumed &&
	        (strcmp(from->backend, t->backend->name) != 0 || strcmp(from->tier, t->backend->tier) != 0))
		hd_warn("the checkpoint was made on %s, %s; this is %s, %s: results will differ in the last bits",
		        from->backend, from->tier, t->backend->name, t->backend->tier);
	return st;
}

/* Weights of a checkpoint, or of a published file, into a model that was made at random. */
static hd_status start_from(hd_trainer *t, const hd_checkpoint *from, const hd_weights *weights)
{
	hd_weights_report report = {0};
	hd_status st = HD_OK;
	if (from->file.map)
		return hd_checkpoint_load_weights(t->model, from);
	if (!weights->path)
		return HD_OK;
	st = hd_weights_load(t->model, weights, &report);
	if (st == HD_OK)
		hd_weights_report_print(stderr, weights, &report);
	hd_weights_report_free(&report);
	return st;
}

/* More epochs than before, or more patience, take a finished run up again. */
static void take_state(hd_trainer *t, hd_checkpoint *from)
{
	const hd_settings *s = t->settings;
	t->state = from->state;
	from->state = (hd_train_state){0};
	t->state.finished = t->state.epoch >= s->epochs ||
	                    (s->early_stop_patience > 0 && t->state.bad_epochs >= s->early_stop_patience);
}

static hd_status make_model(hd_trainer *t, hd_checkpoint *from, const hd_weights *weights)
{
	hd_status st;
	hd_model_config config;
	HD_TRY(hd_model_config_from(&config, t->settings, &t->dataset.card, (int)t->settings->batch_size));
	config.label_sigma = hd_dataset_has_label_sigma(&t->dataset);
	hd_precision_apply(&config, t->settings);
	HD_TRY(hd_model_create(&t->model, t->backend, &config));
	if (t->settings->resume_training) {
		HD_TRY(hd_checkpoint_load_state(t->model, from));
		take_state(t, from);
		if (t->state.loss_scale > 0)
			HD_TRY(hd_model_set_loss_scale(t->model, t->state.loss_scale, t->state.good_steps));
		goto done;
	}
	HD_TRY(hd_model_initialize(t->model, (uint64_t)t->settings->seed));
	HD_TRY(start_from(t, from, weights));
	if (config.average)
		HD_TRY(hd_model_start_average(t->model));
	t->state.best_loss = t->state.stop_loss = INFINITY;
done:
	return st;
}

/* The few batches of overfit_batches and fast_dev_run: the first in the order of epoch 0. */
static hd_status take_few(hd_trainer *t)
{
	hd_status st = HD_OK;
	const hd_settings *s = t->settings;
	int64_t batches = s->overfit_batches ? s->overfit_batches : s->fast_dev_run ? s->accumulate_grad_batches : 0;
	if (!batches)
		return HD_OK;
	HD_TRY(hd_epoch_order(t->train, t->train_count, &t->dataset.samples, (uint64_t)s->seed, 0));
	if (t->train_count > batches * s->batch_size)
		t->train_count = batches * s->batch_size;
	if (s->overfit_batches) {
		free(t->val);
		HD_TRY(hd_alloc(&t->val, (size_t)t->train_count, sizeof *t->val));
		memcpy(t->val, t->train, (size_t)t->train_count * sizeof *t->val);
		t->val_count = t->train_count;
	} else if (t->val_count > s->batch_size) {
		t->val_count = s->batch_size;
	}
done:
	return st;
}

/* Settings that go with overfit_batches and fast_dev_run. */
static void simplify(hd_settings *s)
{
	if (s->overfit_batches) {
		hd_message(
		        "overfit_batches %lld: these samples are validated on too; no augmentation, dropout, drop path "
		        "or early stopping",
		        (long long)s->overfit_batches);
		s->augment_dropout = s->level_jitter = s->receiver_dropout = s->dropout_rate = s->drop_path = 0;
		s->scale_min = s->scale_max = 1;
		s->early_stop_patience = 0;
	}
	if (s->fast_dev_run)
		s->epochs = 1;
}

static hd_status open_batcher(hd_trainer *t)
{
	const hd_settings *s = t->settings;
	const hd_augment augment = {.dropout = (float)s->augment_dropout,
	        .scale_min = (float)s->scale_min,
	        .scale_max = (float)s->scale_max,
	        .level_jitter = (float)s->level_jitter,
	        .receiver_dropout = (float)s->receiver_dropout};
	bool augmented = augment.dropout > 0 || augment.scale_min != 1 || augment.scale_max != 1 ||
	                 augment.level_jitter > 0 || augment.receiver_dropout > 0;
	hd_status st = hd_batcher_open(&t->batcher, t->model, t->backend, &t->dataset, augmented ? &augment : NULL);
	if (st == HD_OK)
		st = hd_batcher_keep_on_device(&t->batcher);
	if (st == HD_OK && t->hooks.transform)
		st = hd_batcher_transform(&t->batcher, t->hooks.transform, t->hooks.context);
	return st;
}

hd_status hd_trainer_open(hd_trainer *t, hd_settings *settings, const hd_train_hooks *hooks, bool tracked)
{
	hd_status st;
	char *resumed = NULL;
	hd_checkpoint from = {0};
	hd_weights weights = {0};
	*t = (hd_trainer){.settings = settings};
	if (hooks)
		t->hooks = *hooks;
	hd_model_config widths;
	HD_TRY(hd_every_parse(&t->every, settings->checkpoint_every));
	HD_TRY(hd_head_widths_parse(&widths, settings->head_widths));
	if (settings->resume_training)
		HD_TRY(open_resumed(t, &from, &resumed));
	else
		HD_TRY(open_pretrained(t, &from, &weights));
	simplify(settings);
	/* before the data, which may take hours to read */
	if (tracked)
		HD_TRY(hd_tracker_open(&t->tracker, settings, resumed ? from.run : NULL, resumed));
	HD_TRY(open_backend(t, &from));
	HD_TRY(hd_precision_settle(settings, t->backend));
	HD_TRY(hd_dataset_open(&t->dataset, settings, from.file.map ? &from.card : NULL));
	if (from.file.map && !settings->resume_training)
		hd_dataset_centre(&t->dataset);
	/* who waits has seen all that is quickly found wrong */
	if (tracked)
		HD_TRY(hd_detached(hd_tracker_run(t->tracker)->folder));
	HD_TRY(hd_dataset_load(&t->dataset, settings, t->backend));
	hd_catalog_print(stderr, &t->dataset.catalog, &t->dataset.samples, false);
	HD_TRY(hd_dataset_split(&t->dataset, HD_TRAIN, &t->train, &t->train_count));
	HD_TRY(hd_dataset_split(&t->dataset, HD_VAL, &t->val, &t->val_count));
	HD_TRY(hd_batch_size_resolve(settings, &t->dataset.card, t->backend, t->train_count, false));
	HD_TRY(take_few(t));
	t->steps_per_epoch = (t->train_count + hd_trainer_step_samples(t) - 1) / hd_trainer_step_samples(t);
	HD_TRY(make_model(t, &from, &weights));
	if (tracked)
		memcpy(t->state.run, hd_tracker_run(t->tracker)->id, HD_RUN_ID);
	HD_TRY(open_batcher(t));
	if (!t->train_count)
		st = hd_fail(HD_E_DATA, "%s: no training sample has a readable recording", t->dataset.catalog.path);
done:
	hd_weights_close(&weights);
	hd_checkpoint_close(&from);
	free(resumed);
	return st;
}
