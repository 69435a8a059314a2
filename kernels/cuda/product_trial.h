/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trying ways to a matrix product on operands of its own, uniform in [-1, 1), the same at every trial of a shape, with
 * the alignments of the product that is wanted.
 *
 * A way agrees where, for every element of c,
 *   |own kernel's - its| <= 2 ((c eps + t) M + e |own kernel's|), c = min(n, 6 sqrt n)/2 + 1, eps = 2^-23,
 * n being k and one more for beta*c or bias, M the sum of the absolute values of the terms, e the spacing of c's type
 * at 1, and t 2^-9 where inputs may be rounded to TF32 (each to 11 bits, even by cutting off), else 0: each side may be
 * off by half of it, as in tune_trial.h. With beta 0 it runs over NaN, with beta 1/2, where c is float, over numbers.
 *
 * Time is that of a graph of many calls, as a captured step runs: a short product is not hidden behind its launch. The
 * calls take turns over copies of the operands, so that not all come out of the L2 cache.
 */
#ifndef HD_KERNELS_CUDA_PRODUCT_TRIAL_H
#define HD_KERNELS_CUDA_PRODUCT_TRIAL_H

#include "kernels/cuda/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hd_product_trial hd_product_trial;

/* Queues a product on the trial's stream; false with the reason in why (HD_TUNE_WHY bytes). */
typedef struct hd_product_way {
	bool (*queue)(const void *state, const hd_product *p, char *why);
	const void *state;
} hd_product_way;

/* Takes device memory and runs the own kernel. alignment: of a, b, c, bias in bytes. NULL with the reason in why. */
hd_product_trial *hd_cuda_product_trial_begin(
        const hd_product *wanted, const unsigned alignment[4], bool tf32, cudaStream_t stream, char *why);

/* Whether a way runs, agrees and gives the same bits twice. */
bool hd_cuda_product_trial_agrees(hd_product_trial *trial, const hd_product_way *way, char *why);

/* Median time of a call in ms after warming up; below 0 with the reason in why where it fails. */
double hd_cuda_product_trial_time(hd_product_trial *trial, const hd_product_way *way, char *why);

void hd_cuda_product_trial_end(hd_product_trial *trial); /* NULL-safe */

#ifdef __cplusplus
}
#endif
#endif
