/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings: which format a source has, which rows are wanted, and the copy into memory. */
#include "heimdall/iq.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/text.h"
#include "host/data/iq_formats.h"

#define PATH_BYTES 4096
#define STREAM_MAX_BYTES ((size_t)4 << 30)
#define STREAM_FIRST_BYTES ((size_t)1 << 16)
#define FORGET_BYTES ((size_t)4 << 20)
#define SNIFF_BYTES ((size_t)1 << 20)
#define TAR_MAGIC_AT 257
#define KNOWN                                                                                                          \
	"known are .npy, WAV and SigMF by their content, and bare samples by their ending (.cu8 .cs8 .cs16 .cf32) or " \
	"by --iq_format"

/* ---- sources ---- */

void hd_source_forget(hd_source *source, size_t at)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), to = at / page * page;
	if (source->stream || at > source->bytes || to < source->dropped + FORGET_BYTES)
		return;
	/* advice only: where it is not taken, nothing but memory is lost */
	madvise((void *)(source->data + source->dropped), to - source->dropped, MADV_DONTNEED);
	source->dropped = to;
}

static void close_source(hd_source *source)
{
	if (source->stream)
		free((void *)source->data);
	else
		hd_file_unmap(source->data, source->bytes);
	*source = (hd_source){0};
}

static hd_status read_stream(hd_source *source, int fd, const char *path)
{
	unsigned char *buffer = NULL;
	size_t capacity = 0, used = 0;
	ssize_t got = 1;
	while (got > 0) {
		if (used == capacity) {
			capacity = capacity ? 2 * capacity : STREAM_FIRST_BYTES;
			unsigned char *grown = used < STREAM_MAX_BYTES ? realloc(buffer, capacity) : NULL;
			if (!grown) {
				free(buffer);
				return used < STREAM_MAX_BYTES
				               ? hd_fail(HD_E_MEMORY, "%s: out of host memory: %zu bytes", path,
				                         capacity)
				               : hd_fail(HD_E_DATA, "%s: more than 4 GiB; write it to a file", path);
			}
			buffer = grown;
		}
		do
			got = read(fd, buffer + used, capacity - used);
		while (got < 0 && errno == EINTR);
		used += got > 0 ? (size_t)got : 0;
	}
	if (got < 0) {
		free(buffer);
		return hd_fail(HD_E_IO, "%s: cannot read: %s", path, strerror(errno));
	}
	*source = (hd_source){.data = buffer, .bytes = used, .stream = true};
	return HD_OK;
}

static hd_status open_source(hd_source *source, const char *path)
{
	struct stat info;
	const void *data;
	if (!strcmp(path, "-"))
		return read_stream(source, STDIN_FILENO, "standard input");
	if (stat(path, &info) == 0 && S_ISFIFO(info.st_mode)) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return hd_fail(HD_E_IO, "%s: cannot open: %s", path, strerror(errno));
		hd_status st = read_stream(source, fd, path);
		close(fd);
		return st;
	}
	hd_status st = hd_file_map(&data, &source->bytes, path);
	source->data = data;
	return st;
}

/* ---- layouts ---- */

uint16_t hd_le16(const unsigned char *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

uint32_t hd_le32(const unsigned char *p)
{
	return hd_le16(p) | (uint32_t)hd_le16(p + 2) << 16;
}

uint64_t hd_le64(const unsigned char *p)
{
	return hd_le32(p) | (uint64_t)hd_le32(p + 4) << 32;
}

float hd_iq_scale(hd_dtype dtype)
{
	return dtype == HD_I16 ? 1.0f / 32768 : dtype == HD_I8 ? 1.0f / 128 : dtype == HD_U8 ? 1.0f / 127.5f : 1.0f;
}

void hd_layout_pairs(hd_layout *l, hd_dtype dtype, int64_t rows, int64_t samples, const unsigned char *data)
{
	int64_t width = (int64_t)hd_dtype_bytes(dtype);
	l->dtype = dtype;
	l->scale = hd_iq_scale(dtype);
	l->stored_bytes = (int)width;
	l->rows = rows;
	l->samples = samples;
	l->part_step = width;
	l->sample_step = 2 * width;
	l->row_step = samples * 2 * width;
	l->data = data;
}

static uint16_t load16(const unsigned char *p, bool swap)
{
	uint16_t v;
	memcpy(&v, p, sizeof v);
	return swap ? __builtin_bswap16(v) : v;
}

static uint32_t load32(const unsigned char *p, bool swap)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return swap ? __builtin_bswap32(v) : v;
}

