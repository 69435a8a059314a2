/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/model/summary.h"
#include "host/train/evaluate.h"
#include "host/train/schedule.h"
#include "host/train/trainer.h"

#define BETA1 0.9
#define BETA2 0.999
#define ADAM_EPS 1e-8f

void hd_train_result_end(hd_train_result *result, hd_status status)
{
	hd_sent sent = {0};
	hd_tracker_finish(result->tracker, status, &sent);
	result->tracker = NULL;
	snprintf(result->mlflow_run_id, sizeof result->mlflow_run_id, "%s", sent.mlflow_run_id);
}

void hd_train_result_free(hd_train_result *result)
{
	if (!result)
		return;
	hd_train_result_end(result, HD_OK);
	free(result->run);
	hd_dataset_close(&result->dataset);
	free(result->checkpoint_path);
	*result = (hd_train_result){0};
}

/* ---- stepping ---- */

int64_t hd_trainer_step_samples(const hd_trainer *t)
{
	return t->settings->batch_size * t->settings->accumulate_grad_batches;
}

hd_adamw_hyper hd_trainer_hyper(const hd_trainer *t, int64_t step, int64_t first_step)
{
	const hd_settings *s = t->settings;
	bool cosine = !strcmp(s->lr_scheduler, "cosine");
	double own = (double)(step - first_step + 1), all = (double)step;
	return (hd_adamw_hyper){
	        .lr = (float)hd_schedule_lr(s->learning_rate, cosine, step, s->warmup_epochs * t->steps_per_epoch,
	                s->epochs * t->steps_per_epoch),
	        .beta1 = (float)BETA1,
	        .beta2 = (float)BETA2,
	        .eps = ADAM_EPS,
	        .weight_decay = (float)s->weight_decay,
	        .max_norm = (float)s->gradient_clip,
	        .correction1 = (float)(1 - pow(BETA1, own)),
	        .correction2 = (float)(1 - pow(BETA2, own)),
	        /* an average of few steps looks back over as few: TensorFlow's ExponentialMovingAverage(num_updates) */
	        .ema_decay = (float)fmin(s->ema_decay, (1 + all) / (10 + all)),
	};
}

hd_status hd_trainer_nonfinite(const hd_trainer *t, const int32_t *samples, int64_t count, const char *what)
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

/* Steps of the epoch that were queued. */
static int64_t position(const hd_trainer *t)
{
	return t->state.step + hd_steps_pending(t);
}

/* The next step of the epoch; the backbone counts its steps from where it was let go. */
static hd_status queue_step(hd_trainer *t)
{
	hd_status st;
	int64_t step = t->state.global_step + hd_steps_pending(t),
	        free_from = t->settings->unfreeze_epoch * t->steps_per_epoch;
	const hd_adamw_hyper hyper = hd_trainer_hyper(t, step, 0),
	                     backbone = hd_trainer_hyper(t, step, free_from < step ? free_from : step);
	int64_t most = hd_trainer_step_samples(t), from = position(t) * most;
	int64_t count = t->train_count - from < most ? t->train_count - from : most;
	HD_TRY(hd_writer_check(&t->writer));
	HD_TRY(hd_steps_queue(t, t->train + from, count, &hyper, t->settings->unfreeze_epoch ? &backbone : NULL));
done:
	return st;
}

/*
 * Steps that may be left out one after the other because the gradient is not finite: in half precision those that halve
 * the loss scale from its largest value, 2^24, to 1.
 */
static int skips_allowed(const hd_trainer *t)
{
	return hd_model_get_config(t->model)->precision == HD_PRECISION_F16 ? 24 : 0;
}

/* The oldest step that is queued becomes part of the state. */
static hd_status take_step(hd_trainer *t)
{
	hd_status st;
	hd_step step;
	HD_TRY(hd_steps_take(t, &step));
	bool finite = isfinite(step.sums[0]);
	t->skipped_in_a_row = step.skipped ? t->skipped_in_a_row + 1 : 0;
	if (!finite || t->skipped_in_a_row > skips_allowed(t)) {
		st = hd_trainer_nonfinite(t, step.samples, step.count, finite ? "the gradient" : "the loss");
		goto done;
	}
	for (int i = 0; i < 4; i++)
		t->state.sums[i] += step.sums[i];
	if (!step.skipped) {
		t->state.norm_sum += step.norm;
		t->state.norm_max = fmax(t->state.norm_max, step.norm);
	}
	t->state.step++;
	t->state.global_step++;
	t->logged_samples += step.count;
	if (t->state.global_step % t->settings->log_every_n_steps == 0)
		HD_TRY(hd_log_step(t, (double)hd_trainer_hyper(t, t->state.global_step - 1, 0).lr, &step));
done:
	return st;
}

