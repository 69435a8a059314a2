/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass: the forward pass read from its end, every parameter gradient overwritten. */
#include "host/model/convnext.h"

/* Weight and bias gradient of a linear layer, then (where dx is wanted) the gradient of its input. */
static hd_status linear_back(const hd_model *m, float *dx, const float *dy, const float *x, hd_linear_params p,
        int64_t rows, int64_t C, int64_t K)
{
	const hd_ops *ops = &m->backend->ops;
	hd_status st;
	HD_TRY(ops->linear_bwd_weight(hd_model_weight(m, HD_FLAT_GRADIENTS, p.weight),
	        hd_model_weight(m, HD_FLAT_GRADIENTS, p.bias), dy, x, 0.0f, m->work, HD_F32, rows, C, K, m->stream));
	if (dx)
		HD_TRY(ops->linear_bwd_data(
		        dx, dy, hd_model_weight(m, HD_FLAT_WEIGHTS, p.weight), HD_F32, rows, C, K, m->stream));
done:
	return st;
}

static hd_status norm_back(const hd_model *m, float *dx, const float *dy, const float *x, const float *mean,
        const float *rstd, hd_norm_params p, int64_t rows, int64_t C)
{
	return m->backend->ops.layernorm_bwd(dx, hd_model_weight(m, HD_FLAT_GRADIENTS, p.weight),
	        hd_model_weight(m, HD_FLAT_GRADIENTS, p.bias), dy, x, mean, rstd,
	        hd_model_weight(m, HD_FLAT_WEIGHTS, p.weight), 0.0f, m->work, HD_F32, rows, C, m->stream);
}

/* Gradient of the block's output in m->grad[0]; that of its input x is left there. */
static hd_status block_backward(hd_model *m, const hd_stage *stage, hd_block *b, const float *x)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch, C = stage->C, rows = N * stage->P;
	HD_TRY(ops->scale_residual_bwd(m->branch_grad[0], hd_model_weight(m, HD_FLAT_GRADIENTS, b->gamma), m->grad[0],
	        b->branch, hd_model_weight(m, HD_FLAT_WEIGHTS, b->gamma), hd_model_path(m, b), 0.0f, m->work, HD_F32, N,
	        stage->P, C, m->stream));
	HD_TRY(linear_back(m, m->wide_grad[0], m->branch_grad[0], b->g, b->fc2, rows, HD_MLP_RATIO * C, C));
	HD_TRY(ops->gelu_bwd(m->wide_grad[1], m->wide_grad[0], b->h, HD_F32, rows * HD_MLP_RATIO * C, m->stream));
	HD_TRY(linear_back(m, m->branch_grad[0], m->wide_grad[1], b->norm_out, b->fc1, rows, C, HD_MLP_RATIO * C));
	HD_TRY(norm_back(m, m->branch_grad[1], m->branch_grad[0], b->dw_out, b->mean, b->rstd, b->norm, rows, C));
	HD_TRY(ops->dwconv7_bwd_weight(hd_model_weight(m, HD_FLAT_GRADIENTS, b->dw.weight),
	        hd_model_weight(m, HD_FLAT_GRADIENTS, b->dw.bias), m->branch_grad[1], x, 0.0f, m->work, HD_F32, N,
	        stage->H, stage->W, C, m->stream));
	HD_TRY(ops->dwconv7_bwd_data(m->grad[1], m->branch_grad[1], hd_model_weight(m, HD_FLAT_WEIGHTS, b->dw.weight),
	        m->grad[0], HD_F32, N, stage->H, stage->W, C, m->stream));
	float *swap = m->grad[0];
	m->grad[0] = m->grad[1];
	m->grad[1] = swap;
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
		HD_TRY(linear_back(m, NULL, m->branch_grad[0], stage->cols, stage->conv, rows,
		        (int64_t)HD_STEM_PATCH * HD_STEM_PATCH * m->config.channels, stage->C));
	} else {
		const hd_stage *before = &m->stages[s - 1];
		HD_TRY(linear_back(m, m->wide_grad[0], m->grad[0], stage->cols, stage->conv, rows,
		        HD_DOWN_PATCH * HD_DOWN_PATCH * before->C, stage->C));
		HD_TRY(m->backend->ops.patch_scatter(m->branch_grad[0], m->wide_grad[0], HD_F32, N, before->H,
		        before->W, before->C, HD_DOWN_PATCH, m->stream));
		HD_TRY(norm_back(m, m->grad[0], m->branch_grad[0], stage->in, stage->mean, stage->rstd, stage->norm,
		        N * before->P, before->C));
	}
done:
	return st;
}

/* One head; the gradient of the shared features goes to dx (N,D). */
static hd_status head_backward(hd_model *m, hd_head *h, float *dx)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch, D = m->config.backbone.widths[HD_STAGES - 1];
	float dropout = m->trained_forward ? m->config.dropout : 0.0f;
	float *a = m->branch_grad[0], *b = m->branch_grad[1];
	HD_TRY(linear_back(m, a, h->dout, h->act[1], h->fc[2], N, HD_HEAD_WIDTH2, 2));
	HD_TRY(ops->relu_dropout_bwd(b, a, h->act[1], dropout, HD_F32, N * HD_HEAD_WIDTH2, m->stream));
	HD_TRY(norm_back(m, a, b, h->fc_out[1], h->mean[1], h->rstd[1], h->norm[1], N, HD_HEAD_WIDTH2));
	HD_TRY(linear_back(m, b, a, h->act[0], h->fc[1], N, HD_HEAD_WIDTH1, HD_HEAD_WIDTH2));
	HD_TRY(ops->relu_dropout_bwd(a, b, h->act[0], dropout, HD_F32, N * HD_HEAD_WIDTH1, m->stream));
	HD_TRY(norm_back(m, b, a, h->fc_out[0], h->mean[0], h->rstd[0], h->norm[0], N, HD_HEAD_WIDTH1));
	HD_TRY(linear_back(m, dx, b, m->final_out, h->fc[0], N, D, HD_HEAD_WIDTH1));
done:
	return st;
}

hd_status hd_model_backward(hd_model *model)
{
	hd_status st;
	const hd_ops *ops = &model->backend->ops;
	int64_t N = model->config.batch, D = model->config.backbone.widths[HD_STAGES - 1];
	HD_TRY(head_backward(model, &model->heads[0], model->grad[0]));
	HD_TRY(head_backward(model, &model->heads[1], model->grad[1]));
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
