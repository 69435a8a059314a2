/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrix products: by cuBLASLt with the algorithm chosen for the shape (product_choice.h), by the own kernel where it
 * is missing or has none. What cuBLASLt needs per shape is kept until hd_cuda_linear_close. Any thread may call, one at
 * a time per stream.
 */
#ifndef HD_KERNELS_CUDA_PRODUCT_H
#define HD_KERNELS_CUDA_PRODUCT_H

#include "kernels/cuda/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As hd_cuda_gemm. */
hd_status hd_cuda_multiply(const hd_product *p, hd_stream *stream);

/*
 * Whether products of float32 may round their inputs to TF32 (11 bits, relative error 2^-11 each), which tensor cores
 * multiply; sums stay float. Not at first. The own kernel does not.
 */
void hd_cuda_linear_allow_tf32(bool allow);
bool hd_cuda_linear_tf32(void);

#ifdef __cplusplus
}
#endif
#endif
