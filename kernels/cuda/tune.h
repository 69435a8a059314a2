/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choice among several ways to one operation. At the first call with a shape, every way runs on inputs of its own on
 * the device; those that fail, that differ from ours by more than rounding or that give other bits a second time are
 * left out; the fastest of the others is taken from then on, ours where none is faster by HD_TUNE_MARGIN. A choice
 * holds as long as the back end is open, and goes to a file, so that the next run makes the same: what a resumed run
 * computes does not hang on how busy the device was.
 *
 * HEIMDALL_TUNING: "off" takes ours always; else the file's name. Not set: $XDG_CACHE_HOME/heimdall/tuning.tsv or
 * ~/.cache/heimdall/tuning.tsv. One line per device, driver, libraries, operation and shape (tune_file.h).
 *
 * Ours is taken without measuring where a stream is being captured. No error of another way reaches the caller: it is
 * written down (hd_cuda_tune_notes) and ours runs. Any thread may call, one at a time per stream.
 */
#ifndef HD_KERNELS_CUDA_TUNE_H
#define HD_KERNELS_CUDA_TUNE_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HD_TUNE_SIZES 6
#define HD_TUNE_OUTPUTS 2
#define HD_TUNE_INPUTS 3
#define HD_TUNE_WAYS 6
#define HD_TUNE_WHY 192     /* bytes of a reason */
#define HD_TUNE_MARGIN 0.97 /* another way has to take less than this share of our time */

/* What an operation is called with. Pointers are device memory. */
typedef struct hd_tune_call {
	hd_dtype dt;
	int64_t size[HD_TUNE_SIZES];
	void *out[HD_TUNE_OUTPUTS];     /* NULL: there is none, or not wanted */
	const void *in[HD_TUNE_INPUTS]; /* NULL: there is none, or not given */
	float beta;                     /* of operations that are `scaled` */
	void *work;
} hd_tune_call;

typedef struct hd_tune_way {
	const char *name; /* in the file; no tabs */
	/*
	 * Queues the operation. HD_E_UNSUPPORTED with the reason in why (HD_TUNE_WHY bytes): this way cannot, and has
	 * left alone what is scaled by a beta that is not 0. Other errors are those of the device, by hd_cuda_fail.
	 */
	hd_status (*run)(const hd_tune_call *call, hd_stream *stream, char *why);
	bool (*there)(void); /* whether it can be thought of at all; NULL: always */
} hd_tune_way;

/* An operation over floats whose outputs are sums of products of its inputs. */
typedef struct hd_tune_op {
	const char *name;
	const char *sizes;                                /* names of the sizes, "N H W C" */
	hd_tune_way ways[HD_TUNE_WAYS];                   /* ours, then others; the rest without a name */
	bool scaled;                                      /* out = beta*out + ..., beta 0 overwrites */
	int64_t (*out_count)(const int64_t *size, int i); /* elements, 0 where there is no such output */
	int64_t (*in_count)(const int64_t *size, int i);
	int64_t (*terms)(const int64_t *size); /* terms of the longest sum that makes an output */
	size_t (*work_bytes)(const int64_t *size);
} hd_tune_op;

/*
 * Runs the operation by the way chosen for its shape, chosen here where the shape is new. Zero sizes and other dtypes
 * than float32 go to ours.
 */
hd_status hd_cuda_tune_run(const hd_tune_op *op, const hd_tune_call *call, hd_stream *stream);

/*
 * Which ways take part from then on, whatever the operation; choices made before are forgotten, those of another
 * setting in the file do not count. It holds until it is set again. Ways of cuDNN take float32 alone: in 16 bits ours
 * run, whatever the setting. A way is cuDNN's where its name begins with HD_TUNE_CUDNN.
 */
#define HD_TUNE_CUDNN "cudnn"
void hd_cuda_tune_conv(hd_conv wanted);

/* Name of the way that a shape has been given, NULL where it has none yet. */
const char *hd_cuda_tune_chosen(const hd_tune_op *op, const hd_tune_call *call);

/*
 * What has come up since the last call, a line each: ways left out with the reason, a file that cannot be written, and
 * one line on all matrix products timed.
 * Returns the bytes put into out, cut at `bytes` and ended by a zero; 0: nothing.
 */
size_t hd_cuda_tune_notes(char *out, size_t bytes);

/* Forgets all choices; HEIMDALL_TUNING is read again at the next call. */
void hd_cuda_tune_close(void);

#ifdef __cplusplus
}
#endif
#endif
