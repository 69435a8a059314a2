/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the feature operations. */
#include <math.h>
#include <stdlib.h>

#include "tests/cases/case.h"
#include "tests/ref/ref.h"

#define DB_PER_NEPER 4.3429448190325175 /* 10/ln 10 */

/* ---- magnitude: dtype by variant ---- */

static const hd_dtype iq_types[] = {HD_I8, HD_U8, HD_I16, HD_F32, HD_F64};
static const double iq_low[] = {-128, 0, -32768, -1, -1}, iq_high[] = {128, 256, 32768, 1, 1};
#define MAGNITUDE_SCALE 0.37f

static void magnitude_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int v = run->variant;
	hd_output(run, "out", HD_F32, run->shape->d[0]);
	hd_input(run, "iq", iq_types[v], 2 * run->shape->d[0], iq_low[v], iq_high[v]);
}

static hd_status magnitude_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->magnitude(
	        hd_dev(run, "out"), hd_dev(run, "iq"), iq_types[run->variant], MAGNITUDE_SCALE, run->shape->d[0], NULL);
}

/* Two conversions, two products, a sum, a root, the scale: three eps of the result. */
static void magnitude_reference(hd_case_run *run)
{
	double offset = iq_types[run->variant] == HD_U8 ? 127.5 : 0;
	ref_magnitude(hd_want(run, "out"), hd_val(run, "iq"), offset, (double)MAGNITUDE_SCALE, run->shape->d[0]);
	for (int64_t i = 0; i < run->shape->d[0]; i++)
		hd_mag(run, "out")[i] = fabs(hd_want(run, "out")[i]);
	hd_bound(run, "out", 3);
}

static double magnitude_flops(const hd_shape *s)
{
	return 5 * (double)s->d[0];
}

static double magnitude_bytes(const hd_shape *s)
{
	return 6 * (double)s->d[0]; /* variant 0: two bytes in, one float out */
}

static const hd_shape magnitude_shapes[] = {{{0}}, {{1}}, {{7}}, {{17}}, {{8193}}};
static const hd_shape magnitude_bench[] = {{{192000}}, {{6144000}}};
const hd_case hd_case_magnitude = {"magnitude", "n", magnitude_shapes, HD_COUNT(magnitude_shapes), magnitude_bench,
        HD_COUNT(magnitude_bench), HD_COUNT(iq_types), false, magnitude_make, magnitude_call, magnitude_reference, NULL,
        magnitude_flops, magnitude_bytes, false, NULL};

/* ---- stft_power, mel_db and both in one; d: R n T n_fft hop M ---- */

#define STFT_SCALE 0.05f
#define MEL_FLOOR 1e-6f

typedef struct stft_sizes {
	int64_t R, n, T, n_fft, hop, M, F;
} stft_sizes;

static stft_sizes stft_of(const hd_shape *s)
{
	return (stft_sizes){s->d[0], s->d[1], s->d[2], s->d[3], s->d[4], s->d[5], s->d[3] / 2 + 1};
}

static void stft_inputs(hd_case_run *run, stft_sizes z)
{
	hd_input(run, "x", HD_F32, z.R * z.n, -1, 1);
	hd_input(run, "window", HD_F32, z.n_fft, 0, 1);
}

/* Triangle-like supports of 1 to 5 bins; every third filter is empty. */
static void mel_inputs(hd_case_run *run, int64_t F, int64_t M)
{
	hd_buffer *first = hd_input(run, "first", HD_I32, M, 0, 1);
	hd_buffer *offset = hd_input(run, "offset", HD_I32, M + 1, 0, 1);
	int64_t total = 0;
	for (int64_t m = 0; m < M; m++) {
		int64_t from = m * (F - 1) / M, length = m % 3 == 1 ? 0 : 1 + m % 5;
		length = length > F - from ? F - from : length;
		hd_set(first, m, (double)from);
		hd_set(offset, m, (double)total);
		total += length;
	}
	hd_set(offset, M, (double)total);
	hd_input(run, "w", HD_F32, total, 0.01, 1);
}

/*
 * A radix FFT passes every term through log2(n_fft) butterflies of at most three roundings and the window's:
 * error of a bin e = c eps sum |terms|, c = 1.5 log2 + 1; so |X|^2 is off by 2|X|e + e^2 and four roundings.
 */
