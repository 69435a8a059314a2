/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A back end: device memory, streams and one table of operations (kernels/kernels.def).
 *
 * Memory from alloc() belongs to the device: host code never dereferences it, not even on the CPU
 * back end; it moves data with upload() and download(). Operations are queued on a stream in order;
 * sync() waits for it. On the CPU back end a stream is NULL and every operation is done on return.
 * One thread at a time may use one back end for one stream. A thread calls another function of the back end before its
 * first operation (that which opened it has): the device that operations run on is each thread's own.
 *
 * Streams run side by side; events order them: what is queued on a stream after await(stream, event) runs after what
 * was queued before record(event) on another. Copies that the host does not wait for take memory from alloc_host().
 */
#ifndef HEIMDALL_BACKEND_H
#define HEIMDALL_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"

typedef enum hd_dtype { HD_F32, HD_F16, HD_BF16, HD_F64, HD_I8, HD_U8, HD_I16, HD_I32 } hd_dtype;

/* Size of one element in bytes. */
size_t hd_dtype_bytes(hd_dtype dtype);

typedef struct hd_stream hd_stream;
typedef struct hd_event hd_event;
typedef struct hd_graph hd_graph;
typedef struct hd_backend hd_backend;

/* Way to convolutions: the fastest, timed once per shape; cuDNN's where it has one; the back end's own kernels. */
typedef enum hd_conv { HD_CONV_AUTO, HD_CONV_CUDNN, HD_CONV_OWN } hd_conv;

/*
 * Optimizer chunk, in elements: every parameter tensor starts on a chunk boundary of the flat
 * buffer, so that decay and learning-rate scale can be looked up per chunk.
 */
#define HD_CHUNK 1024

/* Per-step scalars of the AdamW operation; they live in device memory as floats in this order. */
typedef struct hd_adamw_hyper {
	float lr;
	float beta1;
	float beta2;
	float eps;
	float weight_decay;
	float max_norm;    /* gradient clipping by the total 2-norm; <= 0: no clipping */
	float correction1; /* 1 - beta1^step */
	float correction2; /* 1 - beta2^step */
	float ema_decay;   /* of the average of the weights, where there is one */
} hd_adamw_hyper;

/* What the loss is multiplied by, so that gradients in half precision do not vanish; lives in device memory. */
typedef struct hd_loss_scale {
	float scale;   /* a power of two where it began as one */
	float inverse; /* 1/scale of the last gradients */
	int32_t good;  /* finite steps since the scale changed */
	int32_t reserved;
} hd_loss_scale;

typedef enum hd_loss_kind { HD_LOSS_NLL, HD_LOSS_BETA_NLL, HD_LOSS_MSE } hd_loss_kind;
typedef enum hd_sigma_bound { HD_BOUND_SMOOTH, HD_BOUND_CLAMP } hd_sigma_bound;

/* Settings of the gaussian_nll operation; host memory. */
typedef struct hd_loss {
	hd_loss_kind kind;
	hd_sigma_bound bound;
	float lo, hi; /* of sigma, label units; 0 < lo < hi */
	float beta;   /* of beta-nll, 0 .. 1 */
} hd_loss;

/* Of GELU: by the normal distribution itself, or by its approximation with tanh. */
typedef enum hd_gelu_form { HD_GELU_ERF, HD_GELU_TANH } hd_gelu_form;

/* Key of the counter-based random numbers; lives in device memory. */
typedef struct hd_rng_key {
	uint32_t seed_lo;
	uint32_t seed_hi;
	uint32_t epoch;
	uint32_t reserved;
} hd_rng_key;

/* Stream of the draws of drop_path_scale: the counter's last word. */
#define HD_DROP_PATH 0x44525054u

/* Random changes of a training sample, each drawn by Philox from (seed, epoch, sample); host memory. */
typedef struct hd_augment {
	float dropout;          /* share of normalised values set to 0 */
	float scale_min;        /* a factor on the normalised values of a sample, uniform from here ... */
	float scale_max;        /* ... to here */
	float level_jitter;     /* standard deviation of a level added to each channel, dB */
	float receiver_dropout; /* largest share of channels made silent; a sample draws its own from 0 to this */
} hd_augment;

