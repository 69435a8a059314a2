/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVML, the driver's library that nvidia-smi asks: memory, use and processes of a device without starting anything on
 * it. Opened at run time; its header is not part of every toolkit, so that the few types stand here as NVIDIA's NVML
 * API reference has them. Any thread.
 */
#ifndef HD_KERNELS_CUDA_NVML_H
#define HD_KERNELS_CUDA_NVML_H

#include "kernels/cuda/plugin.h"

#define HD_NVML_SUCCESS 0
#define HD_NVML_NOT_FOUND 6
#define HD_NVML_INSUFFICIENT_SIZE 7
#define HD_NVML_NOT_AVAILABLE (~0ull) /* of a process's memory */

typedef struct hd_nvml_device hd_nvml_device; /* nvmlDevice_t points to it */

/* nvmlMemory_t, bytes */
typedef struct hd_nvml_memory {
	unsigned long long total, free, used;
} hd_nvml_memory;

/* nvmlUtilization_t, percent of the last sample period */
typedef struct hd_nvml_utilization {
	unsigned gpu, memory;
} hd_nvml_utilization;

/* nvmlProcessInfo_t of nvmlDeviceGetComputeRunningProcesses_v3 */
typedef struct hd_nvml_process {
	unsigned pid;
	unsigned long long used_bytes;
	unsigned gpu_instance, compute_instance;
} hd_nvml_process;

/*
 * Fills in what NVML says of the device: its UUID's prefix, memory, use, other processes. uuid: 36 characters without
 * a prefix; bus: CUDA's PCI bus id. Leaves alone what NVML does not say; false where it does not know the device, or is
 * not there.
 */
bool hd_cuda_nvml_describe(hd_cuda_device_info *out, const char *uuid, const char *bus);

#endif
