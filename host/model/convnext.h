/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the model, shared by the files of host/model: the parameter table (parameters.c), the buffer
 * plan (plan.c) and the passes over it (forward.c, backward.c).
 */
#ifndef HD_MODEL_CONVNEXT_H
#define HD_MODEL_CONVNEXT_H

#include "heimdall/model.h"

#define HD_HEADS 2 /* 0 position, 1 uncertainty */
#define HD_DEPTHWISE_TAPS 49
#define HD_MLP_RATIO 4
#define HD_STEM_PATCH 4
#define HD_DOWN_PATCH 2

/* Indices into the parameter table. */
typedef struct hd_norm_params {
	int weight;
	int bias;
} hd_norm_params;
typedef hd_norm_params hd_linear_params;

typedef struct hd_block {
	hd_linear_params dw, fc1, fc2;
	hd_norm_params norm;
	int gamma;
	int number; /* of all blocks, from 0 */
	/* saved for backward, all (rows, C) but h, g (rows, 4C) and mean, rstd (rows) */
	float *dw_out, *norm_out, *mean, *rstd, *h, *g, *branch, *y;
} hd_block;

typedef struct hd_stage {
	int64_t H, W, C, P; /* of its blocks */
	int depth;
	hd_block *blocks;
	/* stage 0: stem convolution then norm; others: norm then 2x2 convolution */
	hd_linear_params conv;
	hd_norm_params norm;
	float *norm_out, *mean, *rstd, *cols, *conv_out;
	float *in;  /* what the first part reads: the network input or the last stage's output */
	float *out; /* what the blocks read first */
} hd_stage;

/* One head: D -> 128 -> norm -> ReLU -> dropout -> 64 -> norm -> ReLU -> dropout -> 2. */
typedef struct hd_head {
	hd_linear_params fc[3];
	hd_norm_params norm[2];
	float *fc_out[2], *norm_out[2], *mean[2], *rstd[2], *act[2];
	float *out;  /* (N,2) */
	float *dout; /* (N,2) */
} hd_head;

/* A buffer of the plan: where its pointer goes once memory is there. */
typedef struct hd_buffer {
	float **where;
	size_t bytes;
	size_t offset;
} hd_buffer;

struct hd_model {
	hd_model_config config;
	hd_backend *backend;
	hd_stream *stream;
	hd_parameter *parameters;
	int parameter_count;
	int64_t flat_size;
	float *flat[HD_FLAT_COUNT];
	float *chunk_lr, *chunk_decay;
	hd_stage stages[HD_STAGES];
	hd_norm_params final_norm;
	float *pooled, *final_out, *final_mean, *final_rstd;
	hd_head heads[HD_HEADS];
	hd_model_io io;
	/* backward: gradients of maps (two in turn), of a branch, of the widened branch, scratch */
	float *grad[2], *branch_grad[2], *wide_grad[2], *work;
	float *path_rate, *path_scale; /* (blocks), (blocks,N) of drop path; 0 blocks without it */
	float *norm2, *hyper;
	int32_t *skipped;
	bool trained_forward; /* whether the last forward used dropout and drop path */
	hd_buffer *buffers;
	size_t buffer_count, buffer_capacity;
	size_t plan_bytes, parameter_bytes;
	void *memory;
};

/* Fills parameters, stages[].., heads[].. indices and flat_size from config. */
hd_status hd_model_build_parameters(hd_model *model);
/* Blocks of all stages together. */
int hd_model_block_count(const hd_model *model);
/* Lays out all buffers; model->plan_bytes is the size of the one allocation. */
hd_status hd_model_build_plan(hd_model *model);

/* Drop path's factors of a block's branch, (N); NULL outside training and without drop path. */
static inline const float *hd_model_path(const hd_model *model, const hd_block *block)
{
	bool on = model->trained_forward && model->config.drop_path > 0;
	return on ? model->path_scale + (int64_t)block->number * model->config.batch : NULL;
}

static inline float *hd_model_weight(const hd_model *model, hd_flat which, int parameter)
{
	return model->flat[which] + model->parameters[parameter].offset;
}

#endif
