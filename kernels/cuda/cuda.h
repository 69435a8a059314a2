/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the CUDA back end (libheimdall_cuda.so): every kernel source defines the operations of kernels.def that
 * its name says as extern "C" hd_cuda_OP, launches on the given stream and returns without waiting.
 *
 * The library is opened at run time and links to nothing of the program: errors go through the function that the
 * program hands over (hd_cuda_plugin). One device and one back end per process.
 */
#ifndef HD_KERNELS_CUDA_H
#define HD_KERNELS_CUDA_H

#ifdef __cplusplus
#include <cuda_runtime.h>
#else
#include <cuda_runtime_api.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#include "heimdall/backend.h"

/* Of a launcher that has `stream`: what a stream of the back end is made of. */
struct hd_stream {
	cudaStream_t cuda;
	void *workspace; /* device memory for cuBLASLt and cuDNN, one per stream, of one size */
	size_t workspace_bytes;
	unsigned *counters; /* device memory, HD_CUDA_COUNTERS of them, all 0 between operations */
};

/*
 * Counters of a stream, for the blocks of one kernel: the last one to come adds what all have written (reduce.cuh) and
 * leaves a 0. They are the stream's, as its workspace is: kernels of a stream follow each other, in a recording too.
 * A launch that is refused starts no block, and a kernel that dies on the way takes the context with it, so that no
 * operation ever finds a counter that is not 0.
 */
#define HD_CUDA_COUNTERS 256

/* The stream that NULL stands for: the back end's main one. */
extern hd_stream hd_cuda_main_stream;

static inline cudaStream_t hd_cuda_stream(hd_stream *stream)
{
	return stream ? stream->cuda : hd_cuda_main_stream.cuda;
}

/* Counters for so many groups of blocks, or NULL where the stream has not as many. */
static inline unsigned *hd_cuda_counters(hd_stream *stream, int64_t groups)
{
	const hd_stream *on = stream ? stream : &hd_cuda_main_stream;
	return groups <= HD_CUDA_COUNTERS ? on->counters : NULL;
}

static inline bool hd_cuda_is_main(const hd_stream *stream)
{
	return !stream || stream == &hd_cuda_main_stream;
}

/* Device of the back end. */
extern struct cudaDeviceProp hd_cuda_device;

/* The program's hd_fail. */
extern hd_status (*hd_cuda_fail)(hd_status status, const char *format, ...);

/* Makes the back end's device that of the calling thread. */
hd_status hd_cuda_use_device(void);

/* HD_OK, or the error of `what` ("layernorm_fwd") with CUDA's text; out of memory gives HD_E_MEMORY. */
hd_status hd_cuda_check(cudaError_t error, const char *what);

/* What a launcher ends with. */
#define HD_CUDA_LAUNCHED(op) hd_cuda_check(cudaGetLastError(), #op)

/*
 * Free what these operations keep on the device between calls (tables, plans, handles); the back end's close calls them
 * after the streams are idle. Both may be called where nothing is kept.
 */
void hd_cuda_stft_close(void);
void hd_cuda_linear_close(void);

#define HD_OP(name, kind, params) hd_status hd_cuda_##name params;
#define HD_WORK(name, params) size_t hd_cuda_##name##_work params;
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK

#ifdef __cplusplus
}
#endif
#endif
