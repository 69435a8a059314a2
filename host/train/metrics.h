/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics of a set of predictions, in great-circle metres, each beside the answer "the training centre".
 * Pure functions.
 */
#ifndef HD_TRAIN_METRICS_H
#define HD_TRAIN_METRICS_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#include "heimdall/status.h"

/* One evaluated sample. */
typedef struct hd_prediction {
	int32_t sample;                     /* index into hd_samples */
	double latitude_deg, longitude_deg; /* true */
	double predicted_latitude_deg, predicted_longitude_deg;
	double sigma_north_m, sigma_east_m;
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
	X(centre_mae_m, "m", "mean error of the training centre")                                                      \
	X(centre_median_m, "m", "median error of the training centre")

typedef struct hd_metrics {
	size_t samples;
	double loss;     /* mean weighted NLL */
	double log_term; /* its two parts */
	double mse_term;
#define X(name, unit, text) double name;
	HD_METRICS(X)
#undef X
} hd_metrics;

/* From predictions with error_m and centre_error_m filled in; loss terms are left alone. */
hd_status hd_metrics_compute(hd_metrics *out, const hd_prediction *predictions, size_t n);

/* A table of at most 80 columns. */
void hd_metrics_print(FILE *to, const hd_metrics *metrics);

/* {"prefix/name": value, ...}; NULL on lack of memory. Values that are not finite become null. */
json_t *hd_metrics_json(const hd_metrics *metrics, const char *prefix);

#endif
