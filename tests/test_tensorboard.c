/* SPDX-License-Identifier: Apache-2.0 */
/* Event files: read back by a decoder of the test's own, and by TensorBoard. */
#include <endian.h>
#include <glob.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/track/tensorboard.h"
#include "tests/folder.h"

TestSuite(tensorboard, .init = start, .fini = stop);

#define SCALARS 4096

typedef struct scalar {
	char tag[300];
	int64_t step;
	double wall_time;
	float value;
	bool has_value;
} scalar;

static scalar scalars[SCALARS];
static size_t scalar_count;
static char version[64]; /* of the first event */
static size_t records;

/* Bit by bit, RFC 3720. */
static uint32_t crc32c(const uint8_t *data, size_t bytes)
{
	uint32_t crc = 0xffffffffu;
	for (size_t i = 0; i < bytes; i++)
		for (int bit = 0; bit < 8; bit++) {
			uint32_t low = (crc ^ (uint32_t)data[i] >> bit) & 1;
			crc = crc >> 1 ^ (low ? 0x82f63b78u : 0);
		}
	return ~crc;
}

static uint32_t masked(const uint8_t *data, size_t bytes)
{
	uint32_t crc = crc32c(data, bytes);
	return (uint32_t)(((crc >> 15) | (crc << 17)) + 0xa282ead8u);
}

/* ---- protobuf, as far as it is met here ---- */

typedef struct bytes {
	const uint8_t *at, *end;
} bytes;

static uint64_t varint(bytes *b)
{
	uint64_t value = 0;
	for (int shift = 0;; shift += 7) {
		cr_assert(b->at < b->end && shift < 64, "a varint does not end");
		value |= (uint64_t)(*b->at & 0x7f) << shift;
		if (!(*b->at++ & 0x80))
			return value;
	}
}

static bytes piece(bytes *b, uint64_t length)
{
	cr_assert_leq(length, (uint64_t)(b->end - b->at), "a field is longer than what holds it");
	bytes inner = {b->at, b->at + length};
	b->at += length;
	return inner;
}

static void read_value(bytes b, const scalar *of)
{
	cr_assert_lt(scalar_count, SCALARS);
	scalar *s = &scalars[scalar_count++];
	*s = *of;
	while (b.at < b.end) {
		uint64_t key = varint(&b);
		if (key == (1 << 3 | 2)) {
			bytes tag = piece(&b, varint(&b));
			snprintf(s->tag, sizeof s->tag, "%.*s", (int)(tag.end - tag.at), tag.at);
		} else {
			cr_assert_eq(key, 2 << 3 | 5, "field %llu in a value", (unsigned long long)key);
			bytes bits = piece(&b, 4);
			memcpy(&s->value, bits.at, 4);
			s->has_value = true;
		}
	}
}

static void read_event(bytes b)
{
	scalar of = {0};
	bytes summary = {0};
	while (b.at < b.end) {
		uint64_t key = varint(&b);
		switch (key) {
		case 1 << 3 | 1:
			memcpy(&of.wall_time, piece(&b, 8).at, 8);
			break;
		case 2 << 3:
			of.step = (int64_t)varint(&b);
			break;
		case 3 << 3 | 2: {
			bytes text = piece(&b, varint(&b));
			snprintf(version, sizeof version, "%.*s", (int)(text.end - text.at), text.at);
			break;
		}
		case 5 << 3 | 2:
			summary = piece(&b, varint(&b));
			break;
		default:
			cr_assert_fail("field %llu in an event", (unsigned long long)key);
		}
	}
	while (summary.at < summary.end) {
		cr_assert_eq(varint(&summary), 1 << 3 | 2);
		bytes value = piece(&summary, varint(&summary));
		read_value(value, &of);
	}
}

