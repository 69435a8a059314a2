/* SPDX-License-Identifier: Apache-2.0 */
/* What stands between the layouts and rules of kernels.def and those of a vendor's convolutions. */
#ifndef HD_KERNELS_CUDA_TURN_H
#define HD_KERNELS_CUDA_TURN_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out (columns,rows) = beta*out + in (rows,columns) turned; beta 0 does not read out. */
hd_status hd_cuda_turn(float *out, const float *in, float beta, int64_t rows, int64_t columns, cudaStream_t stream);

/* y (rows,C) += b (C). */
hd_status hd_cuda_add_bias(float *y, const float *b, int64_t rows, int64_t C, cudaStream_t stream);

/*
 * p[i] of dt, i < n, uniform in [-1, 1) from the seed, the absolute values of the same numbers where `absolute`: what a
 * variant is tried on.
 */
hd_status hd_cuda_fill_random(void *p, hd_dtype dt, int64_t n, uint32_t seed, bool absolute, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
