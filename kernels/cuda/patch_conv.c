/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patch convolutions: patches as rows of a matrix and a linear layer, or cuDNN, whichever is faster for the shape. Our
 * filters (K,p,p,C) are cuDNN's NHWC format as they are. cuDNN takes maps that patches cover wholly: its gradient of
 * the input would have to leave a border.
 */
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/tune.h"
#include "kernels/cuda/turn.h"

#include <stdio.h>

#define ALIGN_BYTES 256
#define SIZES(size) (size)[0], (size)[1], (size)[2], (size)[3], (size)[4], (size)[5]

/* Of size: N H W C K p. */
typedef struct patches {
	int64_t N, H, W, C, K, p;
	int64_t rows;    /* output pixels of the batch */
	int64_t columns; /* elements of a patch */
} patches;

static patches patches_of(const int64_t *size)
{
	int64_t p = size[5];
	return (patches){SIZES(size), size[0] * (size[1] / p) * (size[2] / p), p * p * size[3]};
}

/* Of the patches at the start of work, up to the next boundary. */
static size_t columns_bytes(const patches *s)
{
	size_t bytes = (size_t)(s->rows * s->columns) * sizeof(float);
	return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* ---- as patches and a linear layer ---- */

static hd_status composed_fwd(const hd_tune_call *call, hd_stream *stream, char *why)
{
	hd_status st;
	(void)why;
	patches s = patches_of(call->size);
	HD_TRY(hd_cuda_patch_gather(call->work, call->in[0], call->dt, s.N, s.H, s.W, s.C, s.p, stream));
	HD_TRY(hd_cuda_linear_fwd(
	        call->out[0], call->work, call->in[1], call->in[2], call->dt, s.rows, s.columns, s.K, stream));
done:
	return st;
}

static hd_status composed_bwd_data(const hd_tune_call *call, hd_stream *stream, char *why)
{
	hd_status st;
	(void)why;
	patches s = patches_of(call->size);
	HD_TRY(hd_cuda_linear_bwd_data(call->work, call->in[0], call->in[1], call->dt, s.rows, s.columns, s.K, stream));
	HD_TRY(hd_cuda_patch_scatter(call->out[0], call->work, call->dt, s.N, s.H, s.W, s.C, s.p, stream));
done:
	return st;
}

static hd_status composed_bwd_weight(const hd_tune_call *call, hd_stream *stream, char *why)
{
	hd_status st;
	(void)why;
	patches s = patches_of(call->size);
	void *rest = (char *)call->work + columns_bytes(&s);
	HD_TRY(hd_cuda_patch_gather(call->work, call->in[1], call->dt, s.N, s.H, s.W, s.C, s.p, stream));
	HD_TRY(hd_cuda_linear_bwd_weight(call->out[0], call->out[1], call->in[0], call->work, call->beta, rest,
	        call->dt, s.rows, s.columns, s.K, stream));
done:
	return st;
}

/* ---- by cuDNN ---- */

static hd_status convolve(hd_cudnn_task task, const patches *s, float *out, const float *data, const float *other,
        float beta, hd_stream *stream, char *why)
{
	const hd_stream *on = stream ? stream : &hd_cuda_main_stream;
	hd_cudnn_shape shape = {.N = s->N,
	        .H = s->H,
	        .W = s->W,
	        .C = s->C,
	        .K = s->K,
	        .taps = s->p,
	        .stride = s->p,
	        .padding = 0,
	        .groups = 1};
	if (s->H % s->p != 0 || s->W % s->p != 0) {
		snprintf(why, HD_TUNE_WHY, "patches do not cover the map");
		return HD_E_UNSUPPORTED;
	}
	return hd_cuda_cudnn_convolve(
	        task, &shape, out, data, other, beta, on->workspace, on->workspace_bytes, on->cuda, why, HD_TUNE_WHY);
}

static hd_status forward(hd_cudnn_task task, const hd_tune_call *call, hd_stream *stream, char *why)
{
	hd_status st;
	patches s = patches_of(call->size);
	HD_TRY(convolve(task, &s, call->out[0], call->in[0], call->in[1], 0, stream, why));
	if (call->in[2])
		HD_TRY(hd_cuda_add_bias(call->out[0], call->in[2], s.rows, s.K, hd_cuda_stream(stream)));
done:
	return st;
}

static hd_status cudnn_fwd(const hd_tune_call *call, hd_stream *stream, char *why)
{
	return forward(HD_CUDNN_FORWARD, call, stream, why);
}

static hd_status cudnn_fwd_precomp(const hd_tune_call *call, hd_stream *stream, char *why)
{
	return forward(HD_CUDNN_FORWARD_PRECOMP, call, stream, why);
}

static hd_status cudnn_bwd_data(const hd_tune_call *call, hd_stream *stream, char *why)
{
	patches s = patches_of(call->size);
	return convolve(HD_CUDNN_DATA, &s, call->out[0], call->in[0], call->in[1], 0, stream, why);
}

static hd_status cudnn_bwd_weight(const hd_tune_call *call, hd_stream *stream, char *why)
{
	hd_status st;
	patches s = patches_of(call->size);
	HD_TRY(convolve(HD_CUDNN_FILTER, &s, call->out[0], call->in[0], call->in[1], call->beta, stream, why));
	/* a linear layer without inputs has a bias gradient only */
	if (call->out[1])
		HD_TRY(hd_cuda_linear_bwd_weight(call->out[0], call->out[1], call->in[0], call->in[1], call->beta,
		        call->work, HD_F32, s.rows, 0, s.K, stream));
done:
	return st;
}

/* ---- the choice ---- */

static int64_t map_size(const patches *s)
{
	return s->N * s->H * s->W * s->C;
}

/* y. */
static int64_t fwd_out(const int64_t *size, int i)
{
	patches s = patches_of(size);
	return i == 0 ? s.rows * s.K : 0;
}

/* x, w, b. */
static int64_t fwd_in(const int64_t *size, int i)
{
	patches s = patches_of(size);
	return i == 0 ? map_size(&s) : i == 1 ? s.K * s.columns : s.K;
}

/* dx. */
static int64_t data_out(const int64_t *size, int i)
{
	patches s = patches_of(size);
	return i == 0 ? map_size(&s) : 0;
}

/* dy, w. */
static int64_t data_in(const int64_t *size, int i)
{
	patches s = patches_of(size);
	return i == 0 ? s.rows * s.K : i == 1 ? s.K * s.columns : 0;
}

/* dw, db. */
static int64_t weight_out(const int64_t *size, int i)
{
	patches s = patches_of(size);
	return i == 0 ? s.K * s.columns : s.K;
}

/* dy, x. */
static int64_t weight_in(const int64_t *size, int i)
{
	patches s = patches_of(size);
	return i == 0 ? s.rows * s.K : i == 1 ? map_size(&s) : 0;
}

static int64_t fwd_terms(const int64_t *size)
{
	return patches_of(size).columns + 1;
}

static int64_t data_terms(const int64_t *size)
{
	return size[4];
}

static int64_t weight_terms(const int64_t *size)
{
	return patches_of(size).rows + 1;
}

static size_t fwd_work(const int64_t *size)
{
	patches s = patches_of(size);
	return columns_bytes(&s);
}

static size_t weight_work(const int64_t *size)
{
	patches s = patches_of(size);
	return columns_bytes(&s) + hd_cuda_linear_bwd_weight_work(s.rows, s.columns, s.K);
}

static const hd_tune_op fwd = {
        .name = "patch_conv_fwd",
        .sizes = "N H W C K p",
        .ways = {{"linear", composed_fwd, NULL}, {"cudnn", cudnn_fwd, hd_cuda_cudnn_ready},
                {"cudnn-precomp", cudnn_fwd_precomp, hd_cuda_cudnn_ready}},
        .out_count = fwd_out,
        .in_count = fwd_in,
        .terms = fwd_terms,
        .work_bytes = fwd_work,
};
static const hd_tune_op bwd_data = {
        .name = "patch_conv_bwd_data",
        .sizes = "N H W C K p",
        .ways = {{"linear", composed_bwd_data, NULL}, {"cudnn", cudnn_bwd_data, hd_cuda_cudnn_ready}},
        .out_count = data_out,
        .in_count = data_in,
        .terms = data_terms,
        .work_bytes = fwd_work,
};
static const hd_tune_op bwd_weight = {
        .name = "patch_conv_bwd_weight",
        .sizes = "N H W C K p",
        .ways = {{"linear", composed_bwd_weight, NULL}, {"cudnn", cudnn_bwd_weight, hd_cuda_cudnn_ready}},
        .scaled = true,
        .out_count = weight_out,
        .in_count = weight_in,
        .terms = weight_terms,
        .work_bytes = weight_work,
};

size_t hd_cuda_patch_conv_fwd_work(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p)
{
	return fwd_work((const int64_t[]){N, H, W, C, K, p});
}

hd_status hd_cuda_patch_conv_fwd(void *y, const void *x, const void *w, const void *b, void *work, hd_dtype dt,
        int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p, hd_stream *stream)
{
	hd_tune_call call = {.dt = dt, .size = {N, H, W, C, K, p}, .out = {y}, .in = {x, w, b}, .work = work};
	return hd_cuda_tune_run(&fwd, &call, stream);
}

size_t hd_cuda_patch_conv_bwd_data_work(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p)
{
	return fwd_work((const int64_t[]){N, H, W, C, K, p});
}

hd_status hd_cuda_patch_conv_bwd_data(void *dx, const void *dy, const void *w, void *work, hd_dtype dt, int64_t N,
        int64_t H, int64_t W, int64_t C, int64_t K, int64_t p, hd_stream *stream)
{
	hd_tune_call call = {.dt = dt, .size = {N, H, W, C, K, p}, .out = {dx}, .in = {dy, w}, .work = work};
	return hd_cuda_tune_run(&bwd_data, &call, stream);
}

size_t hd_cuda_patch_conv_bwd_weight_work(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p)
{
	return weight_work((const int64_t[]){N, H, W, C, K, p});
}

hd_status hd_cuda_patch_conv_bwd_weight(float *dw, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t p, hd_stream *stream)
{
	hd_tune_call call = {
	        .dt = dt, .size = {N, H, W, C, K, p}, .out = {dw, db}, .in = {dy, x}, .beta = beta, .work = work};
	return hd_cuda_tune_run(&bwd_weight, &call, stream);
}
