/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of the stand-in for cublasLt. Callers may keep them on their stack: they hold all of their state. */
#ifndef HD_EMU_CUBLASLT_H
#define HD_EMU_CUBLASLT_H

#include <cublasLt.h>
#include <stdbool.h>

enum { LT_MAGIC = 0x4c74 };
#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct layout {
	int32_t magic;
	cudaDataType_t type;
	uint64_t rows, cols;
	int64_t ld, stride; /* elements; stride of a batch */
	int32_t order, batch;
} layout;

typedef struct operation {
	int32_t magic;
	cublasComputeType_t compute;
	cudaDataType_t scale_type;
	int32_t pointer_mode, transpose_a, transpose_b;
	uint32_t epilogue;
	int32_t bias_type, aux_type; /* -1: that of D */
	void *bias, *aux;
	int64_t bias_stride, aux_ld, aux_stride;
} operation;

typedef struct preference {
	int32_t magic;
	uint32_t alignment[4]; /* bytes; A, B, C, D */
	uint64_t workspace_bytes;
	uint32_t reductions;
} preference;

_Static_assert(sizeof(layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "a layout fits its opaque type");
_Static_assert(sizeof(operation) <= sizeof(cublasLtMatmulDescOpaque_t), "an operation fits its opaque type");
_Static_assert(sizeof(preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "a preference fits its opaque type");

struct cublasLtContext {
	int magic;
};

#endif
