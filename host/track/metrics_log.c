/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/metrics_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "host/common/memory.h"

/* Of a line of HD_METRICS_PER_LINE metrics with the longest names and numbers. */
#define LINE_BYTES (64 + HD_METRICS_PER_LINE * (HD_METRIC_NAME + 32))
#define READ_BYTES (2 * LINE_BYTES)
#define CRC_DIGITS 8

struct hd_metrics_log {
	int fd;
	char *path;
	char line[LINE_BYTES + 2];
};

/* ---- writing ---- */

/* What cannot end a name or a line. */
static bool is_name(const char *name)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:");
	return length > 0 && length <= HD_METRIC_NAME && !name[length];
}

/* A line that a crash cut off must not take the next one with it. */
static hd_status end_last_line(const hd_metrics_log *log)
{
	char last;
	off_t bytes = lseek(log->fd, 0, SEEK_END);
	if (bytes < 0)
		return hd_fail(HD_E_IO, "%s: %s", log->path, strerror(errno));
	if (bytes == 0 || (pread(log->fd, &last, 1, bytes - 1) == 1 && last == '\n'))
		return HD_OK;
	return write(log->fd, "\n", 1) == 1 ? HD_OK : hd_fail(HD_E_IO, "%s: %s", log->path, strerror(errno));
}

hd_status hd_metrics_log_open(hd_metrics_log **out, const char *path)
{
	hd_status st;
	hd_metrics_log *log = NULL;
	HD_TRY(hd_alloc(&log, 1, sizeof *log));
	log->fd = -1;
	HD_TRY(hd_strdup(&log->path, path));
	log->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (log->fd < 0) {
		st = hd_fail(HD_E_IO, "%s: %s", path, strerror(errno));
		goto done;
	}
	HD_TRY(end_last_line(log));
	*out = log;
	log = NULL;
done:
	hd_metrics_log_close(log);
	return st;
}

void hd_metrics_log_close(hd_metrics_log *log)
{
	if (!log)
		return;
	if (log->fd >= 0)
		close(log->fd);
	free(log->path);
	free(log);
}

hd_status hd_metrics_log_append(hd_metrics_log *log, const hd_metrics_line *line)
{
	char *text = log->line;
	if (line->count > HD_METRICS_PER_LINE)
		return hd_fail(HD_E_USAGE, "%s: %zu metrics in one line; %d at most", log->path, line->count,
		        HD_METRICS_PER_LINE);
	int used =
	        snprintf(text, LINE_BYTES, "%" PRId64 " %" PRId64 " %" PRId64, line->time_ms, line->step, line->epoch);
	for (size_t i = 0; i < line->count; i++) {
		const hd_metric *m = &line->metrics[i];
		if (!is_name(m->name))
			return hd_fail(HD_E_USAGE,
			        "metric '%.260s': a name is 1 to %d letters, digits and _ - . / :", m->name,
			        HD_METRIC_NAME);
		/* printf may put a sign in front of a NaN */
		used += isnan(m->value)
		                ? snprintf(text + used, (size_t)(LINE_BYTES - used), " %s=nan", m->name)
		                : snprintf(text + used, (size_t)(LINE_BYTES - used), " %s=%.17g", m->name, m->value);
	}
	uLong crc = crc32(0, (const Bytef *)text, (uInt)used);
	used += snprintf(text + used, sizeof log->line - (size_t)used, " %08lx\n", (unsigned long)crc);
	ssize_t put = write(log->fd, text, (size_t)used);
	if (put != used)
		return hd_fail(HD_E_IO, "%s: %s", log->path, put < 0 ? strerror(errno) : "the disk is full");
	return HD_OK;
}

/* ---- reading ---- */

struct hd_metrics_reader {
	int fd; /* -1: not there yet */
	char *path;
	int64_t offset; /* of text[0] in the file */
	size_t begin, used;
	int64_t bad;
	bool passing; /* in the middle of a line that is longer than any of ours */
	char text[READ_BYTES + 1];
};

hd_status hd_metrics_reader_open(hd_metrics_reader **out, const char *path, int64_t offset)
{
	hd_status st;
	hd_metrics_reader *reader = NULL;
	HD_TRY(hd_alloc(&reader, 1, sizeof *reader));
	reader->fd = -1;
	reader->offset = offset;
	HD_TRY(hd_strdup(&reader->path, path));
	*out = reader;
	reader = NULL;
done:
	hd_metrics_reader_close(reader);
	return st;
}

void hd_metrics_reader_close(hd_metrics_reader *reader)
{
	if (!reader)
		return;
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader->path);
	free(reader);
}

