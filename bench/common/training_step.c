/* SPDX-License-Identifier: Apache-2.0 */
/* The list of operations, in the order of host/model/forward.c and backward.c. */
#include "bench/common/training_step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/model/convnext.h"

#define RADIUS 3 /* of the depthwise kernel */
#define PIECE_PARAMETERS ((int64_t)1 << 20)
#define COPIES 9 /* a batch, of it samples, targets, weights, key; two of scalars; sums and norm back */

typedef struct list {
	hd_training_step *to;
	hd_status status;
	hd_step_phase phase;
	hd_dtype dt; /* of maps */
	double e;    /* its bytes */
	double N;
	int region, stage; /* of what is added */
	bool beside;
} list;

static void add(list *l, hd_step_row row)
{
	hd_training_step *t = l->to;
	row.phase = l->phase;
	row.region = l->region;
	row.stage = l->stage;
	row.beside = l->beside;
	row.calls = row.calls ? row.calls : 1;
	for (size_t i = 0; i < t->count; i++) {
		hd_step_row *r = &t->rows[i];
		if (!strcmp(r->op, row.op) && r->dtype == row.dtype && !memcmp(r->d, row.d, sizeof r->d) &&
		        r->bytes == row.bytes && r->region == row.region && r->stage == row.stage) {
			r->calls += row.calls;
			return;
		}
	}
	if (l->status == HD_OK)
		l->status = hd_grow(&t->rows, &t->capacity, t->count + 1, sizeof *t->rows);
	if (l->status == HD_OK)
		t->rows[t->count++] = row;
}

/* A kernel over maps: `maps` of them of `rows` x C in dt, `fresh` of these; other: bytes of all else. */
static void stream(list *l, const char *op, const char *dims, const int64_t *d, double values, int maps, int fresh,
        double other, double flops, int launches)
{
	hd_step_row row = {.op = op, .dims = dims, .dtype = l->dt, .class = HD_CLASS_STREAM, .launches = launches};
	memcpy(row.d, d, sizeof row.d);
	row.bytes = maps * values * l->e + other;
	row.fresh = fresh * values * l->e;
	row.flops = flops * values;
	add(l, row);
}

#define D(...) ((const int64_t[HD_STEP_DIMS]){__VA_ARGS__})

/* ---- products ---- */

/* Heads are float whatever the maps are. bias: with its gradient, a column sum of two launches. */
static void product(list *l, const char *op, hd_dtype dt, int64_t rows, int64_t C, int64_t K, bool bias)
{
	double e = (double)hd_dtype_bytes(dt), x = (double)(rows * C), y = (double)(rows * K), w = (double)(C * K);
	hd_step_row row = {.op = op, .dims = "rows C K", .d = {rows, C, K}, .dtype = dt, .class = HD_CLASS_PRODUCT};
	row.launches = bias ? 3 : 1;
	row.flops = row.counted = 2 * (double)rows * w;
	if (!strcmp(op, "linear_fwd")) {
		row.bytes = e * (x + y + w + (double)K);
		row.fresh = e * x;
		row.m = rows, row.n = K, row.k = C;
	} else if (!strcmp(op, "linear_bwd_data")) {
		row.bytes = e * (x + y + w);
		row.fresh = e * y;
		row.m = rows, row.n = C, row.k = K;
	} else {
		row.bytes = e * (x + y) + 4 * w;
		row.fresh = e * y;
		row.m = K, row.n = C, row.k = rows;
	}
	add(l, row);
}

/* As patches and a product: the patches are written and read again. */
static void patch_conv(list *l, const char *op, int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p)
{
	int64_t rows = N * (H / p) * (W / p), columns = p * p * C;
	double map = (double)(N * H * W * C), patches = (double)(rows * columns), y = (double)(rows * K),
	       w = (double)(columns * K);
	bool weight = !strcmp(op, "patch_conv_bwd_weight"), data = !strcmp(op, "patch_conv_bwd_data");
	hd_step_row row = {.op = op,
	        .dims = "N H W C K p",
	        .d = {N, H, W, C, K, p},
	        .dtype = l->dt,
	        .class = HD_CLASS_PRODUCT,
	        .launches = weight ? 4 : 2}; /* the bias gradient is a column sum of two */
	row.bytes = l->e * (map + 2 * patches + y + (weight ? y : w)) + (weight ? 4 * w : 0);
	row.fresh = l->e * ((weight || data ? y : map) + patches);
	row.flops = row.counted = 2 * (double)rows * w;
	row.m = weight ? K : rows;
	row.n = weight || data ? columns : K;
	row.k = weight ? rows : data ? K : columns;
	add(l, row);
}

