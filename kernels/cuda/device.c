/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/device.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/nvml.h"

#define UUID_BYTES 37 /* without a prefix */
#define BUS_BYTES 32

int hd_cuda_device_count(char *why, size_t bytes)
{
	int count = 0, driver = 0, runtime = 0;
	cudaError_t error = cudaGetDeviceCount(&count);
	if (error == cudaSuccess && count > 0)
		return count;
	cudaGetLastError(); /* is reported here, not by what comes next */
	if (cudaDriverGetVersion(&driver) != cudaSuccess)
		driver = 0;
	cudaRuntimeGetVersion(&runtime);
	char text[64];
	if (driver > 0)
		snprintf(text, sizeof text, "driver for CUDA %d.%d", driver / 1000, driver % 1000 / 10);
	else
		snprintf(text, sizeof text, "no NVIDIA driver is loaded");
	snprintf(why, bytes, "cudaGetDeviceCount: %d %s; %s, library built with CUDA %d.%d", (int)error,
	        error == cudaSuccess ? "no device" : cudaGetErrorString(error), text, runtime / 1000,
	        runtime % 1000 / 10);
	return 0;
}

/* RFC 9562's text of the 16 bytes. */
static void write_uuid(char out[UUID_BYTES], const cudaUUID_t *uuid)
{
	char *at = out;
	for (int i = 0; i < 16; i++)
		at += snprintf(at, (size_t)(out + UUID_BYTES - at), "%s%02x",
		        i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", (unsigned char)uuid->bytes[i]);
}

/* What CUDA says of the free memory of a device that it starts for that, and ends again, as a start holds memory. */
static void ask_memory(hd_cuda_device_info *out, int device)
{
	int before = 0;
	size_t available = 0, total = 0;
	cudaGetDevice(&before);
	if (cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&available, &total) == cudaSuccess) {
		out->available = available;
		out->total = total;
		cudaDeviceReset();
	}
	cudaGetLastError(); /* a device that does not start says why when it is opened */
	cudaSetDevice(before);
	cudaGetLastError();
}

void hd_cuda_device_describe(hd_cuda_device_info *out, int device, bool ask)
{
	struct cudaDeviceProp properties;
	char uuid[UUID_BYTES], bus[BUS_BYTES] = "";
	*out = (hd_cuda_device_info){.available = SIZE_MAX, .utilization = -1};
	if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
		cudaGetLastError();
		snprintf(out->name, sizeof out->name, "a device that does not answer");
		return;
	}
	out->total = properties.totalGlobalMem;
	snprintf(out->name, sizeof out->name, "%s", properties.name);
	write_uuid(uuid, &properties.uuid);
	/* a part of a device has that in its name */
	snprintf(out->uuid, sizeof out->uuid, "%s-%s", strstr(properties.name, " MIG ") ? "MIG" : "GPU", uuid);
	if (cudaDeviceGetPCIBusId(bus, sizeof bus, device) != cudaSuccess)
		cudaGetLastError();
	hd_cuda_nvml_describe(out, uuid, bus);
	if (out->available == SIZE_MAX && ask)
		ask_memory(out, device);
}
