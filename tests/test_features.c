/* SPDX-License-Identifier: Apache-2.0 */
/* Spectrograms and mel levels against SciPy (golden/make_features.py), and kept frames. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/features.h"
#include "heimdall/safetensors.h"

#define GOLDEN "tests/golden/features.safetensors"
#define GOLDEN_CASES 9
#define TOLERANCE 1e-4 /* power: of the frame's largest value; levels: of the larger of their size and 1 dB */

/* ---- golden cases ---- */

enum { RATE, N_FFT, HOP, N_MELS, F_MIN, F_MAX, CONVENTION, MEL_SCALE, MEL_NORM, SETTINGS };

typedef struct golden_case {
	char name[64];
	hd_feature_config config;
	hd_iq iq; /* the data belong to the file */
	int64_t T;
	const float *power, *db;
} golden_case;

static const hd_tensor *tensor(const hd_safetensors *file, const char *name, const char *part)
{
	char key[128];
	snprintf(key, sizeof key, "%s.%s", name, part);
	const hd_tensor *t = hd_safetensors_find(file, key);
	cr_assert_not_null(t, "%s: no tensor %s", GOLDEN, key);
	return t;
}

/* Tensor number i where it is the settings of a case. */
static bool read_case(golden_case *g, const hd_safetensors *file, size_t i)
{
	const hd_tensor *t = &file->tensors[i];
	const char *dot = strrchr(t->name, '.');
	if (!dot || strcmp(dot, ".settings") != 0)
		return false;
	*g = (golden_case){0};
	snprintf(g->name, sizeof g->name, "%.*s", (int)(dot - t->name), t->name);
	cr_assert(t->dtype == HD_F64 && t->bytes == SETTINGS * sizeof(double), "%s: %zu bytes", t->name, t->bytes);
	const double *s = t->data;
	g->config = (hd_feature_config){.sample_rate_hz = s[RATE],
	        .n_fft = (int)s[N_FFT],
	        .hop_length = (int)s[HOP],
	        .n_mels = (int)s[N_MELS],
	        .frames = 1,
	        .f_min_hz = s[F_MIN],
	        .f_max_hz = s[F_MAX],
	        .convention = (hd_stft_convention)(int)s[CONVENTION],
	        .mel_scale = (hd_mel_scale)(int)s[MEL_SCALE],
	        .mel_norm = (hd_mel_norm)(int)s[MEL_NORM]};
	const hd_tensor *iq = tensor(file, g->name, "iq"), *power = tensor(file, g->name, "power"),
	                *db = tensor(file, g->name, "db");
	g->iq = (hd_iq){.rows = iq->shape[0],
	        .samples = iq->shape[1],
	        .dtype = iq->dtype,
	        .scale = iq->dtype == HD_I16 ? 1.0f / 32768 : 1.0f,
	        .data = (void *)iq->data};
	g->T = power->shape[1];
	g->power = power->data;
	g->db = db->data;
	cr_assert(power->shape[2] == g->config.n_fft / 2 + 1 && db->shape[1] == g->config.n_mels &&
	                  db->shape[2] == g->T && db->shape[0] == g->iq.rows,
	        "%s: shapes of %s do not go together", GOLDEN, g->name);
	return true;
}

static hd_safetensors open_golden(void)
{
	hd_safetensors file;
	cr_assert_eq(hd_safetensors_open(&file, GOLDEN, false), HD_OK, "%s", hd_error_text());
	return file;
}

static hd_backend *open_backend(void)
{
	hd_backend *b;
	cr_assert_eq(hd_backend_open(&b, "cpu", NULL, 2), HD_OK, "%s", hd_error_text());
	return b;
}

static void *on_device(hd_backend *b, const void *host, size_t bytes)
{
	void *p;
	cr_assert_eq(b->alloc(b, &p, bytes), HD_OK, "%s", hd_error_text());
	if (host)
		cr_assert_eq(b->upload(b, p, host, bytes, NULL), HD_OK, "%s", hd_error_text());
	else
		cr_assert_eq(b->fill(b, p, 0xff, bytes, NULL), HD_OK, "%s", hd_error_text()); /* NaN */
	return p;
}

/* Component i of the IQ in double, full scale 1. */
static double component(const hd_iq *iq, int64_t i)
{
	double v = iq->dtype == HD_F64   ? ((const double *)iq->data)[i]
	           : iq->dtype == HD_F32 ? (double)((const float *)iq->data)[i]
	                                 : (double)((const int16_t *)iq->data)[i];
	return v * (double)iq->scale;
}

