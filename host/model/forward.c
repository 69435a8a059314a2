/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass and the loss, operation by operation. */
#include "host/model/convnext.h"

/* Of maps. */
static hd_status linear(
        const hd_model *m, void *y, const void *x, hd_linear_params p, int64_t rows, int64_t C, int64_t K)
{
	return m->backend->ops.linear_fwd(y, x, hd_model_product_weight(m, p.weight),
	        hd_model_product_weight(m, p.bias), m->dtype, rows, C, K, m->stream);
}

static hd_status norm(const hd_model *m, void *y, float *mean, float *rstd, const void *x, hd_norm_params p,
        hd_dtype dtype, int64_t rows, int64_t C)
{
	return m->backend->ops.layernorm_fwd(y, mean, rstd, x, hd_model_weight(m, p.weight), hd_model_weight(m, p.bias),
	        HD_NORM_EPS, dtype, rows, C, m->stream);
}

/* The stage's convolution over patches of x (N,H,W,C). */
static hd_status patch_conv(
        const hd_model *m, const hd_stage *st, const void *x, int64_t H, int64_t W, int64_t C, int64_t patch)
{
	hd_status status;
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch;
	if (hd_model_convolves(m))
		return ops->patch_conv_fwd(st->conv_out, x, hd_model_product_weight(m, st->conv.weight),
		        hd_model_product_weight(m, st->conv.bias), st->cols, m->dtype, N, H, W, C, st->C, patch,
		        m->stream);
	status = ops->patch_gather(st->cols, x, m->dtype, N, H, W, C, patch, m->stream);
	if (status == HD_OK)
		status = linear(m, st->conv_out, st->cols, st->conv, N * st->P, patch * patch * C, st->C);
	return status;
}

static hd_status stem(hd_model *m, hd_stage *st)
{
	hd_status status;
	const hd_model_config *c = &m->config;
	int64_t rows = c->batch * st->P;
	status = patch_conv(m, st, m->io.input, c->height, c->width, c->channels, HD_STEM_PATCH);
	if (status == HD_OK)
		status = norm(m, st->norm_out, st->mean, st->rstd, st->conv_out, st->norm, m->dtype, rows, st->C);
	st->out = st->norm_out;
	return status;
}

static hd_status downsample(hd_model *m, hd_stage *st, const hd_stage *before)
{
	hd_status status;
	int64_t N = m->config.batch;
	status = norm(m, st->norm_out, st->mean, st->rstd, st->in, st->norm, m->dtype, N * before->P, before->C);
	if (status == HD_OK)
		status = patch_conv(m, st, st->norm_out, before->H, before->W, before->C, HD_DOWN_PATCH);
	st->out = st->conv_out;
	return status;
}

/* Depthwise convolution and norm, in one pass where the back end has it. What the norm read is kept for backward. */
static hd_status mix_positions(const hd_model *m, const hd_stage *stage, const hd_block *b, const void *x)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch, H = stage->H, W = stage->W, C = stage->C;
	const float *k = hd_model_weight(m, b->dw.weight), *bias = hd_model_weight(m, b->dw.bias);
	if (ops->dwconv7_layernorm_fwd)
		return ops->dwconv7_layernorm_fwd(b->norm_out, hd_model_keeps_no_maps(m) ? NULL : b->dw_out, b->mean,
		        b->rstd, x, k, bias, hd_model_weight(m, b->norm.weight), hd_model_weight(m, b->norm.bias),
		        HD_NORM_EPS, m->dtype, N, H, W, C, m->stream);
	HD_TRY(ops->dwconv7_fwd(b->dw_out, x, k, bias, m->dtype, N, H, W, C, m->stream));
	HD_TRY(norm(m, b->norm_out, b->mean, b->rstd, b->dw_out, b->norm, m->dtype, N * stage->P, C));
done:
	return st;
}

hd_status hd_model_block_inside(const hd_model *m, const hd_stage *stage, const hd_block *b, const void *x)
{
	hd_status st;
	int64_t C = stage->C, rows = m->config.batch * stage->P;
	HD_TRY(mix_positions(m, stage, b, x));
	HD_TRY(linear(m, b->h, b->norm_out, b->fc1, rows, C, HD_MLP_RATIO * C));
	HD_TRY(m->backend->ops.gelu_fwd(b->g, b->h, m->config.gelu, m->dtype, rows * HD_MLP_RATIO * C, m->stream));
	HD_TRY(linear(m, b->branch, b->g, b->fc2, rows, HD_MLP_RATIO * C, C));
done:
	return st;
}

static hd_status block_forward(const hd_model *m, const hd_stage *stage, const hd_block *b, const void *x)
{
	hd_status st;
	HD_TRY(hd_model_block_inside(m, stage, b, x));
	HD_TRY(m->backend->ops.scale_residual_fwd(b->y, b->branch, x, hd_model_weight(m, b->gamma), hd_model_path(m, b),
	        m->dtype, m->config.batch, stage->P, stage->C, m->stream));
done:
	return st;
}

