/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/text.h"

#include <string.h>
#include <strings.h>

#include "host/common/memory.h"

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

hd_status hd_percent_encode(char **out, const char *text, bool keep_slashes)
{
	static const char digits[] = "0123456789ABCDEF";
	hd_status st = hd_alloc(out, 3 * strlen(text) + 1, 1);
	if (st != HD_OK)
		return st;
	char *to = *out;
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		/* isalnum would ask the locale */
		bool plain = (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
		             *c == '-' || *c == '.' || *c == '_' || *c == '~' || (*c == '/' && keep_slashes);
		if (plain) {
			*to++ = (char)*c;
		} else {
			*to++ = '%';
			*to++ = digits[*c >> 4];
			*to++ = digits[*c & 15];
		}
	}
	return HD_OK;
}
