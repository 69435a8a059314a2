/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the model, shared by the files of host/model: the parameter table (parameters.c), the buffer plan (plan.c),
 * its memory (memory.c), the passes over it (forward.c, backward.c), the optimizer (optimizer.c) and what is recorded
 * of a step (step.c). Maps are void *, of the model's map dtype; float * is float32 whatever the precision.
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
	/* saved for backward, all (rows, C) but h, g (rows, 4C) and mean, rstd (rows); shared where it is computed
	 * again */
	void *dw_out, *norm_out, *h, *g, *branch;
	float *mean, *rstd;
	void *y;
} hd_block;

typedef struct hd_stage {
	int64_t H, W, C, P; /* of its blocks */
	int depth;
	hd_block *blocks;
	/* stage 0: stem convolution then norm; others: norm then 2x2 convolution */
	hd_linear_params conv;
	hd_norm_params norm;
	void *norm_out, *conv_out;
	float *mean, *rstd;
	void *cols; /* patches, kept for backward; scratch where the back end convolves */
	void *in;   /* what the first part reads: the network input or the last stage's output */
	void *out;  /* what the blocks read first */
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
	void **where;
	const char *name; /* the expression that says where */
	int stage;        /* -1: of none */
	void *own;        /* its memory, where every buffer has its own (HEIMDALL_ARENA=off) */
	size_t bytes;
	size_t offset;
} hd_buffer;

/*
 * Gradients inside a block that its weight gradients read: of the branch and the depthwise convolution (rows,C), of the
 * widened branch before GELU (rows,4C).
 */
typedef struct hd_inside_gradients {
	void *branch, *conv, *wide;
} hd_inside_gradients;

/* Weight gradients beside the main stream; all NULL where the back end has but one. */
typedef struct hd_beside {
	hd_stream *stream;
	hd_event *ready;   /* on the main stream: what the next weight gradient reads is there */
	hd_event *done[2]; /* beside: the weight gradients of a block are done with its hd_inside_gradients */
	bool pending[2];   /* recorded in this pass, and nobody has waited for it */
	void *work;
} hd_beside;

/* What optimizer step waits for its update: none, of all parameters by the same scalars, of the backbone by its own. */
typedef enum hd_update_kind { HD_UPDATE_NONE, HD_UPDATE_ALL, HD_UPDATE_APART, HD_UPDATE_KINDS } hd_update_kind;

typedef struct hd_update {
	hd_update_kind kind;
	int64_t *start; /* (pieces+1) of the flat buffers, in the order of the layers */
	int pieces;
	int *piece_of;   /* (blocks) the piece that a block's parameters end in */
	hd_event **done; /* (pieces) NULL where the back end has one stream */
	int awaited;     /* pieces that the main stream waits for, in the pass that is being queued */
} hd_update;

/* A part of the training step as a graph: queued as it is at first, then recorded, then replayed. */
typedef struct hd_recorded {
	hd_graph *graph;
	int queued; /* times */
	bool refused;
} hd_recorded;

/* The recorded parts: a batch by [accumulate][frozen] and the update that runs beside it, the norm by [frozen]. */
typedef struct hd_recordings {
	hd_recorded batch[2][2][HD_UPDATE_KINDS], norm[2];
} hd_recordings;

/* Queues a part; what its variants are is its own matter. */
typedef hd_status (*hd_queue)(hd_model *model, int variant);

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
	hd_dtype dtype; /* of maps */
	void *narrow;   /* the flat weights in_use, rounded to dtype; NULL with HD_F32 */
	bool stale;     /* they have changed since */
	bool frozen;    /* now */
	float beta;     /* of the gradients in the running backward pass */
	float *chunk_lr, *chunk_decay;
	hd_stage stages[HD_STAGES];
	hd_norm_params final_norm;
	float *pooled, *final_out, *final_mean, *final_rstd;
	hd_head heads[HD_HEADS];
	hd_model_io io;
	/*
	 * Backward: gradients of maps (two in turn), inside blocks (in turn where weight gradients run beside), of the
	 * branch's norm and of the widened branch behind GELU, scratch. With inference or a frozen backbone the maps
	 * themselves: what blocks read and write in turn, inside a branch, a widened branch.
	 */
	void *grad[2];
	hd_inside_gradients inside[2];
	void *norm_grad, *gelu_grad, *work;
	hd_block recomputed; /* with gradient_checkpointing: what all blocks share */
	hd_beside beside;
	hd_update *update; /* NULL in a snapshot and for inference */
	hd_recordings recordings;
	float *row_statistics[2];      /* then: mean and rstd of every norm */
	float *path_rate, *path_scale; /* (blocks), (blocks,N) of drop path; 0 blocks without it */
	float *norm2, *hyper[2];       /* of the heads (or all), of the backbone */
	float *scale;                  /* of the loss */
	hd_loss_scale *loss_scale;     /* with half precision */
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

/* Makes the rounded weights those that forward reads, where they are not. */
hd_status hd_model_refresh(hd_model *model);

/* ---- of forward.c ---- */

/* hd_model_forward without what it has done first. */
hd_status hd_model_queue_forward(hd_model *model, bool training);
/* Of a block all but its last operation: branch from x. */
hd_status hd_model_block_inside(const hd_model *m, const hd_stage *stage, const hd_block *b, const void *x);
/* hd_model_loss with the scale that is on the device. */
hd_status hd_model_queue_loss(hd_model *model);

/* ---- of backward.c: weight gradients beside ---- */

hd_status hd_model_open_beside(hd_model *model);
void hd_model_close_beside(hd_model *model);
/* What is queued beside from here on finds what was queued on the main stream until here. */
hd_status hd_model_fork_beside(const hd_model *model);

/* ---- of optimizer.c ---- */

hd_status hd_model_open_update(hd_model *model);
void hd_model_close_update(hd_model *model);
/* Has the update that waits done on the main stream: before parameters are read or written. */
hd_status hd_model_settle(const hd_model *model);
/* Queues it beside a pass instead: what forward reads waits for its piece, and the pass ends with all of it done. */
hd_status hd_model_begin_update(hd_model *model);
hd_status hd_model_await_block(const hd_model *model, int block);
hd_status hd_model_end_update(const hd_model *model);

/* ---- of step.c ---- */

/* Queues a part by its recording, where there is one or can be made. */
hd_status hd_model_run_recorded(hd_model *model, hd_recorded *recorded, hd_queue queue, int variant, const char *what);
void hd_model_close_recordings(hd_model *model);

/* Weight gradients run beside the rest of backward: what they read is kept until the block after the next. */
static inline bool hd_model_has_beside(const hd_model *model)
{
	return model->backend->own_memory && !hd_model_keeps_no_maps(model);
}

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

/* The same for products: of the maps' dtype. */
static inline const void *hd_model_product_weight(const hd_model *model, int parameter)
{
	if (!model->narrow)
		return hd_model_weight(model, parameter);
	return (const char *)model->narrow + (size_t)model->parameters[parameter].offset * hd_dtype_bytes(model->dtype);
}

static inline float *hd_model_gradient(const hd_model *model, int parameter)
{
	return hd_model_slot(model, HD_FLAT_GRADIENTS, parameter);
}

#endif
