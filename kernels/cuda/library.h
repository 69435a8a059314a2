/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a vendor's library at run time. */
#ifndef HD_KERNELS_CUDA_LIBRARY_H
#define HD_KERNELS_CUDA_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* What to open, and what came of it. */
typedef struct hd_cuda_library {
	const char *const *names;   /* of its files, the preferred first; ends with NULL */
	const char *const *symbols; /* its functions; ends with NULL */
	bool tried, found;          /* start as false */
} hd_cuda_library;

/*
 * The first call looks up the functions symbols[i] into slot i of the table, which has `slots` pointers to functions:
 * those that the process has already, linked in as tests do, else of the first of the files that is there. false where
 * nothing has them all. Any thread; the library stays open until the process ends.
 */
bool hd_cuda_library_open(hd_cuda_library *library, void *table, size_t slots);

/* A table's number of slots. */
#define HD_CUDA_SLOTS(table) (sizeof(table) / sizeof(void *))

#endif
