/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The features as ONNX operations against those of the library, over conventions, lengths, opsets and frame modes:
 * graphs, recordings, levels and their bounds are written here, ONNX Runtime runs them in onnx_front_end.py.
 */
#include "host/export/front_end.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "heimdall/iq.h"
#include "host/data/mel.h"
#include "tests/folder.h"

enum signal { CARRIER, NOISE, BURSTS, SILENT };
static const char *const signal_names[] = {"carrier", "noise", "bursts", "silent"};

typedef struct front_end_case {
	int opset, n_fft, hop, mels, frames; /* M, W */
	int64_t samples;
	int N, C;
	enum signal signal;
	float level; /* of the recordings' samples */
	hd_stft_convention convention;
	hd_mel_scale scale;
	hd_mel_norm norm;
	hd_frame_mode mode;
	int n_mfcc; /* 0: mel levels */
	hd_onnx_signal kind;
} front_end_case;

#define LIBROSA .convention = HD_STFT_LIBROSA
#define SLANEY .scale = HD_MEL_SLANEY, .norm = HD_MEL_NORM_SLANEY
#define MAGNITUDE .kind = HD_ONNX_SIGNAL_MAGNITUDE
/* opset, n_fft, hop, M, W, samples, N, C, signal, level, and what is not the default */
#define CASE(o, n, h, m, w, s, b, c, what, size, ...)                                                                  \
	{                                                                                                              \
		.opset = o, .n_fft = n, .hop = h, .mels = m, .frames = w, .samples = s, .N = b, .C = c,                \
		.signal = what, .level = size, __VA_ARGS__                                                             \
	}
static const front_end_case cases[] = {
        /* a few windows and a rest */
        CASE(17, 512, 128, 64, 32, 20000, 1, 3, CARRIER, 1),
        CASE(14, 512, 128, 64, 32, 20000, 1, 3, CARRIER, 1),
        CASE(20, 2048, 512, 128, 32, 60000, 2, 3, NOISE, 0.01f),
        CASE(14, 2048, 512, 128, 32, 60000, 2, 3, CARRIER, 0.01f),
        CASE(18, 256, 64, 32, 16, 5000, 2, 7, BURSTS, 1, SLANEY),
        CASE(16, 256, 64, 32, 16, 5000, 2, 7, BURSTS, 1, SLANEY),
        CASE(17, 1024, 256, 128, 32, 30000, 1, 1, CARRIER, 1, MAGNITUDE),
        CASE(17, 512, 128, 64, 32, 20001, 1, 3, CARRIER, 1, LIBROSA),
        CASE(14, 512, 128, 64, 32, 20001, 1, 3, NOISE, 3000, LIBROSA, SLANEY),
        /* lengths that are no power of two, hops that do not divide them, a prime factor */
        CASE(17, 1000, 333, 64, 32, 30000, 1, 3, CARRIER, 1),
        CASE(20, 1000, 250, 64, 32, 30011, 2, 1, CARRIER, 1, LIBROSA),
        CASE(14, 1018, 1018, 40, 8, 20000, 1, 3, NOISE, 1, SLANEY),
        CASE(17, 512, 100, 64, 32, 9999, 1, 3, BURSTS, 1, LIBROSA),
        CASE(15, 512, 511, 64, 8, 20000, 1, 3, CARRIER, 1, LIBROSA),
        /* exactly W frames, one more, one less, 2W-1, 2W; a single frame; less than one transform */
        CASE(17, 512, 128, 64, 32, 31 * 128, 1, 3, CARRIER, 1),
        CASE(17, 512, 128, 64, 32, 31 * 128 + 1, 1, 3, CARRIER, 1),
        CASE(14, 512, 128, 64, 32, 30 * 128, 1, 3, CARRIER, 1),
        CASE(14, 512, 128, 64, 32, 62 * 128, 1, 3, NOISE, 1),
        CASE(19, 512, 128, 64, 32, 63 * 128, 2, 3, NOISE, 1),
        CASE(17, 512, 128, 64, 32, 100, 2, 3, NOISE, 1, LIBROSA),
        CASE(14, 512, 128, 64, 32, 1, 1, 3, NOISE, 1),
        CASE(17, 512, 128, 64, 33, 300, 1, 3, BURSTS, 1, MAGNITUDE),
        /* silence, in all channels and in one */
        CASE(17, 512, 128, 64, 32, 9000, 1, 3, SILENT, 0),
        CASE(14, 512, 128, 64, 32, 9000, 2, 3, SILENT, 0),
        /* the other modes: center and random are windows here, as they are for heimdall predict */
        CASE(17, 512, 128, 64, 32, 20000, 1, 3, NOISE, 1, .mode = HD_FRAMES_CENTER),
        CASE(14, 512, 128, 64, 32, 20000, 1, 3, NOISE, 1, .mode = HD_FRAMES_RANDOM),
        CASE(17, 512, 128, 64, 32, 20000, 2, 3, BURSTS, 1, .mode = HD_FRAMES_MEAN),
        CASE(14, 512, 128, 64, 32, 31 * 128, 1, 3, CARRIER, 1, .mode = HD_FRAMES_MEAN),
        CASE(14, 512, 128, 64, 32, 1000, 2, 3, NOISE, 1, .mode = HD_FRAMES_MEAN),
        CASE(14, 512, 128, 64, 32, 28 * 128, 1, 3, NOISE, 1, .mode = HD_FRAMES_MEAN),
        /* cepstra */
        CASE(17, 512, 128, 64, 32, 20000, 2, 3, NOISE, 1, .n_mfcc = 13),
        CASE(14, 512, 128, 128, 32, 20000, 1, 3, CARRIER, 1, .n_mfcc = 40, .mode = HD_FRAMES_MEAN),
};

