/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that operations of the CPU back end need for the time of a call. It belongs to the process, not to a back end
 * or a thread: whoever takes a block owns it until it is given back, and blocks given back are kept, as large as they
 * have grown, until the last back end that holds the pool lets go of it. Any thread may call at any time.
 */
#ifndef HD_KERNELS_CPU_SCRATCH_H
#define HD_KERNELS_CPU_SCRATCH_H

#include <stddef.h>

#include "heimdall/status.h"

/* 64-byte aligned, contents undefined; HD_E_MEMORY. */
hd_status hd_cpu_scratch_take(void **out, size_t bytes);
void hd_cpu_scratch_give(void *block); /* NULL-safe */

/* A back end opens and closes. */
void hd_cpu_scratch_hold(void);
void hd_cpu_scratch_let_go(void);

#endif
