/* SPDX-License-Identifier: Apache-2.0 */
/* The device's properties, versions, and the last error. */
#include "device.h"
#include "emu.h"

#include <cstdio>
#include <cstring>

namespace hd_emu
{

static thread_local cudaError_t last_error = cudaSuccess;
static thread_local int chosen_device;

cudaError_t keep(cudaError_t error)
{
	if (error != cudaSuccess && error != cudaErrorNotReady)
		last_error = error;
	return error;
}

int current_device()
{
	return chosen_device;
}

struct ErrorText {
	cudaError_t code;
	const char *name, *text;
};

#define HD_EMU_ERROR(code, text)                                                                                       \
	{                                                                                                              \
		code, #code, text                                                                                      \
	}
static const ErrorText error_texts[] = {
        HD_EMU_ERROR(cudaSuccess, "no error"),
        HD_EMU_ERROR(cudaErrorInvalidValue, "invalid argument"),
        HD_EMU_ERROR(cudaErrorMemoryAllocation, "out of memory"),
        HD_EMU_ERROR(cudaErrorInitializationError, "initialization error"),
        HD_EMU_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
        HD_EMU_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
        HD_EMU_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
        HD_EMU_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
        HD_EMU_ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
        HD_EMU_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
        HD_EMU_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
        HD_EMU_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
        HD_EMU_ERROR(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable"),
        HD_EMU_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
        HD_EMU_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
        HD_EMU_ERROR(cudaErrorNotReady, "device not ready"),
        HD_EMU_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
        HD_EMU_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
        HD_EMU_ERROR(
                cudaErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is already mapped"),
        HD_EMU_ERROR(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
        HD_EMU_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
        HD_EMU_ERROR(cudaErrorNotSupported, "operation not supported"),
        HD_EMU_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
        HD_EMU_ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
        HD_EMU_ERROR(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
        HD_EMU_ERROR(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
        HD_EMU_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
        HD_EMU_ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
        HD_EMU_ERROR(cudaErrorStreamCaptureImplicit, "operation would make the legacy stream depend on a capturing "
                                                     "blocking stream"),
        HD_EMU_ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
        HD_EMU_ERROR(cudaErrorStreamCaptureWrongThread, "attempt to terminate a thread-local capture sequence from "
                                                        "another thread"),
        HD_EMU_ERROR(cudaErrorUnknown, "unknown error"),
};

static const ErrorText *find_error(cudaError_t code)
{
	for (const ErrorText &e : error_texts)
		if (e.code == code)
			return &e;
	return nullptr;
}

struct Attribute {
	cudaDeviceAttr attribute;
	int value;
};
static const Attribute attributes[] = {
        {cudaDevAttrMaxThreadsPerBlock, BLOCK_THREADS},
        {cudaDevAttrMaxBlockDimX, BLOCK_XY},
        {cudaDevAttrMaxBlockDimY, BLOCK_XY},
        {cudaDevAttrMaxBlockDimZ, BLOCK_Z},
        {cudaDevAttrMaxGridDimX, GRID_X},
        {cudaDevAttrMaxGridDimY, GRID_YZ},
        {cudaDevAttrMaxGridDimZ, GRID_YZ},
        {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_BYTES_DEFAULT},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, SHARED_BYTES_OPTIN},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, SM_SHARED_BYTES},
        {cudaDevAttrReservedSharedMemoryPerBlock, SHARED_BYTES_RESERVED},
        {cudaDevAttrMaxRegistersPerBlock, REGISTERS},
        {cudaDevAttrMaxRegistersPerMultiprocessor, REGISTERS},
        {cudaDevAttrMaxThreadsPerMultiProcessor, SM_THREADS},
        {cudaDevAttrMaxBlocksPerMultiprocessor, SM_BLOCKS},
        {cudaDevAttrMultiProcessorCount, SM_COUNT},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrL2CacheSize, L2_BYTES},
        {cudaDevAttrComputeCapabilityMajor, CAPABILITY_MAJOR},
        {cudaDevAttrComputeCapabilityMinor, CAPABILITY_MINOR},
        {cudaDevAttrConcurrentKernels, 1},
        {cudaDevAttrUnifiedAddressing, 1},
        {cudaDevAttrCanMapHostMemory, 1},
        {cudaDevAttrManagedMemory, 0},
        {cudaDevAttrCooperativeLaunch, 0},
        {cudaDevAttrMemoryPoolsSupported, 0},
        {cudaDevAttrAsyncEngineCount, 1},
};

static void fill_properties(cudaDeviceProp *p, int device)
{
	memset(p, 0, sizeof *p);
	p->uuid.bytes[0] = static_cast<char>(UUID_FIRST_BYTE);
	p->uuid.bytes[3] = static_cast<char>(device);
	p->pciBusID = settings.devices - 1 - device;
	snprintf(p->name, sizeof p->name, "CUDA emulation on the host");
	p->major = CAPABILITY_MAJOR;
	p->minor = CAPABILITY_MINOR;
	p->totalGlobalMem = settings.memory_bytes;
	p->sharedMemPerBlock = SHARED_BYTES_DEFAULT;
	p->sharedMemPerBlockOptin = SHARED_BYTES_OPTIN;
	p->sharedMemPerMultiprocessor = SM_SHARED_BYTES;
	p->reservedSharedMemPerBlock = SHARED_BYTES_RESERVED;
	p->regsPerBlock = p->regsPerMultiprocessor = REGISTERS;
	p->warpSize = 32;
	p->maxThreadsPerBlock = BLOCK_THREADS;
	p->maxThreadsDim[0] = p->maxThreadsDim[1] = BLOCK_XY;
	p->maxThreadsDim[2] = BLOCK_Z;
	p->maxGridSize[0] = GRID_X;
	p->maxGridSize[1] = p->maxGridSize[2] = GRID_YZ;
	p->totalConstMem = 64 << 10;
	p->multiProcessorCount = SM_COUNT;
	p->maxThreadsPerMultiProcessor = SM_THREADS;
	p->maxBlocksPerMultiProcessor = SM_BLOCKS;
	p->l2CacheSize = L2_BYTES;
	p->concurrentKernels = 1;
	p->unifiedAddressing = 1;
	p->canMapHostMemory = 1;
	p->asyncEngineCount = 1;
	p->textureAlignment = 512;
	p->memoryBusWidth = 64;
}

static cudaError_t check_device(int device)
{
	if (settings.devices == 0)
		return cudaErrorNoDevice;
	return device < 0 || device >= settings.devices ? cudaErrorInvalidDevice : cudaSuccess;
}

} // namespace hd_emu

using namespace hd_emu;

extern "C" {

cudaError_t cudaGetDeviceCount(int *count)
{
	HD_EMU_ENTRY();
	if (settings.devices == 0)
		return keep(cudaErrorNoDevice);
	*count = settings.devices;
	return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
	HD_EMU_ENTRY();
	cudaError_t error = check_device(device);
	if (!error && others(device).exclusive)
		error = cudaErrorDevicesUnavailable;
	if (!error)
		chosen_device = device;
	return keep(error);
}

cudaError_t cudaGetDevice(int *device)
{
	HD_EMU_ENTRY();
	if (settings.devices == 0)
		return keep(cudaErrorNoDevice);
	*device = chosen_device;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
	HD_EMU_ENTRY();
	cudaError_t error = check_device(device);
	if (!error)
		fill_properties(properties, device);
	return keep(error);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
	HD_EMU_ENTRY();
	cudaError_t error = check_device(device);
	if (error)
		return keep(error);
	for (const Attribute &a : attributes)
		if (a.attribute == attribute) {
			*value = a.value;
			return cudaSuccess;
		}
	return keep(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int, int)
{
	*can = 0;
	return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int device)
{
	snprintf(text, static_cast<size_t>(length), "0000:%02x:00.0", settings.devices - 1 - device);
	return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned)
{
	return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned)
{
	HD_EMU_ENTRY();
	return keep(check_device(device));
}

cudaError_t cudaDeviceReset()
{
	return cudaDeviceSynchronize();
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	*version = CUDART_VERSION;
	return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = CUDART_VERSION;
	return cudaSuccess;
}

cudaError_t cudaGetLastError()
{
	cudaError_t error = last_error;
	last_error = cudaSuccess;
	return error;
}

cudaError_t cudaPeekAtLastError()
{
	return last_error;
}

const char *cudaGetErrorName(cudaError_t code)
{
	const ErrorText *e = find_error(code);
	return e ? e->name : "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t code)
{
	const ErrorText *e = find_error(code);
	return e ? e->text : "unrecognized error code";
}
}
