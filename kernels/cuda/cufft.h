/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuFFT, opened at run time: the back end works without it. Callers let in one thread at a time; the library stays open
 * until the process ends.
 */
#ifndef HD_KERNELS_CUDA_CUFFT_H
#define HD_KERNELS_CUDA_CUFFT_H

#include <cufft.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Names, types and the library's functions: cufft + name. */
#define HD_CUFFT_FUNCTIONS(X)                                                                                          \
	X(Create)                                                                                                      \
	X(Destroy)                                                                                                     \
	X(MakePlanMany)                                                                                                \
	X(SetStream)                                                                                                   \
	X(ExecR2C)

typedef struct hd_cufft {
#define X(name) __typeof__(&cufft##name) name;
	HD_CUFFT_FUNCTIONS(X)
#undef X
} hd_cufft;

/* NULL where the library or one of its functions is missing. */
const hd_cufft *hd_cuda_cufft(void);

#ifdef __cplusplus
}
#endif
#endif
