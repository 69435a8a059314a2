/* SPDX-License-Identifier: Apache-2.0 */
#include "host/publish/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/common/wait.h"
#include "host/track/mlflow_client.h"

#define PATIENCE_S 20.0
#define FIRST_WAIT_S 0.25
#define PAGE 1000

struct hd_registry {
	hd_mlflow *client;
	char *name; /* of the registered model */
};

/* ---- opening ---- */

static bool is_alias(const char *alias)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	bool reserved = !strcasecmp(alias, "latest") || ((alias[0] == 'v' || alias[0] == 'V') && alias[1] &&
	                                                        !alias[1 + strspn(alias + 1, "0123456789")]);
	return alias[0] && strlen(alias) <= 255 && !alias[strspn(alias, good)] && !reserved;
}

hd_status hd_registry_check_names(const hd_settings *s)
{
	if (!is_alias(s->alias))
		return hd_fail(HD_E_USAGE,
		        "alias '%s': letters, digits, '_' and '-'; MLflow keeps 'latest' and 'v' with a number for "
		        "itself",
		        s->alias);
	if (!s->registered_model[0] || strpbrk(s->registered_model, "/:.%'\"\n"))
		return hd_fail(
		        HD_E_USAGE, "registered_model '%s': a name without / : . %% and quotes", s->registered_model);
	return HD_OK;
}

hd_status hd_registry_open(hd_registry **out, const hd_settings *settings)
{
	hd_status st;
	char *uri = NULL;
	hd_registry *r = NULL;
	*out = NULL;
	HD_TRY(hd_mlflow_uri(&uri, settings));
	if (!uri[0])
		goto done;
	HD_TRY(hd_alloc(&r, 1, sizeof *r));
	HD_TRY(hd_strdup(&r->name, settings->registered_model));
	HD_TRY(hd_mlflow_open(&r->client, uri));
	hd_mlflow_stop_by(r->client, hd_stop_requested);
	*out = r;
	r = NULL;
done:
	hd_registry_close(r);
	free(uri);
	return st;
}

void hd_registry_close(hd_registry *r)
{
	if (!r)
		return;
	hd_mlflow_close(r->client);
	free(r->name);
	free(r);
}

const char *hd_registry_shown(const hd_registry *r)
{
	return hd_mlflow_shown(r->client);
}

/* ---- asking ---- */

static hd_status no_memory(void)
{
	return hd_fail(HD_E_MEMORY, "out of host memory for a request to the model registry");
}

/* hd_mlflow_ask; takes the body over. */
static hd_status ask(hd_registry *r, hd_mlflow_answer *out, const char *method, const char *path, json_t *body)
{
	hd_status st = body ? hd_mlflow_ask(r->client, out, method, path, body, PATIENCE_S) : no_memory();
	json_decref(body);
	return st;
}

/* Waits, and twice as long the next time. */
static hd_status wait_longer(double *wait_s)
{
	if (!hd_wait(*wait_s, hd_stop_requested))
		return hd_fail(HD_E_INTERRUPTED, "interrupted; run the same command again");
	*wait_s *= 2;
	return HD_OK;
}

static const char *tag_of(const json_t *version, const char *key)
{
	size_t i;
	json_t *tag;
	json_array_foreach(json_object_get(version, "tags"), i, tag)
	{
		if (!strcmp(hd_json_text(tag, "key"), key))
			return hd_json_text(tag, "value");
	}
	return "";
}

/* ---- versions ---- */

/* The newest of a page's versions of a source, where it is newer than what *number has. */
static void newest(char number[HD_REGISTRY_NUMBER], const json_t *page, const char *source, const char *sha256)
{
	size_t i;
	json_t *version;
	json_array_foreach(json_object_get(page, "model_versions"), i, version)
	{
		const char *its = hd_json_text(version, "version");
		bool same = !strcmp(hd_json_text(version, "source"), source) &&
		            (!sha256 || !strcmp(tag_of(version, "heimdall.sha256"), sha256));
		if (same && strtoll(its, NULL, 10) > strtoll(number, NULL, 10))
			snprintf(number, HD_REGISTRY_NUMBER, "%s", its);
	}
}

hd_status hd_registry_find(char number[HD_REGISTRY_NUMBER], hd_registry *r, const char *source, const char *sha256)
{
	hd_status st;
	hd_mlflow_answer a = {0};
	char *filter = NULL, *token = NULL;
	number[0] = 0;
	HD_TRY(hd_sprintf(&filter, "name='%s'", r->name));
	for (bool more = true; more;) {
		json_t *query = json_pack("{s:s, s:i}", "filter", filter, "max_results", PAGE);
		if (query && token)
			json_object_set_new(query, "page_token", json_string(token));
		HD_TRY(ask(r, &a, "GET", "model-versions/search", query));
		newest(number, a.body, source, sha256);
		free(token);
		token = NULL;
		more = hd_json_text(a.body, "next_page_token")[0] != 0;
		if (more)
			HD_TRY(hd_strdup(&token, hd_json_text(a.body, "next_page_token")));
		hd_mlflow_answer_free(&a);
	}
done:
	hd_mlflow_answer_free(&a);
	free(token);
	free(filter);
	return st;
}

/* One that is there already is fine. */
static hd_status make_model(hd_registry *r)
{
	hd_mlflow_answer a = {0};
	hd_status st = ask(r, &a, "POST", "registered-models/create", json_pack("{s:s}", "name", r->name));
	if (st == HD_E_FAILED && !strcmp(a.code, "RESOURCE_ALREADY_EXISTS"))
		st = HD_OK;
	if (st == HD_E_FAILED || st == HD_E_IO)
		hd_context(st, "registered model '%s'", r->name);
	hd_mlflow_answer_free(&a);
	return st;
}

