/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/model/weights.h"
#include "host/train/evaluate.h"
#include "host/train/schedule.h"
#include "host/train/trainer.h"

#define BETA1 0.9
#define BETA2 0.999
#define ADAM_EPS 1e-8f

void hd_train_result_free(hd_train_result *result)
{
	if (!result)
		return;
	free(result->checkpoint_path);
	*result = (hd_train_result){0};
}

void hd_trainer_close(hd_trainer *t)
{
	hd_train_state_free(&t->state);
	hd_batcher_close(&t->batcher);
	hd_model_free(t->model);
	free(t->val);
	free(t->train);
	hd_dataset_close(&t->dataset);
	hd_backend_close(t->backend);
}

/* ---- starting ---- */

static hd_status find_checkpoint(char **out, const hd_settings *s)
{
	return s->checkpoint[0] ? hd_strdup(out, s->checkpoint) : hd_checkpoint_find_newest(out, s->checkpoint_dir);
}

/* Settings and state of the run to resume; what was set anew and differs is named. */
static hd_status open_resumed(hd_trainer *t, hd_checkpoint *from)
{
	hd_status st;
	char *path = NULL, *differences = NULL;
	HD_TRY(find_checkpoint(&path, t->settings));
	HD_TRY(hd_checkpoint_open(from, path));
	if (!hd_safetensors_find(&from->file, "exp_avg.head.norm.weight")) {
		st = hd_fail(HD_E_DATA, "%s: holds weights only; resume from last.safetensors", path);
		goto done;
	}
	HD_TRY(hd_settings_inherit(t->settings, &from->settings, &differences));
	if (differences)
		hd_warn("resuming with other settings than before: %s", differences);
	if (!t->settings->given[HD_SET_threads] && from->threads > 0)
		t->settings->threads = from->threads;
	hd_message(
	        "resuming %s: epoch %lld, step %lld", path, (long long)from->state.epoch, (long long)from->state.step);
done:
	free(differences);
	free(path);
	return st;
}

/* Settings that the pretrained weights depend on; what was given otherwise is named. */
static hd_status open_pretrained(hd_trainer *t, hd_checkpoint *from)
{
	char *differences = NULL;
	hd_status st = hd_checkpoint_open(from, t->settings->pretrained);
	/* a file of weights alone is opened when there is a model to put them into */
	if (st == HD_E_DATA)
		return HD_OK;
	if (st != HD_OK)
		goto done;
	HD_TRY(hd_settings_inherit_model(t->settings, &from->settings, &differences));
	if (differences)
		hd_warn("%s was trained with other settings: %s", t->settings->pretrained, differences);
	hd_message("weights, receivers, label frame and statistics from %s", t->settings->pretrained);
done:
	free(differences);
	return st;
}

static hd_status open_backend(hd_trainer *t, const hd_checkpoint *from)
{
	hd_status st = hd_backend_open(&t->backend, t->settings->accelerator, (int)t->settings->threads);
	if (st == HD_OK && t->settings->resume_training && from->tier && strcmp(from->tier, t->backend->tier) != 0) {
		/* the recorded tier gives the same bits, where this processor has it */
		hd_backend *same;
		if (hd_backend_open_cpu(&same, from->tier, (int)t->settings->threads) == HD_OK) {
			hd_backend_close(t->backend);
			t->backend = same;
		} else {
			hd_warn("the checkpoint was made with instruction tier %s, this processor runs %s: results "
			        "will differ in "
			        "the last bits",
			        from->tier, t->backend->tier);
		}
	}
	return st;
}

/* Weights of a checkpoint, or of a published file, into a model that was made at random. */
static hd_status start_from(hd_trainer *t, const hd_checkpoint *from)
{
	hd_weights weights = {0};
	hd_weights_report report = {0};
	if (from->file.map)
		return hd_checkpoint_load_weights(t->model, from);
	hd_status st = hd_weights_open(&weights, t->settings->pretrained);
	if (st == HD_OK)
		st = hd_weights_load(t->model, &weights, &report);
	if (st == HD_OK)
		hd_weights_report_print(stderr, &weights, &report);
	hd_weights_report_free(&report);
	hd_weights_close(&weights);
	return st;
}

