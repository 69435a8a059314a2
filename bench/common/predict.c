/* SPDX-License-Identifier: Apache-2.0 */
/* Devices, and the time of a kernel on them. */
#include "bench/common/predict.h"

#include <math.h>

#define SPLIT_MOST 16
#define SPLIT_DEPTH_LEAST 128 /* of a part's sums */

static const hd_gpu gpus[] = {
        {"h100", "H100 SXM 80GB",
                "NVIDIA H100 Tensor Core GPU Datasheet: 3.35 TB/s, 989 TFLOP/s bf16 dense, 67 fp32; 132 SMs, 50 MB L2 "
                "by its architecture whitepaper. Taken: 3.0 TB/s of a copy, 800 TFLOP/s of large products, 60 fp32",
                3000, 800e3, 60e3, 132, 50e6, 5500},
        {"rtx3090", "RTX 3090",
                "NVIDIA Ampere GA102 GPU Architecture whitepaper, appendix A: 936 GB/s, 71 TFLOP/s bf16 dense with "
                "fp32 "
                "accumulation, 35.6 fp32, 82 SMs, 6 MB L2. Taken: 0.85 TB/s, 71, 35",
                850, 71e3, 35e3, 82, 6e6, 2000},
        {"rtx4090", "RTX 4090",
                "NVIDIA Ada GPU Architecture whitepaper, appendix A: 1008 GB/s, 165.2 TFLOP/s bf16 dense with fp32 "
                "accumulation, 82.6 fp32, 128 SMs, 72 MB L2. Taken: 0.92 TB/s, 165, 80",
                920, 165e3, 80e3, 128, 72e6, 4500},
};

typedef struct tile {
	int m, n;
	double share;
} tile;
static const tile tiles[] = {{256, 128, 1.0}, {128, 128, 0.85}, {128, 64, 0.7}, {64, 64, 0.5}};

const hd_gpu *hd_gpu_list(int *count)
{
	*count = (int)(sizeof gpus / sizeof *gpus);
	return gpus;
}

/* Of DRAM, by what L2 still holds. */
static double memory_s(const hd_gpu *gpu, const hd_step_row *row)
{
	bool held = row->fresh + row->bytes <= gpu->l2_bytes / 2;
	return 1e-9 * (row->bytes - (held ? row->fresh : 0)) / (HD_STREAM_SHARE * gpu->copy_gbs);
}

static double ceil_div(double a, double b)
{
	return ceil(a / b);
}

/* The best tile and split; work_s holds the floor by memory when it comes in. */
static void predict_product(hd_prediction *p, const hd_gpu *gpu, const hd_step_row *row)
{
	double rate = 1e9 * (row->dtype == HD_F32 ? gpu->f32_gflops : gpu->bf16_gflops) / gpu->multiprocessors;
	double floor_s = p->work_s, best = INFINITY;
	hd_prediction first = *p;
	for (size_t t = 0; t < sizeof tiles / sizeof *tiles; t++) {
		double count = ceil_div((double)row->m, tiles[t].m) * ceil_div((double)row->n, tiles[t].n);
		for (int split = 1; split <= SPLIT_MOST; split *= 2) {
			double depth = ceil_div((double)row->k, split),
			       waves = ceil_div(count * split, gpu->multiprocessors);
			if (split > 1 && depth < SPLIT_DEPTH_LEAST)
				break;
			double busy = waves * 2.0 * tiles[t].m * tiles[t].n * depth / (rate * tiles[t].share);
			double parts = split > 1 ? 8e-9 * (double)(row->m * row->n) * split / gpu->l2_gbs : 0;
			double extra = split > 1 ? HD_LAUNCH_S + HD_LATENCY_S : 0, work = fmax(busy, floor_s) + parts;
			if (work + extra >= best)
				continue;
			best = work + extra;
			*p = first;
			p->work_s = work + (split > 1 ? HD_LATENCY_S : 0);
			p->busy_s = count * split / gpu->multiprocessors * busy / waves;
			p->l2_s = first.l2_s + parts;
			p->launch_s += split > 1 ? HD_LAUNCH_S : 0;
			p->bound = busy > floor_s ? "product" : first.bound;
			p->tile_m = tiles[t].m, p->tile_n = tiles[t].n, p->split = split, p->waves = (int)waves;
		}
	}
	p->work_s += HD_LATENCY_S; /* the second one */
}

hd_prediction hd_predict(const hd_gpu *gpu, const hd_step_row *row)
{
	double dram = memory_s(gpu, row), l2 = 1e-9 * row->bytes / gpu->l2_gbs;
	double latency = HD_LATENCY_S * row->launches;
	hd_prediction p = {
	        .launch_s = HD_LAUNCH_S * row->launches, .work_s = dram, .dram_s = dram, .l2_s = l2, .bound = "memory"};
	if (l2 > p.work_s) {
		p.work_s = l2;
		p.bound = "L2";
	}
	if (row->class == HD_CLASS_DEPTHWISE) {
		double cores = 1e-9 * row->flops / (HD_CORE_SHARE * gpu->f32_gflops);
		p.bound = cores > p.work_s ? "cores" : p.bound;
		p.work_s = fmax(p.work_s, cores);
		p.busy_s = cores;
	}
	if (row->class == HD_CLASS_PRODUCT)
		predict_product(&p, gpu, row);
	p.bound = p.work_s < latency ? "latency" : p.bound;
	p.work_s += latency;
	return p;
}
