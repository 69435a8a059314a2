/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that run the program itself: one folder, one command at a time. Include once per test program. */
#ifndef HD_TESTS_PROGRAM_H
#define HD_TESTS_PROGRAM_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_BYTES 65536

static char folder[256];
static char text[TEXT_BYTES]; /* stdout and stderr of the last command */

/* Runs a shell command with the folder as $D and the program as $H; exit code. */
static int shell(const char *words)
{
	char command[4096];
	const char *build = getenv("BUILD");
	snprintf(command, sizeof command, "D='%s'; H='%s/heimdall'; { %s; } 2>&1", folder, build ? build : "build",
	        words);
	FILE *pipe = popen(command, "r");
	cr_assert_not_null(pipe);
	size_t used = fread(text, 1, sizeof text - 1, pipe);
	text[used] = 0;
	int status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Runs "heimdall ARGUMENTS". */
static int heimdall(const char *arguments)
{
	char command[2048];
	snprintf(command, sizeof command, "\"$H\" %s", arguments);
	return shell(command);
}

static void expect_text(const char *words)
{
	cr_assert_not_null(strstr(text, words), "no '%s' in:\n%s", words, text);
}

static void make_folder(void)
{
	snprintf(folder, sizeof folder, "%s/heimdall-program.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	cr_assert_not_null(mkdtemp(folder));
	/* this user's caches of published weights are none of a test's business */
	setenv("XDG_CACHE_HOME", folder, 1);
	unsetenv("TORCH_HOME");
	unsetenv("HF_HOME");
	unsetenv("HF_HUB_CACHE");
	unsetenv("HUGGINGFACE_HUB_CACHE");
}

static void remove_data(void)
{
	cr_assert_eq(shell("rm -rf \"$D\""), 0);
}

#endif
