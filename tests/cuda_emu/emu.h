/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the emulator: what its files share.
 *
 * One lock serialises every call of the runtime; a kernel runs on the host thread that made its stream move. The
 * emulator itself is never compiled with -fsanitize=thread: its bookkeeping is not the program under test. What the
 * thread sanitizer is to know it is told here (Order, Context).
 */
#ifndef HD_EMU_INTERNAL_H
#define HD_EMU_INTERNAL_H

#include "include/hd_emu.h"

#include <cstdarg>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define HD_EMU_ASAN 1
#else
#define HD_EMU_ASAN 0
#endif
#ifndef HD_EMU_TSAN
#define HD_EMU_TSAN 0
#endif

namespace hd_emu
{

/* ---- settings.cpp: environment, reports ---- */

enum RunOrder { ORDER_FORWARD, ORDER_REVERSE, ORDER_RANDOM };

struct Settings {
	RunOrder order;             /* HD_EMU_ORDER=forward | reverse | random:N */
	bool lazy;                  /* HD_EMU_LAZY=1 */
	bool poison;                /* HD_EMU_POISON=1 */
	bool trace;                 /* HD_EMU_TRACE=1 */
	bool forbid_default_stream; /* HD_EMU_DEFAULT_STREAM=forbid */
	bool check_leaks;           /* HD_EMU_LEAKS=1 */
	size_t memory_bytes;        /* HD_EMU_MEMORY_MB */
	long fail_at;               /* HD_EMU_FAIL_AT=N: the Nth request for a resource fails; 0: none */
	int devices;                /* HD_EMU_DEVICES */
};
extern Settings settings;

/* What others do on a device: an entry of HD_EMU_NVML. */
struct Others {
	long free_mb;    /* -1: all but what this process has */
	int utilization; /* percent */
	int pid;         /* 0: nobody */
	long pid_mb;     /* -1: NVML cannot tell */
	bool exclusive;  /* somebody has the device to himself: it does not start */
};

/* Of a device in CUDA's order. The list of HD_EMU_NVML is in order of the bus, which is the reverse. */
const Others &others(int device);

/* Uniform in 0 .. n-1, from the seed of HD_EMU_ORDER. */
unsigned random_below(unsigned n);

enum { EXIT_REPORT = 99 };

/* Ends the program (exit code 99) with the message and, in a kernel, with kernel, block and thread. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Line of HD_EMU_TRACE. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Does this request fail because HD_EMU_FAIL_AT says so? Counts one request. */
bool injected_failure(const char *what);

/* Symbol at or before this address, without arguments: "" where there is none. */
const char *symbol_name(const void *address, char *buffer, size_t size);

/* ---- order.cpp: what the thread sanitizer is told ---- */

/* A happens-before edge leads from every release to every later acquire of the same Order. */
struct Order {
	uint64_t unused;
	void release();
	void acquire();
};

/* A logical thread of the thread sanitizer: a stream, a branch of a graph. Empty in other builds. */
class Context
{
      public:
	Context();
	~Context();
	Context(const Context &) = delete;
	Context &operator=(const Context &) = delete;

	/* In reports. */
	void set_name(const char *name);

	/* Runs the work as this logical thread. Of its accesses to memory only what touch() says counts. */
	void run(const std::function<void()> &work);

      private:
	void *fiber = nullptr;
	int number = 0;
};

/* Of the Context that runs; 0: none. Neighbouring streams have neighbouring numbers. */
extern int context_number;

/* Frees things that other logical threads have used and are done with. */
void clean_up(const std::function<void()> &work);

/* Inside of Context::run: the range is read or written here. */
void touch(const void *address, size_t bytes, bool writes);

/* ---- runtime calls ---- */

/* At the start of every function of the runtime: takes the lock; refuses calls from kernels and host functions. */
class Entry
{
      public:
	explicit Entry(const char *function);

      private:
	std::lock_guard<std::recursive_mutex> guard;
};

extern bool in_host_function;

/* Of the calling thread. */
int current_device();

/* First bytes of a device's UUID are 0xe0, 0, 0 and its number; all others are zero. */
enum { UUID_FIRST_BYTE = 0xe0 };

/* Keeps an error for cudaGetLastError and returns it. */
cudaError_t keep(cudaError_t error);

/* ---- scheduler.cpp ---- */

/* Runs every block of the kernel, whose shape has been checked, between shared_begin_launch and its own end. */
void run_kernel(const LaunchShape &shape, const Kernel &kernel, const char *name);

/* Is a kernel running on this host thread? */
bool in_kernel();

/* Writes kernel, block and thread to stderr where one runs. */
void report_where();

/* ---- shared.cpp ---- */

/* limit: most bytes of static and dynamic shared memory together. */
void shared_begin_launch(size_t dynamic_bytes, size_t limit);
/* order: fresh, of this block. */
void shared_begin_block(Order *order);
void shared_end_launch();

/* ---- memory.cpp ---- */

/* Ends the program unless [address, address + bytes) lies inside one allocation of the device. */
void need_device(const void *address, size_t bytes, const char *what);

/* Ends the program where the range is device memory, or leaves the pinned allocation that it begins in. */
void check_host(const void *address, size_t bytes, const char *what);

bool on_device(const void *address);

/* Ends the program where a pointer argument of the kernel leads to no device or pinned memory. */
void check_pointers(const Kernel &kernel, const char *when);

/* Ends the program where something was written next to an allocation that the kernel has a pointer to. */
void check_guards(const Kernel &kernel, const char *name);

/* Device memory is readable between the two calls, which may be nested. */
void open_memory();
void close_memory();

struct OpenMemory {
	OpenMemory()
	{
		open_memory();
	}
	~OpenMemory()
	{
		close_memory();
	}
};

bool is_pinned(const void *address);

/* Bytes that could still be had on the device, HD_EMU_MEMORY_MB of which there are. */
size_t memory_left(int device);
size_t leaked_memory();

/* ---- streams.cpp ---- */

/* One piece of work of a stream; runs once, in a graph once per replay. */
typedef std::function<void()> Work;

enum WorkKind {
	WORK_DEVICE, /* runs as the stream's logical thread */
	WORK_HOST,   /* a host function: runs as the host */
};

/* Queues the work, or adds it to the graph that the stream is being captured into. */
cudaError_t submit(cudaStream_t stream, const char *what, Work work, WorkKind kind = WORK_DEVICE);

/* Of the monotonic clock. */
double milliseconds();

/* The device that a stream belongs to: a kernel is launched by a thread whose current one that is. */
int device_of(cudaStream_t stream);

/* Runs the stream's work to its end. */
void drain(cudaStream_t stream);
void drain_all();

/* Error of a call that must not be made while a stream is captured, which also spoils the capture; else success. */
cudaError_t unsafe_while_capturing();

/* ---- graphs.cpp ---- */

struct GraphNode {
	const char *what;
	Work work;
	WorkKind kind;
	std::vector<int> after; /* indices of earlier nodes */
	int lane;               /* nodes of one captured stream share a lane */
};

struct Graph {
	std::vector<GraphNode> nodes;
	int lanes = 0;
};

} // namespace hd_emu

#define HD_EMU_ENTRY() ::hd_emu::Entry entry_of_this_call(__func__)

#endif
