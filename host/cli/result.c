/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cli/result.h"

#include "host/common/json.h"

hd_status hd_write_result(const char *path, json_t *object)
{
	hd_status st = object ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the result");
	if (object && path[0])
		st = hd_json_write(path, object, 12);
	json_decref(object);
	return st;
}
