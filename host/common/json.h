/* SPDX-License-Identifier: Apache-2.0 */
/* What JSON (by jansson) has no word for. */
#ifndef HD_COMMON_JSON_H
#define HD_COMMON_JSON_H

#include <jansson.h>

/* A number, null where it is not finite. NULL on lack of memory. */
json_t *hd_json_number(double value);

#endif
