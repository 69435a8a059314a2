/* SPDX-License-Identifier: Apache-2.0 */
/* What every rendering writes: a folder of its own and recordings as .npy. */
#ifndef HD_SIGNAL_OUTPUT_H
#define HD_SIGNAL_OUTPUT_H

#include <stdint.h>

#include "heimdall/backend.h"

/*
 * Makes OUT ready: a folder is ours when it is empty, missing or holds the file `marker`. An older manifest.csv goes
 * away, for it names files that are being replaced. HD_E_USAGE where other files are there.
 */
hd_status hd_output_begin(const char *out, const char *marker);

/*
 * Writes iq (samples,2), full scale 1, as .npy of a component dtype I16, I8, F32, F64: integers rounded half away from
 * zero and clipped at the ends of the range, as a converter does. stored: room for 2 * samples components.
 */
hd_status hd_output_recording(const char *path, const float *iq, int64_t samples, hd_dtype dtype, void *stored);

#endif