static hd_feature_config config_of(const front_end_case *k)
{
	return (hd_feature_config){.sample_rate_hz = 48000,
	        .n_fft = k->n_fft,
	        .hop_length = k->hop,
	        .n_mels = k->mels,
	        .frames = k->frames,
	        .convention = k->convention,
	        .mel_scale = k->scale,
	        .mel_norm = k->norm,
	        .frame_mode = k->mode,
	        .windows = 5,
	        .margin = 3,
	        .kind = k->n_mfcc ? HD_FEATURE_MFCC : HD_FEATURE_MEL,
	        .n_mfcc = k->n_mfcc};
}

/* What `heimdall predict` makes of the settings for recordings of T frames. */
static hd_feature_config predicted(const hd_feature_config *config, int64_t T)
{
	hd_feature_config c = *config;
	if (c.frame_mode != HD_FRAMES_MEAN) {
		c.frame_mode = HD_FRAMES_WINDOWS;
		c.margin = 0;
		c.windows = T > c.frames ? (int)(T / c.frames) : 1;
	}
	return c;
}

/* ---- recordings ---- */

/* -1 .. 1 */
static float uniform(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(*state >> 33) / (double)(UINT64_C(1) << 30) - 1);
}

/* (N*C,samples,2); with several channels the last one is missing in every second recording. */
static float *make_iq(const front_end_case *k)
{
	uint64_t state = 7;
	int64_t rows = (int64_t)k->N * k->C;
	float *iq = calloc((size_t)(rows * k->samples), 2 * sizeof *iq);
	cr_assert_not_null(iq);
	for (int64_t i = 0; i < rows * k->samples; i++) {
		int64_t row = i / k->samples, at = i % k->samples;
		double phase = 0.01 * (double)at + (double)row;
		bool off = k->signal == SILENT || (k->C > 1 && row == k->C - 1 && k->N > 1) ||
		           (k->signal == BURSTS && at / 700 % 2);
		float carrier = off || k->signal == NOISE ? 0 : k->level, noise = 1e-3f * k->level;
		if (k->signal == NOISE)
			noise = k->level;
		/* the phase turns by a constant step: only the noise moves the magnitude */
		iq[2 * i] = off ? 0 : carrier * (float)cos(phase) + noise * uniform(&state);
		iq[2 * i + 1] = off ? 0 : carrier * (float)sin(phase) + noise * uniform(&state);
	}
	return iq;
}

