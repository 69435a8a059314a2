/* SPDX-License-Identifier: Apache-2.0 */
/* One YAML document of 'key: value' lines, from a file or a text. */
#ifndef HD_COMMON_YAML_FILE_H
#define HD_COMMON_YAML_FILE_H

#include <yaml.h>

#include "heimdall/status.h"

typedef struct hd_yaml {
	yaml_document_t document;
	const yaml_node_t *root; /* a mapping, NULL where there is nothing in it */
} hd_yaml;

/*
 * Loads the file `path`, or `text` where that is not NULL (then path stands for its name). HD_E_USAGE with path:line
 * for what is no YAML, no mapping or more than one document, and for a file that cannot be opened.
 */
hd_status hd_yaml_load(hd_yaml *out, const char *path, const char *text);
void hd_yaml_free(hd_yaml *yaml); /* after a load that went well */

/* Line of a node, from 1. */
unsigned long hd_yaml_line(const yaml_node_t *node);

#endif
