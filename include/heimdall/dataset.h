/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A data set ready for the model: catalogue, samples and splits, features, label frame, statistics.
 */
#ifndef HEIMDALL_DATASET_H
#define HEIMDALL_DATASET_H

#include "heimdall/catalog.h"
#include "heimdall/checkpoint.h"
#include "heimdall/features.h"
#include "heimdall/settings.h"
#include "heimdall/feature_cache.h"

#define HD_CACHE_FOLDER ".heimdall-cache" /* beside the catalogue, unless cache_dir says otherwise */
#define HD_MIN_CHANNELS 3                 /* one-receiver data is repeated to this many */

typedef struct hd_dataset {
	hd_catalog catalog;
	hd_samples samples;
	hd_feature_config features;
	hd_feature_cache cache;
	hd_data_card card;
	bool recorded;        /* the card came from a checkpoint */
	double label_sigma_m; /* of samples whose catalogue names none */
} hd_dataset;

hd_feature_config hd_feature_config_from(const hd_settings *settings);

/* Receivers, rates and splits as the settings say; texts stay the settings'. */
hd_sample_config hd_sample_config_from(const hd_settings *settings);

/*
 * Reads the catalogue of settings->data_dir and groups it into samples, without touching any IQ. A card from a
 * checkpoint fixes receivers, label frame and statistics; with NULL they come from the training split.
 */
hd_status hd_dataset_open(hd_dataset *out, const hd_settings *settings, const hd_data_card *recorded);

/* Puts the mean of this data set's training labels into the card, where a recorded card brought another one. */
void hd_dataset_centre(hd_dataset *dataset);

/* Computes or loads the features, and the statistics where no card fixed them. */
hd_status hd_dataset_load(hd_dataset *dataset, const hd_settings *settings, hd_backend *backend);

/* Bytes of all samples' features, as the cache keeps them; known before they are computed. */
size_t hd_dataset_feature_bytes(const hd_dataset *dataset);

/* Whether any label is less than exact. */
bool hd_dataset_has_label_sigma(const hd_dataset *dataset);
void hd_dataset_close(hd_dataset *dataset); /* NULL-safe */

/* Indices of the valid samples of a split (HD_SPLIT_COUNT: all), ascending. Owned by the caller. */
hd_status hd_dataset_split(const hd_dataset *dataset, hd_split split, int32_t **out, int64_t *count);

#endif
