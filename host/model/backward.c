/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward pass: the forward pass read from its end. Weight gradients of blocks run beside the main stream where
 * the back end has streams: nothing else waits for them but the reuse of what they read, two blocks later.
 */
#include "host/model/convnext.h"

hd_status hd_model_open_beside(hd_model *m)
{
	hd_status st = HD_OK;
	hd_backend *b = m->backend;
	hd_beside *beside = &m->beside;
	if (!hd_model_has_beside(m))
		return HD_OK;
	HD_TRY(b->open_stream(b, &beside->stream));
	HD_TRY(b->open_event(b, &beside->ready));
	for (int i = 0; i < 2; i++)
		HD_TRY(b->open_event(b, &beside->done[i]));
done:
	return st;
}

void hd_model_close_beside(hd_model *m)
{
	hd_backend *b = m->backend;
	if (!hd_model_has_beside(m))
		return;
	for (int i = 1; i >= 0; i--)
		b->close_event(b, m->beside.done[i]);
	b->close_event(b, m->beside.ready);
	b->close_stream(b, m->beside.stream);
}

hd_status hd_model_fork_beside(const hd_model *m)
{
	hd_status st = HD_OK;
	hd_backend *b = m->backend;
	if (!m->beside.stream)
		return HD_OK;
	HD_TRY(b->record(b, m->beside.ready, m->stream));
	HD_TRY(b->await(b, m->beside.stream, m->beside.ready));
done:
	return st;
}

/* The weight gradients queued beside are those that read m->inside[which]. */
static hd_status mark_beside(hd_model *m, int which)
{
	m->beside.pending[which] = m->beside.stream != NULL;
	return m->beside.stream ? m->backend->record(m->backend, m->beside.done[which], m->beside.stream) : HD_OK;
}

/* The main stream waits for them. An event of an earlier pass is left alone: it may be none of a recording's. */
static hd_status join_beside(hd_model *m, int which)
{
	bool pending = m->beside.pending[which];
	m->beside.pending[which] = false;
	return pending ? m->backend->await(m->backend, m->stream, m->beside.done[which]) : HD_OK;
}

static void *beside_work(const hd_model *m)
{
	return m->beside.work ? m->beside.work : m->work;
}

static hd_status linear_weight_back(
        const hd_model *m, const void *dy, const void *x, hd_linear_params p, int64_t rows, int64_t C, int64_t K)
{
	return m->backend->ops.linear_bwd_weight(hd_model_gradient(m, p.weight), NULL, dy, x, m->beta, beside_work(m),
	        m->dtype, rows, C, K, m->beside.stream);
}

static hd_status linear_data_back(
        const hd_model *m, void *dx, const void *dy, hd_linear_params p, int64_t rows, int64_t C, int64_t K)
{
	return m->backend->ops.linear_bwd_data(
	        dx, dy, hd_model_product_weight(m, p.weight), m->dtype, rows, C, K, m->stream);
}

static hd_status norm_back(const hd_model *m, void *dx, const void *dy, const void *x, const float *mean,
        const float *rstd, hd_norm_params p, hd_dtype dtype, int64_t rows, int64_t C)
{
	return m->backend->ops.layernorm_bwd(dx, hd_model_gradient(m, p.weight), hd_model_gradient(m, p.bias), dy, x,
	        mean, rstd, hd_model_weight(m, p.weight), m->beta, m->work, dtype, rows, C, m->stream);
}

/*
 * Gradient dx of the block's input x from dy, that of its output. in: what the weight gradients beside read, which
 * those of the block before last must be done with.
 */
