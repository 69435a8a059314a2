/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/tracker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/detach.h"
#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/track/curves.h"
#include "host/track/earlier.h"
#include "host/track/mlflow_client.h"
#include "host/track/record.h"
#include "host/track/tensorboard.h"

#define STATUS_EVERY_S 5.0
#define PATIENCE_S 60.0       /* without getting on, at the end of a run */
#define PATIENCE_KILLED_S 5.0 /* whoever sent SIGTERM waits */

struct hd_tracker {
	hd_run run;
	hd_run_status status;
	double status_at_s;
	bool is_new, begun;
	char *uri; /* of the server; "" without one */
	hd_metrics_log *log;
	hd_events *events;
	hd_earlier *earlier; /* NULL: none */
	hd_sender *sender;
	bool warned;
};

const char *hd_tracker_experiment(const hd_settings *s)
{
	const char *name = getenv("MLFLOW_EXPERIMENT_NAME");
	bool set = s->given[HD_SET_experiment_name] >= HD_GIVEN_ENVIRONMENT;
	return !set && name && name[0] ? name : s->experiment_name;
}

hd_status hd_tracker_checkpoints(char **out, const hd_settings *s)
{
	hd_run run;
	if (s->checkpoint_dir[0])
		return hd_strdup(out, s->checkpoint_dir);
	hd_status st = hd_run_newest(&run, s->runs_dir, hd_tracker_experiment(s));
	if (st != HD_OK)
		return hd_context(st, "neither --checkpoint nor --checkpoint_dir was given");
	st = hd_run_path(out, &run, "checkpoints");
	hd_run_free(&run);
	return st;
}

const hd_run *hd_tracker_run(const hd_tracker *t)
{
	return &t->run;
}

/* What went wrong beside training: said once, for the same disk is full at every step. */
static void warn(hd_tracker *t, hd_status st)
{
	if (st != HD_OK && !t->warned)
		hd_warn("the run's folder is incomplete from here on: %s", hd_error_text());
	t->warned = t->warned || st != HD_OK;
}

static void write_status(hd_tracker *t)
{
	t->status_at_s = hd_now_s();
	warn(t, hd_run_status_write(&t->run, &t->status));
}

/* ---- open ---- */

/* RUN of a path RUN/checkpoints/FILE, where it is the run of this id. */
static bool find_beside(hd_run *out, const char *id, const char *checkpoint)
{
	char folder[4096];
	snprintf(folder, sizeof folder, "%s", checkpoint);
	char *file = strrchr(folder, '/'), *name;
	if (!file) {
		snprintf(folder, sizeof folder, "..");
	} else {
		*file = 0;
		name = strrchr(folder, '/');
		if (name)
			*name = 0;
		else
			snprintf(folder, sizeof folder, ".");
	}
	if (hd_run_open(out, folder) != HD_OK)
		return false;
	if (!strcmp(out->id, id))
		return true;
	hd_run_free(out);
	return false;
}

static hd_status open_resumed(hd_tracker *t, const hd_settings *s, const char *id, const char *checkpoint)
{
	hd_run_status status;
	if (!find_beside(&t->run, id, checkpoint) && hd_run_find(&t->run, s->runs_dir, id) != HD_OK) {
		hd_warn("the run of %s is not in %s; its points go into a new one", checkpoint, s->runs_dir);
		return HD_OK;
	}
	hd_status st = hd_run_status_read(&status, &t->run);
	if (st == HD_OK && status.state == HD_RUN_RUNNING && hd_run_status_is_alive(&status)) {
		st = hd_fail(HD_E_USAGE, "%s: still runs, as process %lld; heimdall runs stop ends it", t->run.folder,
		        (long long)status.pid);
		/* it is not this process's to end */
		hd_run_free(&t->run);
		return st;
	}
	if (st == HD_OK && status.state == HD_RUN_RUNNING)
		hd_warn("%s: its last process, on %s, has not said how it ended", t->run.folder, status.host);
	t->status.attempts = st == HD_OK ? status.attempts : 0;
	return HD_OK;
}

