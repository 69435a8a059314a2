/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network: ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s") with a position and an uncertainty head,
 * forward and backward written out over a back end's operation table as a static plan.
 *
 * All shapes are fixed when the model is made; every buffer is an offset into one device allocation and
 * nothing is allocated afterwards. Parameters, gradients and moments are flat buffers of one layout.
 * One thread at a time per model.
 */
#ifndef HEIMDALL_MODEL_H
#define HEIMDALL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "heimdall/backend.h"

#define HD_STAGES 4
#define HD_HEAD_LAYERS_MAX 8
#define HD_NORM_EPS 1e-6f
#define HD_BATCH_NORM_EPS 1e-5f     /* torch.nn.BatchNorm1d's */
#define HD_BATCH_NORM_MOMENTUM 0.1f /* torch.nn.BatchNorm1d's */

typedef struct hd_backbone {
	const char *name;
	int depths[HD_STAGES];
	int widths[HD_STAGES]; /* multiples of 8 */
	bool conv_mlp;         /* timm keeps fc1/fc2 of this size as 1x1 convolutions: file shape (K,C,1,1) */
} hd_backbone;

/* The sizes, smallest first; *count of them. */
const hd_backbone *hd_backbone_list(int *count);

/* A size by name (settings.def: backbone_size); NULL for an unknown one. */
const hd_backbone *hd_backbone_find(const char *name);

typedef enum hd_head_norm { HD_HEAD_NORM_LAYER, HD_HEAD_NORM_BATCH } hd_head_norm;

/*
 * What maps, and the products that make them, are computed in. Mixed ones keep maps and a copy of the weights in 16
 * bits beside the float32 master; sums, statistics, gradients of parameters, heads, loss and optimizer are float32.
 */
typedef enum hd_precision {
	HD_PRECISION_32,
	HD_PRECISION_TF32, /* products round their float32 inputs to TF32, where the device has it */
	HD_PRECISION_BF16, /* bfloat16 */
	HD_PRECISION_F16   /* half, with a scale on the loss that follows the gradients (torch.amp.GradScaler) */
} hd_precision;

typedef struct hd_model_config {
	hd_backbone backbone;
	int channels;                        /* C of the input */
	int height;                          /* M, mel bands; multiple of 32 */
	int width;                           /* W, frames; multiple of 32 */
	int batch;                           /* N */
	int head_layers;                     /* hidden layers of each head, 1 .. HD_HEAD_LAYERS_MAX */
	int head_widths[HD_HEAD_LAYERS_MAX]; /* of each hidden layer */
	hd_head_norm head_norm;              /* behind each hidden layer */
	hd_gelu_form gelu;                   /* in the blocks */
	float dropout;                       /* in the heads */
	float drop_path;                     /* of the last block; rises linearly from 0 at the first, as timm's */
	float layer_decay; /* learning rate's factor from block to block, from the last down; 1: none */
	hd_loss loss;
	bool label_sigma; /* the batch brings the accuracy of its labels */
	bool frozen;      /* the backbone is never trained: it owns no gradients and no moments */
	bool average;     /* an exponential moving average of the weights is kept */
	bool inference;   /* forward only: no gradients, and nothing is kept for them */
	hd_precision precision;
	/* Keeps each block's output alone and computes its inside a second time on the way back: same bits, less
	 * memory. */
	bool gradient_checkpointing;
	bool graph; /* hd_model_train_batch and hd_model_step are recorded once and replayed, where the back end can */
} hd_model_config;

/* How a tensor's elements are ordered in the kernels, against its shape in files (timm's). */
typedef enum hd_layout {
	HD_LAYOUT_PLAIN,
	HD_LAYOUT_PATCH,    /* file (K,C,p,p), kernel (K,p,p,C) */
	HD_LAYOUT_DEPTHWISE /* file (C,1,7,7), kernel (7,7,C) */
} hd_layout;

/* One row of the parameter table. */
typedef struct hd_parameter {
	char name[64]; /* timm's, "stages.2.blocks.5.conv_dw.weight" */
	int ndim;
	int64_t shape[4]; /* in files */
	hd_layout layout;
	int64_t offset; /* elements into the flat buffers, on an HD_CHUNK boundary */
	int64_t size;   /* elements */
	bool decay;     /* weight decay applies: matrices and kernels, not norms, biases, layer scale */
	bool trained;   /* false for running statistics, which are no parameters */
	float lr_scale; /* of the learning rate: layer_decay's power; 0 for running statistics */
	float init_std; /* > 0 truncated normal, 0 zeros, -1 ones, -2 layer scale 1e-6 */
} hd_parameter;

typedef struct hd_model hd_model;

/* HD_E_USAGE for a shape that cannot be, HD_E_MEMORY with the bytes wanted. */
hd_status hd_model_create(hd_model **out, hd_backend *backend, const hd_model_config *config);
void hd_model_free(hd_model *model); /* NULL-safe */

/* Bytes of the plan without making it: parameters with gradients and moments, activations. */
hd_status hd_model_footprint(const hd_backend *backend, const hd_model_config *config, size_t *parameter_bytes,
        size_t *activation_bytes, int64_t *parameters);

