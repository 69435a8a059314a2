/* SPDX-License-Identifier: Apache-2.0 */
/* What is found on recordings: each finding has one that shows it and a near miss that does not. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/health.h"
#include "host/cli/catalog_check.h"
#include "host/signal/random.h"

#define REAL_DATA "../shared/data"
#define RATE 48000.0
#define N 48000
#define NONE HD_FINDING_COUNT

/* FM-like carrier of a given level over noise, in float. */
static float *healthy(double level_db, double noise_db, uint64_t seed)
{
	hd_random random = hd_random_start(seed, 0);
	float *iq = malloc(2 * N * sizeof *iq);
	double phase = 0, amplitude = pow(10, level_db / 20), noise = pow(10, noise_db / 20) * M_SQRT1_2;
	cr_assert_not_null(iq);
	for (int i = 0; i < N; i++) {
		double a, b;
		hd_random_normals(&random, &a, &b);
		phase += 2 * M_PI * (1500 + 2500 * sin(2 * M_PI * 300 * i / RATE)) / RATE;
		iq[2 * i] = (float)(amplitude * cos(phase) + noise * a);
		iq[2 * i + 1] = (float)(amplitude * sin(phase) + noise * b);
	}
	return iq;
}

static hd_iq view(float *iq)
{
	return (hd_iq){.rows = 1, .samples = N, .dtype = HD_F32, .scale = 1, .sample_rate_hz = RATE, .data = iq};
}

static hd_iq_info info_of(const hd_iq *iq)
{
	return (hd_iq_info){.format = "npy",
	        .rows = 1,
	        .samples = iq->samples,
	        .dtype = iq->dtype,
	        .sample_rate_hz = iq->sample_rate_hz,
	        .true_rate_hz = NAN,
	        .frequency_hz = NAN,
	        .start_s = NAN,
	        .latitude_deg = NAN,
	        .longitude_deg = NAN};
}

static hd_notes judge(const hd_iq *iq, hd_health *health)
{
	hd_notes notes = {0};
	hd_iq_info info = info_of(iq);
	const hd_expectation expected = {.configured_rate_hz = RATE, .input_samples = 4096};
	cr_assert_eq(hd_health_measure(health, iq, 0, RATE), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_health_judge(&notes, health, &info, &expected), HD_OK, "%s", hd_error_text());
	return notes;
}

/* Exactly the findings of a list that ends with HD_FINDING_COUNT. */
static void expect_found(const char *what, const hd_notes *notes, const hd_finding *wanted)
{
	bool want[HD_FINDING_COUNT] = {false};
	for (; *wanted != HD_FINDING_COUNT; wanted++)
		want[*wanted] = true;
	for (int k = 0; k < HD_FINDING_COUNT; k++)
		cr_expect_eq(hd_notes_has(notes, (hd_finding)k), want[k], "%s: %s is %sfound", what,
		        hd_finding_name((hd_finding)k), want[k] ? "not " : "");
}

/* ---- one recording ---- */

static void as_it_is(float *iq, double amount)
{
	(void)iq;
	(void)amount;
}

static void clip(float *iq, double amount)
{
	for (int i = 0; i < 2 * N; i++)
		iq[i] = fminf(fmaxf(iq[i], (float)-amount), (float)amount);
}

static void silence(float *iq, double amount)
{
	memset(iq, 0, (size_t)(2 * N * amount) * sizeof *iq);
}

static void add_dc(float *iq, double amount)
{
	for (int i = 0; i < N; i++)
		iq[2 * i] += (float)amount;
}

static void gain_of_i(float *iq, double amount)
{
	for (int i = 0; i < N; i++)
		iq[2 * i] *= (float)amount;
}

static void jump(float *iq, double amount)
{
	for (int i = N; i < 2 * N; i++)
		iq[i] *= (float)amount;
}

/* On and off every 50 ms, noise too. */
static void bursts(float *iq, double amount)
{
	for (int i = 0; i < 2 * N; i++)
		iq[i] *= i / 4800 % 2 ? (float)amount : 1;
}

