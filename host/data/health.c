/* SPDX-License-Identifier: Apache-2.0 */
/* Measurements of one row of IQ. What they mean is in health_judge.c. */
#include "heimdall/health.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/statistics.h"
#include "kernels/cpu/fft.h"

#define BLOCK_S 0.01       /* short against what people say, long against one symbol or pulse */
#define BLOCK_UNKNOWN 2048 /* 10 ms at the usual 192 kHz, where no rate is known */
#define FFT_POINTS 64      /* a narrow-band signal fills few bins, so that the median is the noise floor */
#define BINS (FFT_POINTS / 2 + 1)
#define DEAD_DB (-86.0)        /* the last bit of 16 toggling is -87 dBFS: no receiver is behind it */
#define JUMP_FLOOR_DB (-120.0) /* digital silence, for the height of a jump */
#define SILENCE_DB (-80.0) /* 10 dB above the floor of the features: what is under it trains as an absent receiver */
#define LOWEST_MIRROR 6    /* bins of 64: those beside 0 Hz hold what is left of a carrier there */
#define STEADY 0.5         /* a block's mean within half of the whole one: noise stays in it, keying does not */
#define MIRROR_POWER 1e-5  /* of the strongest pair: what is weaker is rounding or what a filter left over */
#define FEWEST_MIRRORS 4   /* pairs that agree by chance are fewer */
#define SURE 4             /* an imbalance over the median deviation of the frequencies from it */
#define CLIP_RUN 3         /* one or two equal extremes in a row happen by chance */
#define CLIP_LEVELS 64     /* quiet samples have few values and rest at the extreme ones without being cut */
#define EXTREME_TOLERANCE 4e-5 /* -32768 and 32767 count as the same extreme */
#define CLIP_SWING 1.02        /* power at clipped values over peak^2: 1.00 for a carrier of constant envelope */
#define JUMP_BLOCKS 5          /* 50 ms on both sides: what is shorter is keying, pulses or a fade */
#define JUMP_DB 20.0           /* interference moves the floor by less; an amplifier or aerial lost moves it by more */
#define MAX_BLOCKS 1000000     /* longer recordings take longer blocks, which bounds the memory */

double hd_health_db(double power)
{
	return power > 0 ? fmax(10 * log10(power), HD_HEALTH_FLOOR_DB) : HD_HEALTH_FLOOR_DB;
}

/* Sums over all blocks at one pair of frequencies f and -f. */
typedef struct mirror {
	double re, im; /* Z(f) Z(-f) */
	double power;  /* (|Z(f)|^2 + |Z(-f)|^2) / 2 */
} mirror;

/* Runs of equal extreme values of one component. */
typedef struct run {
	double value;
	int64_t start;
} run;

typedef struct meter {
	const hd_iq *iq;
	int64_t row;
	float *z;                   /* one block, (block,2) */
	double *level, *floor;      /* dB of each block */
	int64_t *at;                /* its first sample */
	int64_t blocks;             /* how many */
	double *mean[2];            /* of I and of Q in each block that is not silent */
	int64_t heard;              /* how many of those */
	float *in;                  /* FFT_POINTS */
	fftwf_complex *spectrum[2]; /* BINS each, of I and of Q */
	fftwf_plan plan;
	float window[FFT_POINTS];
	double range_end;                   /* smallest magnitude at the end of an integer range; INFINITY for floats */
	double sum[2], squares[2];          /* of I and of Q */
	mirror mirrors[FFT_POINTS / 2];     /* by frequency; [0] stays empty */
	run runs[2];                        /* of I and of Q */
	double run_power;                   /* sum of |z|^2 where a run is CLIP_RUN long or longer */
	int64_t run_measured;               /* samples in that sum */
	double smallest_step;               /* between unlike neighbours of one component */
	int64_t range_clipped, run_clipped; /* samples */
	int64_t run_counted;                /* first sample not counted in run_clipped yet */
	int64_t zeros, zero_run, silent_run, silent_samples, dead_samples;
} meter;

static void close_meter(meter *m)
{
	fftwf_free(m->spectrum[1]);
	fftwf_free(m->spectrum[0]);
	fftwf_free(m->in);
	free(m->at);
	free(m->mean[1]);
	free(m->mean[0]);
	free(m->floor);
	free(m->level);
	free(m->z);
}

