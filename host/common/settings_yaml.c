/* SPDX-License-Identifier: Apache-2.0 */
/* YAML files of settings: one mapping, flat or grouped, scalars only; every error has file:line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <yaml.h>

#include "host/common/memory.h"
#include "host/common/settings_table.h"

typedef struct reader {
	hd_settings *settings;
	yaml_document_t *document;
	const char *origin;
	bool seen[HD_SETTING_COUNT];
} reader;

static unsigned long line_of(const yaml_node_t *node)
{
	return (unsigned long)node->start_mark.line + 1;
}

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
	snprintf(origin, sizeof origin, "%s:%lu", r->origin, line_of(key_node));
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
			return hd_fail(HD_E_USAGE, "%s:%lu: a key must be a word", r->origin, line_of(key_node));
		const char *key = (const char *)key_node->data.scalar.value;
		hd_status st;
		if (top && value->type == YAML_MAPPING_NODE && is_group(key))
			st = read_mapping(r, value, false);
		else if (top && is_null(value) && is_group(key))
			st = HD_OK; /* a group whose lines are all comments */
		else if (top && value->type == YAML_MAPPING_NODE)
			st = hd_fail(HD_E_USAGE, "%s:%lu: unknown group '%s'", r->origin, line_of(key_node), key);
		else
			st = read_pair(r, key, key_node, value);
		if (st != HD_OK)
			return st;
	}
	return HD_OK;
}

static hd_status read_document(reader *r)
{
	const yaml_node_t *root = yaml_document_get_root_node(r->document);
	if (!root)
		return HD_OK;
	if (root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0)
		return HD_OK;
	if (root->type != YAML_MAPPING_NODE)
		return hd_fail(HD_E_USAGE, "%s:%lu: wants 'key: value' lines", r->origin, line_of(root));
	return read_mapping(r, root, true);
}

static hd_status read_parser(hd_settings *settings, yaml_parser_t *parser, const char *origin)
{
	yaml_document_t document, second;
	reader r = {.settings = settings, .document = &document, .origin = origin};
	if (!yaml_parser_load(parser, &document))
		return hd_fail(HD_E_USAGE, "%s:%lu: %s", origin, (unsigned long)parser->problem_mark.line + 1,
		        parser->problem ? parser->problem : "is no YAML");
	hd_status st = read_document(&r);
	yaml_document_delete(&document);
	if (st != HD_OK)
		return st;
	if (!yaml_parser_load(parser, &second))
		return hd_fail(HD_E_USAGE, "%s:%lu: %s", origin, (unsigned long)parser->problem_mark.line + 1,
		        parser->problem ? parser->problem : "is no YAML");
	if (yaml_document_get_root_node(&second))
		st = hd_fail(HD_E_USAGE, "%s: more than one YAML document", origin);
	yaml_document_delete(&second);
	return st;
}

hd_status hd_settings_read_yaml_text(hd_settings *settings, const char *yaml, const char *origin)
{
	yaml_parser_t parser;
	if (!yaml_parser_initialize(&parser))
		return hd_fail(HD_E_MEMORY, "out of host memory for the YAML parser");
	yaml_parser_set_input_string(&parser, (const unsigned char *)yaml, strlen(yaml));
	hd_status st = read_parser(settings, &parser, origin);
	yaml_parser_delete(&parser);
	return st;
}

hd_status hd_settings_read_yaml(hd_settings *settings, const char *path)
{
	yaml_parser_t parser;
	FILE *file = fopen(path, "rb");
	if (!file)
		return hd_fail(HD_E_USAGE, "%s: cannot open: %s", path, strerror(errno));
	if (!yaml_parser_initialize(&parser)) {
		fclose(file);
		return hd_fail(HD_E_MEMORY, "out of host memory for the YAML parser");
	}
	yaml_parser_set_input_file(&parser, file);
	hd_status st = read_parser(settings, &parser, path);
	yaml_parser_delete(&parser);
	fclose(file);
	return st;
}
