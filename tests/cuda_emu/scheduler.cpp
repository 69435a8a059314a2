/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a kernel: one block at a time, one fiber per thread. A thread runs until it waits at a barrier or a warp
 * collective, or exits; HD_EMU_ORDER says who comes next.
 *
 * For the thread sanitizer neighbouring blocks, and kernels of neighbouring streams, run as different sets of logical
 * threads, so that nothing but atomics, fences and what orders the launches orders them. Memory here is fixed:
 * allocating inside of a kernel would be seen as the kernel's.
 */
#include "scheduler.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <unistd.h>
#include <utility>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace hd_emu
{

unsigned thread_index;
Thread threads[MAX_THREADS];
int thread_count, exited_count;
BlockOrder *block_order;

enum { THREAD_SETS = HD_EMU_TSAN ? 4 : 1, BLOCK_ORDERS = 64 };

static const Kernel *kernel; /* the running one */
static const char *kernel_name;
static Thread *running;
static Fiber host, *running_fiber;
static unsigned long switches;

/* Of the launch, for the thread sanitizer; the BLOCK_ORDERS are used in turn. */
struct LaunchOrder {
	Order start, end, fence;
	BlockOrder blocks[BLOCK_ORDERS];
};
static LaunchOrder *launch_order;

/* Threads that have not started, in the order in which they will. */
static int start_order[MAX_THREADS], started;

/* Threads that may go on, a ring. */
static int ready[MAX_THREADS];
static unsigned ready_first, ready_end;

/* The block barrier. */
static int arrived;
static const Thread *first_arrived;
struct Votes {
	int count, all, any;
};
static Votes votes, last_votes;
static const Votes NO_VOTES = {0, 1, 0};

/* Fibers of finished threads; every thread of every set owns its fiber where the thread sanitizer watches. */
static Fiber *idle_fibers[MAX_THREADS + 1];
static int idle_count;
static Fiber *owned_fibers[THREAD_SETS][MAX_THREADS];
static int thread_set;

bool in_kernel()
{
	return kernel != nullptr;
}

void report_where()
{
	if (kernel && running)
		fprintf(stderr, "cuda_emu: in kernel %s, block (%u,%u,%u), thread (%u,%u,%u)\n", kernel_name,
		        blockIdx.x, blockIdx.y, blockIdx.z, running->id.x, running->id.y, running->id.z);
}

void kernel_error(const char *text, const char *file, int line)
{
	fail("%s:%d: %s", file, line, text);
}

Thread *running_thread(const char *file, int line)
{
	if (!kernel)
		fail("%s:%d: a function of the device is called outside of a kernel", file, line);
	return running;
}

bool same_place(const Thread *a, const Thread *b)
{
	return a->line == b->line && (a->file == b->file || !strcmp(a->file, b->file));
}

/* ---- who comes next ---- */

void make_ready(Thread *thread)
{
	thread->state = THREAD_READY;
	ready[ready_end++ % MAX_THREADS] = static_cast<int>(thread->index);
}

static Thread *next_ready()
{
	if (ready_first == ready_end)
		return nullptr;
	if (settings.order == ORDER_RANDOM) {
		unsigned other = ready_first + random_below(ready_end - ready_first);
		std::swap(ready[other % MAX_THREADS], ready[ready_first % MAX_THREADS]);
	}
	return &threads[ready[ready_first++ % MAX_THREADS]];
}

static Thread *next_new()
{
	return started < thread_count ? &threads[start_order[started++]] : nullptr;
}

/* NULL: every thread waits or has exited. */
static Thread *next_thread()
{
	bool prefer_new = settings.order == ORDER_RANDOM && random_below(2);
	Thread *thread = prefer_new ? next_new() : next_ready();
	if (!thread)
		thread = prefer_new ? next_ready() : next_new();
	return thread;
}

[[noreturn]] static void deadlock()
{
	fprintf(stderr, "cuda_emu: ERROR: deadlock in kernel %s, block (%u,%u,%u): %d threads, %d exited\n",
	        kernel_name, blockIdx.x, blockIdx.y, blockIdx.z, thread_count, exited_count);
	int shown = 0;
	for (int i = 0; i < thread_count && shown < 8; i++) {
		const Thread *t = &threads[i];
		if (t->state != THREAD_AT_BARRIER && t->state != THREAD_AT_WARP)
			continue;
		shown++;
		if (t->state == THREAD_AT_BARRIER)
			fprintf(stderr, "cuda_emu:   thread %d waits at __syncthreads, %s:%d\n", i, t->file, t->line);
		else
			fprintf(stderr, "cuda_emu:   thread %d waits at %s, %s:%d, mask %08x\n", i, warp_op_name(t->op),
			        t->file, t->line, t->mask);
	}
	fflush(nullptr);
	_exit(EXIT_REPORT);
}

/* ---- threads on fibers ---- */

static void set_running(Thread *thread)
{
	running = thread;
	threadIdx = thread->id;
	thread_index = thread->index;
}

static void thread_main();

/* Before the first block: a logical thread that is made inside of a kernel would be ordered after its maker. */
static void make_owned_fibers(uint64_t blocks)
{
	for (int k = 0; k < THREAD_SETS && static_cast<uint64_t>(k) < blocks; k++)
		for (int i = 0; i < thread_count; i++) {
			Fiber **fiber = &owned_fibers[(context_number + k) % THREAD_SETS][i];
			if (!*fiber)
				*fiber = fiber_new(thread_main);
		}
}

static Fiber *fiber_for(const Thread *thread)
{
	if (HD_EMU_TSAN)
		return owned_fibers[thread_set][thread->index];
	return idle_count ? idle_fibers[--idle_count] : fiber_new(thread_main);
}

static void continue_with(Thread *thread)
{
	if (thread->state == THREAD_NEW)
		thread->fiber = fiber_for(thread);
	thread->state = THREAD_READY;
	set_running(thread);
	Fiber *from = running_fiber;
	if (thread->fiber == from)
		return;
	running_fiber = thread->fiber;
	switches++;
	fiber_switch(from, thread->fiber);
}

void wait_for_turn()
{
	Thread *next = next_thread();
	if (!next)
		deadlock();
	continue_with(next);
}

static void release_barrier();

static void thread_exits(Thread *thread)
{
	thread->state = THREAD_EXITED;
	thread->fiber = nullptr;
	exited_count++;
	warp_thread_exits(thread);
	if (arrived && arrived == thread_count - exited_count)
		fail("%d of %d threads have exited while the others wait at __syncthreads, %s:%d", exited_count,
		        thread_count, first_arrived->file, first_arrived->line);
}

/* What every fiber runs: thread after thread. */
static void thread_main()
{
	fiber_arrived();
	for (;;) {
		launch_order->start.acquire();
		kernel->run(kernel->call);
		launch_order->end.release();
		thread_exits(running);
		Thread *next = next_thread();
		if (!next && exited_count != thread_count)
			deadlock();
		if (next && next->state == THREAD_NEW && !HD_EMU_TSAN) {
			/* a kernel without barriers stays on one stack */
			next->fiber = running_fiber;
			next->state = THREAD_READY;
			set_running(next);
			continue;
		}
		/* nobody takes this fiber before it has been left */
		if (!HD_EMU_TSAN)
			idle_fibers[idle_count++] = running_fiber;
		if (next) {
			continue_with(next);
		} else {
			Fiber *from = running_fiber;
			running_fiber = &host;
			fiber_switch(from, &host);
		}
	}
}

/* ---- the block barrier ---- */

static void release_barrier()
{
	last_votes = votes;
	votes = NO_VOTES;
	arrived = 0;
	first_arrived = nullptr;
	for (int k = 0; k < thread_count; k++) {
		Thread *thread = &threads[settings.order == ORDER_REVERSE ? thread_count - 1 - k : k];
		if (thread->state == THREAD_AT_BARRIER)
			make_ready(thread);
	}
}

void syncthreads(const char *file, int line)
{
	Thread *self = running_thread(file, line);
	self->file = file;
	self->line = line;
	if (arrived && !same_place(self, first_arrived))
		fail("divergent barrier: thread %u waits at __syncthreads, %s:%d, thread %u at %s:%d",
		        first_arrived->index, first_arrived->file, first_arrived->line, self->index, file, line);
	if (exited_count)
		fail("%d of %d threads have exited and do not reach __syncthreads, %s:%d", exited_count, thread_count,
		        file, line);
	if (!arrived)
		first_arrived = self;
	Order *order = &block_order->barrier[self->barriers & 1];
	order->release();
	self->state = THREAD_AT_BARRIER;
	arrived++;
	if (arrived == thread_count)
		release_barrier();
	wait_for_turn();
	order->acquire();
	self->barriers++;
}

int syncthreads_vote(Vote vote, int predicate, const char *file, int line)
{
	votes.count += predicate != 0;
	votes.all &= predicate != 0;
	votes.any |= predicate != 0;
	syncthreads(file, line);
	return vote == VOTE_COUNT ? last_votes.count : vote == VOTE_AND ? last_votes.all : last_votes.any;
}

void fence()
{
	launch_order->fence.release();
	launch_order->fence.acquire();
}

/* ---- blocks and launches ---- */

/* Fresh addresses, or launches of different streams would look ordered by their barriers. */
static LaunchOrder *new_launch_order(uint64_t blocks)
{
	static LaunchOrder shared_by_all;
	if (!HD_EMU_TSAN)
		return &shared_by_all;
	size_t unused = blocks < BLOCK_ORDERS ? static_cast<size_t>(BLOCK_ORDERS - blocks) : 0;
	LaunchOrder *order = static_cast<LaunchOrder *>(malloc(sizeof *order - unused * sizeof *order->blocks));
	if (!order)
		fail("out of memory");
	return order;
}

static void begin_launch(const LaunchShape &shape, uint64_t blocks)
{
	gridDim = shape.grid;
	blockDim = shape.block;
	thread_count = static_cast<int>(shape.block.x * shape.block.y * shape.block.z);
	for (int i = 0; i < thread_count; i++) {
		unsigned index = static_cast<unsigned>(i);
		threads[i].index = index;
		threads[i].id.x = index % shape.block.x;
		threads[i].id.y = index / shape.block.x % shape.block.y;
		threads[i].id.z = index / shape.block.x / shape.block.y;
		start_order[i] = settings.order == ORDER_REVERSE ? thread_count - 1 - i : i;
	}
	launch_order = new_launch_order(blocks);
	fiber_adopt(&host);
	if (HD_EMU_TSAN)
		make_owned_fibers(blocks);
	launch_order->start.release();
}

static void run_block(uint64_t block, const dim3 &grid)
{
	blockIdx.x = static_cast<unsigned>(block % grid.x);
	blockIdx.y = static_cast<unsigned>(block / grid.x % grid.y);
	blockIdx.z = static_cast<unsigned>(block / grid.x / grid.y);
	for (int i = 0; i < thread_count; i++) {
		threads[i].state = THREAD_NEW;
		threads[i].fiber = nullptr;
		threads[i].barriers = 0;
	}
	if (settings.order == ORDER_RANDOM)
		for (int i = thread_count - 1; i > 0; i--)
			std::swap(start_order[i], start_order[random_below(static_cast<unsigned>(i) + 1)]);
	exited_count = arrived = started = 0;
	ready_first = ready_end = 0;
	votes = NO_VOTES;
	block_order = &launch_order->blocks[block % BLOCK_ORDERS];
	warps_begin_block();
	shared_begin_block(&block_order->shared);
	running_fiber = &host;
	continue_with(next_thread());
	running = nullptr;
	launch_order->end.acquire();
}

/* The block that comes k-th; every block once. */
class BlockSequence
{
      public:
	explicit BlockSequence(uint64_t count) : blocks(count), step(1), offset(0)
	{
		if (settings.order != ORDER_RANDOM || count < 2)
			return;
		offset = random_below(1u << 30);
		step = 1 + random_below(static_cast<unsigned>(std::min<uint64_t>(count - 1, 1u << 30)));
		while (std::gcd(step, count) != 1)
			step = step % count + 1;
	}

	uint64_t at(uint64_t k) const
	{
		if (settings.order == ORDER_REVERSE)
			return blocks - 1 - k;
		return (k * step + offset) % blocks;
	}

      private:
	uint64_t blocks, step, offset;
};

void run_kernel(const LaunchShape &shape, const Kernel &k, const char *name)
{
	double begin = milliseconds();
	unsigned long switches_before = switches;
	kernel = &k;
	kernel_name = name;
	uint64_t blocks = static_cast<uint64_t>(shape.grid.x) * shape.grid.y * shape.grid.z;
	begin_launch(shape, blocks);
	BlockSequence sequence(blocks);
	for (uint64_t i = 0; i < blocks; i++) {
		thread_set = static_cast<int>((static_cast<uint64_t>(context_number) + i) % THREAD_SETS);
		run_block(sequence.at(i), shape.grid);
	}
	shared_end_launch();
	if (HD_EMU_TSAN)
		free(launch_order);
	launch_order = nullptr;
	kernel = nullptr;
	trace("%s <<<(%u,%u,%u),(%u,%u,%u),%zu>>> %.2f ms, %lu switches", name, shape.grid.x, shape.grid.y,
	        shape.grid.z, shape.block.x, shape.block.y, shape.block.z, shape.shared_bytes, milliseconds() - begin,
	        switches - switches_before);
}

} // namespace hd_emu