static hd_status take_all(hd_trainer *t)
{
	hd_status st = HD_OK;
	while (st == HD_OK && hd_steps_pending(t))
		st = take_step(t);
	return st;
}

/* Writes `last` behind all that is queued. */
static hd_status keep_here(hd_trainer *t)
{
	hd_status st = take_all(t);
	return st == HD_OK ? hd_keep_last(t) : st;
}

static hd_status interrupted(hd_trainer *t)
{
	if (t->settings->fast_dev_run)
		return hd_fail(HD_E_INTERRUPTED, "interrupted");
	hd_status st = keep_here(t);
	if (st == HD_OK)
		st = hd_writer_wait(&t->writer);
	return st != HD_OK
	               ? st
	               : hd_fail(HD_E_INTERRUPTED, "interrupted in epoch %lld, step %lld; go on with --resume_training",
	                         (long long)t->state.epoch, (long long)t->state.step);
}

hd_status hd_every_parse(hd_every *out, const char *text)
{
	static const struct {
		const char *unit;
		double seconds;
	} units[] = {{"", 0}, {"s", 1}, {"m", 60}, {"h", 3600}};
	char *end;
	double number = strtod(text, &end);
	*out = (hd_every){0};
	if (!text[0])
		return HD_OK;
	for (size_t i = 0; end != text && number >= 0 && number < 1e9 && i < sizeof units / sizeof *units; i++) {
		if (strcmp(end, units[i].unit) != 0 || (i == 0 && number != floor(number)))
			continue;
		out->steps = i == 0 ? (int64_t)number : 0;
		out->seconds = number * units[i].seconds;
		return HD_OK;
	}
	return hd_fail(
	        HD_E_USAGE, "checkpoint_every: '%s' is neither a number of steps nor a time as 30s, 10m or 1h", text);
}

static bool time_to_keep(const hd_trainer *t)
{
	if (position(t) == t->steps_per_epoch || t->settings->fast_dev_run)
		return false;
	int64_t step = t->state.global_step + hd_steps_pending(t);
	return (t->every.steps && step % t->every.steps == 0) ||
	       (t->every.seconds > 0 && hd_now_s() - t->saved_at_s >= t->every.seconds);
}

static void show_progress(const hd_trainer *t, hd_progress *bar)
{
	char note[64];
	int64_t done = t->state.step * hd_trainer_step_samples(t);
	if (!t->state.step)
		return;
	snprintf(note, sizeof note, "loss %.4f", t->state.sums[0] / t->state.sums[1]);
	hd_progress_update(bar, done < t->train_count ? done : t->train_count, note);
}

/* The backbone of freeze_backbone, until unfreeze_epoch. */
static hd_status freeze_for_epoch(hd_trainer *t)
{
	const hd_settings *s = t->settings;
	return hd_model_freeze(t->model, s->freeze_backbone && t->state.epoch < s->unfreeze_epoch);
}

/* The steps of an epoch that are still to do. */
static hd_status train_epoch(hd_trainer *t)
{
	hd_status st;
	char label[48];
	const hd_settings *s = t->settings;
	snprintf(label, sizeof label, "epoch %lld/%lld", (long long)t->state.epoch + 1, (long long)s->epochs);
	hd_progress *bar = hd_progress_start(label, "sample", t->train_count);
	if (s->freeze_backbone && s->unfreeze_epoch && t->state.epoch == s->unfreeze_epoch && t->state.step == 0)
		hd_message("the backbone is trained from here on");
	HD_TRY(freeze_for_epoch(t));
	HD_TRY(hd_epoch_order(
	        t->train, t->train_count, &t->dataset.samples, (uint64_t)s->seed, (uint32_t)t->state.epoch));
	while (t->state.step < t->steps_per_epoch) {
		if (position(t) < t->steps_per_epoch)
			HD_TRY(queue_step(t));
		if (!hd_steps_room(t) || position(t) == t->steps_per_epoch)
			HD_TRY(take_step(t));
		show_progress(t, bar);
		if (hd_stop_requested()) {
			st = interrupted(t);
			goto done;
		}
		if (time_to_keep(t))
			HD_TRY(keep_here(t));
	}
done:
	free(bar);
	return st;
}

