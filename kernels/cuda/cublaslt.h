/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuBLASLt, opened at run time: the back end works without it. Callers let in one thread at a time; the library stays
 * open until the process ends.
 */
#ifndef HD_KERNELS_CUDA_CUBLASLT_H
#define HD_KERNELS_CUDA_CUBLASLT_H

#include <cublasLt.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Names, types and the library's functions: cublasLt + name. */
#define HD_CUBLASLT_FUNCTIONS(X)                                                                                       \
	X(GetVersion)                                                                                                  \
	X(Create)                                                                                                      \
	X(Destroy)                                                                                                     \
	X(MatmulDescCreate)                                                                                            \
	X(MatmulDescDestroy)                                                                                           \
	X(MatmulDescSetAttribute)                                                                                      \
	X(MatrixLayoutCreate)                                                                                          \
	X(MatrixLayoutDestroy)                                                                                         \
	X(MatmulPreferenceCreate)                                                                                      \
	X(MatmulPreferenceDestroy)                                                                                     \
	X(MatmulPreferenceSetAttribute)                                                                                \
	X(MatmulAlgoGetHeuristic)                                                                                      \
	X(MatmulAlgoCheck)                                                                                             \
	X(MatmulAlgoConfigGetAttribute)                                                                                \
	X(Matmul)

typedef struct hd_cublaslt {
#define X(name) __typeof__(&cublasLt##name) name;
	HD_CUBLASLT_FUNCTIONS(X)
#undef X
} hd_cublaslt;

/* NULL where the library or one of its functions is missing. */
const hd_cublaslt *hd_cuda_cublaslt(void);

/* 130200 for 13.2.0; 0 where the library is missing or does not say. */
size_t hd_cuda_cublaslt_version(void);

#ifdef __cplusplus
}
#endif
#endif
