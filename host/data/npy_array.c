/* SPDX-License-Identifier: Apache-2.0 */
/* Source: NumPy Enhancement Proposal 1. */
#include "host/data/npy_array.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define HEADER_MAX_BYTES 4096

/* The text behind 'key': in the header's dictionary, NULL where it is not there. */
static const char *value_of(const char *header, const char *key)
{
	const char *at = strstr(header, key);
	if (!at || at == header || (at[-1] != '\'' && at[-1] != '"') || at[strlen(key)] != at[-1])
		return NULL;
	at += strlen(key) + 1;
	at += strspn(at, " ");
	if (*at++ != ':')
		return NULL;
	return at + strspn(at, " ");
}

/* Product of a shape such as "(2,)"; false where it is no tuple of sizes. "()" is one number. */
static bool count_elements(const char *shape, size_t *elements)
{
	*elements = 1;
	if (*shape++ != '(')
		return false;
	while (*shape != ')') {
		char *end;
		shape += strspn(shape, " ");
		if (!isdigit((unsigned char)*shape))
			return false;
		size_t size = strtoull(shape, &end, 10);
		if (__builtin_mul_overflow(*elements, size, elements))
			return false;
		shape = end + strspn(end, " ");
		if (*shape == ',')
			shape += 1 + strspn(shape + 1, " ");
		else if (*shape != ')')
			return false;
	}
	return true;
}

static double take_number(const unsigned char *from, size_t width, bool big_endian)
{
	uint64_t bits = 0;
	for (size_t b = 0; b < width; b++)
		bits |= (uint64_t)from[big_endian ? width - 1 - b : b] << 8 * b;
	if (width == sizeof(double)) {
		double value;
		memcpy(&value, &bits, sizeof value);
		return value;
	}
	float value;
	uint32_t low = (uint32_t)bits;
	memcpy(&value, &low, sizeof value);
	return (double)value;
}

static hd_status parse_file(double *out, size_t count, const unsigned char *file, size_t bytes)
{
	char header[HEADER_MAX_BYTES + 1];
	size_t elements;
	if (bytes < MAGIC_BYTES + 6 || memcmp(file, MAGIC, MAGIC_BYTES) != 0)
		return hd_fail(HD_E_DATA, "is no .npy file");
	int version = file[MAGIC_BYTES];
	size_t start = version == 1 ? MAGIC_BYTES + 4 : MAGIC_BYTES + 6;
	size_t length = file[MAGIC_BYTES + 2] | (size_t)file[MAGIC_BYTES + 3] << 8;
	if (version > 1)
		length |= (size_t)file[MAGIC_BYTES + 4] << 16 | (size_t)file[MAGIC_BYTES + 5] << 24;
	if (version < 1 || version > 3 || length > HEADER_MAX_BYTES || length > bytes - start)
		return hd_fail(
		        HD_E_DATA, "header of version %d with %zu bytes is none; save it again", version, length);
	memcpy(header, file + start, length);
	header[length] = 0;
	const char *descr = value_of(header, "descr"), *shape = value_of(header, "shape");
	if (!descr || !shape || !count_elements(shape, &elements))
		return hd_fail(HD_E_DATA, "header lacks descr or shape");
	bool quoted = *descr == '\'' || *descr == '"', big_endian = quoted && descr[1] == '>';
	bool single = quoted && !strncmp(descr + 2, "f4", 2), real = quoted && !strncmp(descr + 2, "f8", 2);
	if ((!single && !real) || !strchr("<>=|", descr[1]) || descr[4] != *descr)
		return hd_fail(HD_E_DATA, "dtype %.16s is not float32 or float64", descr);
	size_t width = single ? sizeof(float) : sizeof(double), data_bytes = bytes - start - length;
	if (elements != count || data_bytes != count * width)
		return hd_fail(HD_E_DATA, "%zu elements in %zu bytes of data; %zu numbers are wanted", elements,
		        data_bytes, count);
	for (size_t i = 0; i < count; i++)
		out[i] = take_number(file + start + length + i * width, width, big_endian);
	return HD_OK;
}

hd_status hd_npy_read_numbers(double *out, size_t count, const char *path)
{
	const void *file;
	size_t bytes;
	hd_status st = hd_file_map(&file, &bytes, path);
	if (st != HD_OK)
		return st;
	st = parse_file(out, count, file, bytes);
	hd_file_unmap(file, bytes);
	return st == HD_OK ? st : hd_context(st, "%s", path);
}
