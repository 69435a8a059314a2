/* SPDX-License-Identifier: Apache-2.0 */
/* The way from transmitter to receiver: path loss, shadowing, fading, delay, frequency error, noise. */
#ifndef HD_SIGNAL_CHANNEL_H
#define HD_SIGNAL_CHANNEL_H

#include "host/signal/random.h"
#include "host/signal/scenario.h"

typedef struct hd_link {
	double distance_m;
	double shadowing_db;
	double mean_level_dbm;     /* path loss and shadowing, no fading */
	double received_level_dbm; /* with fading */
	double noise_dbm;          /* in the recorded bandwidth */
} hd_link;

#define HD_SPEED_OF_LIGHT_M_S 299792458.0
#define HD_DELAY_LEAD 4 /* phase samples kept in front of the earliest delay */

/* Longest delay in samples that a scenario can produce, for the length of the phase. */
int64_t hd_channel_longest_delay(const hd_scenario *scenario, double rate_hz);

/*
 * One recording: iq (n interleaved pairs, amplitude 1 = full_scale_dbm) of the carrier phase (lead + n), where
 * phase[lead] leaves the transmitter when the recording starts; lead >= hd_channel_longest_delay() +
 * HD_DELAY_LEAD. shadow_seed fixes the shadowing field of the data set.
 */
void hd_channel_render(float *iq, hd_link *link, const hd_scenario *scenario, int receiver, double latitude_deg,
        double longitude_deg, const double *phase, int64_t lead, int64_t n, double rate_hz, uint64_t shadow_seed,
        hd_random *random);

#endif
