/* SPDX-License-Identifier: Apache-2.0 */
/* The settings as rows, for the readers of settings.c and settings_yaml.c. */
#ifndef HD_COMMON_SETTINGS_TABLE_H
#define HD_COMMON_SETTINGS_TABLE_H

#include <stddef.h>

#include "heimdall/settings.h"

typedef enum hd_setting_kind { HD_KIND_INT, HD_KIND_FLOAT, HD_KIND_BOOL, HD_KIND_TEXT, HD_KIND_CHOICE } hd_setting_kind;

typedef struct hd_setting {
	const char *group;
	const char *key;
	hd_setting_kind kind;
	size_t offset; /* into hd_settings */
	double low, high;
	const char *choices; /* "a|b|c" for CHOICE, else NULL */
	const char *unit;
	const char *commands;
	const char *help;
} hd_setting;

extern const hd_setting hd_setting_table[HD_SETTING_COUNT];

/* Row of a name written with '-' or '_' or as an alias; -1 where there is none. */
int hd_setting_find(const char *name);

/*
 * A value as it may be kept and shown: a number in the fewest digits that read back to it, a URL without its password,
 * a key to somebody's data as "". New text.
 */
hd_status hd_setting_text(char **out, const hd_settings *settings, const hd_setting *row);

/* Whether it says what a call does, and not what is trained: no parameter of a run, and not taken over on resuming. */
bool hd_setting_is_of_call(const hd_setting *row);

/* The name nearest to a mistyped one, NULL where none is near (Damerau-Levenshtein within a third of its length + 1).
 */
const char *hd_nearest_name(const char *name, const char *const *names, size_t count);

#endif
