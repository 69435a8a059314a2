/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Features on disk: slots of one size in one file, and an index of them by key.
 *
 * FOLDER/<hash of the feature settings>/ holds features.f16, one slot of (H,T) halves per recording, and index,
 * one line "slot key checksum" per finished slot; the checksum covers the key too. One thread at a time.
 */
#ifndef HD_DATA_FEATURE_STORE_H
#define HD_DATA_FEATURE_STORE_H

#include <stdbool.h>

#include "heimdall/features.h"

typedef struct hd_feature_store hd_feature_store;

hd_status hd_feature_store_open(hd_feature_store **out, const char *folder, const hd_feature_config *config);
void hd_feature_store_close(hd_feature_store *store); /* NULL-safe; what was not flushed is lost */

/* Reads a slot of (H,T) halves; false where it is not there or damaged. */
bool hd_feature_store_load(const hd_feature_store *store, uint64_t key, uint16_t *halves);

/* Writes a slot; it is found again after a flush and in this store only from the next opening on. */
hd_status hd_feature_store_save(hd_feature_store *store, uint64_t key, const uint16_t *halves);

/* Syncs the slots, then writes the index that names them. */
hd_status hd_feature_store_flush(hd_feature_store *store);

/* 64-bit key of a text: what a recording's content depends on. */
uint64_t hd_feature_key(const char *text);

#endif
