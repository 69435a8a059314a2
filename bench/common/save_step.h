/* SPDX-License-Identifier: Apache-2.0 */
/* A model with its input and its answers as a file, for another program to compare with. */
#ifndef HD_BENCH_SAVE_STEP_H
#define HD_BENCH_SAVE_STEP_H

#include "bench/common/step_inputs.h"

/*
 * Gives the model weights that all show in its answers (layer scales and norms near 1, biases near 0.1), and writes as
 * safetensors: every parameter under timm's name, bench.x (N,C,M,W), bench.target (N,2), bench.mu and bench.sigma (N,2)
 * and bench.loss (1), the mean of the loss without dropout; metadata: backbone, head_widths, sigma_lo, sigma_hi.
 * HD_E_USAGE for a model whose maps are not float.
 */
hd_status hd_save_step(const char *path, hd_backend *backend, const hd_step_inputs *inputs);

#endif