static json_t *tags_of(const hd_registry_entry *e)
{
	const char *key;
	json_t *value, *tags = json_array();
	const char *const fixed[][2] = {
	        {"heimdall.version", e->version}, {"heimdall.sha256", e->sha256}, {"heimdall.commit", e->commit}};
	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
		json_array_append_new(tags, json_pack("{s:s, s:s}", "key", fixed[i][0], "value", fixed[i][1]));
	json_object_foreach((json_t *)e->metrics, key, value)
	{
		char number[64];
		snprintf(number, sizeof number, "%.9g", json_number_value(value));
		json_array_append_new(tags, json_pack("{s:s, s:s}", "key", key, "value", number));
	}
	return tags;
}

/*
 * Asks to make the version until it is there: where an answer is lost it may have been made, and is looked for before
 * it is made again.
 */
hd_status hd_registry_register(char number[HD_REGISTRY_NUMBER], hd_registry *r, const hd_registry_entry *e)
{
	hd_status st;
	double wait_s = FIRST_WAIT_S, until_s = hd_now_s() + PATIENCE_S;
	hd_mlflow_answer a = {0};
	json_t *body = json_pack("{s:s, s:s, s:o}", "name", r->name, "source", e->source, "tags", tags_of(e));
	if (body && e->run_id[0])
		json_object_set_new(body, "run_id", json_string(e->run_id));
	HD_TRY(body ? HD_OK : no_memory());
	HD_TRY(make_model(r));
	for (;;) {
		HD_TRY(hd_registry_find(number, r, e->source, e->sha256));
		if (number[0])
			break;
		hd_mlflow_answer_free(&a);
		HD_TRY(hd_mlflow_call(r->client, &a, "POST", "model-versions/create", body));
		if (a.end == HD_MLFLOW_DONE) {
			const json_t *made = json_object_get(a.body, "model_version");
			snprintf(number, HD_REGISTRY_NUMBER, "%s", hd_json_text(made, "version"));
			break;
		}
		if (a.end == HD_MLFLOW_REFUSED || hd_now_s() > until_s) {
			st = hd_context(a.end == HD_MLFLOW_AWAY ? HD_E_IO : HD_E_FAILED, "%s as a version of '%s'",
			        e->source, r->name);
			goto done;
		}
		HD_TRY(wait_longer(&wait_s));
	}
	if (!number[0])
		st = hd_fail(HD_E_FAILED, "%s: has registered a version without a number", hd_registry_shown(r));
done:
	hd_mlflow_answer_free(&a);
	json_decref(body);
	return st;
}

/* ---- aliases ---- */

hd_status hd_registry_set_alias(hd_registry *r, const char *alias, const char *number)
{
	hd_mlflow_answer a = {0};
	hd_status st = ask(r, &a, "POST", "registered-models/alias",
	        json_pack("{s:s, s:s, s:s}", "name", r->name, "alias", alias, "version", number));
	hd_mlflow_answer_free(&a);
	return st;
}

/* The registered model, or an answer without a body where there is none. */
static hd_status get_model(hd_mlflow_answer *out, hd_registry *r)
{
	hd_status st = ask(r, out, "GET", "registered-models/get", json_pack("{s:s}", "name", r->name));
	if (st == HD_E_FAILED && !strcmp(out->code, "RESOURCE_DOES_NOT_EXIST")) {
		hd_mlflow_answer_free(out);
		st = HD_OK;
	}
	return st;
}

hd_status hd_registry_aliases(json_t **out, hd_registry *r)
{
	hd_status st;
	size_t i;
	json_t *entry;
	char *both = NULL;
	hd_mlflow_answer a = {0};
	*out = NULL;
	HD_TRY(get_model(&a, r));
	*out = json_object();
	const json_t *model = json_object_get(a.body, "registered_model");
	json_array_foreach(json_object_get(model, "aliases"), i, entry)
	{
		const char *there = hd_json_text(*out, hd_json_text(entry, "version"));
		free(both);
		both = NULL;
		HD_TRY(hd_sprintf(&both, "%s%s%s", there, there[0] ? ", " : "", hd_json_text(entry, "alias")));
		json_object_set_new(*out, hd_json_text(entry, "version"), json_string(both));
	}
	st = *out ? HD_OK : no_memory();
done:
	free(both);
	hd_mlflow_answer_free(&a);
	return st;
}

hd_status hd_registry_source_of(char **out, hd_registry *r, const char *alias)
{
	hd_status st;
	size_t i;
	json_t *entry;
	hd_mlflow_answer model = {0}, version = {0};
	*out = NULL;
	HD_TRY(get_model(&model, r));
	json_array_foreach(json_object_get(json_object_get(model.body, "registered_model"), "aliases"), i, entry)
	{
		if (strcmp(hd_json_text(entry, "alias"), alias) != 0)
			continue;
		HD_TRY(ask(r, &version, "GET", "model-versions/get",
		        json_pack("{s:s, s:s}", "name", r->name, "version", hd_json_text(entry, "version"))));
		HD_TRY(hd_strdup(out, hd_json_text(json_object_get(version.body, "model_version"), "source")));
		break;
	}
done:
	hd_mlflow_answer_free(&version);
	hd_mlflow_answer_free(&model);
	return st;
}
