/* SPDX-License-Identifier: Apache-2.0 */
/* The mel filters over a range of frames, for mel_db and for transforms that go through device memory. */
#ifndef HD_KERNELS_CUDA_MEL_H
#define HD_KERNELS_CUDA_MEL_H

#include "kernels/cuda/cuda.h"

/*
 * mel_db of kernels.def for the frames from .. from + count - 1 of all R*T together; power (count,F) starts at frame
 * `from`. R*T < 2^31.
 */
hd_status hd_cuda_mel_frames(float *db, const float *power, const int32_t *first, const int32_t *offset, const float *w,
        float floor, int64_t from, int64_t count, int64_t T, int64_t F, int64_t M, cudaStream_t stream);

#endif
