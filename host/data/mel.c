/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/mel.h"

#include <math.h>
#include <stdlib.h>

#include "host/common/memory.h"

#define SLANEY_HZ_PER_MEL (200.0 / 3)
#define SLANEY_BREAK_HZ 1000.0
#define SLANEY_BREAK_MEL 15.0
#define SLANEY_STEP (log(6.4) / 27)

double hd_mel_from_hz(double hz, hd_mel_scale scale)
{
	if (scale == HD_MEL_HTK)
		return 2595 * log10(1 + hz / 700);
	return hz < SLANEY_BREAK_HZ ? hz / SLANEY_HZ_PER_MEL
	                            : SLANEY_BREAK_MEL + log(hz / SLANEY_BREAK_HZ) / SLANEY_STEP;
}

double hd_mel_to_hz(double mel, hd_mel_scale scale)
{
	if (scale == HD_MEL_HTK)
		return 700 * (pow(10, mel / 2595) - 1);
	return mel < SLANEY_BREAK_MEL ? mel * SLANEY_HZ_PER_MEL
	                              : SLANEY_BREAK_HZ * exp((mel - SLANEY_BREAK_MEL) * SLANEY_STEP);
}

/* Height of triangle (low, middle, high) at f. */
static double triangle(double f, const double edge[3])
{
	return fmax(0, fmin((f - edge[0]) / (edge[1] - edge[0]), (edge[2] - f) / (edge[2] - edge[1])));
}

hd_status hd_mel_create(hd_mel *out, const hd_feature_config *c)
{
	hd_status st;
	int bins = c->n_fft / 2 + 1, M = c->n_mels, used = 0;
	double top = c->f_max_hz > 0 ? c->f_max_hz : c->sample_rate_hz / 2;
	double low = hd_mel_from_hz(c->f_min_hz, c->mel_scale), high = hd_mel_from_hz(top, c->mel_scale);
	*out = (hd_mel){.M = M};
	HD_TRY(hd_alloc(&out->first, (size_t)M, sizeof *out->first));
	HD_TRY(hd_alloc(&out->offset, (size_t)M + 1, sizeof *out->offset));
	/* a bin lies under at most two triangles */
	HD_TRY(hd_alloc(&out->w, 2 * (size_t)bins + 2, sizeof *out->w));
	for (int m = 0; m < M; m++) {
		double edge[3];
		for (int i = 0; i < 3; i++)
			edge[i] = hd_mel_to_hz(low + (high - low) * (m + i) / (M + 1), c->mel_scale);
		double norm = c->mel_norm == HD_MEL_NORM_SLANEY ? 2 / (edge[2] - edge[0]) : 1;
		for (int k = 0; k < bins; k++) {
			double height = triangle(k * c->sample_rate_hz / c->n_fft, edge);
			if (height <= 0)
				continue;
			if (used == out->offset[m])
				out->first[m] = k;
			out->w[used++] = (float)(height * norm);
		}
		out->offset[m + 1] = used;
		out->empty += used == out->offset[m];
	}
done:
	if (st != HD_OK)
		hd_mel_free(out);
	return st;
}

void hd_mel_free(hd_mel *mel)
{
	if (!mel)
		return;
	free(mel->w);
	free(mel->offset);
	free(mel->first);
	*mel = (hd_mel){0};
}
