/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of levels, laws fitted to them, rows drawn from the fit, recordings rendered from rows. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/iq.h"
#include "host/signal/fit.h"
#include "host/signal/random.h"
#include "host/signal/render_levels.h"

#define ORIGIN_LATITUDE 40.76
#define ORIGIN_LONGITUDE (-111.84)
#define R 3

static char folder[256];
static const hd_label_frame frame = {ORIGIN_LATITUDE, ORIGIN_LONGITUDE, 1};

/* Places of the receivers, north and east; A, n of their laws. */
static const double places[R][2] = {{0, 0}, {900, -400}, {-600, 700}};
static const double laws[R][2] = {{20, 3.6}, {-5, 2.6}, {10, 3.2}};

static void setup(void)
{
	snprintf(folder, sizeof folder, "%s/heimdall-levels-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	cr_assert_not_null(mkdtemp(folder));
}

static void teardown(void)
{
	char command[512];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	cr_assert_eq(system(command), 0);
}

TestSuite(levels, .init = setup, .fini = teardown);

static const char *below(const char *name)
{
	static char paths[4][512];
	static int next;
	char *path = paths[next++ % 4];
	snprintf(path, 512, "%s/%s", folder, name);
	return path;
}

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(below(name), "w");
	cr_assert_not_null(f);
	fputs(text, f);
	cr_assert_eq(fclose(f), 0);
}

static void write_receivers(void)
{
	FILE *f = fopen(below("receivers.csv"), "w");
	cr_assert_not_null(f);
	fputs("receiver,latitude_deg,longitude_deg\n", f);
	for (int r = 0; r < R; r++) {
		double lat, lon;
		hd_geo_from_local_m(&frame, places[r][0], places[r][1], &lat, &lon);
		fprintf(f, "rx%d,%.8f,%.8f\n", r, lat, lon);
	}
	cr_assert_eq(fclose(f), 0);
}

/* A smooth field of 6 dB, which a process can learn and a law cannot. */
static double bumps(double north, double east, int r)
{
	return 6 * sin(north / 250 + r) * cos(east / 300);
}

/* `rows` emissions all over 2.4 x 2.4 km in six hours, fold = hour % 3. */
static void write_levels(int rows, double field, double noise_db)
{
	FILE *f = fopen(below("levels.csv"), "w");
	hd_random random = hd_random_start(5, 1);
	cr_assert_not_null(f);
	fputs("timestamp,latitude_deg,longitude_deg,rx0,rx1,rx2\n", f);
	for (int i = 0; i < rows; i++) {
		double north = hd_random_between(&random, -1200, 1200), east = hd_random_between(&random, -1200, 1200),
		       lat, lon;
		hd_geo_from_local_m(&frame, north, east, &lat, &lon);
		fprintf(f, "2022-04-25 %02d:%02d:%02d,%.8f,%.8f", 10 + i * 6 / rows, i / 60 % 60, i % 60, lat, lon);
		for (int r = 0; r < R; r++) {
			double d = fmax(hypot(north - places[r][0], east - places[r][1]), HD_FIT_NEAREST_M);
			fprintf(f, ",%.3f",
			        laws[r][0] - 10 * laws[r][1] * log10(d) + field * bumps(north, east, r) +
			                noise_db * hd_random_normal(&random));
		}
		fputc('\n', f);
	}
	cr_assert_eq(fclose(f), 0);
	write_text("folds.csv", "hour,fold\n2022-04-25 10,0\n2022-04-25 11,1\n2022-04-25 12,2\n2022-04-25 13,0\n"
	                        "2022-04-25 14,1\n2022-04-25 15,2\n");
}

static hd_levels read_tables(const char *folds)
{
	hd_levels l;
	cr_assert_eq(
	        hd_levels_read(&l, below("levels.csv"), below("receivers.csv"), folds), HD_OK, "%s", hd_error_text());
	return l;
}

