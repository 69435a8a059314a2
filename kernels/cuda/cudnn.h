/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuDNN, opened at run time: the back end works without it. Convolutions over NHWC float maps by the calls of its
 * version 7 interface, which version 9 still has (deprecated, cudnn_cnn_v9.h); float arithmetic without TF32, and of
 * the algorithms only those that NVIDIA documents as deterministic. One handle, one lock: any thread may call.
 *
 * Nothing here reports through hd_cuda_fail: whoever calls has another way to the same result.
 */
#ifndef HD_KERNELS_CUDA_CUDNN_H
#define HD_KERNELS_CUDA_CUDNN_H

#include "kernels/cuda/cuda.h"

/* Where the build had no headers of cuDNN there is no cuDNN at run time either. */
#if __has_include(<cudnn.h>)
#include <cudnn.h>
#define HD_CUDA_HAS_CUDNN 1
#else
#define HD_CUDA_HAS_CUDNN 0
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if HD_CUDA_HAS_CUDNN
/* Names, types and the library's functions: cudnn + name. */
#define HD_CUDNN_FUNCTIONS(X)                                                                                          \
	X(GetVersion)                                                                                                  \
	X(Create)                                                                                                      \
	X(Destroy)                                                                                                     \
	X(SetStream)                                                                                                   \
	X(GetErrorString)                                                                                              \
	X(CreateTensorDescriptor)                                                                                      \
	X(DestroyTensorDescriptor)                                                                                     \
	X(SetTensor4dDescriptor)                                                                                       \
	X(CreateFilterDescriptor)                                                                                      \
	X(DestroyFilterDescriptor)                                                                                     \
	X(SetFilter4dDescriptor)                                                                                       \
	X(CreateConvolutionDescriptor)                                                                                 \
	X(DestroyConvolutionDescriptor)                                                                                \
	X(SetConvolution2dDescriptor)                                                                                  \
	X(SetConvolutionGroupCount)                                                                                    \
	X(SetConvolutionMathType)                                                                                      \
	X(GetConvolution2dForwardOutputDim)                                                                            \
	X(GetConvolutionForwardWorkspaceSize)                                                                          \
	X(GetConvolutionBackwardDataWorkspaceSize)                                                                     \
	X(GetConvolutionBackwardFilterWorkspaceSize)                                                                   \
	X(ConvolutionForward)                                                                                          \
	X(ConvolutionBackwardData)                                                                                     \
	X(ConvolutionBackwardFilter)

typedef struct hd_cudnn {
#define X(name) __typeof__(&cudnn##name) name;
	HD_CUDNN_FUNCTIONS(X)
#undef X
} hd_cudnn;

/*
 * NULL where the library, one of its parts (libcudnn_cnn.so.9 and others, without which it ends the process at its
 * first convolution) or one of its functions is missing. Callers let in one thread at a time; stays open.
 */
const hd_cudnn *hd_cuda_cudnn(void);
#endif

/* "cuDNN 9.19.0", or "no cuDNN" with the reason, such as "no cuDNN: libcudnn.so.9 is not there". Static. */
const char *hd_cuda_cudnn_text(void);

/* Whether the library is there and its handle starts on this device. */
bool hd_cuda_cudnn_ready(void);

/*
 * A convolution of x (N,H,W,C) to y (N,Ho,Wo,K), Ho = (H + 2 padding - taps)/stride + 1, with w (K,taps,taps,C/groups):
 * cuDNN's NHWC filters, which it calls KRSC, or with kcrs w (K,C/groups,taps,taps), its NCHW filters: the same where a
 * group has one channel, but not to its algorithms, which take the one or the other. The filter of channel k meets
 * channels k/(K/groups) * C/groups on.
 */
typedef struct hd_cudnn_shape {
	int64_t N, H, W, C, K;
	int64_t taps, stride, padding, groups;
	int64_t kcrs; /* 0 or 1 */
} hd_cudnn_shape;

/* All overwrite what they write, whatever it held, but for beta of HD_CUDNN_FILTER. */
typedef enum hd_cudnn_task {
	HD_CUDNN_FORWARD,         /* y from x, w; implicit product */
	HD_CUDNN_FORWARD_PRECOMP, /* the same; implicit product, indices computed before */
	HD_CUDNN_DATA,            /* dx from dy, w; algorithm 1 */
	HD_CUDNN_FILTER,          /* dw = beta*dw + that from dy, x; algorithm 1 */
	HD_CUDNN_TASKS
} hd_cudnn_task;

/*
 * Queues a task. out: y, dx or dw; data: x, or dy for the gradients; other: w, or x for HD_CUDNN_FILTER. workspace:
 * device memory, 256-byte aligned, free until the task is done. beta: of HD_CUDNN_FILTER, else not read.
 *
 * HD_E_UNSUPPORTED with the reason in why (bytes of it, cut where longer) where cuDNN does not take the shape, wants
 * more workspace, or fails; `out` holds anything then.
 */
hd_status hd_cuda_cudnn_convolve(hd_cudnn_task task, const hd_cudnn_shape *shape, float *out, const float *data,
        const float *other, float beta, void *workspace, size_t workspace_bytes, cudaStream_t stream, char *why,
        size_t bytes);

/* Of the back end's close. */
void hd_cuda_cudnn_close(void);

#ifdef __cplusplus
}
#endif
#endif
