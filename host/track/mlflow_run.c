/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The experiment and the run at the server. A run is made once: before one is made it is looked for by its tag, for an
 * answer that was lost may have been to a run that was made.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/track/mlflow_forward.h"
#include "host/track/mlflow_names.h"

/* Blocked for a reason that this side found. */
static void block(hd_forward *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void block(hd_forward *f, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	f->end = HD_MLFLOW_REFUSED;
	vsnprintf(f->problem, sizeof f->problem, format, args);
	va_end(args);
}

/* ---- experiment ---- */

static hd_status take_experiment(hd_forward *f, const json_t *body)
{
	const json_t *experiment = json_object_get(body, "experiment");
	const char *id = hd_json_text(experiment, "experiment_id");
	if (!strcmp(hd_json_text(experiment, "lifecycle_stage"), "deleted")) {
		block(f,
		        "experiment '%s' was deleted at %s; bring it back with: mlflow experiments restore "
		        "--experiment-id %s (with MLFLOW_TRACKING_URI=%s), or take another --experiment_name",
		        f->run->experiment, hd_mlflow_shown(f->client), id, hd_mlflow_shown(f->client));
		return HD_OK;
	}
	return hd_set_text(&f->state.experiment_id, id);
}

static hd_status get_experiment(hd_forward *f)
{
	hd_status st;
	hd_mlflow_answer answer = {0};
	json_t *query = json_pack("{s:s}", "experiment_name", f->run->experiment);
	HD_TRY(query ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	HD_TRY(hd_forward_ask(f, &answer, "GET", "experiments/get-by-name", query));
	if (f->end == HD_MLFLOW_DONE)
		HD_TRY(take_experiment(f, answer.body));
done:
	hd_mlflow_answer_free(&answer);
	json_decref(query);
	return st;
}

/* Another one may make it at the same moment: then it is there. */
static hd_status find_experiment(hd_forward *f)
{
	hd_status st;
	hd_mlflow_answer answer = {0};
	json_t *body = json_pack("{s:s}", "name", f->run->experiment);
	HD_TRY(body ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	HD_TRY(get_experiment(f));
	if (f->end != HD_MLFLOW_REFUSED || strcmp(f->code, "RESOURCE_DOES_NOT_EXIST") != 0)
		goto done;
	HD_TRY(hd_forward_ask(f, &answer, "POST", "experiments/create", body));
	if (f->end == HD_MLFLOW_DONE)
		HD_TRY(hd_set_text(&f->state.experiment_id, hd_json_text(answer.body, "experiment_id")));
	else if (!strcmp(f->code, "RESOURCE_ALREADY_EXISTS"))
		HD_TRY(get_experiment(f));
done:
	hd_mlflow_answer_free(&answer);
	json_decref(body);
	return st;
}

/* ---- run ---- */

/* {"info": {...}} */
static hd_status take_run(hd_forward *f, const json_t *run)
{
	hd_status st = HD_OK;
	const json_t *info = json_object_get(run, "info");
	const char *id = hd_json_text(info, "run_id"), *server = hd_mlflow_shown(f->client);
	if (!*id) {
		block(f, "%s: answers without a run's id", server);
		goto done;
	}
	if (!strcmp(hd_json_text(info, "lifecycle_stage"), "deleted")) {
		block(f,
		        "run %s was deleted at %s; bring it back with: mlflow runs restore --run-id %s (with "
		        "MLFLOW_TRACKING_URI=%s)",
		        f->run->name, server, id, server);
		goto done;
	}
	HD_TRY(hd_set_text(&f->state.run_id, id));
	HD_TRY(hd_set_text(&f->state.experiment_id, hd_json_text(info, "experiment_id")));
	HD_TRY(hd_set_text(&f->state.artifact_uri, hd_json_text(info, "artifact_uri")));
	snprintf(f->state.status, sizeof f->state.status, "%s", hd_json_text(info, "status"));
	f->found = true;
	HD_TRY(hd_mlflow_state_write(&f->state, f->run));
done:
	return st;
}

/* The run by its id. `missing`: the server answers, and has none. */
static hd_status get_run(hd_forward *f, bool *missing)
{
	hd_status st;
	hd_mlflow_answer answer = {0};
	json_t *query = json_pack("{s:s}", "run_id", f->state.run_id);
	HD_TRY(query ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	HD_TRY(hd_forward_ask(f, &answer, "GET", "runs/get", query));
	*missing = f->end == HD_MLFLOW_REFUSED && !strcmp(f->code, "RESOURCE_DOES_NOT_EXIST");
	if (f->end == HD_MLFLOW_DONE)
		HD_TRY(take_run(f, json_object_get(answer.body, "run")));
done:
	hd_mlflow_answer_free(&answer);
	json_decref(query);
	return st;
}

static hd_status search_run(hd_forward *f)
{
	hd_status st;
	char filter[96];
	hd_mlflow_answer answer = {0};
	snprintf(filter, sizeof filter, "tags.`heimdall.run_id` = '%s'", f->run->id);
	json_t *body = json_pack("{s:[s], s:s, s:s, s:i, s:[s]}", "experiment_ids", f->state.experiment_id, "filter",
	        filter, "run_view_type", "ALL", "max_results", 1, "order_by", "attributes.start_time ASC");
	HD_TRY(body ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	HD_TRY(hd_forward_ask(f, &answer, "POST", "runs/search", body));
	const json_t *run = json_array_get(json_object_get(answer.body, "runs"), 0);
	if (f->end == HD_MLFLOW_DONE && run)
		HD_TRY(take_run(f, run));
done:
	hd_mlflow_answer_free(&answer);
	json_decref(body);
	return st;
}

static hd_status create_run(hd_forward *f)
{
	hd_status st;
	hd_mlflow_answer answer = {0};
	json_t *identity = NULL, *body = NULL;
	char *name = NULL;
	bool shortened;
	HD_TRY(hd_mlflow_text(&name, &shortened, f->run->name, HD_MLFLOW_NAME));
	HD_TRY(hd_run_read_json(&identity, f->run, "run.json"));
	body = json_pack("{s:s, s:s, s:s, s:I, s:[{s:s, s:s}]}", "experiment_id", f->state.experiment_id, "run_name",
	        name, "user_id", hd_json_text(identity, "user"), "start_time", (json_int_t)f->run->created_ms, "tags",
	        "key", "heimdall.run_id", "value", f->run->id);
	HD_TRY(body ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	HD_TRY(hd_forward_ask(f, &answer, "POST", "runs/create", body));
	if (f->end == HD_MLFLOW_DONE)
		HD_TRY(take_run(f, json_object_get(answer.body, "run")));
done:
	hd_mlflow_answer_free(&answer);
	json_decref(body);
	json_decref(identity);
	free(name);
	return st;
}

hd_status hd_forward_find(hd_forward *f)
{
	hd_status st = HD_OK;
	bool missing = false;
	f->end = HD_MLFLOW_DONE;
	if (f->found)
		goto done;
	if (f->state.run_id)
		HD_TRY(get_run(f, &missing));
	if (f->state.run_id && !missing)
		goto done;
	/* a server that was set up anew has nothing of it */
	HD_TRY(hd_mlflow_state_reset(&f->state, hd_mlflow_shown(f->client)));
	hd_forward_log_close(f);
	f->texts_modified[0] = f->texts_modified[1] = 0;
	f->artifacts_s = 0;
	HD_TRY(find_experiment(f));
	if (f->end == HD_MLFLOW_DONE)
		HD_TRY(search_run(f));
	if (f->end == HD_MLFLOW_DONE && !f->found)
		HD_TRY(create_run(f));
done:
	return st;
}

hd_status hd_forward_check_run(hd_forward *f, bool *gone)
{
	bool missing = false;
	f->found = false;
	hd_status st = get_run(f, &missing);
	*gone = st == HD_OK && (missing || (f->end == HD_MLFLOW_REFUSED && !f->found));
	return st;
}

/* ---- status ---- */

/* When something was written last into the folder of a process that died. */
static int64_t last_sign_ms(const hd_run *run)
{
	static const char *const files[] = {"status.json", "metrics.log"};
	int64_t latest = run->created_ms;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char *path;
		struct stat about;
		if (hd_run_path(&path, run, files[i]) != HD_OK)
			continue;
		if (stat(path, &about) == 0) {
			int64_t ms = (int64_t)about.st_mtim.tv_sec * 1000 + about.st_mtim.tv_nsec / 1000000;
			latest = ms > latest ? ms : latest;
		}
		free(path);
	}
	return latest;
}

hd_status hd_forward_wanted_status(const char **word, int64_t *end_ms, const hd_run *run)
{
	hd_run_status status;
	hd_status st = hd_run_status_read(&status, run);
	if (st != HD_OK)
		return st;
	*word = hd_run_state_word(status.state);
	*end_ms = status.state == HD_RUN_RUNNING ? 0 : status.end_ms;
	if (status.state == HD_RUN_DIED) {
		*word = hd_run_state_word(HD_RUN_KILLED);
		*end_ms = last_sign_ms(run);
	}
	return HD_OK;
}

hd_status hd_forward_status(hd_forward *f, bool ended)
{
	hd_status st;
	const char *word = "";
	int64_t end_ms;
	hd_mlflow_answer answer = {0};
	json_t *body = NULL;
	f->end = HD_MLFLOW_DONE;
	HD_TRY(hd_forward_wanted_status(&word, &end_ms, f->run));
	if (!strcmp(word, f->state.status) || (!ended && strcmp(word, hd_run_state_word(HD_RUN_RUNNING)) != 0))
		goto done;
	body = json_pack("{s:s, s:s}", "run_id", f->state.run_id, "status", word);
	HD_TRY(body ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	if (end_ms)
		json_object_set_new(body, "end_time", json_integer(end_ms));
	HD_TRY(hd_forward_ask(f, &answer, "POST", "runs/update", body));
	if (f->end != HD_MLFLOW_DONE)
		goto done;
	snprintf(f->state.status, sizeof f->state.status, "%s", word);
	HD_TRY(hd_mlflow_state_write(&f->state, f->run));
done:
	json_decref(body);
	hd_mlflow_answer_free(&answer);
	return st;
}
