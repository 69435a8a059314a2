/* SPDX-License-Identifier: Apache-2.0 */
/* Which checkpoints are kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/train/trainer.h"

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
	t->saved_at_s = hd_now_s();
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
