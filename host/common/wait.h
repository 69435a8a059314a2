/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting between attempts. Thread-safe. */
#ifndef HD_COMMON_WAIT_H
#define HD_COMMON_WAIT_H

#include <stdbool.h>

/* Sleeps; false as soon as stop() says so. stop: asked every 50 ms, NULL: never. */
bool hd_wait(double seconds, bool (*stop)(void));

/* Uniform in [0, 1), from the system: those that failed together shall not come back together. */
double hd_chance(void);

#endif
