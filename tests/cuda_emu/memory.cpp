/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device and pinned memory, and the checks of pointers. Device memory comes from the heap, so that the address
 * sanitizer sees every overrun and every use after free; other builds lay guard bytes around it and look at them after
 * each kernel. Fresh memory holds NaN.
 */
#include "emu.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <unistd.h>

#if HD_EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace hd_emu
{

enum Kind { DEVICE, PINNED, REGISTERED, SYMBOL };
enum { ALIGNMENT = 256, GRANULARITY = 512, GUARD = HD_EMU_ASAN ? 0 : ALIGNMENT, GUARD_BYTE = 0xa5, NAN_BYTE = 0xff };
enum { FREED_KEPT = 4096 };

struct Allocation {
	size_t bytes;
	Kind kind;
	const void *caller;
	int device;
};
typedef std::map<uintptr_t, Allocation> Allocations;

/* Never destroyed: programs free memory until their very end. */
static Allocations &allocations = *new Allocations;
static std::map<uintptr_t, size_t> &freed = *new std::map<uintptr_t, size_t>;
static std::map<int, size_t> &device_bytes = *new std::map<int, size_t>;
static int open_depth;

static uintptr_t number(const void *address)
{
	return reinterpret_cast<uintptr_t>(address);
}

static size_t accounted(size_t bytes)
{
	return (bytes + GRANULARITY - 1) / GRANULARITY * GRANULARITY;
}

/* The allocation that holds the address or ends there (end() where none does); what it has left from there on. */
static Allocations::iterator find(const void *address, size_t *left)
{
	Allocations::iterator next = allocations.upper_bound(number(address));
	if (next == allocations.begin())
		return allocations.end();
	--next;
	uintptr_t end = next->first + next->second.bytes;
	if (number(address) > end)
		return allocations.end();
	*left = end - number(address);
	return next;
}

static bool was_freed(const void *address)
{
	std::map<uintptr_t, size_t>::iterator next = freed.upper_bound(number(address));
	if (next == freed.begin())
		return false;
	--next;
	return number(address) < next->first + next->second;
}

static void remember_freed(uintptr_t start, size_t bytes)
{
	if (freed.size() >= FREED_KEPT)
		freed.clear();
	freed[start] = bytes;
}

static void forget_freed(uintptr_t start, size_t bytes)
{
	std::map<uintptr_t, size_t>::iterator i = freed.upper_bound(start);
	if (i != freed.begin()) {
		--i;
		if (i->first + i->second <= start)
			++i;
	}
	while (i != freed.end() && i->first < start + bytes)
		i = freed.erase(i);
}

/* ---- guard bytes, poison ---- */

static void fill_guards(char *memory, size_t bytes)
{
	for (int i = 0; i < GUARD; i++)
		memory[-1 - i] = memory[bytes + static_cast<size_t>(i)] = static_cast<char>(GUARD_BYTE);
}

/* NULL, or which side of the allocation was written. */
static const char *broken_guard(uintptr_t start, size_t bytes)
{
	const char *memory = reinterpret_cast<const char *>(start);
	for (int i = 0; i < GUARD; i++) {
		if (memory[-1 - i] != static_cast<char>(GUARD_BYTE))
			return "before";
		if (memory[bytes + static_cast<size_t>(i)] != static_cast<char>(GUARD_BYTE))
			return "behind";
	}
	return nullptr;
}

static void set_poison(uintptr_t start, const Allocation &a, bool poisoned)
{
#if HD_EMU_ASAN
	if (!settings.poison || a.kind != DEVICE)
		return;
	void *memory = reinterpret_cast<void *>(start);
	if (poisoned)
		__asan_poison_memory_region(memory, a.bytes);
	else
		__asan_unpoison_memory_region(memory, a.bytes);
#else
	(void)start, (void)a, (void)poisoned;
#endif
}

static void set_poison_of_all(bool poisoned)
{
	if (!settings.poison)
		return;
	for (const Allocations::value_type &a : allocations)
		set_poison(a.first, a.second, poisoned);
}

void open_memory()
{
	if (open_depth++ == 0)
		set_poison_of_all(false);
}

void close_memory()
{
	if (--open_depth == 0)
		set_poison_of_all(true);
}

void check_guards(const Kernel &kernel, const char *name)
{
	for (int i = 0; GUARD > 0 && i < kernel.pointer_count; i++) {
		size_t left;
		Allocations::iterator a = find(kernel.pointers[i], &left);
		if (a == allocations.end() || a->second.kind > PINNED)
			continue;
		const char *side = broken_guard(a->first, a->second.bytes);
		if (side)
			fail("the kernel %s has written %s the allocation of %zu bytes of its pointer argument %d",
			        name, side, a->second.bytes, i + 1);
	}
}

/* ---- allocation ---- */

static void *allocate(size_t bytes, Kind kind, const void *caller)
{
	void *base;
	if (bytes > SIZE_MAX - 2 * GUARD || posix_memalign(&base, ALIGNMENT, bytes + 2 * GUARD))
		return nullptr;
	char *memory = static_cast<char *>(base) + GUARD;
	memset(memory, NAN_BYTE, bytes);
	fill_guards(memory, bytes);
	forget_freed(number(memory), bytes);
	Allocation &a = allocations[number(memory)];
	a = {bytes, kind, caller, current_device()};
	if (kind == DEVICE)
		device_bytes[a.device] += accounted(bytes);
	if (open_depth == 0)
		set_poison(number(memory), a, true);
	return memory;
}

/* False: the address is not the start of an allocation of this kind. */
static bool release(void *memory, Kind kind)
{
	Allocations::iterator a = allocations.find(number(memory));
	if (a == allocations.end() || a->second.kind != kind)
		return false;
	const char *side = broken_guard(a->first, a->second.bytes);
	if (side)
		fail("something was written %s an allocation of %zu bytes that is being freed", side, a->second.bytes);
	set_poison(a->first, a->second, false);
	if (kind == DEVICE)
		device_bytes[a->second.device] -= accounted(a->second.bytes);
	remember_freed(a->first, a->second.bytes);
	allocations.erase(a);
	free(static_cast<char *>(memory) - GUARD);
	return true;
}

size_t memory_left(int device)
{
	size_t used = device_bytes[device], most = settings.memory_bytes;
	long free_mb = others(device).free_mb;
	if (free_mb >= 0 && static_cast<size_t>(free_mb) << 20 < most)
		most = static_cast<size_t>(free_mb) << 20;
	return used < most ? most - used : 0;
}

void register_symbol(const void *symbol, size_t bytes)
{
	allocations[number(symbol)] = {bytes, SYMBOL, nullptr, 0};
}

size_t leaked_memory()
{
	size_t count = 0;
	for (const Allocations::value_type &a : allocations) {
		char name[256];
		if (a.second.kind > PINNED)
			continue;
		fprintf(stderr, "cuda_emu: never freed: %zu bytes of %s memory, allocated by %s (%p)\n", a.second.bytes,
		        a.second.kind == DEVICE ? "device" : "pinned", symbol_name(a.second.caller, name, sizeof name),
		        a.second.caller);
		count++;
	}
	return count;
}

/* ---- checks ---- */

static const char *what_it_is(const void *address)
{
	size_t left;
	Allocations::iterator a = find(address, &left);
	if (a != allocations.end())
		return a->second.kind == DEVICE ? "device memory" : "pinned host memory";
	return was_freed(address) ? "device or pinned memory that has been freed" : "host memory or no memory at all";
}

void need_device(const void *address, size_t bytes, const char *what)
{
	size_t left = 0;
	Allocations::iterator a = find(address, &left);
	if (!bytes)
		return;
	if (a == allocations.end() || (a->second.kind != DEVICE && a->second.kind != SYMBOL))
		fail("%s: %p is not device memory but %s", what, address, what_it_is(address));
	if (left < bytes)
		fail("%s: %zu bytes are needed and the allocation has %zu left", what, bytes, left);
}

void check_pointers(const Kernel &kernel, const char *when)
{
	for (int i = 0; i < kernel.pointer_count; i++) {
		const void *pointer = kernel.pointers[i];
		size_t left;
		if (pointer && find(pointer, &left) == allocations.end())
			fail("kernel argument: the pointer argument %d is %p, which is %s%s\n  %s", i + 1, pointer,
			        what_it_is(pointer), when, kernel.signature);
	}
}

bool is_pinned(const void *address)
{
	size_t left;
	Allocations::iterator a = find(address, &left);
	return a != allocations.end() && left > 0 && (a->second.kind == PINNED || a->second.kind == REGISTERED);
}

bool on_device(const void *address)
{
	size_t left;
	Allocations::iterator a = find(address, &left);
	return a != allocations.end() && left > 0 && a->second.kind == DEVICE;
}

void check_host(const void *address, size_t bytes, const char *what)
{
	size_t left = 0;
	Allocations::iterator a = find(address, &left);
	if (a == allocations.end() || left == 0)
		return;
	if (a->second.kind == DEVICE)
		fail("%s: %p is device memory, and the kind of the copy says host memory", what, address);
	if (left < bytes)
		fail("%s: %zu bytes are needed and the allocation has %zu left", what, bytes, left);
}

} // namespace hd_emu