/* Up at 0.4 s, with a pause from 0.7 to 0.8 s: louder on the whole, but more than one step. */
static void up_with_a_pause(float *iq, double amount)
{
	for (int i = 0; i < 2 * N; i++) {
		int tenth = 10 * (i / 2) / N;
		iq[i] *= tenth >= 4 && tenth != 7 ? (float)amount : 1;
	}
}

static void break_value(float *iq, double amount)
{
	iq[777] = (float)amount;
}

static void all_the_same(float *iq, double amount)
{
	for (int i = 0; i < 2 * N; i++)
		iq[i] = (float)amount;
}

static void scale(float *iq, double amount)
{
	for (int i = 0; i < 2 * N; i++)
		iq[i] *= (float)amount;
}

/* The transmitter is keyed once: the signal is there in the second half only, the noise throughout. */
static void key_up(float *iq, double amount)
{
	hd_random random = hd_random_start(9, 0);
	for (int i = 0; i < N; i++) {
		double a, b;
		hd_random_normals(&random, &a, &b);
		if (i < N / 2) {
			iq[2 * i] = (float)(amount * a);
			iq[2 * i + 1] = (float)(amount * b);
		}
	}
}

/* A carrier without noise, of 16 bits: it rests at its extremes for several samples. */
static void bare_carrier(float *iq, double amount)
{
	for (int i = 0; i < N; i++) {
		iq[2 * i] = (float)(round(amount * cos(2 * M_PI * i / 4800.0)) / 32768);
		iq[2 * i + 1] = (float)(round(amount * sin(2 * M_PI * i / 4800.0)) / 32768);
	}
}

Test(health, findings_and_near_misses)
{
	static const struct {
		const char *what;
		void (*change)(float *iq, double amount);
		double amount;
		hd_finding found[3];
	} cases[] = {
	        {"healthy", as_it_is, 0, {NONE}},
	        {"clipped", clip, 0.09, {HD_FOUND_CLIPPED, NONE}},
	        {"hardly clipped", clip, 0.13, {NONE}},
	        {"silent for 60 %", silence, 0.6, {HD_FOUND_SILENT, NONE}},
	        {"a lost buffer of 10 ms", silence, 0.01, {HD_FOUND_DROPOUT, NONE}},
	        {"1 ms of zeros", silence, 0.001, {NONE}},
	        {"DC as strong as the signal", add_dc, 0.1, {HD_FOUND_DC_SPIKE, NONE}},
	        {"DC of a hundredth", add_dc, 0.01, {NONE}},
	        {"I 2 dB over Q", gain_of_i, 1.26, {HD_FOUND_IQ_IMBALANCE, NONE}},
	        {"I 0.5 dB over Q", gain_of_i, 1.06, {NONE}},
	        {"I alone", gain_of_i, 1e4, {HD_FOUND_ONE_CHANNEL, HD_FOUND_OVER_SCALE, NONE}},
	        {"gain up by 26 dB", jump, 20, {HD_FOUND_LEVEL_JUMP, NONE}},
	        {"gain up by 14 dB", jump, 5, {NONE}},
	        {"bursts of 30 dB", bursts, 30, {NONE}},
	        {"up with a pause", up_with_a_pause, 20, {NONE}},
	        {"dead from half way on", jump, 0, {HD_FOUND_LEVEL_JUMP, HD_FOUND_DROPOUT, NONE}},
	        {"keyed once, 30 dB over the noise", key_up, 0.00224, {NONE}},
	        {"carrier without noise", bare_carrier, 20000, {NONE}},
	        {"-90 dBFS", scale, 3e-4, {HD_FOUND_SILENT, NONE}},
	        {"-83 dBFS", scale, 7e-4, {HD_FOUND_FAINT, NONE}},
	        {"-77 dBFS", scale, 1.4e-3, {NONE}},
	        {"NaN", break_value, NAN, {HD_FOUND_NON_FINITE, NONE}},
	        {"infinity", break_value, -INFINITY, {HD_FOUND_NON_FINITE, NONE}},
	        {"one value", all_the_same, 0.25, {HD_FOUND_CONSTANT, NONE}},
	        {"zeros", all_the_same, 0, {HD_FOUND_CONSTANT, NONE}},
	        {"microvolts", scale, 1000, {HD_FOUND_OVER_SCALE, NONE}},
	        {"up to 3 of full scale", scale, 30, {NONE}},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		float *data = healthy(-20, -50, 1);
		hd_iq iq = view(data);
		hd_health health;
		cases[i].change(data, cases[i].amount);
		hd_notes notes = judge(&iq, &health);
		expect_found(cases[i].what, &notes, cases[i].found);
		if (cases[i].found[0] == HD_FOUND_LEVEL_JUMP)
			cr_expect(llabs(health.jump_sample - N / 2) <= health.block, "%s: at %lld of %d", cases[i].what,
			        (long long)health.jump_sample, N);
		hd_notes_free(&notes);
		free(data);
	}
}

