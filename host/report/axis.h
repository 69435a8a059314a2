/* SPDX-License-Identifier: Apache-2.0 */
/* An axis of a plot: the values it covers, where they are on the page, its ticks. Pure functions, nothing is owned. */
#ifndef HD_REPORT_AXIS_H
#define HD_REPORT_AXIS_H

#include <stdbool.h>

#define HD_AXIS_TICKS 160

typedef struct hd_tick {
	double value;
	bool major; /* with text */
	bool power; /* text is a factor of 10^exponent, "" for 1 */
	int exponent;
	char text[40];
} hd_tick;

/* Starts with low = INFINITY, high = -INFINITY: nothing covered. */
typedef struct hd_axis {
	bool log;
	double low, high; /* values at its ends, of a logarithmic axis their log10 */
	double from, to;  /* where these are on the page */
	int factor;       /* the ticks' texts are values over 10^factor */
	int tick_count;
	hd_tick ticks[HD_AXIS_TICKS];
} hd_axis;

/* Whether a value can be shown: finite, up to 1e300 in size, on a logarithmic axis from 1e-300 up. */
bool hd_axis_has_place(const hd_axis *a, double v);

/* Where a value that has a place is on the page. */
double hd_axis_place(const hd_axis *a, double v);

/* Widens the axis to a value that has a place. */
void hd_axis_cover(hd_axis *a, double v);

/*
 * Ends the covering: adds a share of the range at both ends, but goes beyond zero only with the values. A single value
 * gets a range around it; where there is none the axis is 0 to 1, a logarithmic one 1 to 10.
 */
void hd_axis_pad(hd_axis *a, double padding);

/*
 * Ticks at steps of 1, 2 or 5 times a power of ten; on a logarithmic axis of a decade or more at powers of ten, below
 * two decades with text at 2 and 5 times them too. At most about `wanted` have text.
 */
void hd_axis_make_ticks(hd_axis *a, int wanted);

#endif
