/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref.h"

#define PI 3.14159265358979323846

double ref_half(uint16_t half)
{
	int exponent = (half >> 10) & 31, mantissa = half & 1023;
	double sign = half >> 15 ? -1 : 1;
	if (exponent == 31)
		return mantissa ? (double)NAN : sign * (double)INFINITY;
	return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

uint16_t ref_to_half(double value)
{
	if (isnan(value))
		return 0x7e00;
	uint16_t sign = signbit(value) ? 0x8000 : 0;
	double size = fabs(value);
	/* halves of one sign are ordered like their bits: bisect for the largest one not above, then round */
	int low = 0, high = 0x7c00;
	while (high - low > 1) {
		int middle = (low + high) / 2;
		if (ref_half((uint16_t)middle) <= size)
			low = middle;
		else
			high = middle;
	}
	double below = ref_half((uint16_t)low), above = high == 0x7c00 ? 65536 : ref_half((uint16_t)high);
	if (size - below > above - size || (size - below == above - size && low % 2 == 1))
		low++;
	return (uint16_t)(sign | low);
}

double ref_bf16(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;
	memcpy(&value, &wide, sizeof value);
	return (double)value;
}

uint16_t ref_to_bf16(double value)
{
	double spacing = 0, rounded = value;
	uint32_t bits;
	if (isfinite(value) && value != 0) {
		int exponent = ilogb(value);
		spacing = ldexp(1, (exponent < -126 ? -126 : exponent) - 7);
		rounded = nearbyint(value / spacing) * spacing;
	}
	float nearest = (float)rounded; /* exact, or infinite where it is too large */
	memcpy(&bits, &nearest, sizeof bits);
	return (uint16_t)(isnan(value) ? 0x7fc0 : bits >> 16);
}

void ref_magnitude(double *out, const double *iq, double offset, double scale, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = scale * hypot(iq[2 * i] - offset, iq[2 * i + 1] - offset);
}

void ref_stft_power(double *power, double *l1, const double *x, const double *window, double scale, int64_t R,
        int64_t n, int64_t T, int64_t n_fft, int64_t hop)
{
	int64_t F = n_fft / 2 + 1;
	double *circle = malloc(2 * (size_t)n_fft * sizeof *circle);
	if (!circle)
		abort();
	for (int64_t i = 0; i < n_fft; i++) {
		circle[2 * i] = cos(-2 * PI * (double)i / (double)n_fft);
		circle[2 * i + 1] = sin(-2 * PI * (double)i / (double)n_fft);
	}
	for (int64_t r = 0; r < R; r++) {
		for (int64_t t = 0; t < T; t++) {
			l1[r * T + t] = 0;
			for (int64_t f = 0; f < F; f++) {
				double re = 0, im = 0, size = 0;
				for (int64_t i = 0; i < n_fft; i++) {
					int64_t at = t * hop - n_fft / 2 + i;
					double v = at < 0 || at >= n ? 0 : window[i] * x[r * n + at];
					const double *at_angle = circle + 2 * (f * i % n_fft);
					re += v * at_angle[0];
					im += v * at_angle[1];
					size += fabs(v);
				}
				power[(r * T + t) * F + f] = scale * scale * (re * re + im * im);
				l1[r * T + t] = size;
			}
		}
	}
	free(circle);
}

void ref_mel_db(double *db, double *sums, const double *power, const double *first, const double *offset,
        const double *w, double floor, int64_t R, int64_t T, int64_t F, int64_t M)
{
	for (int64_t r = 0; r < R; r++) {
		for (int64_t m = 0; m < M; m++) {
			for (int64_t t = 0; t < T; t++) {
				double sum = 0;
				for (int64_t k = (int64_t)offset[m]; k < (int64_t)offset[m + 1]; k++)
					sum += w[k] *
					       power[(r * T + t) * F + (int64_t)first[m] + k - (int64_t)offset[m]];
				sums[(r * M + m) * T + t] = sum + floor;
				db[(r * M + m) * T + t] = 10 * log10(sum + floor);
			}
		}
	}
}

void ref_mfcc(double *out, double *m, const double *db, const double *dct, int64_t R, int64_t M, int64_t K, int64_t H,
        int64_t T)
{
	for (int64_t i = 0; i < R * H * T; i++) {
		int64_t t = i % T, k = i / T % H, r = i / T / H;
		out[i] = m[i] = 0;
		for (int64_t mel = 0; k < K && mel < M; mel++) {
			double term = dct[k * M + mel] * db[(r * M + mel) * T + t];
			out[i] += term;
			m[i] += fabs(term);
		}
	}
}

void ref_draw_augment(ref_augment *out, const hd_augment *a, const double *offset, const uint32_t seed[2],
        uint32_t epoch, const double *sample, int64_t N, int64_t C, int64_t M, int64_t W)
{
	uint32_t r[4];
	for (int64_t n = 0; n < N; n++) {
		uint32_t id = a ? (uint32_t)(int32_t)sample[n] : 0;
		double share = 0;
		out->factor[n] = 1;
		if (a) {
			ref_philox(r, (const uint32_t[4]){0, id, epoch, HD_AUGMENT_SAMPLE}, seed);
			out->factor[n] =
			        (double)a->scale_min + ((double)a->scale_max - (double)a->scale_min) * r[0] / 0x1p32;
			share = (double)(a->receiver_dropout * ((float)r[1] * 0x1p-32f));
		}
		for (int64_t c = 0; c < C; c++) {
			out->level[n * C + c] = offset ? -offset[c] : 0;
			out->silent[n * C + c] = 0;
			if (!a)
				continue;
			ref_philox(r, (const uint32_t[4]){(uint32_t)c, id, epoch, HD_AUGMENT_CHANNEL}, seed);
			out->silent[n * C + c] = r[0] < floor(share * 0x1p32);
			out->level[n * C + c] += (double)a->level_jitter * sqrt(-2 * log((r[1] + 1.0) / 0x1p32)) *
			                         cos(2 * M_PI * r[2] / 0x1p32);
		}
		for (int64_t e = 0; e < M * W * C; e++) {
			if (a)
				ref_philox(
				        r, (const uint32_t[4]){(uint32_t)(e / 4), id, epoch, HD_AUGMENT_VALUE}, seed);
			out->kept[n * M * W * C + e] = !a || r[e % 4] >= floor((double)a->dropout * 0x1p32);
		}
	}
}

void ref_assemble_batch(double *out, double *m, const double *db, const double *index, const double *start,
        const double *mean, const double *rstd, const double *silence, const ref_augment *augment, int64_t N, int64_t C,
        int64_t M, int64_t T, int64_t W)
{
	for (int64_t n = 0; n < N; n++) {
		for (int64_t c = 0; c < C; c++) {
			const double *window = db + ((int64_t)index[n] * C + c) * M * T + (int64_t)start[n];
			double mu = 0, size = 0, variance = 0;
			for (int64_t i = 0; index[n] >= 0 && i < M * W; i++) {
				mu += window[i / W * T + i % W] / (double)(M * W);
				size += fabs(window[i / W * T + i % W]) / (double)(M * W);
			}
			for (int64_t i = 0; index[n] >= 0 && i < M * W; i++)
				variance += pow(window[i / W * T + i % W] - mu, 2) / (double)(M * W);
			for (int64_t i = 0; i < M * W; i++) {
				int64_t at = (n * M * W + i) * C + c;
				if (index[n] < 0) {
					out[at] = m[at] = 0;
					continue;
				}
				double v = window[i / W * T + i % W], shift = mean ? mean[i / W] : mu;
				double factor = (mean ? rstd[i / W] : 1 / sqrt(variance + 1e-8)) * augment->factor[n];
				double quiet = silence[i / W], level = augment->level[n * C + c];
				double g = pow(10, level / 10), t = fmin(1, pow(10, (quiet - v) / 10));
				double moved = augment->silent[n * C + c] ? quiet : v + 10 * log10(g + (1 - g) * t);
				out[at] = (moved - shift) * factor * augment->kept[at];
				/* t carries the error of its exponent, the sum that of t, at most by the larger of g
				 * and 1/g */
				double sum = 10 / M_LN10 *
				             (1 + fmax(g, 1 / g) * (1 + (fabs(v) + fabs(quiet)) * M_LN10 / 10));
				m[at] = (fabs(v) + fabs(quiet) + fabs(level) + (level != 0 ? sum : 0) +
				                (mean ? fabs(shift) : size)) *
				        fabs(factor) * augment->kept[at];
			}
		}
	}
}