/* Level, imbalance and DC of a known signal, within what a second of noise leaves. */
Test(health, measures_what_is_there)
{
	float *data = healthy(-20, -60, 2);
	hd_iq iq = view(data);
	hd_health h;
	for (int i = 0; i < N; i++) {
		/* Q leans by 3 degrees towards I and is 0.5 dB weaker */
		double lean = 3 * M_PI / 180;
		data[2 * i + 1] =
		        (float)(0.944 * ((double)data[2 * i + 1] * cos(lean) + (double)data[2 * i] * sin(lean)));
	}
	cr_assert_eq(hd_health_measure(&h, &iq, 0, RATE), HD_OK);
	cr_expect(fabs(h.level_dbfs + 20.24) < 0.1, "level %.3f dBFS", h.level_dbfs);
	cr_expect(fabs(h.gain_imbalance_db - 0.5) < 0.1, "gain %.3f dB", h.gain_imbalance_db);
	cr_expect(fabs(fabs(h.phase_error_deg) - 3) < 0.2, "phase %.3f degrees", h.phase_error_deg);
	cr_expect(h.duration_s == 1 && h.block == 480 && h.zero_share == 0 && h.clipped_share == 0);
	free(data);
}

Test(health, integers_are_clipped_at_their_ends)
{
	static int16_t full[2 * N], below[2 * N];
	hd_health h;
	for (int i = 0; i < 2 * N; i++) {
		double v = 40000 * sin(0.1 * i + 1e-5 * i * i);
		full[i] = (int16_t)fmax(fmin(v, 32767), -32768);
		below[i] = (int16_t)(v * 0.8);
	}
	hd_iq iq = {.rows = 1, .samples = N, .dtype = HD_I16, .scale = 1.0f / 32768, .data = full};
	cr_assert_eq(hd_health_measure(&h, &iq, 0, 0), HD_OK);
	cr_expect(h.clipped_share > 0.2, "%g", h.clipped_share);
	iq.data = below;
	cr_assert_eq(hd_health_measure(&h, &iq, 0, 0), HD_OK);
	cr_expect(h.clipped_share == 0, "%g", h.clipped_share);
}

Test(health, rates_and_lengths_are_held_against_what_is_expected)
{
	float *data = healthy(-20, -50, 3);
	hd_iq iq = view(data);
	hd_iq_info info = info_of(&iq);
	hd_health health;
	hd_notes notes = {0};
	cr_assert_eq(hd_health_measure(&health, &iq, 0, RATE), HD_OK);
	info.true_rate_hz = RATE * (1 + 12e-6);
	info.stamps = 90;
	info.stale_stamps = 2;
	hd_expectation expected = {.catalog_rate_hz = 44100, .configured_rate_hz = 192000, .input_samples = N + 1};
	cr_assert_eq(hd_health_judge(&notes, &health, &info, &expected), HD_OK);
	expect_found("another rate", &notes,
	        (const hd_finding[]){HD_FOUND_RATE_CONFLICT, HD_FOUND_RATE_OTHER, HD_FOUND_TRUE_RATE,
	                HD_FOUND_STALE_STAMPS, HD_FOUND_SHORT, HD_FINDING_COUNT});
	hd_notes_free(&notes);
	info = info_of(&iq);
	expected = (hd_expectation){.configured_rate_hz = 192000, .resample = true, .input_samples = 4 * N};
	cr_assert_eq(hd_health_judge(&notes, &health, &info, &expected), HD_OK);
	expect_found("resampled to just long enough", &notes, (const hd_finding[]){HD_FINDING_COUNT});
	hd_notes_free(&notes);
	free(data);
}