static hd_status make_model(hd_trainer *t, hd_checkpoint *from)
{
	hd_status st;
	hd_model_config config;
	int batch = (int)t->settings->batch_size;
	if (t->settings->resume_training) {
		HD_TRY(hd_checkpoint_model(&t->model, from, t->backend, batch, true));
		t->state = from->state;
		from->state = (hd_train_state){0};
		/* more epochs than before, or more patience, take a finished run up again */
		t->state.finished = t->state.epoch >= t->settings->epochs ||
		                    (t->settings->early_stop_patience > 0 &&
		                            t->state.bad_epochs >= t->settings->early_stop_patience);
	} else {
		HD_TRY(hd_model_config_from(&config, t->settings, &t->dataset.card, batch));
		HD_TRY(hd_model_create(&t->model, t->backend, &config));
		HD_TRY(hd_model_initialize(t->model, (uint64_t)t->settings->seed));
		if (t->settings->pretrained[0])
			HD_TRY(start_from(t, from));
		t->state.best_loss = INFINITY;
	}
done:
	return st;
}

static hd_status open_trainer(hd_trainer *t, hd_settings *settings)
{
	hd_status st;
	hd_checkpoint from = {0};
	*t = (hd_trainer){.settings = settings};
	if (settings->resume_training)
		HD_TRY(open_resumed(t, &from));
	else if (settings->pretrained[0])
		HD_TRY(open_pretrained(t, &from));
	HD_TRY(open_backend(t, &from));
	HD_TRY(hd_dataset_open(&t->dataset, settings, from.file.map ? &from.card : NULL));
	if (from.file.map && settings->pretrained[0])
		hd_dataset_centre(&t->dataset);
	HD_TRY(hd_dataset_load(&t->dataset, settings, t->backend));
	hd_catalog_print(stderr, &t->dataset.catalog, &t->dataset.samples, false);
	HD_TRY(hd_dataset_split(&t->dataset, HD_TRAIN, &t->train, &t->train_count));
	HD_TRY(hd_dataset_split(&t->dataset, HD_VAL, &t->val, &t->val_count));
	t->steps_per_epoch = (t->train_count + settings->batch_size - 1) / settings->batch_size;
	HD_TRY(make_model(t, &from));
	const hd_augment augment = {.dropout = (float)settings->augment_dropout,
	        .scale_min = (float)settings->scale_min,
	        .scale_max = (float)settings->scale_max,
	        .level_jitter = (float)settings->level_jitter,
	        .receiver_dropout = (float)settings->receiver_dropout};
	bool augmented = augment.dropout > 0 || augment.scale_min != 1 || augment.scale_max != 1 ||
	                 augment.level_jitter > 0 || augment.receiver_dropout > 0;
	HD_TRY(hd_batcher_open(&t->batcher, t->model, t->backend, &t->dataset, augmented ? &augment : NULL));
	if (!t->train_count)
		st = hd_fail(HD_E_DATA, "%s: no training sample has a readable recording", settings->data_dir);
done:
	hd_checkpoint_close(&from);
	return st;
}

static void print_start(const hd_trainer *t)
{
	const hd_data_card *c = &t->dataset.card;
	hd_message("%s back end, tier %s, %d threads", t->backend->name, t->backend->tier, t->backend->threads);
	hd_message("ConvNeXt %s, %d channels: %.2f M parameters", t->settings->backbone_size, c->channels,
	        (double)hd_model_parameter_count(t->model) / 1e6);
	hd_message("labels: metres around %.5f, %.5f, unit %.0f m; sigma %.4g .. %.4g m", c->frame.origin_latitude_deg,
	        c->frame.origin_longitude_deg, c->frame.scale_m, c->sigma_min_m, c->sigma_max_m);
}

/* ---- stepping ---- */

