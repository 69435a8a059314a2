/* SPDX-License-Identifier: Apache-2.0 */
#include "host/publish/version.h"

#include <stdio.h>
#include <string.h>

#define DIGITS_MAX 9

/* A number without leading zeroes from *at on, which moves behind it; -1 where there is none. */
static int number(const char **at, const char *end)
{
	const char *from = *at;
	int value = 0;
	while (*at < end && **at >= '0' && **at <= '9' && *at - from < DIGITS_MAX)
		value = 10 * value + (*(*at)++ - '0');
	bool sound = *at > from && (*from != '0' || *at == from + 1);
	return sound ? value : -1;
}

bool hd_publish_version_parse(hd_publish_version *out, const char *text, size_t length)
{
	const char *at = text + 1, *end = text + length;
	int numbers[3] = {-1, -1, -1};
	if (length < 2 || text[0] != 'v')
		return false;
	for (int i = 0; i < 3; i++) {
		numbers[i] = number(&at, end);
		bool dot = at < end && *at == '.';
		if (numbers[i] < 0 || (i < 2 && !dot))
			return false;
		at += i < 2;
	}
	*out = (hd_publish_version){numbers[0], numbers[1], numbers[2]};
	return at == end;
}

bool hd_publish_version_of_url(hd_publish_version *out, const char *url)
{
	const char *slash = url ? strrchr(url, '/') : NULL;
	return slash && hd_publish_version_parse(out, slash + 1, strlen(slash + 1));
}

const char *hd_publish_version_text(char *text, hd_publish_version v)
{
	snprintf(text, HD_VERSION_BYTES, "v%d.%d.%d", v.major, v.minor, v.patch);
	return text;
}

static int order(int a, int b)
{
	return (a > b) - (a < b);
}

int hd_publish_version_compare(hd_publish_version a, hd_publish_version b)
{
	int by_major = order(a.major, b.major), by_minor = order(a.minor, b.minor);
	return by_major ? by_major : by_minor ? by_minor : order(a.patch, b.patch);
}

hd_publish_version hd_publish_version_next(hd_publish_version from, hd_bump bump)
{
	if (bump == HD_BUMP_MAJOR)
		return (hd_publish_version){from.major + 1, 0, 0};
	if (bump == HD_BUMP_MINOR)
		return (hd_publish_version){from.major, from.minor + 1, 0};
	return (hd_publish_version){from.major, from.minor, from.patch + 1};
}
