/* SPDX-License-Identifier: Apache-2.0 */
/* A training with all that belongs to it, for `train` and `reproduce`. */
#ifndef HD_CLI_TRAIN_H
#define HD_CLI_TRAIN_H

#include "heimdall/settings.h"

/*
 * Trains, exports, ends the run and prints the results, as `heimdall train` does. *run_folder: of the run, new text,
 * NULL where there is none; it may be NULL.
 */
hd_status hd_cli_train_run(char **run_folder, const hd_settings *given);

#endif