static void compare_power(const golden_case *g, const float *got)
{
	int64_t F = g->config.n_fft / 2 + 1;
	for (int64_t i = 0; i < g->iq.rows * g->T; i++) {
		double largest = 0;
		for (int64_t k = 0; k < F; k++)
			largest = fmax(largest, (double)g->power[i * F + k]);
		for (int64_t k = 0; k < F; k++)
			cr_assert(fabs((double)got[i * F + k] - (double)g->power[i * F + k]) <= TOLERANCE * largest,
			        "%s: power of row %ld, frame %ld, bin %ld: got %.9g, want %.9g, bound %.3g", g->name,
			        (long)(i / g->T), (long)(i % g->T), (long)k, (double)got[i * F + k],
			        (double)g->power[i * F + k], TOLERANCE * largest);
	}
}

static void check_power(hd_backend *b, const golden_case *g)
{
	int64_t R = g->iq.rows, n = g->iq.samples;
	int n_fft = g->config.n_fft;
	size_t bytes = (size_t)(R * g->T * (n_fft / 2 + 1)) * sizeof(float);
	float *x = malloc((size_t)(R * n) * sizeof *x), *window = malloc((size_t)n_fft * sizeof *window);
	float *got = malloc(bytes);
	double sum = 0;
	for (int64_t i = 0; i < R * n; i++)
		x[i] = (float)hypot(component(&g->iq, 2 * i), component(&g->iq, 2 * i + 1));
	for (int i = 0; i < n_fft; i++) {
		double w = pow(sin(M_PI * i / n_fft), 2);
		window[i] = (float)w;
		sum += w;
	}
	void *dx = on_device(b, x, (size_t)(R * n) * sizeof *x), *dp = on_device(b, NULL, bytes),
	     *dw = on_device(b, window, (size_t)n_fft * sizeof *window);
	cr_assert_eq(b->ops.stft_power(dp, dx, dw, g->config.convention == HD_STFT_SCIPY ? (float)(1 / sum) : 1.0f, R,
	                     n, g->T, n_fft, g->config.hop_length, NULL),
	        HD_OK, "%s", hd_error_text());
	cr_assert_eq(b->download(b, got, dp, bytes, NULL), HD_OK, "%s", hd_error_text());
	cr_assert_eq(b->sync(b, NULL), HD_OK, "%s", hd_error_text());
	compare_power(g, got);
	b->free(b, dw);
	b->free(b, dp);
	b->free(b, dx);
	free(got);
	free(window);
	free(x);
}

Test(features, power_is_scipys_and_librosas)
{
	hd_safetensors file = open_golden();
	hd_backend *b = open_backend();
	golden_case g;
	int cases = 0;
	for (size_t i = 0; i < file.tensor_count; i++) {
		if (!read_case(&g, &file, i))
			continue;
		check_power(b, &g);
		cases++;
	}
	cr_assert_eq(cases, GOLDEN_CASES, "%s: %d cases, want %d", GOLDEN, cases, GOLDEN_CASES);
	hd_backend_close(b);
	hd_safetensors_close(&file);
}

static void check_levels(hd_backend *b, const golden_case *g)
{
	int64_t T = hd_features_frame_count(&g->config, g->iq.samples), M = g->config.n_mels;
	cr_assert_eq(T, g->T, "%s: %ld frames, want %ld", g->name, (long)T, (long)g->T);
	float *got = malloc((size_t)(g->iq.rows * M * T) * sizeof *got);
	hd_features *plan;
	cr_assert_eq(hd_features_create(&plan, b, &g->config), HD_OK, "%s: %s", g->name, hd_error_text());
	/* the second run finds the plan's memory used */
	for (int run = 0; run < 2; run++) {
		memset(got, 0xff, (size_t)(g->iq.rows * M * T) * sizeof *got);
		cr_assert_eq(hd_features_compute(plan, got, &g->iq), HD_OK, "%s: %s", g->name, hd_error_text());
		for (int64_t i = 0; i < g->iq.rows * M * T; i++) {
			double want = (double)g->db[i], bound = TOLERANCE * fmax(fabs(want), 1);
			cr_assert(fabs((double)got[i] - want) <= bound,
			        "%s: level of row %ld, band %ld, frame %ld: got %.9g, want %.9g, bound %.3g", g->name,
			        (long)(i / (M * T)), (long)(i / T % M), (long)(i % T), (double)got[i], want, bound);
		}
	}
	hd_features_free(plan);
	free(got);
}

