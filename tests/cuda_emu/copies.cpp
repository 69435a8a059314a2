/* SPDX-License-Identifier: Apache-2.0 */
/* Copies and fills: checked when they are called, run in the order of their stream. */
#include "emu.h"

#include <cstring>

namespace hd_emu
{

static void copy_bytes(void *to, const void *from, size_t bytes)
{
	touch(from, bytes, false);
	touch(to, bytes, true);
	memcpy(to, from, bytes);
}

struct Copy {
	char *to;
	const char *from;
	size_t to_pitch, from_pitch, width, rows;
	cudaMemcpyKind kind;

	size_t to_bytes() const
	{
		return rows && width ? (rows - 1) * to_pitch + width : 0;
	}
	size_t from_bytes() const
	{
		return rows && width ? (rows - 1) * from_pitch + width : 0;
	}
	void run() const
	{
		for (size_t row = 0; row < rows; row++)
			copy_bytes(to + row * to_pitch, from + row * from_pitch, width);
	}
};

static void check_side(const void *address, size_t bytes, bool device, const char *what)
{
	if (device)
		need_device(address, bytes, what);
	else
		check_host(address, bytes, what);
}

/* What cudaMemcpyDefault stands for. */
static cudaMemcpyKind actual_kind(const Copy &copy)
{
	if (copy.kind != cudaMemcpyDefault)
		return copy.kind;
	bool to = on_device(copy.to), from = on_device(copy.from);
	return to ? (from ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
	          : (from ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
}

/*
 * Of pageable memory the runtime promises that a source may change and that a target is complete when the call
 * returns; no more than that is done here, so that code that relies on more is found in lazy streams.
 */
static cudaError_t submit_copy(Copy copy, cudaStream_t stream)
{
	copy.kind = actual_kind(copy);
	bool to_device = copy.kind == cudaMemcpyHostToDevice || copy.kind == cudaMemcpyDeviceToDevice;
	bool from_device = copy.kind == cudaMemcpyDeviceToHost || copy.kind == cudaMemcpyDeviceToDevice;
	if (copy.to_bytes() == 0)
		return cudaSuccess;
	if (copy.rows > 1 && (copy.to_pitch < copy.width || copy.from_pitch < copy.width))
		return keep(cudaErrorInvalidPitchValue);
	check_side(copy.to, copy.to_bytes(), to_device, "cudaMemcpy, destination");
	check_side(copy.from, copy.from_bytes(), from_device, "cudaMemcpy, source");
	cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
	if (stream)
		cudaStreamIsCapturing(stream, &status);
	bool captured = status != cudaStreamCaptureStatusNone;
	if (!from_device && !captured && !is_pinned(copy.from)) {
		std::shared_ptr<std::vector<char>> snapshot =
		        std::make_shared<std::vector<char>>(copy.from, copy.from + copy.from_bytes());
		copy.from = snapshot->data();
		return submit(stream, "copy", [copy, kept = std::move(snapshot)] { copy.run(); });
	}
	cudaError_t error = submit(stream, "copy", [copy] { copy.run(); });
	if (!error && !to_device && !captured && !is_pinned(copy.to))
		drain(stream);
	return error;
}

static cudaError_t copy_and_wait(const Copy &copy)
{
	cudaError_t unsafe = unsafe_while_capturing();
	if (unsafe)
		return keep(unsafe);
	cudaError_t error = submit_copy(copy, nullptr);
	if (!error)
		drain(nullptr);
	return error;
}

static Copy flat_copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
	return {static_cast<char *>(to), static_cast<const char *>(from), bytes, bytes, bytes, 1, kind};
}

static cudaError_t submit_fill(void *memory, int value, size_t pitch, size_t width, size_t rows, cudaStream_t stream)
{
	if (!width || !rows)
		return cudaSuccess;
	if (rows > 1 && pitch < width)
		return keep(cudaErrorInvalidPitchValue);
	need_device(memory, (rows - 1) * pitch + width, "cudaMemset");
	return submit(stream, "fill", [=] {
		for (size_t row = 0; row < rows; row++) {
			char *start = static_cast<char *>(memory) + row * pitch;
			touch(start, width, true);
			memset(start, value, width);
		}
	});
}

/* Variables of the device are the program's own variables: only the order of the copy matters. */
static cudaError_t submit_symbol_copy(void *to, const void *from, size_t bytes, cudaStream_t stream)
{
	return submit(stream, "copy of a variable", [=] { copy_bytes(to, from, bytes); });
}

static void *symbol_at(const void *symbol, size_t offset)
{
	return const_cast<char *>(static_cast<const char *>(symbol)) + offset;
}

} // namespace hd_emu

using namespace hd_emu;

extern "C" {

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
	HD_EMU_ENTRY();
	return submit_copy(flat_copy(to, from, bytes, kind), stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
	HD_EMU_ENTRY();
	return copy_and_wait(flat_copy(to, from, bytes, kind));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
        cudaMemcpyKind kind, cudaStream_t stream)
{
	HD_EMU_ENTRY();
	return submit_copy(
	        {static_cast<char *>(to), static_cast<const char *>(from), to_pitch, from_pitch, width, rows, kind},
	        stream);
}

cudaError_t cudaMemcpy2D(
        void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows, cudaMemcpyKind kind)
{
	HD_EMU_ENTRY();
	return copy_and_wait(
	        {static_cast<char *>(to), static_cast<const char *>(from), to_pitch, from_pitch, width, rows, kind});
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
	HD_EMU_ENTRY();
	return submit_fill(memory, value, bytes, bytes, 1, stream);
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
	HD_EMU_ENTRY();
	return submit_fill(memory, value, bytes, bytes, 1, nullptr);
}

cudaError_t cudaMemset2DAsync(void *memory, size_t pitch, int value, size_t width, size_t rows, cudaStream_t stream)
{
	HD_EMU_ENTRY();
	return submit_fill(memory, value, pitch, width, rows, stream);
}

cudaError_t cudaMemcpyToSymbolAsync(
        const void *symbol, const void *from, size_t bytes, size_t offset, cudaMemcpyKind kind, cudaStream_t stream)
{
	HD_EMU_ENTRY();
	check_side(from, bytes, kind == cudaMemcpyDeviceToDevice, "cudaMemcpy, source");
	cudaError_t error = submit_symbol_copy(symbol_at(symbol, offset), from, bytes, stream);
	if (!error && kind == cudaMemcpyHostToDevice && !is_pinned(from))
		drain(stream);
	return error;
}

cudaError_t cudaMemcpyFromSymbolAsync(
        void *to, const void *symbol, size_t bytes, size_t offset, cudaMemcpyKind kind, cudaStream_t stream)
{
	HD_EMU_ENTRY();
	check_side(to, bytes, kind == cudaMemcpyDeviceToDevice, "cudaMemcpy, destination");
	cudaError_t error = submit_symbol_copy(to, symbol_at(symbol, offset), bytes, stream);
	if (!error && kind == cudaMemcpyDeviceToHost && !is_pinned(to))
		drain(stream);
	return error;
}

cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset, cudaMemcpyKind kind)
{
	HD_EMU_ENTRY();
	cudaError_t error = cudaMemcpyToSymbolAsync(symbol, from, bytes, offset, kind, nullptr);
	if (!error)
		drain(nullptr);
	return error;
}

cudaError_t cudaMemcpyFromSymbol(void *to, const void *symbol, size_t bytes, size_t offset, cudaMemcpyKind kind)
{
	HD_EMU_ENTRY();
	cudaError_t error = cudaMemcpyFromSymbolAsync(to, symbol, bytes, offset, kind, nullptr);
	if (!error)
		drain(nullptr);
	return error;
}
}
