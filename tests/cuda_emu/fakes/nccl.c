/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NCCL between processes, one rank each, over a segment of shared memory that the unique id names; compiled against
 * NVIDIA's nccl.h. Collectives run in stream order; sums are taken in the order of the ranks, so that they are the same
 * every time. Ranks that call different collectives, or with different sizes, end with a report; a rank that waits in
 * vain gives up after HD_EMU_NCCL_SECONDS (60) with ncclRemoteError in ncclCommGetAsyncError. A communicator made with
 * blocking 0 joins while ncclCommGetAsyncError is asked; its other calls do not block anyway.
 */
#include "hooks.h"
#include "number.h"

#include <fcntl.h>
#include <nccl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 18, MAX_RANKS = 16, CALL_BYTES = 80, NAME_BYTES = 64, SPINS = 100 };

/* Zeroed when it is made. */
struct segment {
	_Atomic int count, generation, aborted;
	char call[MAX_RANKS][CALL_BYTES]; /* what each rank is in */
	_Alignas(64) unsigned char data[MAX_RANKS][CHUNK_BYTES];
};

struct ncclComm {
	int rank, ranks;
	struct segment *shared;
	char name[NAME_BYTES];
	cudaStream_t last_stream;
	ncclResult_t error;
	bool joining;   /* has come and does not know yet whether the others have */
	int generation; /* of the segment, while joining */
};

enum kind { ALL_REDUCE, BROADCAST, ALL_GATHER, REDUCE_SCATTER };

typedef struct job {
	struct ncclComm *comm;
	enum kind kind;
	const void *send;
	void *receive;
	size_t count; /* elements: of the receive buffer for REDUCE_SCATTER, else of the send buffer */
	ncclDataType_t type;
	ncclRedOp_t op;
	int root;
	size_t element_bytes;
} job;

/* Of the running thread's group. */
enum { MAX_GROUP = 1024 };
static _Thread_local int group_depth, grouped_count;
static _Thread_local struct {
	job *work;
	cudaStream_t stream;
} grouped[MAX_GROUP];

ncclResult_t ncclGetVersion(int *version)
{
	*version = NCCL_VERSION_CODE;
	return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
	switch (result) {
	case ncclSuccess:
		return "no error";
	case ncclSystemError:
		return "unhandled system error";
	case ncclInvalidArgument:
		return "invalid argument";
	case ncclInvalidUsage:
		return "invalid usage";
	case ncclRemoteError:
		return "remote process exited or there was a network error";
	case ncclInProgress:
		return "NCCL operation in progress";
	default:
		return "internal error";
	}
}

