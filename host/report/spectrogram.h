/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures of mel levels. */
#ifndef HD_REPORT_SPECTROGRAM_H
#define HD_REPORT_SPECTROGRAM_H

#include "heimdall/features.h"

/*
 * One panel per row of db (R,M,T), time to the right, mel bands upwards with their frequencies, a colour bar in dB.
 * names: what stands above each panel (R); NULL: nothing. A PNG through Cairo.
 */
hd_status hd_spectrogram_write(const char *path, const float *db, const hd_feature_config *config, int64_t R, int64_t T,
        const char *const *names);

#endif