/* ---- depthwise convolution ---- */

/* Pairs of a position and a tap that falls inside, along one axis. */
static double taps_inside(int64_t length)
{
	double inside = 0;
	for (int64_t at = 0; at < length; at++)
		for (int64_t tap = at - RADIUS; tap <= at + RADIUS; tap++)
			inside += tap >= 0 && tap < length;
	return inside;
}

static void depthwise(list *l, const char *op, const hd_stage *s, int maps, int fresh, double other, int launches)
{
	double values = l->N * (double)(s->P * s->C);
	hd_step_row row = {.op = op,
	        .dims = "N H W C",
	        .d = {(int64_t)l->N, s->H, s->W, s->C},
	        .dtype = l->dt,
	        .class = HD_CLASS_DEPTHWISE,
	        .launches = launches};
	row.bytes = maps * values * l->e + other;
	row.fresh = fresh * values * l->e;
	row.flops = 2 * l->N * (double)s->C * taps_inside(s->H) * taps_inside(s->W);
	row.counted = 2 * HD_DEPTHWISE_TAPS * values;
	add(l, row);
}

/* ---- parts of the model ---- */

static void norm_forward(list *l, int64_t rows, int64_t C)
{
	double values = (double)(rows * C);
	stream(l, "layernorm_fwd", "rows C", D(rows, C), values, 2, 1, 8.0 * (double)(rows + C), 8, 1);
}

static void norm_backward(list *l, int64_t rows, int64_t C)
{
	double values = (double)(rows * C);
	stream(l, "layernorm_bwd", "rows C", D(rows, C), values, 3, 1, 8.0 * (double)rows + 12.0 * (double)C, 14, 1);
}

static void block_forward(list *l, const hd_stage *s)
{
	int64_t N = (int64_t)l->N, C = s->C, rows = N * s->P, wide = HD_MLP_RATIO * C;
	double values = (double)(rows * C);
	depthwise(
	        l, "dwconv7_layernorm_fwd", s, 3, 1, 8.0 * (double)rows + 4.0 * (HD_DEPTHWISE_TAPS + 3) * (double)C, 1);
	product(l, "linear_fwd", l->dt, rows, C, wide, false);
	stream(l, "gelu_fwd", "n", D(rows * wide), values * HD_MLP_RATIO, 2, 1, 0, 30, 1);
	product(l, "linear_fwd", l->dt, rows, wide, C, false);
	stream(l, "scale_residual_fwd", "N P C", D(N, s->P, C), values, 3, 1, 4.0 * (double)C, 3, 1);
}

static void block_backward(list *l, const hd_stage *s)
{
	int64_t N = (int64_t)l->N, C = s->C, rows = N * s->P, wide = HD_MLP_RATIO * C;
	double values = (double)(rows * C);
	list beside = *l;
	beside.beside = true;
	stream(l, "scale_residual_bwd", "N P C", D(N, s->P, C), values, 3, 1, 12.0 * (double)C, 4, 1);
	product(&beside, "linear_bwd_weight", l->dt, rows, wide, C, false);
	product(l, "linear_bwd_data", l->dt, rows, wide, C, false);
	stream(l, "gelu_bwd", "rows C", D(rows, wide), values * HD_MLP_RATIO, 3, 1, 4.0 * (double)wide, 31, 1);
	product(&beside, "linear_bwd_weight", l->dt, rows, C, wide, false);
	product(l, "linear_bwd_data", l->dt, rows, C, wide, false);
	norm_backward(l, rows, C);
	depthwise(&beside, "dwconv7_bwd_weight", s, 2, 1, 4.0 * (HD_DEPTHWISE_TAPS + 1) * (double)C, 2);
	depthwise(l, "dwconv7_bwd_data", s, 3, 1, 4.0 * HD_DEPTHWISE_TAPS * (double)C, 1);
	l->status = l->status == HD_OK ? beside.status : l->status;
}

/* The stem, or what stands between two stages: norm and convolution change places. */
static void stage_forward(list *l, const hd_model_config *c, const hd_stage *stages, int s)
{
	const hd_stage *stage = &stages[s];
	int64_t N = c->batch;
	if (s == 0) {
		patch_conv(l, "patch_conv_fwd", N, c->height, c->width, c->channels, stage->C, HD_STEM_PATCH);
		norm_forward(l, N * stage->P, stage->C);
	} else {
		const hd_stage *before = stage - 1;
		norm_forward(l, N * before->P, before->C);
		patch_conv(l, "patch_conv_fwd", N, before->H, before->W, before->C, stage->C, HD_DOWN_PATCH);
	}
	for (int i = 0; i < stage->depth; i++)
		block_forward(l, stage);
}

