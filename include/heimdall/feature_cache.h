/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Features of every sample, computed once and kept on disk as half floats (host/data/feature_store.h).
 *
 * The key of a recording hashes path, size and modification time of its IQ file, or path within the catalogue's folder
 * and version where the catalogue gives one; a slot whose checksum does not match is computed again. A killed run
 * keeps what it had indexed.
 */
#ifndef HEIMDALL_FEATURE_CACHE_H
#define HEIMDALL_FEATURE_CACHE_H

#include "heimdall/catalog.h"
#include "heimdall/features.h"

struct hd_store;

typedef struct hd_feature_cache {
	int64_t S, C, H, T; /* samples, channels, rows of an input (hd_features_height), kept frames */
	uint16_t *db;       /* (S,C,H,T) half floats; absent receivers silent (hd_features_silence) */
	bool *heard;        /* (S,C) whether a receiver was recorded and readable */
	bool *valid;        /* (S) false where no receiver could be read: the sample keeps its place with weight 0 */
} hd_feature_cache;

/*
 * Fills the cache; reads what is missing with `workers` threads (0: one per core). channels is samples->R, or
 * more with samples->R = 1: then the one receiver is repeated. raw: format of files of bare samples. store: of
 * recordings named by URL (host/store/store.h), NULL for paths alone. Recordings that cannot be read are marked skipped
 * with the reason; a store that does not answer is an error.
 */
hd_status hd_feature_cache_open(hd_feature_cache *out, const char *folder, const hd_feature_config *config,
        hd_raw_format raw, int channels, hd_catalog *catalog, const hd_samples *samples, struct hd_store *store,
        hd_backend *backend, int workers);
void hd_feature_cache_close(hd_feature_cache *cache); /* NULL-safe */

/* Recordings that are rendered straight into a cache: features are kept, IQ is not. */
typedef struct hd_feature_sink hd_feature_sink;
hd_status hd_feature_sink_open(
        hd_feature_sink **out, const char *folder, const hd_feature_config *config, hd_backend *backend, int threads);

/*
 * Features of iq (samples,2), full scale 1 and at the configured rate, under its path within the catalogue's folder
 * and version. Any thread, with its own number in [0, threads).
 */
hd_status hd_feature_sink_put(
        hd_feature_sink *sink, int thread, const char *within, const char *version, const float *iq, int64_t samples);
hd_status hd_feature_sink_flush(hd_feature_sink *sink);
void hd_feature_sink_close(hd_feature_sink *sink); /* NULL-safe; what was not flushed is lost */

/*
 * How far each channel's mean level, over its heard training samples, lies above the mean of all channels, dB: what a
 * receiver's gain (and its place) adds. offset (C); a channel never heard gets 0.
 */
hd_status hd_feature_offsets(float *offset, const hd_feature_cache *cache, const hd_samples *samples);

/*
 * Mean and 1/standard deviation of every row over channels and frames of the first 512 valid training
 * samples in the order of their hashes, levels moved by offset (C; NULL: not) as assemble_batch does; a
 * deviation under 1 dB counts as 1 dB (scatter around silence is no signal), one under 0.001 dB (an empty filter) gives
 * rstd 0. mean, rstd, silence (H).
 */
hd_status hd_feature_statistics(float *mean, float *rstd, const hd_feature_cache *cache, const hd_samples *samples,
        const float *offset, const float *silence);

#endif
