/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about texts, and ways to write them. Pure functions. */
#ifndef HD_COMMON_TEXT_H
#define HD_COMMON_TEXT_H

#include <stdbool.h>

#include "heimdall/status.h"

/* Letters of either case count as the same. */
bool hd_ends_with(const char *text, const char *ending);

/* What follows "scheme://", NULL where a text begins with no scheme (RFC 3986, section 3.1). */
const char *hd_behind_scheme(const char *text);

/*
 * New text in which every byte but RFC 3986's unreserved ones (section 2.3), and '/' where slashes are kept, is %XX.
 */
hd_status hd_percent_encode(char **out, const char *text, bool keep_slashes);

#endif