using namespace hd_emu;

extern "C" {

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
	HD_EMU_ENTRY();
	if (!memory)
		return keep(cudaErrorInvalidValue);
	cudaError_t error = unsafe_while_capturing();
	if (error)
		return keep(error);
	*memory = nullptr;
	if (!bytes)
		return cudaSuccess;
	bool fits = bytes <= settings.memory_bytes && accounted(bytes) <= memory_left(current_device());
	if (injected_failure("cudaMalloc") || !fits)
		return keep(cudaErrorMemoryAllocation);
	*memory = allocate(bytes, DEVICE, __builtin_return_address(0));
	return *memory ? cudaSuccess : keep(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *memory)
{
	HD_EMU_ENTRY();
	cudaError_t error = unsafe_while_capturing();
	if (error)
		return keep(error);
	if (!memory)
		return cudaSuccess;
	drain_all();
	return release(memory, DEVICE) ? cudaSuccess : keep(cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void **memory, size_t bytes, cudaStream_t)
{
	return cudaMalloc(memory, bytes);
}

cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream)
{
	HD_EMU_ENTRY();
	cudaError_t error = unsafe_while_capturing();
	if (error)
		return keep(error);
	return submit(
	        stream, "free",
	        [memory] {
		        if (memory && !release(memory, DEVICE))
			        fail("cudaFreeAsync: %p is not an allocation of the device", memory);
	        },
	        WORK_HOST);
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
	HD_EMU_ENTRY();
	if (!memory)
		return keep(cudaErrorInvalidValue);
	cudaError_t error = unsafe_while_capturing();
	if (error)
		return keep(error);
	*memory = nullptr;
	if (!bytes)
		return cudaSuccess;
	if (!injected_failure("cudaMallocHost"))
		*memory = allocate(bytes, PINNED, __builtin_return_address(0));
	return *memory ? cudaSuccess : keep(cudaErrorMemoryAllocation);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned)
{
	return cudaMallocHost(memory, bytes);
}

cudaError_t cudaFreeHost(void *memory)
{
	HD_EMU_ENTRY();
	cudaError_t error = unsafe_while_capturing();
	if (error)
		return keep(error);
	if (!memory)
		return cudaSuccess;
	drain_all();
	return release(memory, PINNED) ? cudaSuccess : keep(cudaErrorInvalidValue);
}

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned)
{
	HD_EMU_ENTRY();
	size_t left;
	if (!memory || !bytes)
		return keep(cudaErrorInvalidValue);
	if (find(memory, &left) != allocations.end() && left > 0)
		return keep(cudaErrorHostMemoryAlreadyRegistered);
	allocations[number(memory)] = {bytes, REGISTERED, nullptr, 0};
	return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *memory)
{
	HD_EMU_ENTRY();
	drain_all();
	Allocations::iterator a = allocations.find(number(memory));
	if (a == allocations.end() || a->second.kind != REGISTERED)
		return keep(cudaErrorHostMemoryNotRegistered);
	allocations.erase(a);
	return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned)
{
	HD_EMU_ENTRY();
	if (!is_pinned(host))
		return keep(cudaErrorInvalidValue);
	*device = host;
	return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
	HD_EMU_ENTRY();
	*total = settings.memory_bytes;
	*free_bytes = memory_left(current_device());
	return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *address)
{
	HD_EMU_ENTRY();
	size_t left = 0;
	Allocations::iterator a = find(address, &left);
	memset(attributes, 0, sizeof *attributes);
	attributes->type = cudaMemoryTypeUnregistered;
	attributes->hostPointer = const_cast<void *>(address);
	if (a == allocations.end() || left == 0)
		return cudaSuccess;
	bool device = a->second.kind == DEVICE || a->second.kind == SYMBOL;
	attributes->type = device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
	attributes->devicePointer = const_cast<void *>(address);
	if (device)
		attributes->hostPointer = nullptr;
	return cudaSuccess;
}
}
