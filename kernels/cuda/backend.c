/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA back end: one device, its memory, its main stream and the copies to and from it. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/graph.h"
#include "kernels/cuda/nccl.h"
#include "kernels/cuda/plugin.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/tune.h"

/* What the build compiled for, such as "80 90". */
#ifndef HD_CUDA_ARCHS
#define HD_CUDA_ARCHS "unknown"
#endif

/*
 * Of every stream, for vendors' libraries: what NVIDIA recommends for cuBLASLt on Hopper and later. All have the same,
 * as the choice of an algorithm, and with it the bits, hangs on the size; and from the start, as nothing can be
 * allocated while a graph is recorded.
 */
#define WORKSPACE_BYTES ((size_t)32 << 20)
/*
 * An upload goes through the next slots of a ring of pinned memory, so that the host does not wait for the stream: as
 * many slots as the small uploads of several steps.
 */
#define SLOTS 64
#define SLOT_BYTES ((size_t)256 << 10)

typedef struct cuda_backend {
	hd_backend base;
	int device;
	void *staging;            /* SLOTS * SLOT_BYTES, pinned */
	cudaEvent_t taken[SLOTS]; /* the copy out of the slot is done */
	unsigned next;            /* slot, counted on and on */
	pthread_mutex_t lock;     /* of the ring, which all streams share */
	char tier[256];
} cuda_backend;

hd_stream hd_cuda_main_stream;
struct cudaDeviceProp hd_cuda_device;
hd_status (*hd_cuda_fail)(hd_status status, const char *format, ...);

/* Slots of kind HD_FUSED may have no function. */
#define LINKAGE_HD_REQUIRED
#define LINKAGE_HD_FUSED __attribute__((weak))
#define HD_OP(name, kind, params) extern hd_status hd_cuda_##name params LINKAGE_##kind;
#define HD_WORK(name, params)
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK

static const hd_ops cuda_ops = {
#define HD_OP(name, kind, params) .name = hd_cuda_##name,
#define HD_WORK(name, params) .name##_work = hd_cuda_##name##_work,
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK
};

static bool opened; /* the globals above belong to somebody */
static int opened_device;

/* Errors of a device that is older or newer than what this library was built for. */
static bool lacks_code(cudaError_t error)
{
	return error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
	       error == cudaErrorInvalidKernelImage || error == cudaErrorUnsupportedPtxVersion ||
	       error == cudaErrorJitCompilerNotFound || error == cudaErrorJitCompilationDisabled;
}

hd_status hd_cuda_check(cudaError_t error, const char *what)
{
	if (error == cudaSuccess)
		return HD_OK;
	if (error == cudaErrorDevicesUnavailable)
		return hd_cuda_fail(HD_E_UNSUPPORTED,
		        "%s: CUDA error %d, %s: another process has the device to itself, or it is not for computing "
		        "(nvidia-smi -q -d COMPUTE)",
		        what, (int)error, cudaGetErrorName(error));
	if (lacks_code(error))
		return hd_cuda_fail(HD_E_UNSUPPORTED,
		        "%s: CUDA error %d, %s: no code for %s, compute capability %d.%d; this library was built for "
		        "%s: build it with CUDA_ARCHS=%d%d",
		        what, (int)error, cudaGetErrorName(error), hd_cuda_device.name, hd_cuda_device.major,
		        hd_cuda_device.minor, HD_CUDA_ARCHS, hd_cuda_device.major, hd_cuda_device.minor);
	return hd_cuda_fail(error == cudaErrorMemoryAllocation ? HD_E_MEMORY : HD_E_FAILED, "%s: CUDA error %d, %s: %s",
	        what, (int)error, cudaGetErrorName(error), cudaGetErrorString(error));
}

/* The current device is each host thread's own. */
static hd_status use_device(const hd_backend *self)
{
	return hd_cuda_check(cudaSetDevice(((const cuda_backend *)self)->device), "cudaSetDevice");
}