static double power_bound(double power, double l1, double scale, int64_t n_fft)
{
	double e = (1.5 * log2((double)n_fft) + 1) * HD_EPS * l1 * scale;
	return 2 * sqrt(power) * e + e * e + 2 * HD_EPS * power;
}

static void stft_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	stft_sizes z = stft_of(run->shape);
	hd_output(run, "power", HD_F32, z.R * z.T * z.F);
	stft_inputs(run, z);
}

static hd_status stft_call(const hd_ops *ops, const hd_case_run *run)
{
	stft_sizes z = stft_of(run->shape);
	return ops->stft_power(hd_dev(run, "power"), hd_dev(run, "x"), hd_dev(run, "window"), STFT_SCALE, z.R, z.n, z.T,
	        z.n_fft, z.hop, NULL);
}

static void stft_reference(hd_case_run *run)
{
	stft_sizes z = stft_of(run->shape);
	double *l1 = calloc((size_t)(z.R * z.T) + 1, sizeof *l1);
	hd_buffer *out = hd_find(run, "power");
	if (!l1)
		abort();
	ref_stft_power(out->want, l1, hd_val(run, "x"), hd_val(run, "window"), (double)STFT_SCALE, z.R, z.n, z.T,
	        z.n_fft, z.hop);
	for (int64_t i = 0; i < z.R * z.T * z.F; i++)
		out->bound[i] = power_bound(out->want[i], l1[i / z.F], (double)STFT_SCALE, z.n_fft);
	free(l1);
}

static double stft_flops(const hd_shape *s)
{
	stft_sizes z = stft_of(s);
	return (double)(z.R * z.T) *
	       (2.5 * (double)z.n_fft * log2((double)z.n_fft) + (double)z.n_fft + 4 * (double)z.F);
}

static double stft_bytes(const hd_shape *s)
{
	stft_sizes z = stft_of(s);
	return 4 * (double)(z.R * z.n + z.R * z.T * z.F + z.n_fft);
}

/* Frames stick out at both ends in all of them; n < n_fft in two. The lengths that recordings are taken with too. */
static const hd_shape stft_shapes[] = {{{0, 100, 5, 16, 8, 4}}, {{1, 1, 1, 2, 1, 1}}, {{1, 100, 14, 16, 8, 5}},
        {{2, 37, 9, 64, 7, 7}}, {{3, 1000, 9, 128, 127, 31}}, {{2, 200, 3, 512, 128, 128}}, {{1, 301, 12, 30, 31, 8}},
        {{1, 50, 0, 16, 8, 3}}, {{2, 3333, 8, 1024, 512, 63}}, {{1, 2049, 6, 2048, 512, 40}},
        {{2, 5001, 11, 2048, 512, 128}}, {{1, 6145, 14, 4096, 512, 127}}};
static const hd_shape stft_bench[] = {{{1, 16384, 33, 512, 512, 128}}, {{4, 16384, 129, 512, 128, 128}}};
const hd_case hd_case_stft_power = {"stft_power", "R n T n_fft hop M", stft_shapes, HD_COUNT(stft_shapes), stft_bench,
        HD_COUNT(stft_bench), 1, false, stft_make, stft_call, stft_reference, NULL, stft_flops, stft_bytes, false,
        NULL};

/* ---- mel_db; d: R T F M ---- */

static void mel_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	const int64_t *d = run->shape->d;
	hd_output(run, "db", HD_F32, d[0] * d[3] * d[1]);
	hd_input(run, "power", HD_F32, d[0] * d[1] * d[2], 0, 1);
	mel_inputs(run, d[2], d[3]);
}

static hd_status mel_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->mel_db(hd_dev(run, "db"), hd_dev(run, "power"), hd_dev(run, "first"), hd_dev(run, "offset"),
	        hd_dev(run, "w"), MEL_FLOOR, d[0], d[1], d[2], d[3], NULL);
}

/*
 * A sum of positive terms is off by (length + 2) eps/2 of itself, which the logarithm turns into that times
 * 10/ln 10; the logarithm and its factor round to 2 eps of the result.
 */
