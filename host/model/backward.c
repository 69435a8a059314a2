/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass: the forward pass read from its end. */
#include "host/model/convnext.h"

/* Weight and bias gradient of a linear layer, then (where dx is wanted) the gradient of its input. */
static hd_status linear_back(const hd_model *m, float *dx, const float *dy, const float *x, hd_linear_params p,
        int64_t rows, int64_t C, int64_t K)
{
	const hd_ops *ops = &m->backend->ops;
	hd_status st;
	HD_TRY(ops->linear_bwd_weight(hd_model_gradient(m, p.weight), hd_model_gradient(m, p.bias), dy, x, m->beta,
	        m->work, HD_F32, rows, C, K, m->stream));
	if (dx)
		HD_TRY(ops->linear_bwd_data(dx, dy, hd_model_weight(m, p.weight), HD_F32, rows, C, K, m->stream));
done:
	return st;
}

static hd_status norm_back(const hd_model *m, float *dx, const float *dy, const float *x, const float *mean,
        const float *rstd, hd_norm_params p, int64_t rows, int64_t C)
{
	return m->backend->ops.layernorm_bwd(dx, hd_model_gradient(m, p.weight), hd_model_gradient(m, p.bias), dy, x,
	        mean, rstd, hd_model_weight(m, p.weight), m->beta, m->work, HD_F32, rows, C, m->stream);
}

/* Gradient of the block's output in m->grad[0]; that of its input x is left there. */
static hd_status block_backward(hd_model *m, const hd_stage *stage, hd_block *b, const float *x)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch, C = stage->C, rows = N * stage->P;
	HD_TRY(ops->scale_residual_bwd(m->branch_grad[0], hd_model_gradient(m, b->gamma), m->grad[0], b->branch,
	        hd_model_weight(m, b->gamma), hd_model_path(m, b), m->beta, m->work, HD_F32, N, stage->P, C,
	        m->stream));
	HD_TRY(linear_back(m, m->wide_grad[0], m->branch_grad[0], b->g, b->fc2, rows, HD_MLP_RATIO * C, C));
	HD_TRY(ops->gelu_bwd(
	        m->wide_grad[1], m->wide_grad[0], b->h, m->config.gelu, HD_F32, rows * HD_MLP_RATIO * C, m->stream));
	HD_TRY(linear_back(m, m->branch_grad[0], m->wide_grad[1], b->norm_out, b->fc1, rows, C, HD_MLP_RATIO * C));
	HD_TRY(norm_back(m, m->branch_grad[1], m->branch_grad[0], b->dw_out, b->mean, b->rstd, b->norm, rows, C));
	HD_TRY(ops->dwconv7_bwd_weight(hd_model_gradient(m, b->dw.weight), hd_model_gradient(m, b->dw.bias),
	        m->branch_grad[1], x, m->beta, m->work, HD_F32, N, stage->H, stage->W, C, m->stream));
	HD_TRY(ops->dwconv7_bwd_data(m->grad[1], m->branch_grad[1], hd_model_weight(m, b->dw.weight), m->grad[0],
	        HD_F32, N, stage->H, stage->W, C, m->stream));
	float *swap = m->grad[0];
	m->grad[0] = m->grad[1];
	m->grad[1] = swap;
done:
	return st;
}

/* Gradients of the stage's convolution over patches of x (N,H,W,C), of x itself where dx is not NULL. */
static hd_status patch_conv_back(const hd_model *m, const hd_stage *stage, float *dx, const float *dy, const float *x,
        int64_t H, int64_t W, int64_t C, int64_t patch)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch, rows = N * stage->P, K = stage->C;
	if (!hd_model_convolves(m)) {
		HD_TRY(linear_back(
		        m, dx ? m->wide_grad[0] : NULL, dy, stage->cols, stage->conv, rows, patch * patch * C, K));
		if (dx)
			HD_TRY(ops->patch_scatter(dx, m->wide_grad[0], HD_F32, N, H, W, C, patch, m->stream));
		return HD_OK;
	}
	HD_TRY(ops->patch_conv_bwd_weight(hd_model_gradient(m, stage->conv.weight),
	        hd_model_gradient(m, stage->conv.bias), dy, x, m->beta, m->work, HD_F32, N, H, W, C, K, patch,
	        m->stream));
	if (dx)
		HD_TRY(ops->patch_conv_bwd_data(dx, dy, hd_model_weight(m, stage->conv.weight), m->work, HD_F32, N, H,
		        W, C, K, patch, m->stream));