Test(features, levels_are_scipys_and_librosas)
{
	hd_safetensors file = open_golden();
	hd_backend *b = open_backend();
	golden_case g;
	int cases = 0;
	for (int unfused = 0; unfused < 2; unfused++) {
		/* where the fused operation is missing, its two parts do the same */
		if (unfused)
			b->ops.stft_mel_db = NULL;
		for (size_t i = 0; i < file.tensor_count; i++) {
			if (!read_case(&g, &file, i))
				continue;
			check_levels(b, &g);
			cases++;
		}
	}
	cr_assert_eq(cases, 2 * GOLDEN_CASES, "%s: %d cases, want %d", GOLDEN, cases, 2 * GOLDEN_CASES);
	hd_backend_close(b);
	hd_safetensors_close(&file);
}

/* ---- levels ---- */

#define LEVEL_SAMPLES 8192

/* A carrier of constant envelope, frequency-modulated by a tone. */
static void fm_tone(hd_iq *iq, double level_dbfs)
{
	double amplitude = pow(10, level_dbfs / 20);
	for (int64_t i = 0; i < LEVEL_SAMPLES; i++) {
		double phase = 5 * sin(2 * M_PI * 1000 * (double)i / 192000), re = amplitude * cos(phase),
		       im = amplitude * sin(phase);
		if (iq->dtype == HD_I16) {
			((int16_t *)iq->data)[2 * i] = (int16_t)lrint(32767 * re);
			((int16_t *)iq->data)[2 * i + 1] = (int16_t)lrint(32767 * im);
		} else {
			((float *)iq->data)[2 * i] = (float)re;
			((float *)iq->data)[2 * i + 1] = (float)im;
		}
	}
}

static void check_level_steps(hd_features *plan, const hd_feature_config *config, hd_dtype dtype)
{
	hd_iq iq = {.rows = 1, .samples = LEVEL_SAMPLES, .dtype = dtype, .scale = dtype == HD_I16 ? 1.0f / 32768 : 1};
	int64_t T = hd_features_frame_count(config, LEVEL_SAMPLES), M = config->n_mels, strongest = 0, middle = T / 2;
	int64_t margin = config->n_fft / 2 / config->hop_length;
	float *full = malloc((size_t)(M * T) * sizeof *full), *got = malloc((size_t)(M * T) * sizeof *got);
	iq.data = malloc(LEVEL_SAMPLES * 2 * hd_dtype_bytes(dtype));
	fm_tone(&iq, 0);
	cr_assert_eq(hd_features_compute(plan, full, &iq), HD_OK, "%s", hd_error_text());
	for (int64_t m = 0; m < M; m++)
		strongest = full[m * T + middle] > full[strongest * T + middle] ? m : strongest;
	cr_assert(2 * margin + 1 < T);
	for (int level = -10; level >= -60; level -= 10) {
		fm_tone(&iq, level);
		cr_assert_eq(hd_features_compute(plan, got, &iq), HD_OK, "%s", hd_error_text());
		for (int64_t t = margin; t < T - margin; t++) {
			double difference = (double)got[strongest * T + t] - (double)full[strongest * T + t];
			cr_assert(fabs(difference - level) <= 0.1,
			        "dtype %d, band %ld, frame %ld at %d dBFS: %.3f dB from full scale", (int)dtype,
			        (long)strongest, (long)t, level, difference);
		}
	}
	free(iq.data);
	free(got);
	free(full);
}

Test(features, levels_follow_the_signal)
{
	const hd_feature_config config = {
	        .sample_rate_hz = 192000, .n_fft = 2048, .hop_length = 512, .n_mels = 128, .frames = 32};
	hd_backend *b = open_backend();
	hd_features *plan;
	cr_assert_eq(hd_features_create(&plan, b, &config), HD_OK, "%s", hd_error_text());
	check_level_steps(plan, &config, HD_F32);
	check_level_steps(plan, &config, HD_I16);
	hd_features_free(plan);
	hd_backend_close(b);
}

