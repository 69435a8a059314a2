/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

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

void ref_magnitude(double *out, const double *iq, double offset, double scale, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = scale * hypot(iq[2 * i] - offset, iq[2 * i + 1] - offset);
}

void ref_stft_power(double *power, double *l1, const double *x, const double *window, double scale, int64_t R,
        int64_t n, int64_t T, int64_t n_fft, int64_t hop)
{
	int64_t F = n_fft / 2 + 1;
	for (int64_t r = 0; r < R; r++) {
		for (int64_t t = 0; t < T; t++) {
			l1[r * T + t] = 0;
			for (int64_t f = 0; f < F; f++) {
				double re = 0, im = 0, size = 0;
				for (int64_t i = 0; i < n_fft; i++) {
					int64_t at = t * hop - n_fft / 2 + i;
					double v = at < 0 || at >= n ? 0 : window[i] * x[r * n + at];
					double angle = -2 * PI * (double)(f * i % n_fft) / (double)n_fft;
					re += v * cos(angle);
					im += v * sin(angle);
					size += fabs(v);
				}
				power[(r * T + t) * F + f] = scale * scale * (re * re + im * im);
				l1[r * T + t] = size;
			}
		}
	}
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

void ref_assemble_batch(double *out, double *m, const double *db, const double *index, const double *start,
        const double *mean, const double *rstd, int64_t N, int64_t C, int64_t M, int64_t T, int64_t W)
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
				double factor = mean ? rstd[i / W] : 1 / sqrt(variance + 1e-8);
				out[at] = (v - shift) * factor;
				m[at] = (fabs(v) + (mean ? fabs(shift) : size)) * fabs(factor);
			}
		}
	}
}
