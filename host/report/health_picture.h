/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures of recordings and receivers for a check. PNG through Cairo; thread-safe for different paths. */
#ifndef HD_REPORT_HEALTH_PICTURE_H
#define HD_REPORT_HEALTH_PICTURE_H

#include "heimdall/health.h"

#define HD_RECEIVER_PANELS 32

/*
 * One row of a recording in three panels: I, Q and RMS over time, the power spectrum (Welch 1967, Hann, 50 % overlap;
 * dBFS per bin), the histogram of the values of I and of Q. Under the name stand the first notes. HD_E_IO with the
 * path.
 */
hd_status hd_health_picture(const char *path, const hd_iq *iq, int64_t row, const hd_checked *checked);

/*
 * Level of each recording over time, one panel per receiver (the first HD_RECEIVER_PANELS), sick ones marked, a line
 * at the median level. *drawn is false, and nothing is written, where no recording has a time.
 */
hd_status hd_receivers_picture(bool *drawn, const char *path, const hd_checked *checked, size_t count,
        const hd_receiver_health *receivers, size_t receiver_count);

#endif
