/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory: every variable has a heap block of its own, so that the address sanitizer sees its ends, filled with
 * NaN for every block of the grid. Where the thread sanitizer watches, blocks do not reuse each other's memory.
 */
#include "scheduler.h"

#include <cstdlib>
#include <cstring>

namespace hd_emu
{

enum { MAX_VARIABLES = 64, ALIGNMENT = 128, NAN_BYTE = 0xff, STATIC_LIMIT = 48 << 10 };

struct Variable {
	const void *key;
	void *memory;
	size_t bytes;
	bool filled; /* in the running block */
};

/* Fixed, since an allocation of the table inside of a kernel would be the kernel's. */
static Variable variables[MAX_VARIABLES];
static int variable_count;
static Variable dynamic;
static size_t static_bytes, limit_bytes;
static Order *block_shared;

static void *allocate(size_t bytes)
{
	void *memory;
	if (posix_memalign(&memory, ALIGNMENT, bytes))
		fail("out of memory");
	return memory;
}

static void drop(Variable *v)
{
	free(v->memory);
	v->memory = nullptr;
}

void shared_begin_launch(size_t dynamic_bytes, size_t limit)
{
	dynamic.bytes = dynamic_bytes;
	limit_bytes = limit;
	static_bytes = 0;
}

void shared_begin_block(Order *order)
{
	block_shared = order;
	for (int i = 0; i < variable_count; i++) {
		variables[i].filled = false;
		if (HD_EMU_TSAN)
			drop(&variables[i]);
	}
	dynamic.filled = false;
	if (HD_EMU_TSAN)
		drop(&dynamic);
}

void shared_end_launch()
{
	for (int i = 0; i < variable_count; i++)
		drop(&variables[i]);
	drop(&dynamic);
	variable_count = 0;
}

/* The first thread of a block that gets here fills the memory before all others. */
static void *filled_memory(Variable *v)
{
	if (v->filled) {
		block_shared->acquire();
		return v->memory;
	}
	if (!v->memory)
		v->memory = allocate(v->bytes);
	memset(v->memory, NAN_BYTE, v->bytes);
	v->filled = true;
	block_shared->release();
	return v->memory;
}

void *shared_static(size_t bytes, const void *key, const char *file, int line)
{
	running_thread(file, line);
	for (int i = 0; i < variable_count; i++)
		if (variables[i].key == key)
			return filled_memory(&variables[i]);
	if (variable_count == MAX_VARIABLES)
		fail("%s:%d: more than %d shared variables in one kernel are not emulated", file, line,
		        int(MAX_VARIABLES));
	static_bytes += bytes;
	if (static_bytes > STATIC_LIMIT)
		fail("%s:%d: the kernel declares %zu bytes of static shared memory, the limit is %d", file, line,
		        static_bytes, int(STATIC_LIMIT));
	if (static_bytes + dynamic.bytes > limit_bytes)
		fail("%s:%d: %zu bytes of static and %zu of dynamic shared memory are more than the %zu of a block; "
		     "see "
		     "cudaFuncSetAttribute",
		        file, line, static_bytes, dynamic.bytes, limit_bytes);
	Variable *v = &variables[variable_count++];
	v->key = key;
	v->memory = nullptr;
	v->bytes = bytes;
	v->filled = false;
	return filled_memory(v);
}

void *shared_dynamic(const char *file, int line)
{
	running_thread(file, line);
	if (!dynamic.bytes)
		fail("%s:%d: the kernel uses dynamic shared memory and was launched with none", file, line);
	return filled_memory(&dynamic);
}

} // namespace hd_emu
