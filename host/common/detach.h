/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command that goes on in the background. The process that was called stays until the one in the background has its
 * run's folder, says where to find it and ends; what goes wrong before that is seen on the terminal, and in the exit
 * code. The one in the background is in a session of its own, so that no terminal's end reaches it. One per program,
 * called from the main thread.
 */
#ifndef HD_COMMON_DETACH_H
#define HD_COMMON_DETACH_H

#include <stdbool.h>

#include "heimdall/status.h"

/*
 * Before there is any thread, and before OpenMP and CUDA: none of them lives on in a fork. *child says in which process
 * it returns. In the one that was called that is after the other one has its folder (HD_OK) or has ended without one:
 * the status of its exit code, with no error text where it has said why itself. SIGINT and SIGTERM are handed on until
 * then.
 */
hd_status hd_detach(bool *child);

/*
 * The run's folder is there: stdout and stderr go behind what is in its output.log, and the process that was called may
 * go. Nothing happens in a program that has not detached, nor a second time.
 */
hd_status hd_detached(const char *run_folder);

/* Whether this process has left who called it, by hd_detached. */
bool hd_is_detached(void);

#endif