/* ---- bounds ---- */

/*
 * Bound (M,T) in dB of the difference between two correct levels db (M,T) of one row in single precision. Of a frame u
 * (windowed) an FFT's bins are off by about u_0 sqrt(log2 n) |u|, u_0 = eps/2 (Schatzman 1996), at the worst of many by
 * less than e = 3 eps log2(n) |u|, and so are the magnitudes' roundings seen through it; |u| <= peak sqrt(3n/8), the
 * norm of the window. By Cauchy and Schwarz mel power P = sum w|X|^2 moves by 2e sqrt(sum w P) + e^2 sum w. Sums of
 * positive terms and the logarithm add roundings relative to P and to the level.
 */
static void bound_levels(
        float *bound, const float *db, const float *weights, int64_t T, double peak, const hd_feature_config *c)
{
	double n = c->n_fft, scale = c->convention == HD_STFT_SCIPY ? 2 / n : 1;
	double e = scale * 3 * FLT_EPSILON * log2(n) * peak * sqrt(3 * n / 8);
	for (int64_t i = 0; i < c->n_mels * T; i++) {
		double sum = (double)weights[i / T], level = (double)db[i], power = pow(10, level / 10);
		double moved = 2 * e * sqrt(sum * power) + e * e * sum + power * FLT_EPSILON * 2 * sqrt(n);
		bound[i] = (float)(10 / M_LN10 * moved / power + 4 * FLT_EPSILON * fabs(level));
	}
}

/* Bound (H,W) of cepstra of levels db (M,W) with bound (M,W): both sides add M terms in single precision. */
static void bound_cepstrum(float *out, const float *bound, const float *db, int64_t W, const hd_feature_config *c)
{
	int64_t M = c->n_mels, H = hd_features_height(c);
	for (int64_t i = 0; i < H * W; i++) {
		int64_t k = i / W;
		double scale = sqrt((k ? 2.0 : 1.0) / (double)M), sum = 0;
		for (int64_t m = 0; k < c->n_mfcc && m < M; m++) {
			double d = fabs(scale * cos(M_PI * (double)k * ((double)m + 0.5) / (double)M));
			double level = fabs((double)db[m * W + i % W]);
			sum += d * ((double)bound[m * W + i % W] + 2 * sqrt((double)M) * FLT_EPSILON * level);
		}
		out[i] = (float)sum;
	}
}

/* Sums of each filter's weights: what the mel power of white noise of power 1 per bin is. */
static float *filter_sums(const hd_feature_config *c)
{
	float *sums = calloc((size_t)c->n_mels, sizeof *sums);
	hd_mel mel;
	cr_assert(sums && hd_mel_create(&mel, c) == HD_OK);
	for (int m = 0; m < mel.M; m++)
		for (int32_t i = mel.offset[m]; i < mel.offset[m + 1]; i++)
			sums[m] += mel.w[i];
	hd_mel_free(&mel);
	return sums;
}

/* ---- what the library makes of them ---- */

typedef struct answer {
	float *levels, *bounds; /* (N*K,C,H,W), before they are rounded to half precision */
	int64_t shape[4];
} answer;

/* Row (H,K*W) to its places in (N*K,C,H,W). */
static void place(float *to, const float *from, int64_t row, const answer *a, int64_t K)
{
	int64_t C = a->shape[1], H = a->shape[2], W = a->shape[3];
	for (int64_t i = 0; i < K * H * W; i++) {
		int64_t w = i / H / W, h = i / W % H;
		to[((row / C * K + w) * C + row % C) * H * W + i % (H * W)] = from[h * K * W + w * W + i % W];
	}
}

static float peak_of(const float *iq, int64_t samples)
{
	float peak = 0;
	for (int64_t i = 0; i < samples; i++)
		peak = fmaxf(peak, hypotf(iq[2 * i], iq[2 * i + 1]));
	return peak;
}

