/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/redact.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/memory.h"
#include "host/common/text.h"

bool hd_is_database_url(const char *text)
{
	return !strncmp(text, "postgresql://", strlen("postgresql://")) ||
	       !strncmp(text, "postgres://", strlen("postgres://"));
}

/*
 * The '@' behind user and password, NULL where there are none. Of a database's URL it is the last one: what stands
 * before it may be a password with characters that should have been escaped. One behind a '?' ends a password only
 * where what follows the first ':' is no port.
 */
static const char *end_of_user(const char *at, bool database)
{
	size_t plain = strcspn(at, database ? "?#" : "/?#");
	const char *last = memrchr(at, '@', plain), *colon = memchr(at, ':', plain);
	if (last || !database || !colon)
		return last;
	size_t digits = strspn(colon + 1, "0123456789,");
	return strchr("/?#", colon[1 + digits]) ? NULL : strrchr(at, '@');
}

static bool is_secret(const char *parameter, size_t length)
{
	static const char *const names[] = {"password=", "sslpassword="};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (length >= strlen(names[i]) && !strncasecmp(parameter, names[i], strlen(names[i])))
			return true;
	return false;
}

/* "?a=1&b=2" without the secret ones; a fragment goes with the last parameter. */
static void copy_parameters(char *to, const char *from)
{
	char before = '?';
	for (from++;;) {
		size_t length = strcspn(from, "&");
		if (length && !is_secret(from, length)) {
			*to++ = before;
			memcpy(to, from, length);
			to += length;
			before = '&';
		}
		from += length;
		if (!*from)
			break;
		from++;
	}
	*to = 0;
}

hd_status hd_redact(char **out, const char *text)
{
	const char *at = hd_behind_scheme(text);
	hd_status st = hd_strdup(out, text);
	if (st != HD_OK || !at)
		return st;
	char *to = *out + (at - text);
	const char *end = end_of_user(at, hd_is_database_url(text));
	if (end) {
		const char *colon = memchr(at, ':', (size_t)(end - at));
		to += (colon ? colon : end) - at;
		at = end;
	}
	size_t plain = strcspn(at, "?");
	memmove(to, at, plain);
	to += plain;
	*to = 0;
	if (at[plain])
		copy_parameters(to, at + plain);
	return HD_OK;
}

bool hd_has_password(const char *text)
{
	char *bare;
	bool has = hd_redact(&bare, text) == HD_OK && strcmp(bare, text) != 0;
	free(bare);
	return has;
}

bool hd_password_is_unescaped(const char *text)
{
	const char *at = hd_behind_scheme(text), *end = at ? end_of_user(at, hd_is_database_url(text)) : NULL;
	const char *colon = end ? memchr(at, ':', (size_t)(end - at)) : NULL;
	return colon && strcspn(colon + 1, "/?#@[] ") < (size_t)(end - colon - 1);
}
