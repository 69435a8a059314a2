/* SPDX-License-Identifier: Apache-2.0 */
/* The static plan: every buffer of parameters, activations and gradients as an offset into one allocation. */
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/model/convnext.h"

#define ALIGN_BYTES 64

typedef struct planner {
	hd_model *model;
	hd_status status;
	int stage; /* that buffers are registered for; -1: none */
} planner;

/* Registers a buffer of `count` 4-byte elements, of a map's elements, of bytes. */
#define want(p, where, count) want_named(p, #where, where, (size_t)(count) * sizeof(float))
#define want_map(p, where, count) want_named(p, #where, where, (size_t)(count)*hd_dtype_bytes((p)->model->dtype))
#define want_bytes(p, where, bytes) want_named(p, #where, where, bytes)
static void want_named(planner *p, const char *name, void *where, size_t bytes)
{
	hd_model *m = p->model;
	if (p->status == HD_OK)
		p->status = hd_grow(&m->buffers, &m->buffer_capacity, m->buffer_count + 1, sizeof(hd_buffer));
	if (p->status != HD_OK)
		return;
	m->buffers[m->buffer_count++] = (hd_buffer){
	        .where = (void **)where, .name = name, .stage = p->stage, .bytes = bytes, .offset = m->plan_bytes};
	m->plan_bytes += (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static int64_t max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* What backward reads of a block's inside; map: elements of its output. */
static void want_inside(planner *p, hd_block *block, int64_t rows, int64_t map)
{
	want_map(p, &block->dw_out, map);
	want_map(p, &block->norm_out, map);
	want(p, &block->mean, rows);
	want(p, &block->rstd, rows);
	want_map(p, &block->h, HD_MLP_RATIO * map);
	want_map(p, &block->g, HD_MLP_RATIO * map);
	want_map(p, &block->branch, map);
}

static void want_stage(planner *p, int s, int64_t N)
{
	hd_model *m = p->model;
	hd_stage *stage = &m->stages[s];
	int64_t rows = N * stage->P;
	bool keeps_patches = !hd_model_convolves(m);
	if (s == 0) {
		if (keeps_patches)
			want_map(p, &stage->cols, rows * HD_STEM_PATCH * HD_STEM_PATCH * m->config.channels);
		want_map(p, &stage->conv_out, rows * stage->C);
		want(p, &stage->mean, rows);
		want(p, &stage->rstd, rows);
		want_map(p, &stage->norm_out, rows * stage->C);
	} else {
		hd_stage *before = &m->stages[s - 1];
		int64_t rows_before = N * before->P;
		want(p, &stage->mean, rows_before);
		want(p, &stage->rstd, rows_before);
		want_map(p, &stage->norm_out, rows_before * before->C);
		if (keeps_patches)
			want_map(p, &stage->cols, rows * HD_DOWN_PATCH * HD_DOWN_PATCH * before->C);
		want_map(p, &stage->conv_out, rows * stage->C);
	}
	for (int i = 0; i < stage->depth; i++) {
		if (!m->config.gradient_checkpointing)
			want_inside(p, &stage->blocks[i], rows, rows * stage->C);
		want_map(p, &stage->blocks[i].y, rows * stage->C);
	}
}

static void want_head(planner *p, hd_head *head, int64_t N)
{
	const hd_model_config *c = &p->model->config;
	for (int i = 0; i < c->head_layers; i++) {
		int64_t C = c->head_widths[i], statistics = c->head_norm == HD_HEAD_NORM_BATCH ? C : N;
		want(p, &head->fc_out[i], N * C);
		want(p, &head->norm_out[i], N * C);
		want(p, &head->mean[i], statistics);
		want(p, &head->rstd[i], statistics);
		want(p, &head->act[i], N * C);
	}
	want(p, &head->out, N * 2);
	want(p, &head->dout, N * 2);
}

static int64_t widest_head(const hd_model_config *c)
{
	int64_t widest = 0;
	for (int i = 0; i < c->head_layers; i++)
		widest = max64(widest, c->head_widths[i]);
	return widest;
}

/* Of a stage's patch convolution: the map that it reads and the patch. */
typedef struct patches {
	int64_t H, W, C, patch;
} patches;

static patches patches_of(const hd_model *m, int s)
{
	const hd_stage *before = s > 0 ? &m->stages[s - 1] : NULL;
	if (before)
		return (patches){before->H, before->W, before->C, HD_DOWN_PATCH};
	return (patches){m->config.height, m->config.width, m->config.channels, HD_STEM_PATCH};
}

static size_t max_bytes(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Scratch of a stage's patch convolution where the back end has it, in bytes; forward alone where nothing runs back. */
static size_t patch_conv_work(const hd_model *m, int s, bool forward_only)
{
	const hd_ops *ops = &m->backend->ops;
	patches x = patches_of(m, s);
	int64_t N = m->config.batch, K = m->stages[s].C;
	if (!hd_model_convolves(m))
		return 0;
	size_t most = ops->patch_conv_fwd_work(N, x.H, x.W, x.C, K, x.patch);
	if (forward_only)
		return most;
	most = max_bytes(most, ops->patch_conv_bwd_data_work(N, x.H, x.W, x.C, K, x.patch));
	return max_bytes(most, ops->patch_conv_bwd_weight_work(N, x.H, x.W, x.C, K, x.patch));
}

/* The largest scratch any operation of a training step of this plan asks for, in bytes. */
static size_t work_bytes(const hd_model *m)
{
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch;
	size_t most = ops->sum_squares_work(m->flat_size - m->trained_from);
#define ATLEAST(call)                                                                                                  \
	do {                                                                                                           \
		most = max_bytes(most, call);                                                                          \
	} while (0)
	int64_t C_before = m->config.channels;
	for (int s = 0; s < HD_STAGES; s++) {
		const hd_stage *st = &m->stages[s];
		int64_t rows = N * st->P, C = st->C;
		int64_t patch = s == 0 ? HD_STEM_PATCH : HD_DOWN_PATCH;
		ATLEAST(ops->linear_bwd_weight_work(rows, patch * patch * C_before, C));
		ATLEAST(ops->linear_bwd_weight_work(rows, C, HD_MLP_RATIO * C));
		ATLEAST(ops->linear_bwd_weight_work(rows, HD_MLP_RATIO * C, C));
		ATLEAST(ops->layernorm_bwd_work(rows, C));
		ATLEAST(ops->layernorm_bwd_work(rows * patch * patch, C_before));
		ATLEAST(ops->dwconv7_bwd_weight_work(N, st->H, st->W, C));
		ATLEAST(patch_conv_work(m, s, false));
		ATLEAST(ops->scale_residual_bwd_work(N, st->P, C));
		ATLEAST(ops->gelu_bwd_work(rows, HD_MLP_RATIO * C));
		C_before = C;
	}
	for (int i = 0; i <= m->config.head_layers; i++) {
		int64_t K = i < m->config.head_layers ? m->config.head_widths[i] : 2;
		ATLEAST(ops->linear_bwd_weight_work(N, C_before, K));
		ATLEAST(ops->layernorm_bwd_work(N, max64(C_before, K)));
		C_before = K;
	}
#undef ATLEAST
	return most;
}

bool hd_model_keeps_no_maps(const hd_model *m)
{
	return m->config.inference || m->config.frozen;
}

/* Most elements of a map, of a widened one or of patches, and most rows. */
typedef struct extents {
	int64_t map, wide, rows;
} extents;

static extents extents_of(const hd_model *m)
{
	int64_t N = m->config.batch, patch = HD_STEM_PATCH * HD_STEM_PATCH;
	extents most = {0};
	if (hd_model_keeps_no_maps(m))
		most.wide = N * m->stages[0].P * patch * m->config.channels;
	for (int s = 0; s < HD_STAGES; s++) {
		const hd_stage *st = &m->stages[s];
		most.map = max64(most.map, N * st->P * st->C);
		most.wide = max64(most.wide, N * st->P * HD_MLP_RATIO * st->C);
		most.rows = max64(most.rows, N * st->P);
		if (s > 0) /* the columns of a 2x2 patch convolution */
			most.wide = max64(most.wide, N * st->P * HD_DOWN_PATCH * HD_DOWN_PATCH * m->stages[s - 1].C);
	}
	return most;
}

/* Gradients of maps; where nothing runs back, the same buffers hold the maps. Heads use them too, in float32. */
static void want_maps(planner *p)
{
	hd_model *m = p->model;
	extents most = extents_of(m);
	int64_t head = m->config.batch * max64(m->config.backbone.widths[HD_STAGES - 1], widest_head(&m->config));
	size_t size = hd_dtype_bytes(m->dtype);
	size_t map = max_bytes((size_t)most.map * size, (size_t)head * sizeof(float)), wide = (size_t)most.wide * size;
	bool keeps = !hd_model_keeps_no_maps(m);
	for (int s = 0; s < HD_STAGES && !keeps; s++)
		wide = max_bytes(wide, patch_conv_work(m, s, true));
	for (int i = 0; i < (hd_model_has_beside(m) ? 2 : 1); i++) {
		want_bytes(p, &m->inside[i].branch, map);
		want_bytes(p, &m->inside[i].wide, wide);
		if (keeps)
			want_bytes(p, &m->inside[i].conv, map);
	}
	want_bytes(p, &m->norm_grad, map);
	want_bytes(p, &m->gelu_grad, wide);
	for (int i = 0; i < 2; i++) {
		want_bytes(p, &m->grad[i], map);
		if (!keeps)
			want(p, &m->row_statistics[i], most.rows);
	}
	if (keeps && m->config.gradient_checkpointing)
		want_inside(p, &m->recomputed, most.rows, most.map);
	if (!m->config.inference)
		want_bytes(p, &m->work, work_bytes(m));
	if (hd_model_has_beside(m))
		want_bytes(p, &m->beside.work, work_bytes(m));
}

static void want_parameters(planner *p)
{
	hd_model *m = p->model;
	want(p, &m->flat[HD_FLAT_WEIGHTS], m->flat_size);
	if (m->dtype != HD_F32)
		want_map(p, &m->narrow, m->flat_size);
	if (!m->config.inference) {
		static const hd_flat trained[] = {HD_FLAT_GRADIENTS, HD_FLAT_MOMENT1, HD_FLAT_MOMENT2};
		for (size_t f = 0; f < sizeof trained / sizeof *trained; f++)
			want(p, &m->flat[trained[f]], m->flat_size - m->trained_from);
		if (m->config.average)
			want(p, &m->flat[HD_FLAT_AVERAGE], m->flat_size);
		want(p, &m->chunk_lr, m->flat_size / HD_CHUNK);
		want(p, &m->chunk_decay, m->flat_size / HD_CHUNK);
	}
	want(p, &m->norm2, 1);
	want(p, &m->scale, 1);
	if (m->dtype == HD_F16)
		want_bytes(p, &m->loss_scale, sizeof *m->loss_scale);
	want(p, &m->skipped, 1);
	for (int i = 0; i < 2; i++)
		want(p, &m->hyper[i], sizeof(hd_adamw_hyper) / sizeof(float));
	m->parameter_bytes = m->plan_bytes;
}

static void want_io(planner *p)
{
	hd_model *m = p->model;
	int64_t N = m->config.batch;
	want_map(p, &m->io.input, N * m->config.height * m->config.width * m->config.channels);
	want(p, &m->io.sample, N);
	want(p, &m->io.target, N * 2);
	want(p, &m->io.weight, N);
	if (m->config.label_sigma)
		want(p, &m->io.label_sigma, N);
	want(p, &m->io.key, sizeof(hd_rng_key) / sizeof(float));
	want(p, &m->io.sigma, N * 2);
	want(p, &m->io.sums, 4);
}

int hd_model_block_count(const hd_model *model)
{
	int count = 0;
	for (int s = 0; s < HD_STAGES; s++)
		count += model->stages[s].depth;
	return count;
}

double hd_model_forward_flops(const hd_model_config *c)
{
	int64_t rows = c->height / HD_STEM_PATCH, columns = c->width / HD_STEM_PATCH;
	double flops = 0, P = (double)(rows * columns), before = c->channels;
	for (int s = 0; s < HD_STAGES; s++) {
		double C = c->backbone.widths[s], patch = s == 0 ? HD_STEM_PATCH : HD_DOWN_PATCH;
		if (s > 0)
			P /= HD_DOWN_PATCH * HD_DOWN_PATCH;
		flops += 2 * P * patch * patch * before * C;
		flops += c->backbone.depths[s] * 2 * P * C * (HD_DEPTHWISE_TAPS + 2 * HD_MLP_RATIO * C);
		before = C;
	}
	for (int i = 0; i <= c->head_layers; i++) {
		double K = i < c->head_layers ? c->head_widths[i] : 2;
		flops += HD_HEADS * 2 * before * K;
		before = K;
	}
	return flops;
}

hd_status hd_model_build_plan(hd_model *model)
{
	planner p = {.model = model, .status = HD_OK, .stage = -1};
	int64_t N = model->config.batch, D = model->config.backbone.widths[HD_STAGES - 1];
	for (int s = 0; s < HD_STAGES; s++) {
		hd_stage *st = &model->stages[s];
		st->H = (s == 0 ? model->config.height / HD_STEM_PATCH : model->stages[s - 1].H / HD_DOWN_PATCH);
		st->W = (s == 0 ? model->config.width / HD_STEM_PATCH : model->stages[s - 1].W / HD_DOWN_PATCH);
		st->P = st->H * st->W;
	}
	want_parameters(&p);
	want_io(&p);
	if (model->config.drop_path > 0) {
		want(&p, &model->path_rate, hd_model_block_count(model));
		want(&p, &model->path_scale, hd_model_block_count(model) * N);
	}
	for (int s = 0; s < HD_STAGES && !hd_model_keeps_no_maps(model); s++) {
		p.stage = s;
		want_stage(&p, s, N);
	}
	p.stage = -1;
	want(&p, &model->pooled, N * D);
	want(&p, &model->final_out, N * D);
	want(&p, &model->final_mean, N);
	want(&p, &model->final_rstd, N);
	for (int i = 0; i < HD_HEADS; i++)
		want_head(&p, &model->heads[i], N);
	want_maps(&p);
	return p.status;
}
