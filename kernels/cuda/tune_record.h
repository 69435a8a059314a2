/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tuner of operations (tune.h) and that of matrix products (product_choice.h) keep together: whether there is
 * anything to tune, the file of choices (tune_file.h) as this machine's, and the notes. Any thread may call; nothing
 * here calls back.
 */
#ifndef HD_KERNELS_CUDA_TUNE_RECORD_H
#define HD_KERNELS_CUDA_TUNE_RECORD_H

#include "kernels/cuda/cuda.h"

/* false: HEIMDALL_TUNING is "off". Read at the first call after opening the back end. */
bool hd_cuda_tune_record_on(void);

/* Fields of a line without tabs; sizes as in "N=32 H=32 W=8 C=192". */
typedef struct hd_tune_subject {
	const char *operation, *dtype, *sizes;
} hd_tune_subject;

/*
 * The way that the file's line number nth (from 0) about it has; "" where that is longer than `bytes`. false: there are
 * no more lines. The first whose way the caller can use counts.
 */
bool hd_cuda_tune_record_find(const hd_tune_subject *subject, int nth, char *way, size_t bytes);

/* Adds a line; times below 0: nothing was measured. A file that cannot be written is noted once. */
void hd_cuda_tune_record_add(const hd_tune_subject *subject, const char *way, double ours_ms, double way_ms);

/*
 * Keeps other processes out while something is measured and written down, so that those that start together make one
 * choice. A choice may be made while another is (a convolution that multiplies): calls nest.
 */
void hd_cuda_tune_record_lock(void);
void hd_cuda_tune_record_unlock(void);

/* false: what is queued on the stream is being captured, and nothing can be measured on it. */
bool hd_cuda_tune_record_may_measure(cudaStream_t stream);

/* A line for hd_cuda_tune_notes, with its end. */
__attribute__((format(printf, 1, 2))) void hd_cuda_tune_record_note(const char *format, ...);

/*
 * Counts a shape of matrix products that was timed, for one line in sum: whether another algorithm than the
 * library's first was taken, the times of the two (the same where the first is not sound), how many were left out, and
 * why the last of them was ("" where none).
 */
void hd_cuda_tune_record_product(bool changed, double first_ms, double taken_ms, int left_out, const char *why);

/* As hd_cuda_tune_notes and hd_cuda_tune_close. */
size_t hd_cuda_tune_record_take_notes(char *out, size_t bytes);
void hd_cuda_tune_record_close(void);

#endif