static void stage_backward(list *l, const hd_model_config *c, const hd_stage *stages, int s)
{
	const hd_stage *stage = &stages[s];
	int64_t N = c->batch;
	l->region = HD_REGION_STAGE + s;
	for (int i = 0; i < stage->depth; i++)
		block_backward(l, stage);
	l->region = HD_REGION_ALONE;
	if (s == 0) {
		norm_backward(l, N * stage->P, stage->C);
		patch_conv(l, "patch_conv_bwd_weight", N, c->height, c->width, c->channels, stage->C, HD_STEM_PATCH);
		return;
	}
	const hd_stage *before = stage - 1;
	patch_conv(l, "patch_conv_bwd_weight", N, before->H, before->W, before->C, stage->C, HD_DOWN_PATCH);
	patch_conv(l, "patch_conv_bwd_data", N, before->H, before->W, before->C, stage->C, HD_DOWN_PATCH);
	norm_backward(l, N * before->P, before->C);
}

static void heads(list *l, const hd_model *m, bool forward)
{
	const hd_model_config *c = &m->config;
	int64_t N = c->batch, D = c->backbone.widths[HD_STAGES - 1];
	for (int head = 0; head < HD_HEADS; head++) {
		int64_t C = D;
		for (int i = 0; i <= c->head_layers; i++) {
			int64_t K = i < c->head_layers ? c->head_widths[i] : 2;
			double values = (double)(N * K);
			if (forward) {
				product(l, "linear_fwd", HD_F32, N, C, K, false);
			} else {
				product(l, "linear_bwd_weight", HD_F32, N, C, K, true);
				product(l, "linear_bwd_data", HD_F32, N, C, K, false);
			}
			if (i < c->head_layers && forward) {
				norm_forward(l, N, K);
				stream(l, "relu_dropout_fwd", "N C", D(N, K), values, 2, 1, 4.0 * (double)N, 2, 1);
			} else if (i < c->head_layers) {
				norm_backward(l, N, K);
				stream(l, "relu_dropout_bwd", "n", D(N * K), values, 3, 1, 0, 2, 1);
			}
			C = K;
		}
	}
}

/* Mean over the map, last norm, heads, loss, and back as far as the map. */
static void behind_the_maps(list *l, const hd_model *m)
{
	int64_t N = m->config.batch, P = m->stages[HD_STAGES - 1].P, C = m->stages[HD_STAGES - 1].C;
	double values = (double)(N * P * C), pooled = 4.0 * (double)(N * C);
	list narrow = *l;
	narrow.dt = HD_F32;
	narrow.e = sizeof(float);
	l->phase = HD_PHASE_FORWARD;
	stream(l, "pool_fwd", "N P C", D(N, P, C), values, 1, 1, pooled, 1, 1);
	narrow.phase = HD_PHASE_FORWARD;
	norm_forward(&narrow, N, C);
	heads(&narrow, m, true);
	stream(&narrow, "gaussian_nll", "N", D(N), (double)N, 14, 4, 16, 40, 1);
	narrow.phase = HD_PHASE_BACKWARD;
	heads(&narrow, m, false);
	stream(&narrow, "add", "n", D(N * C), (double)(N * C), 3, 2, 0, 1, 1);
	norm_backward(&narrow, N, C);
	l->phase = HD_PHASE_BACKWARD;
	stream(l, "pool_bwd", "N P C", D(N, P, C), values, 1, 0, pooled, 1, 1);
	l->status = l->status == HD_OK ? narrow.status : l->status;
}

/* Where a block's parameters begin, a stage's first with what stands before it. */
static int64_t block_start(const hd_model *m, int s, int i)
{
	const hd_stage *stage = &m->stages[s];
	int first = i ? stage->blocks[i].dw.weight : s ? stage->norm.weight : stage->conv.weight;
	return m->parameters[first].offset;
}

