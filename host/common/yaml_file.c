/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/yaml_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

unsigned long hd_yaml_line(const yaml_node_t *node)
{
	return (unsigned long)node->start_mark.line + 1;
}

static hd_status no_yaml(const yaml_parser_t *parser, const char *path)
{
	return hd_fail(HD_E_USAGE, "%s:%lu: %s", path, (unsigned long)parser->problem_mark.line + 1,
	        parser->problem ? parser->problem : "is no YAML");
}

static hd_status load(hd_yaml *out, yaml_parser_t *parser, const char *path)
{
	yaml_document_t second;
	hd_status st = HD_OK;
	if (!yaml_parser_load(parser, &out->document))
		return no_yaml(parser, path);
	out->root = yaml_document_get_root_node(&out->document);
	if (out->root && out->root->type == YAML_SCALAR_NODE && out->root->data.scalar.length == 0)
		out->root = NULL;
	if (out->root && out->root->type != YAML_MAPPING_NODE) {
		st = hd_fail(HD_E_USAGE, "%s:%lu: wants 'key: value' lines", path, hd_yaml_line(out->root));
	} else if (!yaml_parser_load(parser, &second)) {
		st = no_yaml(parser, path);
	} else {
		if (yaml_document_get_root_node(&second))
			st = hd_fail(HD_E_USAGE, "%s: more than one YAML document", path);
		yaml_document_delete(&second);
	}
	if (st != HD_OK)
		hd_yaml_free(out);
	return st;
}

hd_status hd_yaml_load(hd_yaml *out, const char *path, const char *text)
{
	yaml_parser_t parser;
	*out = (hd_yaml){.root = NULL};
	FILE *file = text ? NULL : fopen(path, "rb");
	if (!file && !text)
		return hd_fail(HD_E_USAGE, "%s: cannot open: %s", path, strerror(errno));
	hd_status st = HD_OK;
	if (!yaml_parser_initialize(&parser)) {
		st = hd_fail(HD_E_MEMORY, "out of host memory for the YAML parser");
	} else {
		if (text)
			yaml_parser_set_input_string(&parser, (const unsigned char *)text, strlen(text));
		else
			yaml_parser_set_input_file(&parser, file);
		st = load(out, &parser, path);
		yaml_parser_delete(&parser);
	}
	if (file)
		fclose(file);
	return st;
}

void hd_yaml_free(hd_yaml *yaml)
{
	yaml_document_delete(&yaml->document);
	*yaml = (hd_yaml){.root = NULL};
}