/*
 * Four-term cosine window (A. H. Nuttall, IEEE Trans. ASSP 29, 1981): side lobes under -98 dB, so that a strong carrier
 * is neither the floor nor its own mirror image.
 */
static double window_at(double angle)
{
	return 0.3635819 - 0.4891775 * cos(angle) + 0.1365995 * cos(2 * angle) - 0.0106411 * cos(3 * angle);
}

static hd_status open_meter(meter *m, const hd_iq *iq, int64_t row, int64_t block)
{
	hd_status st;
	size_t blocks = (size_t)((iq->samples + block - 1) / block);
	*m = (meter){.iq = iq, .row = row, .smallest_step = INFINITY};
	HD_TRY(hd_alloc(&m->z, (size_t)block * 2, sizeof *m->z));
	HD_TRY(hd_alloc(&m->level, blocks, sizeof *m->level));
	HD_TRY(hd_alloc(&m->floor, blocks, sizeof *m->floor));
	HD_TRY(hd_alloc(&m->mean[0], blocks, sizeof **m->mean));
	HD_TRY(hd_alloc(&m->mean[1], blocks, sizeof **m->mean));
	HD_TRY(hd_alloc(&m->at, blocks, sizeof *m->at));
	HD_TRY(hd_fft_plan(&m->plan, FFT_POINTS));
	m->in = fftwf_malloc(FFT_POINTS * sizeof *m->in);
	m->spectrum[0] = fftwf_malloc(BINS * sizeof **m->spectrum);
	m->spectrum[1] = fftwf_malloc(BINS * sizeof **m->spectrum);
	if (!m->in || !m->spectrum[0] || !m->spectrum[1]) {
		st = hd_fail(HD_E_MEMORY, "out of host memory for a transform of %d points", FFT_POINTS);
		goto done;
	}
	for (int i = 0; i < FFT_POINTS; i++)
		m->window[i] = (float)window_at(2 * M_PI * i / FFT_POINTS);
	/* both ends count, and the last value but one of the longer side: some converters stop at -32767 */
	m->range_end = iq->dtype == HD_I16 ? 32766.5 / 32768 : INFINITY;
	if (iq->dtype == HD_I8 || iq->dtype == HD_U8)
		m->range_end = iq->dtype == HD_I8 ? 126.5 / 128 : 127.0 / 127.5;
done:
	return st;
}

/* Loads a block; what is no number becomes 0. */
static void load_block(meter *m, int64_t from, int64_t count, int64_t *nonfinite)
{
	hd_iq_to_float(m->z, m->iq, m->row, from, count);
	for (int64_t i = 0; i < 2 * count; i++) {
		if (isfinite(m->z[i]))
			continue;
		m->z[i] = 0;
		(*nonfinite)++;
	}
}

/* What the second pass needs to know: the peak, and whether all samples are the same. */
static void first_pass(meter *m, hd_health *h)
{
	float first[2] = {0, 0};
	h->constant = h->all_zero = true;
	for (int64_t from = 0; from < h->samples; from += h->block) {
		int64_t n = h->samples - from < h->block ? h->samples - from : h->block;
		load_block(m, from, n, &h->nonfinite);
		if (!from)
			memcpy(first, m->z, sizeof first);
		for (int64_t i = 0; i < n; i++) {
			float a = m->z[2 * i], b = m->z[2 * i + 1];
			h->constant = h->constant && a == first[0] && b == first[1];
			h->all_zero = h->all_zero && a == 0 && b == 0;
			h->peak = fmax(h->peak, (double)fmaxf(fabsf(a), fabsf(b)));
			for (int c = 0; c < 2 && i > 0; c++) {
				double step = fabs((double)m->z[2 * i + c] - (double)m->z[2 * i + c - 2]);
				if (step > 0 && step < m->smallest_step)
					m->smallest_step = step;
			}
		}
	}
	h->constant = h->constant && !h->nonfinite;
	h->all_zero = h->all_zero && !h->nonfinite;
}