Test(features, impossible_settings_are_refused)
{
	const hd_feature_config good = {
	        .sample_rate_hz = 12000, .n_fft = 128, .hop_length = 32, .n_mels = 16, .frames = 8};
	hd_feature_config bad[8];
	for (size_t i = 0; i < 8; i++)
		bad[i] = good;
	bad[0].n_fft = 127;
	bad[1].hop_length = 0;
	bad[2].hop_length = 129;
	bad[3].n_mels = 0;
	bad[4].frames = 0;
	bad[5].f_min_hz = 6000;
	bad[6].f_max_hz = 6001;
	bad[7].sample_rate_hz = (double)NAN;
	hd_backend *b = open_backend();
	for (size_t i = 0; i < 8; i++) {
		hd_features *plan;
		hd_status st = hd_features_create(&plan, b, &bad[i]);
		cr_expect(st == HD_E_USAGE && !plan, "settings %zu: status %d, want %d", i, (int)st, (int)HD_E_USAGE);
		hd_features_free(plan);
	}
	hd_backend_close(b);
}

/* ---- kept frames ---- */

static hd_feature_config kept(int frames, int n_mels, hd_frame_mode mode)
{
	return (hd_feature_config){.frames = frames, .n_mels = n_mels, .frame_mode = mode, .windows = 1};
}

Test(features, middle_frames_are_taken)
{
	float db[2 * 11], out[2 * 4];
	for (int i = 0; i < 22; i++)
		db[i] = (float)i;
	hd_feature_config c = kept(4, 2, HD_FRAMES_CENTER);
	hd_features_fit_frames(out, db, 11, &c);
	for (int i = 0; i < 8; i++) {
		int want = i / 4 * 11 + 3 + i % 4;
		cr_assert_eq(out[i], (float)want, "[%d]: got %g, want %d", i, (double)out[i], want);
	}
	hd_features_fit_frames(out, db, 4, &c);
	cr_assert_arr_eq(out, db, sizeof out, "as many frames as wanted stay as they are");
	c = kept(1, 2, HD_FRAMES_RANDOM); /* keeps four */
	hd_features_fit_frames(out, db, 11, &c);
	cr_assert(out[0] == 3 && out[3] == 6 && out[4] == 14, "random: from %g to %g, %g", (double)out[0],
	        (double)out[3], (double)out[4]);
}

/* The centre of a window with margins is what there is without them. */
Test(features, margins_lie_on_both_sides)
{
	for (int T = 1; T < 24; T++) {
		float db[24], plain[4], wide[10];
		for (int t = 0; t < T; t++)
			db[t] = (float)t;
		hd_feature_config c = kept(4, 1, HD_FRAMES_CENTER);
		hd_features_fit_frames(plain, db, T, &c);
		c.margin = 3;
		cr_assert_eq(hd_features_kept_frames(&c), 10);
		hd_features_fit_frames(wide, db, T, &c);
		cr_assert_arr_eq(wide + 3, plain, sizeof plain, "%d frames: %g .. against %g ..", T, (double)wide[3],
		        (double)plain[0]);
		for (int i = 1; i < 10; i++)
			cr_assert(fabs((double)wide[i] - (double)wide[i - 1]) == (T > 1),
			        "%d frames, [%d] and before: %g, %g", T, i, (double)wide[i], (double)wide[i - 1]);
	}
}

Test(features, windows_are_spread_over_the_recording)
{
	float db[2 * 40], out[2 * 3 * 6];
	for (int i = 0; i < 80; i++)
		db[i] = (float)i;
	hd_feature_config c = kept(4, 2, HD_FRAMES_WINDOWS);
	c.windows = 3;
	c.margin = 1;
	cr_assert_eq(hd_features_windows(&c), 3);
	cr_assert_eq(hd_features_window_frames(&c), 6);
	cr_assert_eq(hd_features_kept_frames(&c), 18);
	hd_features_fit_frames(out, db, 40, &c);
	static const int starts[] = {0, 17, 34};
	for (int i = 0; i < 36; i++) {
		int want = i / 18 * 40 + starts[i % 18 / 6] + i % 6;
		cr_assert_eq(out[i], (float)want, "[%d]: got %g, want %d", i, (double)out[i], want);
	}
	/* a recording shorter than one window gives the same reflected one three times */
	hd_features_fit_frames(out, db, 3, &c);
	cr_assert(!memcmp(out, out + 6, 6 * sizeof *out) && !memcmp(out, out + 12, 6 * sizeof *out));
	cr_assert(out[0] == 1 && out[1] == 0 && out[3] == 2 && out[4] == 1, "reflected: %g %g %g %g %g %g",
	        (double)out[0], (double)out[1], (double)out[2], (double)out[3], (double)out[4], (double)out[5]);
}