Test(health, time_stamps_and_missing_receivers)
{
	float *data = healthy(-20, -50, 4);
	hd_iq iq = view(data);
	hd_iq_info info = info_of(&iq);
	hd_health health;
	hd_notes notes = {0};
	hd_expectation expected = {.configured_rate_hz = RATE};
	cr_assert_eq(hd_health_measure(&health, &iq, 0, RATE), HD_OK);
	info.true_rate_hz = RATE * (1 + 150e-6);
	info.gaps = 1;
	cr_assert_eq(hd_health_judge(&notes, &health, &info, &expected), HD_OK);
	expect_found("150 ppm and a gap", &notes, (const hd_finding[]){HD_FOUND_TRUE_RATE_FAR, HD_FOUND_GAPS, NONE});
	hd_notes_free(&notes);
	info = info_of(&iq);
	info.true_rate_hz = RATE * (1 + 0.5e-6);
	cr_assert_eq(hd_health_judge(&notes, &health, &info, &expected), HD_OK);
	expect_found("half a ppm", &notes, (const hd_finding[]){NONE});
	hd_notes_free(&notes);
	info.true_rate_hz = NAN;
	info.sample_rate_hz = 0;
	cr_assert_eq(hd_health_judge(&notes, &health, &info, &expected), HD_OK);
	expect_found("no rate", &notes, (const hd_finding[]){HD_FOUND_RATE_MISSING, NONE});
	hd_notes_free(&notes);
	info = info_of(&iq);
	memset(data, 0, 2 * N * sizeof *data);
	expected.zeros_are_missing = true;
	cr_assert_eq(hd_health_measure(&health, &iq, 0, RATE), HD_OK);
	cr_assert_eq(hd_health_judge(&notes, &health, &info, &expected), HD_OK);
	expect_found("zeros for a receiver", &notes, (const hd_finding[]){HD_FOUND_RECEIVER_MISSING, NONE});
	hd_notes_free(&notes);
	free(data);
}

/* The rows of a file have nothing to do with each other, and their content tells them apart. */
Test(health, rows_are_measured_by_themselves)
{
	float *data = healthy(-20, -50, 5), *second = healthy(-40, -70, 6);
	float *both = malloc(4 * N * sizeof *both);
	cr_assert_not_null(both);
	memcpy(both, data, 2 * N * sizeof *both);
	memcpy(both + 2 * N, second, 2 * N * sizeof *both);
	hd_iq one = view(second), two = view(both);
	two.rows = 2;
	hd_health a, b, first;
	cr_assert_eq(hd_health_measure(&a, &one, 0, RATE), HD_OK);
	cr_assert_eq(hd_health_measure(&b, &two, 1, RATE), HD_OK);
	cr_assert_eq(hd_health_measure(&first, &two, 0, RATE), HD_OK);
	cr_expect(a.level_dbfs == b.level_dbfs && a.hash == b.hash && a.hash != first.hash, "%g and %g dBFS",
	        a.level_dbfs, b.level_dbfs);
	cr_expect_eq(hd_health_measure(&b, &two, 2, RATE), HD_E_USAGE, "a row that is not there");
	free(both);
	free(second);
	free(data);
}

/* ---- the command ---- */

static char folder[256];

static void path_of(char path[512], const char *name)
{
	snprintf(path, 512, "%s/%s", folder, name);
}

static void write_recording(const char *name, const float *iq, int64_t rows)
{
	char path[512];
	const int64_t shape[] = {rows, N / rows};
	path_of(path, name);
	cr_assert_eq(hd_npy_write(path, "<c8", shape, 2, iq, 2 * N * sizeof *iq), HD_OK, "%s", hd_error_text());
}

