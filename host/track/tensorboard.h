/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics for TensorBoard: an event file (TFRecord framing with masked CRC-32C around Event messages of TensorFlow's
 * event.proto and summary.proto).
 */
#ifndef HD_TRACK_TENSORBOARD_H
#define HD_TRACK_TENSORBOARD_H

#include "host/track/metrics_log.h"

typedef struct hd_events hd_events;

/* Starts a new file FOLDER/events.out.tfevents.TIME.HOST.PID.N; a resumed run has several, which TensorBoard joins. */
hd_status hd_events_open(hd_events **out, const char *folder);

/* All points of a line as scalars, with one write. */
hd_status hd_events_append(hd_events *events, const hd_metrics_line *line);
void hd_events_close(hd_events *events); /* NULL-safe */

#endif
