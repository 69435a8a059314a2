/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Features of every sample, computed once and kept on disk as half floats.
 *
 * DIR/<hash of the feature settings>/ holds features.f16, one slot of (M,T) halves per recording, and index,
 * one line "slot key checksum" per finished slot; the checksum covers the key too. The key hashes path, size and
 * modification time of the IQ file; a slot whose checksum does not match is computed again. A killed run keeps what it
 * had indexed.
 */
#ifndef HEIMDALL_FEATURE_CACHE_H
#define HEIMDALL_FEATURE_CACHE_H

#include "heimdall/catalog.h"
#include "heimdall/features.h"

typedef struct hd_feature_cache {
	int64_t S, C, M, T; /* samples, channels, mel bands, kept frames */
	uint16_t *db;       /* (S,C,M,T) half floats; absent receivers at HD_DB_SILENCE */
	bool *valid;        /* (S) false where no receiver could be read: the sample keeps its place with weight 0 */
} hd_feature_cache;

/*
 * Fills the cache; reads what is missing with `workers` threads (0: one per core). channels is samples->R, or
 * more with samples->R = 1: then the one receiver is repeated. Recordings that cannot be read are marked
 * skipped with the reason.
 */
hd_status hd_feature_cache_open(hd_feature_cache *out, const char *folder, const hd_feature_config *config,
        int channels, hd_catalog *catalog, const hd_samples *samples, hd_backend *backend, int workers);
void hd_feature_cache_close(hd_feature_cache *cache); /* NULL-safe */

/*
 * Reads one recording; "file.npy#2" takes row 2 of a file of several rows. A file of several rows without a
 * row is refused where all_rows is false.
 */
hd_status hd_recording_read(hd_iq *out, const char *path, bool all_rows);

/* Whether the file of a recording, written as for hd_recording_read, is there. */
bool hd_recording_exists(const char *path);

/*
 * Mean and 1/standard deviation of every mel band over channels and frames of the first 512 valid training
 * samples in the order of their hashes; a band that varies less than 0.001 dB (an empty filter) gets rstd 0.
 */
hd_status hd_feature_statistics(float *mean, float *rstd, const hd_feature_cache *cache, const hd_samples *samples);

#endif
