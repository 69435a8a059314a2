/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/backend.h"

size_t hd_dtype_bytes(hd_dtype dtype)
{
	switch (dtype) {
	case HD_F64:
		return 8;
	case HD_F32:
	case HD_I32:
		return 4;
	case HD_F16:
	case HD_BF16:
	case HD_I16:
		return 2;
	case HD_I8:
	case HD_U8:
		return 1;
	}
	return 0;
}
