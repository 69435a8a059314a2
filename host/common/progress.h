/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages and progress on stderr: a bar on a terminal, a plain line every ten seconds otherwise.
 * Results belong on stdout and do not pass here. Thread-safe.
 */
#ifndef HD_COMMON_PROGRESS_H
#define HD_COMMON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Switches bars off (--no-progress); plain lines and messages stay. */
void hd_progress_enable(bool enabled);

/* One line on stderr, above a running bar. hd_warn puts "warning: " in front (yellow on a terminal, NO_COLOR honoured).
 */
void hd_message(const char *format, ...) __attribute__((format(printf, 1, 2)));
void hd_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Seconds of a clock that only moves forward. */
double hd_now_s(void);

typedef struct hd_progress hd_progress;

/* Starts a bar: "label  [#####     ] 512/1200  183 unit/s  ETA 0:12  note". One at a time. NULL on lack of memory is
 * fine everywhere. */
hd_progress *hd_progress_start(const char *label, const char *unit, int64_t total);
void hd_progress_update(hd_progress *progress, int64_t done, const char *note); /* note may be NULL; any thread */
void hd_progress_end(hd_progress *progress);                                    /* NULL-safe; prints the closing line */

#endif
