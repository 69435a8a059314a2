/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files to where the server keeps a run's artifacts: through the server, straight to S3, or into a folder of this
 * machine, as its artifact_uri says. What was sent is remembered by size and time of the last change.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/text.h"
#include "host/data/fetch.h"
#include "host/track/mlflow_forward.h"
#include "host/track/mlflow_names.h"

#define EVERY_S 10.0
#define AGAIN_S 60.0   /* after a refusal */
#define MOST_REFUSED 3 /* in a row; then it is not the file */
#define DEEPEST 16     /* folders within folders */

typedef struct file {
	char *path; /* here */
	char *name; /* there */
	int64_t bytes, modified_ns;
} file;

typedef struct files {
	file *all;
	size_t count, capacity;
} files;

/* ---- which ---- */

static void free_files(files *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->all[i].path);
		free(list->all[i].name);
	}
	free(list->all);
	*list = (files){0};
}

static bool look(file *f)
{
	struct stat about;
	if (stat(f->path, &about) != 0 || !S_ISREG(about.st_mode))
		return false;
	f->bytes = about.st_size;
	f->modified_ns = (int64_t)about.st_mtim.tv_sec * 1000000000 + about.st_mtim.tv_nsec;
	return true;
}

/* FOLDER/WITHIN as NAME, where it is a file. */
static hd_status add_file(files *list, const char *folder, const char *within, const char *prefix)
{
	hd_status st;
	file f = {0};
	char *name = NULL;
	HD_TRY(hd_sprintf(&f.path, "%s/%s", folder, within));
	if (!look(&f))
		goto done;
	HD_TRY(hd_sprintf(&name, "%s%s", prefix, within));
	HD_TRY(hd_mlflow_path(&f.name, name));
	HD_TRY(hd_grow(&list->all, &list->capacity, list->count + 1, sizeof *list->all));
	list->all[list->count++] = f;
	f = (file){0};
done:
	free(name);
	free(f.name);
	free(f.path);
	return st;
}

/* Whether a name is one that a file has while it is being written: NAME.tmp123. */
static bool is_temporary(const char *name)
{
	const char *dot = strrchr(name, '.');
	return name[0] == '.' || (dot && !strncmp(dot, ".tmp", 4) && !dot[4 + strspn(dot + 4, "0123456789")]);
}

static hd_status add_folder(files *list, const char *folder, const char *prefix, int depth)
{
	hd_status st = HD_OK;
	char *path = NULL, *within = NULL;
	struct stat about;
	const struct dirent *entry;
	DIR *open_folder = opendir(folder);
	while (open_folder && (entry = readdir(open_folder))) {
		if (is_temporary(entry->d_name))
			continue;
		free(path);
		free(within);
		path = within = NULL;
		HD_TRY(hd_sprintf(&path, "%s/%s", folder, entry->d_name));
		if (stat(path, &about) == 0 && S_ISDIR(about.st_mode) && depth < DEEPEST) {
			HD_TRY(hd_sprintf(&within, "%s%s/", prefix, entry->d_name));
			HD_TRY(add_folder(list, path, within, depth + 1));
		} else {
			HD_TRY(add_file(list, folder, entry->d_name, prefix));
		}
	}
done:
	free(within);
	free(path);
	if (open_folder)
		closedir(open_folder);
	return st;
}

/* best.safetensors, model*.onnx and the weights beside them. */
static hd_status add_model(files *list, const hd_run *run)
{
	hd_status st;
	char *folder = NULL;
	DIR *open_folder = NULL;
	const struct dirent *entry;
	HD_TRY(hd_run_path(&folder, run, "checkpoints"));
	open_folder = opendir(folder);
	while (open_folder && (entry = readdir(open_folder))) {
		const char *name = entry->d_name;
		bool onnx = !strncmp(name, "model", 5) && (hd_ends_with(name, ".onnx") || hd_ends_with(name, ".data"));
		if (!is_temporary(name) && (onnx || !strcmp(name, "best.safetensors")))
			HD_TRY(add_file(list, folder, name, "model/"));
	}
done:
	if (open_folder)
		closedir(open_folder);
	free(folder);
	return st;
}

