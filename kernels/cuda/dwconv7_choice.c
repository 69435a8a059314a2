/* SPDX-License-Identifier: Apache-2.0 */
/* The depthwise convolutions of kernels.def: own kernels or cuDNN, whichever is faster for the shape. */
#include "kernels/cuda/dwconv7.h"

#include "kernels/cuda/cudnn.h"

#define TAPS 49
#define SIZES(size) (size)[0], (size)[1], (size)[2], (size)[3]

static int64_t map_size(const int64_t *size)
{
	return size[0] * size[1] * size[2] * size[3];
}

/* y or dx. */
static int64_t map_out(const int64_t *size, int i)
{
	return i == 0 ? map_size(size) : 0;
}

/* x, k, b. */
static int64_t fwd_in(const int64_t *size, int i)
{
	return i == 0 ? map_size(size) : i == 1 ? TAPS * size[3] : size[3];
}

/* dy, k, residual. */
static int64_t data_in(const int64_t *size, int i)
{
	return i == 1 ? TAPS * size[3] : map_size(size);
}

/* dk, db. */
static int64_t weight_out(const int64_t *size, int i)
{
	return i == 0 ? TAPS * size[3] : size[3];
}

/* dy, x. */
static int64_t weight_in(const int64_t *size, int i)
{
	return i < 2 ? map_size(size) : 0;
}

/* Taps and bias, or taps and residual. */
static int64_t tap_terms(const int64_t *size)
{
	(void)size;
	return TAPS + 1;
}

/* Positions of the batch, and the old gradient. */
static int64_t position_terms(const int64_t *size)
{
	return size[0] * size[1] * size[2] + 1;
}

static size_t no_work(const int64_t *size)
{
	(void)size;
	return 0;
}

static size_t weight_work(const int64_t *size)
{
	return hd_cuda_dwconv7_bwd_weight_work(SIZES(size));
}

static hd_status own_fwd(const hd_tune_call *call, hd_stream *stream, char *why)
{
	(void)why;
	return hd_cuda_dwconv7_own_fwd(
	        call->out[0], call->in[0], call->in[1], call->in[2], call->dt, SIZES(call->size), stream);
}

static hd_status own_bwd_data(const hd_tune_call *call, hd_stream *stream, char *why)
{
	(void)why;
	return hd_cuda_dwconv7_own_bwd_data(
	        call->out[0], call->in[0], call->in[1], call->in[2], call->dt, SIZES(call->size), stream);
}

static hd_status own_bwd_weight(const hd_tune_call *call, hd_stream *stream, char *why)
{
	(void)why;
	return hd_cuda_dwconv7_own_bwd_weight(call->out[0], call->out[1], call->in[0], call->in[1], call->beta,
	        call->work, call->dt, SIZES(call->size), stream);
}

static const hd_tune_op fwd = {
        .name = "dwconv7_fwd",
        .sizes = "N H W C",
        .ways = {{"own", own_fwd, NULL}, {"cudnn", hd_cuda_dwconv7_cudnn_fwd, hd_cuda_cudnn_ready},
                {"cudnn-kcrs", hd_cuda_dwconv7_cudnn_fwd_kcrs, hd_cuda_cudnn_ready},
                {"cudnn-precomp", hd_cuda_dwconv7_cudnn_fwd_precomp, hd_cuda_cudnn_ready},
                {"cudnn-precomp-kcrs", hd_cuda_dwconv7_cudnn_fwd_precomp_kcrs, hd_cuda_cudnn_ready}},
        .out_count = map_out,
        .in_count = fwd_in,
        .terms = tap_terms,
        .work_bytes = no_work,
};
static const hd_tune_op bwd_data = {
        .name = "dwconv7_bwd_data",
        .sizes = "N H W C",
        .ways = {{"own", own_bwd_data, NULL}, {"cudnn", hd_cuda_dwconv7_cudnn_bwd_data, hd_cuda_cudnn_ready},
                {"cudnn-kcrs", hd_cuda_dwconv7_cudnn_bwd_data_kcrs, hd_cuda_cudnn_ready}},
        .out_count = map_out,
        .in_count = data_in,
        .terms = tap_terms,
        .work_bytes = no_work,
};
static const hd_tune_op bwd_weight = {
        .name = "dwconv7_bwd_weight",
        .sizes = "N H W C",
        .ways = {{"own", own_bwd_weight, NULL}, {"cudnn", hd_cuda_dwconv7_cudnn_bwd_weight, hd_cuda_cudnn_ready},
                {"cudnn-kcrs", hd_cuda_dwconv7_cudnn_bwd_weight_kcrs, hd_cuda_cudnn_ready}},
        .scaled = true,
        .out_count = weight_out,
        .in_count = weight_in,
        .terms = position_terms,
        .work_bytes = weight_work,
};

hd_status hd_cuda_dwconv7_fwd(void *y, const void *x, const float *k, const float *b, hd_dtype dt, int64_t N, int64_t H,
        int64_t W, int64_t C, hd_stream *stream)
{
	hd_tune_call call = {.dt = dt, .size = {N, H, W, C}, .out = {y}, .in = {x, k, b}};
	return hd_cuda_tune_run(&fwd, &call, stream);
}

hd_status hd_cuda_dwconv7_bwd_data(void *dx, const void *dy, const float *k, const void *residual, hd_dtype dt,
        int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	hd_tune_call call = {.dt = dt, .size = {N, H, W, C}, .out = {dx}, .in = {dy, k, residual}};
	return hd_cuda_tune_run(&bwd_data, &call, stream);
}

size_t hd_cuda_dwconv7_bwd_weight_work(int64_t N, int64_t H, int64_t W, int64_t C)
{
	size_t own = hd_cuda_dwconv7_own_bwd_weight_work(N, H, W, C),
	       cudnn = hd_cuda_dwconv7_cudnn_bwd_weight_work(N, H, W, C);
	return own > cudnn ? own : cudnn;
}

hd_status hd_cuda_dwconv7_bwd_weight(float *dk, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream)
{
	hd_tune_call call = {
	        .dt = dt, .size = {N, H, W, C}, .out = {dk, db}, .in = {dy, x}, .beta = beta, .work = work};
	return hd_cuda_tune_run(&bwd_weight, &call, stream);
}
