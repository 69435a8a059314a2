/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rewritten kernels ask of the emulator. Kernels never name these: the rewriter and the shim headers do.
 * Everything that a kernel thread calls takes the file and line of the call, for reports.
 */
#ifndef HD_EMU_H
#define HD_EMU_H

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

/* Of the running thread: one thread runs at a time, so that these are plain variables. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace hd_emu
{

/* Index of the running thread in its block. */
extern unsigned thread_index;

/* Last parameters of what kernels call: where the call stands. */
#define HD_EMU_SITE const char *site_file = __builtin_FILE(), int site_line = __builtin_LINE()
#define HD_EMU_HERE site_file, site_line

enum { MAX_POINTERS = 48 };

struct LaunchShape {
	dim3 grid, block;
	size_t shared_bytes;
	cudaStream_t stream;
	const char *name; /* of the kernel, as the source has it, and where it is launched; NULL: not known */
	const char *file;
	int line;
};

/* A kernel with its arguments; `call` belongs to whoever holds the kernel and dies through `destroy`. */
struct Kernel {
	void (*run)(void *call);
	void (*destroy)(void *call);
	void *call;
	const void *function;
	const char *signature;
	const void *pointers[MAX_POINTERS]; /* the arguments that are pointers */
	int pointer_count;
};

/* Queues a kernel, or refuses it with the runtime's error code, which cudaGetLastError then returns. */
cudaError_t launch(const LaunchShape &shape, const Kernel &kernel);

void syncthreads(const char *file, int line);

enum Vote { VOTE_COUNT, VOTE_AND, VOTE_OR };
int syncthreads_vote(Vote vote, int predicate, const char *file, int line);

/* What the lanes of a warp do together. */
enum WarpOp {
	WARP_SYNC,    /* waits, orders memory */
	WARP_SHUFFLE, /* result: the value of lane `source` */
	WARP_BALLOT,  /* result: one bit per lane */
	WARP_REDUCE,  /* result: what `combine` makes of the values */
	WARP_MATRIX,  /* `combine` works on the lanes' fragments; waits, orders memory */
};

/* Values of all lanes in, one result per lane out; lanes outside of mask hold 0. */
typedef void (*Combine)(const uint64_t *values, unsigned mask, uint64_t *results);

uint64_t warp_collective(
        WarpOp op, unsigned mask, uint64_t value, int source, Combine combine, const char *file, int line);

/* Memory of the __shared__ variable with this key in the running block. */
void *shared_static(size_t bytes, const void *key, HD_EMU_SITE);
void *shared_dynamic(HD_EMU_SITE);

/* __threadfence. */
void fence();

/* Ends the program with a report that names kernel, block and thread. */
[[noreturn]] void kernel_error(const char *text, const char *file, int line);

} // namespace hd_emu

#endif
