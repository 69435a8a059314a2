/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGTERM and SIGINT as a question asked between steps. They are blocked and polled, never handled: oneDNN's
 * generated products use the stack pointer for data, so the frame of a signal handler would be written into it.
 */
#ifndef HD_COMMON_STOP_H
#define HD_COMMON_STOP_H

#include <stdbool.h>

/*
 * Blocks both signals in this thread and those it starts from here on. Called before any thread is started. Pairs of
 * begin and end may stand within one another: the outer one counts.
 */
void hd_stop_begin(void);

/* Whether one of them has come since hd_stop_begin. Any thread. */
bool hd_stop_requested(void);

/* Forgets further ones and gives back the mask that was before. */
void hd_stop_end(void);

#endif