hd_status hd_cuda_use_device(void)
{
	return hd_cuda_check(cudaSetDevice(opened_device), "cudaSetDevice");
}

static hd_status allocate(void **out, size_t bytes)
{
	*out = NULL;
	cudaError_t error = cudaMalloc(out, bytes ? bytes : 1);
	if (error != cudaErrorMemoryAllocation)
		return hd_cuda_check(error, "cudaMalloc");
	size_t available = 0, total = 0;
	cudaGetLastError(); /* or the next launch finds this error */
	if (cudaMemGetInfo(&available, &total) != cudaSuccess)
		return hd_cuda_fail(HD_E_MEMORY, "out of device memory: %zu bytes wanted", bytes);
	return hd_cuda_fail(HD_E_MEMORY,
	        "out of device memory: %zu bytes wanted, %zu of %zu free; take a smaller batch, or stop what else uses "
	        "%s",
	        bytes, available, total, hd_cuda_device.name);
}

/* A stream that no other than the recording thread uses. */
#define NO_STREAM (&(hd_stream){0})

static hd_status cuda_alloc(hd_backend *self, void **out, size_t bytes)
{
	hd_status st = HD_OK;
	*out = NULL;
	HD_TRY(hd_cuda_not_recorded("alloc", NO_STREAM));
	HD_TRY(use_device(self));
	HD_TRY(allocate(out, bytes));
done:
	return st;
}

static void cuda_free(hd_backend *self, void *p)
{
	if (!p)
		return;
	hd_cuda_end_recording("free");
	if (cudaSetDevice(((cuda_backend *)self)->device) == cudaSuccess)
		cudaFree(p);
}

/* One piece of an upload, at most a slot. */
static hd_status stage(cuda_backend *b, char *dst, const char *src, size_t bytes, cudaStream_t stream)
{
	hd_status st = HD_OK;
	unsigned slot = b->next++ % SLOTS;
	char *pinned = (char *)b->staging + slot * SLOT_BYTES;
	HD_TRY(hd_cuda_check(cudaEventSynchronize(b->taken[slot]), "upload"));
	memcpy(pinned, src, bytes);
	HD_TRY(hd_cuda_check(cudaMemcpyAsync(dst, pinned, bytes, cudaMemcpyHostToDevice, stream), "upload"));
	HD_TRY(hd_cuda_check(cudaEventRecord(b->taken[slot], stream), "upload"));
done:
	return st;
}

/* Returns when the source may change, which is before the copy is done. */
static hd_status cuda_upload(hd_backend *self, void *dst, const void *src, size_t bytes, hd_stream *stream)
{
	cuda_backend *b = (cuda_backend *)self;
	hd_status st = hd_cuda_not_recorded("upload", stream);
	if (st != HD_OK)
		return st;
	pthread_mutex_lock(&b->lock);
	HD_TRY(use_device(self));
	for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
		size_t piece = bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
		HD_TRY(stage(b, (char *)dst + at, (const char *)src + at, piece, hd_cuda_stream(stream)));
	}
done:
	pthread_mutex_unlock(&b->lock);
	return st;
}

/* The destination is pageable, for which CUDA waits anyway; done on return. */
static hd_status cuda_download(hd_backend *self, void *dst, const void *src, size_t bytes, hd_stream *stream)
{
	hd_status st = HD_OK;
	cudaStream_t cuda = hd_cuda_stream(stream);
	if (!bytes)
		return HD_OK;
	HD_TRY(hd_cuda_not_recorded("download", stream));
	HD_TRY(use_device(self));
	HD_TRY(hd_cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, cuda), "download"));
	HD_TRY(hd_cuda_check(cudaStreamSynchronize(cuda), "download"));
done:
	return st;
}

