/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

hd_status hd_alloc(void *out_pointer, size_t count, size_t element_bytes)
{
	void *p = calloc(count ? count : 1, element_bytes ? element_bytes : 1);
	memcpy(out_pointer, &p, sizeof p);
	if (!p)
		return hd_fail(HD_E_MEMORY, "out of host memory: %zu elements of %zu bytes", count, element_bytes);
	/* p is handed out through the memcpy */
	/* cppcheck-suppress memleak */
	return HD_OK;
}

hd_status hd_grow(void *array_pointer, size_t *capacity, size_t needed, size_t element_bytes)
{
	if (needed <= *capacity)
		return HD_OK;
	size_t grown = *capacity < 16 ? 16 : *capacity;
	while (grown < needed && grown <= SIZE_MAX / 2)
		grown *= 2;
	void *p;
	memcpy(&p, array_pointer, sizeof p);
	void *q = grown >= needed ? reallocarray(p, grown, element_bytes) : NULL;
	if (!q)
		return hd_fail(HD_E_MEMORY, "out of host memory: %zu elements of %zu bytes", needed, element_bytes);
	memset((char *)q + *capacity * element_bytes, 0, (grown - *capacity) * element_bytes);
	memcpy(array_pointer, &q, sizeof q);
	*capacity = grown;
	return HD_OK;
}

hd_status hd_strdup(char **out, const char *text)
{
	*out = text ? strdup(text) : NULL;
	return text && !*out ? hd_fail(HD_E_MEMORY, "out of host memory") : HD_OK;
}

hd_status hd_set_text(char **text, const char *value)
{
	char *copy;
	hd_status st = hd_strdup(&copy, value);
	if (st != HD_OK)
		return st;
	free(*text);
	*text = copy;
	return HD_OK;
}

hd_status hd_sprintf(char **out, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int used = vasprintf(out, format, args);
	va_end(args);
	if (used < 0) {
		*out = NULL;
		return hd_fail(HD_E_MEMORY, "out of host memory");
	}
	return HD_OK;
}