static uint64_t load64(const unsigned char *p, bool swap)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return swap ? __builtin_bswap64(v) : v;
}

/* 24-bit little-endian integer, full scale 1: a float holds it exactly. */
static float widen24(const unsigned char *p)
{
	int32_t v = (int32_t)((uint32_t)p[0] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 24);
	return (float)(v >> 8) * 0x1p-23f;
}

static double widen32(const unsigned char *p)
{
	return (double)(int32_t)hd_le32(p) * 0x1p-31;
}

/* Copies one run of samples; returns the end of what was written. */
static char *copy_run(char *to, const unsigned char *from, int64_t samples, const hd_layout *l)
{
	size_t pair = 2 * hd_dtype_bytes(l->dtype);
	if (!l->swap && !l->widen && l->part_step * 2 == (int64_t)pair && l->sample_step == (int64_t)pair) {
		memcpy(to, from, (size_t)samples * pair);
		return to + (size_t)samples * pair;
	}
#define RUN(type, value)                                                                                               \
	for (int64_t i = 0; i < samples; i++) {                                                                        \
		for (int64_t c = 0; c < 2; c++) {                                                                      \
			const unsigned char *p = from + i * l->sample_step + c * l->part_step;                         \
			const type v = value;                                                                          \
			memcpy(to, &v, sizeof v);                                                                      \
			to += sizeof v;                                                                                \
		}                                                                                                      \
	}
	if (l->stored_bytes == 1)
		RUN(uint8_t, *p)
	else if (l->stored_bytes == 2)
		RUN(uint16_t, load16(p, l->swap))
	else if (l->stored_bytes == 3)
		RUN(float, widen24(p))
	else if (l->stored_bytes == 4 && l->widen)
		RUN(double, widen32(p))
	else if (l->stored_bytes == 4)
		RUN(uint32_t, load32(p, l->swap))
	else
		RUN(uint64_t, load64(p, l->swap))
#undef RUN
	return to;
}

static hd_status copy_samples(hd_iq *out, const hd_layout *l, int64_t first_row)
{
	hd_status st = hd_alloc(&out->data, (size_t)out->rows * (size_t)l->samples, 2 * hd_dtype_bytes(l->dtype));
	if (st != HD_OK)
		return st;
	char *to = out->data;
	for (size_t p = 0; p < l->piece_count; p++)
		to = copy_run(to, l->pieces[p].data, l->pieces[p].samples, l);
	for (int64_t r = first_row; !l->pieces && r < first_row + out->rows; r++)
		to = copy_run(to, l->data + r * l->row_step, l->samples, l);
	return HD_OK;
}

/* ---- formats ---- */

static bool starts_with(const hd_source *s, const char *magic)
{
	size_t n = strlen(magic);
	return s->bytes >= n && !memcmp(s->data, magic, n);
}

static bool is_wav(const hd_source *s)
{
	return starts_with(s, "RIFF") || starts_with(s, "RF64") || starts_with(s, "BW64") || starts_with(s, "RIFX");
}

/* A JSON object with a member "global". */
static bool is_sigmf(const hd_source *s)
{
	size_t at = 0, look = s->bytes < SNIFF_BYTES ? s->bytes : SNIFF_BYTES;
	while (at < look && strchr(" \t\r\n", s->data[at]) && s->data[at])
		at++;
	return at < look && s->data[at] == '{' && memmem(s->data, look, "\"global\"", 8);
}

