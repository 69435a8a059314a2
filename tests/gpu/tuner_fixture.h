/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the tuners share: the back end, opened with choices kept in a file of a folder of its own. Tests
 * run in processes of their own, so there is one of each.
 */
#ifndef HD_TESTS_GPU_TUNER_FIXTURE_H
#define HD_TESTS_GPU_TUNER_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/plugin.h"

#define TEXT 65536

static char folder[64], file[128], text[TEXT];
static hd_backend *backend;

static void open_backend(void)
{
	cr_assert_eq(hd_cuda_plugin_get()->open(&backend, 0, hd_fail), HD_OK, "%s", hd_error_text());
}

static void close_backend(void)
{
	backend->close(backend);
	backend = NULL;
}

/* within: the file's path in the new folder. */
static void begin_with(const char *within)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%.40s/tuner.XXXXXX", tmp ? tmp : "/tmp");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(file, sizeof file, "%s/%s", folder, within);
	setenv("HEIMDALL_TUNING", file, 1);
	open_backend();
}

/* The file's text, "" where there is none. */
static const char *read_file(void)
{
	FILE *f = fopen(file, "r");
	size_t length = f ? fread(text, 1, sizeof text - 1, f) : 0;
	text[length] = '\0';
	if (f)
		fclose(f);
	return text;
}

static void write_file(const char *content)
{
	FILE *f = fopen(file, "w");
	cr_assert_not_null(f);
	fputs(content, f);
	fclose(f);
}

static int count(const char *in, const char *what)
{
	int found = 0;
	for (const char *at = strstr(in, what); at; at = strstr(at + 1, what))
		found++;
	return found;
}

static const char *take_notes(void)
{
	backend->notes(backend, text, sizeof text);
	return text;
}

#endif
