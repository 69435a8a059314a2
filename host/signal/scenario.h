/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scenario: receivers, the area of the transmitters, the radio and the propagation between them.
 * Read from YAML; every key has a default.
 */
#ifndef HD_SIGNAL_SCENARIO_H
#define HD_SIGNAL_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"

/* key, default, low, high, unit and meaning */
#define HD_SCENARIO_NUMBERS(X)                                                                                         \
	X(latitude_min_deg, 44.2, -90, 90, "southern edge of the area")                                                \
	X(latitude_max_deg, 45.7, -90, 90, "northern edge")                                                            \
	X(longitude_min_deg, 6.9, -180, 180, "western edge")                                                           \
	X(longitude_max_deg, 9.4, -180, 180, "eastern edge")                                                           \
	X(frequency_mhz, 145, 1, 100000, "carrier")                                                                    \
	X(power_dbm, 37, -50, 100, "radiated power")                                                                   \
	X(deviation_hz, 5000, 1, 1e6, "peak FM deviation")                                                             \
	X(pre_emphasis_us, 750, 0, 10000, "time constant; 750 land mobile, 50 broadcasting")                           \
	X(path_loss_exponent, 3, 1, 8, "n: loss grows by 10 n dB per decade beyond 1 km")                              \
	X(shadowing_db, 6, 0, 40, "standard deviation of the log-normal shadowing")                                    \
	X(shadowing_distance_m, 0, 0, 1e6,                                                                             \
	        "decorrelation distance of the shadowing; 0: independent for every emission")                          \
	X(rician_k_db, 10, -100, 60, "power of the direct path over the scattered ones; -100 is Rayleigh")             \
	X(multipath_taps, 2, 0, 16, "scattered paths with a delay of their own")                                       \
	X(delay_spread_us, 2, 0, 100, "mean of their exponential delays")                                              \
	X(speed_m_s, 1.5, 0, 100, "speed that sets the Doppler of the scattered paths")                                \
	X(frequency_error_ppm, 2, 0, 100, "largest frequency error of a receiver")                                     \
	X(noise_figure_db, 6, 0, 60, "of the receivers")                                                               \
	X(full_scale_dbm, -30, -200, 100, "level that reads as amplitude 1")                                           \
	X(min_snr_db, -1000, -1000, 100, "recordings below are left out")

typedef struct hd_site {
	double latitude_deg, longitude_deg, height_m;
} hd_site;

typedef struct hd_scenario {
#define X(key, def, low, high, help) double key;
	HD_SCENARIO_NUMBERS(X)
#undef X
	hd_site *receivers;
	size_t receiver_count, receiver_capacity;
} hd_scenario;

/* Seven sites in Piedmont and Liguria. */
hd_status hd_scenario_default(hd_scenario *out);

/* The defaults, then what the file sets ("receivers:" is a list of {latitude, longitude, height}). Errors have
 * file:line. */
hd_status hd_scenario_read(hd_scenario *out, const char *path);

/* YAML that hd_scenario_read reads back. */
hd_status hd_scenario_write(const hd_scenario *scenario, const char *path);
void hd_scenario_free(hd_scenario *scenario); /* NULL-safe */

/*
 * Level at a receiver without shadowing and fading, dBm: free-space loss at 1 km (ITU-R P.525: 32.45 +
 * 20 log10 MHz dB) and 10 n log10(d/1 km) beyond, d the great-circle distance, at least 50 m.
 */
double hd_scenario_level_dbm(const hd_scenario *scenario, double distance_m);

#endif
