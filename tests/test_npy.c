/* SPDX-License-Identifier: Apache-2.0 */
/* One array through every dtype, order and byte order; malformed files with their reasons; damaged files. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/iq.h"

#define ROWS 3
#define SAMPLES 5
#define FILE_MAX 4096
#define MUTATIONS 20000

static char folder[256];
static char file[512];

static void setup(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-npy-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
	snprintf(file, sizeof file, "%s/a.npy", folder);
}

static void teardown(void)
{
	unlink(file);
	rmdir(folder);
}

TestSuite(npy, .init = setup, .fini = teardown);

static void write_bytes(const void *data, size_t bytes)
{
	FILE *f = fopen(file, "wb");
	cr_assert(f, "%s", file);
	cr_assert_eq(fwrite(data, 1, bytes, f), bytes);
	cr_assert_eq(fclose(f), 0);
}

/* Magic, version, length and dictionary; the position behind them. */
static size_t put_header(unsigned char *out, int version, const char *dictionary)
{
	size_t length = strlen(dictionary), start = version == 1 ? 10 : 12;
	memcpy(out, "\x93NUMPY", 6);
	out[6] = (unsigned char)version;
	out[7] = 0;
	for (size_t b = 0; b < start - 8; b++)
		out[8 + b] = (unsigned char)(length >> (8 * b));
	memcpy(out + start, dictionary, length);
	return start + length;
}

/* Component c of sample i in row r: whole numbers that every dtype holds. */
static int component(int r, int i, int c)
{
	return ((r * SAMPLES + i) * 2 + c + 1) * (c ? -4 : 4);
}

/* A component in the byte order of descr. */
static void put_component(unsigned char *out, const char *descr, size_t width, int value)
{
	unsigned char native[8];
	if (descr[1] == 'i' || descr[1] == 'u') {
		int16_t wide = (int16_t)value;
		int8_t narrow = (int8_t)value;
		memcpy(native, width == 2 ? (void *)&wide : (void *)&narrow, width);
	} else {
		float single = (float)value;
		double wide = value;
		memcpy(native, width == 8 ? (void *)&wide : (void *)&single, width);
	}
	bool swap = descr[0] == (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '>' : '<');
	for (size_t b = 0; b < width; b++)
		out[b] = native[swap ? width - 1 - b : b];
}

static double read_component(const hd_iq *iq, int64_t at)
{
	switch (iq->dtype) {
	case HD_F32:
		return ((float *)iq->data)[at];
	case HD_F64:
		return ((double *)iq->data)[at];
	case HD_I16:
		return ((int16_t *)iq->data)[at];
	case HD_U8:
		return ((uint8_t *)iq->data)[at];
	default:
		return ((int8_t *)iq->data)[at];
	}
}

typedef struct variant {
	const char *descr;
	size_t width; /* bytes of one component */
	hd_dtype dtype;
	float scale;
} variant;

static const variant variants[] = {{"<c8", 4, HD_F32, 1}, {">c8", 4, HD_F32, 1}, {"=c8", 4, HD_F32, 1},
        {"<c16", 8, HD_F64, 1}, {">c16", 8, HD_F64, 1}, {"<i2", 2, HD_I16, 1.0f / 32768},
        {">i2", 2, HD_I16, 1.0f / 32768}, {"|i1", 1, HD_I8, 1.0f / 128}, {"|u1", 1, HD_U8, 1.0f / 127.5f},
        {"<f4", 4, HD_F32, 1}, {">f4", 4, HD_F32, 1}};