/* Where checkpoints go, and the folder's own way there. */
static hd_status place_checkpoints(hd_tracker *t, hd_settings *s)
{
	hd_status st;
	char *within = NULL, *target = NULL, *old = NULL;
	struct stat info;
	HD_TRY(hd_run_path(&within, &t->run, "checkpoints"));
	bool is_link = lstat(within, &info) == 0 && S_ISLNK(info.st_mode);
	bool own = !is_link && access(within, F_OK) == 0 && !s->given[HD_SET_checkpoint_dir];
	if (!s->checkpoint_dir[0] || own) {
		HD_TRY(hd_set_text(&s->checkpoint_dir, within));
		HD_TRY(hd_make_folders(within));
		goto done;
	}
	HD_TRY(hd_make_folders(s->checkpoint_dir));
	target = realpath(s->checkpoint_dir, NULL);
	old = realpath(within, NULL);
	if (!target || (old && !strcmp(target, old)))
		goto done;
	if (hd_link_replace(within, target) != HD_OK)
		hd_warn("%s", hd_error_text());
done:
	free(old);
	free(target);
	free(within);
	return st;
}

/* What cannot be tracked to is said before any work; training then goes on without it. */
static hd_status find_server(hd_tracker *t, const hd_settings *s)
{
	hd_mlflow *client = NULL;
	hd_status st = hd_mlflow_uri(&t->uri, s);
	if (st == HD_OK && t->uri[0])
		st = hd_mlflow_open(&client, t->uri);
	hd_mlflow_close(client);
	if (st != HD_E_USAGE)
		return st;
	hd_warn("%s\n  training goes on into the run's folder alone; heimdall track push sends it later",
	        hd_error_text());
	return hd_set_text(&t->uri, "");
}

hd_status hd_tracker_open(hd_tracker **out, hd_settings *s, const char *resumed, const char *checkpoint)
{
	hd_status st;
	hd_tracker *t = NULL;
	HD_TRY(hd_alloc(&t, 1, sizeof *t));
	HD_TRY(hd_record_check_tags(s));
	HD_TRY(find_server(t, s));
	if (resumed && resumed[0])
		HD_TRY(open_resumed(t, s, resumed, checkpoint));
	if (!t->run.folder) {
		t->is_new = true;
		HD_TRY(hd_run_create(&t->run, s->runs_dir, hd_tracker_experiment(s), s->run_name_prefix, s->run_name));
	}
	t->status = (hd_run_status){.state = HD_RUN_RUNNING,
	        .start_ms = hd_time_ms(),
	        .attempts = t->status.attempts + 1,
	        .epochs = s->epochs};
	hd_run_status_this_process(&t->status);
	write_status(t);
	HD_TRY(place_checkpoints(t, s));
	*out = t;
	t = NULL;
done:
	hd_tracker_finish(t, st, NULL);
	return st;
}

/* ---- begin ---- */