Test(levels, malformed_tables_are_refused_with_their_line)
{
	static const struct {
		const char *levels, *words;
	} cases[] = {
	        {"", "levels.csv"},
	        {"timestamp,latitude_deg,rx0,rx1,rx2\n", "levels.csv:1"},
	        {"timestamp,latitude_deg,longitude_deg\n", "levels.csv:1"},
	        {"timestamp,latitude_deg,longitude_deg,rx0\n", "no row"},
	        {"timestamp,latitude_deg,longitude_deg,rx0,rx0\n", "levels.csv:1"},
	        {"timestamp,latitude_deg,longitude_deg,rx9\n2022-04-25 14:12:32,40,-111,-80\n", "rx9"},
	        {"timestamp,latitude_deg,longitude_deg,rx0\nyesterday,40,-111,-80\n", "levels.csv:2"},
	        {"timestamp,latitude_deg,longitude_deg,rx0\n2022-04-25 14:12:32,95,-111,-80\n", "levels.csv:2"},
	        {"timestamp,latitude_deg,longitude_deg,rx0\n2022-04-25 14:12:32,40,-111,loud\n", "levels.csv:2"},
	        {"timestamp,latitude_deg,longitude_deg,rx0\n2022-04-25 14:12:32,40,-111,nan\n", "levels.csv:2"},
	        {"timestamp,latitude_deg,longitude_deg,rx0\n2022-04-25 14:12:32,40,-111\n", "levels.csv:2"},
	};
	write_receivers();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_levels l;
		write_text("levels.csv", cases[i].levels);
		hd_status st = hd_levels_read(&l, below("levels.csv"), below("receivers.csv"), NULL);
		cr_expect_eq(st, HD_E_DATA, "table %zu: %s", i, hd_status_text(st));
		cr_expect(strstr(hd_error_text(), cases[i].words), "table %zu: '%s' without '%s'", i, hd_error_text(),
		        cases[i].words);
	}
	write_levels(60, 0, 1);
	write_text("folds.csv", "hour,fold\n2022-04-25 10,0\n");
	hd_levels l;
	cr_expect_eq(hd_levels_read(&l, below("levels.csv"), below("receivers.csv"), below("folds.csv")), HD_E_DATA);
	cr_expect(strstr(hd_error_text(), "2022-04-25 11"), "%s", hd_error_text());
}

Test(levels, a_fold_is_left_out_with_its_hours)
{
	write_receivers();
	write_levels(120, 0, 1);
	hd_levels l = read_tables(below("folds.csv"));
	cr_assert_eq(l.count, 120);
	cr_assert_eq(hd_levels_leave_out(&l, 1), HD_OK, "%s", hd_error_text());
	cr_expect_eq(l.count, 80);
	cr_expect_eq(l.hour_count, 4);
	for (size_t i = 0; i < l.count; i++)
		cr_assert(l.hours[l.rows[i].hour].fold != 1 &&
		                  !strncmp(l.rows[i].stamp, l.hours[l.rows[i].hour].text, 13),
		        "row %zu: %s in hour %s", i, l.rows[i].stamp, l.hours[l.rows[i].hour].text);
	cr_expect_eq(hd_levels_leave_out(&l, 1), HD_E_DATA, "a fold that is not there");
	hd_levels_free(&l);
}

Test(levels, fit_recovers_a_known_law, .timeout = 120)
{
	write_receivers();
	write_levels(600, 0, 2);
	hd_levels l = read_tables(NULL);
	hd_fit fit;
	cr_assert_eq(hd_fit_levels(&fit, &l, 2), HD_OK, "%s", hd_error_text());
	for (int r = 0; r < R; r++) {
		const hd_law *law = &fit.laws[r];
		cr_expect(fabs(law->a_db - laws[r][0]) < 4 * law->a_error_db && law->a_error_db < 3,
		        "rx%d: a %.2f +- %.2f", r, law->a_db, law->a_error_db);
		cr_expect(fabs(law->n - laws[r][1]) < 4 * law->n_error && law->n_error < 0.2, "rx%d: n %.3f +- %.3f", r,
		        law->n, law->n_error);
	}
	hd_fit_free(&fit);
}

