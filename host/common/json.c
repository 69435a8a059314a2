/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"

json_t *hd_json_number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

const char *hd_json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

hd_status hd_json_write(const char *path, const json_t *value, int digits)
{
	char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(digits) | JSON_ENCODE_ANY);
	if (!text)
		return hd_fail(HD_E_MEMORY, "out of host memory for %s", path);
	const hd_span spans[] = {{text, strlen(text)}, {"\n", 1}};
	hd_status st = hd_file_write(path, spans, 2, 0);
	free(text);
	return st;
}