/* The largest batch (config->batch is not read) whose plan fits into so many bytes, 0 for none. */
int hd_model_batch_that_fits(const hd_backend *backend, const hd_model_config *config, size_t bytes);

/* Multiplications and additions of one sample's forward pass through convolutions, linear layers and heads, times 2. */
double hd_model_forward_flops(const hd_model_config *config);

const hd_model_config *hd_model_get_config(const hd_model *model);
const hd_parameter *hd_model_parameters(const hd_model *model, int *count);
int64_t hd_model_parameter_count(const hd_model *model); /* running statistics not counted */

/* The flat buffers, device memory. Gradients and moments begin at the first parameter that is ever trained. */
typedef enum hd_flat {
	HD_FLAT_WEIGHTS,
	HD_FLAT_GRADIENTS,
	HD_FLAT_MOMENT1,
	HD_FLAT_MOMENT2,
	HD_FLAT_AVERAGE,
	HD_FLAT_COUNT
} hd_flat;

/* Whether a parameter has a place in a flat buffer: frozen ones have no gradient, running statistics no moments. */
bool hd_model_has(const hd_model *model, hd_flat which, int parameter);

/* Random weights from a seed: truncated normal of 0.02 within two deviations for weights, as timm's. Moments 0. */
hd_status hd_model_initialize(hd_model *model, uint64_t seed);

/* One parameter between host memory in file order and a flat buffer that has it. */
hd_status hd_model_read(const hd_model *model, hd_flat which, int parameter, float *file_order);
hd_status hd_model_write(hd_model *model, hd_flat which, int parameter, const float *file_order);

/* Starts the average: a copy of the weights. */
hd_status hd_model_start_average(hd_model *model);

/* Which weights forward takes from here on: HD_FLAT_WEIGHTS, the default, or HD_FLAT_AVERAGE. */
void hd_model_use(hd_model *model, hd_flat which);

/* Holds the backbone's weights as they are, or trains them again: backward and step leave it out. */
hd_status hd_model_freeze(hd_model *model, bool frozen);

/*
 * Device buffers of one batch that the caller fills: input (N,M,W,C) of hd_model_map_dtype, sample keys, target (N,2),
 * weight (N), label_sigma (N).
 */
typedef struct hd_model_io {
	void *input;
	int32_t *sample;
	float *target;
	float *weight;
	float *label_sigma; /* label units; NULL unless the configuration has it */
	hd_rng_key *key;
	float *mu;    /* (N,2) north, east in label units: output */
	float *sigma; /* (N,2): output */
	float *sums;  /* (4) of gaussian_nll: output */
} hd_model_io;
const hd_model_io *hd_model_buffers(const hd_model *model);

/* HD_F32, or the 16-bit type of a mixed precision. */
hd_dtype hd_model_map_dtype(const hd_model *model);

/* "32", "tf32", "bf16-mixed", "16-mixed". */
const char *hd_precision_name(hd_precision precision);

/* Input to mu and the raw sigma; dropout, drop path and batch statistics only when training. */
hd_status hd_model_forward(hd_model *model, bool training);
/* Loss sums, sigma and the gradients at the heads' outputs, of scale * sum of weighted losses. */
hd_status hd_model_loss(hd_model *model, float scale);
/* All parameter gradients, overwriting the gradient buffer or (accumulate) added to it. Needs forward and loss before.
 */
hd_status hd_model_backward(hd_model *model, bool accumulate);
/* Forward, loss and backward of a training batch in one, which may be a recorded graph. */
hd_status hd_model_train_batch(hd_model *model, float scale, bool accumulate);
/*
 * Gradient norm, clip and one AdamW step, and the average's; left out where the norm is not finite. The norm stays on
 * the device (hd_model_send_norm). Where the back end has streams the update is queued with the next batch, beside its
 * forward pass, or with whatever reads or writes parameters before. backbone: scalars of the backbone's parameters
 * where they differ, as after it was frozen for some steps; NULL: the same.
 */
hd_status hd_model_step(hd_model *model, const hd_adamw_hyper *hyper, const hd_adamw_hyper *backbone);
/* Queues a copy of the last batch's loss sums. sums: (4) of alloc_host. */
hd_status hd_model_send_sums(const hd_model *model, float *sums);
/* Queues a copy of the last step's squared gradient norm, before clipping; not finite: the step was left out. norm2: of
 * alloc_host. */
hd_status hd_model_send_norm(const hd_model *model, float *norm2);

/*
 * State of the scale on the loss with HD_PRECISION_F16, for checkpoints: it starts at 65536, halves where the gradient
 * is not finite, which skips the step, and doubles after HD_LOSS_SCALE_INTERVAL good steps. Waits for the device.
 * scale: 0 with other precisions.
 */
#define HD_LOSS_SCALE_START 65536.0f
#define HD_LOSS_SCALE_INTERVAL 2000
hd_status hd_model_get_loss_scale(const hd_model *model, float *scale, int32_t *good_steps);
hd_status hd_model_set_loss_scale(hd_model *model, float scale, int32_t good_steps);

#endif
