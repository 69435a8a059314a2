/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run's folder says about what the run was made of, written when data and model are ready. Each file is
 * replaced whole; nothing holds a password or a key.
 */
#ifndef HD_TRACK_RECORD_H
#define HD_TRACK_RECORD_H

#include <stdio.h>

#include "heimdall/backend.h"
#include "heimdall/dataset.h"
#include "heimdall/settings.h"
#include "host/track/run.h"

/*
 * Whether --tags are KEY=VALUE,KEY=VALUE that an MLflow server takes: keys of up to 250 letters, digits, blanks and
 * _ - . : /, values of up to 5000 bytes, empty ones too. HD_E_USAGE with what is wrong; so are keys of the program's
 * own
 * ("heimdall.") and a value that holds a password.
 */
hd_status hd_record_check_tags(const hd_settings *settings);

/*
 * config.yaml, all settings as resolved, which --config reads back; params.json, those of groups data, features, model
 * and train that training has, under their own names, and `facts` (object of texts and numbers: samples, parameters,
 * back end), which stand before settings of the same name; tags.json: phase training, service training, model
 * (ConvNeXt-Large, after the size), and --tags, which may say these otherwise. facts may be NULL.
 *
 * Values are texts as Python's str() gives them, but whole numbers are without ".0": 0.001, 1e-05, 32, 192000, True.
 */
hd_status hd_record_settings(const hd_run *run, const hd_settings *settings, const json_t *facts);

/*
 * environment.json: program, commit, libraries' versions, operating system, processor, memory, back end and device,
 * working directory, and those variables that change what is computed (HEIMDALL_*, OMP_*, CUDA_VISIBLE_DEVICES,
 * MLFLOW_TRACKING_URI, ...), but for all that have PASSWORD, TOKEN, SECRET, KEY or the like in their names.
 */
hd_status hd_record_environment(const hd_run *run, hd_backend *backend);

/*
 * catalog.csv, a line per recording of every sample in the samples' order: session, emission, receiver, id; iq, below
 * the catalogue's folder where it lies there; split; latitude, longitude, sample_rate, frequency_mhz; row, the first 16
 * digits of the SHA-256 over these four, label_sigma_m, snr_db, timestamp in seconds, source and a JSON object of the
 * catalogue's other columns by name, a line each; version, what the catalogue or its store calls the content (an ETag),
 * else "SIZE SECONDS.NANOSECONDS" of the file; left_out, why a recording could not be used.
 */
hd_status hd_record_catalog(const hd_run *run, const hd_dataset *dataset);

typedef struct hd_record_changes {
	int64_t same, changed, gone, added;
	int64_t touched; /* of those changed: a file of the same size has another time, and that is all */
} hd_record_changes;

/*
 * Compares catalog.csv with a data set that was opened anew: a line on `to` for each row that changed (what of it), is
 * gone or is new, at most `most` lines of each kind and then how many more. Recordings are the same by session,
 * emission and receiver; where that is gone, by session, emission and iq. A version that is not known on one side (of
 * an object whose store was not asked: the data set is not loaded) is no change. HD_E_DATA for a file that was not
 * written by hd_record_catalog.
 */
hd_status hd_record_compare(
        hd_record_changes *out, FILE *to, int64_t most, const hd_run *run, const hd_dataset *dataset);

/*
 * artifacts/spectrograms/: pictures of the first validation samples (training ones where there are none), up to 4, as
 * N_SPLIT_SESSION_EMISSION.png with a panel for each receiver, the first 16, in channel order; of a recording's several
 * windows the middle one. The data set is loaded. None with feature mfcc, whose rows are no frequencies.
 */
hd_status hd_record_spectrograms(const hd_run *run, const hd_dataset *dataset);

#endif
