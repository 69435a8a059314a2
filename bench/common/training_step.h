/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of one training step of a model, as host/model runs them with fused slots: assembling the batch,
 * forward, loss, backward, optimizer; with calls, bytes and FLOPs of each. Equal calls (operation, type, sizes) are one
 * row. What benchmarks time, and what bench/roofline predicts, come from this list.
 *
 * In 16 bits: maps and what products read are of that type; heads, loss, statistics, gradients of parameters and the
 * optimizer are float. In float32 the optimizer writes no copy of the weights. No average of the weights is kept.
 *
 * Launches: sums over rows within layernorm_bwd, gelu_bwd and scale_residual_bwd are added by the last block of the
 * same launch; those of dwconv7_bwd_weight, of sum_squares and of bias gradients of linear layers by a second one.
 */
#ifndef HD_BENCH_TRAINING_STEP_H
#define HD_BENCH_TRAINING_STEP_H

#include <stdbool.h>
#include <stddef.h>

#include "heimdall/model.h"

#define HD_STEP_DIMS 8
#define HD_STEP_STAGES 4

typedef enum hd_step_phase { HD_PHASE_BATCH, HD_PHASE_FORWARD, HD_PHASE_BACKWARD, HD_PHASE_STEP } hd_step_phase;
/* What bounds a kernel. */
typedef enum hd_step_class {
	HD_CLASS_STREAM,    /* reads and writes maps once */
	HD_CLASS_PRODUCT,   /* of matrices */
	HD_CLASS_DEPTHWISE, /* 49 taps per value on the cores for float */
	HD_CLASS_SMALL      /* copies and kernels of a few values: nothing but their launch */
} hd_step_class;

/* Parts of a step in which two streams have work; ALONE: the main stream only. */
typedef enum hd_step_region {
	HD_REGION_ALONE,
	HD_REGION_FORWARD, /* stem to last block, AdamW beside */
	HD_REGION_STAGE,   /* and up: backward of a stage's blocks, weight gradients beside */
	HD_REGIONS = HD_REGION_STAGE + HD_STEP_STAGES
} hd_step_region;

typedef struct hd_step_row {
	const char *op;   /* of kernels.def; "copies" for what is none */
	const char *dims; /* names of d, as in the operation's case */
	int64_t d[HD_STEP_DIMS];
	hd_dtype dtype;
	hd_step_phase phase;
	hd_step_class class;
	int region;      /* hd_step_region */
	int stage;       /* in the forward region: whose */
	bool beside;     /* on the second stream */
	int calls;       /* per step */
	int launches;    /* kernels of a call */
	double bytes;    /* of a call: every tensor once, and what its kernels hand on in memory */
	double fresh;    /* of bytes: maps that the kernel before has just written or read */
	double flops;    /* done: taps that fall beside the map are none */
	double counted;  /* those of hd_model_forward_flops, and twice them on the way back */
	int64_t m, n, k; /* of a product: m x n, sums of k */
} hd_step_row;

/* Shares of all parameters that AdamW goes through in order of the stages. */
typedef struct hd_step_stage {
	int depth;
	double parameters;  /* with what stands before its blocks */
	double first_piece; /* up to the end of the piece that its first block waits for */
} hd_step_stage;

typedef struct hd_training_step {
	hd_step_row *rows;
	size_t count, capacity;
	hd_step_stage stage[HD_STEP_STAGES];
	int pieces; /* of AdamW */
} hd_training_step;

/* dt: HD_F32, HD_BF16 or HD_F16 of the maps. Free with hd_training_step_free also after failure. */
hd_status hd_training_step_list(hd_training_step *out, const hd_model_config *config, hd_dtype dt);
void hd_training_step_free(hd_training_step *step); /* NULL-safe in what it holds */

/* "N=32 P=256 C=192". */
void hd_step_row_text(char *out, size_t bytes, const hd_step_row *row);

#endif
