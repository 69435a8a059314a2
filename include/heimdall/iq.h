/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IQ recordings in memory and their .npy reader.
 *
 * A recording is R rows of n interleaved I,Q pairs in native byte order, C order. Full scale of integer
 * formats is 1.0 (`scale` times the stored value); floats are taken as they are.
 */
#ifndef HEIMDALL_IQ_H
#define HEIMDALL_IQ_H

#include <stdint.h>

#include "heimdall/backend.h"

typedef struct hd_iq {
	int64_t rows;    /* R >= 1 */
	int64_t samples; /* n >= 1, per row */
	hd_dtype dtype;  /* of one component: HD_F32, HD_F64, HD_I16, HD_I8 */
	float scale;     /* 1, 1/32768, 1/128 */
	void *data;      /* (R,n,2); owned */
} hd_iq;

/*
 * Reads a .npy file, versions 1, 2, 3, C or Fortran order, either byte order: complex64/complex128 of
 * shape (n,), (n,1), (R,n); int8/int16/float32 pairs of shape (n,2), (R,n,2). HD_E_DATA with the file, the
 * reason and what would be right; HD_E_IO where it cannot be read. Never allocates more than twice the
 * file's own length plus 64 KiB.
 */
hd_status hd_iq_read_npy(hd_iq *out, const char *path);

void hd_iq_free(hd_iq *iq); /* NULL-safe; leaves zeroes */

/*
 * Writes one .npy (version 1, C order, little endian) of any dtype and up to 4 dimensions, through a
 * temporary file that is renamed. descr: numpy's, such as "<f4", "<i2", "<c8". shape[ndim] in elements of descr.
 */
hd_status hd_npy_write(
        const char *path, const char *descr, const int64_t *shape, int ndim, const void *data, size_t bytes);

#endif
