/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers of recordings: one array through every format, type and order; malformed files, each refused with
 * its reason and in little memory; KiwiSDR's time stamps; pipes; real recordings where they are at hand.
 */
#include <criterion/criterion.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heimdall/features.h"
#include "heimdall/iq.h"

#define ROWS 3
#define SAMPLES 37
#define BYTES_MAX 65536
#define FEATURE_FFT 8
#define FEATURE_MELS 4
#define FEATURE_FRAMES ((SAMPLES + FEATURE_FFT / 2 - 1) / (FEATURE_FFT / 2) + 1)
#define REAL_DATA "../shared/data"
#define MEMORY_MAX_KIB (10 << 10)

static char folder[256];

static void setup(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-readers-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
	(void)info;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown(void)
{
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(readers, .init = setup, .fini = teardown, .timeout = 120);

/* ---- building files ---- */

typedef struct file {
	unsigned char data[BYTES_MAX];
	size_t bytes;
} file;

static void put(file *f, const void *data, size_t bytes)
{
	cr_assert(f->bytes + bytes <= sizeof f->data, "the test's file is too large");
	memcpy(f->data + f->bytes, data, bytes);
	f->bytes += bytes;
}

static void put_text(file *f, const char *text)
{
	put(f, text, strlen(text));
}

/* A whole number of `width` bytes. */
static void put_number(file *f, uint64_t value, size_t width, bool big)
{
	unsigned char bytes[8];
	for (size_t b = 0; b < width; b++)
		bytes[big ? width - 1 - b : b] = (unsigned char)(value >> (8 * b));
	put(f, bytes, width);
}

/* v in the encoding kind: f float, i signed, u unsigned around half of its range. */
static void put_value(file *f, char kind, size_t width, bool big, double v)
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

static void save(char path[512], const char *name, const file *f)
{
	snprintf(path, 512, "%s/%s", folder, name);
	FILE *out = fopen(path, "wb");
	cr_assert(out, "%s", path);
	cr_assert_eq(fwrite(f->data, 1, f->bytes, out), f->bytes);
	cr_assert_eq(fclose(out), 0);
}

/* Magic, version 1, length, dictionary. */
static void put_npy_head(file *f, const char *dictionary)
{
	put(f, "\x93NUMPY\1\0", 8);
	put_number(f, strlen(dictionary), 2, false);
	put_text(f, dictionary);
}

static void put_fmt(file *f, unsigned tag, unsigned channels, unsigned rate, unsigned bits, bool extensible)
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

static void put_chunk(file *f, const char *id, const void *body, size_t bytes)
{
	put(f, id, 4);
	put_number(f, bytes, 4, false);
	put(f, body, bytes);
	if (bytes % 2)
		put(f, "", 1);
}

/* The length in the head of a RIFF file. */
static void close_riff(file *f)
{
	file length = {.bytes = 0};
	put_number(&length, f->bytes - 8, 4, false);
	memcpy(f->data + 4, length.data, 4);
}

/* Component c of sample i in row r, within +-0.95. */
static double component(int r, int i, int c)
{
	return 0.95 * sin(0.37 * ((r * SAMPLES + i) * 2 + c) + r);
}

static double stored(const hd_iq *iq, int64_t at)
{
	switch (iq->dtype) {
	case HD_F32:
		return ((float *)iq->data)[at];
	case HD_F64:
		return ((double *)iq->data)[at];
	case HD_I16:
		return ((int16_t *)iq->data)[at];
	case HD_U8:
		return ((uint8_t *)iq->data)[at] - 127.5;
	default:
		return ((int8_t *)iq->data)[at];
	}
}

/* ---- checks ---- */

static bool same(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

/* Probing says the same as reading. */
static void check_probe(const char *path, hd_raw_format raw, const hd_iq *iq, const hd_iq_info *read)
{
	hd_iq_info p;
	cr_assert_eq(hd_iq_probe(&p, path, raw), HD_OK, "probe: %s", hd_error_text());
	cr_expect(!strcmp(p.format, read->format) && p.rows == read->rows && p.samples == read->samples &&
	                  p.dtype == read->dtype && p.stamps == read->stamps && p.stale_stamps == read->stale_stamps &&
	                  p.gaps == read->gaps,
	        "%s: probe and read differ: %s %lld x %lld, %lld stamps against %s %lld x %lld, %lld stamps", path,
	        p.format, (long long)p.rows, (long long)p.samples, (long long)p.stamps, read->format,
	        (long long)read->rows, (long long)read->samples, (long long)read->stamps);
	cr_expect(same(p.sample_rate_hz, read->sample_rate_hz) && same(p.true_rate_hz, read->true_rate_hz) &&
	                  same(p.frequency_hz, read->frequency_hz) && same(p.start_s, read->start_s) &&
	                  same(p.latitude_deg, read->latitude_deg) && same(p.longitude_deg, read->longitude_deg),
	        "%s: probe and read differ in a rate, frequency, time or place", path);
	cr_expect(iq->rows == read->rows && iq->samples == read->samples && iq->dtype == read->dtype &&
	                  iq->sample_rate_hz == read->sample_rate_hz,
	        "%s: the recording and what is said of it differ", path);
}

/* The array of component(): rows from first_row on, to within half a step of the encoding. */
static void check_array(const hd_iq *iq, const char *what, int first_row, int rows, char kind, size_t width)
{
	double tolerance = kind == 'u' ? 0.5 / 127.5 : kind == 'i' ? ldexp(0.5, 1 - 8 * (int)width) : 0;
	tolerance += width == 8 ? 0 : 0x1p-24; /* rounding to float, of the sample or of the scale */
	cr_assert(iq->rows == rows && iq->samples == SAMPLES, "%s: got %lld rows of %lld", what, (long long)iq->rows,
	        (long long)iq->samples);
	for (int r = 0; r < rows; r++)
		for (int i = 0; i < SAMPLES; i++)
			for (int c = 0; c < 2; c++) {
				double got = (double)iq->scale * stored(iq, (r * SAMPLES + i) * 2 + c);
				double wanted = component(first_row + r, i, c);
				cr_assert(fabs(got - wanted) <= tolerance, "%s: [%d,%d,%d] is %.9g, wanted %.9g +- %g",
				        what, r, i, c, got, wanted, tolerance);
			}
}

static void compute_features(float *db, const hd_iq *iq)
{
	const hd_feature_config config = {.sample_rate_hz = 48000,
	        .n_fft = FEATURE_FFT,
	        .hop_length = FEATURE_FFT / 2,
	        .n_mels = FEATURE_MELS,
	        .frames = 1};
	hd_backend *backend;
	hd_features *plan;
	cr_assert_eq(hd_backend_open(&backend, "cpu", 1), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_features_create(&plan, backend, &config), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_features_frame_count(&config, SAMPLES), FEATURE_FRAMES);
	cr_assert_eq(hd_features_compute(plan, db, iq), HD_OK, "%s", hd_error_text());
	hd_features_free(plan);
	hd_backend_close(backend);
}

/*
 * Features of the array against those of component() itself. The window's weights sum to 1, so a spectral magnitude is
 * off by at most the error of a sample's magnitude, sqrt(2) times the tolerance of a component, and the root of a mel
 * power by that times the root of its filter's weights, of which there are at most FEATURE_FFT / 2 + 1; levels are
 * floats near 1e2.
 */
static void check_features(const hd_iq *iq, const char *what, int rows, char kind, size_t width)
{
	static double exact[4 * SAMPLES * 2];
	static float got[4 * FEATURE_MELS * FEATURE_FRAMES], want[4 * FEATURE_MELS * FEATURE_FRAMES];
	double tolerance = kind == 'u' ? 0.5 / 127.5 : kind == 'i' ? ldexp(0.5, 1 - 8 * (int)width) : 0;
	hd_iq reference = {.rows = rows, .samples = SAMPLES, .dtype = HD_F64, .scale = 1, .data = exact};
	cr_assert(rows <= 4);
	for (int i = 0; i < rows * SAMPLES * 2; i++)
		exact[i] = component(i / 2 / SAMPLES, i / 2 % SAMPLES, i % 2);
	compute_features(got, iq);
	compute_features(want, &reference);
	for (int i = 0; i < rows * FEATURE_MELS * FEATURE_FRAMES; i++) {
		double a = sqrt(fmax(pow(10, (double)got[i] / 10) - 1e-9, 0)),
		       b = sqrt(fmax(pow(10, (double)want[i] / 10) - 1e-9, 0));
		cr_assert(
		        fabs(a - b) <= sqrt(FEATURE_FFT / 2 + 1.0) * M_SQRT2 * (tolerance + 0x1p-23) + 2e-5 * b + 1e-6,
		        "%s: feature %d: %g dB, wanted %g dB", what, i, (double)got[i], (double)want[i]);
	}
}

/* Reads, compares with component() and with the probe, frees. */
static void check_file(const char *path, hd_raw_format raw, int rows, char kind, size_t width, const char *format)
{
	hd_iq iq;
	hd_iq_info info;
	cr_assert_eq(hd_iq_read(&iq, &info, path, raw), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(info.format, format);
	check_array(&iq, path, 0, rows, kind, width);
	check_features(&iq, path, rows, kind, width);
	check_probe(path, raw, &iq, &info);
	hd_iq_free(&iq);
	cr_assert(!iq.data && !iq.rows, "free leaves zeroes");
}

/* ---- one array through every format ---- */

Test(readers, npy_of_every_type_and_order)
{
	static const char *const descr[] = {"<c8", ">c8", "<c16", ">c16", "<f4", ">f4", "<i2", ">i2", "|i1", "|u1"};
	for (size_t d = 0; d < sizeof descr / sizeof *descr; d++)
		for (int rows = 1; rows <= ROWS; rows += ROWS - 1)
			for (int fortran = 0; fortran < 2; fortran++) {
				bool complex_pairs = descr[d][1] == 'c';
				char kind = complex_pairs ? 'f' : descr[d][1];
				size_t width = (size_t)atoi(descr[d] + 2) / (complex_pairs ? 2 : 1);
				char path[512], name[64], head[160], shape[40];
				file f = {.bytes = 0};
				snprintf(shape, sizeof shape, "(%d, %d%s)", rows, SAMPLES, complex_pairs ? "" : ", 2");
				snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': %s, 'shape': %s}\n",
				        descr[d], fortran ? "True" : "False", shape);
				put_npy_head(&f, head);
				for (int at = 0; at < rows * SAMPLES * 2; at++) {
					/* Fortran order: row fastest; the pair is an axis of its own or lies in the
					 * element */
					int c = at % 2, i = at / 2 % SAMPLES, r = at / 2 / SAMPLES;
					if (fortran && complex_pairs)
						r = at / 2 % rows, i = at / 2 / rows;
					else if (fortran)
						r = at % rows, i = at / rows % SAMPLES, c = at / rows / SAMPLES;
					put_value(&f, kind, width, descr[d][0] == '>', component(r, i, c));
				}
				snprintf(name, sizeof name, "%.4s-%d-%d.npy", descr[d] + 1, rows, fortran);
				save(path, name, &f);
				check_file(path, HD_RAW_AUTO, rows, kind, width, "npy");
			}
}

/* head: R RIFF, 6 RF64, 0 RIFF of a recorder that was cut off, S of a stream. */
static void put_wav(file *f, char head, char kind, size_t width, bool extensible, bool chunks, int rows)
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

Test(readers, wav_of_every_type)
{
	static const struct {
		char kind;
		size_t width;
	} types[] = {{'u', 1}, {'i', 2}, {'i', 3}, {'i', 4}, {'f', 4}, {'f', 8}};
	for (size_t t = 0; t < sizeof types / sizeof *types; t++)
		for (const char *head = "R60S"; *head; head++)
			for (int variant = 0; variant < 4; variant++) {
				char path[512], name[64];
				file f = {.bytes = 0};
				put_wav(&f, *head, types[t].kind, types[t].width, variant & 1, variant & 2, 1);
				snprintf(name, sizeof name, "%c%zu-%c-%d.wav", types[t].kind, types[t].width, *head,
				        variant);
				save(path, name, &f);
				check_file(path, HD_RAW_AUTO, 1, types[t].kind, types[t].width, "wav");
				hd_iq_info info;
				cr_assert_eq(hd_iq_probe(&info, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
				cr_assert(info.sample_rate_hz == 48000 && isnan(info.true_rate_hz) && !info.stamps,
				        "%s: rate %g", path, info.sample_rate_hz);
			}
}

Test(readers, wav_24_bit_is_exact)
{
	char path[512];
	file f = {.bytes = 0};
	static const int32_t values[] = {8388607, -8388608, 1, -1, 0, 5592405};
	put_text(&f, "RIFF\0\0\0\0");
	f.bytes = 8;
	put_text(&f, "WAVE");
	put_fmt(&f, 1, 2, 48000, 24, false);
	put_text(&f, "data");
	put_number(&f, 18, 4, false);
	for (int i = 0; i < 6; i++)
		put_number(&f, (uint64_t)values[i], 3, false);
	close_riff(&f);
	save(path, "exact.wav", &f);
	hd_iq iq;
	cr_assert_eq(hd_iq_read(&iq, NULL, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < 6; i++)
		cr_expect_eq(stored(&iq, i) * 8388608, values[i], "%d: %.9g", values[i], stored(&iq, i) * 8388608);
	hd_iq_free(&iq);
}

/* Metadata of core:datatype and more members of global; captures and annotations as text. */
static void save_sigmf(const char *name, const char *global, const char *captures, const char *annotations)
{
	char path[512], text[600];
	file f = {.bytes = 0};
	put_text(&f, "\n{ \"annotations\": [");
	put_text(&f, annotations);
	put_text(&f, "], \"global\": {");
	put_text(&f, global);
	put_text(&f, "},\"captures\" :[ ");
	put_text(&f, captures);
	put_text(&f, "]\n}\n");
	snprintf(text, sizeof text, "%s.sigmf-meta", name);
	save(path, text, &f);
}

Test(readers, sigmf_of_every_type)
{
	static const char *const types[] = {
	        "cf32_le", "cf32_be", "cf64_le", "cf64_be", "ci16_le", "ci16_be", "ci8", "cu8"};
	for (size_t t = 0; t < sizeof types / sizeof *types; t++)
		for (int rows = 1; rows <= ROWS; rows += ROWS - 1)
			for (int header = 0; header < 8; header += 7) {
				char path[512], name[64], text[600], capture[80];
				char kind = types[t][1];
				size_t width = (size_t)atoi(types[t] + 2) / 8;
				file f = {.bytes = 0};
				put(&f, "header!", (size_t)header);
				for (int i = 0; i < SAMPLES; i++)
					for (int r = 0; r < rows; r++)
						for (int c = 0; c < 2; c++)
							put_value(&f, kind, width, strstr(types[t], "_be") != NULL,
							        component(r, i, c));
				put(&f, "tail", header ? 4 : 0);
				snprintf(name, sizeof name, "%s-%d-%d", types[t], rows, header);
				snprintf(text, sizeof text, "%s.sigmf-data", name);
				save(path, text, &f);
				snprintf(text, sizeof text,
				        "\"core:datatype\": \"%s\", \"core:num_channels\": %d, "
				        "\"core:trailing_bytes\": %d",
				        types[t], rows, header ? 4 : 0);
				snprintf(capture, sizeof capture, "{\"core:header_bytes\": %d}", header);
				save_sigmf(name, text, capture, "");
				check_file(path, HD_RAW_AUTO, rows, kind, width, "sigmf");
				memcpy(path + strlen(path) - 4, "meta", 4);
				check_file(path, HD_RAW_AUTO, rows, kind, width, "sigmf");
				path[strlen(path) - strlen(".sigmf-meta")] = 0;
				check_file(path, HD_RAW_AUTO, rows, kind, width, "sigmf");
				cr_expect(hd_iq_exists(path), "%s is there", path);
			}
}

Test(readers, bare_samples)
{
	static const struct {
		const char *name;
		hd_raw_format format;
		char kind;
		size_t width;
	} types[] = {{"cu8", HD_RAW_CU8, 'u', 1}, {"cs8", HD_RAW_CS8, 'i', 1}, {"cs16", HD_RAW_CS16, 'i', 2},
	        {"cf32", HD_RAW_CF32, 'f', 4}};
	for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
		char path[512], name[64];
		file f = {.bytes = 0};
		for (int at = 0; at < SAMPLES * 2; at++)
			put_value(&f, types[t].kind, types[t].width, false, component(0, at / 2, at % 2));
		snprintf(name, sizeof name, "a.192k.%s", types[t].name);
		save(path, name, &f);
		check_file(path, HD_RAW_AUTO, 1, types[t].kind, types[t].width, "raw");
		snprintf(name, sizeof name, "%s.bin", types[t].name);
		save(path, name, &f);
		check_file(path, types[t].format, 1, types[t].kind, types[t].width, "raw");
	}
}

/* ---- what files say of themselves ---- */

Test(readers, sigmf_metadata)
{
	hd_iq_info info;
	char path[512];
	file f = {.bytes = 64};
	save(path, "m.sigmf-data", &f);
	save_sigmf("m", "\"core:datatype\": \"ci8\", \"core:sample_rate\": 2.5e5, \"core:version\": \"1.0.0\"",
	        "{\"core:sample_start\": 0, \"core:frequency\": 145.5e6, \"core:datetime\": "
	        "\"2017-11-27T10:41:56.25Z\"},"
	        "{\"core:sample_start\": 5, \"core:frequency\": 1}",
	        "{\"core:sample_start\": 1, \"core:comment\": \"}],\\\"[{\"},"
	        "{\"core:geolocation\": {\"type\": \"Point\", \"coordinates\": [9.0112, 50.0152, 12]}}, "
	        "{\"core:latitude\": 1, \"core:longitude\": 2}");
	cr_assert_eq(hd_iq_probe(&info, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_expect(info.sample_rate_hz == 250000 && info.frequency_hz == 145.5e6 && info.samples == 32,
	        "rate %g, frequency %g, %lld samples", info.sample_rate_hz, info.frequency_hz, (long long)info.samples);
	cr_expect(info.start_s == 1511779316.25, "start %.3f", info.start_s);
	cr_expect(info.latitude_deg == 50.0152 && info.longitude_deg == 9.0112, "place %g, %g", info.latitude_deg,
	        info.longitude_deg);
	save_sigmf("m",
	        "\"core:datatype\": \"ci8\", \"core:geolocation\": {\"type\": \"Point\", \"coordinates\": [1, 2]}",
	        "{\"core:datetime\": \"2020-08-13T08:52:20+02:00\"}",
	        "{\"core:latitude\": -33.5, \"core:longitude\": 151}");
	cr_assert_eq(hd_iq_probe(&info, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_expect(info.start_s == 1597301540 && info.sample_rate_hz == 0 && isnan(info.frequency_hz),
	        "start %.3f, rate %g, frequency %g", info.start_s, info.sample_rate_hz, info.frequency_hz);
	cr_expect(info.latitude_deg == -33.5 && info.longitude_deg == 151, "place %g, %g", info.latitude_deg,
	        info.longitude_deg);
	save_sigmf("m",
	        "\"core:datatype\": \"ci8\", \"core:geolocation\": {\"type\": \"Point\", \"coordinates\": [1, 2]}",
	        "{\"core:datetime\": \"yesterday\"}", "");
	cr_assert_eq(hd_iq_probe(&info, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_expect(isnan(info.latitude_deg) && isnan(info.start_s), "the receiver's place is none of a transmitter: %g",
	        info.latitude_deg);
}

Test(readers, auxi_chunk)
{
	static const uint16_t start[8] = {2020, 8, 4, 13, 6, 52, 20, 500};
	char path[512];
	hd_iq_info info;
	file f = {.bytes = 0}, auxi = {.bytes = 0};
	for (int i = 0; i < 16; i++)
		put_number(&auxi, start[i % 8], 2, false);
	put_number(&auxi, 145500000, 4, false);
	put_wav(&f, 'R', 'i', 2, false, false, 1);
	put_chunk(&f, "auxi", auxi.data, auxi.bytes);
	close_riff(&f);
	save(path, "auxi.wav", &f);
	cr_assert_eq(hd_iq_probe(&info, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_expect(info.frequency_hz == 145.5e6 && info.start_s == 1597301540.5, "frequency %g, start %.3f",
	        info.frequency_hz, info.start_s);
}

/* KiwiSDR: 8 samples a chunk at true_hz; stamp k is time_of(k) ns after start_ns, modulo the week. */
static void put_kiwi(file *f, int chunks, double true_hz, int64_t start_ns, int64_t (*shift_ns)(int chunk))
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

static int64_t no_shift(int chunk)
{
	(void)chunk;
	return 0;
}

/* Three old stamps, and one that repeats the last of them. */
static int64_t stale_start(int chunk)
{
	return chunk < 3 ? -INT64_C(5000000000) * (3 - chunk) : 0;
}

/* 100 samples lost before chunk 40, 3 before chunk 60 (too few to say), 5 before chunk 70. */
static int64_t lost_samples(int chunk)
{
	return (chunk >= 40 ? 8332639 : 0) + (chunk >= 60 ? 249979 : 0) + (chunk >= 70 ? 416632 : 0);
}

/* Every tenth stamp is wrong: by 300 us, which is less than half a chunk, or by hours. */
static int64_t wrong_stamps(int chunk)
{
	return chunk % 10 != 5 ? 0 : chunk % 20 == 5 ? 300000 : INT64_C(7200000000000);
}

static int64_t frozen_clock(int chunk)
{
	return -llround(8 * chunk / 12001.25 * 1e9);
}

Test(readers, kiwisdr_stamps)
{
	static const struct {
		const char *what;
		int64_t (*shift_ns)(int);
		int chunks;
		int64_t start_ns, stale, gaps;
		double tolerance_hz; /* of the true rate; NaN where none can be told */
	} cases[] = {{"plain", no_shift, 200, 1000000000000, 0, 0, 1e-4},
	        {"week wraps", no_shift, 200, 604799950000000, 0, 0, 1e-4},
	        {"stale start", stale_start, 200, 1000000000000, 3, 0, 1e-4},
	        {"stale start at the week's beginning", stale_start, 200, 604799990000000, 3, 0, 1e-4},
	        {"lost samples", lost_samples, 200, 1000000000000, 0, 2, 50},
	        {"wrong stamps", wrong_stamps, 200, 1000000000000, 0, 0, 1e-4},
	        {"two stamps", no_shift, 2, 1000000000000, 0, 0, 1e-1},
	        {"one stamp", no_shift, 1, 1000000000000, 1, 0, NAN},
	        {"frozen clock", frozen_clock, 50, 1000000000000, 50, 0, NAN}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char path[512];
		hd_iq iq;
		hd_iq_info info;
		file f = {.bytes = 0};
		put_kiwi(&f, cases[i].chunks, 12001.25, cases[i].start_ns, cases[i].shift_ns);
		save(path, "kiwi.wav", &f);
		cr_assert_eq(
		        hd_iq_read(&iq, &info, path, HD_RAW_AUTO), HD_OK, "%s: %s", cases[i].what, hd_error_text());
		cr_expect_str_eq(info.format, "kiwisdr");
		cr_expect(info.stamps == cases[i].chunks && info.stale_stamps == cases[i].stale &&
		                  info.gaps == cases[i].gaps,
		        "%s: %lld stamps, %lld stale, %lld gaps; wanted %d, %lld, %lld", cases[i].what,
		        (long long)info.stamps, (long long)info.stale_stamps, (long long)info.gaps, cases[i].chunks,
		        (long long)cases[i].stale, (long long)cases[i].gaps);
		bool right = isnan(cases[i].tolerance_hz) ? isnan(info.true_rate_hz)
		                                          : fabs(info.true_rate_hz - 12001.25) <= cases[i].tolerance_hz;
		cr_expect(right, "%s: rate %.5f Hz, wanted 12001.25 +- %g", cases[i].what, info.true_rate_hz,
		        cases[i].tolerance_hz);
		for (int k = 0; k < cases[i].chunks; k++)
			cr_assert_eq(((int16_t *)iq.data)[k * 16], k, "%s: chunk %d", cases[i].what, k);
		check_probe(path, HD_RAW_AUTO, &iq, &info);
		hd_iq_free(&iq);
	}
}

/* ---- rows and names ---- */

Test(readers, rows_are_chosen_by_name)
{
	char path[512], name[600], split[4096];
	int64_t row;
	file f = {.bytes = 0};
	put_npy_head(&f, "{'descr': '<c16', 'fortran_order': False, 'shape': (3, 37)}");
	for (int at = 0; at < ROWS * SAMPLES * 2; at++)
		put_value(&f, 'f', 8, false, component(at / 2 / SAMPLES, at / 2 % SAMPLES, at % 2));
	save(path, "rows.npy", &f);
	for (int r = 0; r < ROWS; r++) {
		hd_iq iq;
		hd_iq_info info;
		snprintf(name, sizeof name, "%s#%d", path, r);
		cr_assert_eq(hd_iq_read(&iq, &info, name, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
		check_array(&iq, name, r, 1, 'f', 8);
		check_probe(name, HD_RAW_AUTO, &iq, &info);
		cr_expect(hd_iq_exists(name), "%s is there", name);
		hd_iq_split_row(split, &row, name);
		cr_expect(!strcmp(split, path) && row == r, "%s, row %lld", split, (long long)row);
		hd_iq_free(&iq);
	}
	static const char *const missing[] = {"#3", "#99999999999999999999"};
	for (int i = 0; i < 2; i++) {
		hd_iq iq;
		snprintf(name, sizeof name, "%s%s", path, missing[i]);
		cr_expect_eq(hd_iq_read(&iq, NULL, name, HD_RAW_AUTO), HD_E_DATA, "%s", name);
		cr_expect(strstr(hd_error_text(), "holds 3 rows") && !iq.data, "'%s'", hd_error_text());
	}
	save(name, "rows.npy#1", &f);
	hd_iq_split_row(split, &row, name);
	cr_expect(!strcmp(split, name) && row == -1, "a file of the whole name is meant: %s, row %lld", split,
	        (long long)row);
	snprintf(name, sizeof name, "%s/none.npy#1", folder);
	cr_expect(!hd_iq_exists(name) && hd_iq_exists("-"), "%s is not there", name);
	hd_iq_free(NULL);
}

/* ---- malformed files ---- */

typedef enum base { WAV, RF64, KIWI, NPY, SIGMF, BARE, TEXT } base;

/*
 * A valid file but for one thing. WAV, RF64, KIWI: `bytes` of text put at `at`; NPY: text is the dictionary; SIGMF: the
 * metadata, beside `data` bytes of samples (-1: no such file); BARE: of `data` bytes; TEXT: the file. keep: bytes
 * that are left of it (0: all).
 */
typedef struct malformed {
	const char *what;
	base base;
	const char *text;
	size_t at, bytes;
	int data;
	size_t keep;
	const char *reason; /* what the message has to say */
} malformed;

#define NPY_HEAD(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"
#define META(global) "{\"global\": {" global "}, \"captures\": [], \"annotations\": []}"
#define CI16 "\"core:datatype\": \"ci16_le\""
#define MANY "1099511627776" /* 2^40 */

static const malformed table[] = {
        {"empty", TEXT, "", 0, 0, 0, 0, "empty"},
        {"wrong magic", WAV, "RIFT", 0, 4, 0, 0, "no WAV file"},
        {"big-endian", WAV, "RIFX", 0, 4, 0, 0, "RIFX"},
        {"AVI", WAV, "AVI ", 8, 4, 0, 0, "no WAVE"},
        {"head cut", WAV, "", 0, 0, 0, 11, "truncated"},
        {"head only", WAV, "", 0, 0, 0, 12, "no chunk 'fmt '"},
        {"chunk head cut", WAV, "", 0, 0, 0, 17, "truncated"},
        {"fmt cut", WAV, "", 0, 0, 0, 30, "truncated"},
        {"fmt missing", WAV, "junk", 12, 4, 0, 0, "without a chunk 'fmt '"},
        {"fmt too short", WAV, "\2", 16, 1, 0, 0, "shorter"},
        {"fmt beyond the end", WAV, "\xff\xff\xff\x7f", 16, 4, 0, 0, "truncated"},
        {"data missing", WAV, "junk", 36, 4, 0, 0, "no chunk 'data'"},
        {"data cut", WAV, "", 0, 0, 0, 180, "truncated"},
        {"data beyond the end", WAV, "\0\0\0\x40", 40, 4, 0, 0, "truncated"},
        {"data of one byte too few", WAV, "\x93", 40, 1, 0, 0, "whole number of frames"},
        {"data empty", WAV, "", 0, 0, 0, 44, "truncated"},
        {"mono", WAV, "\1", 22, 1, 0, 0, "mono"},
        {"zero channels", WAV, "\0", 22, 1, 0, 0, "0 channels"},
        {"six channels", WAV, "\6", 22, 1, 0, 0, "6 channels"},
        {"zero rate", WAV, "\0\0\0\0", 24, 4, 0, 0, "0 Hz"},
        {"ADPCM", WAV, "\2", 20, 1, 0, 0, "ADPCM"},
        {"A-law", WAV, "\6", 20, 1, 0, 0, "A-law"},
        {"unknown encoding", WAV, "\x99\x99", 20, 2, 0, 0, "0x9999"},
        {"12 bits", WAV, "\x0c", 34, 1, 0, 0, "12-bit"},
        {"zero bits", WAV, "\0", 34, 1, 0, 0, "0-bit"},
        {"16-bit float", WAV, "\3", 20, 1, 0, 0, "16-bit samples"},
        {"frames of another length", WAV, "\5", 32, 1, 0, 0, "frames of 5 bytes"},
        {"extensible without its rest", WAV, "\xfe\xff", 20, 2, 0, 0, "subtype"},
        {"RF64 without ds64", RF64, "junk", 12, 4, 0, 0, "ds64"},
        {"RF64 with a short ds64", RF64, "\4", 16, 1, 0, 0, "ds64"},
        {"RF64 cut in ds64", RF64, "", 0, 0, 0, 40, "ds64"},
        {"RF64 of 2^40 bytes", RF64, "\0\0\0\0\0\1\0\0", 28, 8, 0, 0, "truncated"},
        {"RF64 of 2^64-1 bytes", RF64, "\xff\xff\xff\xff\xff\xff\xff\xff", 28, 8, 0, 0, "truncated"},
        {"odd kiwi chunk", KIWI, "\x09", 40, 1, 0, 0, "chunk 'kiwi' of 9 bytes"},
        {"long kiwi chunk", KIWI, "\x0c", 40, 1, 0, 0, "chunk 'kiwi' of 12 bytes"},
        {"odd kiwi data", KIWI, "\x1e", 58, 1, 0, 0, "whole number"},
        {"kiwi data cut", KIWI, "", 0, 0, 0, 70, "truncated"},
        {"kiwi without samples", KIWI, "junk", 54, 4, 0, 94, "no chunk 'data'"},
        {"npy magic cut", TEXT, "\x93NUMPY\1", 0, 0, 0, 0, "truncated"},
        {"npy version", TEXT, "\x93NUMPY\x09\1\1\1\1\1", 0, 0, 0, 0, "version 9"},
        {"npy dictionary", NPY, "[1, 2]", 0, 0, 64, 0, "no dictionary"},
        {"npy header cut", NPY, NPY_HEAD("'<c8'", "False", "(8,)"), 0, 0, 64, 30, "truncated"},
        {"npy data cut", NPY, NPY_HEAD("'<c8'", "False", "(8,)"), 0, 0, 63, 0, "truncated"},
        {"npy data trailing", NPY, NPY_HEAD("'<c8'", "False", "(8,)"), 0, 0, 65, 0, "trailing"},
        {"npy negative shape", NPY, NPY_HEAD("'<c8'", "False", "(-8,)"), 0, 0, 64, 0, "other than sizes"},
        {"npy of 2^40 samples", NPY, NPY_HEAD("'<c8'", "False", "(" MANY ",)"), 0, 0, 64, 0, "truncated"},
        {"npy overflow", NPY, NPY_HEAD("'<c16'", "True", "(" MANY ", " MANY ")"), 0, 0, 64, 0, "impossible"},
        {"npy objects", NPY, NPY_HEAD("'|O'", "False", "(8,)"), 0, 0, 64, 0, "dtype '|O'"},
        {"npy real", NPY, NPY_HEAD("'<f4'", "False", "(16,)"), 0, 0, 64, 0, "shape (16)"},
        {"bad JSON", SIGMF, "{\"global\": {" CI16 ",}}", 0, 0, 16, 0, "JSON"},
        {"JSON cut", SIGMF, META(CI16), 0, 0, 16, 40, "JSON"},
        {"JSON with a rest", SIGMF, META(CI16) "}", 0, 0, 16, 0, "JSON"},
        {"JSON list", SIGMF, "[1, 2]", 0, 0, 16, 0, "object"},
        {"JSON string open", SIGMF, "{\"global\": {\"core:datatype\": \"ci16_le}}", 0, 0, 16, 0, "JSON"},
        {"global missing", SIGMF, "{\"captures\": []}", 0, 0, 16, 0, "\"global\""},
        {"global twice", SIGMF, "{\"global\": {" CI16 "}, \"global\": {" CI16 "}}", 0, 0, 16, 0, "second"},
        {"global no object", SIGMF, "{\"global\": 7}", 0, 0, 16, 0, "no object"},
        {"datatype missing", SIGMF, META("\"core:sample_rate\": 1"), 0, 0, 16, 0, "core:datatype is missing"},
        {"datatype unknown", SIGMF, META("\"core:datatype\": \"cu64_le\""), 0, 0, 16, 0, "cu64_le"},
        {"datatype without order", SIGMF, META("\"core:datatype\": \"cf32\""), 0, 0, 16, 0, "'cf32'"},
        {"datatype real", SIGMF, META("\"core:datatype\": \"rf32_le\""), 0, 0, 16, 0, "is real"},
        {"rate negative", SIGMF, META(CI16 ", \"core:sample_rate\": -1"), 0, 0, 16, 0, "sample_rate"},
        {"rate a text", SIGMF, META(CI16 ", \"core:sample_rate\": \"1e6\""), 0, 0, 16, 0, "no number"},
        {"no channels", SIGMF, META(CI16 ", \"core:num_channels\": 0"), 0, 0, 16, 0, "num_channels"},
        {"2^62 channels", SIGMF, META(CI16 ", \"core:num_channels\": 4611686018427387904"), 0, 0, 16, 0, "impossible"},
        {"2^40 channels", SIGMF, META(CI16 ", \"core:num_channels\": " MANY), 0, 0, 16, 0, "whole number of samples"},
        {"size mismatch", SIGMF, META(CI16), 0, 0, 18, 0, "18 bytes"},
        {"samples of no bytes", SIGMF, META(CI16), 0, 0, 0, 0, "no samples"},
        {"samples missing", SIGMF, META(CI16), 0, 0, -1, 0, "missing"},
        {"tail beyond the file", SIGMF, META(CI16 ", \"core:trailing_bytes\": 17"), 0, 0, 16, 0, "trailing_bytes"},
        {"samples elsewhere", SIGMF, META(CI16 ", \"core:dataset\": \"../a\""), 0, 0, 16, 0, "core:dataset"},
        {"header in between", SIGMF, "{\"global\": {" CI16 "}, \"captures\": [{}, {\"core:header_bytes\": 8}]}", 0, 0,
                16, 0, "captures[1]"},
        {"place swapped", SIGMF,
                "{\"global\": {" CI16 "}, \"annotations\": [{\"core:latitude\": 151, "
                "\"core:longitude\": -33}]}",
                0, 0, 16, 0, "latitude"},
        {"archive", TEXT, "some tar", 0, 0, 0, 0, "tar -xf"},
        {"bare, odd size", BARE, "", 0, 0, 33, 0, "whole number"},
        {"bare, unknown ending", BARE, "", 0, 0, 32, 0, "no known format"},
        {"compressed", TEXT, "\x1f\x8b\x08 and more", 0, 0, 0, 0, "compressed"},
};

static void build_malformed(char path[512], const malformed *m)
{
	static const char *const names[] = {"m.wav", "m.wav", "m.wav", "m.npy", "m.sigmf-meta", "m.cs16", "m"};
	const char *name = names[m->base];
	file f = {.bytes = 0};
	static const char zeros[256];
	if (m->base == WAV || m->base == RF64)
		put_wav(&f, m->base == WAV ? 'R' : '6', 'i', 2, false, false, 1);
	else if (m->base == KIWI)
		put_kiwi(&f, 4, 12001.25, 1000000000000, no_shift);
	else if (m->base == NPY)
		put_npy_head(&f, m->text);
	else if (m->base != BARE)
		put_text(&f, m->text);
	if (m->base <= KIWI)
		memcpy(f.data + m->at, m->text, m->bytes);
	if (m->base == NPY || m->base == BARE)
		put(&f, zeros, (size_t)m->data);
	if (m->keep)
		f.bytes = m->keep;
	if (!strcmp(m->reason, "tar -xf"))
		name = "m.sigmf";
	else if (!strcmp(m->reason, "no known format"))
		name = "m.bin";
	if (m->base == SIGMF) {
		file samples = {.bytes = 0};
		put(&samples, zeros, m->data > 0 ? (size_t)m->data : 0);
		save(path, "m.sigmf-data", &samples);
		if (m->data < 0)
			cr_assert_eq(unlink(path), 0);
	}
	save(path, name, &f);
}

typedef struct outcome {
	hd_status read, probe;
	long grown_kib; /* of the peak of resident memory */
	char text[600];
} outcome;

static long peak_kib(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* Reads in a process of its own, whose memory is looked at. */
static outcome read_apart(const char *path, hd_raw_format raw)
{
	outcome o = {.read = HD_E_FAILED};
	int ends[2];
	cr_assert_eq(pipe(ends), 0);
	fflush(NULL);
	pid_t child = fork();
	cr_assert(child >= 0, "fork");
	if (child == 0) {
		hd_iq iq;
		hd_iq_info info;
		long before = peak_kib();
		o.read = hd_iq_read(&iq, &info, path, raw);
		snprintf(o.text, sizeof o.text, "%s", o.read == HD_OK ? "was read" : hd_error_text());
		if (o.read != HD_OK && iq.data)
			snprintf(o.text, sizeof o.text, "data after a failure");
		o.probe = hd_iq_probe(&info, path, raw);
		o.grown_kib = peak_kib() - before;
		_exit(write(ends[1], &o, sizeof o) == sizeof o ? 0 : 1);
	}
	close(ends[1]);
	ssize_t got = read(ends[0], &o, sizeof o);
	close(ends[0]);
	int status = 0;
	waitpid(child, &status, 0);
	cr_assert(got == sizeof o && status == 0, "%s: the reader ended with status 0x%x", path, status);
	return o;
}

static void expect_refused(const outcome *o, const char *what, const char *path, hd_status status, const char *reason)
{
	cr_expect(o->read == status && o->probe == status, "%s: read %d, probe %d, wanted %d: %s", what, (int)o->read,
	        (int)o->probe, (int)status, o->text);
	cr_expect(strstr(o->text, reason), "%s: '%s' does not say '%s'", what, o->text, reason);
	cr_expect(!strncmp(o->text, path, strlen(path)), "%s: '%s' does not name the file", what, o->text);
	cr_expect(o->grown_kib < MEMORY_MAX_KIB, "%s: %ld KiB of memory", what, o->grown_kib);
}

Test(readers, malformed_files_are_refused_with_their_reason)
{
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		char path[512];
		build_malformed(path, &table[i]);
		outcome o = read_apart(path, HD_RAW_AUTO);
		expect_refused(&o, table[i].what, path, HD_E_DATA, table[i].reason);
		/* a format for bare samples is no reason to take a damaged file for one, but where nothing is known of
		 * it */
		if (strcmp(table[i].reason, "no known format") != 0 && strcmp(table[i].reason, "compressed") != 0) {
			o = read_apart(path, HD_RAW_CS16);
			expect_refused(&o, table[i].what, path, HD_E_DATA, table[i].reason);
		}
	}
}

Test(readers, missing_files)
{
	static const char *const names[] = {
	        "none.wav", "none.npy#3", "none.sigmf-meta", "none.sigmf-data", "none", "."};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char path[512];
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		outcome o = read_apart(path, HD_RAW_CU8);
		path[strcspn(path, "#")] = 0;
		expect_refused(&o, names[i], path, HD_E_IO, i == 5 ? "not a regular file" : "cannot open");
	}
}

/* Large files that are wrong at their very end. */
Test(readers, large_malformed_files_cost_little_memory)
{
	char path[512];
	file head = {.bytes = 0}, chunk = {.bytes = 0};
	put_text(&head, "RIFF\xff\xff\xff\xff"
	                "WAVE");
	put_fmt(&head, 1, 2, 12001, 16, false);
	put_chunk(&chunk, "kiwi", "0123456789", 10);
	put_text(&chunk, "data");
	put_number(&chunk, 2048, 4, false);
	save(path, "large.wav", &head);
	FILE *out = fopen(path, "ab");
	cr_assert(out);
	for (int k = 0; k < 32000; k++) {
		static const char samples[2048];
		fwrite(chunk.data, 1, chunk.bytes, out);
		fwrite(samples, 1, k < 31999 ? sizeof samples : 100, out);
	}
	cr_assert_eq(fclose(out), 0);
	outcome o = read_apart(path, HD_RAW_AUTO);
	expect_refused(&o, "66 MB of KiwiSDR", path, HD_E_DATA, "truncated");

	snprintf(path, sizeof path, "%s/large.sigmf-meta", folder);
	out = fopen(path, "wb");
	cr_assert(out);
	fputs("{\"global\": {\"core:datatype\": \"cu8\"}, \"annotations\": [{}", out);
	for (int k = 0; k < 400000; k++)
		fputs(",\n{\"core:sample_start\": 1, \"core:label\": \"x\"}", out);
	fputs("], \"captures\": [", out);
	cr_assert_eq(fclose(out), 0);
	o = read_apart(path, HD_RAW_AUTO);
	expect_refused(&o, "18 MB of annotations", path, HD_E_DATA, "JSON");

	out = fopen(path, "wb");
	cr_assert(out);
	fputs("{\"global\": {\"x\": [0", out);
	for (int k = 0; k < 8000000; k++)
		fputs(",0", out);
	cr_assert_eq(fclose(out), 0);
	o = read_apart(path, HD_RAW_AUTO);
	expect_refused(&o, "16 MB of one item", path, HD_E_DATA, "128 KiB");
}

/* ---- pipes ---- */

/* hd_iq_read of "-" with f on standard input, in pieces of odd lengths. */
static hd_status read_piped(hd_iq *iq, hd_iq_info *info, const char *path, const file *f, hd_raw_format raw)
{
	int ends[2], kept = dup(STDIN_FILENO);
	cr_assert_eq(pipe(ends), 0);
	fflush(NULL);
	pid_t child = fork();
	cr_assert(child >= 0, "fork");
	if (child == 0) {
		close(ends[0]);
		for (size_t at = 0; at < f->bytes;) {
			size_t piece = f->bytes - at < 37 ? f->bytes - at : 37;
			if (write(ends[1], f->data + at, piece) != (ssize_t)piece)
				_exit(1);
			at += piece;
		}
		_exit(0);
	}
	close(ends[1]);
	dup2(ends[0], STDIN_FILENO);
	close(ends[0]);
	hd_status st = hd_iq_read(iq, info, path, raw);
	if (kept >= 0) {
		dup2(kept, STDIN_FILENO);
		close(kept);
	} else {
		close(STDIN_FILENO);
	}
	waitpid(child, NULL, 0);
	return st;
}

Test(readers, standard_input)
{
	hd_iq iq;
	hd_iq_info info;
	for (const char *head = "R60S"; *head; head++) {
		file f = {.bytes = 0};
		put_wav(&f, *head, 'i', 2, false, *head == 'R', 1);
		put(&f, "x", *head != 'R'); /* a cut sample */
		cr_assert_eq(read_piped(&iq, &info, "-", &f, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
		check_array(&iq, "WAV from a pipe", 0, 1, 'i', 2);
		cr_expect(!strcmp(info.format, "wav") && iq.sample_rate_hz == 48000, "%s, %g Hz", info.format,
		        iq.sample_rate_hz);
		hd_iq_free(&iq);
	}
	file npy = {.bytes = 0}, cu8 = {.bytes = 0}, nothing = {.bytes = 0}, meta = {.bytes = 0};
	put_npy_head(&npy, "{'descr': '|i1', 'fortran_order': False, 'shape': (3, 37, 2)}");
	for (int at = 0; at < ROWS * SAMPLES * 2; at++)
		put_value(&npy, 'i', 1, false, component(at / 2 / SAMPLES, at / 2 % SAMPLES, at % 2));
	cr_assert_eq(read_piped(&iq, &info, "-", &npy, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	check_array(&iq, "npy from a pipe", 0, ROWS, 'i', 1);
	hd_iq_free(&iq);
	cr_assert_eq(read_piped(&iq, &info, "-#1", &npy, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	check_array(&iq, "row 1 from a pipe", 1, 1, 'i', 1);
	hd_iq_free(&iq);
	for (int at = 0; at < SAMPLES * 2; at++)
		put_value(&cu8, 'u', 1, false, component(0, at / 2, at % 2));
	put(&cu8, "x", 1); /* half a sample is dropped */
	cr_assert_eq(read_piped(&iq, &info, "-", &cu8, HD_RAW_CU8), HD_OK, "%s", hd_error_text());
	check_array(&iq, "cu8 from a pipe", 0, 1, 'u', 1);
	cr_expect_str_eq(info.format, "raw");
	hd_iq_free(&iq);

	static const char *const reasons[] = {"is empty", "--iq_format", "name the file", "truncated"};
	put_text(&meta, META(CI16));
	npy.bytes -= 3;
	const file *const refused[] = {&nothing, &cu8, &meta, &npy};
	for (int i = 0; i < 4; i++) {
		cr_expect_eq(read_piped(&iq, &info, "-", refused[i], HD_RAW_AUTO), HD_E_DATA, "%s", reasons[i]);
		cr_expect(strstr(hd_error_text(), reasons[i]) && !strncmp(hd_error_text(), "standard input", 14),
		        "'%s' does not say '%s'", hd_error_text(), reasons[i]);
	}
	cr_expect_eq(hd_iq_probe(&info, "-", HD_RAW_CU8), HD_E_USAGE, "a pipe is not probed");
}

/* ---- real recordings ---- */

Test(readers, real_kiwisdr_recordings)
{
	static const struct {
		const char *name;
		int64_t samples, stamps, stale;
		double rate_hz; /* least squares in rational numbers over the stamps behind the stale ones */
	} files[] = {{"2017-rx1", 351744, 687, 1, 12001.145}, {"2017-rx2", 348160, 680, 1, 12001.202},
	        {"2017-rx3", 353792, 691, 1, 12001.132}, {"2020-rx1", 360960, 705, 2, 12001.084},
	        {"2020-rx2", 354816, 693, 1, 12001.026}, {"2020-rx3", 356352, 696, 1, 12001.086}};
	if (access(REAL_DATA "/dcf77", R_OK) != 0)
		cr_skip_test("no real recordings at " REAL_DATA "/dcf77");
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char path[512];
		hd_iq iq;
		hd_iq_info info;
		snprintf(path, sizeof path, REAL_DATA "/dcf77/%s.wav", files[i].name);
		cr_assert_eq(hd_iq_read(&iq, &info, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
		cr_expect(!strcmp(info.format, "kiwisdr") && iq.rows == 1 && iq.samples == files[i].samples &&
		                  iq.dtype == HD_I16 && iq.sample_rate_hz == 12001,
		        "%s: %s, %lld samples at %g Hz", path, info.format, (long long)iq.samples, iq.sample_rate_hz);
		cr_expect(info.stamps == files[i].stamps && info.stale_stamps == files[i].stale && info.gaps == 0,
		        "%s: %lld stamps, %lld stale, %lld gaps", path, (long long)info.stamps,
		        (long long)info.stale_stamps, (long long)info.gaps);
		cr_expect(fabs(info.true_rate_hz - files[i].rate_hz) < 1e-3, "%s: %.5f Hz, wanted %.3f", path,
		        info.true_rate_hz, files[i].rate_hz);
		check_probe(path, HD_RAW_AUTO, &iq, &info);
		hd_iq_free(&iq);
	}
}

Test(readers, real_wide_band_capture)
{
	const char *path = REAL_DATA "/adsb/modes1.bin";
	hd_iq iq;
	hd_iq_info info;
	double power = 0;
	if (access(path, R_OK) != 0)
		cr_skip_test("no real recording at %s", path);
	cr_assert_eq(hd_iq_read(&iq, &info, path, HD_RAW_CU8), HD_OK, "%s", hd_error_text());
	cr_expect(iq.samples == 356868 && iq.dtype == HD_U8 && !strcmp(info.format, "raw"), "%lld samples",
	        (long long)iq.samples);
	for (int64_t at = 0; at < iq.samples * 2; at++)
		power += pow((double)iq.scale * stored(&iq, at), 2) / (double)iq.samples;
	cr_expect(power > 1e-5 && power < 1, "bursts of %g of full scale", power);
	check_probe(path, HD_RAW_CU8, &iq, &info);
	hd_iq_free(&iq);
}
