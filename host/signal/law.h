/* SPDX-License-Identifier: Apache-2.0 */
/* The law and the process of one receiver (fit.h), fitted to the cells of its readings. One thread per law. */
#ifndef HD_SIGNAL_LAW_H
#define HD_SIGNAL_LAW_H

#include "host/signal/fit.h"

/* The cells of one receiver. */
typedef struct hd_cells {
	size_t count;
	double *north_m, *east_m, *level_db, *log_distance; /* 10 log10 m */
	double *readings;                                   /* in each */
	int *hour;
	double *signal, *pseudo, *noise; /* state of the Gauss-Newton steps */
} hd_cells;

/* 10 log10 of the distance to the receiver, not below HD_FIT_NEAREST_M. */
double hd_law_log_distance(const hd_law *law, double north_m, double east_m);

/* The regression: a, n, their errors and sigma. The law's place, floor and limit must be set. */
void hd_law_fit(hd_law *law, const hd_cells *cells);

/* The process: covariance by marginal likelihood, then weights and factor; takes over the cells' positions. */
hd_status hd_law_fit_field(hd_law *law, hd_cells *cells);

#endif
