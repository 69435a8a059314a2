/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks that take turns on one thread of the operating system. The address sanitizer learns which stack is in use,
 * the thread sanitizer sees every fiber as a thread of its own, not ordered by the switches.
 */
#ifndef HD_EMU_FIBER_H
#define HD_EMU_FIBER_H

#include <cstddef>

namespace hd_emu
{

struct Fiber {
	void *stack_pointer;
	const void *stack; /* lowest address */
	size_t stack_bytes;
	void *fake_stack; /* of the address sanitizer */
	void *logical;    /* thread of the thread sanitizer */
};

/* A fiber that runs entry(), which calls fiber_arrived() first and never returns. Never freed. */
Fiber *fiber_new(void (*entry)());

/* The stack that the caller is on, as a fiber to come back to. */
void fiber_adopt(Fiber *host);

/* Leaves `from`, which must be running; returns when somebody switches to it. */
void fiber_switch(Fiber *from, Fiber *to);

void fiber_arrived();

} // namespace hd_emu

#endif