/* Error of the signal at places that the fit has not seen, against the true one: with the field, by the law alone. */
Test(levels, process_follows_a_smooth_field, .timeout = 120)
{
	enum { PROBES = 200 };
	double north[PROBES], east[PROBES], mean[PROBES], variance[PROBES], squares = 0, law_squares = 0, scaled = 0;
	hd_random random = hd_random_start(9, 9);
	write_receivers();
	write_levels(900, 1, 1);
	hd_levels l = read_tables(NULL);
	hd_fit fit;
	cr_assert_eq(hd_fit_levels(&fit, &l, 2), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < PROBES; i++) {
		double lat, lon;
		north[i] = hd_random_between(&random, -1000, 1000);
		east[i] = hd_random_between(&random, -1000, 1000);
		/* the fit has a frame of its own */
		hd_geo_from_local_m(&frame, north[i], east[i], &lat, &lon);
		hd_geo_to_local_m(&fit.frame, lat, lon, &north[i], &east[i]);
	}
	cr_assert_eq(hd_law_predict(&fit.laws[0], north, east, PROBES, mean, variance), HD_OK);
	for (int i = 0; i < PROBES; i++) {
		double lat, lon, n, e;
		hd_geo_from_local_m(&fit.frame, north[i], east[i], &lat, &lon);
		hd_geo_to_local_m(&frame, lat, lon, &n, &e);
		double want =
		        laws[0][0] - 10 * laws[0][1] * log10(fmax(hypot(n, e), HD_FIT_NEAREST_M)) + bumps(n, e, 0);
		squares += pow(mean[i] - want, 2) / PROBES;
		law_squares += pow(hd_law_signal_db(&fit.laws[0], north[i], east[i]) - want, 2) / PROBES;
		scaled += pow(mean[i] - want, 2) / fmax(variance[i], 1e-9) / PROBES;
	}
	cr_expect(squares < law_squares / 3, "process %.2f dB, law %.2f dB", sqrt(squares), sqrt(law_squares));
	cr_expect(scaled > 0.1 && scaled < 4, "its errors are %.2f of what it says in variance", scaled);
	hd_fit_free(&fit);
}

Test(levels, drawn_rows_do_not_depend_on_threads_or_their_number, .timeout = 120)
{
	write_receivers();
	write_levels(400, 1, 2);
	hd_levels l = read_tables(NULL), a, b;
	hd_fit fit;
	cr_assert_eq(hd_fit_levels(&fit, &l, 2), HD_OK, "%s", hd_error_text());
	hd_draw_config config = {
	        .emissions = 700, .seed = 3, .uniform_share = 0.5, .margin = 0.1, .spread_m = 50, .threads = 1};
	cr_assert_eq(hd_fit_draw(&a, &fit, &config), HD_OK, "%s", hd_error_text());
	config.threads = 2;
	config.emissions = 300;
	cr_assert_eq(hd_fit_draw(&b, &fit, &config), HD_OK, "%s", hd_error_text());
	size_t heard = 0;
	double error = 0;
	for (size_t i = 0; i < b.count; i++) {
		cr_assert(a.rows[i].latitude_deg == b.rows[i].latitude_deg &&
		                  a.rows[i].longitude_deg == b.rows[i].longitude_deg,
		        "row %zu lies elsewhere", i);
		for (int r = 0; r < R; r++) {
			float x = a.rows[i].level_db[r], y = b.rows[i].level_db[r];
			cr_assert(isnan(x) == isnan(y) && (isnan(x) || x == y), "row %zu, rx%d: %g and %g dB", i, r,
			        (double)x, (double)y);
		}
	}
	for (size_t i = 0; i < a.count; i++) {
		double n, e;
		hd_geo_to_local_m(&frame, a.rows[i].latitude_deg, a.rows[i].longitude_deg, &n, &e);
		cr_assert(fabs(n) < 1700 && fabs(e) < 1700, "row %zu at %.0f m north, %.0f m east", i, n, e);
		for (int r = 0; r < R; r++) {
			double d = fmax(hypot(n - places[r][0], e - places[r][1]), HD_FIT_NEAREST_M);
			double want = laws[r][0] - 10 * laws[r][1] * log10(d) + bumps(n, e, r);
			if (isnan(a.rows[i].level_db[r]) || fabs(n) > 1100 || fabs(e) > 1100)
				continue;
			heard++;
			error += fabs((double)a.rows[i].level_db[r] - want);
		}
	}
	cr_expect(heard > 1000 && error / (double)heard < 5, "%zu levels, off by %.2f dB on average", heard,
	        error / (double)heard);
	hd_levels_free(&b);
	hd_levels_free(&a);
	hd_fit_free(&fit);
}

static hd_levels three_rows(void)
{
	static char names[2][4] = {"n", "f"};
	const hd_level_receiver receivers[2] = {{names[0], 40, -111}, {names[1], 41, -112}};
	hd_levels l;
	cr_assert_eq(hd_levels_make(&l, receivers, 2, 3), HD_OK);
	for (int i = 0; i < 3; i++) {
		l.rows[i].latitude_deg = 40.1 + 0.1 * i;
		l.rows[i].longitude_deg = -111.5;
		l.rows[i].level_db[0] = (float)(-40 - 15 * i);
	}
	l.rows[1].level_db[1] = -95;
	return l;
}

