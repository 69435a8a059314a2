/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings (settings.def): read from defaults, a YAML file, the environment and flags, each later one
 * winning; checked; printed as help and as YAML.
 */
#ifndef HEIMDALL_SETTINGS_H
#define HEIMDALL_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "heimdall/status.h"

#define HD_SETTING_INT int64_t
#define HD_SETTING_FLOAT double
#define HD_SETTING_BOOL bool
#define HD_SETTING_TEXT char *

/* Position of each setting in the list. */
typedef enum hd_setting_index {
#define HD_SETTING(group, key, type, def, low, high, unit, commands, help) HD_SET_##key,
#define HD_CHOICE(group, key, def, choices, commands, help) HD_SET_##key,
#include "heimdall/settings.def"
#undef HD_SETTING
#undef HD_CHOICE
	HD_SETTING_COUNT
} hd_setting_index;

/* How a setting was given. */
typedef enum hd_given { HD_NOT_GIVEN, HD_GIVEN_FILE, HD_GIVEN_ENVIRONMENT, HD_GIVEN_FLAG } hd_given;

typedef struct hd_settings {
	uint8_t given[HD_SETTING_COUNT]; /* hd_given */
#define HD_SETTING(group, key, type, def, low, high, unit, commands, help) HD_SETTING_##type key;
#define HD_CHOICE(group, key, def, choices, commands, help) char *key;
#include "heimdall/settings.def"
#undef HD_SETTING
#undef HD_CHOICE
} hd_settings;

/* Defaults; all texts are owned copies. */
hd_status hd_settings_init(hd_settings *settings);
void hd_settings_free(hd_settings *settings); /* NULL-safe; leaves zeroes */

/* A copy that owns its texts, with the same `given`. */
hd_status hd_settings_copy(hd_settings *out, const hd_settings *in);

/*
 * Sets one key from text. origin ("configs/a.yaml:12", "--lr", "HEIMDALL_LR") goes in front of every error:
 * unknown key (with the nearest known one), trailing junk, out of range (with range and unit), not a choice.
 * Keys take '-' or '_'; aliases: lr, val_split, data, batch, size.
 */
hd_status hd_settings_set(hd_settings *settings, const char *key, const char *value, const char *origin);

/* Reads a YAML mapping, flat or grouped as settings.def groups; a duplicate key is an error. */
hd_status hd_settings_read_yaml(hd_settings *settings, const char *path);

/* The same from a text; origin stands for the file name in errors. */
hd_status hd_settings_read_yaml_text(hd_settings *settings, const char *yaml, const char *origin);

/*
 * Takes every setting that was not given from `recorded`. Those that were given and differ are listed in
 * *out_differences ("batch_size 32 -> 64, lr ..."; owned; NULL where there are none).
 */
hd_status hd_settings_inherit(hd_settings *settings, const hd_settings *recorded, char **out_differences);

/* The same for what a model's weights depend on: groups features and model, sample_rate, resample and shift_max. */
hd_status hd_settings_inherit_model(hd_settings *settings, const hd_settings *recorded, char **out_differences);

/* HEIMDALL_<KEY> of the environment. An unknown HEIMDALL_ name is an error, except HEIMDALL_CPU_TIER, _CUDA_LIBRARY and
 * _TUNING, which the back ends read. */
hd_status hd_settings_read_environment(hd_settings *settings);

/*
 * Reads the environment, --config FILE wherever it stands, then the flags in order: "--key value",
 * "--key=value", "--flag", "--no-flag" for BOOL. What is no flag goes to positional (up to max; pointers into
 * argv); more is an error. command: the subcommand's letter; a flag that belongs to other subcommands only is an
 * error that names them. *help is set on -h or --help.
 */
hd_status hd_settings_read_arguments(hd_settings *settings, char command, int argc, char **argv,
        const char **positional, int max_positional, int *positional_count, bool *help);

/*
 * Combinations that cannot be (validation_split + test_split >= 1, f_min >= f_max, hop_length > n_fft, ...).
 * resample sets sample_rate, which is an error where that was given and differs.
 */
hd_status hd_settings_check(hd_settings *settings);

/* The help of one subcommand's settings, grouped, at most 80 columns. */
void hd_settings_help(FILE *to, char command);

/* All settings as grouped YAML that hd_settings_read_yaml reads back to the same values. */
hd_status hd_settings_dump(const hd_settings *settings, char **out_yaml);

/* Position of a CHOICE value in its "a|b|c" list. */
int hd_settings_choice(const char *key, const char *value);

#endif