static void mel_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	hd_buffer *out = hd_find(run, "db");
	const double *offset = hd_val(run, "offset");
	ref_mel_db(out->want, out->magnitude, hd_val(run, "power"), hd_val(run, "first"), offset, hd_val(run, "w"),
	        (double)MEL_FLOOR, d[0], d[1], d[2], d[3]);
	for (size_t i = 0; i < out->count; i++) {
		int64_t m = (int64_t)i / d[1] % d[3];
		out->bound[i] =
		        DB_PER_NEPER * (offset[m + 1] - offset[m] + 2) / 2 * HD_EPS + 2 * HD_EPS * fabs(out->want[i]);
	}
}

static double mel_flops(const hd_shape *s)
{
	/* filters have 2 bins on average (mel_inputs) and a logarithm */
	return (double)(s->d[0] * s->d[1] * s->d[3]) * (2 * 2.0 + 2);
}

static double mel_bytes(const hd_shape *s)
{
	return 4 * (double)(s->d[0] * s->d[1] * (s->d[2] + s->d[3]));
}

static const hd_shape mel_shapes[] = {
        {{0, 3, 9, 4}}, {{1, 1, 1, 1}}, {{2, 5, 17, 7}}, {{3, 32, 257, 128}}, {{1, 0, 9, 4}}, {{1, 31, 65, 0}}};
static const hd_shape mel_bench[] = {{{3, 376, 257, 128}}, {{32, 376, 257, 128}}};
const hd_case hd_case_mel_db = {"mel_db", "R T F M", mel_shapes, HD_COUNT(mel_shapes), mel_bench, HD_COUNT(mel_bench),
        1, false, mel_make, mel_call, mel_reference, NULL, mel_flops, mel_bytes, false, NULL};

/* ---- stft_mel_db ---- */

static void fused_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	stft_sizes z = stft_of(run->shape);
	hd_output(run, "db", HD_F32, z.R * z.M * z.T);
	stft_inputs(run, z);
	mel_inputs(run, z.F, z.M);
}

static hd_status fused_call(const hd_ops *ops, const hd_case_run *run)
{
	stft_sizes z = stft_of(run->shape);
	return ops->stft_mel_db(hd_dev(run, "db"), hd_dev(run, "x"), hd_dev(run, "window"), STFT_SCALE,
	        hd_dev(run, "first"), hd_dev(run, "offset"), hd_dev(run, "w"), MEL_FLOOR, z.R, z.n, z.T, z.n_fft, z.hop,
	        z.M, NULL);
}

/* The bins' bounds go through the filter with its weights, then as in mel_reference; e < 1 to first order. */
static void fused_reference(hd_case_run *run)
{
	stft_sizes z = stft_of(run->shape);
	size_t bins = (size_t)(z.R * z.T * z.F) + 1;
	double *power = calloc(bins, sizeof *power), *l1 = calloc((size_t)(z.R * z.T) + 1, sizeof *l1);
	if (!power || !l1)
		abort();
	const double *first = hd_val(run, "first"), *offset = hd_val(run, "offset"), *w = hd_val(run, "w");
	hd_buffer *out = hd_find(run, "db");
	ref_stft_power(
	        power, l1, hd_val(run, "x"), hd_val(run, "window"), (double)STFT_SCALE, z.R, z.n, z.T, z.n_fft, z.hop);
	ref_mel_db(out->want, out->magnitude, power, first, offset, w, (double)MEL_FLOOR, z.R, z.T, z.F, z.M);
	for (size_t i = 0; i < out->count; i++) {
		int64_t t = (int64_t)i % z.T, m = (int64_t)i / z.T % z.M, r = (int64_t)i / z.T / z.M;
		double sum = out->magnitude[i], e = (offset[m + 1] - offset[m] + 2) / 2 * HD_EPS * sum;
		for (int64_t k = (int64_t)offset[m]; k < (int64_t)offset[m + 1]; k++) {
			int64_t bin = (r * z.T + t) * z.F + (int64_t)first[m] + k - (int64_t)offset[m];
			e += w[k] * power_bound(power[bin], l1[r * z.T + t], (double)STFT_SCALE, z.n_fft);
		}
		out->bound[i] = -DB_PER_NEPER * log1p(-fmin(e / sum, 0.5)) + 2 * HD_EPS * fabs(out->want[i]);
	}
	free(l1);
	free(power);
}

static double fused_flops(const hd_shape *s)
{
	return stft_flops(s) + (double)(s->d[0] * s->d[2] * s->d[5]) * 6;
}

