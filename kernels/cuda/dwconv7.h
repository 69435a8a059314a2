/* SPDX-License-Identifier: Apache-2.0 */
/* Ways to the depthwise convolutions of kernels.def, whose arguments and rules these functions have. */
#ifndef HD_KERNELS_CUDA_DWCONV7_H
#define HD_KERNELS_CUDA_DWCONV7_H

#include "kernels/cuda/tune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* By own kernels (dwconv7.cu); all shapes up to what is said there. */
hd_status hd_cuda_dwconv7_own_fwd(void *y, const void *x, const float *k, const float *b, hd_dtype dt, int64_t N,
        int64_t H, int64_t W, int64_t C, hd_stream *stream);
hd_status hd_cuda_dwconv7_own_bwd_data(void *dx, const void *dy, const float *k, const void *residual, hd_dtype dt,
        int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream);
hd_status hd_cuda_dwconv7_own_bwd_weight(float *dk, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t N, int64_t H, int64_t W, int64_t C, hd_stream *stream);
size_t hd_cuda_dwconv7_own_bwd_weight_work(int64_t N, int64_t H, int64_t W, int64_t C);

/*
 * By cuDNN (dwconv7_cudnn.c), as ways of the tuner: sizes N H W C; fwd: out y, in x, k, b; bwd_data: out dx, in dy, k,
 * residual; bwd_weight: out dk, db, in dy, x. float32, sizes above 0. All take workspace of the stream.
 * _kcrs: with cuDNN's NCHW filters in the place of NHWC ones, the maps being NHWC all the same.
 */
hd_status hd_cuda_dwconv7_cudnn_fwd(const hd_tune_call *call, hd_stream *stream, char *why);
hd_status hd_cuda_dwconv7_cudnn_fwd_kcrs(const hd_tune_call *call, hd_stream *stream, char *why);
hd_status hd_cuda_dwconv7_cudnn_fwd_precomp(const hd_tune_call *call, hd_stream *stream, char *why);
hd_status hd_cuda_dwconv7_cudnn_fwd_precomp_kcrs(const hd_tune_call *call, hd_stream *stream, char *why);
hd_status hd_cuda_dwconv7_cudnn_bwd_data(const hd_tune_call *call, hd_stream *stream, char *why);
hd_status hd_cuda_dwconv7_cudnn_bwd_data_kcrs(const hd_tune_call *call, hd_stream *stream, char *why);
hd_status hd_cuda_dwconv7_cudnn_bwd_weight(const hd_tune_call *call, hd_stream *stream, char *why);
hd_status hd_cuda_dwconv7_cudnn_bwd_weight_kcrs(const hd_tune_call *call, hd_stream *stream, char *why);
size_t hd_cuda_dwconv7_cudnn_bwd_weight_work(int64_t N, int64_t H, int64_t W, int64_t C);

#ifdef __cplusplus
}
#endif
#endif