static hd_status cuda_copy(hd_backend *self, void *dst, const void *src, size_t bytes, hd_stream *stream)
{
	hd_status st = HD_OK;
	if (!bytes)
		return HD_OK;
	HD_TRY(use_device(self));
	/* an address says by itself whether it is the device's or the host's */
	HD_TRY(hd_cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, hd_cuda_stream(stream)), "copy"));
done:
	return st;
}

static hd_status cuda_fill(hd_backend *self, void *dst, int byte, size_t bytes, hd_stream *stream)
{
	hd_status st = HD_OK;
	if (!bytes)
		return HD_OK;
	HD_TRY(use_device(self));
	HD_TRY(hd_cuda_check(cudaMemsetAsync(dst, byte, bytes, hd_cuda_stream(stream)), "fill"));
done:
	return st;
}

static hd_status cuda_sync(hd_backend *self, hd_stream *stream)
{
	hd_status st = HD_OK;
	HD_TRY(hd_cuda_not_recorded("sync", stream));
	HD_TRY(use_device(self));
	HD_TRY(hd_cuda_check(cudaStreamSynchronize(hd_cuda_stream(stream)), "sync"));
done:
	return st;
}

static hd_status cuda_memory(hd_backend *self, size_t *available, size_t *total)
{
	hd_status st = HD_OK;
	HD_TRY(use_device(self));
	HD_TRY(hd_cuda_check(cudaMemGetInfo(available, total), "cudaMemGetInfo"));
done:
	return st;
}

static hd_status cuda_alloc_host(hd_backend *self, void **out, size_t bytes)
{
	hd_status st = HD_OK;
	*out = NULL;
	HD_TRY(hd_cuda_not_recorded("alloc_host", NO_STREAM));
	HD_TRY(use_device(self));
	cudaError_t error = cudaMallocHost(out, bytes ? bytes : 1);
	if (error == cudaErrorMemoryAllocation) {
		cudaGetLastError(); /* or the next launch finds this error */
		st = hd_cuda_fail(HD_E_MEMORY, "out of pinned host memory: %zu bytes wanted", bytes);
		goto done;
	}
	HD_TRY(hd_cuda_check(error, "cudaMallocHost"));
done:
	return st;
}

static void cuda_free_host(hd_backend *self, void *p)
{
	if (!p)
		return;
	hd_cuda_end_recording("free_host");
	if (cudaSetDevice(((cuda_backend *)self)->device) == cudaSuccess)
		cudaFreeHost(p);
}

static void close_stream(hd_stream *stream)
{
	if (stream->cuda) {
		cudaStreamSynchronize(stream->cuda);
		cudaStreamDestroy(stream->cuda);
	}
	if (stream->counters)
		cudaFree(stream->counters);
	if (stream->workspace)
		cudaFree(stream->workspace);
	*stream = (hd_stream){0};
}

static hd_status make_stream(hd_stream *out)
{
	hd_status st;
	size_t counters_bytes = HD_CUDA_COUNTERS * sizeof *out->counters;
	HD_TRY(hd_cuda_check(cudaStreamCreateWithFlags(&out->cuda, cudaStreamNonBlocking), "cudaStreamCreate"));
	HD_TRY(allocate(&out->workspace, WORKSPACE_BYTES));
	out->workspace_bytes = WORKSPACE_BYTES;
	HD_TRY(allocate((void **)&out->counters, counters_bytes));
	HD_TRY(hd_cuda_check(cudaMemsetAsync(out->counters, 0, counters_bytes, out->cuda), "cudaMemset"));
done:
	return st;
}

static hd_status cuda_open_stream(hd_backend *self, hd_stream **out)
{
	hd_status st = HD_OK;
	hd_stream *stream = NULL;
	*out = NULL;
	HD_TRY(hd_cuda_not_recorded("open_stream", NO_STREAM));
	HD_TRY(use_device(self));
	stream = calloc(1, sizeof *stream);
	if (!stream) {
		st = hd_cuda_fail(HD_E_MEMORY, "out of memory for a stream");
		goto done;
	}
	HD_TRY(make_stream(stream));
	*out = stream;
	stream = NULL;
done:
	if (stream)
		close_stream(stream);
	free(stream);
	return st;
}

