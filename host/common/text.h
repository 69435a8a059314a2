/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about texts. Pure functions. */
#ifndef HD_COMMON_TEXT_H
#define HD_COMMON_TEXT_H

#include <stdbool.h>

/* Letters of either case count as the same. */
bool hd_ends_with(const char *text, const char *ending);

/* What follows "scheme://", NULL where a text begins with no scheme (RFC 3986, section 3.1). */
const char *hd_behind_scheme(const char *text);

#endif
