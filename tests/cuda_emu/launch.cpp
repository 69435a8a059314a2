/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launches: the limits that the runtime checks, with its error codes, and the attributes of kernels. The limits are
 * those of compute capability 9.0.
 */
#include "emu.h"
#include "device.h"

#include <cstdio>
#include <cstring>
#include <map>
#include <string>

namespace hd_emu
{

/* Most dynamic shared memory of a kernel, where cudaFuncSetAttribute has set it. */
static std::map<const void *, size_t> &dynamic_limits = *new std::map<const void *, size_t>;

static size_t dynamic_limit(const void *function)
{
	std::map<const void *, size_t>::const_iterator found = dynamic_limits.find(function);
	return found == dynamic_limits.end() ? size_t(SHARED_BYTES_DEFAULT) : found->second;
}

static cudaError_t check_shape(const LaunchShape &s, const void *function)
{
	uint64_t threads = static_cast<uint64_t>(s.block.x) * s.block.y * s.block.z;
	if (!s.grid.x || !s.grid.y || !s.grid.z || !threads)
		return cudaErrorInvalidConfiguration;
	if (s.grid.x > GRID_X || s.grid.y > GRID_YZ || s.grid.z > GRID_YZ)
		return cudaErrorInvalidConfiguration;
	if (s.block.x > BLOCK_XY || s.block.y > BLOCK_XY || s.block.z > BLOCK_Z || threads > BLOCK_THREADS)
		return cudaErrorInvalidConfiguration;
	if (s.shared_bytes > dynamic_limit(function))
		return cudaErrorInvalidValue;
	return cudaSuccess;
}

static std::string display_name(const LaunchShape &shape, const Kernel &kernel)
{
	char symbol[256];
	std::string name = shape.name && *shape.name ? shape.name : symbol_name(kernel.function, symbol, sizeof symbol);
	if (name.empty())
		name = kernel.signature;
	return shape.file ? name + " (launched at " + shape.file + ":" + std::to_string(shape.line) + ")" : name;
}

cudaError_t launch(const LaunchShape &shape, const Kernel &kernel)
{
	HD_EMU_ENTRY();
	/* what has run dies as the clean-up that submit() arranges: this function keeps no reference */
	std::shared_ptr<Kernel> held(new Kernel(kernel), [](Kernel *k) {
		k->destroy(k->call);
		delete k;
	});
	std::string name = display_name(shape, kernel);
	cudaError_t error = check_shape(shape, kernel.function);
	if (!error && device_of(shape.stream) != current_device())
		error = cudaErrorInvalidResourceHandle;
	if (error) {
		trace("%s is refused: %s", name.c_str(), cudaGetErrorName(error));
		return keep(error);
	}
	check_pointers(*held, (" at the launch of " + name).c_str());
	size_t limit = dynamic_limit(kernel.function);
	limit = limit > SHARED_BYTES_DEFAULT ? limit : size_t(SHARED_BYTES_DEFAULT);
	LaunchShape kept = shape;
	return submit(shape.stream, "kernel", [kernel_kept = std::move(held), kept, name, limit] {
		check_pointers(*kernel_kept, (" when its stream runs " + name).c_str());
		shared_begin_launch(kept.shared_bytes, limit);
		run_kernel(kept, *kernel_kept, name.c_str());
		check_guards(*kernel_kept, name.c_str());
	});
}

} // namespace hd_emu

using namespace hd_emu;

extern "C" {

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
	HD_EMU_ENTRY();
	if (!function)
		return keep(cudaErrorInvalidDeviceFunction);
	switch (attribute) {
	case cudaFuncAttributeMaxDynamicSharedMemorySize:
		if (value < 0 || value > SHARED_BYTES_OPTIN)
			return keep(cudaErrorInvalidValue);
		dynamic_limits[function] = static_cast<size_t>(value);
		return cudaSuccess;
	case cudaFuncAttributePreferredSharedMemoryCarveout:
		return value < -1 || value > 100 ? keep(cudaErrorInvalidValue) : cudaSuccess;
	default:
		return keep(cudaErrorInvalidValue);
	}
}

cudaError_t cudaFuncSetCacheConfig(const void *, cudaFuncCache)
{
	return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *function)
{
	HD_EMU_ENTRY();
	if (!attributes || !function)
		return keep(cudaErrorInvalidDeviceFunction);
	memset(attributes, 0, sizeof *attributes);
	attributes->maxThreadsPerBlock = BLOCK_THREADS;
	attributes->numRegs = 32;
	attributes->binaryVersion = attributes->ptxVersion = 10 * CAPABILITY_MAJOR + CAPABILITY_MINOR;
	attributes->maxDynamicSharedSizeBytes = static_cast<int>(dynamic_limit(function));
	attributes->preferredShmemCarveout = -1;
	return cudaSuccess;
}

/* Registers are not known here: threads and dynamic shared memory alone limit the number. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        int *blocks, const void *function, int threads, size_t dynamic_bytes, unsigned)
{
	HD_EMU_ENTRY();
	if (!blocks || !function || threads < 1)
		return keep(cudaErrorInvalidValue);
	*blocks = 0;
	if (threads > BLOCK_THREADS || dynamic_bytes > dynamic_limit(function))
		return cudaSuccess;
	int warps = (threads + 31) / 32;
	int by_threads = SM_THREADS / 32 / warps;
	int by_shared = static_cast<int>(SM_SHARED_BYTES / (dynamic_bytes + SHARED_BYTES_RESERVED));
	*blocks = by_threads < by_shared ? by_threads : by_shared;
	if (*blocks > SM_BLOCKS)
		*blocks = SM_BLOCKS;
	return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        int *blocks, const void *function, int threads, size_t dynamic_bytes)
{
	return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, dynamic_bytes, 0);
}

cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, const void *function, int blocks, int threads)
{
	HD_EMU_ENTRY();
	if (!bytes || !function || blocks < 1 || threads < 1)
		return keep(cudaErrorInvalidValue);
	size_t share = SM_SHARED_BYTES / static_cast<size_t>(blocks);
	share = share > SHARED_BYTES_RESERVED ? share - SHARED_BYTES_RESERVED : 0;
	size_t limit = dynamic_limit(function);
	*bytes = share < limit ? share : limit;
	return cudaSuccess;
}

/* Arguments without types cannot be passed to a function of the host. */
cudaError_t cudaLaunchKernel(const void *, dim3, dim3, void **, size_t, cudaStream_t)
{
	fail("cudaLaunchKernel is not emulated: launch with <<<...>>> or the typed cudaLaunchKernelEx");
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *, const void *, void **)
{
	fail("cudaLaunchKernelExC is not emulated: launch with <<<...>>> or the typed cudaLaunchKernelEx");
}

cudaError_t cudaLaunchCooperativeKernel(const void *, dim3, dim3, void **, size_t, cudaStream_t)
{
	fail("cooperative launches are not emulated: one block runs at a time");
}
}
