/* SPDX-License-Identifier: Apache-2.0 */
/* The tables beside the checkpoints: metrics.csv, one row per epoch, and steps.csv, one per some steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/train/trainer.h"

#define EPOCHS_HEADER                                                                                                  \
	"epoch,step,lr,gradient_norm,gradient_norm_max,train_loss,train_nll,train_log_term,train_mse_term,val_loss,"   \
	"val_nll,val_log_term,val_mse_term,val_mae_m,val_median_m,val_p90_m,val_acc_100m,val_mean_sigma_m,"            \
	"val_calibration_error_m,val_expected_minus_observed_m,val_z_variance,val_sigma_at_bound,val_centre_median_m," \
	"seconds\n"
#define STEPS_HEADER "step,epoch,lr,loss,gradient_norm\n"

static hd_status path_of(char **out, const hd_trainer *t, const char *name)
{
	return hd_sprintf(out, "%s/%s", t->settings->checkpoint_dir, name);
}

/*
 * Writes the table again: its header, the rows whose first number is below `end`, then `row`. Rows behind belong to
 * steps that a resumed run does again.
 */
static hd_status rewrite(const hd_trainer *t, const char *name, const char *header, int64_t end, const char *row)
{
	hd_status st;
	char *path = NULL, *text = NULL, line[1024];
	size_t bytes = 0;
	FILE *old = NULL, *to = open_memstream(&text, &bytes);
	HD_TRY(to ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for %s", name));
	HD_TRY(path_of(&path, t, name));
	fputs(header, to);
	old = end > 0 ? fopen(path, "r") : NULL;
	while (old && fgets(line, sizeof line, old)) {
		char *after;
		long long number = strtoll(line, &after, 10);
		if (after != line && *after == ',' && number < end)
			fputs(line, to);
	}
	fputs(row, to);
done:
	if (old)
		fclose(old);
	if (to && fclose(to) != 0 && st == HD_OK)
		st = hd_fail(HD_E_MEMORY, "out of host memory for %s", name);
	if (st == HD_OK)
		st = hd_file_write(path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	free(path);
	return st;
}

/* The epoch's figures as points: the training split's means, and all there is to say of the validation split. */
static void log_epoch_points(hd_trainer *t, const hd_metrics *train, const hd_metrics *v, double seconds)
{
	hd_metric points[HD_METRICS_PER_LINE];
	size_t count = 0;
#define POINT(text, number) points[count++] = (hd_metric){.name = (text), .value = (number)}
	POINT("train/loss_epoch", train->loss);
	POINT("train/log_term_epoch", train->log_term);
	POINT("train/mse_term_epoch", train->mse_term);
	POINT("epoch_seconds", seconds);
	POINT("epoch", (double)t->state.epoch);
	if (t->val_count) {
		POINT("val/loss", v->loss);
		POINT("val/nll", v->nll);
		POINT("val/log_term", v->log_term);
		POINT("val/mse_term", v->mse_term);
#define X(name, unit, text) POINT("val/" #name, v->name);
		HD_METRICS(X)
#undef X
	}
#undef POINT
	hd_tracker_log(t->tracker, t->state.global_step, t->state.epoch, points, count);
	hd_tracker_progress(t->tracker, t->state.global_step, t->state.epoch + 1, true);
}

void hd_log_best(hd_trainer *t, const hd_metrics *v)
{
	const hd_metric points[] = {{"best/loss", v->loss}, {"best/epoch", (double)t->state.best_epoch + 1},
#define X(name, unit, text) {"best/" #name, v->name},
	        HD_METRICS(X)
#undef X
	};
	hd_tracker_log(t->tracker, t->state.global_step, t->state.epoch, points, sizeof points / sizeof *points);
}

hd_status hd_log_epoch(hd_trainer *t, const hd_metrics *train, const hd_metrics *v, double lr, double seconds)
{
	char row[1024];
	const double values[] = {train->loss, train->nll, train->log_term, train->mse_term, v->loss, v->nll,
	        v->log_term, v->mse_term, v->mae_m, v->median_m, v->p90_m, v->acc_100m, v->mean_sigma_m,
	        v->calibration_error_m, v->expected_minus_observed_m, v->z_variance, v->sigma_at_bound,
	        v->centre_median_m};
	int used = snprintf(row, sizeof row, "%lld,%lld,%.6g,%.6g,%.6g", (long long)t->state.epoch,
	        (long long)t->state.global_step, lr, t->state.norm_sum / (double)t->steps_per_epoch, t->state.norm_max);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		used += snprintf(row + used, sizeof row - (size_t)used, ",%.6f", values[i]);
	snprintf(row + used, sizeof row - (size_t)used, ",%.2f\n", seconds);
	log_epoch_points(t, train, v, seconds);
	return rewrite(t, "metrics.csv", EPOCHS_HEADER, t->state.epoch, row);
}

hd_status hd_log_begin(const hd_trainer *t)
{
	return rewrite(t, "steps.csv", STEPS_HEADER, t->state.global_step + 1, "");
}

/* Memory of this process in use, MB (proc(5), statm). */
static double resident_mb(void)
{
	long long pages = 0;
	FILE *from = fopen("/proc/self/statm", "r");
	if (from && fscanf(from, "%*s %lld", &pages) != 1)
		pages = 0;
	if (from)
		fclose(from);
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

static void log_step_points(hd_trainer *t, double lr, const hd_step *step)
{
	double now = hd_now_s();
	const hd_metric points[] = {{"train/loss", step->sums[0] / step->sums[1]},
	        {"train/log_term", step->sums[2] / step->sums[1]}, {"train/mse_term", step->sums[3] / step->sums[1]},
	        {"lr", lr}, {"grad_norm", step->norm}, {"memory_mb", resident_mb()},
	        {"samples_per_s", (double)t->logged_samples / (now - t->logged_at_s)}};
	/* the first steps after a start have no moment before them */
	size_t count = sizeof points / sizeof *points - (t->logged_at_s > 0 ? 0 : 1);
	hd_tracker_log(t->tracker, t->state.global_step, t->state.epoch, points, count);
	hd_tracker_progress(t->tracker, t->state.global_step, t->state.epoch, false);
	t->logged_at_s = now;
	t->logged_samples = 0;
}

hd_status hd_log_step(hd_trainer *t, double lr, const hd_step *step)
{
	char *path;
	hd_status st = HD_OK;
	if (t->settings->fast_dev_run)
		return HD_OK;
	log_step_points(t, lr, step);
	HD_TRY(path_of(&path, t, "steps.csv"));
	FILE *to = fopen(path, "a");
	if (!to || fprintf(to, "%lld,%lld,%.9g,%.9g,%.9g\n", (long long)t->state.global_step, (long long)t->state.epoch,
	                   lr, step->sums[0] / step->sums[1], step->norm) < 0)
		st = hd_fail(HD_E_IO, "%s: cannot write", path);
	if (to && fclose(to) != 0 && st == HD_OK)
		st = hd_fail(HD_E_IO, "%s: cannot write", path);
	free(path);
done:
	return st;
}
