/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trying the ways of an operation on inputs of its own: uniform in [-1, 1), the same at every trial of a shape.
 *
 * Two ways agree where, for every element of every output,
 *   |ours - other| <= 2 (c eps M + eps |ours|), c = min(n, 6 sqrt n)/2 + 1, eps = 2^-23,
 * n being the number of terms of its sum and M the sum of their absolute values, which is what ours makes of the
 * inputs' absolute values; where products may round their inputs to TF32, c eps is 2^-9 larger. Each way may be off by
 * half of it: that is the bound by which the tests hold an operation to its reference (Higham and Mary 2019,
 * theorem 2.4). Operations that are scaled are compared with beta 0 over NaN and with beta 1/2 over numbers.
 */
#ifndef HD_KERNELS_CUDA_TUNE_TRIAL_H
#define HD_KERNELS_CUDA_TUNE_TRIAL_H

#include "kernels/cuda/tune.h"

typedef struct hd_trial hd_trial;

/* Takes device and host memory for a shape and runs ours. NULL with the reason in why (HD_TUNE_WHY bytes). */
hd_trial *hd_cuda_trial_begin(const hd_tune_op *op, const hd_tune_call *call, hd_stream *stream, char *why);

/* Whether a way runs, agrees with ours and gives the same bits twice; false with the reason in why. */
bool hd_cuda_trial_agrees(hd_trial *trial, const hd_tune_way *way, char *why);

/* Median time of a call in ms, by events, after warming up; below 0 with the reason in why where it fails. */
double hd_cuda_trial_time(hd_trial *trial, const hd_tune_way *way, char *why);

void hd_cuda_trial_end(hd_trial *trial); /* NULL-safe */

#endif