static void cuda_close_stream(hd_backend *self, hd_stream *stream)
{
	if (!stream)
		return;
	hd_cuda_end_recording("close_stream");
	if (cudaSetDevice(((cuda_backend *)self)->device) == cudaSuccess)
		close_stream(stream);
	free(stream);
}

/* An hd_event is CUDA's handle by another name. A host thread that waits for it leaves its core to others. */
static hd_status cuda_open_event(hd_backend *self, hd_event **out)
{
	hd_status st = HD_OK;
	cudaEvent_t event = NULL;
	*out = NULL;
	HD_TRY(use_device(self));
	HD_TRY(hd_cuda_check(
	        cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreate"));
	*out = (hd_event *)event;
done:
	return st;
}

static void cuda_close_event(hd_backend *self, hd_event *event)
{
	if (event && cudaSetDevice(((cuda_backend *)self)->device) == cudaSuccess)
		cudaEventDestroy((cudaEvent_t)event);
}

static hd_status cuda_record(hd_backend *self, hd_event *event, hd_stream *stream)
{
	hd_status st = HD_OK;
	HD_TRY(use_device(self));
	HD_TRY(hd_cuda_check(cudaEventRecord((cudaEvent_t)event, hd_cuda_stream(stream)), "record"));
done:
	return st;
}

static hd_status cuda_await(hd_backend *self, hd_stream *stream, hd_event *event)
{
	hd_status st = HD_OK;
	HD_TRY(use_device(self));
	HD_TRY(hd_cuda_check_await(cudaStreamWaitEvent(hd_cuda_stream(stream), (cudaEvent_t)event, 0)));
done:
	return st;
}

static hd_status cuda_wait(hd_backend *self, hd_event *event)
{
	hd_status st = HD_OK;
	HD_TRY(hd_cuda_not_recorded("wait", NO_STREAM));
	HD_TRY(use_device(self));
	HD_TRY(hd_cuda_check(cudaEventSynchronize((cudaEvent_t)event), "wait"));
done:
	return st;
}

static size_t cuda_notes(hd_backend *self, char *out, size_t bytes)
{
	(void)self;
	size_t length = hd_cuda_tune_notes(out, bytes);
	return length + hd_cuda_nccl_notes(out + length, bytes - length);
}

static void cuda_allow_tf32(hd_backend *self, bool allow)
{
	(void)self;
	hd_cuda_linear_allow_tf32(allow);
}

static void cuda_choose_conv(hd_backend *self, hd_conv wanted)
{
	(void)self;
	hd_cuda_tune_conv(wanted);
}

static void cuda_close(hd_backend *self)
{
	cuda_backend *b = (cuda_backend *)self;
	cudaSetDevice(b->device);
	hd_cuda_graph_close();
	if (hd_cuda_main_stream.cuda)
		cudaStreamSynchronize(hd_cuda_main_stream.cuda);
	hd_cuda_tune_close();
	hd_cuda_cudnn_close();
	hd_cuda_linear_close();
	hd_cuda_stft_close();
	for (int i = SLOTS - 1; i >= 0; i--)
		if (b->taken[i])
			cudaEventDestroy(b->taken[i]);
	if (b->staging)
		cudaFreeHost(b->staging);
	close_stream(&hd_cuda_main_stream);
	pthread_mutex_destroy(&b->lock);
	free(b);
	opened = false;
}

/* Runs the smallest operation, which finds out here whether the device runs code of this library. */
static hd_status try_kernel(hd_backend *b)
{
	hd_status st = HD_OK;
	float in[2] = {1, 2}, out[2] = {0, 0};
	float *device = (float *)hd_cuda_main_stream.workspace;
	HD_TRY(b->upload(b, device, in, sizeof in, NULL));
	HD_TRY(b->ops.add(device, device, device, 2, NULL));
	HD_TRY(b->download(b, out, device, sizeof out, NULL));
	if (out[0] != 2 || out[1] != 4)
		st = hd_cuda_fail(HD_E_FAILED, "%s: 1+1 and 2+2 gave %g and %g", hd_cuda_device.name, (double)out[0],
		        (double)out[1]);
done:
	return st;
}

static hd_status start(cuda_backend *b)
{
	hd_status st;
	HD_TRY(hd_cuda_check(cudaSetDevice(b->device), "cudaSetDevice"));
	HD_TRY(hd_cuda_check(cudaGetDeviceProperties(&hd_cuda_device, b->device), "cudaGetDeviceProperties"));
	snprintf(b->tier, sizeof b->tier, "%s", hd_cuda_device.name);
	/* tensor cores take both from compute capability 8.0 on */
	if (hd_cuda_device.major >= 8) {
		b->base.bf16 = true;
		b->base.allow_tf32 = cuda_allow_tf32;
		cuda_allow_tf32(&b->base, false);
	}
	HD_TRY(make_stream(&hd_cuda_main_stream));
	HD_TRY(hd_cuda_check(cudaMallocHost(&b->staging, SLOTS * SLOT_BYTES), "cudaMallocHost"));
	for (int i = 0; i < SLOTS; i++)
		HD_TRY(hd_cuda_check(
		        cudaEventCreateWithFlags(&b->taken[i], cudaEventDisableTiming), "cudaEventCreate"));
	HD_TRY(try_kernel(&b->base));
done:
	return st;
}

static hd_status open_device(hd_backend **out, int device, hd_cuda_fail_function fail)
{
	*out = NULL;
	if (opened)
		return fail(HD_E_UNSUPPORTED, "the CUDA back end is open already; close it first");
	cuda_backend *b = calloc(1, sizeof *b);
	if (!b)
		return fail(HD_E_MEMORY, "out of memory for the CUDA back end");
	hd_cuda_fail = fail;
	opened = true;
	b->device = opened_device = device;
	pthread_mutex_init(&b->lock, NULL);
	b->base = (hd_backend){
	        .name = "cuda",
	        .tier = b->tier,
	        .threads = 1,
	        .own_memory = true,
	        .ops = cuda_ops,
	        .alloc = cuda_alloc,
	        .free = cuda_free,
	        .upload = cuda_upload,
	        .download = cuda_download,
	        .copy = cuda_copy,
	        .fill = cuda_fill,
	        .sync = cuda_sync,
	        .memory = cuda_memory,
	        .alloc_host = cuda_alloc_host,
	        .free_host = cuda_free_host,
	        .open_stream = cuda_open_stream,
	        .close_stream = cuda_close_stream,
	        .open_event = cuda_open_event,
	        .close_event = cuda_close_event,
	        .record = cuda_record,
	        .await = cuda_await,
	        .wait = cuda_wait,
	        .choose_conv = cuda_choose_conv,
	        .notes = cuda_notes,
	        .begin_capture = hd_cuda_begin_capture,
	        .end_capture = hd_cuda_end_capture,
	        .run_graph = hd_cuda_run_graph,
	        .close_graph = hd_cuda_close_graph,
	        .collective = &hd_cuda_collective,
	        .close = cuda_close,
	};
	hd_status st = start(b);
	if (st == HD_OK) {
		*out = &b->base;
	} else {
		cuda_close(&b->base);
		cudaGetLastError(); /* or the first launch on another device finds this error */
	}
	return st;
}

static const hd_cuda_plugin plugin = {
        .abi = HD_CUDA_PLUGIN_ABI,
        .backend_bytes = sizeof(hd_backend),
        .device_count = hd_cuda_device_count,
        .describe = hd_cuda_device_describe,
        .open = open_device,
};

__attribute__((visibility("default"))) const hd_cuda_plugin *hd_cuda_plugin_get(void)
{
	return &plugin;
}
