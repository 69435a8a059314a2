/* SPDX-License-Identifier: Apache-2.0 */
/* What tests ask of the stand-in for cublasLt. */
#ifndef HD_FAKE_CUBLASLT_MOOD_H
#define HD_FAKE_CUBLASLT_MOOD_H

#include <stdbool.h>
#include <stddef.h>

typedef enum hd_fake_cublaslt_kind {
	HD_FAKE_CUBLASLT_SOUND,
	HD_FAKE_CUBLASLT_SPLIT,    /* sums both halves of k on their own */
	HD_FAKE_CUBLASLT_WRONG,    /* a tenth too large */
	HD_FAKE_CUBLASLT_ADDS,     /* adds to what the result held, with beta 0 too */
	HD_FAKE_CUBLASLT_FLICKERS, /* the last bit of the first element changes from call to call */
	HD_FAKE_CUBLASLT_FAILS,    /* cublasLtMatmul answers CUBLAS_STATUS_EXECUTION_FAILED */
	HD_FAKE_CUBLASLT_REFUSES   /* cublasLtMatmul answers CUBLAS_STATUS_NOT_SUPPORTED */
} hd_fake_cublaslt_kind;

typedef struct hd_fake_cublaslt_algorithm {
	hd_fake_cublaslt_kind kind;
	int delay_us;
} hd_fake_cublaslt_algorithm;

#define HD_FAKE_CUBLASLT_ALGORITHMS 8

/* What the heuristic finds for every product, best first; a sound one and one that splits k unless a test says else. */
extern hd_fake_cublaslt_algorithm hd_fake_cublaslt_algorithms[HD_FAKE_CUBLASLT_ALGORITHMS];
extern int hd_fake_cublaslt_algorithm_count;

extern bool hd_fake_cublaslt_refuses;               /* every product, whatever its algorithm */
extern size_t hd_fake_cublaslt_version;             /* what cublasLtGetVersion says */
extern int hd_fake_cublaslt_products;               /* calls of cublasLtMatmul so far */
extern hd_fake_cublaslt_kind hd_fake_cublaslt_last; /* of the last product queued */
extern unsigned hd_fake_cublaslt_reductions;        /* mask of the last preference asked with */

#endif
