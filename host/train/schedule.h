/* SPDX-License-Identifier: Apache-2.0 */
/* Learning rate over steps. Pure function. */
#ifndef HD_TRAIN_SCHEDULE_H
#define HD_TRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Linear warm-up from peak/warmup_steps to peak, then (cosine) half a cosine down to 0 at total_steps
 * (Loshchilov and Hutter 2017, SGDR, eq. 5 without restarts), or constant. step counts from 0.
 */
double hd_schedule_lr(double peak, bool cosine, int64_t step, int64_t warmup_steps, int64_t total_steps);

#endif