static void make_catalog(bool sick)
{
	const char *base = getenv("TMPDIR");
	char path[512];
	snprintf(folder, sizeof folder, "%s/heimdall-health-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
	path_of(path, "manifest.csv");
	FILE *f = fopen(path, "w");
	cr_assert_not_null(f);
	fprintf(f, "session,receiver,iq,latitude,longitude,sample_rate,timestamp,approved\n");
	for (int i = 0; i < 4; i++) {
		char name[32];
		float *data = healthy(-20, -50, 10 + (uint64_t)i);
		snprintf(name, sizeof name, "r%d.npy", i);
		if (sick && i == 1)
			clip(data, 0.05);
		write_recording(name, data, sick && i == 2 ? 2 : 1);
		free(data);
		if (sick && i == 3) {
			path_of(path, name);
			unlink(path);
		}
		fprintf(f, "s%d,1,%s,45,7.%d,48000,2024-01-0%dT00:00:00Z,true\n", i, name, i, i + 1);
	}
	fprintf(f, "s5,1,missing.npy,45,7,48000,2024-01-05,false\n");
	fclose(f);
}

static void remove_catalog(void)
{
	static const char *const files[] = {"r0.npy", "r1.npy", "r2.npy", "r3.npy", "manifest.csv", "c.json",
	        "out/r1.npy.png", "out/check.png", "out"};
	char path[512];
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		path_of(path, files[i]);
		remove(path);
	}
	cr_expect_eq(rmdir(folder), 0, "files are left in %s", folder);
}

static hd_status check_folder(bool pictures)
{
	hd_settings s;
	char json[512], out[512];
	const char *paths[] = {folder};
	path_of(json, "c.json");
	path_of(out, "out");
	cr_assert_eq(hd_settings_init(&s), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "sample_rate", "48000", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "json", json, "test"), HD_OK);
	if (pictures)
		cr_assert_eq(hd_settings_set(&s, "out", out, "test"), HD_OK);
	hd_status st = hd_catalog_check(&s, paths, 1);
	hd_settings_free(&s);
	return st;
}

static int count_in_json(const char *finding)
{
	char path[512];
	json_error_t error;
	path_of(path, "c.json");
	json_t *all = json_load_file(path, 0, &error);
	cr_assert_not_null(all, "%s: %s", path, error.text);
	int n = (int)json_integer_value(json_object_get(json_object_get(all, "findings"), finding));
	json_decref(all);
	return n;
}

static bool is_png(const char *name)
{
	static const unsigned char magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
	unsigned char head[8] = {0};
	char path[512];
	path_of(path, name);
	FILE *f = fopen(path, "rb");
	bool is = f && fread(head, 1, 8, f) == 8 && !memcmp(head, magic, 8);
	if (f)
		fclose(f);
	return is;
}

Test(health, command_on_a_healthy_catalogue)
{
	make_catalog(false);
	cr_expect_eq(check_folder(false), HD_OK, "%s", hd_error_text());
	for (int f = 0; f < HD_FINDING_COUNT; f++) {
		char name[64] = "";
		for (int i = 0; hd_finding_name((hd_finding)f)[i] && i < 63; i++)
			name[i] = (char)tolower(hd_finding_name((hd_finding)f)[i]);
		cr_expect_eq(count_in_json(name), 0, "%s: %d", name, count_in_json(name));
	}
	remove_catalog();
}

Test(health, command_on_a_sick_catalogue)
{
	make_catalog(true);
	cr_expect_eq(check_folder(true), HD_E_DATA);
	cr_expect(!strcmp(hd_error_text(), "3 of 4 recordings are sick"), "got '%s'", hd_error_text());
	static const char *const found[] = {"clipped", "rows", "unreadable"};
	for (size_t i = 0; i < sizeof found / sizeof *found; i++)
		cr_expect_eq(count_in_json(found[i]), 1, "%s: %d", found[i], count_in_json(found[i]));
	cr_expect_eq(count_in_json("time_missing"), 0);
	cr_expect(is_png("out/r1.npy.png") && is_png("out/check.png"), "pictures");
	cr_expect(!is_png("out/r0.npy.png"), "a picture of what is in order");
	remove_catalog();
}

/* ---- beside the others ---- */

