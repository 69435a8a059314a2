/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measured levels: one row per emission with its position and the level at every receiver that heard it.
 *
 * levels.csv: timestamp ("2022-04-25 14:12:32", blank or T between date and time), latitude_deg, longitude_deg,
 * then one column per receiver, dB, empty where it did not hear or was absent. receivers.csv: receiver,
 * latitude_deg, longitude_deg. folds.csv: hour ("2022-04-25 14"), fold. A table owns what it points to.
 */
#ifndef HD_SIGNAL_LEVELS_H
#define HD_SIGNAL_LEVELS_H

#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"

#define HD_LEVELS_HOUR 14  /* bytes of "2022-04-25 14" with its end */
#define HD_LEVELS_STAMP 20 /* of "2022-04-25 14:12:32"; fractions of a second are left out */

typedef struct hd_level_receiver {
	char *name;
	double latitude_deg, longitude_deg;
} hd_level_receiver;

typedef struct hd_level_hour {
	char text[HD_LEVELS_HOUR];
	int fold; /* -1 where no folds were read */
} hd_level_hour;

typedef struct hd_level_row {
	char stamp[HD_LEVELS_STAMP]; /* "" where the row was drawn from a fit */
	int hour;                    /* index into hours, -1 where stamp is "" */
	int64_t number;              /* of the row in its file or drawing, from 1; kept when others are taken out */
	double latitude_deg, longitude_deg;
	float *level_db; /* (R), NaN = not heard; points into level_pool */
} hd_level_row;

typedef struct hd_levels {
	hd_level_receiver *receivers;
	int R; /* in the order of the columns, those that nobody heard too */
	hd_level_hour *hours;
	size_t hour_count, hour_capacity;
	hd_level_row *rows;
	size_t count, capacity;
	float *level_pool; /* (capacity,R) */
	size_t level_capacity;
} hd_levels;

/*
 * Reads the tables; folds may be NULL or "". HD_E_DATA with path:line for a missing or unknown column, a value that
 * is no number, a position off the Earth, a receiver without a position, an hour without a fold, a name that is
 * there twice or cannot be a file name, and a row of another length than the header; also where no row is left.
 */
hd_status hd_levels_read(hd_levels *out, const char *levels, const char *receivers, const char *folds);

/* An empty table of `count` unheard rows, with copies of the receivers. */
hd_status hd_levels_make(hd_levels *out, const hd_level_receiver *receivers, int R, size_t count);

/* Takes out the rows and hours of one fold. HD_E_DATA where none is in it or none is left. */
hd_status hd_levels_leave_out(hd_levels *levels, int fold);

/* Writes OUT/LEVELS_NAME and OUT/RECEIVERS_NAME in the format that hd_levels_read takes, drawn rows without a stamp. */
hd_status hd_levels_write(
        const hd_levels *levels, const char *out, const char *levels_name, const char *receivers_name);

void hd_levels_free(hd_levels *levels); /* NULL-safe; leaves zeroes */

#endif