const char *ncclGetLastError(ncclComm_t comm)
{
	(void)comm;
	return "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
	static int count;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	memset(id, 0, sizeof *id);
	snprintf(id->internal, NAME_BYTES, "/cuda_emu_nccl_%d_%d_%ld", (int)getpid(), count++, now.tv_nsec);
	return ncclSuccess;
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double patience(void)
{
	const char *text = getenv("HD_EMU_NCCL_SECONDS");
	return text && atof(text) > 0 ? atof(text) : 60;
}

/* Counts this rank in; the generation that ends when all have come. */
static int arrive(const struct ncclComm *comm)
{
	struct segment *s = comm->shared;
	int generation = atomic_load(&s->generation);
	if (atomic_fetch_add(&s->count, 1) == comm->ranks - 1) {
		atomic_store(&s->count, 0);
		atomic_fetch_add(&s->generation, 1);
	}
	return generation;
}

/* False: another rank has aborted, or did not come. */
static bool leave(const struct ncclComm *comm, int generation)
{
	struct segment *s = comm->shared;
	double start = seconds();
	for (int i = 0; atomic_load(&s->generation) == generation; i++) {
		if (atomic_load(&s->aborted))
			return false;
		if (i < SPINS)
			continue;
		nanosleep(&(struct timespec){0, 20000}, NULL);
		if (seconds() - start > patience()) {
			fprintf(stderr, "cuda_emu: nccl: rank %d has waited %.0f s for the others\n", comm->rank,
			        patience());
			atomic_store(&s->aborted, 1);
			return false;
		}
	}
	return true;
}

static bool barrier(const struct ncclComm *comm)
{
	return leave(comm, arrive(comm));
}

/* Opens the group's segment and counts this rank in. */
static ncclResult_t join(ncclComm_t *result, int ranks, ncclUniqueId id, int rank)
{
	*result = NULL;
	if (ranks < 1 || ranks > MAX_RANKS || rank < 0 || rank >= ranks)
		return ncclInvalidArgument;
	struct ncclComm *comm = calloc(1, sizeof *comm);
	if (!comm)
		return ncclSystemError;
	comm->rank = rank;
	comm->ranks = ranks;
	memcpy(comm->name, id.internal, NAME_BYTES - 1);
	int file = shm_open(comm->name, O_RDWR | O_CREAT, 0600);
	if (file < 0 || ftruncate(file, sizeof *comm->shared))
		goto failed;
	comm->shared = mmap(NULL, sizeof *comm->shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (comm->shared == MAP_FAILED)
		goto failed;
	close(file);
	comm->joining = true;
	comm->generation = arrive(comm);
	*result = comm;
	return ncclSuccess;
failed:
	if (file >= 0)
		close(file);
	free(comm);
	return ncclSystemError;
}

/* All have come, or not: the segment's name is not needed any more. */
static void joined(struct ncclComm *comm, bool met)
{
	comm->joining = false;
	if (comm->rank == 0 || !met)
		shm_unlink(comm->name);
	if (!met)
		comm->error = ncclRemoteError;
}

ncclResult_t ncclCommInitRank(ncclComm_t *result, int ranks, ncclUniqueId id, int rank)
{
	ncclResult_t error = join(result, ranks, id, rank);
	if (error)
		return error;
	joined(*result, leave(*result, (*result)->generation));
	error = (*result)->error;
	if (error) {
		ncclCommDestroy(*result);
		*result = NULL;
	}
	return error;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *result, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
	if (config && config->blocking == 0) {
		ncclResult_t error = join(result, ranks, id, rank);
		return error ? error : ncclInProgress;
	}
	return ncclCommInitRank(result, ranks, id, rank);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
	if (!comm)
		return ncclSuccess;
	if (comm->last_stream)
		cudaStreamSynchronize(comm->last_stream);
	if (comm->joining)
		joined(comm, false);
	munmap(comm->shared, sizeof *comm->shared);
	free(comm);
	return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
	return comm ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
	if (!comm)
		return ncclInvalidArgument;
	atomic_store(&comm->shared->aborted, 1);
	return ncclCommDestroy(comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
	struct segment *s = comm->shared;
	if (comm->joining && atomic_load(&s->aborted))
		joined(comm, false);
	else if (comm->joining && atomic_load(&s->generation) != comm->generation)
		joined(comm, true);
	*error = comm->joining ? ncclInProgress : comm->error;
	return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *ranks)
{
	*ranks = comm->ranks;
	return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
	*rank = comm->rank;
	return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device)
{
	(void)comm;
	*device = 0;
	return ncclSuccess;
}

/* ---- collectives ---- */

static size_t type_bytes(ncclDataType_t type)
{
	switch (type) {
	case ncclInt8:
	case ncclUint8:
		return 1;
	case ncclFloat16:
	case ncclBfloat16:
		return 2;
	case ncclInt32:
	case ncclUint32:
	case ncclFloat32:
		return 4;
	case ncclInt64:
	case ncclUint64:
	case ncclFloat64:
		return 8;
	default:
		return 0;
	}
}

#define REDUCE_ARRAY(T, divide)                                                                                        \
	do {                                                                                                           \
		T *x = into;                                                                                           \
		const T *y = from;                                                                                     \
		for (size_t i = 0; i < count; i++) {                                                                   \
			if (op == ncclMax)                                                                             \
				x[i] = x[i] > y[i] ? x[i] : y[i];                                                      \
			else if (op == ncclMin)                                                                        \
				x[i] = x[i] < y[i] ? x[i] : y[i];                                                      \
			else if (op == ncclProd)                                                                       \
				x[i] *= y[i];                                                                          \
			else                                                                                           \
				x[i] += y[i];                                                                          \
			if (op == ncclAvg && last)                                                                     \
				x[i] divide;                                                                           \
		}                                                                                                      \
	} while (0)

static float combine(float a, float b, ncclRedOp_t op)
{
	switch (op) {
	case ncclMax:
		return a > b ? a : b;
	case ncclMin:
		return a < b ? a : b;
	case ncclProd:
		return a * b;
	default:
		return a + b;
	}
}

/* into = into op from; last: of all ranks, when an average is divided. Half precision is rounded at every step. */
static void reduce(
        void *into, const void *from, size_t count, ncclDataType_t type, ncclRedOp_t op, bool last, int ranks)
{
	cudaDataType_t half = type == ncclFloat16 ? CUDA_R_16F : CUDA_R_16BF;
	switch (type) {
	case ncclFloat32:
		REDUCE_ARRAY(float, /= (float)ranks);
		break;
	case ncclFloat64:
		REDUCE_ARRAY(double, /= ranks);
		break;
	case ncclInt32:
		REDUCE_ARRAY(int32_t, /= ranks);
		break;
	case ncclInt64:
		REDUCE_ARRAY(int64_t, /= ranks);
		break;
	default:
		for (size_t i = 0; i < count; i++) {
			float x = combine(load_number(into, i, half), load_number(from, i, half), op);
			store_number(into, i, half, op == ncclAvg && last ? x / (float)ranks : x);
		}
	}
}

static void check_agreement(const job *j)
{
	const struct ncclComm *comm = j->comm;
	const char *mine = comm->shared->call[comm->rank];
	for (int r = 0; r < comm->ranks; r++)
		if (strcmp(comm->shared->call[r], mine) != 0)
			hd_emu_fail("nccl: rank %d is in [%s], rank %d in [%s]", comm->rank, mine, r,
			        comm->shared->call[r]);
}

/* The part [first, first + count) of all ranks' send buffers, which lie in the segment, into the receive buffer. */
static void take_chunk(const job *j, size_t first, size_t count, void *sum)
{
	struct ncclComm *comm = j->comm;
	size_t bytes = j->element_bytes;
	char *receive = j->receive;
	if (j->kind == BROADCAST) {
		memcpy(receive + first * bytes, comm->shared->data[j->root], count * bytes);
		return;
	}
	if (j->kind == ALL_GATHER) {
		for (int r = 0; r < comm->ranks; r++)
			memcpy(receive + ((size_t)r * j->count + first) * bytes, comm->shared->data[r], count * bytes);
		return;
	}
	memcpy(sum, comm->shared->data[0], count * bytes);
	for (int r = 1; r < comm->ranks; r++)
		reduce(sum, comm->shared->data[r], count, j->type, j->op, r == comm->ranks - 1, comm->ranks);
	if (j->kind == ALL_REDUCE) {
		memcpy(receive + first * bytes, sum, count * bytes);
		return;
	}
	size_t begin = (size_t)comm->rank * j->count, end = begin + j->count;
	size_t from = first > begin ? first : begin, to = first + count < end ? first + count : end;
	if (from < to)
		memcpy(receive + (from - begin) * bytes, (char *)sum + (from - first) * bytes, (to - from) * bytes);
}

static size_t send_count(const job *j)
{
	return j->kind == REDUCE_SCATTER ? j->count * (size_t)j->comm->ranks : j->count;
}

static size_t receive_count(const job *j)
{
	return j->kind == ALL_GATHER ? j->count * (size_t)j->comm->ranks : j->count;
}

static void run(void *work)
{
	const job *j = work;
	struct ncclComm *comm = j->comm;
	size_t bytes = j->element_bytes, chunk = CHUNK_BYTES / bytes, total = send_count(j);
	if (comm->error)
		return;
	hd_emu_reads(j->send, total * bytes);
	hd_emu_writes(j->receive, receive_count(j) * bytes);
	snprintf(comm->shared->call[comm->rank], CALL_BYTES, "kind %d, %zu elements, type %d, operation %d, root %d",
	        (int)j->kind, j->count, (int)j->type, (int)j->op, j->root);
	void *sum = malloc(CHUNK_BYTES);
	if (!sum)
		hd_emu_fail("nccl: out of memory");
	for (size_t first = 0; first < total || first == 0; first += chunk) {
		size_t count = total - first < chunk ? total - first : chunk;
		memcpy(comm->shared->data[comm->rank], (const char *)j->send + first * bytes, count * bytes);
		bool met = barrier(comm);
		if (met && first == 0)
			check_agreement(j);
		if (met)
			take_chunk(j, first, count, sum);
		if (!met || !barrier(comm)) {
			comm->error = ncclRemoteError;
			break;
		}
	}
	free(sum);
}

static ncclResult_t submit(job *work, cudaStream_t stream)
{
	static const char *const names[] = {"ncclAllReduce", "ncclBroadcast", "ncclAllGather", "ncclReduceScatter"};
	work->comm->last_stream = stream;
	return hd_emu_submit(stream, names[work->kind], run, free, work) ? ncclUnhandledCudaError : ncclSuccess;
}

static ncclResult_t start(job j, cudaStream_t stream)
{
	size_t bytes = type_bytes(j.type);
	if (!j.comm || !bytes || j.root < 0 || j.root >= j.comm->ranks)
		return ncclInvalidArgument;
	if ((j.kind == ALL_REDUCE || j.kind == REDUCE_SCATTER) && (bytes == 1 || j.op >= ncclNumOps))
		return ncclInvalidArgument;
	hd_emu_need(j.send, send_count(&j) * bytes, "nccl, send buffer");
	hd_emu_need(j.receive, receive_count(&j) * bytes, "nccl, receive buffer");
	job *work = malloc(sizeof *work);
	if (!work)
		return ncclSystemError;
	*work = j;
	work->element_bytes = bytes;
	if (!group_depth)
		return submit(work, stream);
	if (grouped_count == MAX_GROUP)
		hd_emu_fail("nccl: more than %d calls in one group are not emulated", MAX_GROUP);
	grouped[grouped_count].work = work;
	grouped[grouped_count++].stream = stream;
	return ncclSuccess;
}

/* nccl.h declares these without a parameter list. */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);

ncclResult_t ncclGroupStart(void)
{
	group_depth++;
	return ncclSuccess;
}

/* Nothing of a group is queued before its end. */
ncclResult_t ncclGroupEnd(void)
{
	if (group_depth == 0)
		return ncclInvalidUsage;
	if (--group_depth > 0)
		return ncclSuccess;
	ncclResult_t result = ncclSuccess;
	for (int i = 0; i < grouped_count; i++) {
		ncclResult_t one = submit(grouped[i].work, grouped[i].stream);
		if (!result)
			result = one;
	}
	grouped_count = 0;
	return result;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
        ncclComm_t comm, cudaStream_t stream)
{
	return start((job){comm, ALL_REDUCE, send, receive, count, type, op, 0, 0}, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
        ncclComm_t comm, cudaStream_t stream)
{
	bool is_root = comm && comm->rank == root;
	return start((job){comm, BROADCAST, is_root ? send : receive, receive, count, type, ncclSum, root, 0}, stream);
}

ncclResult_t ncclBcast(void *buffer, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream)
{
	return ncclBroadcast(buffer, buffer, count, type, root, comm, stream);
}

ncclResult_t ncclAllGather(
        const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)
{
	return start((job){comm, ALL_GATHER, send, receive, count, type, ncclSum, 0, 0}, stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
        ncclComm_t comm, cudaStream_t stream)
{
	return start((job){comm, REDUCE_SCATTER, send, receive, count, type, op, 0, 0}, stream);
}
