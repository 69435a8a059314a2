/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Warp collectives. Lanes that name the same mask meet; so that sub-warps do not disturb each other there is one
 * meeting per mask. The last lane to arrive computes for all.
 */
#include "scheduler.h"

namespace hd_emu
{

struct Meeting {
	unsigned mask, arrived;
	unsigned generation; /* meetings of this mask that took place */
	const Thread *first; /* of those who have arrived */
};

struct Warp {
	int meetings;
	unsigned exited; /* lanes */
	Meeting meeting[MAX_MASKS];
};
static Warp warps[MAX_WARPS];

const char *warp_op_name(WarpOp op)
{
	static const char *const names[] = {"__syncwarp", "a warp shuffle", "a warp vote", "a warp reduction", "wmma"};
	return names[op];
}

void warps_begin_block()
{
	for (Warp &warp : warps)
		warp.meetings = 0, warp.exited = 0;
}

void warp_thread_exits(const Thread *thread)
{
	Warp *warp = &warps[thread->index / WARP];
	unsigned lane = thread->index % WARP;
	warp->exited |= 1u << lane;
	for (int i = 0; i < warp->meetings; i++) {
		const Meeting *m = &warp->meeting[i];
		if (m->arrived && (m->mask >> lane & 1))
			fail("thread %u exits while %s, %s:%d, waits for it (mask %08x)", thread->index,
			        warp_op_name(m->first->op), m->first->file, m->first->line, m->mask);
	}
}

static Meeting *find_meeting(Warp *warp, unsigned mask, const char *file, int line)
{
	for (int i = 0; i < warp->meetings; i++)
		if (warp->meeting[i].mask == mask)
			return &warp->meeting[i];
	if (warp->meetings == MAX_MASKS)
		fail("%s:%d: more than %d different masks in one warp are not emulated", file, line, int(MAX_MASKS));
	Meeting *m = &warp->meeting[warp->meetings++];
	m->mask = mask;
	m->arrived = m->generation = 0;
	m->first = nullptr;
	return m;
}

[[noreturn]] static void diverged(const Thread *a, const Thread *b)
{
	fail("divergent warp: thread %u is in %s, %s:%d, mask %08x; thread %u in %s, %s:%d, mask %08x", a->index,
	        warp_op_name(a->op), a->file, a->line, a->mask, b->index, warp_op_name(b->op), b->file, b->line,
	        b->mask);
}

/* The lanes that meet must name each other at one place of the source, and none may have exited. */
static void check_meeting(const Warp *warp, const Meeting *m, const Thread *self)
{
	unsigned gone = warp->exited & m->mask, lane = self->index % WARP;
	if (gone)
		fail("%s, %s:%d: the mask %08x names lanes %08x, which have exited", warp_op_name(self->op), self->file,
		        self->line, m->mask, gone);
	if (m->arrived && (m->first->op != self->op || !same_place(m->first, self)))
		diverged(self, m->first);
	for (int i = 0; i < warp->meetings; i++) {
		const Meeting *other = &warp->meeting[i];
		if (other != m && (other->arrived & m->mask) && (other->mask >> lane & 1))
			diverged(self, other->first);
	}
}

static void compute(const Meeting *m, Thread *lanes, int lane_count, Combine combine)
{
	uint64_t values[WARP], results[WARP], ballot = 0;
	for (int i = 0; i < WARP; i++) {
		bool takes_part = i < lane_count && (m->mask >> i & 1);
		values[i] = takes_part ? lanes[i].value : 0;
		results[i] = 0;
		ballot |= (values[i] & 1) << i;
	}
	if (combine)
		combine(values, m->mask, results);
	for (int i = 0; i < lane_count; i++) {
		Thread *lane = &lanes[i];
		if (!(m->mask >> i & 1))
			continue;
		if (lane->op == WARP_SHUFFLE && !(m->mask >> (lane->source & 31) & 1))
			fail("%s:%d: lane %d of a warp shuffle reads lane %d, which is not in the mask %08x",
			        lane->file, lane->line, i, lane->source, m->mask);
		lane->result = lane->op == WARP_SHUFFLE  ? values[lane->source & 31]
		               : lane->op == WARP_BALLOT ? ballot
		                                         : results[i];
	}
	for (int k = 0; k < lane_count; k++) {
		int i = settings.order == ORDER_REVERSE ? lane_count - 1 - k : k;
		if (m->mask >> i & 1)
			make_ready(&lanes[i]);
	}
}

uint64_t warp_collective(
        WarpOp op, unsigned mask, uint64_t value, int source, Combine combine, const char *file, int line)
{
	Thread *self = running_thread(file, line);
	unsigned lane = self->index % WARP, first = self->index - lane;
	int lane_count = thread_count - static_cast<int>(first) < WARP ? thread_count - static_cast<int>(first) : WARP;
	if (lane_count < WARP && mask == 0xffffffffu)
		mask = (1u << lane_count) - 1; /* the hardware passes over lanes that never existed */
	self->op = op;
	self->mask = mask;
	self->value = value;
	self->source = source;
	self->file = file;
	self->line = line;
	if (!(mask >> lane & 1))
		fail("%s, %s:%d: the calling lane %u is not in its own mask %08x", warp_op_name(op), file, line, lane,
		        mask);
	if (lane_count < WARP && mask >> lane_count)
		fail("%s, %s:%d: the mask %08x names lanes that this warp of %d threads does not have",
		        warp_op_name(op), file, line, mask, lane_count);

	Warp *warp = &warps[self->index / WARP];
	Meeting *m = find_meeting(warp, mask, file, line);
	bool orders_memory = op == WARP_SYNC || op == WARP_MATRIX;
	Order *order = &block_order->warp[self->index / WARP][m - warp->meeting][m->generation & 1];
	if (orders_memory)
		order->release();
	check_meeting(warp, m, self);
	if (!m->arrived)
		m->first = self;
	m->arrived |= 1u << lane;
	self->state = THREAD_AT_WARP;
	if (m->arrived == mask) {
		m->generation++;
		m->arrived = 0;
		if (orders_memory)
			order->acquire();
		compute(m, &threads[first], lane_count, combine);
		if (orders_memory)
			order->release();
	}
	wait_for_turn();
	if (orders_memory)
		order->acquire();
	return self->result;
}

} // namespace hd_emu
