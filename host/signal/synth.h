/* SPDX-License-Identifier: Apache-2.0 */
/* Renders a data set: manifest.csv, truth.csv, scenario.yaml and one .npy per session and receiver. */
#ifndef HD_SIGNAL_SYNTH_H
#define HD_SIGNAL_SYNTH_H

#include "heimdall/backend.h"
#include "host/signal/scenario.h"

typedef struct hd_synth_config {
	const char *out;
	int64_t sessions;
	int64_t samples; /* per recording */
	double rate_hz;
	hd_dtype dtype; /* of one component: I16, I8, F32, F64 */
	double voice_share, tone_share;
	uint64_t seed;
	int threads; /* 0: one per core */
} hd_synth_config;

/*
 * Everything of a session follows from (seed, session number): the same for any number of sessions or threads.
 * manifest.csv is written last. HD_E_USAGE where `out` holds files of something else.
 */
hd_status hd_synth_render(const hd_synth_config *config, const hd_scenario *scenario);

#endif
