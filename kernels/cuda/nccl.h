/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NCCL, opened at run time: the back end works without it. Communicators do not block (NCCL 2.14 or later), so that a
 * rank that does not come is found by a time limit and not by a process that hangs.
 */
#ifndef HD_KERNELS_CUDA_NCCL_H
#define HD_KERNELS_CUDA_NCCL_H

#include "heimdall/collective.h"
#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sums over processes by NCCL. */
extern const hd_collective_ops hd_cuda_collective;

/*
 * The reason why there is no NCCL, a line, once after somebody asked for a collective in vain. Returns the bytes put
 * into out, cut at `bytes` and ended by a zero; 0: nothing to say.
 */
size_t hd_cuda_nccl_notes(char *out, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
