/* SPDX-License-Identifier: Apache-2.0 */
/* Which devices there are and what they are (plugin.h says what these are to do). Any thread. */
#ifndef HD_KERNELS_CUDA_DEVICE_H
#define HD_KERNELS_CUDA_DEVICE_H

#include "kernels/cuda/plugin.h"

int hd_cuda_device_count(char *why, size_t bytes);

void hd_cuda_device_describe(hd_cuda_device_info *out, int device, bool ask);

#endif
