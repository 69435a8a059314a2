/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The depthwise convolution by cuDNN: as many groups as channels, each with one filter of 7x7. cuDNN lays such filters
 * out as (C,7,7), which both its NCHW (KCRS) and its NHWC (KRSC) format are where a filter has one input channel; which
 * of them an algorithm takes together with NHWC maps is tried out. Ours are (7,7,C).
 * So the filter is turned on its way in and its gradient on its way out, through the stream's workspace.
 */
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/dwconv7.h"
#include "kernels/cuda/turn.h"

#include <stdio.h>

#define TAPS 7
#define ALL (TAPS * TAPS)
#define PADDING 3
#define ALIGN_BYTES 256

static hd_cudnn_shape shape_of(const int64_t *size, bool kcrs)
{
	int64_t C = size[3];
	return (hd_cudnn_shape){.N = size[0],
	        .H = size[1],
	        .W = size[2],
	        .C = C,
	        .K = C,
	        .taps = TAPS,
	        .stride = 1,
	        .padding = PADDING,
	        .groups = C,
	        .kcrs = kcrs};
}

/* The stream's workspace: a turned filter and the rest, which is cuDNN's. */
typedef struct space {
	float *filter;
	void *rest;
	size_t rest_bytes;
	cudaStream_t cuda;
} space;

static hd_status divide_space(space *out, int64_t C, const hd_stream *stream, char *why)
{
	const hd_stream *on = stream ? stream : &hd_cuda_main_stream;
	size_t bytes = ((size_t)(ALL * C) * sizeof(float) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
	if (bytes > on->workspace_bytes) {
		snprintf(why, HD_TUNE_WHY, "a turned filter of %zu bytes in a workspace of %zu", bytes,
		        on->workspace_bytes);
		return HD_E_UNSUPPORTED;
	}
	*out = (space){on->workspace, (char *)on->workspace + bytes, on->workspace_bytes - bytes, on->cuda};
	return HD_OK;
}

static hd_status forward(hd_cudnn_task task, bool kcrs, const hd_tune_call *call, const hd_stream *stream, char *why)
{
	hd_status st;
	space s;
	hd_cudnn_shape shape = shape_of(call->size, kcrs);
	float *y = call->out[0];
	const float *x = call->in[0], *k = call->in[1], *b = call->in[2];
	HD_TRY(divide_space(&s, shape.C, stream, why));
	HD_TRY(hd_cuda_turn(s.filter, k, 0, ALL, shape.C, s.cuda));
	HD_TRY(hd_cuda_cudnn_convolve(task, &shape, y, x, s.filter, 0, s.rest, s.rest_bytes, s.cuda, why, HD_TUNE_WHY));
	HD_TRY(hd_cuda_add_bias(y, b, shape.N * shape.H * shape.W, shape.C, s.cuda));
done:
	return st;
}

static hd_status backward_data(bool kcrs, const hd_tune_call *call, hd_stream *stream, char *why)
{
	hd_status st;
	space s;
	hd_cudnn_shape shape = shape_of(call->size, kcrs);
	float *dx = call->out[0];
	const float *dy = call->in[0], *k = call->in[1], *residual = call->in[2];
	HD_TRY(divide_space(&s, shape.C, stream, why));
	HD_TRY(hd_cuda_turn(s.filter, k, 0, ALL, shape.C, s.cuda));
	HD_TRY(hd_cuda_cudnn_convolve(
	        HD_CUDNN_DATA, &shape, dx, dy, s.filter, 0, s.rest, s.rest_bytes, s.cuda, why, HD_TUNE_WHY));
	if (residual)
		HD_TRY(hd_cuda_add(dx, dx, residual, shape.N * shape.H * shape.W * shape.C, stream));
done:
	return st;
}

size_t hd_cuda_dwconv7_cudnn_bwd_weight_work(int64_t N, int64_t H, int64_t W, int64_t C)
{
	return hd_cuda_linear_bwd_weight_work(N * H * W, 0, C);
}

static hd_status backward_weight(bool kcrs, const hd_tune_call *call, hd_stream *stream, char *why)
{
	hd_status st;
	space s;
	hd_cudnn_shape shape = shape_of(call->size, kcrs);
	float *dk = call->out[0], *db = call->out[1];
	const float *dy = call->in[0], *x = call->in[1];
	HD_TRY(divide_space(&s, shape.C, stream, why));
	HD_TRY(hd_cuda_cudnn_convolve(
	        HD_CUDNN_FILTER, &shape, s.filter, dy, x, 0, s.rest, s.rest_bytes, s.cuda, why, HD_TUNE_WHY));
	HD_TRY(hd_cuda_turn(dk, s.filter, call->beta, shape.C, ALL, s.cuda));
	/* a linear layer without inputs has a bias gradient only */
	HD_TRY(hd_cuda_linear_bwd_weight(
	        dk, db, dy, x, call->beta, call->work, HD_F32, shape.N * shape.H * shape.W, 0, shape.C, stream));
done:
	return st;
}

#define WAY(name, call_of)                                                                                             \
	hd_status hd_cuda_dwconv7_##name(const hd_tune_call *call, hd_stream *stream, char *why)                       \
	{                                                                                                              \
		return call_of;                                                                                        \
	}

WAY(cudnn_fwd, forward(HD_CUDNN_FORWARD, false, call, stream, why))
WAY(cudnn_fwd_kcrs, forward(HD_CUDNN_FORWARD, true, call, stream, why))
WAY(cudnn_fwd_precomp, forward(HD_CUDNN_FORWARD_PRECOMP, false, call, stream, why))
WAY(cudnn_fwd_precomp_kcrs, forward(HD_CUDNN_FORWARD_PRECOMP, true, call, stream, why))
WAY(cudnn_bwd_data, backward_data(false, call, stream, why))
WAY(cudnn_bwd_data_kcrs, backward_data(true, call, stream, why))
WAY(cudnn_bwd_weight, backward_weight(false, call, stream, why))
WAY(cudnn_bwd_weight_kcrs, backward_weight(true, call, stream, why))
