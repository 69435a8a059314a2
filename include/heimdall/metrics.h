/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics of a set of predictions, in great-circle metres, each beside the answer "the training centre".
 * Pure functions.
 */
#ifndef HEIMDALL_METRICS_H
#define HEIMDALL_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "heimdall/status.h"

/* One evaluated sample. */
typedef struct hd_prediction {
	int32_t sample;                     /* index into hd_samples */
	double latitude_deg, longitude_deg; /* true */
	double predicted_latitude_deg, predicted_longitude_deg;
	double sigma_north_m, sigma_east_m;
	double label_sigma_m; /* of the true position, per axis */
	double error_north_m, error_east_m;
	bool at_bound;         /* a sigma within 1 % of one of its bounds */
	double error_m;        /* great-circle */
	double centre_error_m; /* of the training centre */
} hd_prediction;

/* name, unit, text; all double. Names are what a tracking server shows. */
#define HD_METRICS(X)                                                                                                  \
	X(mae_m, "m", "mean error")                                                                                    \
	X(median_m, "m", "median error")                                                                               \
	X(p68_m, "m", "68 % of errors below")                                                                          \
	X(p90_m, "m", "90 % of errors below")                                                                          \
	X(p95_m, "m", "95 % of errors below")                                                                          \
	X(acc_30m, "", "share of errors below 30 m")                                                                   \
	X(acc_50m, "", "share of errors below 50 m")                                                                   \
	X(acc_100m, "", "share of errors below 100 m")                                                                 \
	X(mean_sigma_m, "m", "mean predicted sigma per axis")                                                          \
	X(calibration_error_m, "m", "|mean error - mean sigma|")                                                       \
	X(expected_error_m, "m", "mean error that the sigmas promise")                                                 \
	X(expected_minus_observed_m, "m", "that less the mean error")                                                  \
	X(z_variance, "", "of error/sigma per axis; 1: calibrated")                                                    \
	X(sigma_at_bound, "", "share with a sigma at a bound")                                                         \
	X(centre_mae_m, "m", "mean error of the training centre")                                                      \
	X(centre_median_m, "m", "median error of the training centre")

typedef struct hd_metrics {
	size_t samples;
	double loss;     /* mean of what is trained on: the NLL, unless --loss says otherwise */
	double nll;      /* mean Gaussian NLL, sum of its two terms */
	double log_term; /* mean of log sigma over both axes */
	double mse_term; /* mean of error^2 / (2 sigma^2) over both axes */
#define X(name, unit, text) double name;
	HD_METRICS(X)
#undef X
} hd_metrics;

/* From predictions with error_m and centre_error_m filled in; loss terms are left alone. */
hd_status hd_metrics_compute(hd_metrics *out, const hd_prediction *predictions, size_t n);

/*
 * Mean length of a Gaussian error with these deviations along two axes, sqrt(2/pi) * larger * E(1 -
 * (smaller/larger)^2), E the complete elliptic integral of the second kind (of the parameter m = k^2); its unit is
 * theirs.
 */
double hd_expected_radius(double sigma_a, double sigma_b);

/* A table of at most 80 columns. */
void hd_metrics_print(FILE *to, const hd_metrics *metrics);

/* {"prefix/name": value, ...}; NULL on lack of memory. Values that are not finite become null. */
json_t *hd_metrics_json(const hd_metrics *metrics, const char *prefix);

#endif