enum { MEMBERS = 24 };
static hd_recording recordings[MEMBERS];
static hd_checked checked[MEMBERS];
static char names[MEMBERS][16];

/* Eight emissions around Turin, three receivers each; one second, an hour apart. */
static void make_members(void)
{
	for (int i = 0; i < MEMBERS; i++) {
		static char receivers[3][4] = {"1", "2", "10"};
		snprintf(names[i], sizeof names[i], "s%d", i / 3);
		recordings[i] = (hd_recording){.session = names[i],
		        .emission = names[i],
		        .receiver = receivers[i % 3],
		        .latitude_deg = 45 + 0.01 * (i / 3),
		        .longitude_deg = 7.5 + 0.02 * (i / 3),
		        .timestamp_s = 1.7e9 + 3600.0 * (i / 3)};
		checked[i] = (hd_checked){.recording = &recordings[i], .name = names[i], .read = true};
		checked[i].health = (hd_health){.samples = N,
		        .rate_hz = RATE,
		        .duration_s = 1,
		        .level_dbfs = -30 - i % 3,
		        .hash = 1000 + (uint64_t)i};
		checked[i].info.start_s = NAN;
	}
}

static void free_members(void)
{
	for (int i = 0; i < MEMBERS; i++)
		hd_notes_free(&checked[i].notes);
}

Test(health, comparison_with_the_others)
{
	make_members();
	cr_assert_eq(hd_health_compare(checked, MEMBERS, 1.8e9), HD_OK);
	for (int i = 0; i < MEMBERS; i++)
		cr_expect_eq(checked[i].notes.count, 0, "member %d: %s", i,
		        checked[i].notes.count ? checked[i].notes.list[0].text : "");
	recordings[0].latitude_deg = NAN;
	recordings[3].latitude_deg = recordings[3].longitude_deg = 0;
	recordings[6].latitude_deg = 7.54;
	recordings[6].longitude_deg = 45.02;
	recordings[9].longitude_deg = 12; /* 350 km east */
	recordings[12].latitude_deg = 91;
	recordings[15].latitude_deg += 0.001; /* 110 m from the two others of its emission */
	recordings[18].timestamp_s = 1.8e9 + 3 * 86400;
	recordings[19].timestamp_s = NAN;
	checked[21].health.hash = checked[22].health.hash;
	checked[23].health.samples = N / 2;
	checked[23].health.duration_s = 0.5;
	free_members();
	cr_assert_eq(hd_health_compare(checked, MEMBERS, 1.8e9), HD_OK);
	static const struct {
		int member;
		hd_finding found;
	} wanted[] = {{0, HD_FOUND_POSITION_MISSING}, {3, HD_FOUND_POSITION_MISSING}, {6, HD_FOUND_POSITION_SWAPPED},
	        {9, HD_FOUND_POSITION_FAR}, {12, HD_FOUND_POSITION_RANGE}, {15, HD_FOUND_POSITIONS_DISAGREE},
	        {18, HD_FOUND_TIME_FUTURE}, {19, HD_FOUND_TIME_MISSING}, {21, HD_FOUND_DUPLICATE},
	        {22, HD_FOUND_DUPLICATE}, {23, HD_FOUND_LENGTH_OTHER}};
	for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
		cr_expect(hd_notes_has(&checked[wanted[k].member].notes, wanted[k].found), "member %d: no %s",
		        wanted[k].member, hd_finding_name(wanted[k].found));
	/* those around them stay clean */
	cr_expect_eq(checked[16].notes.count + checked[17].notes.count + checked[20].notes.count, 0);
	free_members();
}

