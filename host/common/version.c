/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/version.h"

#ifndef HD_COMMIT
#define HD_COMMIT "unknown"
#endif

const char hd_version[] = "0.1.0";
const char hd_commit[] = HD_COMMIT;
