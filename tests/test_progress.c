/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on a pipe and on a pseudo-terminal: what is written, how often and how wide. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "host/common/progress.h"

#define COLUMNS 60
#define OUTPUT_BYTES 65536
#define CLEAR "\r\033[K"

static char output[OUTPUT_BYTES];
static int saved_stderr, reader;

static void capture(int written_end, int read_end)
{
	fflush(stderr);
	saved_stderr = dup(STDERR_FILENO);
	reader = read_end;
	cr_assert(saved_stderr >= 0 && dup2(written_end, STDERR_FILENO) >= 0);
	close(written_end);
	fcntl(reader, F_SETFL, fcntl(reader, F_GETFL) | O_NONBLOCK);
}

static void capture_pipe(void)
{
	int ends[2];
	cr_assert_eq(pipe(ends), 0);
	capture(ends[1], ends[0]);
}

static void capture_terminal(void)
{
	int master, slave;
	struct termios raw;
	struct winsize size = {.ws_row = 24, .ws_col = COLUMNS};
	cr_assert_eq(openpty(&master, &slave, NULL, NULL, &size), 0);
	cr_assert_eq(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	cr_assert_eq(tcsetattr(slave, TCSANOW, &raw), 0);
	capture(slave, master);
}

/* Appends what has been written so far, and returns the bytes in all. */
static size_t drain(void)
{
	size_t used = strlen(output);
	fflush(stderr);
	ssize_t got;
	while (used + 1 < sizeof output && (got = read(reader, output + used, sizeof output - 1 - used)) > 0)
		used += (size_t)got;
	output[used] = '\0';
	return used;
}

static void release(void)
{
	drain();
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(reader);
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define SHORT_NOTE "loss 1"
#define LONG_NOTE "a note that is longer than the line of a small terminal has room for"

/* 1200 updates over a little more than `seconds`; returns the seconds that really passed. */
static double run_bar(const char *label, const char *note, double seconds, bool with_message)
{
	double start = now_s();
	hd_progress *p = hd_progress_start(label, "window", 1200);
	for (int64_t i = 1; i <= 1200; i++) {
		hd_progress_update(p, i, i % 2 ? note : NULL);
		if (with_message && i == 1000)
			hd_message("epoch %d done", 3);
		if (i % 100 == 0) {
			struct timespec pause = {0, (long)(seconds / 12 * 1e9)};
			nanosleep(&pause, NULL);
			drain();
		}
	}
	hd_progress_end(p);
	return now_s() - start;
}

static int count_of(const char *text)
{
	int count = 0;
	for (const char *p = output; (p = strstr(p, text)); p += strlen(text))
		count++;
	return count;
}

Test(progress, plain_lines_where_there_is_no_terminal)
{
	capture_pipe();
	run_bar("epoch 1", LONG_NOTE, 0.3, true);
	hd_warn("disk %s", "full");
	release();
	cr_expect_eq(count_of("\n"), 3, "want the message, a closing line and the warning, got '%s'", output);
	cr_expect_eq(strncmp(output, "epoch 3 done\n", 13), 0, "got '%s'", output);
	cr_expect(strstr(output, "\nepoch 1"), "no label in '%s'", output);
	cr_expect(strstr(output, "1200/1200"), "no count in '%s'", output);
	cr_expect(strstr(output, "window/s"), "no rate in '%s'", output);
	cr_expect(strstr(output, "warning: disk full\n"), "got '%s'", output);
	cr_expect_eq(count_of("\033"), 0, "escapes in '%s'", output);
	cr_expect_eq(count_of("\r"), 0, "carriage returns in '%s'", output);
}

Test(progress, bar_on_a_terminal)
{
	capture_terminal();
	double elapsed = run_bar("train", SHORT_NOTE, 0.5, true);
	release();
	int draws = count_of("[#") + count_of("[ ");
	cr_expect(draws >= 2, "%d bars in '%s'", draws, output);
	cr_expect(draws <= (int)(elapsed / 0.1) + 1, "%d bars in %.2f s", draws, elapsed);
	cr_expect(strstr(output, "ETA "), "no ETA in '%s'", output);
	cr_expect(strstr(output, CLEAR "epoch 3 done\n"), "the bar was not cleared before the message: '%s'", output);
	cr_expect(strstr(output, "1200/1200"), "no closing line in '%s'", output);
	cr_expect_eq(output[strlen(output) - 1], '\n');
}

Test(progress, bar_fits_the_terminal)
{
	capture_terminal();
	run_bar("a label that takes much of it", LONG_NOTE, 0.4, false);
	release();
	/* The closing line may be longer: it stays on the screen and is wrapped by the terminal. */
	for (char *p = output; *p && (p = strstr(p, "\r")) != NULL;) {
		p++;
		size_t length = strcspn(p, "\r\n");
		bool closing = p[length] == '\n';
		size_t escape = strncmp(p, "\033[K", 3) == 0 ? 3 : 0;
		cr_expect(closing || length - escape < COLUMNS, "%zu columns: '%.*s'", length - escape, (int)length, p);
	}
	size_t first = strcspn(output, "\r\n");
	cr_expect(first < COLUMNS, "%zu columns: '%.*s'", first, (int)first, output);
	cr_expect_gt(first, 0);
}

Test(progress, no_bar_when_switched_off)
{
	capture_terminal();
	hd_progress_enable(false);
	run_bar("train", SHORT_NOTE, 0.3, false);
	release();
	cr_expect_eq(count_of("[#") + count_of("[ "), 0, "a bar in '%s'", output);
	cr_expect_eq(count_of("\n"), 1, "want the closing line, got '%s'", output);
}

Test(progress, warnings_are_yellow_unless_no_color)
{
	unsetenv("NO_COLOR");
	capture_terminal();
	hd_warn("first");
	setenv("NO_COLOR", "1", 1);
	hd_warn("second");
	release();
	cr_expect(strstr(output, "\033[33m"), "no colour in '%s'", output);
	cr_expect(strstr(output, "warning: second\n"), "got '%s'", output);
	cr_expect_eq(count_of("\033[33m"), 1, "got '%s'", output);
}

Test(progress, nothing_started_is_fine)
{
	capture_pipe();
	hd_progress_update(NULL, 1, NULL);
	hd_progress_end(NULL);
	hd_progress *p = hd_progress_start("empty", "file", 0);
	hd_progress_update(p, 0, NULL);
	hd_progress_end(p);
	release();
	cr_expect(strstr(output, "empty"), "got '%s'", output);
	cr_expect_not(strstr(output, "nan") || strstr(output, "inf"), "got '%s'", output);
}