/* Of optimizer step `step`, counted from 0. */
static hd_adamw_hyper hyper_at(const hd_trainer *t, int64_t step)
{
	const hd_settings *s = t->settings;
	bool cosine = !strcmp(s->lr_scheduler, "cosine");
	return (hd_adamw_hyper){
	        .lr = (float)hd_schedule_lr(s->learning_rate, cosine, step, s->warmup_epochs * t->steps_per_epoch,
	                s->epochs * t->steps_per_epoch),
	        .beta1 = (float)BETA1,
	        .beta2 = (float)BETA2,
	        .eps = ADAM_EPS,
	        .weight_decay = (float)s->weight_decay,
	        .max_norm = (float)s->gradient_clip,
	        .correction1 = (float)(1 - pow(BETA1, (double)(step + 1))),
	        .correction2 = (float)(1 - pow(BETA2, (double)(step + 1))),
	};
}

/* The error of a loss that is not finite: which recordings were in the batch. */
static hd_status nonfinite(const hd_trainer *t, const int32_t *samples, int64_t count, const char *what)
{
	char list[1024] = "";
	for (int64_t i = 0; i < count; i++) {
		const hd_sample *s = &t->dataset.samples.samples[samples[i]];
		for (int c = 0; c < t->dataset.samples.R; c++) {
			size_t used = strlen(list);
			if (s->recording[c] < 0)
				continue;
			snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "",
			        t->dataset.catalog.recordings[s->recording[c]].iq);
			break;
		}
	}
	return hd_fail(HD_E_NONFINITE,
	        "%s is not finite in epoch %lld, step %lld; the last good checkpoint is kept; try a lower "
	        "--learning_rate; samples of the batch (first recording of each): %s",
	        what, (long long)t->state.epoch, (long long)t->state.step, list);
}

static hd_status train_step(hd_trainer *t, const hd_adamw_hyper *hyper)
{
	hd_status st;
	hd_backend *be = t->backend;
	int64_t N = t->settings->batch_size, from = t->state.step * N;
	int64_t count = t->train_count - from < N ? t->train_count - from : N;
	float sums[4], norm2;
	bool skipped;
	HD_TRY(hd_batcher_fill(&t->batcher, t->train + from, NULL, count, (uint64_t)t->settings->seed,
	        (uint32_t)t->state.epoch, true));
	HD_TRY(hd_model_forward(t->model, true));
	HD_TRY(hd_model_loss(t->model, 1.0f / (float)count));
	HD_TRY(hd_model_backward(t->model));
	HD_TRY(hd_model_step(t->model, hyper));
	HD_TRY(be->download(be, sums, hd_model_buffers(t->model)->sums, sizeof sums, NULL));
	HD_TRY(hd_model_step_result(t->model, &norm2, &skipped));
	if (!isfinite(sums[0]) || skipped) {
		st = nonfinite(t, t->train + from, count, skipped && isfinite(sums[0]) ? "the gradient" : "the loss");
		goto done;
	}
	for (int i = 0; i < 4; i++)
		t->state.sums[i] += (double)sums[i];
	t->state.step++;
	t->state.global_step++;
done:
	return st;
}

static hd_status interrupted(hd_trainer *t)
{
	hd_status st = hd_keep_last(t);
	return st != HD_OK
	               ? st
	               : hd_fail(HD_E_INTERRUPTED, "interrupted in epoch %lld, step %lld; go on with --resume_training",
	                         (long long)t->state.epoch, (long long)t->state.step);
}

/* The steps of an epoch that are still to do. */
static hd_status train_epoch(hd_trainer *t)
{
	hd_status st;
	char label[48], note[64];
	int64_t N = t->settings->batch_size, every = t->settings->checkpoint_every;
	snprintf(label, sizeof label, "epoch %lld/%lld", (long long)t->state.epoch + 1, (long long)t->settings->epochs);
	hd_progress *bar = hd_progress_start(label, "sample", t->train_count);
	HD_TRY(hd_epoch_order(
	        t->train, t->train_count, &t->dataset.samples, (uint64_t)t->settings->seed, (uint32_t)t->state.epoch));
	while (t->state.step < t->steps_per_epoch) {
		hd_adamw_hyper hyper = hyper_at(t, t->state.global_step);
		HD_TRY(train_step(t, &hyper));
		snprintf(note, sizeof note, "loss %.4f", t->state.sums[0] / t->state.sums[1]);
		int64_t done = t->state.step * N;
		hd_progress_update(bar, done < t->train_count ? done : t->train_count, note);
		if (hd_stop_requested()) {
			st = interrupted(t);
			goto done;
		}
		if (every && t->state.global_step % every == 0 && t->state.step < t->steps_per_epoch)
			HD_TRY(hd_keep_last(t));
	}
done:
	free(bar);
	return st;
}

