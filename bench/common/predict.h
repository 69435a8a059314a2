/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simple model of how long a kernel takes on a GPU, from sizes alone. Pure functions. All of it is prediction:
 * figures of devices are datasheets' where a source is named, and assumptions else.
 *
 * A call takes its launches' gaps, and of the work the longest of
 *   memory    bytes that come from or go to DRAM, at HD_STREAM_SHARE of the measured copy rate. What the kernel before
 *             has just written or read comes from L2 where it and this kernel's traffic together fill at most half of
 *             it; everything that is written counts as written to DRAM;
 *   L2        all bytes, at the rate of L2;
 *   cores     of depthwise convolutions: FLOPs inside the map at HD_CORE_SHARE of the float rate;
 *   product   waves of tiles over the multiprocessors, one tile on each at a time, of the tile and split of the sum
 * that are best together: 256x128, 128x128, 128x64 or 64x64, which reach 100, 85, 70 and 50 % of the rate that large
 * products were measured at; split in 1, 2, 4, 8 or 16, whose parts go through L2 and are added by one kernel more; and
 * a latency from the first load to the last store, in which nothing else happens.
 */
#ifndef HD_BENCH_PREDICT_H
#define HD_BENCH_PREDICT_H

#include "bench/common/training_step.h"

#define HD_STREAM_SHARE 0.9 /* of the copy rate: what well-made streaming kernels reach */
#define HD_CORE_SHARE 0.5   /* of the float rate: loads and addresses take the other half of the slots */
#define HD_LAUNCH_S 1.3e-6  /* from kernel to kernel in a CUDA graph */
#define HD_LATENCY_S 1.0e-6 /* of a streaming kernel; of a product twice that, for its pipeline fills and drains */

typedef struct hd_gpu {
	const char *key, *name, *source;
	double copy_gbs; /* read and written, as measured by a copy */
	double bf16_gflops, f32_gflops;
	int multiprocessors;
	double l2_bytes, l2_gbs; /* the rate is an assumption */
} hd_gpu;

const hd_gpu *hd_gpu_list(int *count);

typedef struct hd_prediction {
	double launch_s, work_s;     /* of one call */
	double dram_s, l2_s, busy_s; /* of work: each alone; busy: of the multiprocessors, products at full waves */
	const char *bound;           /* "memory", "L2", "cores", "product", "latency" */
	int tile_m, tile_n, split, waves; /* of a product */
} hd_prediction;

hd_prediction hd_predict(const hd_gpu *gpu, const hd_step_row *row);

#endif