static answer library_answer(const front_end_case *k, const hd_feature_config *config, float *iq)
{
	hd_backend *backend;
	hd_features *plan;
	int64_t rows = (int64_t)k->N * k->C, T = hd_features_frame_count(config, k->samples), M = k->mels;
	hd_feature_config c = predicted(config, T);
	int64_t K = hd_features_windows(&c), H = hd_features_height(&c), W = k->frames;
	answer a = {.shape = {k->N * K, k->C, H, W}};
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 2), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_features_create(&plan, backend, &c), HD_OK, "%s", hd_error_text());
	float *db = malloc((size_t)(rows * M * T) * sizeof *db), *bound = malloc((size_t)(M * T) * sizeof *bound);
	float *kept = malloc((size_t)((2 * M + H) * K * W) * sizeof *kept), *sums = filter_sums(&c);
	float *kept_bound = kept + M * K * W, *final = kept_bound + M * K * W;
	size_t bytes = (size_t)(rows * K * H * W) * sizeof(float);
	a.levels = malloc(bytes);
	a.bounds = malloc(bytes);
	const hd_iq all = {.rows = rows, .samples = k->samples, .dtype = HD_F32, .scale = 1, .data = iq};
	cr_assert_eq(hd_features_compute(plan, db, &all), HD_OK, "%s", hd_error_text());
	for (int64_t r = 0; r < rows; r++) {
		double peak = (double)peak_of(iq + 2 * r * k->samples, k->samples);
		bound_levels(bound, db + r * M * T, sums, T, peak, &c);
		hd_features_fit_frames(kept, db + r * M * T, T, &c);
		/* of a mean it is no more than their mean power in dB: louder frames, which count more, have less */
		hd_features_fit_frames(kept_bound, bound, T, &c);
		if (c.kind == HD_FEATURE_MFCC)
			cr_assert_eq(hd_features_mfcc(plan, final, kept, 1, K * W), HD_OK, "%s", hd_error_text());
		place(a.levels, c.kind == HD_FEATURE_MFCC ? final : kept, r, &a, K);
		if (c.kind == HD_FEATURE_MFCC)
			bound_cepstrum(final, kept_bound, kept, K * W, &c);
		place(a.bounds, c.kind == HD_FEATURE_MFCC ? final : kept_bound, r, &a, K);
	}
	free(sums);
	free(kept);
	free(bound);
	free(db);
	hd_features_free(plan);
	hd_backend_close(backend);
	return a;
}

/* ---- files ---- */

static void write_array(const char *name, const char *part, int ndim, const int64_t *shape, const float *data)
{
	char path[600];
	size_t bytes = sizeof *data;
	for (int d = 0; d < ndim; d++)
		bytes *= (size_t)shape[d];
	snprintf(path, sizeof path, "%s.%s.npy", file_in(name), part);
	cr_assert_eq(hd_npy_write(path, "<f4", shape, ndim, data, bytes), HD_OK, "%s", hd_error_text());
}

static void write_graph(hd_onnx *g, const char *name)
{
	char path[600];
	snprintf(path, sizeof path, "%s.onnx", file_in(name));
	cr_assert_eq(hd_onnx_write(g, path, HD_ONNX_EXTERNAL_NEVER), HD_OK, "%s: %s", name, hd_error_text());
	hd_onnx_free(g);
}

static void write_front_end(const front_end_case *k, const hd_feature_config *c, const char *name)
{
	hd_onnx *g;
	hd_onnx_value features, windows;
	bool iq = k->kind == HD_ONNX_SIGNAL_IQ;
	const hd_onnx_dim in[4] = {{.name = "emissions"}, {.size = k->C}, {.name = "samples"}, {.size = 2}};
	const hd_onnx_dim out[4] = {
	        {.name = "windows"}, {.size = k->C}, {.size = hd_features_height(c)}, {.size = c->frames}};
	cr_assert_eq(hd_onnx_create(&g, k->opset, "front_end"), HD_OK, "%s", hd_error_text());
	hd_onnx_value signal = hd_onnx_input(g, "signal", HD_ONNX_F32, iq ? 4 : 3, in);
	hd_export_front_end(g, c, k->kind, signal, &features, &windows);
	hd_onnx_output(g, features, "features", HD_ONNX_F32, 4, out);
	hd_onnx_output(g, windows, "count", HD_ONNX_I64, 0, NULL);
	write_graph(g, name);
}

