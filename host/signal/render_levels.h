/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings of given levels: one waveform per row, scaled for each receiver to its level above a floor of noise. */
#ifndef HD_SIGNAL_RENDER_LEVELS_H
#define HD_SIGNAL_RENDER_LEVELS_H

#include "heimdall/backend.h"
#include "host/signal/levels.h"

/* Takes a recording instead of a file: iq (samples,2), its path within the folder, its version. Any thread. */
typedef hd_status (*hd_render_sink)(
        void *context, int thread, const char *within, const char *version, const float *iq, int64_t samples);

typedef struct hd_render_config {
	const char *out;
	int64_t samples; /* per recording */
	double rate_hz;
	hd_dtype dtype;       /* of one component: I16, I8, F32, F64 */
	double floor_db;      /* level of the noise, in the levels' dB */
	double full_scale_db; /* level that reads as amplitude 1 */
	double voice_share, tone_share;
	uint64_t seed;
	int threads;         /* 0: one per core */
	hd_render_sink sink; /* NULL: files; else none are written and the manifest names versions */
	void *context;
} hd_render_config;

/*
 * OUT/manifest.csv (session = hour, or the row itself where it was drawn; emission = row), OUT/rendered_levels.csv,
 * OUT/rendered_receivers.csv and OUT/emissions/ROW/RECEIVER.npy. A receiver that did not hear a row has no recording.
 * Mean power of signal: 10^((level - full_scale)/10), of noise 10^((floor - full_scale)/10). A recording follows from
 * (seed, row's number, receiver's place) alone.
 */
hd_status hd_levels_render(const hd_render_config *config, const hd_levels *levels);

#endif
