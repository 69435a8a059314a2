/* SPDX-License-Identifier: Apache-2.0 */
/* Names and texts as an MLflow server takes them. Pure functions. */
#ifndef HD_TRACK_MLFLOW_NAMES_H
#define HD_TRACK_MLFLOW_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "heimdall/status.h"

#define HD_MLFLOW_NAME 250         /* characters */
#define HD_MLFLOW_PARAM_VALUE 6000 /* characters */
#define HD_MLFLOW_TAG_VALUE 5000   /* characters; servers since 2.17 take 8000 */
#define HD_MLFLOW_METRICS 1000     /* in one batch */
#define HD_MLFLOW_TEXTS 100        /* params, or tags, in one batch */
#define HD_MLFLOW_BYTES 800000     /* of the texts in one batch; the server takes 1 MB with all around them */

/* Whether a name may stand as it is for a metric, param or tag; see hd_mlflow_name. */
bool hd_mlflow_is_name(const char *name);

/*
 * A name that may stand for a metric, param or tag: ASCII letters, digits and _ - . / : and blanks, no empty, "." or
 * ".." part between slashes, 1 to HD_MLFLOW_NAME characters. A legal name stays; another one gets '_' for what is not
 * legal and "_" with the CRC-32 of the whole behind it, so that two names stay two.
 */
void hd_mlflow_name(char out[HD_MLFLOW_NAME + 1], const char *name);

/*
 * New text of at most `most` characters of UTF-8 that ends with an ellipsis where it was longer (*shortened); bytes
 * that are no UTF-8 become '?'.
 */
hd_status hd_mlflow_text(char **out, bool *shortened, const char *text, size_t most);

/*
 * New text: the path of an artifact, which servers take apart as a URL and as a path. What has a meaning there becomes
 * '_', with "_" and the CRC-32 of the whole before the ending, so that two paths stay two.
 */
hd_status hd_mlflow_path(char **out, const char *path);

#endif
