/* SPDX-License-Identifier: Apache-2.0 */
/* What a run was told: config.yaml, params.json, tags.json. */
#include "host/track/record.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/redact.h"
#include "host/common/settings_table.h"
#include "host/data/catalog_rows.h"
#include "host/track/mlflow_names.h"

#define OWN_PREFIX "heimdall."

/* ---- tags ---- */

static hd_status add_tag(json_t *tags, const char *key, const char *value)
{
	if (!hd_mlflow_is_name(key))
		return hd_fail(HD_E_USAGE,
		        "--tags: '%.260s' is no key: 1 to %d letters, digits, blanks and _ - . : / (with no empty part "
		        "between /)",
		        key, HD_MLFLOW_NAME);
	if (!strncmp(key, OWN_PREFIX, strlen(OWN_PREFIX)) && strcmp(key, OWN_PREFIX "reproduces") != 0)
		return hd_fail(
		        HD_E_USAGE, "--tags: '%s': keys that begin with " OWN_PREFIX " are the program's own", key);
	if (json_object_get(tags, key))
		return hd_fail(HD_E_USAGE, "--tags: '%s' stands there twice", key);
	if (strlen(value) > HD_MLFLOW_TAG_VALUE)
		return hd_fail(HD_E_USAGE, "--tags: the value of '%s' has %zu bytes; %d at most", key, strlen(value),
		        HD_MLFLOW_TAG_VALUE);
	if (hd_has_password(value))
		return hd_fail(HD_E_USAGE,
		        "--tags: the value of '%s' holds a password, which a run's folder never does; leave it out",
		        key);
	if (json_object_set_new(tags, key, json_string(value)) != 0)
		return hd_fail(HD_E_USAGE, "--tags: the value of '%s' is not UTF-8", key);
	return HD_OK;
}

/* In place: without blanks at both ends. */
static char *trim(char *text)
{
	text += strspn(text, " \t\r\n");
	size_t length = strlen(text);
	while (length && isspace((unsigned char)text[length - 1]))
		text[--length] = 0;
	return text;
}

/* Object of texts from KEY=VALUE,KEY=VALUE; a value may hold '=', and no comma. */
static hd_status read_tags(json_t *tags, const char *list)
{
	char *copy;
	hd_status st = hd_strdup(&copy, list);
	if (st != HD_OK)
		return st;
	for (char *at = trim(copy); st == HD_OK && *at;) {
		char *comma = strchr(at, ','), *equals;
		if (comma)
			*comma = 0;
		equals = strchr(at, '=');
		if (!equals) {
			st = hd_fail(
			        HD_E_USAGE, "--tags: '%.260s' is no KEY=VALUE; tags are KEY=VALUE,KEY=VALUE", trim(at));
			break;
		}
		*equals = 0;
		st = add_tag(tags, trim(at), trim(equals + 1));
		if (st == HD_OK && comma && !*trim(comma + 1))
			st = hd_fail(HD_E_USAGE, "--tags: nothing stands behind the last comma");
		at = comma ? comma + 1 : at + strlen(at);
	}
	free(copy);
	return st;
}

hd_status hd_record_check_tags(const hd_settings *settings)
{
	json_t *tags = json_object();
	hd_status st = tags ? read_tags(tags, settings->tags) : hd_fail(HD_E_MEMORY, "out of host memory for tags");
	json_decref(tags);
	return st;
}

static hd_status write_tags(const hd_run *run, const hd_settings *settings)
{
	hd_status st;
	json_t *tags = json_object();
	char *model = NULL;
	HD_TRY(tags ? read_tags(tags, settings->tags) : hd_fail(HD_E_MEMORY, "out of host memory for tags"));
	HD_TRY(hd_sprintf(&model, "ConvNeXt-%c%s", toupper((unsigned char)settings->backbone_size[0]),
	        settings->backbone_size + 1));
	const char *const own[][2] = {{"phase", "training"}, {"service", "training"}, {"model", model}};
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if (!json_object_get(tags, own[i][0]) &&
		        json_object_set_new(tags, own[i][0], json_string(own[i][1])) != 0)
			st = hd_fail(HD_E_MEMORY, "out of host memory for tags");
	if (st == HD_OK)
		st = hd_run_write_json(run, "tags.json", tags);
done:
	free(model);
	json_decref(tags);
	return st;
}