/* Extends or ends the runs of extremes at sample `at`. */
static void follow_runs(meter *m, const hd_health *h, int64_t at, const double z[2])
{
	bool clipped = false;
	for (int c = 0; c < 2; c++) {
		run *r = &m->runs[c];
		bool extreme = fabs(z[c]) >= h->peak * (1 - EXTREME_TOLERANCE);
		if (!extreme) {
			r->value = 0;
			continue;
		}
		if (r->value * z[c] <= 0)
			r->start = at;
		r->value = z[c];
		if (at - r->start + 1 < CLIP_RUN)
			continue;
		int64_t from = r->start > m->run_counted ? r->start : m->run_counted;
		m->run_clipped += at + 1 - from;
		m->run_counted = at + 1;
		clipped = true;
	}
	if (clipped) {
		m->run_power += z[0] * z[0] + z[1] * z[1];
		m->run_measured++;
	}
}

static void follow_zeros(meter *m, hd_health *h, bool zero)
{
	m->zeros += zero;
	m->zero_run = zero ? m->zero_run + 1 : 0;
	if (m->zero_run > h->longest_zeros)
		h->longest_zeros = m->zero_run;
}

/* Z(f) of z = I + jQ for f = 0..63 (the upper half: negative), from the transforms FI and FQ of two real signals. */
static void combine(double z[FFT_POINTS][2], fftwf_complex *const spectrum[2])
{
	for (int k = 0; k < FFT_POINTS; k++) {
		bool upper = k > FFT_POINTS / 2;
		int b = upper ? FFT_POINTS - k : k;
		const float *fi = spectrum[0][b], *fq = spectrum[1][b];
		double side = upper ? -1 : 1; /* Z(-f) = conj(FI(f)) + j conj(FQ(f)) */
		z[k][0] = (double)fi[0] - side * (double)fq[1];
		z[k][1] = side * (double)fi[1] + (double)fq[0];
	}
}

/* dB of the median over frequency of the block's mean periodogram; white noise gives its power. Fills the mirrors. */
static double block_floor_db(meter *m, int64_t n)
{
	double power[FFT_POINTS] = {0}, z[FFT_POINTS][2], gain = 0;
	int64_t transforms = 0;
	for (int i = 0; i < FFT_POINTS; i++)
		gain += (double)(m->window[i] * m->window[i]);
	for (int64_t from = 0; from + FFT_POINTS <= n; from += FFT_POINTS, transforms++) {
		for (int c = 0; c < 2; c++) {
			for (int i = 0; i < FFT_POINTS; i++)
				m->in[i] = m->window[i] * m->z[2 * (from + i) + c];
			fftwf_execute_dft_r2c(m->plan, m->in, m->spectrum[c]);
		}
		combine(z, m->spectrum);
		for (int k = 0; k < FFT_POINTS; k++)
			power[k] += z[k][0] * z[k][0] + z[k][1] * z[k][1];
		for (int k = 1; k < FFT_POINTS / 2; k++) {
			const double *a = z[k], *b = z[FFT_POINTS - k];
			m->mirrors[k].re += a[0] * b[0] - a[1] * b[1];
			m->mirrors[k].im += a[0] * b[1] + a[1] * b[0];
			m->mirrors[k].power += (a[0] * a[0] + a[1] * a[1] + b[0] * b[0] + b[1] * b[1]) / 2;
		}
	}
	return transforms ? hd_health_db(hd_median(power, FFT_POINTS) / gain / (double)transforms) : HD_HEALTH_FLOOR_DB;
}

static void end_block(meter *m, hd_health *h, int64_t from, int64_t n, const double sum[2], double power, bool same)
{
	double level = hd_health_db(power / (double)n);
	bool silent = level < SILENCE_DB || same;
	m->silent_run = silent ? m->silent_run + n : 0;
	m->silent_samples += silent ? n : 0;
	if (m->silent_run > h->longest_silence)
		h->longest_silence = m->silent_run;
	m->dead_samples += level < DEAD_DB || same ? n : 0;
	if (n < h->block / 2)
		return;
	m->level[m->blocks] = fmax(level, JUMP_FLOOR_DB);
	m->floor[m->blocks] = fmax(block_floor_db(m, n), JUMP_FLOOR_DB);
	m->at[m->blocks++] = from;
	for (int c = 0; c < 2 && !silent; c++)
		m->mean[c][m->heard] = sum[c] / (double)n;
	m->heard += !silent;
}