static hd_status block_backward(const hd_model *m, const hd_stage *stage, const hd_block *b, void *dx, const void *dy,
        const void *x, const hd_inside_gradients *in)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch, H = stage->H, W = stage->W, C = stage->C, rows = N * stage->P;
	HD_TRY(ops->scale_residual_bwd(in->branch, hd_model_gradient(m, b->gamma), hd_model_gradient(m, b->fc2.bias),
	        dy, b->branch, hd_model_weight(m, b->gamma), hd_model_path(m, b), m->beta, m->work, m->dtype, N,
	        stage->P, C, m->stream));
	HD_TRY(hd_model_fork_beside(m));
	HD_TRY(linear_weight_back(m, in->branch, b->g, b->fc2, rows, HD_MLP_RATIO * C, C));
	HD_TRY(linear_data_back(m, m->gelu_grad, in->branch, b->fc2, rows, HD_MLP_RATIO * C, C));
	HD_TRY(ops->gelu_bwd(in->wide, hd_model_gradient(m, b->fc1.bias), m->gelu_grad, b->h, m->config.gelu, m->beta,
	        m->work, m->dtype, rows, HD_MLP_RATIO * C, m->stream));
	HD_TRY(hd_model_fork_beside(m));
	HD_TRY(linear_weight_back(m, in->wide, b->norm_out, b->fc1, rows, C, HD_MLP_RATIO * C));
	HD_TRY(linear_data_back(m, m->norm_grad, in->wide, b->fc1, rows, C, HD_MLP_RATIO * C));
	HD_TRY(norm_back(m, in->conv, m->norm_grad, b->dw_out, b->mean, b->rstd, b->norm, m->dtype, rows, C));
	HD_TRY(hd_model_fork_beside(m));
	HD_TRY(ops->dwconv7_bwd_weight(hd_model_gradient(m, b->dw.weight), hd_model_gradient(m, b->dw.bias), in->conv,
	        x, m->beta, beside_work(m), m->dtype, N, H, W, C, m->beside.stream));
	HD_TRY(ops->dwconv7_bwd_data(
	        dx, in->conv, hd_model_weight(m, b->dw.weight), dy, m->dtype, N, H, W, C, m->stream));
done:
	return st;
}

/*
 * The blocks of a stage, from the last; the gradient of their output is in m->grad[*at], that of their input is left
 * there with *at as it is then.
 */
static hd_status blocks_backward(hd_model *m, const hd_stage *stage, int *at)
{
	hd_status st = HD_OK;
	for (int i = stage->depth - 1; i >= 0; i--) {
		const hd_block *b = &stage->blocks[i];
		const void *x = i ? stage->blocks[i - 1].y : stage->out;
		int which = i % 2;
		HD_TRY(join_beside(m, which));
		if (m->config.gradient_checkpointing) {
			/* what is shared is read beside until the block before is done */
			HD_TRY(join_beside(m, 1 - which));
			HD_TRY(hd_model_block_inside(m, stage, b, x));
		}
		HD_TRY(block_backward(m, stage, b, m->grad[1 - *at], m->grad[*at], x, &m->inside[which]));
		HD_TRY(mark_beside(m, which));
		*at = 1 - *at;
	}
	for (int i = 0; i < 2; i++)
		HD_TRY(join_beside(m, i));
done:
	return st;
}

/* Gradients of the stage's convolution over patches of x (N,H,W,C), of x itself where dx is not NULL. */
static hd_status patch_conv_back(const hd_model *m, const hd_stage *stage, void *dx, const void *dy, const void *x,
        int64_t H, int64_t W, int64_t C, int64_t patch)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	int64_t N = m->config.batch, rows = N * stage->P, K = stage->C;
	float *dw = hd_model_gradient(m, stage->conv.weight), *db = hd_model_gradient(m, stage->conv.bias);
	if (!hd_model_convolves(m)) {
		HD_TRY(ops->linear_bwd_weight(
		        dw, db, dy, stage->cols, m->beta, m->work, m->dtype, rows, patch * patch * C, K, m->stream));
		if (dx) {
			HD_TRY(linear_data_back(m, m->gelu_grad, dy, stage->conv, rows, patch * patch * C, K));
			HD_TRY(ops->patch_scatter(dx, m->gelu_grad, m->dtype, N, H, W, C, patch, m->stream));
		}
		return HD_OK;
	}
	HD_TRY(ops->patch_conv_bwd_weight(dw, db, dy, x, m->beta, m->work, m->dtype, N, H, W, C, K, patch, m->stream));
	if (dx)
		HD_TRY(ops->patch_conv_bwd_data(dx, dy, hd_model_product_weight(m, stage->conv.weight), m->work,
		        m->dtype, N, H, W, C, K, patch, m->stream));
done:
	return st;
}

