/* SPDX-License-Identifier: Apache-2.0 */
/* Which checkpoints are kept, and the table of metrics beside them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/train/trainer.h"

#define METRICS_HEADER                                                                                                 \
	"epoch,step,lr,train_loss,train_log_term,train_mse_term,val_loss,val_mae_m,val_median_m,val_p90_m,"            \
	"val_acc_100m,val_mean_sigma_m,val_calibration_error_m,val_centre_median_m,seconds\n"

static hd_status save(const hd_trainer *t, const char *name, bool with_state)
{
	char *path;
	hd_status st = hd_sprintf(&path, "%s/%s", t->settings->checkpoint_dir, name);
	if (st == HD_OK)
		st = hd_checkpoint_save(
		        path, t->model, t->backend, t->settings, &t->dataset.card, &t->state, with_state);
	free(path);
	return st;
}

hd_status hd_keep_last(hd_trainer *t)
{
	return save(t, "last.safetensors", true);
}

/* Puts a file into the ranking; the one that falls out is returned in *dropped (owned). */
static hd_status rank(hd_train_state *s, const char *name, double val_loss, size_t most, char **dropped)
{
	*dropped = NULL;
	hd_status st = hd_grow(&s->top, &s->top_capacity, s->top_count + 1, sizeof *s->top);
	char *copy = NULL;
	if (st == HD_OK)
		st = hd_strdup(&copy, name);
	if (st != HD_OK)
		return st;
	size_t at = s->top_count;
	while (at > 0 && s->top[at - 1].val_loss > val_loss)
		at--;
	memmove(&s->top[at + 1], &s->top[at], (s->top_count - at) * sizeof *s->top);
	s->top[at] = (hd_ranked){copy, val_loss};
	if (++s->top_count > most)
		*dropped = s->top[--s->top_count].path;
	return HD_OK;
}

hd_status hd_keep_epoch(hd_trainer *t, double val_loss)
{
	hd_status st;
	hd_train_state *s = &t->state;
	char name[96], *dropped = NULL;
	snprintf(name, sizeof name, "localization-%02lld-%.4f.safetensors", (long long)s->epoch, val_loss);
	bool best = val_loss < s->best_loss;
	s->bad_epochs = best ? 0 : s->bad_epochs + 1;
	if (best) {
		s->best_loss = val_loss;
		s->best_epoch = s->epoch;
	}
	HD_TRY(rank(s, name, val_loss, (size_t)t->settings->save_top_k, &dropped));
	s->epoch++;
	s->step = 0;
	memset(s->sums, 0, sizeof s->sums);
	s->finished = s->epoch >= t->settings->epochs ||
	              (t->settings->early_stop_patience > 0 && s->bad_epochs >= t->settings->early_stop_patience);
	if (!dropped || strcmp(dropped, name) != 0)
		HD_TRY(save(t, name, false));
	if (best)
		HD_TRY(save(t, "best.safetensors", false));
	HD_TRY(hd_keep_last(t));
	if (dropped && strcmp(dropped, name) != 0) {
		char *path;
		HD_TRY(hd_sprintf(&path, "%s/%s", t->settings->checkpoint_dir, dropped));
		unlink(path);
		free(path);
	}
done:
	free(dropped);
	return st;
}

hd_status hd_metrics_log(hd_trainer *t, double train_loss, double train_log_term, double train_mse_term,
        const hd_metrics *v, double lr, double seconds)
{
	hd_status st;
	char *path = NULL, *text = NULL, line[1024];
	size_t bytes = 0;
	FILE *old = NULL, *to = open_memstream(&text, &bytes);
	HD_TRY(to ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for metrics.csv"));
	HD_TRY(hd_sprintf(&path, "%s/metrics.csv", t->settings->checkpoint_dir));
	fputs(METRICS_HEADER, to);
	old = t->state.epoch ? fopen(path, "r") : NULL;
	while (old && fgets(line, sizeof line, old)) {
		char *end;
		long epoch = strtol(line, &end, 10);
		if (end != line && *end == ',' && epoch < t->state.epoch)
			fputs(line, to);
	}
	fprintf(to, "%lld,%lld,%.6g,%.6f,%.6f,%.6f", (long long)t->state.epoch, (long long)t->state.global_step, lr,
	        train_loss, train_log_term, train_mse_term);
	const double values[] = {v->loss, v->mae_m, v->median_m, v->p90_m, v->acc_100m, v->mean_sigma_m,
	        v->calibration_error_m, v->centre_median_m};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		fprintf(to, ",%.6f", values[i]);
	fprintf(to, ",%.2f\n", seconds);
done:
	if (old)
		fclose(old);
	if (to && fclose(to) != 0 && st == HD_OK)
		st = hd_fail(HD_E_MEMORY, "out of host memory for metrics.csv");
	if (st == HD_OK)
		st = hd_file_write(path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	free(path);
	return st;
}
