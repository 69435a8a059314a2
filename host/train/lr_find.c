/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/lr_find.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/report/line_plot.h"
#include "host/train/trainer.h"

#define LR_LOW 1e-8
#define LR_HIGH 1.0
#define WINDOW 4.0 /* steps: deviation of the kernel that smooths the losses */
#define RECENT 5   /* steps whose mean tells that the loss runs away */
#define SKIP_BEGIN 10
#define SKIP_END 1

static double rate_of(int step)
{
	return LR_LOW * pow(LR_HIGH / LR_LOW, (double)step / (HD_LR_FIND_STEPS - 1));
}

/* Gaussian means: unlike a running average they neither lag behind nor start with one step's noise. */
static void smooth(hd_lr_find *f)
{
	for (int i = 0; i < f->steps; i++) {
		double sum = 0, weights = 0;
		for (int k = 0; k < f->steps; k++) {
			double weight = exp(-0.5 * pow((k - i) / WINDOW, 2));
			sum += weight * f->loss[k];
			weights += weight;
		}
		f->smooth[i] = sum / weights;
	}
}

void hd_lr_find_suggest(hd_lr_find *f)
{
	double steepest = 0;
	f->suggestion = NAN;
	smooth(f);
	for (int i = SKIP_BEGIN; i + 1 < f->steps - SKIP_END; i++) {
		double slope = (f->smooth[i + 1] - f->smooth[i - 1]) / 2;
		if (slope < steepest) {
			steepest = slope;
			f->suggestion = f->lr[i];
		}
	}
}

static double recent_mean(const hd_lr_find *f, int end)
{
	double sum = 0;
	for (int i = end - RECENT; i < end; i++)
		sum += f->loss[i];
	return sum / RECENT;
}

/* The loss is as far above its start as it had come below. */
static bool ran_away(const hd_lr_find *f)
{
	if (!isfinite(f->loss[f->steps - 1]))
		return true;
	if (f->steps <= 2 * SKIP_BEGIN)
		return false;
	double first = recent_mean(f, RECENT), last = recent_mean(f, f->steps), lowest = first;
	for (int end = RECENT; end <= f->steps; end++)
		lowest = fmin(lowest, recent_mean(f, end));
	return last - first > first - lowest;
}

/* Step number `step` of one pass after the other through the training split, whose next sample is *at. */
static hd_status queue_rate(hd_trainer *t, int step, int64_t *at)
{
	hd_status st = HD_OK;
	int64_t most = hd_trainer_step_samples(t);
	if (*at >= t->train_count) {
		*at = 0;
		t->state.epoch++;
	}
	if (*at == 0)
		HD_TRY(hd_epoch_order(t->train, t->train_count, &t->dataset.samples, (uint64_t)t->settings->seed,
		        (uint32_t)t->state.epoch));
	int64_t count = t->train_count - *at < most ? t->train_count - *at : most;
	hd_adamw_hyper hyper = hd_trainer_hyper(t, step, 0);
	hyper.lr = (float)rate_of(step);
	HD_TRY(hd_steps_queue(t, t->train + *at, count, &hyper, NULL));
	*at += count;
done:
	return st;
}

/* A step that is queued when the loss runs away is not looked at: no weights are kept. */
static hd_status try_rates(hd_lr_find *f, hd_trainer *t)
{
	hd_status st = HD_OK;
	hd_progress *bar = hd_progress_start("lr_find", "step", HD_LR_FIND_STEPS);
	int64_t at = 0;
	int queued = 0;
	for (f->steps = 0; f->steps < HD_LR_FIND_STEPS;) {
		hd_step step;
		while (queued < HD_LR_FIND_STEPS && hd_steps_room(t))
			HD_TRY(queue_rate(t, queued++, &at));
		HD_TRY(hd_steps_take(t, &step));
		f->lr[f->steps] = rate_of(f->steps);
		f->loss[f->steps] = step.sums[0] / step.sums[1];
		f->steps++;
		hd_progress_update(bar, f->steps, NULL);
		if (hd_stop_requested()) {
			st = hd_fail(HD_E_INTERRUPTED, "interrupted");
			goto done;
		}
		if (ran_away(f))
			break;
	}
done:
	free(bar);
	return st;
}

static hd_status write_table(const char *path, const hd_lr_find *f)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for %s", path);
	fprintf(to, "step,lr,loss,smoothed_loss\n");
	for (int i = 0; i < f->steps; i++)
		fprintf(to, "%d,%.9g,%.9g,%.9g\n", i + 1, f->lr[i], f->loss[i], f->smooth[i]);
	fclose(to);
	hd_status st = hd_file_write(path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	return st;
}

static hd_status write_results(const hd_lr_find *f, const char *folder)
{
	hd_status st;
	char *table = NULL, *picture = NULL, marker[48];
	snprintf(marker, sizeof marker, "suggestion %.3g", f->suggestion);
	const hd_curve curves[] = {{.name = "loss", .x = f->lr, .y = f->loss, .n = (size_t)f->steps, .faint = true},
	        {.name = "smoothed", .x = f->lr, .y = f->smooth, .n = (size_t)f->steps}};
	const hd_line_plot plot = {.title = "Learning-rate range test",
	        .x_label = "learning rate",
	        .y_label = "loss",
	        .log_x = true,
	        .curves = curves,
	        .curve_count = 2,
	        .marker_x = f->suggestion,
	        .marker_label = marker};
	HD_TRY(hd_make_folders(folder));
	HD_TRY(hd_sprintf(&table, "%s/lr_find.csv", folder));
	HD_TRY(hd_sprintf(&picture, "%s/lr_find.png", folder));
	HD_TRY(write_table(table, f));
	HD_TRY(hd_line_plot_write(picture, &plot));
	hd_message("%s and lr_find.csv beside it", picture);
done:
	free(picture);
	free(table);
	return st;
}

hd_status hd_train_lr_find(hd_lr_find *out, hd_settings *settings)
{
	hd_status st;
	hd_trainer t;
	*out = (hd_lr_find){.suggestion = NAN};
	hd_stop_begin();
	HD_TRY(hd_trainer_open(&t, settings, NULL, false));
	HD_TRY(hd_steps_open(&t));
	HD_TRY(try_rates(out, &t));
	hd_lr_find_suggest(out);
	HD_TRY(write_results(out, settings->checkpoint_dir));
done:
	hd_steps_close(&t);
	hd_trainer_close(&t);
	hd_stop_end();
	return st;
}
