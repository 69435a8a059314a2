/* SPDX-License-Identifier: Apache-2.0 */
/* YAML files of settings: one mapping, flat or grouped, scalars only; every error has file:line. */
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/settings_table.h"
#include "host/common/yaml_file.h"

typedef struct reader {
	hd_settings *settings;
	yaml_document_t *document;
	const char *origin;
	bool seen[HD_SETTING_COUNT];
} reader;

/* A plain "~", "null" or nothing at all. */
static bool is_null(const yaml_node_t *node)
{
	if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return false;
	const char *text = (const char *)node->data.scalar.value;
	return !*text || !strcmp(text, "~") || !strcmp(text, "null");
}

static bool is_group(const char *name)
{
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		if (!strcmp(hd_setting_table[i].group, name))
			return true;
	return false;
}

static hd_status read_pair(reader *r, const char *key, const yaml_node_t *key_node, const yaml_node_t *value)
{
	char origin[1024];
	snprintf(origin, sizeof origin, "%s:%lu", r->origin, hd_yaml_line(key_node));
	if (value->type != YAML_SCALAR_NODE)
		return hd_fail(HD_E_USAGE, "%s: %s: wants one value, not a list or mapping", origin, key);
	int index = hd_setting_find(key);
	if (index >= 0 && r->seen[index])
		return hd_fail(HD_E_USAGE, "%s: '%s' is set twice", origin, key);
	const char *text = (const char *)value->data.scalar.value;
	if (strlen(text) != value->data.scalar.length)
		return hd_fail(HD_E_USAGE, "%s: %s: a NUL byte in the value", origin, key);
	/* Only texts can be empty, so that a null elsewhere is refused by its own reader. */
	if (index >= 0 && hd_setting_table[index].kind == HD_KIND_TEXT && is_null(value))
		text = "";
	hd_status st = hd_settings_set(r->settings, key, text, origin);
	if (st == HD_OK)
		r->seen[index] = true;
	return st;
}

static hd_status read_mapping(reader *r, const yaml_node_t *node, bool top)
{
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key_node = yaml_document_get_node(r->document, pair->key);
		const yaml_node_t *value = yaml_document_get_node(r->document, pair->value);
		if (key_node->type != YAML_SCALAR_NODE)
			return hd_fail(HD_E_USAGE, "%s:%lu: a key must be a word", r->origin, hd_yaml_line(key_node));
		const char *key = (const char *)key_node->data.scalar.value;
		hd_status st;
		if (top && value->type == YAML_MAPPING_NODE && is_group(key))
			st = read_mapping(r, value, false);
		else if (top && is_null(value) && is_group(key))
			st = HD_OK; /* a group whose lines are all comments */
		else if (top && value->type == YAML_MAPPING_NODE)
			st = hd_fail(HD_E_USAGE, "%s:%lu: unknown group '%s'", r->origin, hd_yaml_line(key_node), key);
		else
			st = read_pair(r, key, key_node, value);
		if (st != HD_OK)
			return st;
	}
	return HD_OK;
}

static hd_status read_settings(hd_settings *settings, const char *origin, const char *yaml)
{
	hd_yaml file;
	hd_status st = hd_yaml_load(&file, origin, yaml);
	if (st != HD_OK)
		return st;
	reader r = {.settings = settings, .document = &file.document, .origin = origin};
	if (file.root)
		st = read_mapping(&r, file.root, true);
	hd_yaml_free(&file);
	return st;
}

hd_status hd_settings_read_yaml_text(hd_settings *settings, const char *yaml, const char *origin)
{
	return read_settings(settings, origin, yaml);
}

hd_status hd_settings_read_yaml(hd_settings *settings, const char *path)
{
	return read_settings(settings, path, NULL);
}
