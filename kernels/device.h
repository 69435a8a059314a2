/* SPDX-License-Identifier: Apache-2.0 */
/* HD_DEVICE marks a function of a header that CUDA code calls on the device too; to C it is nothing. */
#ifndef HD_KERNELS_DEVICE_H
#define HD_KERNELS_DEVICE_H

#ifdef __CUDACC__
#define HD_DEVICE __host__ __device__
#else
#define HD_DEVICE
#endif

#endif
