/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall catalog check: sick recordings, receivers and rows, found before training, with a picture each. */
#ifndef HD_CLI_CATALOG_CHECK_H
#define HD_CLI_CATALOG_CHECK_H

#include <stdio.h>

#include "heimdall/health.h"
#include "heimdall/settings.h"

#define HD_CHECK_PICTURES 100 /* of sick recordings of a catalogue, at most */

/* All rows that were checked, and the receivers they came from. */
typedef struct hd_check {
	const char *catalog; /* its path; NULL for files by themselves */
	hd_checked *rows;
	size_t count, capacity;
	size_t sick, suspect; /* rows with a sick finding, rows with a warning and none */
	size_t left_out;      /* recordings of the catalogue that were not checked: not approved or filtered */
	hd_receiver_health *receivers;
	size_t receiver_count;
} hd_check;

/*
 * paths: one catalogue (a folder, a .sqlite or .db file; --data_dir where there are none) or any number of recording
 * files. Prints what was found, of a catalogue by recording, receiver and finding, of files every fact. --json also
 * writes all of it to a file, --out the pictures to a folder. HD_OK where nothing is sick, else HD_E_DATA with "N of M
 * recordings are sick". HD_E_USAGE for catalogues mixed with files, HD_E_INTERRUPTED after a signal.
 */
hd_status hd_catalog_check(const hd_settings *settings, const char **paths, int count);

/* Text of at most 80 columns, where names allow: of a catalogue, of files. */
void hd_check_print_catalog(FILE *to, const hd_check *check);
void hd_check_print_files(FILE *to, const hd_check *check);

/* Everything as JSON; nothing where path is "". */
hd_status hd_check_write_json(const char *path, const hd_check *check);

#endif
