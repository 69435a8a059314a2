/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuDNN's convolutions of the version 7 interface as NVIDIA documents them, compiled against NVIDIA's cudnn.h: float
 * maps and filters in NCHW or NHWC, groups, padding, stride, dilation 1. Naive loops in double. Without CUDNN_FMA_MATH
 * inputs are rounded to TF32. Algorithms that want workspace get it overwritten. What is not known here is refused.
 */
#include "cudnn.h"
#include "hooks.h"

#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACE_BYTES 1000
#define ALIGN_BYTES 16

struct cudnnContext {
	cudaStream_t stream;
};
struct cudnnTensorStruct {
	cudnnTensorFormat_t format;
	int n, c, h, w;
};
/* c: of one group. */
struct cudnnFilterStruct {
	cudnnTensorFormat_t format;
	int k, c, h, w;
};
struct cudnnConvolutionStruct {
	int pad_h, pad_w, stride_h, stride_w, groups;
	cudnnConvolutionMode_t mode;
	cudnnMathType_t math;
};

hd_fake_cudnn_mood hd_fake_cudnn_mood_now;
int hd_fake_cudnn_convolutions, hd_fake_cudnn_descriptors;

size_t cudnnGetVersion(void)
{
	return CUDNN_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
	return status == CUDNN_STATUS_SUCCESS         ? "CUDNN_STATUS_SUCCESS"
	       : status == CUDNN_STATUS_BAD_PARAM     ? "CUDNN_STATUS_BAD_PARAM"
	       : status == CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED"
	                                              : "CUDNN_STATUS";
}

static cudnnStatus_t make(void **out, size_t bytes)
{
	*out = calloc(1, bytes);
	hd_fake_cudnn_descriptors += *out != NULL;
	return *out ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
}

static cudnnStatus_t destroy(void *p)
{
	if (!p)
		return CUDNN_STATUS_BAD_PARAM;
	free(p);
	hd_fake_cudnn_descriptors--;
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
	if (hd_fake_cudnn_mood_now == HD_FAKE_CUDNN_ABSENT)
		return CUDNN_STATUS_NOT_INITIALIZED;
	return make((void **)handle, sizeof **handle);
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
	return destroy(handle);
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
	handle->stream = stream;
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *t)
{
	return make((void **)t, sizeof **t);
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t t)
{
	return destroy(t);
}

cudnnStatus_t cudnnSetTensor4dDescriptor(
        cudnnTensorDescriptor_t t, cudnnTensorFormat_t format, cudnnDataType_t type, int n, int c, int h, int w)
{
	if (type != CUDNN_DATA_FLOAT || format == CUDNN_TENSOR_NCHW_VECT_C || n < 1 || c < 1 || h < 1 || w < 1)
		return CUDNN_STATUS_BAD_PARAM;
	*t = (struct cudnnTensorStruct){format, n, c, h, w};
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *f)
{
	return make((void **)f, sizeof **f);
}

cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t f)
{
	return destroy(f);
}

cudnnStatus_t cudnnSetFilter4dDescriptor(
        cudnnFilterDescriptor_t f, cudnnDataType_t type, cudnnTensorFormat_t format, int k, int c, int h, int w)
{
	if (type != CUDNN_DATA_FLOAT || format == CUDNN_TENSOR_NCHW_VECT_C || k < 1 || c < 1 || h < 1 || w < 1)
		return CUDNN_STATUS_BAD_PARAM;
	*f = (struct cudnnFilterStruct){format, k, c, h, w};
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *d)
{
	return make((void **)d, sizeof **d);
}

cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d)
{
	return destroy(d);
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w, int u, int v,
        int dilation_h, int dilation_w, cudnnConvolutionMode_t mode, cudnnDataType_t compute)
{
	if (compute != CUDNN_DATA_FLOAT || dilation_h != 1 || dilation_w != 1 || pad_h < 0 || pad_w < 0 || u < 1 ||
	        v < 1)
		return CUDNN_STATUS_BAD_PARAM;
	*d = (struct cudnnConvolutionStruct){pad_h, pad_w, u, v, 1, mode, CUDNN_DEFAULT_MATH};
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups)
{
	d->groups = groups;
	return groups < 1 ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math)
{
	d->math = math;
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolution2dForwardOutputDim(const cudnnConvolutionDescriptor_t d,
        const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t f, int *n, int *c, int *h, int *w)
{
	if (x->c != f->c * d->groups || f->k % d->groups != 0 || x->h + 2 * d->pad_h < f->h ||
	        x->w + 2 * d->pad_w < f->w)
		return CUDNN_STATUS_BAD_PARAM;
	*n = x->n;
	*c = f->k;
	*h = 1 + (x->h + 2 * d->pad_h - f->h) / d->stride_h;
	*w = 1 + (x->w + 2 * d->pad_w - f->w) / d->stride_w;
	return CUDNN_STATUS_SUCCESS;
}

/* ---- the convolutions ---- */

typedef enum kind { FORWARD, DATA, FILTER } kind;

typedef struct job {
	kind kind;
	struct cudnnTensorStruct x, y;
	struct cudnnFilterStruct f;
	struct cudnnConvolutionStruct d;
	float *out; /* y, dx or dw */
	const float *in, *filter;
	double alpha, beta, error;
	void *workspace;
	size_t workspace_bytes;
} job;

static size_t tensor_at(const struct cudnnTensorStruct *t, int n, int c, int h, int w)
{
	size_t N = (size_t)n, C = (size_t)c, H = (size_t)h, W = (size_t)w;
	if (t->format == CUDNN_TENSOR_NHWC)
		return ((N * (size_t)t->h + H) * (size_t)t->w + W) * (size_t)t->c + C;
	return ((N * (size_t)t->c + C) * (size_t)t->h + H) * (size_t)t->w + W;
}

static size_t filter_at(const struct cudnnFilterStruct *f, int k, int c, int h, int w)
{
	struct cudnnTensorStruct t = {f->format, f->k, f->c, f->h, f->w};
	return tensor_at(&t, k, c, h, w);
}

static size_t tensor_size(const struct cudnnTensorStruct *t)
{
	return (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w;
}

static size_t filter_size(const struct cudnnFilterStruct *f)
{
	return (size_t)f->k * (size_t)f->c * (size_t)f->h * (size_t)f->w;
}

static double value(const job *j, const float *p, size_t at)
{
	float v = p[at];
	if (j->d.math == CUDNN_FMA_MATH)
		return (double)v;
	uint32_t bits;
	memcpy(&bits, &v, sizeof bits);
	bits &= 0xffffe000u; /* 10 bits of fraction */
	memcpy(&v, &bits, sizeof v);
	return (double)v;
}

/* Adds all products of output (n,k,h,w), or those of its gradient. */
static void products(const job *j, double *sum, int n, int k, int h, int w)
{
	int first = k / (j->f.k / j->d.groups) * j->f.c;
	size_t y = tensor_at(&j->y, n, k, h, w);
	for (int r = 0; r < j->f.h; r++) {
		for (int s = 0; s < j->f.w; s++) {
			int row = h * j->d.stride_h - j->d.pad_h + r, column = w * j->d.stride_w - j->d.pad_w + s;
			if (row < 0 || row >= j->x.h || column < 0 || column >= j->x.w)
				continue;
			bool flipped = j->d.mode == CUDNN_CONVOLUTION;
			for (int c = 0; c < j->f.c; c++) {
				size_t x = tensor_at(&j->x, n, first + c, row, column),
				       f = filter_at(
				               &j->f, k, c, flipped ? j->f.h - 1 - r : r, flipped ? j->f.w - 1 - s : s);
				if (j->kind == FORWARD)
					sum[y] += value(j, j->in, x) * value(j, j->filter, f);
				else if (j->kind == DATA)
					sum[x] += value(j, j->in, y) * value(j, j->filter, f);
				else
					sum[f] += value(j, j->in, y) * value(j, j->filter, x);
			}
		}
	}
}

static size_t out_size(const job *j)
{
	return j->kind == FORWARD ? tensor_size(&j->y) : j->kind == DATA ? tensor_size(&j->x) : filter_size(&j->f);
}

static void run(void *state)
{
	const job *j = state;
	size_t size = out_size(j);
	size_t in = j->kind == FORWARD ? tensor_size(&j->x) : tensor_size(&j->y);
	size_t other = j->kind == FILTER ? tensor_size(&j->x) : filter_size(&j->f);
	hd_emu_reads(j->in, in * sizeof(float));
	hd_emu_reads(j->filter, other * sizeof(float));
	hd_emu_writes(j->out, size * sizeof(float));
	if (j->workspace_bytes) {
		hd_emu_writes(j->workspace, j->workspace_bytes);
		memset(j->workspace, 0x5a, j->workspace_bytes);
	}
	double *sum = calloc(size, sizeof *sum);
	if (!sum)
		hd_emu_fail("cudnn: out of memory");
	for (int n = 0; n < j->y.n; n++)
		for (int k = 0; k < j->y.c; k++)
			for (int h = 0; h < j->y.h; h++)
				for (int w = 0; w < j->y.w; w++)
					products(j, sum, n, k, h, w);
	for (size_t i = 0; i < size; i++)
		j->out[i] = (float)(j->error * j->alpha * sum[i] + (j->beta == 0 ? 0 : j->beta * (double)j->out[i]));
	free(sum);
}

static cudnnStatus_t submit(cudnnHandle_t handle, const job *wanted)
{
	int n, c, h, w;
	if (hd_fake_cudnn_mood_now == HD_FAKE_CUDNN_REFUSES)
		return CUDNN_STATUS_NOT_SUPPORTED;
	if (cudnnGetConvolution2dForwardOutputDim((cudnnConvolutionDescriptor_t)&wanted->d,
	            (cudnnTensorDescriptor_t)&wanted->x, (cudnnFilterDescriptor_t)&wanted->f, &n, &c, &h, &w) ||
	        n != wanted->y.n || c != wanted->y.c || h != wanted->y.h || w != wanted->y.w)
		return CUDNN_STATUS_BAD_PARAM;
	if (wanted->workspace_bytes && (!wanted->workspace || (uintptr_t)wanted->workspace % ALIGN_BYTES))
		return CUDNN_STATUS_BAD_PARAM;
	size_t in = wanted->kind == FORWARD ? tensor_size(&wanted->x) : tensor_size(&wanted->y);
	size_t other = wanted->kind == FILTER ? tensor_size(&wanted->x) : filter_size(&wanted->f);
	hd_emu_need(wanted->in, in * sizeof(float), "cudnnConvolution, input");
	hd_emu_need(wanted->filter, other * sizeof(float), "cudnnConvolution, second input");
	hd_emu_need(wanted->out, out_size(wanted) * sizeof(float), "cudnnConvolution, output");
	if (wanted->workspace_bytes)
		hd_emu_need(wanted->workspace, wanted->workspace_bytes, "cudnnConvolution, workspace");
	job *j = malloc(sizeof *j);
	if (!j)
		return CUDNN_STATUS_INTERNAL_ERROR;
	*j = *wanted;
	j->error = hd_fake_cudnn_mood_now == HD_FAKE_CUDNN_WRONG ? 1.001 : 1;
	hd_fake_cudnn_convolutions++;
	return hd_emu_submit(handle->stream, "cudnnConvolution", run, free, j) ? CUDNN_STATUS_EXECUTION_FAILED
	                                                                       : CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t workspace_size(bool wanted, size_t *bytes)
{
	*bytes = hd_fake_cudnn_mood_now == HD_FAKE_CUDNN_GREEDY ? (size_t)1 << 40 : wanted ? WORKSPACE_BYTES : 0;
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,
        const cudnnFilterDescriptor_t w, const cudnnConvolutionDescriptor_t d, const cudnnTensorDescriptor_t y,
        cudnnConvolutionFwdAlgo_t algorithm, size_t *bytes)
{
	(void)handle, (void)x, (void)w, (void)d, (void)y;
	return workspace_size(algorithm != CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t handle, const cudnnFilterDescriptor_t w,
        const cudnnTensorDescriptor_t dy, const cudnnConvolutionDescriptor_t d, const cudnnTensorDescriptor_t dx,
        cudnnConvolutionBwdDataAlgo_t algorithm, size_t *bytes)
{
	(void)handle, (void)w, (void)dy, (void)d, (void)dx;
	return workspace_size(algorithm != CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,
        const cudnnTensorDescriptor_t dy, const cudnnConvolutionDescriptor_t d, const cudnnFilterDescriptor_t dw,
        cudnnConvolutionBwdFilterAlgo_t algorithm, size_t *bytes)
{
	(void)handle, (void)x, (void)dy, (void)d, (void)dw;
	return workspace_size(algorithm != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t x,
        const void *x_data, const cudnnFilterDescriptor_t w, const void *w_data, const cudnnConvolutionDescriptor_t d,
        cudnnConvolutionFwdAlgo_t algorithm, void *workspace, size_t bytes, const void *beta,
        const cudnnTensorDescriptor_t y, void *y_data)
{
	size_t wanted;
	cudnnGetConvolutionForwardWorkspaceSize(handle, x, w, d, y, algorithm, &wanted);
	job j = {FORWARD, *x, *y, *w, *d, y_data, x_data, w_data, (double)*(const float *)alpha,
	        (double)*(const float *)beta, 1, workspace, bytes};
	return bytes < wanted ? CUDNN_STATUS_BAD_PARAM : submit(handle, &j);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha, const cudnnFilterDescriptor_t w,
        const void *w_data, const cudnnTensorDescriptor_t dy, const void *dy_data, const cudnnConvolutionDescriptor_t d,
        cudnnConvolutionBwdDataAlgo_t algorithm, void *workspace, size_t bytes, const void *beta,
        const cudnnTensorDescriptor_t dx, void *dx_data)
{
	size_t wanted;
	cudnnGetConvolutionBackwardDataWorkspaceSize(handle, w, dy, d, dx, algorithm, &wanted);
	job j = {DATA, *dx, *dy, *w, *d, dx_data, dy_data, w_data, (double)*(const float *)alpha,
	        (double)*(const float *)beta, 1, workspace, bytes};
	return bytes < wanted ? CUDNN_STATUS_BAD_PARAM : submit(handle, &j);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t x,
        const void *x_data, const cudnnTensorDescriptor_t dy, const void *dy_data, const cudnnConvolutionDescriptor_t d,
        cudnnConvolutionBwdFilterAlgo_t algorithm, void *workspace, size_t bytes, const void *beta,
        const cudnnFilterDescriptor_t dw, void *dw_data)
{
	size_t wanted;
	cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, x, dy, d, dw, algorithm, &wanted);
	job j = {FILTER, *x, *dy, *dw, *d, dw_data, dy_data, x_data, (double)*(const float *)alpha,
	        (double)*(const float *)beta, 1, workspace, bytes};
	return bytes < wanted ? CUDNN_STATUS_BAD_PARAM : submit(handle, &j);
}
