/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of published models, "v1.2.0": major.minor.patch in decimal. Pure functions. */
#ifndef HD_PUBLISH_VERSION_H
#define HD_PUBLISH_VERSION_H

#include <stdbool.h>
#include <stddef.h>

#define HD_VERSION_BYTES 36

typedef struct hd_publish_version {
	int major, minor, patch; /* 0 .. 999999999 */
} hd_publish_version;

/* Which number a change raises. */
typedef enum hd_bump { HD_BUMP_PATCH, HD_BUMP_MINOR, HD_BUMP_MAJOR } hd_bump;

/* The version that a text of `length` bytes is: "v", three numbers without leading zeroes, and nothing else. */
bool hd_publish_version_parse(hd_publish_version *out, const char *text, size_t length);
/* The same of the last part of a URL; false for NULL. */
bool hd_publish_version_of_url(hd_publish_version *out, const char *url);
/* text (HD_VERSION_BYTES); returned. */
const char *hd_publish_version_text(char *text, hd_publish_version version);
/* Below, at or above 0 as a comes before b, is it, or comes after it. */
int hd_publish_version_compare(hd_publish_version a, hd_publish_version b);
hd_publish_version hd_publish_version_next(hd_publish_version from, hd_bump bump);

#endif