static double fused_bytes(const hd_shape *s)
{
	stft_sizes z = stft_of(s);
	return 4 * (double)(z.R * z.n + z.R * z.T * z.M + z.n_fft);
}

const hd_case hd_case_stft_mel_db = {"stft_mel_db", "R n T n_fft hop M", stft_shapes, HD_COUNT(stft_shapes), stft_bench,
        HD_COUNT(stft_bench), 1, false, fused_make, fused_call, fused_reference, NULL, fused_flops, fused_bytes, false,
        NULL};

/* ---- mfcc; d: R M K H T ---- */

static void mfcc_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	const int64_t *d = run->shape->d;
	hd_output(run, "out", HD_F32, d[0] * d[3] * d[4]);
	hd_input(run, "db", HD_F32, d[0] * d[1] * d[4], -90, 20);
	hd_input(run, "dct", HD_F32, d[2] * d[1], -0.3, 0.3);
}

static hd_status mfcc_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->mfcc(hd_dev(run, "out"), hd_dev(run, "db"), hd_dev(run, "dct"), d[0], d[1], d[2], d[3], d[4], NULL);
}

/* A sum of M products; the rows behind the coefficients have no terms, and so no error. */
static void mfcc_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	ref_mfcc(hd_want(run, "out"), hd_mag(run, "out"), hd_val(run, "db"), hd_val(run, "dct"), d[0], d[1], d[2], d[3],
	        d[4]);
	hd_bound(run, "out", hd_sum_c(d[1]));
}

static double mfcc_flops(const hd_shape *s)
{
	return 2 * (double)(s->d[0] * s->d[2] * s->d[1] * s->d[4]);
}

static double mfcc_bytes(const hd_shape *s)
{
	return 4 * (double)(s->d[0] * (s->d[1] + s->d[3]) * s->d[4] + s->d[2] * s->d[1]);
}

/* No recording, no mels, no coefficients, no frames; tiles of 32 frames, mels and coefficients from both sides. */
static const hd_shape mfcc_shapes[] = {{{0, 4, 2, 32, 5}}, {{1, 0, 2, 32, 7}}, {{2, 7, 0, 32, 9}}, {{2, 9, 5, 32, 0}},
        {{1, 1, 1, 1, 1}}, {{1, 1, 1, 32, 3}}, {{1, 31, 31, 31, 31}}, {{2, 32, 32, 32, 32}}, {{3, 33, 33, 64, 65}},
        {{2, 65, 9, 32, 33}}, {{2, 128, 13, 32, 37}}, {{1, 127, 97, 128, 71}}};
static const hd_shape mfcc_bench[] = {{{7, 128, 13, 32, 376}}, {{64, 128, 40, 64, 376}}};
const hd_case hd_case_mfcc = {"mfcc", "R M K H T", mfcc_shapes, HD_COUNT(mfcc_shapes), mfcc_bench, HD_COUNT(mfcc_bench),
        1, false, mfcc_make, mfcc_call, mfcc_reference, NULL, mfcc_flops, mfcc_bytes, false, NULL};

/* ---- assemble_batch; d: N C M T W; variants: 0 plain, 1 mean NULL, 2 offsets, 3 all random changes ---- */

#define SAMPLES 3
#define VARIANTS 4
static const hd_augment assemble_augment = {
        .dropout = 0.3f, .scale_min = 0.9f, .scale_max = 1.2f, .level_jitter = 3, .receiver_dropout = 0.6f};

static void assemble_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	const int64_t *d = run->shape->d;
	hd_output(run, "out", run->dtype, d[0] * d[2] * d[4] * d[1]);
	hd_buffer *db = hd_input(run, "db", HD_F16, SAMPLES * d[1] * d[2] * d[3], -100, 20);
	/* sample 0, channel 0 is constant: no variance */
	for (int64_t i = 0; i < d[2] * d[3]; i++)
		hd_set(db, i, -60);
	hd_buffer *index = hd_input(run, "index", HD_I32, d[0], 0, SAMPLES);
	hd_input(run, "start", HD_I32, d[0], 0, (double)(d[3] - d[4] + 1));
	for (int64_t n = 0; n < d[0]; n++) {
		if (n == 0)
			hd_set(index, n, 0);
		if (n % 3 == 1)
			hd_set(index, n, -1);
	}
	hd_input(run, "silence", HD_F32, d[2], -90, -85);
	if (run->variant != 1) {
		hd_input(run, "mean", HD_F32, d[2], -80, -40);
		hd_input(run, "rstd", HD_F32, d[2], 0.05, 0.2);
	}
	if (run->variant >= 2)
		hd_input(run, "offset", HD_F32, d[1], -8, 8);
	if (run->variant == 3) {
		hd_input(run, "key", HD_I32, 4, -0x1p31, 0x1p31);
		hd_input(run, "sample", HD_I32, d[0], -0x1p31, 0x1p31);
	}
}