static hd_status record(const hd_tracker *t, const hd_tracker_start *start)
{
	hd_status st;
	const hd_backend *b = start->backend;
	json_t *facts = json_pack("{s:I, s:I, s:I, s:s, s:s, s:s, s:i}", "model_parameters",
	        (json_int_t)start->parameters, "train_samples", (json_int_t)start->train, "val_samples",
	        (json_int_t)start->val, "receivers_used", start->dataset->card.receivers, "backend", b->name,
	        "backend_tier", b->tier, "backend_threads", b->threads);
	HD_TRY(facts ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the run's parameters"));
	HD_TRY(hd_record_settings(&t->run, start->settings, facts));
	HD_TRY(hd_record_environment(&t->run, start->backend));
	HD_TRY(hd_record_catalog(&t->run, start->dataset));
	HD_TRY(hd_record_spectrograms(&t->run, start->dataset));
done:
	json_decref(facts);
	return st;
}

/* Tags of earlier resumptions stay, and this one's joins them. */
static hd_status tag_resumption(const hd_tracker *t, const json_t *before, const char *overrides)
{
	hd_status st;
	json_t *tags = NULL, *value;
	const char *key;
	char name[48];
	HD_TRY(hd_run_read_json(&tags, &t->run, "tags.json"));
	json_object_foreach((json_t *)before, key, value)
	{
		if (!strncmp(key, "heimdall.resume.", 16))
			json_object_set(tags, key, value);
	}
	if (t->status.attempts > 1) {
		snprintf(name, sizeof name, "heimdall.resume.%lld", (long long)t->status.attempts - 1);
		json_object_set_new(tags, name, json_string(overrides ? overrides : "same settings"));
	}
	HD_TRY(hd_run_write_json(&t->run, "tags.json", tags));
done:
	json_decref(tags);
	return st;
}

static hd_status open_logs(hd_tracker *t, const hd_tracker_start *start)
{
	hd_status st;
	char *path = NULL;
	HD_TRY(hd_run_path(&path, &t->run, "metrics.log"));
	if (t->status.attempts > 1)
		HD_TRY(hd_earlier_read(&t->earlier, path, start->step));
	HD_TRY(hd_metrics_log_open(&t->log, path));
	HD_TRY(hd_events_open(&t->events, t->run.folder));
done:
	free(path);
	return st;
}

hd_status hd_tracker_begin(hd_tracker *t, const hd_tracker_start *start)
{
	json_t *tags = NULL;
	t->begun = true;
	t->status.epochs = start->settings->epochs;
	t->status.step = start->step;
	write_status(t);
	warn(t, hd_run_read_json(&tags, &t->run, "tags.json"));
	warn(t, record(t, start));
	warn(t, tag_resumption(t, tags, start->overrides));
	warn(t, open_logs(t, start));
	json_decref(tags);
	warn(t, hd_run_mark_latest(&t->run));
	hd_message("run %s", t->run.folder);
	if (t->uri[0])
		warn(t, hd_sender_start(&t->sender, &t->run, t->uri, start->settings));
	return HD_OK;
}

/* ---- while it trains ---- */

void hd_tracker_log(hd_tracker *t, int64_t step, int64_t epoch, const hd_metric *metrics, size_t count)
{
	hd_metrics_line line = {.time_ms = hd_time_ms(), .step = step, .epoch = epoch};
	if (!t->log)
		return;
	for (size_t i = 0; i < count && line.count < HD_METRICS_PER_LINE; i++)
		if (!t->earlier || !hd_earlier_has(t->earlier, step, &metrics[i]))
			line.metrics[line.count++] = metrics[i];
	if (!line.count)
		return;
	warn(t, hd_metrics_log_append(t->log, &line));
	if (t->events)
		warn(t, hd_events_append(t->events, &line));
	if (t->sender)
		hd_sender_wake(t->sender);
}

void hd_tracker_progress(hd_tracker *t, int64_t step, int64_t epoch, bool now)
{
	t->status.step = step;
	t->status.epoch = epoch;
	if (now || hd_now_s() - t->status_at_s >= STATUS_EVERY_S)
		write_status(t);
}

/* ---- the end ---- */

static void say_what_is_left(const hd_tracker *t, const hd_sent *sent)
{
	if (!sent->all)
		hd_warn("not all of the run is at the server (%s); later: heimdall track push %s", sent->problem,
		        t->run.folder);
}

static void end_run(hd_tracker *t, hd_status status, const char *message, hd_sent *sent)
{
	t->status.state = status == HD_OK              ? HD_RUN_FINISHED
	                  : status == HD_E_INTERRUPTED ? HD_RUN_KILLED
	                                               : HD_RUN_FAILED;
	t->status.end_ms = hd_time_ms();
	snprintf(t->status.message, sizeof t->status.message, "%s", status == HD_OK ? "" : message);
	if (t->begun)
		warn(t, hd_curves_write(&t->run));
	write_status(t);
	if (!t->sender)
		return;
	hd_sender_finish(t->sender, sent, status == HD_E_INTERRUPTED ? PATIENCE_KILLED_S : PATIENCE_S);
	t->sender = NULL;
	say_what_is_left(t, sent);
}

void hd_tracker_finish(hd_tracker *t, hd_status status, hd_sent *sent)
{
	hd_sent unseen = {0};
	if (!t)
		return;
	/* what training ends with stays this thread's error */
	char *message = strdup(hd_error_text());
	hd_metrics_log_close(t->log);
	hd_events_close(t->events);
	hd_earlier_free(t->earlier);
	if (t->run.folder && status != HD_OK && t->is_new && !t->begun && !hd_is_detached())
		hd_run_remove(&t->run);
	else if (t->run.folder)
		end_run(t, status, message ? message : "", sent ? sent : &unseen);
	if (status != HD_OK && message)
		(void)hd_fail(status, "%s", message);
	free(message);
	free(t->uri);
	hd_run_free(&t->run);
	free(t);
}
