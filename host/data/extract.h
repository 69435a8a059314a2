/* SPDX-License-Identifier: Apache-2.0 */
/* From one recording in memory to the halves that the cache and the network take. One thread at a time each. */
#ifndef HD_DATA_EXTRACT_H
#define HD_DATA_EXTRACT_H

#include "heimdall/catalog.h"
#include "heimdall/features.h"

typedef struct hd_extractor {
	hd_features *plan;
	hd_feature_config config;
	float *all, *kept, *cepstrum;
	size_t all_capacity, kept_capacity, cepstrum_capacity;
} hd_extractor;

hd_status hd_extractor_open(hd_extractor *out, hd_backend *backend, const hd_feature_config *config);
void hd_extractor_close(hd_extractor *extractor); /* NULL-safe */

/*
 * All rows of a recording to halves (rows,H,T). catalog_rate_hz: what the catalogue says, 0 unknown; a file that says
 * otherwise is refused; without either the rate is taken as configured. The recording is resampled in place where the
 * configuration allows that. HD_E_DATA with the reason, also as *skip, where it cannot be used; name stands in front.
 */
hd_status hd_extract(
        hd_extractor *extractor, uint16_t *halves, hd_iq *iq, double catalog_rate_hz, const char *name, hd_skip *skip);

/* The rate of a recording in memory brought to the configured one, as hd_extract does first. */
hd_status hd_extract_rate(
        hd_iq *iq, const hd_feature_config *config, double catalog_rate_hz, const char *name, hd_skip *skip);

#endif