Test(health, receivers_whose_level_shifts)
{
	enum { ROWS = 60 };
	static hd_recording list[ROWS];
	static hd_checked rows[ROWS];
	hd_receiver_health *receivers;
	size_t count;
	static char session[] = "s", emission[] = "e", names_ab[2][2] = {"a", "b"};
	for (int i = 0; i < ROWS; i++) {
		bool second = i % 2;
		list[i] = (hd_recording){.session = session,
		        .emission = emission,
		        .receiver = names_ab[second],
		        .timestamp_s = 1000.0 * i};
		rows[i] = (hd_checked){.recording = &list[i], .name = "x", .read = true};
		/* both wander by 3 dB; b loses 15 dB half way */
		rows[i].health.level_dbfs = -40 + 3 * sin((double)(i * i)) - (second && i >= 30 ? 15 : 0);
		rows[i].info.start_s = NAN;
	}
	cr_assert_eq(hd_health_receivers(&receivers, &count, rows, ROWS), HD_OK);
	cr_assert(count == 2 && !strcmp(receivers[0].name, "a") && receivers[1].recordings == ROWS / 2);
	cr_expect_eq(receivers[0].shift_db, 0, "a: %g dB", receivers[0].shift_db);
	cr_expect(fabs(receivers[1].shift_db + 15) < 3 && receivers[1].shift_s == 31000, "b: %g dB at %g s",
	        receivers[1].shift_db, receivers[1].shift_s);
	free(receivers);
}

/* ---- real recordings ---- */

Test(health, real_recordings_are_not_sick)
{
	static const char *const files[] = {"2017-rx1", "2017-rx2", "2017-rx3", "2020-rx1", "2020-rx2", "2020-rx3"};
	if (access(REAL_DATA "/dcf77", R_OK) != 0)
		cr_skip_test("no " REAL_DATA "/dcf77");
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char path[256];
		hd_iq iq;
		hd_iq_info info;
		hd_health health;
		hd_notes notes = {0};
		const hd_expectation expected = {.configured_rate_hz = 12001};
		snprintf(path, sizeof path, REAL_DATA "/dcf77/%s.wav", files[i]);
		cr_assert_eq(hd_iq_read(&iq, &info, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
		cr_assert_eq(hd_health_measure(&health, &iq, 0, info.true_rate_hz), HD_OK);
		cr_assert_eq(hd_health_judge(&notes, &health, &info, &expected), HD_OK);
		cr_expect(!hd_notes_sick(&notes), "%s is sick: %s", files[i], notes.list[0].text);
		/* its carrier lies at 0 Hz and is modulated symmetrically: neither an offset nor an imbalance */
		cr_expect(!hd_notes_has(&notes, HD_FOUND_DC_SPIKE) && !hd_notes_has(&notes, HD_FOUND_IQ_IMBALANCE),
		        "%s: DC %.1f dB, steady %.2f; I/Q %.2f dB, %.2f degrees", files[i], health.dc_db,
		        health.dc_steady_share, health.gain_imbalance_db, health.phase_error_deg);
		cr_expect(hd_notes_has(&notes, HD_FOUND_STALE_STAMPS) && hd_notes_has(&notes, HD_FOUND_TRUE_RATE),
		        "%s: stale stamps and true rate are not noted", files[i]);
		cr_expect(info.true_rate_hz > 12001.02 && info.true_rate_hz < 12001.21, "%s: %.3f Hz", files[i],
		        info.true_rate_hz);
		hd_notes_free(&notes);
		hd_iq_free(&iq);
	}
}

/* Bursts are no level jumps; that it is clipped is true: 0.16 % of its samples stand at 0 or 255. */
Test(health, real_bursts)
{
	const char *path = REAL_DATA "/adsb/modes1.bin";
	hd_iq iq;
	hd_iq_info info;
	hd_health health;
	if (access(path, R_OK) != 0)
		cr_skip_test("no " REAL_DATA "/adsb");
	cr_assert_eq(hd_iq_read(&iq, &info, path, HD_RAW_CU8), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_health_measure(&health, &iq, 0, 2e6), HD_OK);
	cr_expect_eq(health.jump_db, 0, "jump of %g dB", health.jump_db);
	int64_t ends = 0;
	for (int64_t i = 0; i < iq.samples; i++) {
		const uint8_t *at = (const uint8_t *)iq.data + 2 * i;
		ends += !at[0] || at[0] == 255 || !at[1] || at[1] == 255;
	}
	cr_expect(fabs(health.clipped_share - (double)ends / (double)iq.samples) < 1e-9, "clipped %g, counted %g",
	        health.clipped_share, (double)ends / (double)iq.samples);
	hd_iq_free(&iq);
}
