/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel launches, and the typed wrappers of the runtime that NVIDIA's headers offer to nvcc only.
 * Included by the shim cuda_runtime.h.
 */
#ifndef HD_EMU_LAUNCH_H
#define HD_EMU_LAUNCH_H

#include "hd_emu.h"

#include <tuple>
#include <type_traits>
#include <utility>

#define HD_EMU_TEXT(...) HD_EMU_TEXT_OF_EXPANDED(__VA_ARGS__)
#define HD_EMU_TEXT_OF_EXPANDED(...) #__VA_ARGS__

namespace hd_emu
{

/* Launch shape and arguments, waiting for the kernel that stands on the left of ->*. */
template <class... Args> struct Arguments {
	LaunchShape shape;
	std::tuple<Args...> values;
};

struct Configuration {
	LaunchShape shape;

	Configuration named(const char *name, HD_EMU_SITE) const
	{
		Configuration result = *this;
		result.shape.name = name;
		result.shape.file = site_file;
		result.shape.line = site_line;
		return result;
	}

	template <class... Args> Arguments<std::decay_t<Args>...> operator()(Args &&...args) const
	{
		return {shape, std::tuple<std::decay_t<Args>...>(std::forward<Args>(args)...)};
	}
};

inline Configuration configure(dim3 grid, dim3 block, size_t shared_bytes = 0, cudaStream_t stream = nullptr)
{
	return {{grid, block, shared_bytes, stream, nullptr, nullptr, 0}};
}

template <class T> void note_pointer(Kernel &kernel, const T &argument)
{
	if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>)
		kernel.pointers[kernel.pointer_count++] = (const void *)argument;
}

template <class... Params> struct Call {
	void (*function)(Params...);
	std::tuple<Params...> args;

	static void run(void *call)
	{
		const Call *self = static_cast<const Call *>(call);
		std::apply(self->function, self->args);
	}

	static void destroy(void *call)
	{
		delete static_cast<Call *>(call);
	}
};

template <class... Params>
cudaError_t launch_typed(const LaunchShape &shape, void (*function)(Params...), Params... args)
{
	static_assert(sizeof...(Params) <= MAX_POINTERS, "more kernel parameters than the emulator keeps track of");
	static_assert((sizeof(Params) + ... + 0) <= 4096, "kernel parameters take at most 4 KB");
	using Typed = Call<Params...>;
	Kernel kernel = {};
	kernel.run = Typed::run;
	kernel.destroy = Typed::destroy;
	kernel.call = new Typed{function, std::tuple<Params...>(args...)};
	kernel.function = reinterpret_cast<const void *>(function);
	kernel.signature = __PRETTY_FUNCTION__;
	(note_pointer(kernel, args), ...);
	return launch(shape, kernel);
}

template <class... Params, class... Args> void operator->*(void (*function)(Params...), Arguments<Args...> &&arguments)
{
	static_assert(sizeof...(Params) == sizeof...(Args), "a kernel launched with the wrong number of arguments");
	std::apply(
	        [&](Args &...args) {
		        launch_typed<Params...>(arguments.shape, function, static_cast<Params>(args)...);
	        },
	        arguments.values);
}

template <class... Params, class... Args>
cudaError_t launch_kernel_ex(const cudaLaunchConfig_t *config, void (*function)(Params...), Args &&...args)
{
	static_assert(sizeof...(Params) == sizeof...(Args), "a kernel launched with the wrong number of arguments");
	LaunchShape shape = {
	        config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream, nullptr, nullptr, 0};
	return launch_typed<Params...>(shape, function, static_cast<Params>(args)...);
}

} // namespace hd_emu

#define cudaLaunchKernelEx ::hd_emu::launch_kernel_ex

template <class T>
cudaError_t cudaMemcpyToSymbol(const T &symbol, const void *source, size_t bytes, size_t offset = 0,
        cudaMemcpyKind kind = cudaMemcpyHostToDevice)
{
	return ::cudaMemcpyToSymbol(static_cast<const void *>(&symbol), source, bytes, offset, kind);
}

template <class T>
cudaError_t cudaMemcpyToSymbolAsync(const T &symbol, const void *source, size_t bytes, size_t offset = 0,
        cudaMemcpyKind kind = cudaMemcpyHostToDevice, cudaStream_t stream = nullptr)
{
	return ::cudaMemcpyToSymbolAsync(static_cast<const void *>(&symbol), source, bytes, offset, kind, stream);
}

template <class T>
cudaError_t cudaMemcpyFromSymbol(
        void *target, const T &symbol, size_t bytes, size_t offset = 0, cudaMemcpyKind kind = cudaMemcpyDeviceToHost)
{
	return ::cudaMemcpyFromSymbol(target, static_cast<const void *>(&symbol), bytes, offset, kind);
}

template <class T>
cudaError_t cudaMemcpyFromSymbolAsync(void *target, const T &symbol, size_t bytes, size_t offset = 0,
        cudaMemcpyKind kind = cudaMemcpyDeviceToHost, cudaStream_t stream = nullptr)
{
	return ::cudaMemcpyFromSymbolAsync(target, static_cast<const void *>(&symbol), bytes, offset, kind, stream);
}

namespace hd_emu
{
/* From here on kernels may take the variable's address for device memory. */
void register_symbol(const void *symbol, size_t bytes);
} // namespace hd_emu

template <class T> cudaError_t cudaGetSymbolAddress(void **address, const T &symbol)
{
	*address = const_cast<void *>(static_cast<const void *>(&symbol));
	hd_emu::register_symbol(*address, sizeof symbol);
	return cudaSuccess;
}

template <class T> cudaError_t cudaGetSymbolSize(size_t *bytes, const T &symbol)
{
	*bytes = sizeof symbol;
	return cudaSuccess;
}

template <class... Params>
cudaError_t cudaFuncSetAttribute(void (*function)(Params...), cudaFuncAttribute attribute, int value)
{
	return ::cudaFuncSetAttribute(reinterpret_cast<const void *>(function), attribute, value);
}

template <class... Params>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, void (*function)(Params...))
{
	return ::cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(function));
}

template <class... Params> cudaError_t cudaFuncSetCacheConfig(void (*function)(Params...), cudaFuncCache config)
{
	return ::cudaFuncSetCacheConfig(reinterpret_cast<const void *>(function), config);
}

#endif