static void second_pass(meter *m, hd_health *h)
{
	int64_t ignored = 0;
	for (int64_t from = 0; from < h->samples; from += h->block) {
		int64_t n = h->samples - from < h->block ? h->samples - from : h->block;
		double sum[2] = {0, 0}, squares[2] = {0, 0};
		bool same = true;
		load_block(m, from, n, &ignored);
		for (int64_t i = 0; i < n; i++) {
			const double z[2] = {(double)m->z[2 * i], (double)m->z[2 * i + 1]};
			for (int c = 0; c < 2; c++) {
				sum[c] += z[c];
				squares[c] += z[c] * z[c];
			}
			same = same && m->z[2 * i] == m->z[0] && m->z[2 * i + 1] == m->z[1];
			m->range_clipped += fabs(z[0]) >= m->range_end || fabs(z[1]) >= m->range_end;
			follow_runs(m, h, from + i, z);
			follow_zeros(m, h, z[0] == 0 && z[1] == 0);
		}
		end_block(m, h, from, n, sum, squares[0] + squares[1], same);
		for (int c = 0; c < 2; c++) {
			m->sum[c] += sum[c];
			m->squares[c] += squares[c];
		}
	}
}

static void summarise_level(const meter *m, hd_health *h)
{
	double n = (double)h->samples, mean[2] = {m->sum[0] / n, m->sum[1] / n};
	double power = (m->squares[0] + m->squares[1]) / n;
	double mean_power = mean[0] * mean[0] + mean[1] * mean[1];
	int64_t steady = 0;
	h->level_dbfs = hd_health_db(power);
	h->dc_db = power > 0 ? hd_health_db(mean_power / power) : HD_HEALTH_FLOOR_DB;
	for (int64_t k = 0; k < m->heard; k++)
		steady += hypot(m->mean[0][k] - mean[0], m->mean[1][k] - mean[1]) < STEADY * sqrt(mean_power);
	h->dc_steady_share = m->heard ? (double)steady / (double)m->heard : 0;
	double a = m->squares[0] / n - mean[0] * mean[0], b = m->squares[1] / n - mean[1] * mean[1];
	if (a > 0 && b > 0)
		h->channel_balance_db = 10 * log10(a / b);
	else if (a > 0 || b > 0)
		h->channel_balance_db = a > 0 ? -HD_HEALTH_FLOOR_DB : HD_HEALTH_FLOOR_DB;
}

/* Gain in dB and phase error in degrees from the median over frequency of E[Z(f) Z(-f)] / E[|Z|^2]. */
static void summarise_mirrors(const meter *m, hd_health *h)
{
	double re[FFT_POINTS / 2], im[FFT_POINTS / 2];
	size_t n = 0;
	double strongest = 0;
	for (int k = 1; k < FFT_POINTS / 2; k++)
		strongest = fmax(strongest, m->mirrors[k].power);
	for (int k = LOWEST_MIRROR; k < FFT_POINTS / 2; k++) {
		if (!(m->mirrors[k].power > MIRROR_POWER * strongest))
			continue;
		re[n] = m->mirrors[k].re / m->mirrors[k].power;
		im[n++] = m->mirrors[k].im / m->mirrors[k].power;
	}
	if (n < FEWEST_MIRRORS)
		return;
	double difference = hd_median(re, n), sum_im = hd_median(im, n);
	/* where frequencies disagree it is the signal's own symmetry, or what leaks from it, and no imbalance */
	for (size_t k = 0; k < n; k++) {
		re[k] = fabs(re[k] - difference);
		im[k] = fabs(im[k] - sum_im);
	}
	double spread = hypot(hd_median(re, n), hd_median(im, n));
	h->imbalance_sure = hypot(difference, sum_im) > SURE * spread;
	/* of unit power a + b = 1, and E[z^2] = a - b + 2jc */
	double c = sum_im / 2;
	double a = (1 + difference) / 2, b = (1 - difference) / 2;
	if (!(a > 0) || !(b > 0)) {
		h->gain_imbalance_db = a > 0 ? -HD_HEALTH_FLOOR_DB : HD_HEALTH_FLOOR_DB;
		return;
	}
	h->gain_imbalance_db = 10 * log10(a / b);
	h->phase_error_deg = asin(fmin(fmax(c / sqrt(a * b), -1), 1)) * 180 / M_PI;
}