static int smaller_first(const void *a, const void *b)
{
	const file *x = a, *y = b;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? -1 : 1;
	return strcmp(x->name, y->name);
}

static bool is_sent(const hd_mlflow_state *s, const file *f)
{
	const json_t *known = json_object_get(s->artifacts, f->name);
	return known && json_integer_value(json_array_get(known, 0)) == f->bytes &&
	       json_integer_value(json_array_get(known, 1)) == f->modified_ns;
}

/* Those that are not at the server, small ones first. */
static hd_status list_left(files *list, const hd_run *run, const hd_mlflow_state *state)
{
	static const char *const root[] = {"config.yaml", "command.txt", "environment.json", "catalog.csv"};
	hd_status st;
	char *artifacts = NULL;
	const char *word;
	int64_t end_ms;
	size_t left = 0;
	HD_TRY(hd_run_path(&artifacts, run, "artifacts"));
	for (size_t i = 0; i < sizeof root / sizeof *root; i++)
		HD_TRY(add_file(list, run->folder, root[i], ""));
	HD_TRY(add_folder(list, artifacts, "", 0));
	HD_TRY(hd_forward_wanted_status(&word, &end_ms, run));
	if (state->with_model && strcmp(word, hd_run_state_word(HD_RUN_RUNNING)) != 0)
		HD_TRY(add_model(list, run));
	for (size_t i = 0; i < list->count; i++) {
		if (is_sent(state, &list->all[i])) {
			free(list->all[i].path);
			free(list->all[i].name);
		} else {
			list->all[left++] = list->all[i];
		}
	}
	list->count = left;
	if (left)
		qsort(list->all, left, sizeof *list->all, smaller_first);
done:
	free(artifacts);
	return st;
}

hd_status hd_forward_artifacts_left(int64_t *left, const hd_run *run, const hd_mlflow_state *state)
{
	files list = {0};
	hd_status st = list_left(&list, run, state);
	*left = (int64_t)list.count;
	free_files(&list);
	return st;
}

/* ---- where to ---- */

static hd_status put_object(hd_forward *f, const file *from, const char *uri)
{
	hd_status st;
	hd_s3_url url = {0};
	hd_s3 *s3;
	hd_s3_object object;
	char *key = NULL;
	HD_TRY(hd_s3_url_parse(&url, uri));
	HD_TRY(hd_sprintf(&key, "%s%s%s", url.key, url.key[0] ? "/" : "", from->name));
	if (!f->store)
		HD_TRY(hd_fetch_open_with_stop(&f->store, &f->settings, f->stop));
	HD_TRY(hd_store_s3(&s3, f->store));
	HD_TRY(hd_s3_put_file(s3, &object, url.bucket, key, from->path, NULL));
done:
	free(key);
	hd_s3_url_free(&url);
	return st;
}

/* The server's folder is one of this machine. */
static hd_status put_copy(const file *from, const char *uri)
{
	hd_status st;
	char *to = NULL, *folder = NULL;
	const char *path = !strncasecmp(uri, "file://", 7) ? uri + 7 : !strncasecmp(uri, "file:", 5) ? uri + 5 : uri;
	if (path[0] != '/')
		return hd_fail(HD_E_USAGE,
		        "the server keeps artifacts in '%s', a folder of its own; start it with "
		        "--artifacts-destination",
		        uri);
	HD_TRY(hd_sprintf(&to, "%s/%s", path, from->name));
	HD_TRY(hd_strdup(&folder, to));
	*strrchr(folder, '/') = 0;
	HD_TRY(hd_make_folders(folder));
	HD_TRY(hd_file_copy(to, from->path, 0));
done:
	free(folder);
	free(to);
	return st;
}

