/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands: one file each. Results go to stdout, everything else to stderr. */
#ifndef HD_CLI_CLI_H
#define HD_CLI_CLI_H

#include "heimdall/settings.h"

hd_status hd_cli_train(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_eval(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_predict(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_synth(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_catalog(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_import(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_export(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_features(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_runs(const hd_settings *settings, const char **words, int count);
hd_status hd_cli_reproduce(const hd_settings *settings, const char **words, int count);
hd_status hd_cli_publish(const hd_settings *settings, const char **files, int count);
hd_status hd_cli_track(const hd_settings *settings, const char **words, int count);

/* What `train --list_backbones` prints. */
hd_status hd_cli_list_backbones(const hd_settings *settings);

#endif
