/* SPDX-License-Identifier: Apache-2.0 */
/* Given groups for cross-validation: a CSV of sessions (or another column of the catalogue) and their folds. */
#ifndef HD_DATA_FOLDS_H
#define HD_DATA_FOLDS_H

#include "heimdall/catalog.h"

#define HD_KEY_BYTES 512

typedef struct hd_folds {
	char (*keys)[HD_KEY_BYTES];
	int *folds;
	size_t count, keys_capacity, folds_capacity;
	char column[HD_KEY_BYTES]; /* of the catalogue */
} hd_folds;

/*
 * Columns `fold` (whole numbers from 0) and one more: its name is the catalogue's column, a name that no catalogue has
 * ("hour") stands for the session. HD_E_DATA with path:line.
 */
hd_status hd_folds_read(hd_folds *out, const char *path);
void hd_folds_free(hd_folds *folds);

/* Fold of a recording, -1 where the list does not have its key. */
int hd_folds_find(const hd_folds *folds, const hd_recording *recording);

/* Text of one of the columns that name things, or of an extra one; "" where it is empty. */
void hd_recording_text(char text[HD_KEY_BYTES], const hd_recording *recording, const char *column);

#endif