static void summarise_clipping(const meter *m, hd_health *h)
{
	double n = (double)h->samples;
	int64_t clipped = m->range_clipped;
	bool fine = (h->dtype == HD_F32 || h->dtype == HD_F64 || h->dtype == HD_I16) &&
	            h->peak >= CLIP_LEVELS * m->smallest_step;
	bool cut = m->run_power > CLIP_SWING * h->peak * h->peak * (double)m->run_measured;
	if (fine && cut && m->run_clipped > clipped)
		clipped = m->run_clipped;
	h->clipped_share = h->constant ? 0 : (double)clipped / n;
}

static double median_of(const double *values, int64_t n, double *scratch)
{
	memcpy(scratch, values, (size_t)n * sizeof *values);
	return hd_median(scratch, (size_t)n);
}

/* The one step of the floor, as the header defines it. scratch holds m->blocks values. */
static void find_jump(const meter *m, hd_health *h, double *scratch)
{
	int64_t n = m->blocks, places = 0, count = 0;
	int steps = 0;
	int inside = 0; /* sign of the step that block k lies in: a step back may follow without a pause */
	for (int64_t k = JUMP_BLOCKS; k + JUMP_BLOCKS <= n; k++) {
		double d = median_of(m->floor + k, JUMP_BLOCKS, scratch) -
		           median_of(m->floor + k - JUMP_BLOCKS, JUMP_BLOCKS, scratch);
		int sign = fabs(d) <= JUMP_DB ? 0 : d > 0 ? 1 : -1;
		steps += sign && sign != inside;
		inside = sign;
		places += sign ? k : 0;
		count += sign != 0;
	}
	if (steps != 1)
		return;
	int64_t best = places / count; /* medians see a step for as long before it as after it */
	double floor_db = median_of(m->floor + best, n - best, scratch) - median_of(m->floor, best, scratch);
	double level_db = median_of(m->level + best, n - best, scratch) - median_of(m->level, best, scratch);
	if (fabs(floor_db) > JUMP_DB && fabs(level_db) > JUMP_DB && floor_db * level_db > 0) {
		h->jump_db = floor_db;
		h->jump_sample = m->at[best];
	}
}

static int64_t block_samples(int64_t samples, double rate_hz)
{
	double wanted = rate_hz > 0 ? fmin(rate_hz, 1e12) * BLOCK_S : BLOCK_UNKNOWN;
	wanted = fmax(fmax(wanted, FFT_POINTS), ceil((double)samples / MAX_BLOCKS));
	return (int64_t)llround(fmin(wanted, fmax((double)samples, FFT_POINTS)));
}

hd_status hd_health_measure(hd_health *out, const hd_iq *iq, int64_t row, double rate_hz)
{
	hd_status st;
	meter m = {0};
	double *scratch = NULL;
	if (row < 0 || row >= iq->rows || iq->samples < 1)
		return hd_fail(HD_E_USAGE, "row %lld of a recording of %lld rows and %lld samples", (long long)row,
		        (long long)iq->rows, (long long)iq->samples);
	*out = (hd_health){.samples = iq->samples,
	        .dtype = iq->dtype,
	        .rate_hz = rate_hz > 0 ? rate_hz : 0,
	        .duration_s = rate_hz > 0 ? (double)iq->samples / rate_hz : NAN,
	        .block = block_samples(iq->samples, rate_hz)};
	HD_TRY(open_meter(&m, iq, row, out->block));
	first_pass(&m, out);
	second_pass(&m, out);
	double n = (double)out->samples;
	out->silent_share = (double)m.silent_samples / n;
	out->dead_share = (double)m.dead_samples / n;
	out->zero_share = (double)m.zeros / n;
	summarise_level(&m, out);
	summarise_mirrors(&m, out);
	summarise_clipping(&m, out);
	HD_TRY(hd_alloc(&scratch, (size_t)m.blocks, sizeof *scratch));
	find_jump(&m, out, scratch);
	size_t bytes = (size_t)(2 * iq->samples) * hd_dtype_bytes(iq->dtype);
	const char *data = (const char *)iq->data + (size_t)row * bytes;
	out->hash = (uint64_t)hd_hash32(data, bytes, 0x5bd1e995u) << 32 | hd_hash32(data, bytes, 0);
done:
	free(scratch);
	close_meter(&m);
	return st;
}
