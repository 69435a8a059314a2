/* SPDX-License-Identifier: Apache-2.0 */
/* A temporary folder of a test's own: .init = start, .fini = stop. Include once per test program. */
#ifndef HD_TESTS_FOLDER_H
#define HD_TESTS_FOLDER_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char folder[256];

static void start(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-test-XXXXXX", base && *base ? base : "/tmp");
	cr_assert_not_null(mkdtemp(folder));
}

static void stop(void)
{
	char command[320];
	snprintf(command, sizeof command, "rm -r '%s'", folder);
	cr_assert_eq(system(command), 0);
}

static const char *file_in(const char *name)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

#endif
