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
	float *norm_out, *mean, *rstd, *conv_out;
	float *cols; /* patches, kept for backward; scratch where the back end convolves */
	float *in;   /* what the first part reads: the network input or the last stage's output */
	float *out;  /* what the blocks read first */
} hd_stage;

/* One head: D, then each hidden width with norm, ReLU and dropout, then 2. */
typedef struct hd_head {
	hd_linear_params fc[HD_HEAD_LAYERS_MAX + 1];
	hd_norm_params norm[HD_HEAD_LAYERS_MAX];
	hd_norm_params running[HD_HEAD_LAYERS_MAX]; /* mean and variance, with batch norm */
	/* (N, width); mean, rstd (N), with batch norm (width) */
	float *fc_out[HD_HEAD_LAYERS_MAX], *norm_out[HD_HEAD_LAYERS_MAX], *act[HD_HEAD_LAYERS_MAX];
	float *mean[HD_HEAD_LAYERS_MAX], *rstd[HD_HEAD_LAYERS_MAX];
	float *out;  /* (N,2) */
	float *dout; /* (N,2) */
} hd_head;

/* A buffer of the plan: where its pointer goes once memory is there. */
typedef struct hd_buffer {
	float **where;
	const char *name; /* the expression that says where */
	int stage;        /* -1: of none */
	void *own;        /* its memory, where every buffer has its own (HEIMDALL_ARENA=off) */
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
	int64_t heads_from;   /* where the heads begin in the flat buffers; the backbone lies before */
	int64_t trained_from; /* where gradients and moments begin: 0, or heads_from with a frozen backbone */
	float *flat[HD_FLAT_COUNT];
	hd_flat in_use; /* what forward reads */
	bool frozen;    /* now */
	float beta;     /* of the gradients in the running backward pass */
	float *chunk_lr, *chunk_decay;
	hd_stage stages[HD_STAGES];
	hd_norm_params final_norm;
	float *pooled, *final_out, *final_mean, *final_rstd;
	hd_head heads[HD_HEADS];
	hd_model_io io;
	/*
	 * Backward: gradients of maps (two in turn), of a branch, of the widened branch, scratch. With inference or a
	 * frozen backbone the maps themselves: what blocks read and write in turn, inside a branch, a widened branch.
	 */
	float *grad[2], *branch_grad[2], *wide_grad[2], *work;
	float *row_statistics[2];      /* then: mean and rstd of every norm */
	float *path_rate, *path_scale; /* (blocks), (blocks,N) of drop path; 0 blocks without it */
	float *norm2, *hyper[2];       /* of the heads (or all), of the backbone */
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
/* Nothing runs back through the backbone: its maps share their memory. */
bool hd_model_keeps_no_maps(const hd_model *model);
/* Lays out all buffers; model->plan_bytes is the size of the one allocation. */
hd_status hd_model_build_plan(hd_model *model);
/*
 * Allocates the plan as one arena and gives every buffer its place; with HEIMDALL_ARENA=off in the environment every
 * buffer gets its own allocation, so that a tool sees where one is overrun. HD_E_MEMORY says what is wanted, what is
 * free, which buffer is the largest and which batch would fit.
 */
hd_status hd_model_allocate(hd_model *model);
void hd_model_release(hd_model *model);

/* Whether the back end has patch convolutions; else they are patches and linear layers. */
static inline bool hd_model_convolves(const hd_model *model)
{
	const hd_ops *ops = &model->backend->ops;
	return ops->patch_conv_fwd && ops->patch_conv_bwd_data && ops->patch_conv_bwd_weight;
}

/* Drop path's factors of a block's branch, (N); NULL outside training and without drop path. */
static inline const float *hd_model_path(const hd_model *model, const hd_block *block)
{
	bool on = model->trained_forward && model->config.drop_path > 0;
	return on ? model->path_scale + (int64_t)block->number * model->config.batch : NULL;
}

/* Elements of a flat buffer before its first. */
static inline int64_t hd_model_flat_from(const hd_model *model, hd_flat which)
{
	return which == HD_FLAT_WEIGHTS || which == HD_FLAT_AVERAGE ? 0 : model->trained_from;
}

static inline float *hd_model_at(const hd_model *model, hd_flat which, int64_t offset)
{
	return model->flat[which] + (offset - hd_model_flat_from(model, which));
}

/* Of a parameter in a flat buffer. */
static inline float *hd_model_slot(const hd_model *model, hd_flat which, int parameter)
{
	return hd_model_at(model, which, model->parameters[parameter].offset);
}

/* What the passes read. */
static inline float *hd_model_weight(const hd_model *model, int parameter)
{
	return hd_model_slot(model, model->in_use, parameter);
}

static inline float *hd_model_gradient(const hd_model *model, int parameter)
{
	return hd_model_slot(model, HD_FLAT_GRADIENTS, parameter);
}

#endif
