/* SPDX-License-Identifier: Apache-2.0 */
/* What the thread sanitizer is told about the order of things; nothing in other builds. */
#include "emu.h"

#if HD_EMU_TSAN
extern "C" {
void *__tsan_get_current_fiber();
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_set_fiber_name(void *fiber, const char *name);
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void AnnotateIgnoreWritesBegin(const char *file, int line); /* reads as well */
void AnnotateIgnoreWritesEnd(const char *file, int line);
void __tsan_read_range(const void *address, unsigned long bytes);
void __tsan_write_range(void *address, unsigned long bytes);
}
#endif

namespace hd_emu
{

int context_number;

#if HD_EMU_TSAN

static const unsigned NO_ORDER = 1; /* switching is no happens-before edge */

void Order::release()
{
	__tsan_release(this);
}

void Order::acquire()
{
	__tsan_acquire(this);
}

Context::Context() : fiber(__tsan_create_fiber(0))
{
	static int count;
	number = ++count;
}

void Context::set_name(const char *name)
{
	__tsan_set_fiber_name(fiber, name);
}

Context::~Context()
{
	__tsan_destroy_fiber(fiber);
}

/*
 * Logical threads share the host's stack, and libraries know nothing of them: what the sanitizer's interceptors see of
 * their accesses would look like races. Only touch() counts.
 */
void Context::run(const std::function<void()> &work)
{
	void *caller = __tsan_get_current_fiber();
	int callers_number = context_number;
	context_number = number;
	__tsan_switch_to_fiber(fiber, NO_ORDER);
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
	work();
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
	__tsan_switch_to_fiber(caller, NO_ORDER);
	context_number = callers_number;
}

void clean_up(const std::function<void()> &work)
{
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
	work();
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}

void touch(const void *address, size_t bytes, bool writes)
{
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
	if (writes)
		__tsan_write_range(const_cast<void *>(address), bytes);
	else
		__tsan_read_range(address, bytes);
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

#else

void Order::release()
{
}

void Order::acquire()
{
}

Context::Context()
{
	(void)fiber, (void)number;
}

void Context::set_name(const char *)
{
}

Context::~Context()
{
}

void Context::run(const std::function<void()> &work)
{
	work();
}

void clean_up(const std::function<void()> &work)
{
	work();
}

void touch(const void *, size_t, bool)
{
}

#endif

} // namespace hd_emu
