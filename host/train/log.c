/* SPDX-License-Identifier: Apache-2.0 */
/* The tables beside the checkpoints: metrics.csv, one row per epoch, and steps.csv, one per some steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
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
	return rewrite(t, "metrics.csv", EPOCHS_HEADER, t->state.epoch, row);
}

hd_status hd_log_begin(const hd_trainer *t)
{
	return rewrite(t, "steps.csv", STEPS_HEADER, t->state.global_step + 1, "");
}

hd_status hd_log_step(const hd_trainer *t, double lr, double loss, double gradient_norm)
{
	char *path;
	hd_status st = HD_OK;
	if (t->settings->fast_dev_run)
		return HD_OK;
	HD_TRY(path_of(&path, t, "steps.csv"));
	FILE *to = fopen(path, "a");
	if (!to || fprintf(to, "%lld,%lld,%.9g,%.9g,%.9g\n", (long long)t->state.global_step, (long long)t->state.epoch,
	                   lr, loss, gradient_norm) < 0)
		st = hd_fail(HD_E_IO, "%s: cannot write", path);
	if (to && fclose(to) != 0 && st == HD_OK)
		st = hd_fail(HD_E_IO, "%s: cannot write", path);
	free(path);
done:
	return st;
}
