/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/mlflow_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/track/mlflow_names.h"

#define NAME "mlflow.json"
#define MOST_REFUSED 100 /* that are listed; the others are counted */
#define MOST_SAID 5
#define MOST_OF_A_REFUSAL 800 /* characters */

void hd_mlflow_state_free(hd_mlflow_state *s)
{
	free(s->server);
	free(s->experiment_id);
	free(s->run_id);
	free(s->artifact_uri);
	json_decref(s->params);
	json_decref(s->tags);
	json_decref(s->artifacts);
	json_decref(s->refused);
	*s = (hd_mlflow_state){0};
}

/* What is there of the expected kind, else an empty one. */
static json_t *object_of(const json_t *from, const char *key)
{
	json_t *value = json_object_get(from, key);
	return json_is_object(value) ? json_incref(value) : json_object();
}

static hd_status text_of(char **out, const json_t *from, const char *key)
{
	const char *text = hd_json_text(from, key);
	return hd_strdup(out, *text ? text : NULL);
}

static hd_status take(hd_mlflow_state *s, const json_t *from)
{
	hd_status st;
	json_t *refused = json_object_get(from, "refused");
	HD_TRY(text_of(&s->server, from, "server"));
	HD_TRY(text_of(&s->experiment_id, from, "experiment_id"));
	HD_TRY(text_of(&s->run_id, from, "run_id"));
	HD_TRY(text_of(&s->artifact_uri, from, "artifact_uri"));
	s->with_model = !json_is_false(json_object_get(from, "log_model"));
	s->offset = json_integer_value(json_object_get(from, "offset"));
	s->points = json_integer_value(json_object_get(from, "points"));
	s->bad_lines = json_integer_value(json_object_get(from, "bad_lines"));
	s->refused_count = json_integer_value(json_object_get(from, "refused_count"));
	snprintf(s->status, sizeof s->status, "%s", hd_json_text(from, "status"));
	snprintf(s->problem, sizeof s->problem, "%s", hd_json_text(from, "problem"));
	s->params = object_of(from, "params");
	s->tags = object_of(from, "tags");
	s->artifacts = object_of(from, "artifacts");
	s->refused = json_is_array(refused) ? json_incref(refused) : json_array();
	if (!s->params || !s->tags || !s->artifacts || !s->refused)
		st = hd_fail(HD_E_MEMORY, "out of host memory");
done:
	return st;
}

hd_status hd_mlflow_state_read(hd_mlflow_state *out, const hd_run *run)
{
	json_t *file;
	*out = (hd_mlflow_state){0};
	hd_status st = hd_run_read_json(&file, run, NAME);
	if (st == HD_E_DATA) {
		hd_warn("%s; what the server has is found out anew", hd_error_text());
		st = HD_OK;
	}
	if (st == HD_OK)
		st = take(out, file);
	json_decref(file);
	if (st != HD_OK)
		hd_mlflow_state_free(out);
	return st;
}

hd_status hd_mlflow_state_write(const hd_mlflow_state *s, const hd_run *run)
{
	json_t *file = json_pack("{s:s*, s:s*, s:s*, s:s*, s:b, s:I, s:I, s:I, s:s, s:O, s:O, s:O, s:O, s:I, s:s}",
	        "server", s->server, "experiment_id", s->experiment_id, "run_id", s->run_id, "artifact_uri",
	        s->artifact_uri, "log_model", s->with_model, "offset", (json_int_t)s->offset, "points",
	        (json_int_t)s->points, "bad_lines", (json_int_t)s->bad_lines, "status", s->status, "params", s->params,
	        "tags", s->tags, "artifacts", s->artifacts, "refused", s->refused, "refused_count",
	        (json_int_t)s->refused_count, "problem", s->problem);
	hd_status st = file ? hd_run_write_json(run, NAME, file) : hd_fail(HD_E_MEMORY, "out of host memory for " NAME);
	json_decref(file);
	return st;
}

hd_status hd_mlflow_state_reset(hd_mlflow_state *s, const char *server)
{
	hd_status st;
	char *copy = NULL;
	bool with_model = s->with_model;
	HD_TRY(hd_strdup(&copy, server));
	hd_mlflow_state_free(s);
	HD_TRY(take(s, NULL));
	s->with_model = with_model;
	s->server = copy;
	copy = NULL;
done:
	free(copy);
	return st;
}

hd_status hd_mlflow_state_refuse(hd_mlflow_state *s, const char *what, const char *why)
{
	hd_status st;
	char *line = NULL, *shown = NULL;
	bool shortened;
	const json_t *old;
	size_t i;
	HD_TRY(hd_sprintf(&line, "%s: %s", what, why));
	HD_TRY(hd_mlflow_text(&shown, &shortened, line, MOST_OF_A_REFUSAL));
	json_array_foreach(s->refused, i, old)
	{
		if (!strcmp(json_string_value(old), shown))
			goto done;
	}
	if (s->refused_count++ < MOST_SAID)
		hd_warn("the tracking server does not take %s", shown);
	else if (s->refused_count == MOST_SAID + 1)
		hd_warn("the tracking server does not take more of this run; they are in " NAME);
	if (json_array_size(s->refused) < MOST_REFUSED)
		json_array_append_new(s->refused, json_string(shown));
done:
	free(shown);
	free(line);
	return st;
}

hd_status hd_mlflow_lock(int *fd, const hd_run *run)
{
	*fd = open(run->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		return hd_fail(HD_E_IO, "%s: cannot open: %s", run->folder, strerror(errno));
	/* a file system that knows no locks is taken as it is */
	if (flock(*fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return HD_OK;
	close(*fd);
	*fd = -1;
	return HD_OK;
}
