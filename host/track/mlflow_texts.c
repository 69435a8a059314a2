/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Params and tags. A param that the server has cannot be changed there: one that changed on disk is said once and left.
 * A value that is too long goes shortened, and whole as an artifact (artifacts/params/KEY.txt in the run's folder).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/version.h"
#include "host/track/mlflow_forward.h"
#include "host/track/mlflow_names.h"

typedef struct kind {
	const char *name, *file; /* "params", "params.json" */
	size_t most;             /* characters of a value */
} kind;

static const kind kinds[] = {
        {"params", "params.json", HD_MLFLOW_PARAM_VALUE}, {"tags", "tags.json", HD_MLFLOW_TAG_VALUE}};

static json_t *sent_of(const hd_mlflow_state *s, const kind *k)
{
	return k == &kinds[0] ? s->params : s->tags;
}

/* What MLflow's own client would say of the run, and how it is found again. */
static hd_status add_own_tags(json_t *tags, const hd_run *run)
{
	hd_status st;
	json_t *identity = NULL, *own = NULL;
	char *name = NULL;
	bool shortened;
	HD_TRY(hd_mlflow_text(&name, &shortened, run->name, HD_MLFLOW_NAME));
	HD_TRY(hd_run_read_json(&identity, run, "run.json"));
	const char *user = json_string_value(json_object_get(identity, "user"));
	const char *commit = json_string_value(json_object_get(identity, "commit"));
	json_object_set_new(tags, "heimdall.run_id", json_string(run->id));
	json_object_set_new(tags, "mlflow.runName", json_string(name));
	own = json_pack("{s:s, s:s, s:s, s:s}", "mlflow.user", user ? user : "", "mlflow.source.name", "heimdall",
	        "mlflow.source.type", "LOCAL", "mlflow.source.git.commit", commit ? commit : hd_commit);
	if (!own || json_object_update_missing(tags, own) != 0)
		st = hd_fail(HD_E_MEMORY, "out of host memory");
done:
	json_decref(own);
	json_decref(identity);
	free(name);
	return st;
}

/* The object of a file; *out is NULL where there is none. */
static hd_status read_texts(json_t **out, const hd_run *run, const kind *k)
{
	hd_status st;
	HD_TRY(hd_run_read_json(out, run, k->file));
	if (*out && !json_is_object(*out)) {
		st = hd_fail(HD_E_DATA, "%s/%s: not a JSON object", run->folder, k->file);
		goto done;
	}
	if (k != &kinds[0]) {
		if (!*out)
			*out = json_object();
		HD_TRY(*out ? add_own_tags(*out, run) : hd_fail(HD_E_MEMORY, "out of host memory"));
	}
done:
	if (st != HD_OK) {
		json_decref(*out);
		*out = NULL;
	}
	return st;
}

/* The value as text, new; and its CRC-32 in hexadecimal digits. */
static hd_status value_of(char **out, char crc[16], const json_t *value)
{
	*out = json_is_string(value) ? strdup(json_string_value(value))
	                             : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17));
	if (!*out)
		return hd_fail(HD_E_MEMORY, "out of host memory");
	snprintf(crc, 16, "%08lx", (unsigned long)crc32(0, (const Bytef *)*out, (uInt)strlen(*out)));
	return HD_OK;
}

/* artifacts/KIND/NAME.txt, which goes the way of all artifacts. */
static hd_status keep_whole(const hd_run *run, const kind *k, const char *name, const char *value)
{
	hd_status st;
	char *path = NULL, *folder = NULL;
	HD_TRY(hd_sprintf(&path, "%s/artifacts/%s/%s.txt", run->folder, k->name, name));
	HD_TRY(hd_strdup(&folder, path));
	*strrchr(folder, '/') = 0;
	HD_TRY(hd_make_folders(folder));
	HD_TRY(hd_file_write(path, &(hd_span){value, strlen(value)}, 1, 0));
done:
	free(folder);
	free(path);
	return st;
}

/* An item of a batch and its value's CRC; NULL where the server has it, or it cannot be changed. */
static hd_status make_item(
        json_t **out, char crc[16], hd_forward *f, const kind *k, const char *key, const json_t *value)
{
	hd_status st;
	char name[HD_MLFLOW_NAME + 1], *whole = NULL, *text = NULL;
	bool shortened;
	*out = NULL;
	hd_mlflow_name(name, key);
	HD_TRY(value_of(&whole, crc, value));
	const char *sent = json_string_value(json_object_get(sent_of(&f->state, k), name));
	if (sent && !strcmp(sent, crc))
		goto done;
	if (sent && k == &kinds[0]) {
		json_object_set_new(f->state.params, name, json_string(crc));
		HD_TRY(hd_sprintf(&text, "param %s", name));
		HD_TRY(hd_mlflow_state_refuse(&f->state, text, "it changed, and params stay what they were first"));
		goto done;
	}
	HD_TRY(hd_mlflow_text(&text, &shortened, whole, k->most));
	if (shortened)
		HD_TRY(keep_whole(f->run, k, name, whole));
	*out = json_pack("{s:s, s:s}", "key", name, "value", text);
	if (!*out)
		st = hd_fail(HD_E_MEMORY, "out of host memory");
done:
	free(text);
	free(whole);
	return st;
}

