/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device can do at most, measured through its back end in the same run as what is held against it: rates of
 * memory and of matrix products.
 */
#ifndef HD_BENCH_CEILINGS_H
#define HD_BENCH_CEILINGS_H

#include <jansson.h>

#include "heimdall/backend.h"

/* GB/s count what is read and written; 0: the back end has none. */
typedef struct hd_bench_ceilings {
	double copy_gbs;                            /* the back end's copy, of 1 GiB or what takes 20 ms */
	double triad_gbs;                           /* dst += b by the operation `add`: two reads and a write */
	double f32_gflops, bf16_gflops, f16_gflops; /* linear_fwd of n x n x n, n up to 8192 or what takes 20 ms */
	int f32_size, bf16_size, f16_size;          /* n of each */
} hd_bench_ceilings;

/* wide: also those of 16 bits, where linear_fwd comes in them. */
hd_status hd_bench_ceilings_measure(hd_bench_ceilings *out, hd_backend *backend, bool wide);

/* The better of both memory rates. */
double hd_bench_memory_gbs(const hd_bench_ceilings *ceilings);
/* Of products of a type. */
double hd_bench_product_gflops(const hd_bench_ceilings *ceilings, hd_dtype dtype);

/* A new object of all of them. */
json_t *hd_bench_ceilings_json(const hd_bench_ceilings *ceilings);

#endif