/* ---- params ---- */

static hd_status number_text(char **out, double value)
{
	char text[HD_NUMBER_BYTES];
	hd_number_format(text, value);
	return hd_strdup(out, isnan(value) ? "nan" : isinf(value) ? value > 0 ? "inf" : "-inf" : text);
}

static hd_status truth_text(char **out, bool value)
{
	return hd_strdup(out, value ? "True" : "False");
}

static hd_status setting_value(char **out, const hd_settings *s, const hd_setting *row)
{
	const void *at = (const char *)s + row->offset;
	if (row->kind == HD_KIND_BOOL)
		return truth_text(out, *(const bool *)at);
	if (row->kind == HD_KIND_FLOAT)
		return number_text(out, *(const double *)at);
	return hd_setting_text(out, s, row);
}

static hd_status fact_value(char **out, const char *key, const json_t *value)
{
	if (json_is_string(value))
		return hd_redact(out, json_string_value(value));
	if (json_is_integer(value))
		return hd_sprintf(out, "%lld", (long long)json_integer_value(value));
	if (json_is_real(value))
		return number_text(out, json_real_value(value));
	if (json_is_boolean(value))
		return truth_text(out, json_is_true(value));
	*out = NULL;
	return hd_fail(HD_E_USAGE, "fact '%s' is neither a text nor a number", key);
}

/* Takes value over. */
static hd_status put_text(json_t *object, const char *key, char *value)
{
	int failed = json_object_set_new(object, key, json_string(value));
	free(value);
	return failed ? hd_fail(HD_E_DATA, "%s: not UTF-8, or out of host memory", key) : HD_OK;
}

static bool is_param(const hd_setting *row)
{
	static const char *const groups[] = {"data", "features", "model", "train"};
	bool among = false;
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		among = among || !strcmp(row->group, groups[i]);
	return among && strchr(row->commands, 'T') && !hd_setting_is_of_call(row);
}

static hd_status write_params(const hd_run *run, const hd_settings *settings, const json_t *facts)
{
	hd_status st;
	const char *key;
	json_t *fact, *params = json_object();
	char *value;
	HD_TRY(params ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the run's parameters"));
	for (int i = 0; i < HD_SETTING_COUNT; i++) {
		const hd_setting *row = &hd_setting_table[i];
		if (!is_param(row))
			continue;
		HD_TRY(setting_value(&value, settings, row));
		HD_TRY(put_text(params, row->key, value));
	}
	json_object_foreach((json_t *)facts, key, fact)
	{
		HD_TRY(fact_value(&value, key, fact));
		HD_TRY(put_text(params, key, value));
	}
	st = hd_run_write_json(run, "params.json", params);
done:
	json_decref(params);
	return st;
}

/* ---- all of it ---- */

static hd_status write_config(const hd_run *run, const hd_settings *settings)
{
	hd_status st;
	char *path = NULL, *yaml = NULL;
	HD_TRY(hd_run_path(&path, run, "config.yaml"));
	HD_TRY(hd_settings_dump(settings, &yaml));
	HD_TRY(hd_file_write(path, &(hd_span){yaml, strlen(yaml)}, 1, 0));
done:
	free(yaml);
	free(path);
	return st;
}

hd_status hd_record_settings(const hd_run *run, const hd_settings *settings, const json_t *facts)
{
	hd_status st;
	HD_TRY(hd_record_check_tags(settings));
	HD_TRY(write_config(run, settings));
	HD_TRY(write_params(run, settings, facts));
	HD_TRY(write_tags(run, settings));
done:
	return st;
}
