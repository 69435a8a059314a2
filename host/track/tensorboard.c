/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: TensorFlow, lib/io/record_writer.cc (framing), lib/hash/crc32c.h (masking), util/event.proto. CRC-32C: the
 * Castagnoli polynomial, reflected (RFC 3720, section 12.1).
 */
#include "host/track/tensorboard.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "track/event.pb-c.h"

#define VERSION "brain.Event:2"
#define HEAD_BYTES 12 /* length of the message, checksum of the length */
#define FOOT_BYTES 4  /* checksum of the message */
#define CRC_POLYNOMIAL 0x82f63b78u
#define MASK 0xa282ead8u
#define MOST_FILES 10000

struct hd_events {
	int fd;
	char *path;
	uint32_t crc[256];
	uint8_t *record;
	size_t capacity;
};

/* ---- records ---- */

static void make_table(uint32_t table[256])
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t crc = byte;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CRC_POLYNOMIAL : 0);
		table[byte] = crc;
	}
}

/* A checksum over data that holds checksums is weak, hence the mask. */
static uint32_t masked_crc(const uint32_t table[256], const uint8_t *data, size_t bytes)
{
	uint32_t crc = ~0u;
	for (size_t i = 0; i < bytes; i++)
		crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
	crc = ~crc;
	return htole32((crc >> 15 | crc << 17) + MASK);
}

/* What a full disk left of a record would hide all that follows it. */
static hd_status write_whole(const hd_events *e, size_t bytes)
{
	off_t before = lseek(e->fd, 0, SEEK_END);
	ssize_t put = write(e->fd, e->record, bytes);
	if (put == (ssize_t)bytes)
		return HD_OK;
	hd_status st = hd_fail(HD_E_IO, "%s: %s", e->path, put < 0 ? strerror(errno) : "the disk is full");
	if (put > 0 && ftruncate(e->fd, before) != 0)
		return hd_context(st, "its last record is cut off");
	return st;
}

static hd_status put_event(hd_events *e, const Hd__Event *event)
{
	size_t bytes = hd__event__get_packed_size(event), all = HEAD_BYTES + bytes + FOOT_BYTES;
	uint64_t length = htole64(bytes);
	hd_status st = hd_grow(&e->record, &e->capacity, all, 1);
	if (st != HD_OK)
		return st;
	uint8_t *message = e->record + HEAD_BYTES;
	memcpy(e->record, &length, sizeof length);
	uint32_t crc = masked_crc(e->crc, e->record, sizeof length);
	memcpy(e->record + sizeof length, &crc, sizeof crc);
	hd__event__pack(event, message);
	crc = masked_crc(e->crc, message, bytes);
	memcpy(message + bytes, &crc, sizeof crc);
	return write_whole(e, all);
}

/* ---- files ---- */

/* The first number of this process that is free: runs of one process may share a folder and a second. */
static hd_status make_file(hd_events *e, const char *folder)
{
	static atomic_int files;
	char host[HOST_NAME_MAX + 1] = "";
	gethostname(host, sizeof host - 1);
	for (int tried = 0; tried < MOST_FILES; tried++) {
		free(e->path);
		e->path = NULL;
		hd_status st = hd_sprintf(&e->path, "%s/events.out.tfevents.%010lld.%s.%ld.%d", folder,
		        (long long)time(NULL), host, (long)getpid(), atomic_fetch_add(&files, 1));
		if (st != HD_OK)
			return st;
		e->fd = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
		if (e->fd >= 0)
			return HD_OK;
		if (errno != EEXIST)
			break;
	}
	return hd_fail(HD_E_IO, "%s: cannot create: %s", e->path, strerror(errno));
}

hd_status hd_events_open(hd_events **out, const char *folder)
{
	hd_status st;
	hd_events *e = NULL;
	struct timespec now;
	Hd__Event event = HD__EVENT__INIT;
	*out = NULL;
	HD_TRY(hd_alloc(&e, 1, sizeof *e));
	e->fd = -1;
	make_table(e->crc);
	HD_TRY(make_file(e, folder));
	clock_gettime(CLOCK_REALTIME, &now);
	event.wall_time = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
	event.what_case = HD__EVENT__WHAT_FILE_VERSION;
	event.file_version = (char *)VERSION;
	HD_TRY(put_event(e, &event));
	*out = e;
	e = NULL;
done:
	hd_events_close(e);
	return st;
}

hd_status hd_events_append(hd_events *e, const hd_metrics_line *line)
{
	Hd__Summary__Value values[HD_METRICS_PER_LINE], *list[HD_METRICS_PER_LINE];
	Hd__Summary summary = HD__SUMMARY__INIT;
	Hd__Event event = HD__EVENT__INIT;
	if (line->count > HD_METRICS_PER_LINE)
		return hd_fail(HD_E_USAGE, "%s: %zu metrics in one line; %d at most", e->path, line->count,
		        HD_METRICS_PER_LINE);
	for (size_t i = 0; i < line->count; i++) {
		hd__summary__value__init(&values[i]);
		values[i].tag = (char *)line->metrics[i].name;
		values[i].value_case = HD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
		values[i].simple_value = (float)line->metrics[i].value;
		list[i] = &values[i];
	}
	summary.n_value = line->count;
	summary.value = list;
	event.wall_time = (double)line->time_ms / 1000;
	event.step = line->step;
	event.what_case = HD__EVENT__WHAT_SUMMARY;
	event.summary = &summary;
	return put_event(e, &event);
}

void hd_events_close(hd_events *e)
{
	if (!e)
		return;
	if (e->fd >= 0)
		close(e->fd);
	free(e->record);
	free(e->path);
	free(e);
}
