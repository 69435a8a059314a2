/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/mlflow_forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/track/mlflow_names.h"

hd_status hd_forward_open(
        hd_forward *f, const hd_run *run, const char *uri, const hd_settings *settings, bool (*stop)(void))
{
	hd_status st;
	*f = (hd_forward){.run = run, .stop = stop, .lock_fd = -1};
	HD_TRY(hd_mlflow_open(&f->client, uri));
	hd_mlflow_stop_by(f->client, stop);
	HD_TRY(hd_settings_copy(&f->settings, settings));
done:
	if (st != HD_OK)
		hd_forward_close(f);
	return st;
}

void hd_forward_close(hd_forward *f)
{
	hd_forward_log_close(f);
	hd_store_close(f->store);
	hd_mlflow_state_free(&f->state);
	hd_mlflow_close(f->client);
	hd_settings_free(&f->settings);
	if (f->lock_fd >= 0)
		close(f->lock_fd);
	*f = (hd_forward){.lock_fd = -1};
}

hd_status hd_forward_begin(hd_forward *f, bool *ours)
{
	hd_status st = HD_OK;
	const char *server = hd_mlflow_shown(f->client);
	*ours = f->lock_fd >= 0;
	if (*ours)
		return HD_OK;
	HD_TRY(hd_mlflow_lock(&f->lock_fd, f->run));
	if (f->lock_fd < 0) {
		f->end = HD_MLFLOW_REFUSED;
		snprintf(f->problem, sizeof f->problem, "another process sends this run");
		goto done;
	}
	*ours = true;
	HD_TRY(hd_mlflow_state_read(&f->state, f->run));
	f->state.with_model = f->settings.log_model;
	/* what one server has is nothing that another one has */
	if (!f->state.server || strcmp(f->state.server, server) != 0)
		HD_TRY(hd_mlflow_state_reset(&f->state, server));
done:
	if (st != HD_OK && f->lock_fd >= 0) {
		close(f->lock_fd);
		f->lock_fd = -1;
	}
	return st;
}

hd_status hd_forward_ask(
        hd_forward *f, hd_mlflow_answer *answer, const char *method, const char *path, const json_t *body)
{
	hd_status st = hd_mlflow_call(f->client, answer, method, path, body);
	if (st != HD_OK)
		return st;
	f->end = answer->end;
	f->unreachable = answer->end == HD_MLFLOW_AWAY && !answer->maybe_done;
	f->retry_after_s = answer->retry_after_s;
	memcpy(f->code, answer->code, sizeof f->code);
	snprintf(f->problem, sizeof f->problem, "%s", answer->end == HD_MLFLOW_DONE ? "" : hd_error_text());
	if (answer->end == HD_MLFLOW_DONE)
		f->progress_s = hd_now_s();
	return HD_OK;
}

/* ---- a pass ---- */

/* The first thing that went wrong while others went on. */
typedef struct trouble {
	hd_mlflow_end end;
	char problem[sizeof((hd_forward *)0)->problem];
} trouble;

/* Notes how a step ended. Memory and stop end a pass; a file that cannot be read ends its step. */
static hd_status note(trouble *t, hd_forward *f, hd_status st)
{
	if (st == HD_E_MEMORY || st == HD_E_INTERRUPTED)
		return st;
	if (st != HD_OK) {
		f->end = HD_MLFLOW_REFUSED;
		snprintf(f->problem, sizeof f->problem, "%s", hd_error_text());
	}
	if (f->end != HD_MLFLOW_DONE && t->end == HD_MLFLOW_DONE) {
		t->end = f->end;
		memcpy(t->problem, f->problem, sizeof t->problem);
	}
	return HD_OK;
}

