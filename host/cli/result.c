/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cli/result.h"

#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"

hd_status hd_write_result(const char *path, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) : NULL;
	hd_status st = text ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the result");
	if (text && path[0]) {
		const hd_span spans[] = {{text, strlen(text)}, {"\n", 1}};
		st = hd_file_write(path, spans, 2, 0);
	}
	free(text);
	json_decref(object);
	return st;
}
