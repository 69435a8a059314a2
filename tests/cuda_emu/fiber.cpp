/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber.h"
#include "emu.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if HD_EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if HD_EMU_TSAN
extern "C" {
void *__tsan_get_current_fiber();
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
}
#endif

/* Saves what a callee must preserve on the running stack, stores the stack pointer in *save, continues on `to`. */
extern "C" void hd_emu_switch_stack(void **save, void *to);

#if defined(__x86_64__)
asm(".text\n"
    ".globl hd_emu_switch_stack\n"
    ".type hd_emu_switch_stack,@function\n"
    "hd_emu_switch_stack:\n"
    "push %rbp\n"
    "push %rbx\n"
    "push %r12\n"
    "push %r13\n"
    "push %r14\n"
    "push %r15\n"
    "mov %rsp,(%rdi)\n"
    "mov %rsi,%rsp\n"
    "pop %r15\n"
    "pop %r14\n"
    "pop %r13\n"
    "pop %r12\n"
    "pop %rbx\n"
    "pop %rbp\n"
    "ret\n"
    ".size hd_emu_switch_stack,.-hd_emu_switch_stack\n");
#elif defined(__aarch64__)
asm(".text\n"
    ".globl hd_emu_switch_stack\n"
    ".type hd_emu_switch_stack,%function\n"
    "hd_emu_switch_stack:\n"
    "sub sp,sp,#160\n"
    "stp x19,x20,[sp]\n"
    "stp x21,x22,[sp,#16]\n"
    "stp x23,x24,[sp,#32]\n"
    "stp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\n"
    "stp x29,x30,[sp,#80]\n"
    "stp d8,d9,[sp,#96]\n"
    "stp d10,d11,[sp,#112]\n"
    "stp d12,d13,[sp,#128]\n"
    "stp d14,d15,[sp,#144]\n"
    "mov x9,sp\n"
    "str x9,[x0]\n"
    "mov sp,x1\n"
    "ldp x19,x20,[sp]\n"
    "ldp x21,x22,[sp,#16]\n"
    "ldp x23,x24,[sp,#32]\n"
    "ldp x25,x26,[sp,#48]\n"
    "ldp x27,x28,[sp,#64]\n"
    "ldp x29,x30,[sp,#80]\n"
    "ldp d8,d9,[sp,#96]\n"
    "ldp d10,d11,[sp,#112]\n"
    "ldp d12,d13,[sp,#128]\n"
    "ldp d14,d15,[sp,#144]\n"
    "add sp,sp,#160\n"
    "ret\n");
#else
#error "the CUDA emulator knows how to switch stacks on x86-64 and aarch64 only"
#endif

namespace hd_emu
{

static const size_t STACK_BYTES = 256 << 10;
static const size_t GUARD_BYTES = 4096;
static Fiber *running, *left_behind;

/* The first frame of a stack, as hd_emu_switch_stack restores it: entry() is where it "returns" to. */
static void *first_frame(char *stack, void (*entry)())
{
#if defined(__x86_64__)
	/* stacks start at different cache sets, or the tops of a thousand of them would compete for one */
	static unsigned colour;
	colour = (colour + 5) % 61;
	uint64_t *top = reinterpret_cast<uint64_t *>(stack + STACK_BYTES - 64 * colour) - 2;
	*--top = 0;
	*--top = reinterpret_cast<uint64_t>(entry);
	return top - 6;
#else
	uint64_t *top = reinterpret_cast<uint64_t *>(stack + STACK_BYTES) - 20;
	top[11] = reinterpret_cast<uint64_t>(entry); /* x30 */
	return top;
#endif
}

Fiber *fiber_new(void (*entry)())
{
	/* past the thread sanitizer, which would touch its shadow of all of it */
	long address = syscall(SYS_mmap, nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
	        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *memory = reinterpret_cast<char *>(address);
	if (address == -1 || mprotect(memory, GUARD_BYTES, PROT_NONE))
		fail("no memory for the stack of a thread");
	char *stack = memory + GUARD_BYTES;
	Fiber *fiber = new Fiber();
	fiber->stack = stack;
	fiber->stack_bytes = STACK_BYTES;
	fiber->stack_pointer = first_frame(stack, entry);
#if HD_EMU_TSAN
	fiber->logical = __tsan_create_fiber(0);
#endif
	return fiber;
}

void fiber_adopt(Fiber *host)
{
	running = host;
#if HD_EMU_TSAN
	host->logical = __tsan_get_current_fiber();
#endif
}

void fiber_arrived()
{
#if HD_EMU_ASAN
	__sanitizer_finish_switch_fiber(running->fake_stack, &left_behind->stack, &left_behind->stack_bytes);
#endif
}

void fiber_switch(Fiber *from, Fiber *to)
{
	left_behind = from;
	running = to;
#if HD_EMU_ASAN
	__sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#if HD_EMU_TSAN
	const unsigned no_order = 1;
	__tsan_switch_to_fiber(to->logical, no_order);
#endif
	hd_emu_switch_stack(&from->stack_pointer, to->stack_pointer);
	fiber_arrived();
}

} // namespace hd_emu
