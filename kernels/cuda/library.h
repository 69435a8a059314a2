/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a vendor's library at run time. */
#ifndef HD_KERNELS_CUDA_LIBRARY_H
#define HD_KERNELS_CUDA_LIBRARY_H

#include <stdbool.h>

/*
 * Looks up the functions symbols[i] into functions[i]: those that the process has already, linked in as tests do, else
 * of the first of the libraries `names` that is there. Both lists end with NULL. false where nothing has them all. The
 * library stays open until the process ends.
 */
bool hd_cuda_library_open(void **functions, const char *const *names, const char *const *symbols);

#endif