/* column: shape (N,1) of complex numbers; else (N,)/(N,2) for one row and (R,N)/(R,N,2) for several. */
static void check_variant(const variant *v, int version, bool fortran, int rows, bool column)
{
	unsigned char bytes[FILE_MAX];
	char dictionary[160], shape[40];
	bool complex_pairs = v->descr[1] == 'c';
	if (rows > 1)
		snprintf(shape, sizeof shape, complex_pairs ? "(%d, %d)" : "(%d, %d, 2)", rows, SAMPLES);
	else
		snprintf(shape, sizeof shape, complex_pairs ? column ? "(%d, 1)" : "(%d,)" : "(%d, 2)", SAMPLES);
	snprintf(dictionary, sizeof dictionary, "{'shape': %s, 'fortran_order': %s, 'descr': '%s'}  \n", shape,
	        fortran ? "True" : "False", v->descr);
	size_t start = put_header(bytes, version, dictionary);
	for (int r = 0; r < rows; r++) {
		for (int i = 0; i < SAMPLES; i++) {
			for (int c = 0; c < 2; c++) {
				int at = (r * SAMPLES + i) * 2 + c;
				if (fortran)
					at = complex_pairs ? (i * rows + r) * 2 + c : (c * SAMPLES + i) * rows + r;
				put_component(
				        bytes + start + (size_t)at * v->width, v->descr, v->width, component(r, i, c));
			}
		}
	}
	write_bytes(bytes, start + (size_t)rows * SAMPLES * 2 * v->width);
	hd_iq iq;
	hd_status st = hd_iq_read(&iq, NULL, file, HD_RAW_AUTO);
	cr_assert_eq(st, HD_OK, "%s: %s", dictionary, hd_error_text());
	cr_assert(iq.rows == rows && iq.samples == SAMPLES && iq.dtype == v->dtype && iq.scale == v->scale,
	        "%s: got %lld rows of %lld, dtype %d, scale %g", dictionary, (long long)iq.rows, (long long)iq.samples,
	        (int)iq.dtype, (double)iq.scale);
	for (int r = 0; r < rows; r++)
		for (int i = 0; i < SAMPLES; i++)
			for (int c = 0; c < 2; c++) {
				double got = read_component(&iq, (r * SAMPLES + i) * 2 + c);
				int wanted = component(r, i, c);
				wanted = v->dtype == HD_U8 ? (uint8_t)wanted : wanted;
				cr_assert(got == wanted, "%s: [%d,%d,%d] is %g, wanted %d", dictionary, r, i, c, got,
				        wanted);
			}
	hd_iq_free(&iq);
	cr_assert(!iq.data && !iq.rows, "free leaves zeroes");
}

Test(npy, every_dtype_order_and_byte_order_gives_the_same_array)
{
	for (size_t v = 0; v < sizeof variants / sizeof *variants; v++)
		for (int version = 1; version <= 3; version++)
			for (int fortran = 0; fortran < 2; fortran++) {
				check_variant(&variants[v], version, fortran, ROWS, false);
				check_variant(&variants[v], version, fortran, 1, false);
				check_variant(&variants[v], version, fortran, 1, true);
			}
}

#define DICT(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"
#define BIG "9223372036854775807"

