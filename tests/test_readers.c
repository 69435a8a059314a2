/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers of recordings: one array through every format, type and order; KiwiSDR's time stamps; pipes; real
 * recordings where they are at hand.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "heimdall/features.h"
#include "heimdall/iq.h"
#include "tests/recording_files.h"

#define FEATURE_FFT 8
#define FEATURE_MELS 4
#define FEATURE_FRAMES ((SAMPLES + FEATURE_FFT / 2 - 1) / (FEATURE_FFT / 2) + 1)
#define REAL_DATA "../shared/data"

TestSuite(readers, .init = setup, .fini = teardown, .timeout = 120);

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
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 1), HD_OK, "%s", hd_error_text());
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
