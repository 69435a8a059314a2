/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/statistics.h"

#include <math.h>
#include <stdlib.h>

int hd_compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double hd_quantile(double *values, size_t n, double q)
{
	if (n == 0)
		return NAN;
	qsort(values, n, sizeof *values, hd_compare_doubles);
	double position = q * (double)(n - 1);
	size_t below = (size_t)position;
	if (below + 1 >= n)
		return values[n - 1];
	double t = position - (double)below;
	return values[below] + t * (values[below + 1] - values[below]);
}

double hd_median(double *values, size_t n)
{
	qsort(values, n, sizeof *values, hd_compare_doubles);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}
