/* SPDX-License-Identifier: Apache-2.0 */
/* Order statistics. Pure functions. */
#ifndef HD_COMMON_STATISTICS_H
#define HD_COMMON_STATISTICS_H

#include <stddef.h>

/* Ascending order of doubles, for qsort. */
int hd_compare_doubles(const void *a, const void *b);

/* Quantile q in [0,1] by linear interpolation between order statistics (numpy's default); sorts values. NaN for n = 0.
 */
double hd_quantile(double *values, size_t n, double q);

/* Median of n >= 1 values, the mean of the middle two for an even n; sorts values. */
double hd_median(double *values, size_t n);

#endif