static hd_status head_norm(hd_model *m, hd_head *h, int i, bool training)
{
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch, C = m->config.head_widths[i];
	const float *gamma = hd_model_weight(m, h->norm[i].weight), *bias = hd_model_weight(m, h->norm[i].bias);
	if (m->config.head_norm == HD_HEAD_NORM_LAYER)
		return norm(m, h->norm_out[i], h->mean[i], h->rstd[i], h->fc_out[i], h->norm[i], HD_F32, N, C);
	float *running_mean = hd_model_weight(m, h->running[i].weight),
	      *running_var = hd_model_weight(m, h->running[i].bias);
	if (!training)
		return ops->batchnorm_apply(h->norm_out[i], h->fc_out[i], running_mean, running_var, gamma, bias,
		        HD_BATCH_NORM_EPS, N, C, m->stream);
	return ops->batchnorm_fwd(h->norm_out[i], h->mean[i], h->rstd[i], running_mean, running_var, h->fc_out[i],
	        gamma, bias, m->io.weight, HD_BATCH_NORM_MOMENTUM, HD_BATCH_NORM_EPS, N, C, m->stream);
}

static hd_status head_linear(
        const hd_model *m, float *y, const float *x, hd_linear_params p, int64_t rows, int64_t C, int64_t K)
{
	return m->backend->ops.linear_fwd(
	        y, x, hd_model_weight(m, p.weight), hd_model_weight(m, p.bias), HD_F32, rows, C, K, m->stream);
}

/* first_layer: keeps the dropout of this head's layers apart from other layers'. */
static hd_status head_forward(hd_model *m, hd_head *h, int first_layer, bool training)
{
	hd_status st = HD_OK;
	const hd_model_config *c = &m->config;
	int64_t N = c->batch, C = c->backbone.widths[HD_STAGES - 1];
	const float *x = m->final_out;
	for (int i = 0; i < c->head_layers; i++) {
		int64_t K = c->head_widths[i];
		HD_TRY(head_linear(m, h->fc_out[i], x, h->fc[i], N, C, K));
		HD_TRY(head_norm(m, h, i, training));
		HD_TRY(m->backend->ops.relu_dropout_fwd(h->act[i], h->norm_out[i], m->io.key, m->io.sample,
		        (uint32_t)(first_layer + i), training ? c->dropout : 0.0f, N, K, m->stream));
		x = h->act[i];
		C = K;
	}
	HD_TRY(head_linear(m, h->out, x, h->fc[c->head_layers], N, C, 2));
done:
	return st;
}

hd_status hd_model_queue_forward(hd_model *model, bool training)
{
	hd_status st = HD_OK;
	int64_t N = model->config.batch, D = model->config.backbone.widths[HD_STAGES - 1];
	void *x = model->io.input;
	model->trained_forward = training;
	if (training && model->config.drop_path > 0)
		HD_TRY(model->backend->ops.drop_path_scale(model->path_scale, model->path_rate, model->io.key,
		        model->io.sample, hd_model_block_count(model), N, model->stream));
	for (int s = 0; s < HD_STAGES; s++) {
		hd_stage *stage = &model->stages[s];
		stage->in = x;
		HD_TRY(hd_model_await_block(model, stage->blocks[0].number));
		HD_TRY(s == 0 ? stem(model, stage) : downsample(model, stage, &model->stages[s - 1]));
		x = stage->out;
		for (int i = 0; i < stage->depth; i++) {
			HD_TRY(hd_model_await_block(model, stage->blocks[i].number));
			HD_TRY(block_forward(model, stage, &stage->blocks[i], x));
			x = stage->blocks[i].y;
		}
	}
	HD_TRY(hd_model_end_update(model));
	HD_TRY(model->backend->ops.pool_fwd(
	        model->pooled, x, model->dtype, N, model->stages[HD_STAGES - 1].P, D, model->stream));
	HD_TRY(norm(model, model->final_out, model->final_mean, model->final_rstd, model->pooled, model->final_norm,
	        HD_F32, N, D));
	for (int i = 0; i < HD_HEADS; i++)
		HD_TRY(head_forward(model, &model->heads[i], model->config.head_layers * i, training));
done:
	return st;
}

hd_status hd_model_forward(hd_model *model, bool training)
{
	hd_status st;
	HD_TRY(hd_model_settle(model));
	HD_TRY(hd_model_refresh(model));
	HD_TRY(hd_model_queue_forward(model, training));
done:
	return st;
}

hd_status hd_model_queue_loss(hd_model *model)
{
	const hd_model_io *io = &model->io;
	return model->backend->ops.gaussian_nll(io->sums, io->sigma, model->heads[0].dout, model->heads[1].dout,
	        model->heads[0].out, model->heads[1].out, io->target, io->weight, io->label_sigma, &model->config.loss,
	        model->scale, model->loss_scale ? &model->loss_scale->scale : NULL, model->config.batch, model->stream);
}

hd_status hd_model_loss(hd_model *model, float scale)
{
	hd_backend *b = model->backend;
	hd_status st = b->upload(b, model->scale, &scale, sizeof scale, model->stream);
	return st == HD_OK ? hd_model_queue_loss(model) : st;
}