/* The pieces of host/model/optimizer.c. */
static void cut(hd_training_step *to, const hd_model *m)
{
	int64_t start = 0, all = m->flat_size;
	int waiting = 0; /* stages whose first block's piece has not ended */
	for (int s = 0; s < HD_STAGES; s++) {
		hd_step_stage *stage = &to->stage[s];
		int64_t from = block_start(m, s, 0), end = s + 1 < HD_STAGES ? block_start(m, s + 1, 0) : m->heads_from;
		*stage = (hd_step_stage){.depth = m->stages[s].depth, .parameters = (double)(end - from) / (double)all};
		for (int i = 0; i < stage->depth; i++) {
			int64_t at = block_start(m, s, i);
			if (at - start < PIECE_PARAMETERS)
				continue;
			to->pieces++;
			for (; waiting < s + (i > 0); waiting++)
				to->stage[waiting].first_piece =
				        (double)(at - block_start(m, waiting, 0)) / (double)all;
			start = at;
		}
	}
	to->pieces++;
	for (; waiting < HD_STAGES; waiting++)
		to->stage[waiting].first_piece = (double)(all - block_start(m, waiting, 0)) / (double)all;
}

static void optimizer(list *l, const hd_model *m)
{
	int64_t n = m->flat_size - m->trained_from;
	list f = *l;
	f.phase = HD_PHASE_STEP;
	f.dt = HD_F32;
	f.e = sizeof(float);
	stream(&f, "sum_squares", "n", D(n), (double)n, 1, 0, 4, 2, 2);
	f.region = HD_REGION_FORWARD;
	f.beside = true;
	/* p, m and v read and written, g read; the copy of the weights written */
	stream(&f, "adamw", "n", D(n), (double)n, 7, 0, l->dt == HD_F32 ? 0 : l->e * (double)n, 20, l->to->pieces);
	l->status = l->status == HD_OK ? f.status : l->status;
}

static void batch(list *l, const hd_model_config *c)
{
	double values = (double)c->batch * c->channels * c->height * c->width;
	hd_step_row copies = {
	        .op = "copies", .dims = "", .dtype = HD_F32, .class = HD_CLASS_SMALL, .calls = COPIES, .launches = 1};
	l->phase = HD_PHASE_BATCH;
	add(l, copies);
	stream(l, "assemble_batch", "N C M T W", D(c->batch, c->channels, c->height, c->width, c->width), values, 1, 0,
	        2 * values, 2, 1);
}

hd_status hd_training_step_list(hd_training_step *out, const hd_model_config *config, hd_dtype dt)
{
	hd_status st;
	/* without a back end: the table of parameters and the maps' sizes are all that is asked of it */
	hd_model m = {.config = *config};
	list l = {.to = out, .dt = dt, .e = (double)hd_dtype_bytes(dt), .N = config->batch};
	*out = (hd_training_step){NULL};
	HD_TRY(hd_model_build_parameters(&m));
	for (int s = 0; s < HD_STAGES; s++) {
		int patch = s ? HD_DOWN_PATCH : HD_STEM_PATCH;
		m.stages[s].H = (s ? m.stages[s - 1].H : config->height) / patch;
		m.stages[s].W = (s ? m.stages[s - 1].W : config->width) / patch;
		m.stages[s].P = m.stages[s].H * m.stages[s].W;
	}
	cut(out, &m);
	batch(&l, config);
	l.phase = HD_PHASE_FORWARD;
	l.region = HD_REGION_FORWARD;
	for (l.stage = 0; l.stage < HD_STAGES; l.stage++)
		stage_forward(&l, &m.config, m.stages, l.stage);
	l.region = HD_REGION_ALONE;
	l.stage = 0;
	behind_the_maps(&l, &m);
	l.phase = HD_PHASE_BACKWARD;
	for (int s = HD_STAGES - 1; s >= 0; s--)
		stage_backward(&l, &m.config, m.stages, s);
	optimizer(&l, &m);
	st = l.status;
done:
	for (int s = 0; s < HD_STAGES; s++)
		free(m.stages[s].blocks);
	free(m.parameters);
	return st;
}

void hd_training_step_free(hd_training_step *step)
{
	free(step->rows);
	*step = (hd_training_step){NULL};
}

void hd_step_row_text(char *out, size_t bytes, const hd_step_row *row)
{
	size_t at = 0;
	const char *name = row->dims;
	out[0] = 0;
	for (int i = 0; i < HD_STEP_DIMS && *name && at < bytes; i++) {
		int length = (int)strcspn(name, " ");
		at += (size_t)snprintf(out + at, bytes - at, "%s%.*s=%ld", i ? " " : "", length, name, (long)row->d[i]);
		name += length + (name[length] == ' ');
	}
}
