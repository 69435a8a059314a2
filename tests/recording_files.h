/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of recordings in every format, made byte by byte for tests, in a folder of the test's own. Include once per
 * test program.
 */
#ifndef HD_TESTS_RECORDING_FILES_H
#define HD_TESTS_RECORDING_FILES_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 3
#define SAMPLES 37
#define BYTES_MAX 65536

/* SigMF metadata with these members of global, and one of them. */
#define META(global) "{\"global\": {" global "}, \"captures\": [], \"annotations\": []}"
#define CI16 "\"core:datatype\": \"ci16_le\""

static char folder[256];

static inline void setup(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-readers-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
}

static inline int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
	(void)info;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void teardown(void)
{
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- building files ---- */

typedef struct file {
	unsigned char data[BYTES_MAX];
	size_t bytes;
} file;

static inline void put(file *f, const void *data, size_t bytes)
{
	cr_assert(f->bytes + bytes <= sizeof f->data, "the test's file is too large");
	memcpy(f->data + f->bytes, data, bytes);
	f->bytes += bytes;
}

static inline void put_text(file *f, const char *text)
{
	put(f, text, strlen(text));
}

/* A whole number of `width` bytes. */
static inline void put_number(file *f, uint64_t value, size_t width, bool big)
{
	unsigned char bytes[8];
	for (size_t b = 0; b < width; b++)
		bytes[big ? width - 1 - b : b] = (unsigned char)(value >> (8 * b));
	put(f, bytes, width);
}

/* v in the encoding kind: f float, i signed, u unsigned around half of its range. */
static inline void put_value(file *f, char kind, size_t width, bool big, double v)
{
	uint64_t bits = 0;
	if (kind == 'f' && width == 4) {
		float single = (float)v;
		memcpy(&bits, &single, sizeof single);
	} else if (kind == 'f') {
		memcpy(&bits, &v, sizeof v);
	} else if (kind == 'u') {
		bits = (uint64_t)llrint(v * 127.5 + 127.5);
	} else {
		bits = (uint64_t)llrint(v * ldexp(1, (int)(8 * width) - 1));
	}
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	bits = kind == 'f' && width == 4 ? bits >> 32 : bits;
#endif
	put_number(f, bits, width, big);
}

static inline void save(char path[512], const char *name, const file *f)
{
	snprintf(path, 512, "%s/%s", folder, name);
	FILE *out = fopen(path, "wb");
	cr_assert(out, "%s", path);
	cr_assert_eq(fwrite(f->data, 1, f->bytes, out), f->bytes);
	cr_assert_eq(fclose(out), 0);
}

/* Magic, version 1, length, dictionary. */
static inline void put_npy_head(file *f, const char *dictionary)
{
	put(f, "\x93NUMPY\1\0", 8);
	put_number(f, strlen(dictionary), 2, false);
	put_text(f, dictionary);
}

static inline void put_fmt(file *f, unsigned tag, unsigned channels, unsigned rate, unsigned bits, bool extensible)
{
	put_text(f, "fmt ");
	put_number(f, extensible ? 40 : 16, 4, false);
	put_number(f, extensible ? 0xfffe : tag, 2, false);
	put_number(f, channels, 2, false);
	put_number(f, rate, 4, false);
	put_number(f, (uint64_t)rate * channels * bits / 8, 4, false);
	put_number(f, channels * bits / 8, 2, false);
	put_number(f, bits, 2, false);
	if (!extensible)
		return;
	put_number(f, 22, 2, false);
	put_number(f, bits, 2, false);
	put_number(f, 3, 4, false);
	put_number(f, tag, 2, false);
	put(f, "\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", 14);
}

static inline void put_chunk(file *f, const char *id, const void *body, size_t bytes)
{
	put(f, id, 4);
	put_number(f, bytes, 4, false);
	put(f, body, bytes);
	if (bytes % 2)
		put(f, "", 1);
}

/* The length in the head of a RIFF file. */
static inline void close_riff(file *f)
{
	file length = {.bytes = 0};
	put_number(&length, f->bytes - 8, 4, false);
	memcpy(f->data + 4, length.data, 4);
}

/* Component c of sample i in row r, within +-0.95. */
static inline double component(int r, int i, int c)
{
	return 0.95 * sin(0.37 * ((r * SAMPLES + i) * 2 + c) + r);
}

/* head: R RIFF, 6 RF64, 0 RIFF of a recorder that was cut off, S of a stream. */
static inline void put_wav(file *f, char head, char kind, size_t width, bool extensible, bool chunks, int rows)
{
	size_t bytes = (size_t)rows * SAMPLES * 2 * width;
	put_text(f, head == '6' ? "RF64" : "RIFF");
	put_number(f, head == 'R' || head == '0' ? 0 : 0xffffffff, 4, false);
	put_text(f, "WAVE");
	if (head == '6') {
		put_text(f, "ds64");
		put_number(f, 28, 4, false);
		put_number(f, 0, 8, false);
		put_number(f, bytes, 8, false);
		put_number(f, 0, 8, false);
		put_number(f, 0, 4, false);
	}
	if (chunks) {
		put_chunk(f, "LIST", "INFOodd", 7);
		put_chunk(f, "\1\2\3\4", "x", 1);
	}
	put_fmt(f, kind == 'f' ? 3 : 1, 2, 48000, (unsigned)(8 * width), extensible);
	put_text(f, "data");
	put_number(f, head == '0' ? 0 : head == 'R' ? bytes : 0xffffffff, 4, false);
	for (int r = 0; r < rows; r++)
		for (int i = 0; i < SAMPLES; i++)
			for (int c = 0; c < 2; c++)
				put_value(f, kind, width, false, component(r, i, c));
	if (head == 'R') {
		if (chunks) {
			put_chunk(f, "LIST", "INFO", 4);
			put_chunk(f, "id3 ", "abc", 3);
		}
		close_riff(f);
	}
}

/* KiwiSDR: 8 samples a chunk at true_hz; stamp k is time_of(k) ns after start_ns, modulo the week. */
static inline void put_kiwi(file *f, int chunks, double true_hz, int64_t start_ns, int64_t (*shift_ns)(int chunk))
{
	put_text(f, "RIFF....WAVE");
	put_fmt(f, 1, 2, 12001, 16, false);
	for (int k = 0; k < chunks; k++) {
		file stamp = {.bytes = 0};
		unsigned char samples[32] = {(unsigned char)k};
		int64_t ns = (start_ns + llround(8 * k / true_hz * 1e9) + shift_ns(k)) % INT64_C(604800000000000);
		put_number(&stamp, 0, 2, false);
		put_number(&stamp, (uint64_t)(ns / 1000000000), 4, false);
		put_number(&stamp, (uint64_t)(ns % 1000000000), 4, false);
		put_chunk(f, "kiwi", stamp.data, stamp.bytes);
		put_chunk(f, "data", samples, sizeof samples);
	}
	close_riff(f);
}

static inline int64_t no_shift(int chunk)
{
	(void)chunk;
	return 0;
}

#endif