/* What stands in front of a stage's blocks: stem or downsampling. grad: of its output, then of its input. */
static hd_status entry_backward(const hd_model *m, int s, void *grad)
{
	hd_status st;
	const hd_stage *stage = &m->stages[s];
	int64_t N = m->config.batch, rows = N * stage->P;
	void *between = m->norm_grad;
	if (s == 0) {
		HD_TRY(norm_back(m, between, grad, stage->conv_out, stage->mean, stage->rstd, stage->norm, m->dtype,
		        rows, stage->C));
		HD_TRY(patch_conv_back(m, stage, NULL, between, m->io.input, m->config.height, m->config.width,
		        m->config.channels, HD_STEM_PATCH));
	} else {
		const hd_stage *before = &m->stages[s - 1];
		HD_TRY(patch_conv_back(
		        m, stage, between, grad, stage->norm_out, before->H, before->W, before->C, HD_DOWN_PATCH));
		HD_TRY(norm_back(m, grad, between, stage->in, stage->mean, stage->rstd, stage->norm, m->dtype,
		        N * before->P, before->C));
	}
done:
	return st;
}

/* Weight and bias gradient of a head's layer, then (where dx is wanted) the gradient of its input. */
static hd_status head_linear_back(
        const hd_model *m, float *dx, const float *dy, const float *x, hd_linear_params p, int64_t C, int64_t K)
{
	const hd_ops *ops = &m->backend->ops;
	hd_status st;
	int64_t N = m->config.batch;
	HD_TRY(ops->linear_bwd_weight(hd_model_gradient(m, p.weight), hd_model_gradient(m, p.bias), dy, x, m->beta,
	        m->work, HD_F32, N, C, K, m->stream));
	if (dx)
		HD_TRY(ops->linear_bwd_data(dx, dy, hd_model_weight(m, p.weight), HD_F32, N, C, K, m->stream));
done:
	return st;
}

static hd_status head_norm_back(const hd_model *m, const hd_head *h, int i, float *dx, const float *dy)
{
	int64_t N = m->config.batch, C = m->config.head_widths[i];
	if (m->config.head_norm == HD_HEAD_NORM_LAYER)
		return norm_back(m, dx, dy, h->fc_out[i], h->mean[i], h->rstd[i], h->norm[i], HD_F32, N, C);
	return m->backend->ops.batchnorm_bwd(dx, hd_model_gradient(m, h->norm[i].weight),
	        hd_model_gradient(m, h->norm[i].bias), dy, h->fc_out[i], h->mean[i], h->rstd[i],
	        hd_model_weight(m, h->norm[i].weight), m->io.weight, m->beta, N, C, m->stream);
}

/* One head; the gradient of the shared features goes to dx (N,D), NULL where it is not wanted. */
static hd_status head_backward(const hd_model *m, const hd_head *h, float *dx)
{
	hd_status st;
	const hd_ops *ops = &m->backend->ops;
	const hd_model_config *c = &m->config;
	int64_t N = c->batch, K = 2;
	int last = c->head_layers - 1;
	float dropout = m->trained_forward ? c->dropout : 0.0f;
	float *a = m->inside[0].branch, *b = m->norm_grad;
	const float *dy = h->dout;
	for (int i = last; i >= 0; i--) {
		int64_t C = c->head_widths[i];
		HD_TRY(head_linear_back(m, a, dy, h->act[i], h->fc[i + 1], C, K));
		HD_TRY(ops->relu_dropout_bwd(b, a, h->act[i], dropout, N * C, m->stream));
		HD_TRY(head_norm_back(m, h, i, a, b));
		dy = a;
		a = b;
		b = (float *)dy;
		K = C;
	}
	HD_TRY(head_linear_back(m, dx, dy, m->final_out, h->fc[0], c->backbone.widths[HD_STAGES - 1], K));
done:
	return st;
}

static hd_status backbone_backward(hd_model *model)
{
	hd_status st;
	const hd_ops *ops = &model->backend->ops;
	int64_t N = model->config.batch, D = model->config.backbone.widths[HD_STAGES - 1];
	int at = 0;
	HD_TRY(ops->add(model->grad[0], model->grad[0], model->grad[1], N * D, model->stream));
	HD_TRY(norm_back(model, model->norm_grad, model->grad[0], model->pooled, model->final_mean, model->final_rstd,
	        model->final_norm, HD_F32, N, D));
	HD_TRY(ops->pool_bwd(
	        model->grad[0], model->norm_grad, model->dtype, N, model->stages[HD_STAGES - 1].P, D, model->stream));
	for (int s = HD_STAGES - 1; s >= 0; s--) {
		HD_TRY(blocks_backward(model, &model->stages[s], &at));
		HD_TRY(entry_backward(model, s, model->grad[at]));
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
