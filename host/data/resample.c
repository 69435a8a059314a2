/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings of one rate to another, by libsoxr. */
#include <math.h>
#include <soxr.h>
#include <stdlib.h>

#include "heimdall/features.h"
#include "host/common/memory.h"

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
		hd_iq_to_float(in, iq, r, 0, n);
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