static hd_status send_parts(hd_forward *f, trouble *t, bool whole)
{
	hd_status st;
	const char *word = "";
	int64_t end_ms;
	bool finished = false;
	HD_TRY(note(t, f, hd_forward_wanted_status(&word, &end_ms, f->run)));
	finished = !strcmp(word, hd_run_state_word(HD_RUN_FINISHED));
	HD_TRY(note(t, f, hd_forward_status(f, false)));
	HD_TRY(note(t, f, hd_forward_texts(f)));
	f->end = HD_MLFLOW_DONE;
	if (t->end != HD_MLFLOW_AWAY)
		HD_TRY(note(t, f, hd_forward_log(f, whole)));
	bool ended = f->end == HD_MLFLOW_DONE && whole;
	if (t->end == HD_MLFLOW_AWAY)
		goto done;
	/* a run that is FINISHED has its files; one that was ended may have no time for them */
	if (ended && !finished)
		HD_TRY(note(t, f, hd_forward_status(f, true)));
	st = note(t, f, hd_forward_artifacts(f, whole));
	if ((st == HD_OK || st == HD_E_INTERRUPTED) && ended && finished) {
		/* files that take too long do not take this with them */
		hd_status before = st;
		hd_mlflow_stop_by(f->client, before == HD_OK ? f->stop : NULL);
		st = note(t, f, hd_forward_status(f, true));
		hd_mlflow_stop_by(f->client, f->stop);
		st = before == HD_OK ? st : before;
	}
done:
	return st;
}

/* The problem is on disk where it changed, for those who ask without a server. */
static hd_status keep_problem(hd_forward *f)
{
	hd_status st;
	char *text = NULL;
	bool shortened;
	HD_TRY(hd_mlflow_text(&text, &shortened, f->problem, sizeof f->state.problem / 2));
	if (!strncmp(text, f->state.problem, sizeof f->state.problem - 1))
		goto done;
	snprintf(f->state.problem, sizeof f->state.problem, "%s", text);
	HD_TRY(hd_mlflow_state_write(&f->state, f->run));
done:
	free(text);
	return st;
}

hd_status hd_forward_pass(hd_forward *f, bool whole)
{
	hd_status st;
	trouble t = {.end = HD_MLFLOW_DONE};
	f->end = HD_MLFLOW_DONE;
	f->problem[0] = 0;
	HD_TRY(note(&t, f, hd_forward_find(f)));
	if (t.end == HD_MLFLOW_DONE)
		HD_TRY(send_parts(f, &t, whole));
	f->end = t.end;
	memcpy(f->problem, t.problem, sizeof t.problem);
	f->more = f->has_ahead || f->batch || f->artifacts_left;
	/* it may have been deleted, or the server be another one */
	if (t.end == HD_MLFLOW_REFUSED)
		f->found = false;
	HD_TRY(keep_problem(f));
done:
	return st;
}

/* ---- what is left ---- */

static hd_status count_points(void *context, const hd_metrics_line *line)
{
	*(int64_t *)context += (int64_t)line->count;
	return HD_OK;
}

static hd_status count_points_left(int64_t *left, const hd_run *run, int64_t offset)
{
	hd_status st;
	char *path = NULL;
	*left = 0;
	HD_TRY(hd_run_path(&path, run, "metrics.log"));
	HD_TRY(hd_metrics_log_each(path, offset, count_points, left, NULL));
done:
	free(path);
	return st;
}

static hd_status tell_left(hd_sent *out, const hd_run *run, const hd_mlflow_state *s)
{
	hd_status st;
	int64_t files, end_ms;
	bool texts;
	const char *word;
	HD_TRY(count_points_left(&out->points_left, run, s->offset));
	HD_TRY(hd_forward_artifacts_left(&files, run, s));
	HD_TRY(hd_forward_texts_sent(&texts, run, s));
	HD_TRY(hd_forward_wanted_status(&word, &end_ms, run));
	bool status = !strcmp(word, s->status);
	out->all = s->run_id && out->points_left == 0 && files == 0 && texts && status;
	if (out->all)
		return HD_OK;
	if (s->problem[0])
		snprintf(out->problem, sizeof out->problem, "%s", s->problem);
	else if (!s->run_id)
		snprintf(out->problem, sizeof out->problem, "nothing was sent yet");
	else
		snprintf(out->problem, sizeof out->problem, "left: %lld points, %lld files%s%s",
		        (long long)out->points_left, (long long)files, texts ? "" : ", params or tags",
		        status ? "" : ", its status");
done:
	return st;
}

hd_status hd_forward_tell(hd_sent *out, const hd_run *run, const hd_mlflow_state *s)
{
	*out = (hd_sent){.points = s->points, .artifacts = (int64_t)json_object_size(s->artifacts)};
	snprintf(out->mlflow_run_id, sizeof out->mlflow_run_id, "%s", s->run_id ? s->run_id : "");
	return tell_left(out, run, s);
}
