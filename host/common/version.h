/* SPDX-License-Identifier: Apache-2.0 */
/* Which program this is: kept with every checkpoint and benchmark. */
#ifndef HD_COMMON_VERSION_H
#define HD_COMMON_VERSION_H

extern const char hd_version[]; /* "0.1.0" */
extern const char hd_commit[];  /* git commit, "unknown" outside a checkout */

#endif