static void write_case(const front_end_case *k, const char *name)
{
	hd_feature_config c = config_of(k);
	float *iq = make_iq(k);
	write_front_end(k, &c, name);
	answer a = library_answer(k, &c, iq);
	int64_t samples = (int64_t)k->N * k->C * k->samples;
	const int64_t shape[4] = {k->N, k->C, k->samples, 2};
	if (k->kind == HD_ONNX_SIGNAL_MAGNITUDE)
		for (int64_t i = 0; i < samples; i++)
			iq[i] = sqrtf(iq[2 * i] * iq[2 * i] + iq[2 * i + 1] * iq[2 * i + 1]);
	write_array(name, "signal", k->kind == HD_ONNX_SIGNAL_IQ ? 4 : 3, shape, iq);
	write_array(name, "levels", 4, a.shape, a.levels);
	write_array(name, "bounds", 4, a.shape, a.bounds);
	free(a.bounds);
	free(a.levels);
	free(iq);
}

static void write_fuse(int opset, const char *name)
{
	hd_onnx *g;
	const hd_onnx_dim rows[2] = {{.name = "windows"}, {.size = 2}},
	                  answers[2] = {{.name = "emissions"}, {.size = 2}};
	cr_assert_eq(hd_onnx_create(&g, opset, "fuse"), HD_OK, "%s", hd_error_text());
	hd_onnx_value count = hd_onnx_input(g, "count", HD_ONNX_I64, 0, NULL);
	hd_onnx_value mu = hd_onnx_input(g, "mu", HD_ONNX_F32, 2, rows);
	hd_onnx_value sigma = hd_onnx_input(g, "sigma", HD_ONNX_F32, 2, rows);
	hd_export_fuse(g, count, &mu, &sigma);
	hd_onnx_output(g, mu, "mean", HD_ONNX_F32, 2, answers);
	hd_onnx_output(g, sigma, "deviation", HD_ONNX_F32, 2, answers);
	write_graph(g, name);
}

/* ---- tests ---- */

Test(front_end, as_the_library, .init = start, .fini = stop, .timeout = 300)
{
	char command[1024];
	const char *python = getenv("HEIMDALL_PYTHON");
	if (!python || !*python)
		python = "python3";
	snprintf(command, sizeof command, "'%s' -c 'import onnx, onnxruntime' 2>/dev/null", python);
	if (system(command) != 0)
		cr_skip_test("%s has no onnx and onnxruntime; HEIMDALL_PYTHON names one that has", python);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char name[128];
		const front_end_case *k = &cases[i];
		snprintf(name, sizeof name, "%02zu-opset%d-fft%d-%lld-%s", i, k->opset, k->n_fft, (long long)k->samples,
		        signal_names[k->signal]);
		write_case(k, name);
	}
	write_fuse(14, "fuse14");
	write_fuse(18, "fuse18");
	snprintf(command, sizeof command, "'%s' tests/onnx_front_end.py '%s' %zu", python, folder,
	        sizeof cases / sizeof *cases);
	cr_assert_eq(system(command), 0);
}

/* 65498 = 2 * 32749, which is prime. */
Test(front_end, large_prime_factor)
{
	hd_onnx *g;
	hd_onnx_value features, windows;
	hd_feature_config c = config_of(&cases[0]);
	const hd_onnx_dim in[3] = {{.name = "emissions"}, {.size = 3}, {.name = "samples"}};
	cr_assert_eq(hd_onnx_create(&g, 17, "front_end"), HD_OK, "%s", hd_error_text());
	hd_onnx_value signal = hd_onnx_input(g, "signal", HD_ONNX_F32, 3, in);
	c.n_fft = 2 * 32749;
	hd_export_front_end(g, &c, HD_ONNX_SIGNAL_MAGNITUDE, signal, &features, &windows);
	cr_assert_eq(hd_onnx_status(g), HD_E_UNSUPPORTED);
	cr_assert(strstr(hd_error_text(), "65498"), "%s", hd_error_text());
	hd_onnx_free(g);
}
