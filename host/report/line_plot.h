/* SPDX-License-Identifier: Apache-2.0 */
/* Curves over an axis, as a PNG or SVG through Cairo. Thread-safe for different paths. */
#ifndef HD_REPORT_LINE_PLOT_H
#define HD_REPORT_LINE_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "heimdall/status.h"

#define HD_LINE_PLOT_CURVES 8

/* Size of the page: of an SVG in px; a PNG has HD_LINE_PLOT_SCALE times as many pixels each way, for sharp text. */
#define HD_LINE_PLOT_WIDTH 900
#define HD_LINE_PLOT_HEIGHT 540
#define HD_LINE_PLOT_SCALE 2

/*
 * Points (x[i], y[i]), joined in the order of i. A point with a NaN or an infinity, and one that is not positive on a
 * logarithmic axis, is left out and breaks the line; a point without neighbours is a dot. Values beyond 1e300, and on
 * a logarithmic axis below 1e-300, count as such. Borrowed.
 */
typedef struct hd_curve {
	const char *name; /* for the legend; NULL: not in it */
	const double *x, *y;
	size_t n;
	bool faint; /* light, thin, behind the others and never dashed: raw values under a smoothed curve */
} hd_curve;

/*
 * What is shown. Both axes cover every point that is drawn, the x axis the marker too. A linear axis has ticks in steps
 * of 1, 2 or 5, a logarithmic one at powers of ten (at multiples of them where it covers less than two). Texts are
 * UTF-8, any may be NULL; what has no room ends in "...". A curve's place gives its colour, its place among those that
 * are not faint its dashes. Borrowed.
 */
typedef struct hd_line_plot {
	const char *title, *x_label, *y_label; /* labels with their units: "epoch", "error (m)" */
	bool log_x, log_y;
	const hd_curve *curves;
	int curve_count; /* 0..HD_LINE_PLOT_CURVES */
	double marker_x; /* a vertical line with a label on top; NaN, or 0 or less on a logarithmic axis: none */
	const char *marker_label; /* NULL: no marker */
} hd_line_plot;

/*
 * Writes the picture whole or not at all; a path in .png or .svg (either case) says which. HD_E_USAGE for another
 * ending or too many curves, HD_E_FAILED where Cairo cannot draw it (as for text that is not UTF-8), HD_E_IO with path
 * and reason.
 */
hd_status hd_line_plot_write(const char *path, const hd_line_plot *plot);

#endif