int64_t hd_metrics_reader_offset(const hd_metrics_reader *reader)
{
	return reader->offset + (int64_t)reader->begin;
}

int64_t hd_metrics_reader_bad(const hd_metrics_reader *reader)
{
	return reader->bad;
}

/* More of the file behind what is there; *got: whether there was any. */
static hd_status read_more(hd_metrics_reader *r, bool *got)
{
	*got = false;
	if (r->fd < 0)
		r->fd = open(r->path, O_RDONLY | O_CLOEXEC);
	if (r->fd < 0)
		return errno == ENOENT ? HD_OK : hd_fail(HD_E_IO, "%s: %s", r->path, strerror(errno));
	memmove(r->text, r->text + r->begin, r->used - r->begin);
	r->offset += (int64_t)r->begin;
	r->used -= r->begin;
	r->begin = 0;
	ssize_t count = pread(r->fd, r->text + r->used, READ_BYTES - r->used, (off_t)(r->offset + (int64_t)r->used));
	if (count < 0)
		return hd_fail(HD_E_IO, "%s: %s", r->path, strerror(errno));
	r->used += (size_t)count;
	*got = count > 0;
	return HD_OK;
}

/* Reads the integer at *at and the blank behind it. */
static bool read_integer(int64_t *out, char **at)
{
	char *end;
	errno = 0;
	*out = strtoll(*at, &end, 10);
	if (end == *at || errno || *end != ' ')
		return false;
	*at = end + 1;
	return true;
}

/* "name=value", which a blank or the end of the text follows. */
static bool read_metric(hd_metric *out, char **at)
{
	char *equals = strchr(*at, '='), *end;
	if (!equals)
		return false;
	*equals = 0;
	out->name = *at;
	out->value = strtod(equals + 1, &end);
	if (!is_name(out->name) || end == equals + 1 || (*end && *end != ' '))
		return false;
	*at = *end ? end + 1 : end;
	return true;
}

/* Takes a line without its end apart, in place. */
static bool parse(hd_metrics_line *out, char *line)
{
	char *crc = strrchr(line, ' '), *end;
	if (!crc || strlen(crc + 1) != CRC_DIGITS)
		return false;
	unsigned long wanted = strtoul(crc + 1, &end, 16);
	if (*end || crc32(0, (const Bytef *)line, (uInt)(crc - line)) != wanted)
		return false;
	/* the epoch may be the last number: a blank ends it all the same */
	crc[1] = 0;
	*out = (hd_metrics_line){0};
	if (!read_integer(&out->time_ms, &line) || !read_integer(&out->step, &line) ||
	        !read_integer(&out->epoch, &line))
		return false;
	while (*line) {
		if (out->count == HD_METRICS_PER_LINE || !read_metric(&out->metrics[out->count++], &line))
			return false;
	}
	return true;
}

hd_status hd_metrics_reader_next(hd_metrics_reader *r, hd_metrics_line *out, bool *got)
{
	hd_status st = HD_OK;
	bool more = true;
	*got = false;
	while (!*got && more) {
		char *line = r->text + r->begin, *end = memchr(line, '\n', r->used - r->begin);
		if (end) {
			*end = 0;
			r->begin = (size_t)(end + 1 - r->text);
			*got = !r->passing && memchr(line, 0, (size_t)(end - line)) == NULL && parse(out, line);
			r->bad += !*got;
			r->passing = false;
			continue;
		}
		if (r->begin == 0 && r->used == READ_BYTES) {
			r->begin = r->used;
			r->passing = true;
		}
		HD_TRY(read_more(r, &more));
	}
done:
	return st;
}

hd_status hd_metrics_log_each(const char *path, int64_t offset, hd_metrics_take take, void *context, int64_t *bad)
{
	hd_status st;
	hd_metrics_reader *reader = NULL;
	hd_metrics_line line;
	bool got = true;
	HD_TRY(hd_metrics_reader_open(&reader, path, offset));
	for (;;) {
		HD_TRY(hd_metrics_reader_next(reader, &line, &got));
		if (!got)
			break;
		HD_TRY(take(context, &line));
	}
	if (bad)
		*bad = hd_metrics_reader_bad(reader);
done:
	hd_metrics_reader_close(reader);
	return st;
}

double hd_metrics_line_value(const hd_metrics_line *line, const char *name)
{
	for (size_t i = 0; i < line->count; i++)
		if (!strcmp(line->metrics[i].name, name))
			return line->metrics[i].value;
	return NAN;
}