/* Streams of the draws of hd_augment: the counter's last word. */
#define HD_AUGMENT_SAMPLE 0x41554753u  /* counter 0: word 0 the scale, word 1 the share of channels */
#define HD_AUGMENT_CHANNEL 0x41554743u /* counter c: word 0 silence, words 1 and 2 the level */
#define HD_AUGMENT_VALUE 0x41554756u   /* counter e/4, word e%4 of value e = (m*W + t)*C + c */

typedef enum hd_op_kind { HD_REQUIRED, HD_FUSED } hd_op_kind;

/* The operation table. A slot of kind HD_FUSED may be NULL: then it is composed from required ones. */
typedef struct hd_ops {
#define HD_OP(name, kind, params) hd_status(*name) params;
#define HD_WORK(name, params) size_t(*name##_work) params;
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK
} hd_ops;

struct hd_backend {
	const char *name; /* "cpu", "cuda" */
	const char *tier; /* instruction tier or device name */
	int threads;      /* CPU threads that operations use */
	/*
	 * Device memory is apart from the host's and streams run on their own: queueing work ahead pays, and a second
	 * copy of data takes nothing from the host.
	 */
	bool own_memory;
	bool bf16; /* computes products in bfloat16 faster than in float32 */
	hd_ops ops;
	/* Whether products of float32 may round their inputs to TF32, at first not; NULL: this device has none. */
	void (*allow_tf32)(hd_backend *self, bool allow);
	void (*choose_conv)(hd_backend *self, hd_conv wanted); /* at first auto; NULL: this back end has one way */
	hd_status (*alloc)(hd_backend *self, void **out, size_t bytes); /* 64-byte aligned, contents undefined */
	void (*free)(hd_backend *self, void *p);                        /* NULL-safe */
	hd_status (*upload)(hd_backend *self, void *dst, const void *src, size_t bytes, hd_stream *stream);
	hd_status (*download)(hd_backend *self, void *dst, const void *src, size_t bytes, hd_stream *stream);
	/*
	 * Queued, and the host does not wait: from and to device memory or memory of alloc_host, which neither changes
	 * nor is looked at before an event or sync says that the copy is done.
	 */
	hd_status (*copy)(hd_backend *self, void *dst, const void *src, size_t bytes, hd_stream *stream);
	hd_status (*fill)(hd_backend *self, void *dst, int byte, size_t bytes, hd_stream *stream);
	hd_status (*sync)(hd_backend *self, hd_stream *stream);
	/* Bytes that alloc() could still give, and of the device in all. */
	hd_status (*memory)(hd_backend *self, size_t *available, size_t *total);

