/* SPDX-License-Identifier: Apache-2.0 */
/* The backbone sizes and the parameter table: names and shapes are timm's. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/model/convnext.h"

#define INIT_STD 0.02f

/* Depths and widths: timm, convnext.py (atto to nano: R. Wightman; tiny to xlarge: Liu et al. 2022, section 3). */
static const hd_backbone backbones[] = {
        {"atto", {2, 2, 6, 2}, {40, 80, 160, 320}, true},
        {"femto", {2, 2, 6, 2}, {48, 96, 192, 384}, true},
        {"pico", {2, 2, 6, 2}, {64, 128, 256, 512}, true},
        {"nano", {2, 2, 8, 2}, {80, 160, 320, 640}, true},
        {"tiny", {3, 3, 9, 3}, {96, 192, 384, 768}, false},
        {"small", {3, 3, 27, 3}, {96, 192, 384, 768}, false},
        {"base", {3, 3, 27, 3}, {128, 256, 512, 1024}, false},
        {"large", {3, 3, 27, 3}, {192, 384, 768, 1536}, false},
        {"xlarge", {3, 3, 27, 3}, {256, 512, 1024, 2048}, false},
};

const hd_backbone *hd_backbone_list(int *count)
{
	*count = (int)(sizeof backbones / sizeof *backbones);
	return backbones;
}

const hd_backbone *hd_backbone_find(const char *name)
{
	for (size_t i = 0; i < sizeof backbones / sizeof *backbones; i++)
		if (!strcmp(backbones[i].name, name))
			return &backbones[i];
	return NULL;
}

typedef struct builder {
	hd_model *model;
	size_t capacity;
	float lr_scale; /* of the parameters that come next */
	int blocks;     /* of all stages together */
	hd_status status;
} builder;

/* Appends one parameter and returns its index; after a failure it does nothing and returns 0. */
static int add(builder *b, hd_layout layout, float init_std, int ndim, const int64_t *shape, const char *format, ...)
        __attribute__((format(printf, 6, 7)));
static int add(builder *b, hd_layout layout, float init_std, int ndim, const int64_t *shape, const char *format, ...)
{
	hd_model *model = b->model;
	if (b->status == HD_OK)
		b->status = hd_grow(
		        &model->parameters, &b->capacity, (size_t)model->parameter_count + 1, sizeof(hd_parameter));
	if (b->status != HD_OK)
		return 0;
	hd_parameter *p = &model->parameters[model->parameter_count];
	va_list args;
	va_start(args, format);
	vsnprintf(p->name, sizeof p->name, format, args);
	va_end(args);
	p->ndim = ndim;
	p->size = 1;
	for (int d = 0; d < ndim; d++)
		p->size *= p->shape[d] = shape[d];
	p->layout = layout;
	p->init_std = init_std;
	p->decay = ndim > 1;
	p->trained = true;
	p->lr_scale = b->lr_scale;
	p->offset = model->flat_size;
	model->flat_size += (p->size + HD_CHUNK - 1) / HD_CHUNK * HD_CHUNK;
	return model->parameter_count++;
}

static hd_norm_params add_norm(builder *b, int64_t C, const char *prefix)
{
	hd_norm_params norm;
	norm.weight = add(b, HD_LAYOUT_PLAIN, -1, 1, &C, "%s.weight", prefix);
	norm.bias = add(b, HD_LAYOUT_PLAIN, 0, 1, &C, "%s.bias", prefix);
	return norm;
}

static hd_linear_params add_weight(builder *b, hd_layout layout, int ndim, const int64_t *shape, const char *prefix)
{
	hd_linear_params linear;
	linear.weight = add(b, layout, INIT_STD, ndim, shape, "%s.weight", prefix);
	linear.bias = add(b, HD_LAYOUT_PLAIN, 0, 1, shape, "%s.bias", prefix);
	return linear;
}

static hd_linear_params add_linear(builder *b, int64_t K, int64_t C, bool as_conv, const char *prefix)
{
	return add_weight(b, HD_LAYOUT_PLAIN, as_conv ? 4 : 2, (int64_t[]){K, C, 1, 1}, prefix);
}

