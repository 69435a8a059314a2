/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/json.h"

#include <math.h>

json_t *hd_json_number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}