	/* Host memory that the device reaches (pinned), 64-byte aligned, contents undefined. */
	hd_status (*alloc_host)(hd_backend *self, void **out, size_t bytes);
	void (*free_host)(hd_backend *self, void *p); /* NULL-safe; no copy may be under way */
	/*
	 * A stream beside the main one, NULL, for copies, fills and operations, which give the same bits on every
	 * stream; *out is NULL where the back end has but one.
	 */
	hd_status (*open_stream)(hd_backend *self, hd_stream **out);
	void (*close_stream)(hd_backend *self, hd_stream *stream); /* NULL-safe; waits for what is queued */
	/* *out is NULL where the back end needs none; an event that was never recorded counts as past. */
	hd_status (*open_event)(hd_backend *self, hd_event **out);
	void (*close_event)(hd_backend *self, hd_event *event); /* NULL-safe */
	/* The event is past when all that was queued on the stream until here is done; an earlier record is forgotten.
	 */
	hd_status (*record)(hd_backend *self, hd_event *event, hd_stream *stream);
	hd_status (*await)(hd_backend *self, hd_stream *stream, hd_event *event); /* the stream waits, not the host */
	hd_status (*wait)(hd_backend *self, hd_event *event);                     /* the host waits */
	/*
	 * What the user may want to know and no operation failed for, a line each, since the last call; at most
	 * bytes - 1 of it, ended by a zero. Returns the length; 0: nothing. NULL: this back end has none.
	 */
	size_t (*notes)(hd_backend *self, char *out, size_t bytes);
	/*
	 * Recordings; all four NULL where the back end has none. Between begin_capture and end_capture, of one thread,
	 * what is queued on the main stream is recorded instead of run, and so is what is queued on streams that await
	 * an event of the recording and that the main stream awaits again before the end. run_graph queues all of it on
	 * the main stream at once, any number of times.
	 *
	 * Pointers and values are kept as they were: what changes from run to run lies in device memory. Memory, events
	 * and streams that were used outlive the graph, and such a stream takes work of its own only behind the run
	 * (await): runs use its scratch memory. Everything recorded was run once before, as first calls prepare things.
	 *
	 * An event recorded here means nothing outside until it is recorded anew. alloc, free, upload, download, sync
	 * and wait cannot be recorded, nor an event awaited from before: they end the recording, nothing of which
	 * remains, with an error that end_capture repeats. begin_capture inside of a recording is an error that leaves
	 * it as it is. end_capture is called after every begin_capture that succeeded; the main stream is usable
	 * afterwards, whatever it returns, and *out is NULL after an error. Other threads may go on with streams of
	 * their own; the main one is the recording thread's.
	 */
	hd_status (*begin_capture)(hd_backend *self);
	hd_status (*end_capture)(hd_backend *self, hd_graph **out);
	hd_status (*run_graph)(hd_backend *self, hd_graph *graph);
	void (*close_graph)(hd_backend *self, hd_graph *graph); /* NULL-safe; waits for its runs */
	/* Sums over processes, for data parallel training (collective.h); NULL: this back end has none. */
	const struct hd_collective_ops *collective;
	void (*close)(hd_backend *self);
	char reason[1024]; /* why hd_backend_open took this one, one line */
};

/*
 * Opens a back end. accelerator: "cpu", "gpu" or "auto", which takes a GPU that answers and else the CPU, with the
 * reason in the back end's `reason`. threads: 0 takes the cores this process may use.
 *
 * devices: which GPU, of those that CUDA_VISIBLE_DEVICES leaves, as hd_devices_parse reads it (NULL: "auto"): "auto" or
 * "1" takes the freest, the next where that one does not start; "2," or "[2]" that index, "GPU-8f3a..." or "MIG-..."
 * that device, by as much of its UUID as tells it from the others. The CPU has no use for it.
 *
 * The GPU back end is libheimdall_cuda.so, opened at run time: the file that HEIMDALL_CUDA_LIBRARY names where that is
 * set, else beside the program or in ../lib/heimdall from there.
 * It measures at first calls which of several ways to a convolution is the fastest; HEIMDALL_TUNING is "off" for the
 * own one always, or names the file that keeps the choices (default: heimdall/tuning.tsv in the user's cache folder).
 *
 * HD_E_USAGE for an unknown name, and for a device that is not there, with those that are; HD_E_UNSUPPORTED where no
 * GPU answers and "gpu" or a certain device was asked for, with the versions of driver and toolkit and what is missing.
 */
hd_status hd_backend_open(hd_backend **out, const char *accelerator, const char *devices, int threads);

/*
 * The CPU back end at a named tier ("base", "v2", "v3", "v4"); HD_E_UNSUPPORTED where this processor lacks it. tier
 * NULL: the best this processor has, not above HEIMDALL_CPU_TIER where that is set (HD_E_USAGE where it names none).
 *
 * HD_CPU_OWN_MEMORY=1 makes it claim own_memory, at the price of memory: tests reach by it what a GPU makes a
 * program do.
 */
hd_status hd_backend_open_cpu(hd_backend **out, const char *tier, int threads);

void hd_backend_close(hd_backend *backend); /* NULL-safe */

#endif
