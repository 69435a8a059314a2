/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libheimdall_cuda.so shows the program: one symbol, hd_cuda_plugin_get. Plain C without CUDA headers, so that the
 * program builds and runs where there is neither toolkit nor driver. The library links to nothing of the program.
 */
#ifndef HD_KERNELS_CUDA_PLUGIN_H
#define HD_KERNELS_CUDA_PLUGIN_H

#include "heimdall/backend.h"

#define HD_CUDA_PLUGIN_FILE "libheimdall_cuda.so"
#define HD_CUDA_PLUGIN_SYMBOL "hd_cuda_plugin_get"

/*
 * Counts up with every change of this file, of hd_backend, of collective.h and of kernels.def. Sizes of the table are
 * compared beside it, so that a forgotten count does not call into the void.
 */
#define HD_CUDA_PLUGIN_ABI 6

/* hd_fail of the program, through which the library's errors get their text. */
typedef hd_status (*hd_cuda_fail_function)(hd_status status, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

#define HD_CUDA_HOLDERS 4

/* A process that has memory of a device. */
typedef struct hd_cuda_holder {
	int pid;
	char name[32]; /* "" where it cannot be told */
	size_t bytes;  /* 0: not known */
} hd_cuda_holder;

/* What a device is and what others do on it. */
typedef struct hd_cuda_device_info {
	char name[128];
	char uuid[48];           /* as `nvidia-smi -L` prints it: "GPU-..." or "MIG-..." */
	size_t available, total; /* bytes of memory; available SIZE_MAX: not known */
	int utilization;         /* percent of the time, -1: not known */
	int holder_count;        /* other processes, those with the most memory first */
	hd_cuda_holder holders[HD_CUDA_HOLDERS];
} hd_cuda_device_info;

typedef struct hd_cuda_plugin {
	int abi;
	size_t backend_bytes; /* sizeof(hd_backend) that the library was built with */
	/*
	 * Devices that a CUDA driver shows; 0 with the reason in why (bytes of it, cut where longer): error code and
	 * text, versions of driver and runtime. Starts nothing on a device.
	 */
	int (*device_count)(char *why, size_t bytes);
	/*
	 * Describes a device, 0 .. device_count-1, in CUDA's order: by NVML where the driver has it, which starts
	 * nothing on the device. ask: where NVML says nothing of the free memory, CUDA is asked, which starts the
	 * device and lets it go again; not while a back end is open.
	 */
	void (*describe)(hd_cuda_device_info *out, int device, bool ask);
	/*
	 * The back end of a device, 0 .. device_count-1; one at a time in a process. HD_E_UNSUPPORTED where the device
	 * does not start or this library holds no code for it. Closed by its own close().
	 */
	hd_status (*open)(hd_backend **out, int device, hd_cuda_fail_function fail);
} hd_cuda_plugin;

/* The table, static, never NULL. */
const hd_cuda_plugin *hd_cuda_plugin_get(void);

#endif