/* Those of a batch are there, or refused for good. */
static hd_status note_sent(hd_forward *f, const kind *k, const json_t *batch, const json_t *crcs)
{
	size_t i;
	const json_t *item;
	json_array_foreach(batch, i, item)
	{
		const char *key = json_string_value(json_object_get(item, "key"));
		json_object_set(sent_of(&f->state, k), key, json_object_get(crcs, key));
	}
	f->progress_s = hd_now_s();
	return hd_mlflow_state_write(&f->state, f->run);
}

static hd_status send_batch(hd_forward *f, const kind *k, json_t *batch, json_t *crcs)
{
	hd_status st = HD_OK;
	if (json_array_size(batch) == 0)
		return HD_OK;
	HD_TRY(hd_forward_batch(f, k->name, batch));
	if (f->end == HD_MLFLOW_DONE)
		HD_TRY(note_sent(f, k, batch, crcs));
	json_array_clear(batch);
	json_object_clear(crcs);
done:
	return st;
}

static hd_status send_kind(hd_forward *f, const kind *k)
{
	hd_status st;
	json_t *texts = NULL, *batch = json_array(), *crcs = json_object(), *item = NULL, *value;
	const char *key;
	char crc[16];
	size_t bytes = 0;
	HD_TRY(batch && crcs ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	HD_TRY(read_texts(&texts, f->run, k));
	json_object_foreach(texts, key, value)
	{
		HD_TRY(make_item(&item, crc, f, k, key, value));
		if (!item)
			continue;
		/* at most six bytes to one, as JSON has control characters */
		size_t more = 6 * json_string_length(json_object_get(item, "value")) + 2 * HD_MLFLOW_NAME;
		if (json_array_size(batch) == HD_MLFLOW_TEXTS || bytes + more > HD_MLFLOW_BYTES) {
			HD_TRY(send_batch(f, k, batch, crcs));
			bytes = 0;
			if (f->end != HD_MLFLOW_DONE)
				goto done;
		}
		json_object_set_new(crcs, json_string_value(json_object_get(item, "key")), json_string(crc));
		json_array_append(batch, item);
		json_decref(item);
		item = NULL;
		bytes += more;
	}
	HD_TRY(send_batch(f, k, batch, crcs));
done:
	json_decref(item);
	json_decref(crcs);
	json_decref(batch);
	json_decref(texts);
	return st;
}

static int64_t modified_ns(const hd_run *run, const kind *k)
{
	char *path;
	struct stat about = {0};
	if (hd_run_path(&path, run, k->file) != HD_OK)
		return 0;
	if (stat(path, &about) != 0)
		about = (struct stat){0};
	free(path);
	return (int64_t)about.st_mtim.tv_sec * 1000000000 + about.st_mtim.tv_nsec;
}

hd_status hd_forward_texts(hd_forward *f)
{
	hd_status st = HD_OK;
	f->end = HD_MLFLOW_DONE;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds && f->end == HD_MLFLOW_DONE; i++) {
		int64_t modified = modified_ns(f->run, &kinds[i]);
		if (f->texts_modified[i] == modified + 1) /* 0: not sent yet */
			continue;
		HD_TRY(send_kind(f, &kinds[i]));
		if (f->end == HD_MLFLOW_DONE)
			f->texts_modified[i] = modified + 1;
	}
done:
	return st;
}

hd_status hd_forward_texts_sent(bool *sent, const hd_run *run, const hd_mlflow_state *state)
{
	hd_status st = HD_OK;
	json_t *texts = NULL, *value;
	const char *key;
	char name[HD_MLFLOW_NAME + 1], crc[16], *whole;
	*sent = true;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		json_decref(texts);
		HD_TRY(read_texts(&texts, run, &kinds[i]));
		json_object_foreach(texts, key, value)
		{
			HD_TRY(value_of(&whole, crc, value));
			free(whole);
			hd_mlflow_name(name, key);
			const char *there = json_string_value(json_object_get(sent_of(state, &kinds[i]), name));
			*sent = *sent && there && !strcmp(there, crc);
		}
	}
done:
	json_decref(texts);
	return st;
}
