/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A site's radio field fitted to measured levels, and rows of levels drawn from it.
 *
 * The signal S (dB) of an emission at distance d from a receiver is a log-distance law with a Gaussian process
 * over the position of the emission (Rasmussen and Williams 2006, chapter 2; exponential covariance as found for
 * shadowing by Gudmundson 1991) and noise of its own:
 *
 *   S = a - 10 n log10(d) + g(position) + h(hour) + e,   cov g = field^2 exp(-distance / length)
 *
 * h is the receiver's offset of an hour: gains change from one day to another, by 15 dB at some receivers.
 * A receiver reads S and its own noise as powers, L = 10 log10(10^(S/10) + 10^(floor/10)): near the floor a level
 * tells only that the signal is weak. So the law is a Tobit regression with Huber's weights (readings below `limit`
 * count as "less than limit"), and the process is conditioned on the readings by Gauss-Newton steps on L(S).
 */
#ifndef HD_SIGNAL_FIT_H
#define HD_SIGNAL_FIT_H

#include <stdbool.h>
#include <stdio.h>

#include "heimdall/geo.h"
#include "host/signal/levels.h"

#define HD_FIT_NEAREST_M 10.0 /* shorter distances count as this */

typedef struct hd_law {
	const char *receiver; /* of the fit's own copy */
	double north_m, east_m;
	int64_t rows;               /* heard; a law with rows 0 was heard too rarely to be fitted */
	double a_db, n;             /* level at 1 m and path-loss exponent */
	double a_error_db, n_error; /* standard errors, readings taken as independent */
	double sigma_db;            /* spread of cells around the law (Huber's proposal 2) */
	double floor_db;            /* of the receiver's noise: 1.5 dB above the 2nd percentile of its readings */
	double limit_db;            /* 3 dB above that percentile: lower readings are mostly noise */
	double field_db, length_m;  /* the process: standard deviation and length of its covariance */
	double nugget_db;           /* e's standard deviation, between cells */
	double hour_db;             /* of offsets that hold for an hour */
	double reading_db;          /* and between the readings of a cell */
	double heard_intercept;     /* P(heard) = 1 / (1 + exp(-(intercept + slope (mean level - limit)))) */
	double heard_slope;         /* per dB */
	int64_t cells;              /* m */
	double *cell_north_m;       /* (m) */
	double *cell_east_m;        /* (m) */
	double *weights;            /* (m) inverse covariance times residual */
	float *factor;              /* (m,m) its lower Cholesky factor, column-major */
} hd_law;

typedef struct hd_fit {
	hd_label_frame frame; /* scale 1 m, origin at the rows' mean */
	hd_levels levels;     /* the rows it was made of, receivers too; owned */
	double *north_m;      /* (rows) */
	double *east_m;
	hd_law *laws;     /* (R) */
	bool *online;     /* (hours,R) heard at least once in that hour */
	double common_db; /* standard deviation of what all receivers of an emission share; part of reading_db */
} hd_fit;

/*
 * Fits the laws; threads 0: one per core. Takes over the levels (leaves zeroes), on failure too. The result does
 * not depend on the number of threads. HD_E_DATA where no receiver was heard often enough.
 */
hd_status hd_fit_levels(hd_fit *out, hd_levels *levels, int threads);
void hd_fit_free(hd_fit *fit); /* NULL-safe; leaves zeroes */

/* Level read for a signal, and the law alone at a distance. */
double hd_law_reading_db(const hd_law *law, double signal_db);
double hd_law_signal_db(const hd_law *law, double north_m, double east_m);

/*
 * Signal at `count` positions of the fit's frame: posterior mean, and the process's posterior variance (NULL: not
 * wanted), without that of single emissions. One thread.
 */
hd_status hd_law_predict(const hd_law *law, const double *north_m, const double *east_m, size_t count, double *mean_db,
        double *variance);

/* Variance (dB^2) of one emission's signal around the process, without what all receivers share. */
double hd_law_emission_variance(const hd_fit *fit, const hd_law *law);

typedef struct hd_draw_config {
	int64_t emissions;
	uint64_t seed;
	double uniform_share; /* of positions uniform over the rows' bounding box; the others lie around rows */
	double margin;        /* the box is enlarged by this share of its edges on each side */
	double spread_m;      /* standard deviation around rows, per axis */
	int threads;          /* 0: one per core */
} hd_draw_config;

/*
 * Draws rows: a position, the hour of a random row for which receivers are online, then for each of those its level
 * and whether it is heard. A row depends on (seed, its number) alone. Rows that nobody hears stay,
 * empty.
 */
hd_status hd_fit_draw(hd_levels *out, const hd_fit *fit, const hd_draw_config *config);

/* One line per receiver: CSV receiver,a,n,sigma,D,nugget,rows and more; the same as a table of 80 columns. */
hd_status hd_fit_write(const hd_fit *fit, const char *path);
void hd_fit_print(FILE *to, const hd_fit *fit);

#endif
