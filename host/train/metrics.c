/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/metrics.h"

#include <math.h>
#include <stdlib.h>

#include "host/common/json.h"
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

/* Abramowitz and Stegun 1964, 17.6: E = K (1 - sum 2^(n-1) c_n^2), K = pi / 2a, by the arithmetic-geometric mean. */
double hd_expected_radius(double sigma_a, double sigma_b)
{
	double larger = fmax(sigma_a, sigma_b), smaller = fmin(sigma_a, sigma_b);
	if (!(larger > 0))
		return larger;
	double a = 1, b = smaller / larger, sum = (1 - b * b) / 2, power = 1;
	if (b == 0)
		return sqrt(2 / M_PI) * larger;
	while (a - b > 1e-15) {
		double c = (a - b) / 2, mean_ab = (a + b) / 2;
		sum += power * c * c;
		power *= 2;
		b = sqrt(a * b);
		a = mean_ab;
	}
	return sqrt(2 / M_PI) * larger * M_PI / (2 * a) * (1 - sum);
}

/* Deviations that the errors of a prediction should have: the label's own is part of them. */
static void total_sigmas(double out[2], const hd_prediction *p)
{
	out[0] = hypot(p->sigma_north_m, p->label_sigma_m);
	out[1] = hypot(p->sigma_east_m, p->label_sigma_m);
}

hd_status hd_metrics_compute(hd_metrics *out, const hd_prediction *predictions, size_t n)
{
	hd_status st;
	double *error = NULL, *centre = NULL, sigma = 0, expected = 0, z = 0, at_bound = 0;
	HD_TRY(hd_alloc(&error, n, sizeof *error));
	HD_TRY(hd_alloc(&centre, n, sizeof *centre));
	for (size_t i = 0; i < n; i++) {
		error[i] = predictions[i].error_m;
		centre[i] = predictions[i].centre_error_m;
		sigma += (predictions[i].sigma_north_m + predictions[i].sigma_east_m) / 2;
		double total[2];
		total_sigmas(total, &predictions[i]);
		expected += hd_expected_radius(total[0], total[1]);
		z += (pow(predictions[i].error_north_m / total[0], 2) +
		             pow(predictions[i].error_east_m / total[1], 2)) /
		     2;
		at_bound += predictions[i].at_bound;
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
	out->expected_error_m = n ? expected / (double)n : NAN;
	out->expected_minus_observed_m = out->expected_error_m - out->mae_m;
	out->z_variance = n ? z / (double)n : NAN;
	out->sigma_at_bound = n ? at_bound / (double)n : NAN;
	out->centre_mae_m = mean(centre, n);
	out->centre_median_m = hd_quantile(centre, n, 0.5);
done:
	free(centre);
	free(error);
	return st;
}

void hd_metrics_print(FILE *to, const hd_metrics *metrics)
{
	fprintf(to, "  %-26s %12zu\n  %-26s %12.4f\n", "samples", metrics->samples, "loss", metrics->loss);
	fprintf(to, "  %-26s %12.4f    log sigma %.4f + squares %.4f\n", "nll", metrics->nll, metrics->log_term,
	        metrics->mse_term);
#define X(name, unit, text) fprintf(to, "  %-26s %12.*f %-2s %s\n", #name, unit[0] ? 1 : 4, metrics->name, unit, text);
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
		json_object_set_new(object, key, hd_json_number(value));                                               \
	} while (0)
	if (!object)
		return NULL;
	snprintf(key, sizeof key, "%s/samples", prefix);
	json_object_set_new(object, key, json_integer((json_int_t)metrics->samples));
	PUT("loss", metrics->loss);
	PUT("nll", metrics->nll);
	PUT("log_term", metrics->log_term);
	PUT("mse_term", metrics->mse_term);
#define X(name, unit, text) PUT(#name, metrics->name);
	HD_METRICS(X)
#undef X
#undef PUT
	return object;
}