/*
 * Power of signal and noise together. The mean of n squares of a carrier in noise has the standard deviation
 * sqrt(2 s w + w^2)/sqrt(n), s and w the powers; five of them, and the int16 steps.
 */
Test(levels, recordings_have_the_levels_asked_for)
{
	enum { SAMPLES = 6000 };
	hd_levels l = three_rows();
	hd_render_config config = {.out = below("out"),
	        .samples = SAMPLES,
	        .rate_hz = 24000,
	        .dtype = HD_F32,
	        .floor_db = -100,
	        .full_scale_db = -20,
	        .voice_share = 0.4,
	        .tone_share = 0.3,
	        .seed = 4,
	        .threads = 1};
	cr_assert_eq(hd_levels_render(&config, &l), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < 3; i++) {
		for (int r = 0; r < 2; r++) {
			char name[64], again[80];
			hd_iq iq, other;
			snprintf(name, sizeof name, "out/emissions/%06d/%s.npy", i + 1, l.receivers[r].name);
			if (isnan(l.rows[i].level_db[r])) {
				cr_expect_neq(access(below(name), F_OK), 0, "%s is there", name);
				continue;
			}
			cr_assert_eq(hd_iq_read(&iq, NULL, below(name), HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
			double s = pow(10, ((double)l.rows[i].level_db[r] + 20) / 10), w = 1e-8, power = 0;
			for (int64_t k = 0; k < 2 * iq.samples; k++)
				power += pow((double)((const float *)iq.data)[k], 2) / SAMPLES;
			cr_expect(iq.samples == SAMPLES &&
			                  fabs(power - s - w) < 5 * sqrt((2 * s * w + w * w) / SAMPLES) + 1e-6 * s,
			        "%s: power %g, wanted %g", name, power, s + w);
			/* two threads write the same */
			config.threads = 2;
			config.out = below("two");
			if (access(below("two"), F_OK) != 0)
				cr_assert_eq(hd_levels_render(&config, &l), HD_OK, "%s", hd_error_text());
			snprintf(again, sizeof again, "two%s", name + 3);
			cr_assert_eq(hd_iq_read(&other, NULL, below(again), HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
			cr_expect(!memcmp(iq.data, other.data, sizeof(float) * 2 * SAMPLES), "%s differs", again);
			hd_iq_free(&other);
			hd_iq_free(&iq);
		}
	}
	hd_levels_free(&l);
}

typedef struct seen {
	int count;
	char versions[4][32];
} seen;

static hd_status note(
        void *context, int thread, const char *within, const char *version, const float *iq, int64_t samples)
{
	seen *s = context;
	(void)thread;
	cr_expect(samples == 500 && isfinite(iq[0]) && strstr(within, "emissions/00000"), "%s", within);
	snprintf(s->versions[s->count++], 32, "%s", version);
	return HD_OK;
}

Test(levels, a_sink_takes_the_place_of_files)
{
	hd_levels l = three_rows();
	seen first = {0}, second = {0};
	char manifest[4096] = "";
	hd_render_config config = {.out = below("out"),
	        .samples = 500,
	        .rate_hz = 24000,
	        .dtype = HD_I16,
	        .floor_db = -100,
	        .full_scale_db = -20,
	        .voice_share = 1,
	        .seed = 4,
	        .threads = 1,
	        .sink = note,
	        .context = &first};
	cr_assert_eq(hd_levels_render(&config, &l), HD_OK, "%s", hd_error_text());
	cr_assert_eq(first.count, 4);
	cr_expect_neq(access(below("out/emissions"), F_OK), 0, "files were written");
	FILE *f = fopen(below("out/manifest.csv"), "r");
	cr_assert_not_null(f);
	cr_assert(fread(manifest, 1, sizeof manifest - 1, f) > 0);
	fclose(f);
	for (int i = 0; i < 4; i++) {
		cr_expect(strstr(manifest, first.versions[i]), "no version %s in:\n%s", first.versions[i], manifest);
		for (int k = 0; k < i; k++)
			cr_expect(
			        strcmp(first.versions[i], first.versions[k]) != 0, "versions %d and %d are one", i, k);
	}
	/* another level is another version, the others stay */
	config.context = &second;
	l.rows[0].level_db[0] += 1;
	cr_assert_eq(hd_levels_render(&config, &l), HD_OK, "%s", hd_error_text());
	cr_expect(strcmp(first.versions[0], second.versions[0]) != 0 && !strcmp(first.versions[1], second.versions[1]));
	hd_levels_free(&l);
}
