/* SPDX-License-Identifier: Apache-2.0 */
/* A run's curves as pictures, drawn from its metrics.log. */
#ifndef HD_TRACK_CURVES_H
#define HD_TRACK_CURVES_H

#include "host/track/run.h"

/*
 * artifacts/curves/: loss.png (training and validation by step), error.png (median, mean, 90 % in metres by epoch, the
 * training centre beside them), learning_rate.png, gradient_norm.png, calibration.png (mean error that the sigmas
 * promise, and the one observed); those whose points are there. A curve is logarithmic where its values are positive
 * and lie far apart.
 *
 * Memory does not grow with the log's length: a curve has at most 2000 points, means of equally many neighbours. A
 * point at a step that was there before is a resumed run's: it and what follows stand in place of what was there.
 */
hd_status hd_curves_write(const hd_run *run);

#endif