static void add_block(builder *b, hd_block *block, int64_t C, bool conv_mlp, const char *prefix)
{
	char name[48];
	snprintf(name, sizeof name, "%s.conv_dw", prefix);
	block->dw = add_weight(b, HD_LAYOUT_DEPTHWISE, 4, (int64_t[]){C, 1, 7, 7}, name);
	snprintf(name, sizeof name, "%s.norm", prefix);
	block->norm = add_norm(b, C, name);
	snprintf(name, sizeof name, "%s.mlp.fc1", prefix);
	block->fc1 = add_linear(b, HD_MLP_RATIO * C, C, conv_mlp, name);
	snprintf(name, sizeof name, "%s.mlp.fc2", prefix);
	block->fc2 = add_linear(b, C, HD_MLP_RATIO * C, conv_mlp, name);
	block->gamma = add(b, HD_LAYOUT_PLAIN, -2, 1, &C, "%s.gamma", prefix);
}

/*
 * Layer-wise decay of the learning rate in timm's groups (timm, optim/_param_groups.py, param_groups_layer_decay): the
 * stem, then each block, a stage's downsampling with its first; what follows the blocks has factor 1.
 */
static void enter_block(builder *b, int block)
{
	b->lr_scale = (float)pow((double)b->model->config.layer_decay, b->blocks - block);
}

static void add_stage(builder *b, int s)
{
	const hd_backbone *backbone = &b->model->config.backbone;
	hd_stage *stage = &b->model->stages[s];
	char name[48];
	int64_t C = backbone->widths[s];
	int before = 0;
	for (int earlier = 0; earlier < s; earlier++)
		before += backbone->depths[earlier];
	enter_block(b, s == 0 ? -1 : before);
	if (s == 0) {
		stage->conv = add_weight(b, HD_LAYOUT_PATCH, 4,
		        (int64_t[]){C, b->model->config.channels, HD_STEM_PATCH, HD_STEM_PATCH}, "stem.0");
		stage->norm = add_norm(b, C, "stem.1");
	} else {
		int64_t C_before = backbone->widths[s - 1];
		snprintf(name, sizeof name, "stages.%d.downsample.0", s);
		stage->norm = add_norm(b, C_before, name);
		snprintf(name, sizeof name, "stages.%d.downsample.1", s);
		stage->conv =
		        add_weight(b, HD_LAYOUT_PATCH, 4, (int64_t[]){C, C_before, HD_DOWN_PATCH, HD_DOWN_PATCH}, name);
	}
	stage->C = C;
	stage->depth = backbone->depths[s];
	if (b->status == HD_OK)
		b->status = hd_alloc(&stage->blocks, (size_t)stage->depth, sizeof(hd_block));
	for (int i = 0; b->status == HD_OK && i < stage->depth; i++) {
		stage->blocks[i].number = before + i;
		enter_block(b, before + i);
		snprintf(name, sizeof name, "stages.%d.blocks.%d", s, i);
		add_block(b, &stage->blocks[i], C, backbone->conv_mlp, name);
	}
}

static int add_running(builder *b, float init, int64_t C, const char *prefix, const char *what)
{
	int index = add(b, HD_LAYOUT_PLAIN, init, 1, &C, "%s.%s", prefix, what);
	if (b->status == HD_OK) {
		b->model->parameters[index].trained = false;
		b->model->parameters[index].lr_scale = 0;
	}
	return index;
}

static void add_head(builder *b, hd_head *head, int64_t C, const char *prefix)
{
	const hd_model_config *c = &b->model->config;
	char name[48];
	for (int i = 0; i <= c->head_layers; i++) {
		int64_t K = i < c->head_layers ? c->head_widths[i] : 2;
		snprintf(name, sizeof name, "%s.fc%d", prefix, i + 1);
		head->fc[i] = add_linear(b, K, C, false, name);
		if (i == c->head_layers)
			break;
		snprintf(name, sizeof name, "%s.norm%d", prefix, i + 1);
		head->norm[i] = add_norm(b, K, name);
		if (c->head_norm == HD_HEAD_NORM_BATCH) {
			head->running[i].weight = add_running(b, 0, K, name, "running_mean");
			head->running[i].bias = add_running(b, -1, K, name, "running_var");
		}
		C = K;
	}
}

hd_status hd_model_build_parameters(hd_model *model)
{
	builder b = {.model = model, .status = HD_OK};
	for (int s = 0; s < HD_STAGES; s++)
		b.blocks += model->config.backbone.depths[s];
	for (int s = 0; s < HD_STAGES; s++)
		add_stage(&b, s);
	b.lr_scale = 1;
	int64_t D = model->config.backbone.widths[HD_STAGES - 1];
	model->final_norm = add_norm(&b, D, "head.norm");
	model->heads_from = model->flat_size;
	model->trained_from = model->config.frozen ? model->heads_from : 0;
	model->frozen = model->config.frozen;
	add_head(&b, &model->heads[0], D, "position_head");
	add_head(&b, &model->heads[1], D, "uncertainty_head");
	return b.status;
}
