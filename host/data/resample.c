/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings of one rate to another, by libsoxr. */
#include <math.h>
#include <soxr.h>
#include <stdlib.h>

#include "heimdall/features.h"
#include "host/common/memory.h"

#define U8_MIDDLE 127.5f

/* Component i as a float of full scale 1. */
static float component(const hd_iq *iq, int64_t i)
{
	switch (iq->dtype) {
	case HD_I8:
		return iq->scale * (float)((const int8_t *)iq->data)[i];
	case HD_U8:
		return iq->scale * ((float)((const uint8_t *)iq->data)[i] - U8_MIDDLE);
	case HD_I16:
		return iq->scale * (float)((const int16_t *)iq->data)[i];
	case HD_F64:
		return (float)((const double *)iq->data)[i];
	default:
		return ((const float *)iq->data)[i];
	}
}

hd_status hd_iq_resample(hd_iq *iq, double from_hz, double to_hz)
{
	hd_status st;
	float *in = NULL, *out = NULL;
	int64_t n = iq->samples, m = (int64_t)ceil((double)n * to_hz / from_hz);
	soxr_io_spec_t format = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
	soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
	HD_TRY(hd_alloc(&in, (size_t)(2 * n), sizeof *in));
	HD_TRY(hd_alloc(&out, (size_t)(iq->rows * 2 * m), sizeof *out));
	size_t done = 0;
	for (int64_t r = 0; r < iq->rows; r++) {
		float *to = out + r * 2 * (int64_t)done; /* every row gives as many */
		for (int64_t i = 0; i < 2 * n; i++)
			in[i] = component(iq, r * 2 * n + i);
		soxr_error_t wrong = soxr_oneshot(
		        from_hz, to_hz, 2, in, (size_t)n, NULL, to, (size_t)m, &done, &format, &quality, NULL);
		if (wrong) {
			st = hd_fail(HD_E_DATA, "cannot resample from %g Hz to %g Hz: %s", from_hz, to_hz, wrong);
			goto done;
		}
	}
	free(iq->data);
	iq->data = out;
	out = NULL;
	iq->samples = (int64_t)done;
	iq->dtype = HD_F32;
	iq->scale = 1;
	iq->sample_rate_hz = to_hz;
done:
	free(out);
	free(in);
	return st;
}