done:
	return st;
}

/* What stands in front of a stage's blocks: stem or downsampling. */
static hd_status entry_backward(hd_model *m, int s)
{
	hd_status st;
	hd_stage *stage = &m->stages[s];
	int64_t N = m->config.batch, rows = N * stage->P;
	if (s == 0) {
		HD_TRY(norm_back(m, m->branch_grad[0], m->grad[0], stage->conv_out, stage->mean, stage->rstd,
		        stage->norm, rows, stage->C));
		HD_TRY(patch_conv_back(m, stage, NULL, m->branch_grad[0], m->io.input, m->config.height,
		        m->config.width, m->config.channels, HD_STEM_PATCH));
	} else {
		const hd_stage *before = &m->stages[s - 1];
		HD_TRY(patch_conv_back(m, stage, m->branch_grad[0], m->grad[0], stage->norm_out, before->H, before->W,
		        before->C, HD_DOWN_PATCH));
		HD_TRY(norm_back(m, m->grad[0], m->branch_grad[0], stage->in, stage->mean, stage->rstd, stage->norm,
		        N * before->P, before->C));
	}
done:
	return st;
}

static hd_status head_norm_back(hd_model *m, hd_head *h, int i, float *dx, const float *dy)
{
	int64_t N = m->config.batch, C = m->config.head_widths[i];
	if (m->config.head_norm == HD_HEAD_NORM_LAYER)
		return norm_back(m, dx, dy, h->fc_out[i], h->mean[i], h->rstd[i], h->norm[i], N, C);
	return m->backend->ops.batchnorm_bwd(dx, hd_model_gradient(m, h->norm[i].weight),
	        hd_model_gradient(m, h->norm[i].bias), dy, h->fc_out[i], h->mean[i], h->rstd[i],
	        hd_model_weight(m, h->norm[i].weight), m->io.weight, m->beta, N, C, m->stream);
}

/* One head; the gradient of the shared features goes to dx (N,D), NULL where it is not wanted. */
static hd_status head_backward(hd_model *m, hd_head *h, float *dx)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	const hd_model_config *c = &m->config;
	int64_t N = c->batch, K = 2;
	int last = c->head_layers - 1;
	float dropout = m->trained_forward ? c->dropout : 0.0f;
	float *a = m->branch_grad[0], *b = m->branch_grad[1];
	const float *dy = h->dout;
	for (int i = last; i >= 0; i--) {
		int64_t C = c->head_widths[i];
		HD_TRY(linear_back(m, a, dy, h->act[i], h->fc[i + 1], N, C, K));
		HD_TRY(ops->relu_dropout_bwd(b, a, h->act[i], dropout, HD_F32, N * C, m->stream));
		HD_TRY(head_norm_back(m, h, i, a, b));
		dy = a;
		a = b;
		b = (float *)dy;
		K = C;
	}
	HD_TRY(linear_back(m, dx, dy, m->final_out, h->fc[0], N, c->backbone.widths[HD_STAGES - 1], K));
done:
	return st;
}

static hd_status backbone_backward(hd_model *model)
{
	hd_status st;
	const hd_ops *ops = &model->backend->ops;
	int64_t N = model->config.batch, D = model->config.backbone.widths[HD_STAGES - 1];
	HD_TRY(ops->add(model->grad[0], model->grad[0], model->grad[1], HD_F32, N * D, model->stream));
	HD_TRY(norm_back(model, model->branch_grad[0], model->grad[0], model->pooled, model->final_mean,
	        model->final_rstd, model->final_norm, N, D));
	HD_TRY(ops->pool_bwd(
	        model->grad[0], model->branch_grad[0], HD_F32, N, model->stages[HD_STAGES - 1].P, D, model->stream));
	for (int s = HD_STAGES - 1; s >= 0; s--) {
		hd_stage *stage = &model->stages[s];
		for (int i = stage->depth - 1; i >= 0; i--)
			HD_TRY(block_backward(
			        model, stage, &stage->blocks[i], i ? stage->blocks[i - 1].y : stage->out));
		HD_TRY(entry_backward(model, s));
	}
done:
	return st;
}

hd_status hd_model_backward(hd_model *model, bool accumulate)
{
	hd_status st;
	model->beta = accumulate ? 1.0f : 0.0f;
	for (int i = 0; i < HD_HEADS; i++)
		HD_TRY(head_backward(model, &model->heads[i], model->frozen ? NULL : model->grad[i]));
	if (!model->frozen)
		HD_TRY(backbone_backward(model));
done:
	return st;
}