static bool is_archive(const hd_source *s, const char *path)
{
	return hd_ends_with(path, ".sigmf") ||
	       (s->bytes > TAR_MAGIC_AT + 5 && !memcmp(s->data + TAR_MAGIC_AT, "ustar", 5));
}

static hd_status refuse_unknown(const hd_source *s)
{
	if (starts_with(s, "\x1f\x8b") || starts_with(s, "PK\x03\x04") ||
	        starts_with(s, "\xfd"
	                       "7zXZ") ||
	        starts_with(s, "\x28\xb5\x2f\xfd"))
		return hd_fail(HD_E_DATA, "is compressed; unpack it first; " KNOWN);
	return hd_fail(HD_E_DATA, "%zu bytes of no known format; " KNOWN, s->bytes);
}

/* Sources of a recording: its file, and the samples where they lie in another. */
typedef struct sources {
	hd_source file, samples;
	char meta[PATH_BYTES]; /* SigMF by its name; "" otherwise */
} sources;

static hd_status describe(hd_layout *l, hd_iq_info *info, sources *s, const char *path, hd_raw_format raw, bool copy)
{
	hd_source *file = &s->file;
	if (file->bytes == 0)
		return hd_fail(HD_E_DATA, "is empty");
	if (s->meta[0])
		return hd_sigmf_parse(l, info, &s->samples, file, s->meta);
	if (starts_with(file, "\x93NUMPY"))
		return hd_npy_parse(l, info, file);
	if (is_wav(file))
		return hd_wav_parse(l, info, file, copy);
	if (is_sigmf(file)) {
		if (file->stream)
			return hd_fail(
			        HD_E_DATA, "is SigMF metadata, whose samples lie in another file: name the file");
		return hd_sigmf_parse(l, info, &s->samples, file, path);
	}
	if (is_archive(file, path))
		return hd_fail(HD_E_DATA, "is a SigMF archive; unpack it with tar -xf and name the .sigmf-meta in it");
	/* --iq_format may be given for a whole catalogue: it is no reason to take a damaged file for samples */
	if (hd_ends_with(path, ".npy") || hd_ends_with(path, ".wav"))
		return hd_fail(HD_E_DATA, "is no %s file (%zu bytes, magic missing); " KNOWN,
		        hd_ends_with(path, ".npy") ? ".npy" : "WAV", file->bytes);
	if (raw == HD_RAW_AUTO)
		raw = hd_raw_of_name(path);
	if (raw == HD_RAW_AUTO)
		return refuse_unknown(file);
	return hd_raw_parse(l, info, file, raw);
}

static hd_status load(hd_iq *out, hd_iq_info *info, const char *path, hd_raw_format raw)
{
	hd_status st;
	char file[PATH_BYTES];
	int64_t row;
	sources s = {0};
	hd_layout l = {0};
	*info = (hd_iq_info){
	        .true_rate_hz = NAN, .frequency_hz = NAN, .start_s = NAN, .latitude_deg = NAN, .longitude_deg = NAN};
	if (strlen(path) >= PATH_BYTES)
		return hd_fail(HD_E_IO, "%.60s...: the name is longer than %d bytes", path, PATH_BYTES - 1);
	hd_iq_split_row(file, &row, path);
	const char *name = strcmp(file, "-") ? file : "standard input";
	bool named_meta = hd_sigmf_meta_path(s.meta, file);
	st = open_source(&s.file, named_meta ? s.meta : file);
	if (st != HD_OK && named_meta && strcmp(s.meta, file) != 0)
		hd_context(st, "%s: its metadata cannot be read", file);
	if (st != HD_OK)
		goto done;
	st = describe(&l, info, &s, file, raw, out != NULL);
	if (st == HD_OK && row >= l.rows)
		st = hd_fail(HD_E_DATA, "holds %lld rows, no row %lld; name one as %s#0 .. #%lld", (long long)l.rows,
		        (long long)row, file, (long long)l.rows - 1);
	if (st != HD_OK) {
		hd_context(st, "%s", name);
		goto done;
	}
	info->rows = row >= 0 ? 1 : l.rows;
	info->samples = l.samples;
	info->dtype = l.dtype;
	if (out) {
		*out = (hd_iq){.rows = info->rows,
		        .samples = l.samples,
		        .dtype = l.dtype,
		        .scale = l.scale,
		        .sample_rate_hz = info->sample_rate_hz};
		st = copy_samples(out, &l, row >= 0 ? row : 0);
		if (st != HD_OK)
			hd_context(st, "%s", name);
	}
done:
	free(l.pieces);
	close_source(&s.samples);
	close_source(&s.file);
	return st;
}