static hd_status assemble_call(const hd_ops *ops, const hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	return ops->assemble_batch(hd_dev(run, "out"), hd_dev(run, "db"), hd_dev(run, "index"), hd_dev(run, "start"),
	        hd_dev(run, "mean"), hd_dev(run, "rstd"), hd_dev(run, "silence"), hd_dev(run, "offset"),
	        run->variant == 3 ? &assemble_augment : NULL, hd_dev(run, "key"), hd_dev(run, "sample"), run->dtype,
	        d[0], d[1], d[2], d[3], d[4], NULL);
}

static double *doubles(int64_t count)
{
	double *p = malloc((size_t)(count > 0 ? count : 1) * sizeof *p);
	if (!p)
		abort();
	return p;
}

/*
 * Rounding of the mean, of the difference, of rstd and of the product, two eps in all; own statistics twice that;
 * the gain, the exponential, the logarithm (2 ulp each), their sums and products and the factor add at most four more.
 */
static void assemble_reference(hd_case_run *run)
{
	const int64_t *d = run->shape->d;
	const hd_augment *augment = run->variant == 3 ? &assemble_augment : NULL;
	uint32_t seed[2] = {0}, epoch = 0;
	ref_augment draws = {
	        doubles(d[0]), doubles(d[0] * d[1]), doubles(d[0] * d[1]), doubles(d[0] * d[1] * d[2] * d[4])};
	if (augment) {
		const double *key = hd_val(run, "key");
		seed[0] = (uint32_t)(int32_t)key[0];
		seed[1] = (uint32_t)(int32_t)key[1];
		epoch = (uint32_t)(int32_t)key[2];
	}
	ref_draw_augment(&draws, augment, run->variant >= 2 ? hd_val(run, "offset") : NULL, seed, epoch,
	        augment ? hd_val(run, "sample") : NULL, d[0], d[1], d[2], d[4]);
	ref_assemble_batch(hd_want(run, "out"), hd_mag(run, "out"), hd_val(run, "db"), hd_val(run, "index"),
	        hd_val(run, "start"), run->variant != 1 ? hd_val(run, "mean") : NULL,
	        run->variant != 1 ? hd_val(run, "rstd") : NULL, hd_val(run, "silence"), &draws, d[0], d[1], d[2], d[3],
	        d[4]);
	hd_bound(run, "out", run->variant == 0 ? 2 : run->variant == 1 ? 4 : 6);
	free(draws.kept);
	free(draws.silent);
	free(draws.level);
	free(draws.factor);
}

static double assemble_flops(const hd_shape *s)
{
	return 2 * (double)(s->d[0] * s->d[1] * s->d[2] * s->d[4]);
}

static double assemble_bytes(const hd_shape *s)
{
	return 6 * (double)(s->d[0] * s->d[1] * s->d[2] * s->d[4]);
}

static double assemble_narrow_bytes(const hd_shape *s)
{
	return 4 * (double)(s->d[0] * s->d[1] * s->d[2] * s->d[4]);
}

static const hd_shape assemble_shapes[] = {
        {{0, 3, 4, 9, 5}}, {{1, 1, 1, 1, 1}}, {{4, 3, 7, 9, 9}}, {{5, 2, 16, 40, 31}}, {{4, 3, 128, 37, 32}}};
static const hd_shape assemble_bench[] = {{{32, 3, 128, 376, 32}}, {{256, 3, 128, 376, 32}}};
const hd_case hd_case_assemble_batch = {"assemble_batch", "N C M T W", assemble_shapes, HD_COUNT(assemble_shapes),
        assemble_bench, HD_COUNT(assemble_bench), VARIANTS, false, assemble_make, assemble_call, assemble_reference,
        NULL, assemble_flops, assemble_bytes, true, assemble_narrow_bytes};