/* A valid header but for one thing; `data` bytes behind it. */
static const struct {
	const char *dictionary;
	size_t data;
	const char *reason; /* what the message has to say */
} malformed[] = {
        {DICT("'|O'", "False", "(4,)"), 32, "dtype '|O'"},
        {DICT("'<f8'", "False", "(4, 2)"), 64, "dtype '<f8'"},
        {DICT("'<u2'", "False", "(4, 2)"), 16, "dtype '<u2'"},
        {DICT("'<i4'", "False", "(4, 2)"), 32, "dtype '<i4'"},
        {DICT("'<U3'", "False", "(4,)"), 48, "dtype '<U3'"},
        {DICT("''", "False", "(4,)"), 32, "dtype ''"},
        {DICT("'c8'", "False", "(4,)"), 32, "dtype 'c8'"},
        {DICT("'<c80'", "False", "(4,)"), 32, "dtype '<c80'"},
        {DICT("'<cccccccccccccccccccccccccc'", "False", "(4,)"), 32, "dtype"},
        {DICT("[('i', '<i2'), ('q', '<i2')]", "False", "(4,)"), 16, "structured"},
        {DICT("8", "False", "(4,)"), 32, "structured"},
        {DICT("'<c8'", "False", "()"), 8, "shape ()"},
        {DICT("'<c8'", "False", "(0,)"), 0, "no samples"},
        {DICT("'<c8'", "False", "(3, 0)"), 0, "no samples"},
        {DICT("'<c8'", "False", "(-4,)"), 32, "other than sizes"},
        {DICT("'<c8'", "False", "(4.0,)"), 32, "shape"},
        {DICT("'<c8'", "False", "(99999999999999999999,)"), 32, "other than sizes"},
        {DICT("'<c8'", "False", "(" BIG ",)"), 32, "impossible"},
        {DICT("'<c8'", "False", "(" BIG ", " BIG ")"), 32, "impossible"},
        {DICT("'<i2'", "False", "(4611686018427387904, 2)"), 32, "impossible"},
        {DICT("'<i2'", "False", "(2305843009213693952, 2, 2)"), 32, "impossible"},
        {DICT("'<c8'", "False", "(2, 2, 2)"), 64, "(2, 2, 2)"},
        {DICT("'<c8'", "False", "(1, 1, 1, 1, 1)"), 8, "more than four"},
        {DICT("'<c8'", "False", "4"), 32, "no tuple"},
        {DICT("'<c8'", "False", "(4"), 32, "other than sizes"},
        {DICT("'<f4'", "False", "(4,)"), 16, "shape (4) of dtype '<f4'"},
        {DICT("'<f4'", "False", "(2, 4)"), 32, "shape (2, 4)"},
        {DICT("'<i2'", "False", "(2, 4)"), 16, "of shape (N,2)"},
        {DICT("'<i2'", "False", "(4, 3)"), 24, "shape (4, 3)"},
        {DICT("'<c8'", "False", "(4,)"), 31, "truncated"},
        {DICT("'<c8'", "False", "(4,)"), 0, "truncated"},
        {DICT("'<c8'", "False", "(4,)"), 33, "trailing"},
        {DICT("'<c8'", "Maybe", "(4,)"), 32, "neither True nor False"},
        {DICT("'<c8'", "1", "(4,)"), 32, "neither True nor False"},
        {DICT("'<c8'", "False", "(4,)") "x", 32, "behind the header"},
        {"", 32, "no dictionary"},
        {"{", 32, "no dictionary"},
        {"{}", 32, "lacks"},
        {"[1, 2]", 32, "no dictionary"},
        {"{'descr': '<c8', 'shape': (4,), }", 32, "lacks"},
        {"{'descr': '<c8', 'fortran_order': False, }", 32, "lacks"},
        {"{'descr': '<c8', 'descr': '<c8', 'fortran_order': False, 'shape': (4,), }", 32, "repeated"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (4,), 'x': 1}", 32, "unknown"},
        {"{'descr': '<c8' 'fortran_order': False, 'shape': (4,)}", 32, "no dictionary"},
        {"\xc3\xa4\xff\x01{'descr'", 32, "no dictionary"},
};

static void check_refused(const char *what, const char *reason)
{
	hd_iq iq;
	hd_status st = hd_iq_read(&iq, NULL, file, HD_RAW_AUTO);
	cr_expect_eq(st, HD_E_DATA, "%s: status %d, wanted HD_E_DATA", what, (int)st);
	cr_expect(st == HD_OK || strstr(hd_error_text(), reason), "%s: '%s' does not say '%s'", what, hd_error_text(),
	        reason);
	cr_expect(st == HD_OK || !strncmp(hd_error_text(), file, strlen(file)), "%s: '%s' does not name the file", what,
	        hd_error_text());
	cr_expect(st == HD_OK || !iq.data, "%s: data after a failure", what);
	hd_iq_free(&iq);
}

Test(npy, malformed_headers_are_refused_with_their_reason)
{
	for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
		unsigned char bytes[FILE_MAX] = {0};
		size_t start = put_header(bytes, 1, malformed[i].dictionary);
		write_bytes(bytes, start + malformed[i].data);
		check_refused(malformed[i].dictionary, malformed[i].reason);
	}
}

Test(npy, malformed_frames_are_refused_with_their_reason)
{
	unsigned char bytes[FILE_MAX] = {0};
	size_t total = put_header(bytes, 1, DICT("'<c8'", "False", "(4,)")) + 32;
	write_bytes(bytes, 0);
	check_refused("empty file", "is empty");
	write_bytes(bytes, 9);
	check_refused("nine bytes", "truncated");
	write_bytes("\x80\x04\x95 pickle of something", 24);
	check_refused("pickle", "no .npy file");
	for (int version = 0; version < 256; version += version == 0 ? 4 : 251) {
		bytes[6] = (unsigned char)version;
		write_bytes(bytes, total);
		check_refused("unknown version", "version");
	}
	bytes[6] = 2;
	write_bytes(bytes, 11);
	check_refused("version 2 cut in its length", "version");
	bytes[6] = 1;
	bytes[9] = 0xff;
	write_bytes(bytes, total);
	check_refused("header beyond the file", "truncated");
	memset(bytes + 6, 0xff, 8);
	bytes[6] = 2;
	write_bytes(bytes, total);
	check_refused("header of 4 GiB", "truncated");
	hd_iq iq;
	unlink(file);
	cr_assert_eq(hd_iq_read(&iq, NULL, file, HD_RAW_AUTO), HD_E_IO, "a missing file is HD_E_IO");
	cr_assert(!iq.data);
}