/* Metrics on the validation split, of the averaged weights where there are any. */
static hd_status validate(hd_trainer *t, hd_metrics *out)
{
	hd_model_use(t->model, hd_model_get_config(t->model)->average ? HD_FLAT_AVERAGE : HD_FLAT_WEIGHTS);
	hd_status st = hd_evaluate(out, NULL, &t->batcher, t->val, t->val_count, NULL, true);
	hd_model_use(t->model, HD_FLAT_WEIGHTS);
	return st == HD_E_INTERRUPTED ? interrupted(t) : st;
}

static hd_metrics train_metrics(const hd_trainer *t)
{
	const double *sums = t->state.sums;
	return (hd_metrics){.loss = sums[0] / sums[1],
	        .nll = (sums[2] + sums[3]) / sums[1],
	        .log_term = sums[2] / sums[1],
	        .mse_term = sums[3] / sums[1]};
}

static void print_epoch(const hd_trainer *t, const hd_metrics *train, const hd_metrics *val, double lr, double seconds)
{
	const hd_train_state *s = &t->state;
	hd_message("epoch %lld/%lld  train_loss %.4f  val_loss %.4f  val_median %.0f m  val_mae %.0f m  (centre %.0f "
	           "m)  %.0f samples/s",
	        (long long)s->epoch + 1, (long long)t->settings->epochs, train->loss, val->loss, val->median_m,
	        val->mae_m, val->centre_median_m, (double)t->train_count / seconds);
	hd_message("  nll %.4f = log sigma %.4f + squares %.4f  z variance %.2f  at bound %.0f %%  lr %.3g  gradient "
	           "norm %.3g, at most %.3g",
	        val->nll, val->log_term, val->mse_term, val->z_variance, 100 * val->sigma_at_bound, lr,
	        s->norm_sum / (double)t->steps_per_epoch, s->norm_max);
}

/* What the back end found out on the way, as a library's way that did not agree. */
static void print_notes(hd_backend *backend)
{
	char text[8192];
	if (backend->notes && backend->notes(backend, text, sizeof text))
		hd_warn("%s", text);
}

static hd_status run_epoch(hd_trainer *t, hd_metrics *val)
{
	hd_status st;
	double started = hd_now_s();
	HD_TRY(train_epoch(t));
	double lr = (double)hd_trainer_hyper(t, t->state.global_step - 1, 0).lr;
	const hd_metrics train = train_metrics(t);
	*val = train;
	if (t->val_count)
		HD_TRY(validate(t, val));
	if (!isfinite(val->loss)) {
		st = hd_trainer_nonfinite(t, t->val, t->val_count < 4 ? t->val_count : 4, "val_loss");
		goto done;
	}
	double seconds = hd_now_s() - started;
	print_epoch(t, &train, val, lr, seconds);
	print_notes(t->backend);
	if (t->hooks.epoch_end)
		t->hooks.epoch_end(t->hooks.context, t->state.epoch, &train, val);
	if (t->settings->fast_dev_run) {
		t->state.epoch++;
		t->state.finished = true;
		goto done;
	}
	HD_TRY(hd_log_epoch(t, &train, val, lr, seconds));
	HD_TRY(hd_keep_epoch(t, val->loss));
done:
	return st;
}

/* ---- the run ---- */

static void print_start(hd_trainer *t)
{
	const hd_data_card *c = &t->dataset.card;
	const hd_settings *s = t->settings;
	hd_message("%s back end, %s, %d threads (%s)", t->backend->name, t->backend->tier, t->backend->threads,
	        t->backend->reason);
	hd_message("ConvNeXt %s, precision %s", s->backbone_size, s->precision);
	hd_model_summary_print(stderr, t->model);
	hd_message("labels: metres around %.5f, %.5f, unit %.0f m; sigma %.4g .. %.4g m", c->frame.origin_latitude_deg,
	        c->frame.origin_longitude_deg, c->frame.scale_m, c->sigma_min_m, c->sigma_max_m);
	if (!strcmp(s->head_norm, "batch"))
		hd_message("batch norm in the heads: results depend on how samples fall into batches");
	if (!strcmp(s->loss, "mse"))
		hd_warn("loss mse does not train the uncertainty head: its sigmas say nothing");
}

