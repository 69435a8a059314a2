/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/text.h"

#include <string.h>
#include <strings.h>

#define SCHEME "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"

bool hd_ends_with(const char *text, const char *ending)
{
	size_t n = strlen(text), m = strlen(ending);
	return n >= m && !strcasecmp(text + n - m, ending);
}

const char *hd_behind_scheme(const char *text)
{
	size_t letters = strspn(text, SCHEME);
	return letters && !strncmp(text + letters, "://", 3) ? text + letters + 3 : NULL;
}