/* Any damage is read or refused; never a crash, never more memory than the file's length. */
Test(npy, damaged_files_never_crash, .timeout = 120)
{
	unsigned char valid[FILE_MAX] = {0}, bytes[FILE_MAX];
	size_t start = put_header(valid, 1, DICT("'>i2'", "True", "(3, 5, 2)")), total = start + 60;
	uint32_t random = 12345;
	int refused = 0;
	for (int m = 0; m < MUTATIONS; m++) {
		size_t length = total;
		memcpy(bytes, valid, total);
		random = random * 1664525u + 1013904223u;
		for (int flips = 1 + (int)(random >> 30); flips > 0; flips--) {
			random = random * 1664525u + 1013904223u;
			bytes[(random >> 8) % total] ^= (unsigned char)(1u << (random >> 29));
		}
		random = random * 1664525u + 1013904223u;
		if (random >> 30 == 0)
			length = (random >> 8) % total;
		write_bytes(bytes, length);
		hd_iq iq;
		hd_status st = hd_iq_read(&iq, NULL, file, HD_RAW_AUTO);
		cr_assert(st == HD_OK || st == HD_E_DATA, "mutation %d: status %d: %s", m, (int)st, hd_error_text());
		if (st == HD_OK) {
			size_t held = (size_t)(iq.rows * iq.samples * 2) * hd_dtype_bytes(iq.dtype);
			double sum = 0;
			for (int64_t i = 0; i < iq.rows * iq.samples * 2; i++)
				sum += isfinite(read_component(&iq, i));
			cr_assert(held <= length && sum >= 0, "mutation %d: %zu bytes from a file of %zu", m, held,
			        length);
		}
		refused += st != HD_OK;
		hd_iq_free(&iq);
	}
	cr_assert(refused > MUTATIONS / 4 && refused < MUTATIONS, "%d of %d refused", refused, MUTATIONS);
}

Test(npy, what_is_written_is_read_back)
{
	static const int16_t pairs[ROWS * SAMPLES * 2] = {1, -2, 32767, -32768, 5};
	static const float complex_row[8] = {1, -2, 3.5f, 0.25f, 1e-30f, -1e30f, 7, 8};
	hd_iq iq;
	cr_assert_eq(hd_npy_write(file, "<i2", (int64_t[]){ROWS, SAMPLES, 2}, 3, pairs, sizeof pairs), HD_OK, "%s",
	        hd_error_text());
	cr_assert_eq(hd_iq_read(&iq, NULL, file, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_assert(iq.rows == ROWS && iq.samples == SAMPLES && !memcmp(iq.data, pairs, sizeof pairs), "pairs differ");
	hd_iq_free(&iq);
	cr_assert_eq(hd_npy_write(file, "<c8", (int64_t[]){4}, 1, complex_row, sizeof complex_row), HD_OK, "%s",
	        hd_error_text());
	cr_assert_eq(hd_iq_read(&iq, NULL, file, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_assert(iq.rows == 1 && iq.samples == 4 && !memcmp(iq.data, complex_row, sizeof complex_row),
	        "complex row differs");
	hd_iq_free(&iq);

	unsigned char bytes[FILE_MAX];
	FILE *f = fopen(file, "rb");
	size_t total = fread(bytes, 1, sizeof bytes, f);
	fclose(f);
	cr_assert_eq((total - sizeof complex_row) % 64, 0, "data start at %zu, wanted a multiple of 64",
	        total - sizeof complex_row);
	cr_assert_eq(bytes[total - sizeof complex_row - 1], '\n', "the header ends with a newline");
	cr_assert_eq(
	        hd_npy_write("/nonexistent/a.npy", "<c8", (int64_t[]){4}, 1, complex_row, sizeof complex_row), HD_E_IO);
}
