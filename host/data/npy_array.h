/* SPDX-License-Identifier: Apache-2.0 */
/* Small arrays of real numbers in .npy files: labels. Recordings are read by heimdall/iq.h. */
#ifndef HD_DATA_NPY_ARRAY_H
#define HD_DATA_NPY_ARRAY_H

#include <stddef.h>

#include "heimdall/status.h"

/*
 * Reads exactly `count` numbers from a .npy file of float32 or float64, any shape of that many elements, either byte
 * order, versions 1 to 3. HD_E_DATA with the file and the reason, HD_E_IO where it cannot be read.
 */
hd_status hd_npy_read_numbers(double *out, size_t count, const char *path);

#endif
