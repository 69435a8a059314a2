/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A curve in memory that does not grow: of more than HD_CURVE_POINTS points, means of 2, 4, 8, ... neighbours are kept.
 * One thread.
 */
#ifndef HD_TRACK_CURVE_POINTS_H
#define HD_TRACK_CURVE_POINTS_H

#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"

#define HD_CURVE_POINTS 2000

typedef struct hd_curve_points {
	double *x, *y; /* HD_CURVE_POINTS, and one for what is left at the end */
	size_t n;
	int64_t stride;      /* points in a mean */
	int64_t summed;      /* that are not in one yet */
	double sum_x, sum_y; /* of these */
	double last_x;
} hd_curve_points;

hd_status hd_curve_points_open(hd_curve_points *out);

/* An x that is not behind the last one begins anew there: what was at it and behind it is forgotten. */
void hd_curve_points_add(hd_curve_points *curve, double x, double y);

/* The last mean is of those that are left. Nothing is added behind it. */
void hd_curve_points_end(hd_curve_points *curve);
void hd_curve_points_close(hd_curve_points *curve); /* NULL-safe */

#endif
