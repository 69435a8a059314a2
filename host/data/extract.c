/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/extract.h"

#include <math.h>
#include <stdlib.h>

#include "host/common/memory.h"
#include "kernels/half.h"

hd_status hd_extractor_open(hd_extractor *out, hd_backend *backend, const hd_feature_config *config)
{
	hd_status st;
	*out = (hd_extractor){.config = *config};
	HD_TRY(hd_features_create(&out->plan, backend, config));
done:
	if (st != HD_OK)
		hd_extractor_close(out);
	return st;
}

void hd_extractor_close(hd_extractor *e)
{
	if (!e)
		return;
	free(e->cepstrum);
	free(e->kept);
	free(e->all);
	hd_features_free(e->plan);
	*e = (hd_extractor){0};
}

hd_status hd_extract_rate(
        hd_iq *iq, const hd_feature_config *c, double catalog_rate_hz, const char *name, hd_skip *skip)
{
	double file_hz = iq->sample_rate_hz, rate_hz = file_hz > 0 ? file_hz : catalog_rate_hz;
	*skip = HD_SKIP_WRONG_RATE;
	if (file_hz > 0 && catalog_rate_hz > 0 && hd_rate_differs(file_hz, catalog_rate_hz))
		return hd_fail(
		        HD_E_DATA, "%s: the file says %g Hz, the catalogue %g Hz", name, file_hz, catalog_rate_hz);
	if (!(rate_hz > 0) || !hd_rate_differs(rate_hz, c->sample_rate_hz))
		return HD_OK;
	if (!c->resample)
		return hd_fail(HD_E_DATA,
		        "%s: recorded at %g Hz, this run takes %g Hz (--sample_rate, or --resample %g)", name, rate_hz,
		        c->sample_rate_hz, c->sample_rate_hz);
	hd_status st = hd_iq_resample(iq, rate_hz, c->sample_rate_hz);
	return st == HD_OK ? st : hd_context(st, "%s", name);
}

/* The rows' levels (R,M,frames) in e->all to their slots. */
static hd_status fit_rows(hd_extractor *e, uint16_t *halves, int64_t R, int64_t frames)
{
	hd_status st;
	const hd_feature_config *c = &e->config;
	int64_t M = c->n_mels, T = hd_features_kept_frames(c), n = R * hd_features_height(c) * T;
	HD_TRY(hd_grow(&e->kept, &e->kept_capacity, (size_t)(R * M * T), sizeof *e->kept));
	for (int64_t r = 0; r < R; r++)
		hd_features_fit_frames(e->kept + r * M * T, e->all + r * M * frames, frames, c);
	const float *from = e->kept;
	if (c->kind == HD_FEATURE_MFCC) {
		HD_TRY(hd_grow(&e->cepstrum, &e->cepstrum_capacity, (size_t)n, sizeof *e->cepstrum));
		HD_TRY(hd_features_mfcc(e->plan, e->cepstrum, e->kept, R, T));
		from = e->cepstrum;
	}
	for (int64_t i = 0; i < n; i++)
		halves[i] = hd_float_to_half(from[i]);
done:
	return st;
}

hd_status hd_extract(
        hd_extractor *e, uint16_t *halves, hd_iq *iq, double catalog_rate_hz, const char *name, hd_skip *skip)
{
	const hd_feature_config *c = &e->config;
	hd_status st = hd_extract_rate(iq, c, catalog_rate_hz, name, skip);
	if (st != HD_OK)
		return st;
	int64_t M = c->n_mels, frames = hd_features_frame_count(c, iq->samples);
	*skip = HD_SKIP_TOO_SHORT;
	if (c->refuse_short && frames < c->frames)
		return hd_fail(HD_E_DATA,
		        "%s: %lld samples give %lld frames, one input is %d; --short_recordings reflect "
		        "extends it",
		        name, (long long)iq->samples, (long long)frames, c->frames);
	*skip = HD_SKIP_UNREADABLE;
	st = hd_grow(&e->all, &e->all_capacity, (size_t)(iq->rows * M * frames), sizeof *e->all);
	if (st == HD_OK)
		st = hd_features_compute(e->plan, e->all, iq);
	if (st != HD_OK)
		return hd_context(st, "%s", name);
	/* a non-finite sample shows in its frames, and all frames are looked at, not only the kept ones */
	bool finite = true;
	for (int64_t i = 0; i < iq->rows * M * frames; i++)
		finite = finite && isfinite(e->all[i]);
	*skip = HD_SKIP_NON_FINITE;
	if (!finite)
		return hd_fail(HD_E_DATA, "%s: NaN or infinity among its samples", name);
	*skip = HD_SKIP_UNREADABLE;
	st = fit_rows(e, halves, iq->rows, frames);
	if (st != HD_OK)
		return hd_context(st, "%s", name);
	*skip = HD_SKIP_NONE;
	return HD_OK;
}
