/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic recordings: levels, modulation, spectrum, delays, shares, repeatability, and errors of scenario files. */
#include <criterion/criterion.h>
#include <complex.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heimdall/geo.h"
#include "heimdall/iq.h"
#include "host/common/file.h"
#include "host/common/progress.h"
#include "host/signal/channel.h"
#include "host/signal/synth.h"
#include "host/signal/waveform.h"

#define SEED 7
#define RATE_HZ 48000.0
#define SAMPLES 2048
#define LEAD 4096 /* more than any delay here in samples */
#define SETTLE 2048
#define PHASES (SETTLE + LEAD + SAMPLES + HD_DELAY_LEAD)

static char folder[512];

static void make_folder(void)
{
	const char *root = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-synth-XXXXXX", root ? root : "/tmp");
	cr_assert_not_null(mkdtemp(folder), "cannot make %s", folder);
	hd_progress_enable(false);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
	(void)info;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_folder(void)
{
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Share of the power within +-half_hz, by a Hann-windowed discrete Fourier transform of the first n samples. */
static double share_within(const float *signal, int n, double half_hz)
{
	double inside = 0, all = 0;
	for (int f = 0; f < n; f++) {
		double complex sum = 0;
		for (int k = 0; k < n; k++) {
			double window = 0.5 - 0.5 * cos(2 * M_PI * k / n);
			sum += window * ((double)signal[2 * k] + I * (double)signal[2 * k + 1]) *
			       cexp(-2.0 * I * M_PI * (double)((long)f * k % n) / n);
		}
		double hz = (f < n / 2 ? f : n - f) * RATE_HZ / n, power = creal(sum * conj(sum));
		all += power;
		inside += hz <= half_hz ? power : 0;
	}
	return inside / all;
}

static hd_scenario default_scenario(void)
{
	hd_scenario s;
	cr_assert_eq(hd_scenario_default(&s), HD_OK, "%s", hd_error_text());
	return s;
}

/* A direct wave only: scattered waves 60 dB below, no frequency error, hardly any noise. */
static hd_scenario plain_scenario(void)
{
	hd_scenario s = default_scenario();
	s.rician_k_db = 60;
	s.multipath_taps = 0;
	s.speed_m_s = 0;
	s.frequency_error_ppm = 0;
	s.power_dbm = 100;
	s.noise_figure_db = 0;
	s.shadowing_db = 0;
	return s;
}

static const double *make_phase(const hd_scenario *s, hd_signal_type type, double rate_hz, hd_random *random)
{
	static double phase[PHASES];
	static float audio[PHASES];
	hd_audio_render(audio, PHASES, rate_hz, type, random);
	hd_fm_phase(phase, audio, PHASES, rate_hz, s->deviation_hz, s->pre_emphasis_us, random);
	return phase + SETTLE;
}

static double power_of(const float *iq)
{
	double sum = 0;
	for (int i = 0; i < 2 * SAMPLES; i++)
		sum += (double)iq[i] * (double)iq[i];
	return sum / SAMPLES;
}

Test(synth, path_loss_by_hand)
{
	hd_scenario s = default_scenario();
	/* FSPL(1 km, 145 MHz) = 32.45 + 20 log10(145) = 75.68 dB (ITU-R P.525). */
	double want_1km = 37 - 75.677, got = hd_scenario_level_dbm(&s, 1000);
	cr_assert(fabs(got - want_1km) <= 0.01, "1 km: got %.4f dBm, want %.4f", got, want_1km);
	got = hd_scenario_level_dbm(&s, 10000);
	cr_assert(fabs(got - (want_1km - 30)) <= 0.01, "10 km: got %.4f dBm, want %.4f", got, want_1km - 30);
	cr_assert_eq(hd_scenario_level_dbm(&s, 0), hd_scenario_level_dbm(&s, 50), "distance is not clamped at 50 m");
	hd_scenario_free(&s);
}

Test(synth, recorded_power_is_truth_plus_noise)
{
	static float iq[2 * SAMPLES];
	hd_scenario s = default_scenario();
	hd_random random = hd_random_start(SEED, 1);
	double fading = 0, shadowing = 0;
	const int draws = 3000;
	for (int i = 0; i < draws; i++) {
		hd_link link;
		int r = i % (int)s.receiver_count;
		const double *phase = make_phase(&s, HD_SIGNAL_TONE, RATE_HZ, &random);
		hd_channel_render(iq, &link, &s, r, 44.8, 7.9 + i * 1e-4, phase, LEAD, SAMPLES, RATE_HZ, SEED, &random);
		double noise = pow(10, link.noise_dbm / 10), clean = pow(10, link.received_level_dbm / 10);
		double power = power_of(iq) * pow(10, s.full_scale_dbm / 10);
		/* Six deviations of the mean of SAMPLES noise powers with their cross term, and rounding to float. */
		double bound = 6 * sqrt((noise * noise + 2 * clean * noise) / SAMPLES) + 1e-5 * clean;
		cr_assert(fabs(power - clean - noise) <= bound, "draw %d: got %.6g mW, want %.6g within %.2g", i, power,
		        clean + noise, bound);
		double law = hd_scenario_level_dbm(&s, link.distance_m) + link.shadowing_db;
		cr_assert(fabs(link.mean_level_dbm - law) <= 1e-9, "draw %d: level %.6f, want %.6f", i,
		        link.mean_level_dbm, law);
		cr_assert(fabs(link.noise_dbm - -121.19) <= 0.05, "noise %.3f dBm, want -174 + 46.81 + 6",
		        link.noise_dbm);
		fading += pow(10, (link.received_level_dbm - link.mean_level_dbm) / 10) / draws;
		shadowing += link.shadowing_db * link.shadowing_db / draws;
	}
	/* Rician power at K = 10 dB deviates by 0.42: five deviations of the mean of 3,000 are 0.038. */
	cr_assert(fabs(fading - 1) <= 0.038, "mean fading power: got %.4f, want 1 within 0.038", fading);
	cr_assert(fabs(sqrt(shadowing) - 6) <= 0.4, "shadowing: deviation %.2f dB, want 6 within 0.4", sqrt(shadowing));
	hd_scenario_free(&s);
}

Test(synth, envelope_and_bandwidth_of_fm)
{
	static float iq[2 * SAMPLES];
	hd_scenario s = plain_scenario();
	hd_random random = hd_random_start(SEED, 2);
	double beyond = 0;
	for (int i = 0; i < 30; i++) {
		hd_link link;
		hd_signal_type type = (hd_signal_type)(i % 3);
		const double *phase = make_phase(&s, type, RATE_HZ, &random);
		hd_channel_render(iq, &link, &s, 0, 45, 7.5, phase, LEAD, SAMPLES, RATE_HZ, SEED, &random);
		double low = INFINITY, high = 0;
		for (int k = 0; k < SAMPLES; k++) {
			double magnitude = hypot((double)iq[2 * k], (double)iq[2 * k + 1]);
			low = fmin(low, magnitude);
			high = fmax(high, magnitude);
		}
		cr_assert(high / low <= 1.01, "%s: magnitudes %.6g .. %.6g, want one", hd_signal_name(type), low, high);
		double inside = share_within(iq, 512, 8000);
		cr_assert(inside >= 0.98, "%s: 16 kHz hold %.4f of the power, want 0.98 (Carson)", hd_signal_name(type),
		        inside);
		beyond = fmax(beyond, 1 - share_within(iq, 512, 500));
	}
	cr_assert(beyond >= 0.3, "nothing is modulated: at most %.3f of the power beyond 500 Hz", beyond);
	hd_scenario_free(&s);
}

Test(synth, delays_are_those_of_light)
{
	static float near[2 * SAMPLES], far[2 * SAMPLES];
	const double rate_hz = 1e6; /* 300 m a sample */
	hd_scenario s = plain_scenario();
	hd_random random = hd_random_start(SEED, 3);
	for (int i = 0; i < 6; i++) {
		hd_link a, b;
		double best = -1;
		int lag_best = 0;
		const double *phase = make_phase(&s, HD_SIGNAL_DTMF, rate_hz, &random);
		hd_channel_render(near, &a, &s, 0, 45.03, 7.3 + 0.02 * i, phase, LEAD, SAMPLES, rate_hz, SEED, &random);
		hd_channel_render(far, &b, &s, 6, 45.03, 7.3 + 0.02 * i, phase, LEAD, SAMPLES, rate_hz, SEED, &random);
		for (int lag = 0; lag < SAMPLES / 2; lag++) {
			double complex sum = 0;
			for (int k = lag; k < SAMPLES / 2 + lag; k++)
				sum += ((double)far[2 * k] + I * (double)far[2 * k + 1]) *
				       ((double)near[2 * (k - lag)] - I * (double)near[2 * (k - lag) + 1]);
			if (cabs(sum) > best) {
				best = cabs(sum);
				lag_best = lag;
			}
		}
		double want = (b.distance_m - a.distance_m) / HD_SPEED_OF_LIGHT_M_S * rate_hz;
		cr_assert(fabs(lag_best - want) <= 1.5, "draw %d, %.1f km more: peak at lag %d, want %.2f", i,
		        (b.distance_m - a.distance_m) / 1000, lag_best, want);
	}
	hd_scenario_free(&s);
}

Test(synth, correlated_shadowing_decays)
{
	static float iq[2];
	static const double phase[2 * LEAD] = {0};
	const double step_deg = 5000 / (HD_EARTH_RADIUS_M * M_PI / 180);
	const int draws = 3000;
	hd_scenario s = default_scenario();
	hd_random random = hd_random_start(SEED, 4);
	double variance = 0, near = 0, far = 0;
	s.shadowing_distance_m = 5000;
	for (int i = 0; i < draws; i++) {
		hd_link link[3];
		for (int k = 0; k < 3; k++)
			hd_channel_render(iq, &link[k], &s, 3, 44.9 + step_deg * (k == 2 ? 6 : k), 8.0, phase, LEAD, 1,
			        RATE_HZ, (uint64_t)i, &random);
		variance += link[0].shadowing_db * link[0].shadowing_db / draws;
		near += link[0].shadowing_db * link[1].shadowing_db / draws;
		far += link[0].shadowing_db * link[2].shadowing_db / draws;
	}
	cr_assert(fabs(sqrt(variance) - 6) <= 0.5, "deviation %.2f dB, want 6", sqrt(variance));
	cr_assert(fabs(near / variance - exp(-1)) <= 0.1, "correlation at 5 km %.3f, want %.3f", near / variance,
	        exp(-1));
	cr_assert(fabs(far / variance) <= 0.1, "correlation at 30 km %.3f, want %.3f", far / variance, exp(-6));
	hd_scenario_free(&s);
}

static hd_status try_render(
        const char *name, int64_t sessions, int64_t samples, int threads, hd_dtype dtype, const hd_scenario *s)
{
	char path[640];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return hd_synth_render(&(hd_synth_config){.out = path,
	                               .sessions = sessions,
	                               .samples = samples,
	                               .rate_hz = RATE_HZ,
	                               .dtype = dtype,
	                               .voice_share = 0.9,
	                               .tone_share = 0.05,
	                               .seed = SEED,
	                               .threads = threads},
	        s);
}

static void render(const char *name, int64_t sessions, int64_t samples, int threads, const hd_scenario *s)
{
	cr_assert_eq(try_render(name, sessions, samples, threads, HD_I16, s), HD_OK, "%s", hd_error_text());
}

static void assert_same_file(const char *a, const char *b, const char *file)
{
	char path[2][768];
	const void *data[2];
	size_t bytes[2];
	for (int i = 0; i < 2; i++) {
		snprintf(path[i], sizeof path[i], "%s/%s/%s", folder, i ? b : a, file);
		cr_assert_eq(hd_file_map(&data[i], &bytes[i], path[i]), HD_OK, "%s", hd_error_text());
	}
	cr_assert(bytes[0] > 0 && bytes[0] == bytes[1] && !memcmp(data[0], data[1], bytes[0]),
	        "%s and %s differ (%zu, %zu bytes)", path[0], path[1], bytes[0], bytes[1]);
	for (int i = 0; i < 2; i++)
		hd_file_unmap(data[i], bytes[i]);
}

Test(synth, same_bytes_for_any_threads_and_count, .init = make_folder, .fini = remove_folder)
{
	char file[64];
	hd_scenario s = default_scenario();
	render("one", 6, SAMPLES, 1, &s);
	render("two", 6, SAMPLES, 2, &s);
	render("longer", 9, SAMPLES, 2, &s);
	assert_same_file("one", "two", "manifest.csv");
	assert_same_file("one", "two", "truth.csv");
	assert_same_file("one", "two", "scenario.yaml");
	for (int i = 1; i <= 6; i++) {
		for (int r = 1; r <= 7; r++) {
			snprintf(file, sizeof file, "sessions/s%06d/websdr_%d.npy", i, r);
			assert_same_file("one", "two", file);
			assert_same_file("one", "longer", file);
		}
	}
	hd_scenario_free(&s);
}

Test(synth, every_dtype_stores_the_same_signal, .init = make_folder, .fini = remove_folder)
{
	static const hd_dtype dtypes[] = {HD_F32, HD_F64, HD_I16, HD_I8};
	static const double rounding[] = {0, 0, 0.5 / 32768, 0.5 / 128};
	static float want[2 * SAMPLES];
	hd_scenario s = default_scenario();
	char path[768];
	for (size_t k = 0; k < 4; k++) {
		hd_iq iq;
		cr_assert_eq(try_render("kind", 1, SAMPLES, 1, dtypes[k], &s), HD_OK, "%s", hd_error_text());
		snprintf(path, sizeof path, "%s/kind/sessions/s000001/websdr_1.npy", folder);
		cr_assert_eq(hd_iq_read(&iq, NULL, path, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
		cr_assert(iq.rows == 1 && iq.samples == SAMPLES && iq.dtype == dtypes[k],
		        "dtype %d: read %ld rows of %ld, dtype %d", dtypes[k], (long)iq.rows, (long)iq.samples,
		        iq.dtype);
		if (k == 0)
			memcpy(want, iq.data, sizeof want);
		for (int i = 0; i < 2 * SAMPLES; i++) {
			double got = iq.dtype == HD_I16   ? ((int16_t *)iq.data)[i] / 32768.0
			             : iq.dtype == HD_I8  ? ((int8_t *)iq.data)[i] / 128.0
			             : iq.dtype == HD_F32 ? (double)((float *)iq.data)[i]
			                                  : ((double *)iq.data)[i];
			cr_assert(fabs(got - (double)want[i]) <= rounding[k] * 1.0001,
			        "dtype %d component %d: got %g, want %g", dtypes[k], i, got, (double)want[i]);
		}
		hd_iq_free(&iq);
	}
	hd_scenario_free(&s);
}

Test(synth, manifest_has_shares_and_area, .init = make_folder, .fini = remove_folder)
{
	char path[768], line[512];
	int counts[3] = {0}, rows = 0;
	double north = 0, east = 0;
	hd_scenario s = default_scenario();
	s.receiver_count = 1;
	render("set", 1000, 64, 2, &s);
	snprintf(path, sizeof path, "%s/set/manifest.csv", folder);
	FILE *file = fopen(path, "r");
	cr_assert_not_null(file, "no %s", path);
	cr_assert_not_null(fgets(line, sizeof line, file));
	for (; fgets(line, sizeof line, file); rows++) {
		double latitude, longitude;
		line[strcspn(line, "\n")] = 0;
		cr_assert_eq(sscanf(line, "%*[^,],%*[^,],%*[^,],%*[^,],%*[^,],%*[^,],%lf,%lf", &latitude, &longitude),
		        2, "%s", line);
		for (int type = 0; type < 3; type++)
			counts[type] += !strcmp(strrchr(line, ',') + 1, hd_signal_name((hd_signal_type)type));
		cr_assert(latitude >= s.latitude_min_deg && latitude <= s.latitude_max_deg &&
		                  longitude >= s.longitude_min_deg && longitude <= s.longitude_max_deg,
		        "outside the area: %s", line);
		north += (latitude - s.latitude_min_deg) / (s.latitude_max_deg - s.latitude_min_deg) / 1000;
		east += (longitude - s.longitude_min_deg) / (s.longitude_max_deg - s.longitude_min_deg) / 1000;
	}
	fclose(file);
	/* Five deviations: 47 of 900, 34 of 50, 0.046 of a uniform mean (and 0.007 for the sphere). */
	cr_assert_eq(rows, 1000, "got %d rows, want 1000", rows);
	cr_assert(abs(counts[0] - 900) <= 47, "voice: got %d of 1000, want 900 within 47", counts[0]);
	cr_assert(abs(counts[1] - 50) <= 34, "tone: got %d of 1000, want 50 within 34", counts[1]);
	cr_assert(abs(counts[2] - 50) <= 34, "dtmf: got %d of 1000, want 50 within 34", counts[2]);
	cr_assert(
	        fabs(north - 0.5) <= 0.053 && fabs(east - 0.5) <= 0.053, "mean at %.3f, %.3f of the area", north, east);
	hd_scenario_free(&s);
}

Test(synth, refuses_a_foreign_folder, .init = make_folder, .fini = remove_folder)
{
	char path[768];
	hd_scenario s = default_scenario();
	snprintf(path, sizeof path, "%s/precious.txt", folder);
	FILE *file = fopen(path, "w");
	cr_assert_not_null(file);
	fclose(file);
	cr_assert_eq(try_render("", 1, 64, 1, HD_I16, &s), HD_E_USAGE, "a folder with other files was taken");
	cr_assert_not_null(strstr(hd_error_text(), folder), "the text names no folder: %s", hd_error_text());
	cr_assert_eq(access(path, F_OK), 0, "the file there is gone");
	render("again", 2, 64, 1, &s);
	render("again", 2, 64, 1, &s);
	hd_scenario_free(&s);
}

Test(synth, weak_recordings_are_left_out, .init = make_folder, .fini = remove_folder)
{
	char path[768], line[512];
	int rows = -1;
	hd_scenario s = default_scenario();
	s.min_snr_db = 25;
	render("weak", 12, 64, 1, &s);
	snprintf(path, sizeof path, "%s/weak/manifest.csv", folder);
	FILE *file = fopen(path, "r");
	cr_assert_not_null(file, "no %s", path);
	for (; fgets(line, sizeof line, file); rows++) {
		double snr_db;
		if (rows < 0)
			continue;
		cr_assert_eq(sscanf(line, "%*[^,],%*[^,],%*[^,],%*[^,],%*[^,],%*[^,],%*[^,],%*[^,],%lf", &snr_db), 1,
		        "row: %s", line);
		cr_assert(snr_db >= 25 - 0.005, "kept at %g dB: %s", snr_db, line);
	}
	fclose(file);
	cr_assert(rows > 0 && rows < 12 * 7, "%d rows of %d, want some left out", rows, 12 * 7);
	hd_scenario_free(&s);
}

/* ---- scenario files ---- */

static void assert_same_scenario(const hd_scenario *got, const hd_scenario *want)
{
#define X(key, def, low, high, help)                                                                                   \
	cr_assert_eq(got->key, want->key, #key ": got %.17g, want %.17g", got->key, want->key);
	HD_SCENARIO_NUMBERS(X)
#undef X
	cr_assert_eq(got->receiver_count, want->receiver_count, "%zu receivers, want %zu", got->receiver_count,
	        want->receiver_count);
	cr_assert(!memcmp(got->receivers, want->receivers, want->receiver_count * sizeof *want->receivers),
	        "receivers differ");
}

Test(scenario, shipped_file_is_the_default)
{
	hd_scenario read, want = default_scenario();
	cr_assert_eq(hd_scenario_read(&read, "configs/scenario-piedmont.yaml"), HD_OK, "%s", hd_error_text());
	assert_same_scenario(&read, &want);
	hd_scenario_free(&read);
	hd_scenario_free(&want);
}

Test(scenario, written_file_reads_back, .init = make_folder, .fini = remove_folder)
{
	char path[640];
	hd_scenario read, want = default_scenario();
	want.shadowing_db = 0.1 + 0.2;
	want.receiver_count = 2;
	snprintf(path, sizeof path, "%s/scenario.yaml", folder);
	cr_assert_eq(hd_scenario_write(&want, path), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_scenario_read(&read, path), HD_OK, "%s", hd_error_text());
	assert_same_scenario(&read, &want);
	hd_scenario_free(&read);
	hd_scenario_free(&want);
}

Test(scenario, errors_name_line_and_nearest_key, .init = make_folder, .fini = remove_folder)
{
	static const struct {
		const char *yaml, *line, *says;
	} cases[] = {
	        {"multipath_taps: 1\nshadowing_d: 3\n", ":2:", "'shadowing_db'"},
	        {"\n\npower_dbm: 37W\n", ":3:", "'37W' is not a number"},
	        {"power_dbm: 1e9\n", ":1:", "out of range"},
	        {"power_dbm: nan\n", ":1:", "not a number"},
	        {"power_dbm: [1]\n", ":1:", "not a number"},
	        {"receivers:\n  - {latitude: 45, longitud: 7}\n", ":2:", "longitude"},
	        {"receivers:\n  - {latitude: 45}\n", ":2:", "longitude"},
	        {"receivers: 7\n", ":1:", "list"},
	        {"receivers: []\n", "", "no receivers"},
	        {"latitude_min_deg: 46\n", "", "edges"},
	        {"multipath_taps: [1\n", ":", ""},
	        {"- 1\n", ":1:", "key: value"},
	};
	char path[640];
	snprintf(path, sizeof path, "%s/scenario.yaml", folder);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_scenario s;
		FILE *file = fopen(path, "w");
		cr_assert_not_null(file);
		fputs(cases[i].yaml, file);
		fclose(file);
		cr_assert_eq(hd_scenario_read(&s, path), HD_E_USAGE, "case %zu was taken: %s", i, cases[i].yaml);
		cr_assert(strstr(hd_error_text(), path) && strstr(hd_error_text(), cases[i].line) &&
		                  strstr(hd_error_text(), cases[i].says),
		        "case %zu: got '%s', want %s and %s", i, hd_error_text(), cases[i].line, cases[i].says);
		hd_scenario_free(&s);
	}
}
