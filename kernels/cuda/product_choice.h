/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuBLASLt's algorithm for a shape. Where tuning is on (tune.h), the library names up to 16 of them, split-K ones
 * included. Each runs on operands of its own on the device; left out is what fails, what differs from the own kernel by
 * more than rounding, and what gives other bits a second time. The fastest of the others is taken, the library's first
 * where none is faster by HD_TUNE_MARGIN.
 *
 * The choice goes to the tuner's file as the bytes of the algorithm, which NVIDIA says may be kept for the same version
 * of the library (cublasLt.h, cublasLtMatmulAlgo_t). The line names device, driver, library, type, shape, order,
 * alignments, epilogue and workspace: all that an algorithm hangs on. A resumed run reads the same bytes, whatever it
 * would measure, and so sums in the same order: its results are those of a run that was not interrupted. Where the
 * library is another one, the line does not count, shapes are timed anew, and the last bits may change.
 *
 * Where tuning is off, or a stream is being captured and the file has no line, the library's first is taken.
 */
#ifndef HD_KERNELS_CUDA_PRODUCT_CHOICE_H
#define HD_KERNELS_CUDA_PRODUCT_CHOICE_H

#include <cublasLt.h>

#include "kernels/cuda/gemm.h"

/* FNV-1a (Fowler, Noll, Vo) of 64 bits over bytes without padding. */
static inline uint64_t hd_cuda_hash(const void *data, size_t bytes)
{
	const unsigned char *at = (const unsigned char *)data;
	uint64_t h = 14695981039346656037u;
	for (size_t i = 0; i < bytes; i++)
		h = (h ^ at[i]) * 1099511628211u;
	return h;
}

/* What an algorithm depends on; compared as bytes, of which none is padding. */
typedef struct hd_product_key {
	int64_t m, n, k;
	size_t workspace_bytes;
	unsigned a_alignment, b_alignment, c_alignment, bias_alignment; /* bytes; of the bias 0 where there is none */
	hd_dtype dt;
	int a_turned, b_turned, tf32;
} hd_product_key;

/* A shape with what cuBLASLt made of it; matrices in its column-major order, so that a and b change places. */
typedef struct hd_product_plan {
	hd_product_key key;
	cublasLtHandle_t handle;
	cublasLtMatmulDesc_t operation;
	cublasLtMatrixLayout_t left, right, result;
	cublasLtMatmulAlgo_t algorithm;
	bool usable; /* else the own kernel takes it */
} hd_product_plan;

/* Queues a product of the plan's shape by an algorithm. */
cublasStatus_t hd_cuda_product_queue(
        const hd_product_plan *plan, const cublasLtMatmulAlgo_t *algorithm, const hd_product *p, const hd_stream *on);

/* Sets the plan's algorithm; false: there is none. Times it on the stream where that has to be. */
bool hd_cuda_product_choose(hd_product_plan *plan, const hd_product *p, const hd_stream *on);

#endif
