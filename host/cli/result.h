/* SPDX-License-Identifier: Apache-2.0 */
/* Results as JSON files. */
#ifndef HD_CLI_RESULT_H
#define HD_CLI_RESULT_H

#include <jansson.h>

#include "heimdall/status.h"

/* Writes the object to path, indented; nothing where path is "". Takes over the reference. */
hd_status hd_write_result(const char *path, json_t *object);

#endif
