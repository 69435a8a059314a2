/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step on two streams, from the predictions of its kernels (predict.h), as host/model queues it: AdamW in pieces
 * beside the forward pass, of which each block waits for its piece; weight gradients of blocks beside the gradients of
 * data; all else alone. Pure functions; all of it is prediction.
 *
 * Streams share DRAM, L2 and the multiprocessors. A region where both have work takes HD_CONTENTION times the longest
 * of DRAM    the sum of both streams' time on it; L2      likewise; busy    the sum of what their kernels keep the
 * multiprocessors busy for: products at full waves of their tile, as kernels of the other stream fill those that the
 * last wave leaves idle; order   what cannot be sooner by what waits for what: the longer stream alone, and forward's
 * blocks behind their pieces of AdamW with each stream at its full speed; but never more than both streams one after
 * the other. A region of one stream takes its sum.
 */
#ifndef HD_BENCH_OVERLAP_H
#define HD_BENCH_OVERLAP_H

#include "bench/common/predict.h"

/*
 * Kernels side by side slow each other down beyond sharing evenly: they evict each other from L2, DRAM turns between
 * more streams, a product finds fewer multiprocessors free when it starts. An assumption until it is measured.
 */
#define HD_CONTENTION 1.1

typedef struct hd_region_time {
	double main_s, beside_s;              /* each stream alone */
	double dram_s, l2_s, busy_s, order_s; /* of both */
	double overlapped_s;
} hd_region_time;

typedef struct hd_step_time {
	double serial_s, overlapped_s;
	hd_region_time region[HD_REGIONS];
} hd_step_time;

hd_step_time hd_overlap(const hd_gpu *gpu, const hd_training_step *step);

/* "alone", "forward", "stage 0" ... of a region. */
const char *hd_region_name(int region);

#endif
