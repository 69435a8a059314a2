/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVML: devices by UUID and by bus, their memory, use, and the process that HD_EMU_NVML names. Nothing here goes by
 * index, as its order is not CUDA's.
 */
#include "kernels/cuda/nvml.h"

#include <stdio.h>
#include <string.h>

#include "hooks.h"

#define MOST_DEVICES 16

int nvmlInit_v2(void);
int nvmlDeviceGetHandleByUUID(const char *uuid, hd_nvml_device **out);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, hd_nvml_device **out);
int nvmlDeviceGetMemoryInfo(hd_nvml_device *device, hd_nvml_memory *out);
int nvmlDeviceGetUtilizationRates(hd_nvml_device *device, hd_nvml_utilization *out);
int nvmlDeviceGetComputeRunningProcesses_v3(hd_nvml_device *device, unsigned *count, hd_nvml_process *out);

struct hd_nvml_device {
	int device;
};

static struct hd_nvml_device devices[MOST_DEVICES];
static bool started;

static int handle_of(int device, hd_nvml_device **out)
{
	struct hd_emu_device d;
	if (!started)
		hd_emu_fail("NVML is asked before nvmlInit_v2");
	if (device >= MOST_DEVICES || !hd_emu_describe(device, &d))
		return HD_NVML_NOT_FOUND;
	devices[device].device = device;
	*out = &devices[device];
	return HD_NVML_SUCCESS;
}

int nvmlInit_v2(void)
{
	started = true;
	return HD_NVML_SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, hd_nvml_device **out)
{
	unsigned number;
	int length = 0;
	if (sscanf(uuid, "GPU-e00000%2x-0000-0000-0000-000000000000%n", &number, &length) != 1 || uuid[length] ||
	        !length)
		return HD_NVML_NOT_FOUND;
	return handle_of((int)number, out);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, hd_nvml_device **out)
{
	char own[32];
	for (int i = 0; i < MOST_DEVICES; i++)
		if (cudaDeviceGetPCIBusId(own, sizeof own, i) == cudaSuccess && !strcmp(own, bus))
			return handle_of(i, out);
	return HD_NVML_NOT_FOUND;
}

int nvmlDeviceGetMemoryInfo(hd_nvml_device *device, hd_nvml_memory *out)
{
	struct hd_emu_device d;
	hd_emu_describe(device->device, &d);
	*out = (hd_nvml_memory){.total = d.total, .free = d.free, .used = d.total - d.free};
	return HD_NVML_SUCCESS;
}

int nvmlDeviceGetUtilizationRates(hd_nvml_device *device, hd_nvml_utilization *out)
{
	struct hd_emu_device d;
	hd_emu_describe(device->device, &d);
	*out = (hd_nvml_utilization){.gpu = (unsigned)d.utilization};
	return HD_NVML_SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(hd_nvml_device *device, unsigned *count, hd_nvml_process *out)
{
	struct hd_emu_device d;
	hd_emu_describe(device->device, &d);
	unsigned room = *count;
	*count = d.pid != 0;
	if (room < *count)
		return HD_NVML_INSUFFICIENT_SIZE;
	if (*count)
		out[0] = (hd_nvml_process){.pid = (unsigned)d.pid,
		        .used_bytes = d.pid_bytes,
		        .gpu_instance = ~0u,
		        .compute_instance = ~0u};
	return HD_NVML_SUCCESS;
}
