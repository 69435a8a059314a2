/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix product without cuBLASLt. */
#ifndef HD_KERNELS_CUDA_GEMM_H
#define HD_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

/*
 * Row-major product c (m,n) = op(a) op(b) + beta*c + bias: op(a) is (m,k), stored (m,k) or, where a_turned, (k,m);
 * op(b) is (k,n), stored (k,n) or, where b_turned, (n,k). bias (n) or NULL. Rows are packed.
 */
typedef struct hd_product {
	float *c;
	const float *a, *b, *bias;
	bool a_turned, b_turned;
	int64_t m, n, k;
	float beta; /* 0: c is not read */
} hd_product;

/* By own kernel; any sizes, k = 0 gives beta*c + bias. */
hd_status hd_cuda_gemm(const hd_product *p, cudaStream_t stream);

#endif