static void settle(hd_forward *f, hd_status st)
{
	f->end = st == HD_OK ? HD_MLFLOW_DONE : st == HD_E_IO ? HD_MLFLOW_AWAY : HD_MLFLOW_REFUSED;
	f->unreachable = false;
	snprintf(f->problem, sizeof f->problem, "%s", st == HD_OK ? "" : hd_error_text());
}

static hd_status put(hd_forward *f, const file *from)
{
	hd_status st;
	const char *uri = f->state.artifact_uri ? f->state.artifact_uri : "";
	hd_mlflow_answer answer = {0};
	if (hd_mlflow_takes(uri)) {
		st = hd_mlflow_put(f->client, &answer, uri, from->name, from->path);
		f->end = st == HD_OK ? answer.end : HD_MLFLOW_REFUSED;
		f->unreachable = answer.end == HD_MLFLOW_AWAY && !answer.maybe_done;
		snprintf(f->problem, sizeof f->problem, "%s", f->end == HD_MLFLOW_DONE ? "" : hd_error_text());
		hd_mlflow_answer_free(&answer);
	} else if (hd_s3_is_url(uri)) {
		st = put_object(f, from, uri);
		settle(f, st);
	} else if (!hd_behind_scheme(uri) || !strncasecmp(uri, "file:", 5)) {
		st = put_copy(from, uri);
		settle(f, st);
	} else {
		st = hd_fail(HD_E_UNSUPPORTED, "the server keeps artifacts at %.*s..., which is not supported",
		        (int)strcspn(uri, ":"), uri);
		settle(f, st);
	}
	return st == HD_E_MEMORY || st == HD_E_INTERRUPTED ? st : HD_OK;
}

/* ---- sending ---- */

/* One that changed meanwhile goes again. */
static hd_status note_sent(hd_forward *f, const file *sent)
{
	file after = {.path = sent->path};
	f->progress_s = hd_now_s();
	if (!look(&after) || after.bytes != sent->bytes || after.modified_ns != sent->modified_ns) {
		f->artifacts_left = true;
		return HD_OK;
	}
	json_t *known = json_pack("[I, I]", (json_int_t)sent->bytes, (json_int_t)sent->modified_ns);
	if (!known || json_object_set_new(f->state.artifacts, sent->name, known) != 0)
		return hd_fail(HD_E_MEMORY, "out of host memory");
	return hd_mlflow_state_write(&f->state, f->run);
}

static hd_status send_left(hd_forward *f, const files *list, bool whole)
{
	hd_status st = HD_OK;
	int refused = 0;
	char problem[sizeof f->problem] = "";
	for (size_t i = 0; i < list->count; i++) {
		HD_TRY(put(f, &list->all[i]));
		if (f->end == HD_MLFLOW_AWAY) {
			f->artifacts_left = true;
			goto done;
		}
		if (f->end == HD_MLFLOW_DONE) {
			refused = 0;
			HD_TRY(note_sent(f, &list->all[i]));
			if (!whole && i + 1 < list->count) {
				f->artifacts_left = true;
				f->artifacts_s = 0;
				break;
			}
		} else {
			memcpy(problem, f->problem, sizeof problem);
			if (++refused == MOST_REFUSED)
				break;
		}
	}
	if (problem[0]) {
		f->artifacts_left = true;
		f->artifacts_s = hd_now_s() + AGAIN_S - EVERY_S;
		f->end = HD_MLFLOW_REFUSED;
		memcpy(f->problem, problem, sizeof problem);
	}
done:
	return st;
}

hd_status hd_forward_artifacts(hd_forward *f, bool whole)
{
	hd_status st;
	files list = {0};
	double now = hd_now_s();
	f->end = HD_MLFLOW_DONE;
	if (!whole && f->artifacts_s > 0 && now - f->artifacts_s < EVERY_S)
		return HD_OK;
	f->artifacts_s = now;
	f->artifacts_left = false;
	HD_TRY(list_left(&list, f->run, &f->state));
	HD_TRY(send_left(f, &list, whole));
done:
	free_files(&list);
	return st;
}
