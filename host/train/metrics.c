/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/metrics.h"

#include <math.h>
#include <stdlib.h>

#include "host/common/memory.h"
#include "host/common/statistics.h"

static double share_below(const double *values, size_t n, double bound)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++)
		count += values[i] < bound;
	return n ? (double)count / (double)n : NAN;
}

static double mean(const double *values, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += values[i];
	return n ? sum / (double)n : NAN;
}

hd_status hd_metrics_compute(hd_metrics *out, const hd_prediction *predictions, size_t n)
{
	hd_status st;
	double *error = NULL, *centre = NULL, sigma = 0;
	HD_TRY(hd_alloc(&error, n, sizeof *error));
	HD_TRY(hd_alloc(&centre, n, sizeof *centre));
	for (size_t i = 0; i < n; i++) {
		error[i] = predictions[i].error_m;
		centre[i] = predictions[i].centre_error_m;
		sigma += (predictions[i].sigma_north_m + predictions[i].sigma_east_m) / 2;
	}
	out->samples = n;
	out->mae_m = mean(error, n);
	out->median_m = hd_quantile(error, n, 0.5);
	out->p68_m = hd_quantile(error, n, 0.68);
	out->p90_m = hd_quantile(error, n, 0.90);
	out->p95_m = hd_quantile(error, n, 0.95);
	out->acc_30m = share_below(error, n, 30);
	out->acc_50m = share_below(error, n, 50);
	out->acc_100m = share_below(error, n, 100);
	out->mean_sigma_m = n ? sigma / (double)n : NAN;
	out->calibration_error_m = fabs(out->mae_m - out->mean_sigma_m);
	out->centre_mae_m = mean(centre, n);
	out->centre_median_m = hd_quantile(centre, n, 0.5);
done:
	free(centre);
	free(error);
	return st;
}

void hd_metrics_print(FILE *to, const hd_metrics *metrics)
{
	fprintf(to, "  %-22s %12zu\n  %-22s %12.4f\n", "samples", metrics->samples, "loss (NLL)", metrics->loss);
#define X(name, unit, text) fprintf(to, "  %-22s %12.*f %-2s %s\n", #name, unit[0] ? 1 : 4, metrics->name, unit, text);
	HD_METRICS(X)
#undef X
}

json_t *hd_metrics_json(const hd_metrics *metrics, const char *prefix)
{
	json_t *object = json_object();
	char key[64];
#define PUT(name, value)                                                                                               \
	do {                                                                                                           \
		snprintf(key, sizeof key, "%s/%s", prefix, name);                                                      \
		json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());                    \
	} while (0)
	if (!object)
		return NULL;
	snprintf(key, sizeof key, "%s/samples", prefix);
	json_object_set_new(object, key, json_integer((json_int_t)metrics->samples));
	PUT("loss", metrics->loss);
	PUT("log_term", metrics->log_term);
	PUT("mse_term", metrics->mse_term);
#define X(name, unit, text) PUT(#name, metrics->name);
	HD_METRICS(X)
#undef X
#undef PUT
	return object;
}
