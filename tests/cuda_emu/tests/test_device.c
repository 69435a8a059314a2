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
        {"no_device", "HD_EMU_DEVICES=0", no_device, EVERY(PASSES)},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
