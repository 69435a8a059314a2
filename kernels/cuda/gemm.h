/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products: what they are called with, and those without cuBLASLt. */
#ifndef HD_KERNELS_CUDA_GEMM_H
#define HD_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Row-major product c (m,n) = op(a) op(b) + beta*c + bias: op(a) is (m,k), stored (m,k) or, where a_turned, (k,m);
 * op(b) is (k,n), stored (k,n) or, where b_turned, (n,k); not both. bias (n) or NULL. Rows are packed.
 *
 * a, b and bias are of dt. c is of dt too, but float where a_turned: that makes the gradient of weights. Sums are
 * float, and c is rounded once.
 */
typedef struct hd_product {
	void *c;
	const void *a, *b, *bias;
	hd_dtype dt;
	bool a_turned, b_turned;
	int64_t m, n, k;
	float beta; /* 0: c is not read; not 0 only where c is float */
} hd_product;

static inline hd_dtype hd_product_result(const hd_product *p)
{
	return p->a_turned ? HD_F32 : p->dt;
}

/* By own kernel; any sizes and alignments, k = 0 gives beta*c + bias. */
hd_status hd_cuda_gemm(const hd_product *p, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