/* All records of a file; each checksum must hold. */
static void read_file(const char *path)
{
	struct stat info;
	cr_assert_eq(stat(path, &info), 0, "%s", path);
	uint8_t *data = malloc((size_t)info.st_size + 1);
	FILE *from = fopen(path, "r");
	cr_assert_eq(fread(data, 1, (size_t)info.st_size, from), (size_t)info.st_size);
	fclose(from);
	bytes all = {data, data + info.st_size};
	scalar_count = records = 0;
	version[0] = 0;
	while (all.at < all.end) {
		bytes head = piece(&all, 12);
		uint64_t length;
		uint32_t crc;
		memcpy(&length, head.at, 8);
		memcpy(&crc, head.at + 8, 4);
		cr_assert_eq(le32toh(crc), masked(head.at, 8), "record %zu: checksum of the length", records);
		bytes message = piece(&all, le64toh(length));
		memcpy(&crc, piece(&all, 4).at, 4);
		cr_assert_eq(le32toh(crc), masked(message.at, length), "record %zu: checksum of the message", records);
		read_event(message);
		records++;
	}
	free(data);
}

/* The only event file in the folder. */
static const char *the_file(void)
{
	static char path[600];
	glob_t found;
	cr_assert_eq(glob(file_in("events.out.tfevents.*"), 0, NULL, &found), 0);
	cr_assert_eq(found.gl_pathc, 1);
	snprintf(path, sizeof path, "%s", found.gl_pathv[0]);
	globfree(&found);
	return path;
}

static hd_events *open_events(void)
{
	hd_events *events;
	cr_assert_eq(hd_events_open(&events, folder), HD_OK, "%s", hd_error_text());
	return events;
}

static void append(hd_events *events, const hd_metrics_line *line)
{
	cr_assert_eq(hd_events_append(events, line), HD_OK, "%s", hd_error_text());
}

Test(tensorboard, the_reference_knows_crc32c)
{
	cr_assert_eq(crc32c((const uint8_t *)"123456789", 9), 0xe3069283u);
	cr_assert_eq(crc32c((const uint8_t[32]){0}, 32), 0x8a9136aau);
}

Test(tensorboard, every_point)
{
	hd_events *events = open_events();
	const hd_metrics_line lines[] = {
	        {1700000000123, 0, 0, 3, {{"train/loss", 0}, {"lr", -0.0}, {"grad_norm", NAN}}},
	        {1700000001500, 127, 1, 2, {{"train/loss", 1e-30}, {"lr", INFINITY}}},
	        {1700000002000, 128, 1, 1, {{"val/median_m", -INFINITY}}},
	        {1700000003000, (int64_t)1 << 60, 2, 1, {{"train/loss", 0.1}}},
	};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		append(events, &lines[i]);
	hd_events_close(events);
	read_file(the_file());
	cr_assert_str_eq(version, "brain.Event:2");
	cr_assert_eq(records, 1 + sizeof lines / sizeof *lines);
	cr_assert_eq(scalar_count, 7);
	size_t k = 0;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		for (size_t m = 0; m < lines[i].count; m++, k++) {
			float want = (float)lines[i].metrics[m].value;
			cr_assert(scalars[k].has_value, "point %zu has no value", k);
			cr_assert_str_eq(scalars[k].tag, lines[i].metrics[m].name);
			cr_assert_eq(scalars[k].step, lines[i].step);
			cr_assert_float_eq(scalars[k].wall_time, (double)lines[i].time_ms / 1000, 1e-6);
			cr_assert(isnan(want) ? isnan(scalars[k].value) : !memcmp(&scalars[k].value, &want, 4),
			        "point %zu: got %g, want %g", k, (double)scalars[k].value, (double)want);
		}
	}
}

Test(tensorboard, a_full_line_of_long_names)
{
	static char names[HD_METRICS_PER_LINE][HD_METRIC_NAME + 1];
	hd_events *events = open_events();
	hd_metrics_line line = {.time_ms = 5, .step = 7, .count = HD_METRICS_PER_LINE};
	for (int i = 0; i < HD_METRICS_PER_LINE; i++) {
		memset(names[i], 'a' + i % 26, HD_METRIC_NAME);
		names[i][0] = (char)('0' + i);
		line.metrics[i] = (hd_metric){names[i], i};
	}
	append(events, &line);
	line.count++;
	cr_assert_eq(hd_events_append(events, &line), HD_E_USAGE);
	hd_events_close(events);
	read_file(the_file());
	cr_assert_eq(scalar_count, HD_METRICS_PER_LINE);
	for (int i = 0; i < HD_METRICS_PER_LINE; i++) {
		cr_assert_str_eq(scalars[i].tag, names[i]);
		cr_assert_eq(scalars[i].value, (float)i);
	}
}