/* ---- public ---- */

hd_status hd_iq_read(hd_iq *out, hd_iq_info *info, const char *path, hd_raw_format raw)
{
	hd_iq_info unused;
	*out = (hd_iq){0};
	hd_status st = load(out, info ? info : &unused, path, raw);
	if (st != HD_OK)
		hd_iq_free(out);
	return st;
}

hd_status hd_iq_probe(hd_iq_info *out, const char *path, hd_raw_format raw)
{
	char file[PATH_BYTES];
	int64_t row;
	struct stat info;
	*out = (hd_iq_info){0};
	hd_iq_split_row(file, &row, path);
	if (!strcmp(file, "-") || (stat(file, &info) == 0 && S_ISFIFO(info.st_mode)))
		return hd_fail(HD_E_USAGE, "%s: a pipe cannot be looked at without reading it; name a file", file);
	return load(NULL, out, path, raw);
}

/* Whether a recording of exactly this name is there. */
static bool name_exists(const char *name)
{
	char meta[PATH_BYTES];
	return !strcmp(name, "-") || access(name, R_OK) == 0 ||
	       (hd_sigmf_meta_path(meta, name) && access(meta, R_OK) == 0);
}

bool hd_iq_exists(const char *path)
{
	char file[PATH_BYTES];
	int64_t row;
	hd_iq_split_row(file, &row, path);
	return name_exists(file);
}

void hd_iq_split_row(char file[4096], int64_t *row, const char *path)
{
	const char *hash = strrchr(path, '#');
	snprintf(file, PATH_BYTES, "%s", path);
	*row = -1;
	if (!hash || !hash[1] || hash[1 + strspn(hash + 1, "0123456789")] || hash - path >= PATH_BYTES ||
	        name_exists(path))
		return;
	file[hash - path] = 0;
	*row = strtoll(hash + 1, NULL, 10);
}

void hd_iq_free(hd_iq *iq)
{
	if (!iq)
		return;
	free(iq->data);
	*iq = (hd_iq){0};
}

void hd_iq_to_float(float *out, const hd_iq *iq, int64_t row, int64_t from, int64_t count)
{
	int64_t at = 2 * (row * iq->samples + from), n = 2 * count;
	float scale = iq->scale;
	switch (iq->dtype) {
	case HD_I16:
		for (int64_t i = 0; i < n; i++)
			out[i] = scale * (float)((const int16_t *)iq->data)[at + i];
		break;
	case HD_I8:
		for (int64_t i = 0; i < n; i++)
			out[i] = scale * (float)((const int8_t *)iq->data)[at + i];
		break;
	case HD_U8:
		for (int64_t i = 0; i < n; i++)
			out[i] = scale * ((float)((const uint8_t *)iq->data)[at + i] - 127.5f);
		break;
	case HD_F64:
		for (int64_t i = 0; i < n; i++)
			out[i] = scale * (float)((const double *)iq->data)[at + i];
		break;
	default:
		for (int64_t i = 0; i < n; i++)
			out[i] = scale * ((const float *)iq->data)[at + i];
		break;
	}
}
