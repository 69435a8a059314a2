/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/first_error.h"

#include <stdio.h>

void hd_first_error_note(hd_first_error *error, hd_status status)
{
	if (status == HD_OK)
		return;
#pragma omp critical(hd_first_error)
	if (error->status == HD_OK) {
		error->status = status;
		snprintf(error->text, sizeof error->text, "%s", hd_error_text());
	}
}

hd_status hd_first_error_take(const hd_first_error *error)
{
	return error->status == HD_OK ? HD_OK : hd_fail(error->status, "%s", error->text);
}