/* The best weights take the place of the last ones, which are on disk. */
static hd_status finish(hd_train_result *out, hd_trainer *t)
{
	hd_status st;
	hd_checkpoint best = {0};
	HD_TRY(hd_writer_wait(&t->writer));
	HD_TRY(hd_sprintf(&out->checkpoint_path, "%s/best.safetensors", t->settings->checkpoint_dir));
	out->epochs = t->state.epoch;
	out->has_metrics = t->val_count > 0;
	if (!out->has_metrics)
		goto done;
	HD_TRY(hd_checkpoint_open(&best, out->checkpoint_path));
	HD_TRY(hd_checkpoint_load_weights(t->model, &best));
	HD_TRY(hd_evaluate(&out->metrics, NULL, &t->batcher, t->val, t->val_count, NULL, false));
	hd_log_best(t, &out->metrics);
done:
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

/* What was promised and what it came to, where the back end's memory is the program's own. */
static void report_memory(const hd_trainer *t)
{
	struct rusage usage;
	size_t own, maps;
	int64_t parameters;
	if (strcmp(t->backend->name, "cpu") != 0 || getrusage(RUSAGE_SELF, &usage) != 0 ||
	        hd_model_footprint(t->backend, hd_model_get_config(t->model), &own, &maps, &parameters) != HD_OK)
		return;
	double features = (double)hd_dataset_feature_bytes(&t->dataset);
	hd_message("memory: %.0f MB planned (model %.0f, features %.0f), %.0f MB at the peak",
	        ((double)(own + maps) + features) / 1e6, (double)(own + maps) / 1e6, features / 1e6,
	        (double)usage.ru_maxrss * 1024 / 1e6);
}

static hd_status begin_run(hd_trainer *t)
{
	int tensors;
	const hd_parameter *p = hd_model_parameters(t->model, &tensors);
	hd_tracker_start start = {.settings = t->settings,
	        .dataset = &t->dataset,
	        .backend = t->backend,
	        .train = t->train_count,
	        .val = t->val_count,
	        .step = t->state.global_step,
	        .overrides = t->overrides};
	for (int i = 0; i < tensors; i++)
		start.parameters += p[i].size;
	return hd_tracker_begin(t->tracker, &start);
}

static hd_status begin_files(hd_trainer *t)
{
	hd_status st;
	HD_TRY(open_folder(t->settings));
	HD_TRY(hd_writer_open(&t->writer, t->model, t->backend, t->settings, &t->dataset.card));
	HD_TRY(hd_log_begin(t));
	HD_TRY(begin_run(t));
	/* so that a run killed before its first checkpoint can be resumed too */
	if (!t->settings->resume_training)
		HD_TRY(hd_keep_last(t));
	t->saved_at_s = hd_now_s();
done:
	return st;
}

hd_status hd_train(hd_train_result *out, hd_settings *settings, const hd_train_hooks *hooks)
{
	hd_status st;
	hd_trainer t;
	hd_metrics val = {0};
	*out = (hd_train_result){0};
	hd_stop_begin();
	HD_TRY(hd_trainer_open(&t, settings, hooks, !settings->fast_dev_run));
	HD_TRY(hd_steps_open(&t));
	HD_TRY(freeze_for_epoch(&t));
	print_start(&t);
	if (!settings->fast_dev_run)
		HD_TRY(begin_files(&t));
	while (!t.state.finished)
		HD_TRY(run_epoch(&t, &val));
	if (settings->fast_dev_run) {
		out->epochs = t.state.epoch;
		out->has_metrics = t.val_count > 0;
		out->metrics = val;
		goto done;
	}
	if (t.state.epoch < settings->epochs)
		hd_message("stopped early: val_loss has not improved for %lld epochs, best in epoch %lld",
		        (long long)t.state.bad_epochs, (long long)t.state.best_epoch + 1);
	HD_TRY(finish(out, &t));
	report_memory(&t);
	out->dataset = t.dataset;
	t.dataset = (hd_dataset){0};
	/* what follows, as the export, belongs to the run */
	HD_TRY(hd_strdup(&out->run, hd_tracker_run(t.tracker)->folder));
	out->tracker = t.tracker;
	t.tracker = NULL;
done:
	hd_tracker_finish(t.tracker, st, NULL);
	hd_steps_close(&t);
	hd_writer_close(&t.writer);
	hd_trainer_close(&t);
	hd_stop_end();
	return st;
}
