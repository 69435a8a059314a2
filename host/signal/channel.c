/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/channel.h"

#include "heimdall/geo.h"

#define MAX_TAPS 17
#define THERMAL_DBM_PER_HZ (-174.0) /* k T at 290 K */
#define FIELD_WAVES 128
#define LONGEST_DELAYS 8 /* mean excess delays after which a scattered path is cut off */

typedef struct tap {
	double delay;   /* samples */
	double re, im;  /* amplitude */
	double doppler; /* radians per sample */
} tap;

int64_t hd_channel_longest_delay(const hd_scenario *s, double rate_hz)
{
	double farthest = 0;
	for (size_t r = 0; r < s->receiver_count; r++)
		for (int corner = 0; corner < 4; corner++)
			farthest = fmax(
			        farthest, hd_geo_distance_m(s->receivers[r].latitude_deg, s->receivers[r].longitude_deg,
			                          corner & 1 ? s->latitude_max_deg : s->latitude_min_deg,
			                          corner & 2 ? s->longitude_max_deg : s->longitude_min_deg));
	return (int64_t)((farthest / HD_SPEED_OF_LIGHT_M_S + LONGEST_DELAYS * s->delay_spread_us * 1e-6) * rate_hz) + 1;
}

/*
 * Shadowing in standard deviations. Correlated: a sum of plane waves whose wave numbers follow the spectrum of
 * exp(-d/D) in the plane, (1 + k^2 D^2)^(-3/2) (Gudmundson 1991 for the model; Rahimi and Recht 2007 for the sum).
 */
static double shadowing(
        const hd_scenario *s, int receiver, double latitude_deg, double longitude_deg, uint64_t seed, hd_random *random)
{
	double own = hd_random_normal(random);
	if (!(s->shadowing_distance_m > 0))
		return own;
	hd_random field = hd_random_start(seed, 0xf1e1d00000000000u + (uint64_t)receiver);
	hd_label_frame frame = {s->latitude_min_deg, s->longitude_min_deg, 1};
	double north, east, sum = 0;
	hd_geo_to_local_m(&frame, latitude_deg, longitude_deg, &north, &east);
	for (int w = 0; w < FIELD_WAVES; w++) {
		double u = hd_random_uniform(&field), angle = 2 * M_PI * hd_random_uniform(&field);
		double k = sqrt(1 / ((1 - u) * (1 - u)) - 1) / s->shadowing_distance_m;
		sum += cos(k * (north * cos(angle) + east * sin(angle)) + 2 * M_PI * hd_random_uniform(&field));
	}
	return sum * sqrt(2.0 / FIELD_WAVES);
}

/* Direct path of K/(K+1), scattered ones sharing 1/(K+1) by their delays (Rice 1948; Saleh and Valenzuela 1987). */
static int draw_taps(tap *taps, const hd_scenario *s, double direct_delay, double rate_hz, hd_random *random)
{
	int scattered = 1 + (int)s->multipath_taps;
	double k = pow(10, s->rician_k_db / 10), weight[MAX_TAPS], total = 0,
	       angle = hd_random_between(random, 0, 2 * M_PI);
	double doppler_hz = s->speed_m_s * s->frequency_mhz * 1e6 / HD_SPEED_OF_LIGHT_M_S;
	taps[0] = (tap){direct_delay, sqrt(k / (k + 1)) * cos(angle), sqrt(k / (k + 1)) * sin(angle), 0};
	for (int i = 0; i < scattered; i++) {
		double excess_us = i ? fmin(-log(hd_random_uniform(random)), LONGEST_DELAYS) * s->delay_spread_us : 0;
		weight[i] = s->delay_spread_us > 0 ? exp(-excess_us / s->delay_spread_us) : 1;
		total += weight[i];
		taps[i + 1].delay = direct_delay + excess_us * 1e-6 * rate_hz;
		taps[i + 1].doppler = 2 * M_PI * doppler_hz / rate_hz * cos(hd_random_between(random, 0, 2 * M_PI));
		hd_random_normals(random, &taps[i + 1].re, &taps[i + 1].im);
	}
	for (int i = 0; i < scattered; i++) {
		double amplitude = sqrt(0.5 * weight[i] / total / (k + 1));
		taps[i + 1].re *= amplitude;
		taps[i + 1].im *= amplitude;
	}
	return scattered + 1;
}

/* The phase at a fraction between samples: Catmull-Rom cubic, as the phase is far below half the rate in bandwidth. */
static double phase_at(const double *phase, int64_t whole, double fraction)
{
	const double *p = phase + whole;
	double a = p[-1], b = p[0], c = p[1], d = p[2];
	return b + 0.5 * fraction * (c - a + fraction * (2 * a - 5 * b + 4 * c - d + fraction * (3 * (b - c) + d - a)));
}

/* Adds one path to iq. */
static void add_path(float *iq, const tap *t, const double *phase, int64_t lead, int64_t n, double offset)
{
	double start = (double)lead - t->delay;
	int64_t whole = (int64_t)floor(start);
	double fraction = start - (double)whole;
	for (int64_t i = 0; i < n; i++) {
		float angle = (float)remainder(
		        phase_at(phase, whole + i, fraction) + (t->doppler + offset) * (double)i, 2 * M_PI);
		float c = cosf(angle), s = sinf(angle), re = (float)t->re, im = (float)t->im;
		iq[2 * i] += c * re - s * im;
		iq[2 * i + 1] += c * im + s * re;
	}
}

void hd_channel_render(float *iq, hd_link *link, const hd_scenario *s, int receiver, double latitude_deg,
        double longitude_deg, const double *phase, int64_t lead, int64_t n, double rate_hz, uint64_t shadow_seed,
        hd_random *random)
{
	tap taps[MAX_TAPS + 1];
	const hd_site *site = &s->receivers[receiver];
	link->distance_m = hd_geo_distance_m(site->latitude_deg, site->longitude_deg, latitude_deg, longitude_deg);
	link->shadowing_db = s->shadowing_db * shadowing(s, receiver, latitude_deg, longitude_deg, shadow_seed, random);
	link->mean_level_dbm = hd_scenario_level_dbm(s, link->distance_m) + link->shadowing_db;
	link->noise_dbm = THERMAL_DBM_PER_HZ + 10 * log10(rate_hz) + s->noise_figure_db;

	int count = draw_taps(taps, s, link->distance_m / HD_SPEED_OF_LIGHT_M_S * rate_hz, rate_hz, random);
	double error_hz = hd_random_between(random, -1, 1) * s->frequency_error_ppm * s->frequency_mhz;
	for (int64_t i = 0; i < 2 * n; i++)
		iq[i] = 0;
	for (int i = 0; i < count; i++)
		add_path(iq, &taps[i], phase, lead, n, 2 * M_PI * error_hz / rate_hz);

	double power = 0, gain = pow(10, (link->mean_level_dbm - s->full_scale_dbm) / 20);
	double noise = pow(10, (link->noise_dbm - s->full_scale_dbm) / 20) * M_SQRT1_2;
	for (int64_t i = 0; i < 2 * n; i++)
		power += (double)iq[i] * (double)iq[i];
	link->received_level_dbm = link->mean_level_dbm + 10 * log10(fmax(power / (double)n, 1e-30));
	for (int64_t i = 0; i < n; i++) {
		double a, b;
		hd_random_normals(random, &a, &b);
		iq[2 * i] = (float)(gain * (double)iq[2 * i] + noise * a);
		iq[2 * i + 1] = (float)(gain * (double)iq[2 * i + 1] + noise * b);
	}
}