Test(features, mean_keeps_power)
{
	enum { M = 3, T = 70, W = 7, UNEVEN = 32 };
	float db[M * T], out[M * UNEVEN];
	hd_feature_config even = kept(W, M, HD_FRAMES_MEAN), uneven = kept(UNEVEN, M, HD_FRAMES_MEAN);
	for (int i = 0; i < M * T; i++)
		db[i] = -60 + 50 * sinf((float)(i * i));
	hd_features_fit_frames(out, db, T, &even);
	for (int m = 0; m < M; m++) {
		for (int w = 0; w < W; w++) {
			double sum = 0;
			for (int t = 0; t < T / W; t++)
				sum += pow(10, (double)db[m * T + w * T / W + t] / 10);
			double want = 10 * log10(sum * W / T), got = (double)out[m * W + w];
			cr_assert(fabs(got - want) <= 1e-4, "band %d, frame %d: got %g dB, want %g", m, w, got, want);
		}
	}
	/* spans of two and three frames: every frame counts in exactly one, and a level that stays is kept */
	for (int t = 0; t < T; t++) {
		for (int i = 0; i < M * T; i++)
			db[i] = i % T == t ? 0.0f : -300.0f;
		hd_features_fit_frames(out, db, T, &uneven);
		int heard = 0;
		for (int w = 0; w < UNEVEN; w++)
			heard += out[w] > -10;
		cr_assert_eq(heard, 1, "frame %d of %d is in %d spans", t, T, heard);
	}
	for (int i = 0; i < M * T; i++)
		db[i] = -42.5f;
	hd_features_fit_frames(out, db, T, &uneven);
	for (int i = 0; i < M * UNEVEN; i++)
		cr_assert(fabs((double)out[i] + 42.5) <= 1e-4, "[%d]: got %g dB, want -42.5", i, (double)out[i]);
}

/* The recording stands in the middle, mirrored at both ends. */
Test(features, short_recordings_are_reflected)
{
	enum { W = 32 };
	static const hd_frame_mode modes[] = {HD_FRAMES_CENTER, HD_FRAMES_WINDOWS, HD_FRAMES_MEAN};
	float db[10], out[2 * W];
	for (int i = 0; i < 10; i++)
		db[i] = (float)(-10 * i);
	for (size_t k = 0; k < 3; k++) {
		hd_feature_config c = kept(W, 2, modes[k]);
		hd_features_fit_frames(out, db, 5, &c);
		for (int i = 0; i < 2 * W; i++) {
			static const int five[8] = {0, 1, 2, 3, 4, 3, 2, 1};
			int want = i / W * 5 + five[(i % W - 13 + 2 * W) % 8];
			cr_assert_eq(out[i], db[want], "5 frames, mode %d, [%d]: got %g, want %g", (int)modes[k], i,
			        (double)out[i], (double)db[want]);
		}
		hd_features_fit_frames(out, db, 1, &c);
		for (int i = 0; i < 2 * W; i++)
			cr_assert_eq(out[i], db[i / W], "1 frame, mode %d, [%d]: got %g, want %g", (int)modes[k], i,
			        (double)out[i], (double)db[i / W]);
	}
}

Test(features, mode_random_keeps_four_inputs)
{
	hd_feature_config config = {.frames = 32, .frame_mode = HD_FRAMES_RANDOM};
	cr_assert_eq(hd_features_kept_frames(&config), 128);
	config.margin = 5;
	cr_assert_eq(hd_features_kept_frames(&config), 138);
	config.frame_mode = HD_FRAMES_CENTER;
	cr_assert_eq(hd_features_kept_frames(&config), 42);
	config.frame_mode = HD_FRAMES_MEAN;
	cr_assert_eq(hd_features_kept_frames(&config), 32);
}

/* ---- cepstrum ---- */

