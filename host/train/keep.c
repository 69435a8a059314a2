/* SPDX-License-Identifier: Apache-2.0 */
/* Which checkpoints are kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/train/trainer.h"

/* Adds a file of the checkpoint folder to what is written. */
static hd_status add(hd_write_job *job, const hd_trainer *t, const char *name, bool with_state)
{
	job->files[job->count].with_state = with_state;
	return hd_sprintf(&job->files[job->count++].path, "%s/%s", t->settings->checkpoint_dir, name);
}

/* Adds `last` and the state, which is complete by now, and has it all written. */
static hd_status start(hd_trainer *t, hd_write_job *job)
{
	hd_status st;
	t->saved_at_s = hd_now_s();
	HD_TRY(add(job, t, "last.safetensors", true));
	HD_TRY(hd_model_get_loss_scale(t->model, &t->state.loss_scale, &t->state.good_steps));
	HD_TRY(hd_train_state_copy(&job->state, &t->state));
	HD_TRY(hd_writer_start(&t->writer, job));
done:
	hd_write_job_free(job);
	return st;
}

hd_status hd_keep_last(hd_trainer *t)
{
	hd_write_job job = {0};
	return start(t, &job);
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
	hd_write_job job = {0};
	char name[96], *dropped = NULL;
	snprintf(name, sizeof name, "localization-%02lld-%.4f.safetensors", (long long)s->epoch, val_loss);
	bool best = val_loss < s->best_loss, better = val_loss < s->stop_loss - t->settings->early_stop_min_delta;
	s->bad_epochs = better ? 0 : s->bad_epochs + 1;
	if (better)
		s->stop_loss = val_loss;
	if (best) {
		s->best_loss = val_loss;
		s->best_epoch = s->epoch;
	}
	HD_TRY(rank(s, name, val_loss, (size_t)t->settings->save_top_k, &dropped));
	s->epoch++;
	s->step = 0;
	memset(s->sums, 0, sizeof s->sums);
	s->norm_sum = s->norm_max = 0;
	s->finished = s->epoch >= t->settings->epochs ||
	              (t->settings->early_stop_patience > 0 && s->bad_epochs >= t->settings->early_stop_patience);
	if (!dropped || strcmp(dropped, name) != 0)
		HD_TRY(add(&job, t, name, false));
	if (best)
		HD_TRY(add(&job, t, "best.safetensors", false));
	if (dropped && strcmp(dropped, name) != 0)
		HD_TRY(hd_sprintf(&job.removed, "%s/%s", t->settings->checkpoint_dir, dropped));
	HD_TRY(start(t, &job));
done:
	hd_write_job_free(&job);
	free(dropped);
	return st;
}
