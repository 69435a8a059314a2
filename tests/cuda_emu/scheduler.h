/* SPDX-License-Identifier: Apache-2.0 */
/* The threads of the running block: shared by block barriers (scheduler.cpp) and warp collectives (warp.cpp). */
#ifndef HD_EMU_SCHEDULER_H
#define HD_EMU_SCHEDULER_H

#include "emu.h"
#include "fiber.h"

namespace hd_emu
{

enum { MAX_THREADS = 1024, WARP = 32, MAX_WARPS = MAX_THREADS / WARP, MAX_MASKS = 16 };

enum ThreadState : uint8_t { THREAD_NEW, THREAD_READY, THREAD_AT_BARRIER, THREAD_AT_WARP, THREAD_EXITED };

struct Thread {
	uint3 id;
	unsigned index;
	ThreadState state;
	Fiber *fiber;
	const char *file; /* of the barrier or collective that it waits at */
	int line;
	unsigned barriers; /* passed in this block */
	WarpOp op;
	unsigned mask;
	int source;
	uint64_t value, result;
};

/*
 * What the thread sanitizer is told within one block. Barriers take two orders in turn: a fast thread is already at the
 * next one while others still leave the last.
 */
struct BlockOrder {
	Order barrier[2];
	Order shared;
	Order warp[MAX_WARPS][MAX_MASKS][2];
};

extern Thread threads[MAX_THREADS];
extern int thread_count, exited_count;
extern BlockOrder *block_order;

/* The running thread; ends the program outside of a kernel. */
Thread *running_thread(const char *file, int line);

/* The thread may go on from where it waits. */
void make_ready(Thread *thread);

/* The running thread cannot go on: something else runs, and the call returns when the thread is chosen again. */
void wait_for_turn();

/* Do both threads stand at one place of the source? */
bool same_place(const Thread *a, const Thread *b);

/* ---- warp.cpp ---- */
void warps_begin_block();
void warp_thread_exits(const Thread *thread);
const char *warp_op_name(WarpOp op);

} // namespace hd_emu

#endif