/* Against the definition in double; the error of a sum of M float products is at most M eps sum |terms|. */
Test(features, mfcc_is_the_orthonormal_dct)
{
	enum { R = 2, M = 40, T = 7, K = 13, H = 32 };
	float db[R * M * T], out[R * H * T], silence[H];
	hd_feature_config c = {.sample_rate_hz = 48000,
	        .n_fft = 512,
	        .hop_length = 128,
	        .n_mels = M,
	        .frames = 32,
	        .kind = HD_FEATURE_MFCC,
	        .n_mfcc = K};
	hd_backend *b = open_backend();
	hd_features *plan;
	cr_assert_eq(hd_features_create(&plan, b, &c), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < R * M * T; i++)
		db[i] = -60 + 30 * sinf((float)(i * i));
	cr_assert_eq(hd_features_height(&c), H);
	cr_assert_eq(hd_features_mfcc(plan, out, db, R, T), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < R * H * T; i++) {
		int t = i % T, k = i / T % H, r = i / T / H;
		double want = 0, size = 0;
		for (int m = 0; k < K && m < M; m++) {
			double term = sqrt((k ? 2.0 : 1.0) / M) * cos(M_PI * k * (m + 0.5) / M) *
			              (double)db[(r * M + m) * T + t];
			want += term;
			size += fabs(term);
		}
		cr_assert(fabs((double)out[i] - want) <= M * 0x1p-23 * size, "[%d][%d][%d]: got %g, want %g", r, k, t,
		        (double)out[i], want);
	}
	/* a silent recording gives the silence */
	for (int i = 0; i < R * M * T; i++)
		db[i] = HD_DB_SILENCE;
	cr_assert_eq(hd_features_mfcc(plan, out, db, R, T), HD_OK, "%s", hd_error_text());
	hd_features_silence(silence, &c);
	for (int i = 0; i < R * H * T; i++)
		cr_assert(fabs((double)out[i] - (double)silence[i / T % H]) <= 1e-3, "[%d]: %g, silence %g", i,
		        (double)out[i], (double)silence[i / T % H]);
	hd_features_free(plan);
	c.n_mfcc = 32;
	cr_assert_eq(hd_features_height(&c), 32);
	c.n_mfcc = 33;
	cr_assert_eq(hd_features_height(&c), 64);
	/* a plan for levels has no cepstrum */
	c.kind = HD_FEATURE_MEL;
	cr_assert_eq(hd_features_create(&plan, b, &c), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_features_mfcc(plan, out, db, 1, T), HD_E_USAGE);
	hd_features_free(plan);
	hd_backend_close(b);
}

/* ---- resampling ---- */

/* A complex tone keeps its level and frequency, in every format. */
Test(features, resampling_keeps_levels)
{
	enum { N = 12001, PROBE = 2000 };
	static const double rates[] = {12001, 48000, 8000.5};
	static const hd_dtype dtypes[] = {HD_I16, HD_F32, HD_F64, HD_I8, HD_U8};
	for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
		hd_iq iq = {.rows = 2, .samples = N, .dtype = dtypes[d], .scale = 1};
		iq.data = malloc((size_t)(2 * 2 * N) * sizeof(double));
		iq.scale = dtypes[d] == HD_I16  ? 1.0f / 32768
		           : dtypes[d] == HD_I8 ? 1.0f / 128
		           : dtypes[d] == HD_U8 ? 1.0f / 127.5f
		                                : 1;
		for (int i = 0; i < 4 * N; i++) {
			double v = 0.5 * cos(2 * M_PI * 700.0 / 12001 * (i / 2 % N) - (i % 2 ? M_PI / 2 : 0));
			if (dtypes[d] == HD_I16)
				((int16_t *)iq.data)[i] = (int16_t)lround(v * 32768);
			else if (dtypes[d] == HD_I8)
				((int8_t *)iq.data)[i] = (int8_t)lround(v * 128);
			else if (dtypes[d] == HD_U8)
				((uint8_t *)iq.data)[i] = (uint8_t)lround(v * 127.5 + 127.5);
			else if (dtypes[d] == HD_F32)
				((float *)iq.data)[i] = (float)v;
			else
				((double *)iq.data)[i] = v;
		}
		double to = rates[d % 3] == 12001 ? 96000 : rates[d % 3];
		cr_assert_eq(hd_iq_resample(&iq, 12001, to), HD_OK, "%s", hd_error_text());
		cr_assert(iq.rows == 2 && iq.dtype == HD_F32 && llabs(iq.samples - (int64_t)ceil(N * to / 12001)) <= 1,
		        "%ld samples at %g Hz", (long)iq.samples, to);
		const float *x = (const float *)iq.data + 2 * iq.samples;
		double coarse = dtypes[d] == HD_I8 || dtypes[d] == HD_U8 ? 0.01 : 2e-4;
		for (int64_t i = PROBE; i < iq.samples - PROBE; i++) {
			double phase = 2 * M_PI * 700.0 / to * (double)i;
			cr_assert(hypot((double)x[2 * i] - 0.5 * cos(phase), (double)x[2 * i + 1] - 0.5 * sin(phase)) <
			                  coarse,
			        "dtype %d, sample %ld: %g %g, want %g %g", (int)dtypes[d], (long)i, (double)x[2 * i],
			        (double)x[2 * i + 1], 0.5 * cos(phase), 0.5 * sin(phase));
		}
		hd_iq_free(&iq);
	}
}
