/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/progress.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR_INTERVAL_S 0.1
#define LINE_INTERVAL_S 10.0
#define NOTE_BYTES 96
#define DEFAULT_COLUMNS 80

struct hd_progress {
	char label[48];
	char unit[24];
	char note[NOTE_BYTES];
	int64_t total, done;
	double started_s, shown_s;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool bars_enabled = true;
static bool bar_on_screen;

double hd_now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool on_terminal(void)
{
	return isatty(STDERR_FILENO) == 1;
}

void hd_progress_enable(bool enabled)
{
	bars_enabled = enabled;
}

static void clear_bar(void)
{
	if (bar_on_screen)
		fputs("\r\033[K", stderr);
	bar_on_screen = false;
}

static void print_line(const char *prefix, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void print_line(const char *prefix, const char *format, va_list args)
{
	pthread_mutex_lock(&lock);
	clear_bar();
	fputs(prefix, stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	pthread_mutex_unlock(&lock);
}

void hd_message(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	print_line("", format, args);
	va_end(args);
}

void hd_warn(const char *format, ...)
{
	const char *no_color = getenv("NO_COLOR");
	bool color = on_terminal() && !(no_color && *no_color);
	va_list args;
	va_start(args, format);
	print_line(color ? "\033[33mwarning:\033[0m " : "warning: ", format, args);
	va_end(args);
}

hd_progress *hd_progress_start(const char *label, const char *unit, int64_t total)
{
	hd_progress *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	snprintf(p->label, sizeof p->label, "%s", label);
	snprintf(p->unit, sizeof p->unit, "%s", unit);
	p->total = total;
	p->started_s = p->shown_s = hd_now_s();
	return p;
}

/* "512/1200  183 unit/s  ETA 0:12  note" */
static void describe(char *text, size_t bytes, const hd_progress *p, bool ended)
{
	double elapsed = hd_now_s() - p->started_s;
	double rate = elapsed > 0 ? (double)p->done / elapsed : 0;
	long left = ended || rate <= 0 ? (long)elapsed : (long)((double)(p->total - p->done) / rate + 0.5);
	snprintf(text, bytes, "%lld/%lld  %.*f %s/s  %s %ld:%02ld%s%s", (long long)p->done, (long long)p->total,
	        rate < 10 ? 1 : 0, rate, p->unit, ended ? "in" : "ETA", left / 60, left % 60, p->note[0] ? "  " : "",
	        p->note);
}

static void draw_bar(const hd_progress *p)
{
	char text[192];
	describe(text, sizeof text, p, false);
	struct winsize size;
	int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : DEFAULT_COLUMNS;
	int width = columns - (int)strlen(text) - (int)strlen(p->label) - 6;
	clear_bar();
	fprintf(stderr, "%s ", p->label);
	if (width >= 5) {
		int filled = p->total ? (int)(p->done * width / p->total) : width;
		fputc('[', stderr);
		for (int i = 0; i < width; i++)
			fputc(i < filled ? '#' : ' ', stderr);
		fputs("] ", stderr);
	}
	fprintf(stderr, "%.*s", columns - (int)strlen(p->label) - 2, text);
	fflush(stderr);
	bar_on_screen = true;
}

void hd_progress_update(hd_progress *p, int64_t done, const char *note)
{
	if (!p)
		return;
	pthread_mutex_lock(&lock);
	if (done > p->done)
		p->done = done;
	if (note)
		snprintf(p->note, sizeof p->note, "%s", note);
	bool bar = bars_enabled && on_terminal();
	double now = hd_now_s();
	if (now - p->shown_s >= (bar ? BAR_INTERVAL_S : LINE_INTERVAL_S)) {
		p->shown_s = now;
		if (bar) {
			draw_bar(p);
		} else {
			char text[192];
			describe(text, sizeof text, p, false);
			fprintf(stderr, "%s  %s\n", p->label, text);
		}
	}
	pthread_mutex_unlock(&lock);
}

void hd_progress_end(hd_progress *p)
{
	if (!p)
		return;
	char text[192];
	describe(text, sizeof text, p, true);
	hd_message("%s  %s", p->label, text);
	free(p);
}
