/* SPDX-License-Identifier: Apache-2.0 */
/* What JSON (by jansson) has no word for. */
#ifndef HD_COMMON_JSON_H
#define HD_COMMON_JSON_H

#include <jansson.h>

#include "heimdall/status.h"

/* A number, null where it is not finite. NULL on lack of memory. */
json_t *hd_json_number(double value);

/* The text of a key of an object, "" where there is none. It is the object's. */
const char *hd_json_text(const json_t *object, const char *key);

/* Writes a value to a file, indented, whole or not at all, numbers with that many digits (17 give back every bit). */
hd_status hd_json_write(const char *path, const json_t *value, int digits);

#endif