/* TensorBoard takes the files of a folder in the order of their names. */
Test(tensorboard, files_of_one_second_and_process)
{
	hd_events *events[3];
	glob_t found;
	char host[256] = "", middle[400];
	gethostname(host, sizeof host - 1);
	time_t before = time(NULL);
	for (int i = 0; i < 3; i++)
		events[i] = open_events();
	for (int i = 0; i < 3; i++) {
		append(events[i], &(hd_metrics_line){1000, i, 0, 1, {{"a", i}}});
		hd_events_close(events[i]);
	}
	cr_assert_eq(glob(file_in("events.out.tfevents.*"), 0, NULL, &found), 0);
	cr_assert_eq(found.gl_pathc, 3);
	snprintf(middle, sizeof middle, ".%s.%ld.", host, (long)getpid());
	for (size_t i = 0; i < 3; i++) {
		long long stamp = 0;
		cr_assert_not_null(strstr(found.gl_pathv[i], middle), "%s", found.gl_pathv[i]);
		cr_assert_eq(sscanf(strstr(found.gl_pathv[i], "tfevents."), "tfevents.%10lld.", &stamp), 1);
		cr_assert(stamp >= before && stamp <= time(NULL));
		read_file(found.gl_pathv[i]);
		cr_assert_eq(scalar_count, 1);
		cr_assert_eq(scalars[0].step, (int64_t)i);
	}
	globfree(&found);
}

Test(tensorboard, a_folder_that_is_not_there)
{
	hd_events *events = (hd_events *)&records;
	cr_assert_eq(hd_events_open(&events, file_in("missing")), HD_E_IO);
	cr_assert_not_null(strstr(hd_error_text(), "missing/events.out.tfevents."));
	cr_assert_null(events);
}

/* A record that is cut off would hide what follows it from every reader. */
Test(tensorboard, a_full_disk_leaves_whole_records)
{
	hd_events *events = open_events();
	struct rlimit old, tight;
	struct stat info;
	hd_metrics_line line = {1000, 1, 0, 2, {{"train/loss", 1}, {"grad_norm", 2}}};
	append(events, &line);
	cr_assert_eq(stat(the_file(), &info), 0);
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = old;
	tight.rlim_cur = (rlim_t)info.st_size + 20; /* in the middle of the next record */
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &tight), 0);
	line.step = 2;
	hd_status st = hd_events_append(events, &line);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	cr_assert_eq(st, HD_E_IO);
	cr_assert_not_null(strstr(hd_error_text(), "events.out.tfevents."), "%s", hd_error_text());
	line.step = 3;
	append(events, &line);
	hd_events_close(events);
	read_file(the_file());
	cr_assert_eq(records, 3);
	cr_assert_eq(scalars[scalar_count - 1].step, 3);
}

/* The reader that people have. */
Test(tensorboard, its_own_reader)
{
	char python[512], command[2048];
	const char *build = getenv("BUILD");
	snprintf(python, sizeof python, "%s/mlflow/bin/python", build ? build : "build");
	snprintf(command, sizeof command, "'%s' -c 'import tensorboard' 2>/dev/null", python);
	if (system(command) != 0)
		cr_skip_test("no tensorboard in %s/mlflow", build ? build : "build");
	hd_events *events = open_events();
	FILE *want = fopen(file_in("want.csv"), "w");
	for (int i = 0; i < 1200; i++) {
		/* a resumed run: what a file has is not forgotten for what the next one has */
		if (i == 700) {
			hd_events_close(events);
			events = open_events();
		}
		hd_metrics_line line = {1700000000000 + 10 * i, 50 * i, i / 100, 3,
		        {{"train/loss", i % 7 ? 1.0 / (1 + i) : 0}, {"lr", i % 400 ? 1e-3 * i : NAN},
		                {"val/mae_m", -i}}};
		append(events, &line);
		for (int m = 0; m < 3; m++)
			fprintf(want, "%s,%lld,%.17g\n", line.metrics[m].name, (long long)line.step,
			        line.metrics[m].value);
	}
	hd_events_close(events);
	fclose(want);
	snprintf(command, sizeof command, "'%s' tests/read_tensorboard.py '%s' '%s'", python, folder,
	        file_in("want.csv"));
	int status = system(command);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", command);
}
