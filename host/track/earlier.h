/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The points that an earlier attempt of a run logged for the step at which it is taken up again, and behind: an epoch's
 * figures, and those of the end, carry the step before them.
 */
#ifndef HD_TRACK_EARLIER_H
#define HD_TRACK_EARLIER_H

#include <stdbool.h>
#include <stdint.h>

#include "host/track/metrics_log.h"

typedef struct hd_earlier hd_earlier;

/* Those of a log from `step` on; *out is NULL where there are none. */
hd_status hd_earlier_read(hd_earlier **out, const char *log, int64_t step);

/* Whether this very value was logged under this name for this step. */
bool hd_earlier_has(const hd_earlier *earlier, int64_t step, const hd_metric *metric);
void hd_earlier_free(hd_earlier *earlier); /* NULL-safe */

#endif
