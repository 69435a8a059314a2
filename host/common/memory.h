/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host memory: allocations that fail with a status, strings and growing arrays.
 * Everything is freed with free(). Thread-safe.
 */
#ifndef HD_COMMON_MEMORY_H
#define HD_COMMON_MEMORY_H

#include <stddef.h>

#include "heimdall/status.h"

/* Zeroed memory for count elements; an overflowing product is HD_E_MEMORY. count 0 gives a valid pointer. */
hd_status hd_alloc(void *out_pointer, size_t count, size_t element_bytes);

/*
 * Grows *array_pointer (elements of element_bytes) so that it holds at least `needed` elements, doubling
 * *capacity; new elements are zeroed.
 */
hd_status hd_grow(void *array_pointer, size_t *capacity, size_t needed, size_t element_bytes);

/* Copies a string; NULL gives NULL. */
hd_status hd_strdup(char **out, const char *text);

/* A copy of `value` in place of what *text owns, which stays on failure. */
hd_status hd_set_text(char **text, const char *value);

/* printf into a new string. */
hd_status hd_sprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
