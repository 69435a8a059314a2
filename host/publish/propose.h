/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which number of the version a new model raises: what its consumers or its weights' shapes depend on raises the first,
 * features and hyperparameters the second, a retraining the third. Pure functions.
 */
#ifndef HD_PUBLISH_PROPOSE_H
#define HD_PUBLISH_PROPOSE_H

#include <jansson.h>

#include "heimdall/settings.h"
#include "host/publish/model.h"
#include "host/publish/version.h"

/* What goes in and comes out, for the manifest; new object. NULL on lack of memory. */
json_t *hd_publish_interface(const hd_publish_model *model);

/*
 * Compares a published model (settings, and its manifest's `interface`; NULL: not known, and not compared) with a new
 * one. *why (new text) lists what raises the number: "batch_size 32 -> 64, epochs 10 -> 20".
 */
hd_status hd_publish_compare(hd_bump *out, char **why, const hd_settings *old_settings, const json_t *old_interface,
        const hd_settings *new_settings, const json_t *new_interface);

#endif
