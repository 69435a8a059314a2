/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of launches with their error codes, properties, the last error. */
#include "kernels.h"
#include "self.h"

static void launch_limits(void)
{
	cudaStream_t s = new_stream();
	CUDA_OK(launch_empty(1, 1, 1024, 1, 0, s));
	CUDA_OK(launch_empty(1, 65535, 1, 1, 0, s));
	CUDA_OK(launch_empty(1, 1, 16, 64, 0, s));
	CHECK_CUDA(launch_empty(1, 1, 1025, 1, 0, s), cudaErrorInvalidConfiguration);
	CHECK_CUDA(cudaGetLastError(), cudaErrorInvalidConfiguration);
	CHECK_CUDA(launch_empty(1, 1, 512, 3, 0, s), cudaErrorInvalidConfiguration);
	cudaGetLastError();
	CHECK_CUDA(launch_empty(1, 1, 1, 65, 0, s), cudaErrorInvalidConfiguration);
	cudaGetLastError();
	CHECK_CUDA(launch_empty(1, 65536, 1, 1, 0, s), cudaErrorInvalidConfiguration);
	cudaGetLastError();
	CHECK_CUDA(launch_empty(0, 1, 32, 1, 0, s), cudaErrorInvalidConfiguration);
	cudaGetLastError();
	CHECK_CUDA(launch_empty(1, 1, 0, 1, 0, s), cudaErrorInvalidConfiguration);
	cudaGetLastError();
	CUDA_OK(cudaStreamDestroy(s));
}

static void dynamic_shared(void)
{
	cudaStream_t s = new_stream();
	CUDA_OK(launch_empty(1, 1, 32, 1, 48 << 10, s));
	CHECK_CUDA(launch_empty(1, 1, 32, 1, (48 << 10) + 1, s), cudaErrorInvalidValue);
	cudaGetLastError();
	CHECK_CUDA(allow_empty_shared((227 << 10) + 1), cudaErrorInvalidValue);
	cudaGetLastError();
	CUDA_OK(allow_empty_shared(227 << 10));
	CUDA_OK(launch_empty(1, 1, 32, 1, 227 << 10, s));
	CHECK_CUDA(launch_empty(1, 1, 32, 1, (227 << 10) + 1, s), cudaErrorInvalidValue);
	cudaGetLastError();
	CHECK(empty_occupancy(1024, 0) == 2 && empty_occupancy(32, 0) == 32 && empty_occupancy(256, 100 << 10) == 2 &&
	                empty_occupancy(2048, 0) == 0,
	        "occupancy %d %d %d %d", empty_occupancy(1024, 0), empty_occupancy(32, 0),
	        empty_occupancy(256, 100 << 10), empty_occupancy(2048, 0));
	CUDA_OK(cudaStreamDestroy(s));
}

