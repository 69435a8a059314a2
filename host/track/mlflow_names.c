/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/mlflow_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "host/common/memory.h"

#define ELLIPSIS "\xe2\x80\xa6"
#define CRC_ENDING 9 /* "_" and eight digits */

static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./: ";

/* Servers normalise names as paths, and refuse one that would become another. */
static bool is_odd_part(const char *part, size_t length)
{
	return length == 0 || (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.')));
}

bool hd_mlflow_is_name(const char *name)
{
	size_t length = strlen(name);
	if (length > HD_MLFLOW_NAME || strspn(name, legal) != length)
		return false;
	for (const char *part = name;; part++) {
		size_t n = strcspn(part, "/");
		if (is_odd_part(part, n))
			return false;
		part += n;
		if (!*part)
			return true;
	}
}

void hd_mlflow_name(char out[HD_MLFLOW_NAME + 1], const char *name)
{
	size_t length = strlen(name), used = 0;
	if (hd_mlflow_is_name(name)) {
		memcpy(out, name, length + 1);
		return;
	}
	for (size_t i = 0; i < length && used < HD_MLFLOW_NAME - CRC_ENDING; i++) {
		const char *at = name + i, *part = at;
		while (part > name && part[-1] != '/')
			part--;
		bool odd = is_odd_part(part, strcspn(part, "/"));
		out[used++] = *at != '/' && (odd || !strchr(legal, *at)) ? '_' : *at;
	}
	/* slashes that stand at an end or together */
	for (size_t i = 0; i < used; i++)
		if (out[i] == '/' && (i == 0 || out[i - 1] == '/' || i + 1 == used))
			out[i] = '_';
	snprintf(out + used, CRC_ENDING + 1, "_%08lx", (unsigned long)crc32(0, (const Bytef *)name, (uInt)length));
}

/* Bytes of the character at `at`, 0 where it is none (RFC 3629). */
static size_t character_bytes(const unsigned char *at)
{
	static const struct form {
		unsigned char mask, lead;
		unsigned least;
	} forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
	for (size_t n = 1; n <= 4; n++) {
		const struct form *f = &forms[n - 1];
		if ((*at & f->mask) != f->lead)
			continue;
		unsigned code = *at & (unsigned char)~f->mask;
		for (size_t i = 1; i < n; i++) {
			if ((at[i] & 0xc0) != 0x80)
				return 0;
			code = code << 6 | (at[i] & 0x3fU);
		}
		return code >= f->least && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff) ? n : 0;
	}
	return 0;
}

hd_status hd_mlflow_text(char **out, bool *shortened, const char *text, size_t most)
{
	size_t length = strlen(text), count = 0, used = 0, before_last = 0;
	hd_status st = hd_alloc(out, length + sizeof ELLIPSIS, 1);
	if (st != HD_OK)
		return st;
	for (size_t i = 0; i < length && count <= most; count++) {
		size_t n = character_bytes((const unsigned char *)text + i);
		if (count + 1 == most)
			before_last = used;
		if (n)
			memcpy(*out + used, text + i, n);
		else
			(*out)[used] = '?';
		used += n ? n : 1;
		i += n ? n : 1;
	}
	*shortened = count > most;
	if (*shortened) {
		memcpy(*out + before_last, ELLIPSIS, sizeof ELLIPSIS);
		return HD_OK;
	}
	(*out)[used] = 0;
	return HD_OK;
}

static bool is_special(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f || strchr("#%?;:\\", c);
}

hd_status hd_mlflow_path(char **out, const char *path)
{
	hd_status st;
	char *text = NULL;
	bool shortened, changed = false;
	HD_TRY(hd_mlflow_text(&text, &shortened, path, strlen(path)));
	for (char *at = text; *at; at++) {
		bool special = is_special(*at);
		*at = special ? '_' : *at;
		changed = changed || special;
	}
	const char *slash = strrchr(text, '/'), *dot = strrchr(text, '.');
	if (!dot || (slash && dot < slash))
		dot = text + strlen(text);
	if (changed)
		HD_TRY(hd_sprintf(out, "%.*s_%08lx%s", (int)(dot - text), text,
		        (unsigned long)crc32(0, (const Bytef *)path, (uInt)strlen(path)), dot));
	else
		HD_TRY(hd_strdup(out, text));
done:
	free(text);
	return st;
}