static hd_status run_epoch(hd_trainer *t)
{
	hd_status st;
	hd_metrics val = {0};
	double started = hd_now_s();
	HD_TRY(train_epoch(t));
	double lr = (double)hyper_at(t, t->state.global_step - 1).lr;
	double train_loss = t->state.sums[0] / t->state.sums[1];
	val.loss = train_loss;
	if (t->val_count) {
		st = hd_evaluate(&val, NULL, &t->batcher, t->val, t->val_count, NULL, true);
		if (st == HD_E_INTERRUPTED)
			st = interrupted(t);
		if (st != HD_OK)
			goto done;
	}
	if (!isfinite(val.loss)) {
		st = nonfinite(t, t->val, t->val_count < 4 ? t->val_count : 4, "val_loss");
		goto done;
	}
	double seconds = hd_now_s() - started;
	hd_message("epoch %lld/%lld  train_loss %.4f  val_loss %.4f  val_median %.0f m  val_mae %.0f m  (centre %.0f "
	           "m)  %.0f "
	           "samples/s",
	        (long long)t->state.epoch + 1, (long long)t->settings->epochs, train_loss, val.loss, val.median_m,
	        val.mae_m, val.centre_median_m, (double)t->train_count / seconds);
	HD_TRY(hd_metrics_log(t, train_loss, t->state.sums[2] / t->state.sums[1], t->state.sums[3] / t->state.sums[1],
	        &val, lr, seconds));
	HD_TRY(hd_keep_epoch(t, val.loss));
done:
	return st;
}

/* ---- the run ---- */

static hd_status finish(hd_train_result *out, hd_trainer *t)
{
	hd_status st;
	hd_checkpoint best = {0};
	hd_model *model = NULL;
	hd_batcher batcher = {0};
	HD_TRY(hd_sprintf(&out->checkpoint_path, "%s/best.safetensors", t->settings->checkpoint_dir));
	out->epochs = t->state.epoch;
	out->has_metrics = t->val_count > 0;
	if (!out->has_metrics)
		goto done;
	HD_TRY(hd_checkpoint_open(&best, out->checkpoint_path));
	HD_TRY(hd_checkpoint_model(&model, &best, t->backend, (int)t->settings->batch_size, false));
	HD_TRY(hd_batcher_open(&batcher, model, t->backend, &t->dataset, NULL));
	HD_TRY(hd_evaluate(&out->metrics, NULL, &batcher, t->val, t->val_count, NULL, false));
done:
	hd_batcher_close(&batcher);
	hd_model_free(model);
	hd_checkpoint_close(&best);
	return st;
}

/* A folder with somebody's checkpoints is written over all the same, but not in silence. */
static hd_status open_folder(const hd_settings *s)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/last.safetensors", s->checkpoint_dir);
	if (!s->resume_training && access(path, F_OK) == 0)
		hd_warn("%s holds checkpoints of another run, which are replaced; --resume_training goes on with it",
		        s->checkpoint_dir);
	return hd_make_folders(s->checkpoint_dir);
}

hd_status hd_train(hd_train_result *out, hd_settings *settings)
{
	hd_status st;
	hd_trainer t;
	*out = (hd_train_result){0};
	hd_stop_begin();
	HD_TRY(open_trainer(&t, settings));
	HD_TRY(open_folder(settings));
	print_start(&t);
	/* so that a run killed before its first checkpoint can be resumed too */
	if (!settings->resume_training)
		HD_TRY(hd_keep_last(&t));
	while (!t.state.finished)
		HD_TRY(run_epoch(&t));
	if (t.state.epoch < settings->epochs)
		hd_message("stopped early: val_loss has not improved for %lld epochs, best in epoch %lld",
		        (long long)t.state.bad_epochs, (long long)t.state.best_epoch + 1);
	HD_TRY(finish(out, &t));
done:
	hd_trainer_close(&t);
	hd_stop_end();
	return st;
}
