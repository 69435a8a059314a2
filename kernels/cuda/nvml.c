/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/nvml.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/library.h"

#define SPARE_PROCESSES 16 /* that may start between two calls */

typedef struct nvml_table {
	int (*init)(void);
	int (*by_uuid)(const char *uuid, hd_nvml_device **out);
	int (*by_bus)(const char *bus, hd_nvml_device **out);
	int (*memory)(hd_nvml_device *device, hd_nvml_memory *out);
	int (*utilization)(hd_nvml_device *device, hd_nvml_utilization *out);
	/* count: in the room in out, out the processes there are; HD_NVML_INSUFFICIENT_SIZE where the room is less */
	int (*processes)(hd_nvml_device *device, unsigned *count, hd_nvml_process *out);
} nvml_table;

static nvml_table nvml;

/* NVML stays started: the process asks a few times at most, and its start takes longer than all it is asked. */
static bool start(void)
{
	static const char *const names[] = {"libnvidia-ml.so.1", NULL};
	static const char *const symbols[] = {"nvmlInit_v2", "nvmlDeviceGetHandleByUUID",
	        "nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates",
	        "nvmlDeviceGetComputeRunningProcesses_v3", NULL};
	static hd_cuda_library library = {.names = names, .symbols = symbols};
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool tried, started;
	bool there = hd_cuda_library_open(&library, &nvml, HD_CUDA_SLOTS(nvml));
	pthread_mutex_lock(&lock);
	if (!tried && there)
		started = nvml.init() == HD_NVML_SUCCESS;
	tried = true;
	pthread_mutex_unlock(&lock);
	return started;
}

/* CUDA's order is not NVML's, and CUDA_VISIBLE_DEVICES hides some from CUDA alone: a device is found by what it is. */
static hd_nvml_device *find(hd_cuda_device_info *info, const char *uuid, const char *bus)
{
	static const char *const prefixes[] = {"GPU", "MIG"};
	hd_nvml_device *device = NULL;
	char text[sizeof info->uuid];
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
		snprintf(text, sizeof text, "%s-%s", prefixes[i], uuid);
		if (nvml.by_uuid(text, &device) == HD_NVML_SUCCESS) {
			memcpy(info->uuid, text, sizeof text);
			return device;
		}
	}
	return nvml.by_bus(bus, &device) == HD_NVML_SUCCESS ? device : NULL;
}

static void name_process(hd_cuda_holder *holder)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/%d/comm", holder->pid);
	FILE *file = fopen(path, "r");
	if (!file)
		return;
	if (fgets(holder->name, sizeof holder->name, file))
		holder->name[strcspn(holder->name, "\n")] = '\0';
	fclose(file);
	/* a process chooses its name */
	for (char *c = holder->name; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* Keeps the largest, in order. */
static void add_holder(hd_cuda_device_info *info, const hd_nvml_process *process)
{
	hd_cuda_holder holder = {.pid = (int)process->pid};
	if (process->used_bytes != HD_NVML_NOT_AVAILABLE)
		holder.bytes = (size_t)process->used_bytes;
	int at = info->holder_count;
	while (at > 0 && info->holders[at - 1].bytes < holder.bytes)
		at--;
	if (at == HD_CUDA_HOLDERS)
		return;
	int moved = (info->holder_count < HD_CUDA_HOLDERS ? info->holder_count : HD_CUDA_HOLDERS - 1) - at;
	memmove(info->holders + at + 1, info->holders + at, (size_t)moved * sizeof holder);
	name_process(&holder);
	info->holders[at] = holder;
	if (info->holder_count < HD_CUDA_HOLDERS)
		info->holder_count++;
}

static void list_processes(hd_cuda_device_info *info, hd_nvml_device *device)
{
	unsigned count = 0;
	if (nvml.processes(device, &count, NULL) != HD_NVML_INSUFFICIENT_SIZE)
		return;
	count += SPARE_PROCESSES;
	hd_nvml_process *list = calloc(count, sizeof *list);
	if (list && nvml.processes(device, &count, list) == HD_NVML_SUCCESS)
		for (unsigned i = 0; i < count; i++)
			if (list[i].pid != (unsigned)getpid())
				add_holder(info, &list[i]);
	free(list);
}

bool hd_cuda_nvml_describe(hd_cuda_device_info *out, const char *uuid, const char *bus)
{
	hd_nvml_memory memory;
	hd_nvml_utilization utilization;
	hd_nvml_device *device = start() ? find(out, uuid, bus) : NULL;
	if (!device)
		return false;
	if (nvml.memory(device, &memory) == HD_NVML_SUCCESS) {
		out->available = (size_t)memory.free;
		out->total = (size_t)memory.total;
	}
	if (nvml.utilization(device, &utilization) == HD_NVML_SUCCESS)
		out->utilization = (int)utilization.gpu;
	list_processes(out, device);
	return true;
}
