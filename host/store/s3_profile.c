/* SPDX-License-Identifier: Apache-2.0 */
#include "host/store/s3_profile.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"

void hd_free_secret(char *text)
{
	if (text)
		OPENSSL_cleanse(text, strlen(text));
	free(text);
}

void hd_ini_free(hd_ini *ini)
{
	for (size_t i = 0; i < ini->count; i++) {
		free(ini->entries[i].section);
		free(ini->entries[i].key);
		hd_free_secret(ini->entries[i].value);
	}
	free(ini->entries);
	free(ini->path);
	*ini = (hd_ini){0};
}

bool hd_ini_has(const hd_ini *ini, const char *section)
{
	for (size_t i = 0; i < ini->count; i++) {
		if (!strcmp(ini->entries[i].section, section))
			return true;
	}
	return false;
}

const char *hd_ini_get(const hd_ini *ini, const char *section, const char *key)
{
	const char *value = NULL; /* the last one counts */
	for (size_t i = 0; i < ini->count; i++) {
		if (!strcmp(ini->entries[i].section, section) && !strcmp(ini->entries[i].key, key))
			value = ini->entries[i].value;
	}
	return value && *value ? value : NULL;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static char *trimmed(char *text)
{
	while (is_blank(*text))
		text++;
	char *end = text + strlen(text);
	while (end > text && is_blank(end[-1]))
		*--end = 0;
	return text;
}

static hd_status add(hd_ini *ini, const char *section, const char *parent, const char *key, const char *value)
{
	hd_status st;
	hd_ini_entry entry = {0};
	HD_TRY(hd_grow(&ini->entries, &ini->capacity, ini->count + 1, sizeof entry));
	HD_TRY(hd_strdup(&entry.section, section));
	HD_TRY(hd_sprintf(&entry.key, "%s%s%s", parent, *parent ? "." : "", key));
	HD_TRY(hd_strdup(&entry.value, value));
	ini->entries[ini->count++] = entry;
	entry = (hd_ini_entry){0};
done:
	free(entry.section);
	free(entry.key);
	hd_free_secret(entry.value);
	return st;
}

/* "[profile  "x y"]" gives "profile x y". The text between brackets is changed in place. */
static char *section_name(char *text)
{
	char *to = text = trimmed(text);
	for (const char *c = text; *c; c++) {
		if (*c == '"' || *c == '\'' || (is_blank(*c) && to != text && to[-1] == ' '))
			continue;
		*to++ = is_blank(*c) ? ' ' : *c;
	}
	*to = 0;
	return text;
}

typedef struct place {
	char section[256];
	char parent[64]; /* the key whose indented lines follow */
	int line;
} place;

static hd_status read_section(hd_ini *ini, place *at, char *text)
{
	char *end = strchr(text, ']');
	if (!end)
		return hd_fail(HD_E_DATA, "%s:%d: a section's name has no ']'", ini->path, at->line);
	*end = 0;
	snprintf(at->section, sizeof at->section, "%s", section_name(text + 1));
	at->parent[0] = 0;
	return add(ini, at->section, "", "", "");
}

/* A line is never shown in an error: it may be the one with the secret. */
static hd_status read_line(hd_ini *ini, place *at, char *line)
{
	bool indented = line[0] == ' ' || line[0] == '\t';
	char *text = trimmed(line);
	if (*text == 0 || *text == '#' || *text == ';')
		return HD_OK;
	if (*text == '[')
		return read_section(ini, at, text);
	char *equal = strchr(text, '=');
	if (!equal && indented)
		return HD_OK; /* the rest of a value over several lines; none that is used here has one */
	if (!equal || !at->section[0])
		return hd_fail(HD_E_DATA, "%s:%d: %s", ini->path, at->line,
		        equal ? "a setting stands before the first [section]" : "neither [section] nor key = value");
	*equal = 0;
	const char *key = trimmed(text), *value = trimmed(equal + 1);
	if (!indented)
		snprintf(at->parent, sizeof at->parent, "%s", *value ? "" : key);
	return add(ini, at->section, indented ? at->parent : "", key, value);
}

hd_status hd_ini_read(hd_ini *out, const char *path)
{
	hd_status st;
	char *line = NULL;
	size_t capacity = 0;
	FILE *file = NULL;
	place at = {0};
	*out = (hd_ini){0};
	HD_TRY(hd_strdup(&out->path, path));
	file = fopen(path, "re");
	if (!file) {
		if (errno != ENOENT && errno != ENOTDIR)
			st = hd_fail(HD_E_IO, "%s: cannot open: %s", path, strerror(errno));
		goto done;
	}
	out->exists = true;
	while (getline(&line, &capacity, file) >= 0) {
		at.line++;
		HD_TRY(read_line(out, &at, line));
	}
	if (ferror(file))
		st = hd_fail(HD_E_IO, "%s: cannot read: %s", path, strerror(errno));
done:
	if (line)
		OPENSSL_cleanse(line, capacity);
	free(line);
	if (file)
		fclose(file);
	if (st != HD_OK)
		hd_ini_free(out);
	return st;
}
