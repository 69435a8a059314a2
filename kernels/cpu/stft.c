/* SPDX-License-Identifier: Apache-2.0 */
/* Power spectrogram, and fused with the mel filters; one frame at a time, its spectrum staying in cache. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fft.h"

typedef struct frame_scratch {
	float *windowed;
	fftwf_complex *spectrum;
	float *power;
} frame_scratch;

static void free_scratch(frame_scratch *s)
{
	fftwf_free(s->power);
	fftwf_free(s->spectrum);
	fftwf_free(s->windowed);
}

static hd_status make_scratch(frame_scratch *s, int64_t n_fft)
{
	size_t bins = (size_t)(n_fft / 2 + 1);
	s->windowed = fftwf_malloc((size_t)n_fft * sizeof(float));
	s->spectrum = fftwf_malloc(bins * sizeof(fftwf_complex));
	s->power = fftwf_malloc(bins * sizeof(float));
	if (s->windowed && s->spectrum && s->power)
		return HD_OK;
	free_scratch(s);
	return hd_fail(HD_E_MEMORY, "out of memory for an FFT of %ld points", (long)n_fft);
}

/* power (F) of frame t of one row. */
static void frame_power(float *restrict power, const frame_scratch *s, fftwf_plan plan, const float *x,
        const float *window, float scale2, int64_t n, int64_t t, int64_t n_fft, int64_t hop)
{
	int64_t start = t * hop - n_fft / 2;
	for (int64_t i = 0; i < n_fft; i++) {
		int64_t at = start + i;
		s->windowed[i] = at >= 0 && at < n ? window[i] * x[at] : 0.0f;
	}
	fftwf_execute_dft_r2c(plan, s->windowed, s->spectrum);
	for (int64_t f = 0; f <= n_fft / 2; f++)
		power[f] = scale2 * (s->spectrum[f][0] * s->spectrum[f][0] + s->spectrum[f][1] * s->spectrum[f][1]);
}

hd_status HD_CPU(stft_power)(float *power, const float *x, const float *window, float scale, int64_t R, int64_t n,
        int64_t T, int64_t n_fft, int64_t hop, hd_stream *stream)
{
	(void)stream;
	fftwf_plan plan;
	hd_status status = hd_fft_plan(&plan, n_fft);
	if (status != HD_OK)
		return status;
	int64_t F = n_fft / 2 + 1;
#pragma omp parallel if (R * T > 8)
	{
		frame_scratch s;
		hd_status mine = make_scratch(&s, n_fft);
		if (mine != HD_OK) {
#pragma omp atomic write
			status = mine;
		}
#pragma omp for schedule(static)
		for (int64_t i = 0; i < R * T; i++)
			if (mine == HD_OK)
				frame_power(power + i * F, &s, plan, x + i / T * n, window, scale * scale, n, i % T,
				        n_fft, hop);
		if (mine == HD_OK)
			free_scratch(&s);
	}
	return status;
}

hd_status HD_CPU(stft_mel_db)(float *db, const float *x, const float *window, float scale, const int32_t *first,
        const int32_t *offset, const float *w, float floor, int64_t R, int64_t n, int64_t T, int64_t n_fft, int64_t hop,
        int64_t M, hd_stream *stream)
{
	(void)stream;
	fftwf_plan plan;
	hd_status status = hd_fft_plan(&plan, n_fft);
	if (status != HD_OK)
		return status;
#pragma omp parallel if (R * T > 8)
	{
		frame_scratch s;
		hd_status mine = make_scratch(&s, n_fft);
		if (mine != HD_OK) {
#pragma omp atomic write
			status = mine;
		}
#pragma omp for schedule(static)
		for (int64_t i = 0; i < R * T; i++) {
			if (mine != HD_OK)
				continue;
			int64_t r = i / T, t = i % T;
			frame_power(s.power, &s, plan, x + r * n, window, scale * scale, n, t, n_fft, hop);
			for (int64_t m = 0; m < M; m++) {
				float sum = 0;
				for (int32_t k = offset[m]; k < offset[m + 1]; k++)
					sum += w[k] * s.power[first[m] + k - offset[m]];
				db[(r * M + m) * T + t] = 10.0f * log10f(sum + floor);
			}
		}
		if (mine == HD_OK)
			free_scratch(&s);
	}
	return status;
}