/* An error stays until it is asked for, whatever succeeds in between. */
static void last_error(void)
{
	void *memory;
	CHECK_CUDA(cudaSetDevice(7), cudaErrorInvalidDevice);
	CUDA_OK(cudaMalloc(&memory, 10));
	CUDA_OK(cudaFree(memory));
	CHECK_CUDA(cudaPeekAtLastError(), cudaErrorInvalidDevice);
	CHECK_CUDA(cudaGetLastError(), cudaErrorInvalidDevice);
	CUDA_OK(cudaGetLastError());
	CHECK(!strcmp(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation"), "name");
	CHECK(!strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory"), "text");
	CHECK(!strcmp(cudaGetErrorName((cudaError_t)12345), "unrecognized error code"), "unknown");
}

static void properties(void)
{
	struct cudaDeviceProp p;
	int count = 0, device = -1, value;
	CUDA_OK(cudaGetDeviceCount(&count));
	CHECK(count == 2, "%d devices", count);
	CUDA_OK(cudaSetDevice(1));
	CUDA_OK(cudaGetDevice(&device));
	CHECK(device == 1, "device %d", device);
	CUDA_OK(cudaGetDeviceProperties(&p, 0));
	CHECK(p.warpSize == 32 && p.major == 9 && p.totalGlobalMem == (size_t)64 << 20, "properties");
	CUDA_OK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
	CHECK((size_t)value == p.sharedMemPerBlockOptin, "attribute %d", value);
	CHECK_CUDA(cudaGetDeviceProperties(&p, 2), cudaErrorInvalidDevice);
}

/* Memory, streams and events belong to a device; kernels are launched by threads whose device that is. */
static void devices_apart(void)
{
	struct cudaDeviceProp p, q;
	void *first, *second, *third = NULL;
	cudaEvent_t event;
	size_t left, total;
	CUDA_OK(cudaGetDeviceProperties(&p, 0));
	CUDA_OK(cudaGetDeviceProperties(&q, 1));
	CHECK(memcmp(&p.uuid, &q.uuid, sizeof p.uuid) != 0 && p.pciBusID > q.pciBusID, "not told apart");
	CUDA_OK(cudaMalloc(&first, 40 << 20));
	CHECK_CUDA(cudaMalloc(&third, 40 << 20), cudaErrorMemoryAllocation);
	cudaGetLastError();
	CUDA_OK(cudaSetDevice(1));
	CUDA_OK(cudaMalloc(&second, 40 << 20));
	CUDA_OK(cudaMemGetInfo(&left, &total));
	CHECK(left == (size_t)24 << 20 && total == (size_t)64 << 20, "%zu of %zu", left, total);
	cudaStream_t s = new_stream();
	CUDA_OK(cudaEventCreate(&event));
	CUDA_OK(launch_empty(1, 1, 32, 1, 0, s));
	CUDA_OK(cudaSetDevice(0));
	cudaGetLastError();
	CHECK_CUDA(launch_empty(1, 1, 32, 1, 0, s), cudaErrorInvalidResourceHandle);
	cudaStream_t other = new_stream();
	CHECK_CUDA(cudaEventRecord(event, other), cudaErrorInvalidResourceHandle);
	CUDA_OK(cudaEventRecord(event, s));
	CUDA_OK(cudaStreamWaitEvent(other, event, 0));
	CUDA_OK(cudaEventDestroy(event));
	CUDA_OK(cudaStreamDestroy(other));
	CUDA_OK(cudaStreamDestroy(s));
	CUDA_OK(cudaFree(second));
	CUDA_OK(cudaMemGetInfo(&left, &total));
	CHECK(left == (size_t)24 << 20, "freed on the wrong device: %zu", left);
	CUDA_OK(cudaFree(first));
}

/* The list is in order of the bus, which is not CUDA's. */
static void others(void)
{
	size_t left, total;
	void *memory;
	CHECK_CUDA(cudaSetDevice(1), cudaErrorDevicesUnavailable);
	cudaGetLastError();
	CUDA_OK(cudaSetDevice(0));
	CUDA_OK(cudaMemGetInfo(&left, &total));
	CHECK(left == (size_t)10 << 20 && total == (size_t)64 << 20, "%zu of %zu", left, total);
	CHECK_CUDA(cudaMalloc(&memory, 11 << 20), cudaErrorMemoryAllocation);
}

static void no_device(void)
{
	int count = -1;
	CHECK_CUDA(cudaGetDeviceCount(&count), cudaErrorNoDevice);
	CHECK(count == -1, "the count is touched");
	CHECK_CUDA(cudaSetDevice(0), cudaErrorNoDevice);
}

const test_case device_cases[] = {
        {"launch_limits", NULL, launch_limits, EVERY(PASSES)},
        {"dynamic_shared", NULL, dynamic_shared, EVERY(PASSES)},
        {"last_error", NULL, last_error, EVERY(PASSES)},
        {"properties", "HD_EMU_DEVICES=2 HD_EMU_MEMORY_MB=64", properties, EVERY(PASSES)},
        {"devices_apart", "HD_EMU_DEVICES=2 HD_EMU_MEMORY_MB=64 HD_EMU_LEAKS=1", devices_apart, EVERY(PASSES)},
        {"devices_of_others", "HD_EMU_DEVICES=2 HD_EMU_MEMORY_MB=64 HD_EMU_NVML=exclusive;free=10,util=5,pid=1:3",
                others, EVERY(PASSES)},
        {"devices_unknown_word", "HD_EMU_DEVICES=2 HD_EMU_NVML=fre=10", others, EVERY("'fre=10' is none of free=MB")},
        {"no_device", "HD_EMU_DEVICES=0", no_device, EVERY(PASSES)},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
