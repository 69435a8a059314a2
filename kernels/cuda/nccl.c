/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/nccl.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Of what follows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static char text[160];
static bool missed; /* somebody has asked in vain, and the notes have not said so yet */

size_t hd_cuda_nccl_notes(char *out, size_t bytes)
{
	int length = 0;
	pthread_mutex_lock(&lock);
	if (missed && bytes)
		length = snprintf(out, bytes, "%s\n", text);
	missed = missed && !bytes;
	pthread_mutex_unlock(&lock);
	return (size_t)length < bytes ? (size_t)length : bytes ? bytes - 1 : 0;
}

/* Where the build had no headers of NCCL there is no NCCL at run time either. */
#if !__has_include(<nccl.h>)

static const char *describe(void)
{
	return "no NCCL: its headers were missing when this library was built";
}

static hd_status make_id(hd_backend *self, hd_collective_id *out)
{
	(void)self, (void)out;
	pthread_mutex_lock(&lock);
	snprintf(text, sizeof text, "%s", describe());
	missed = true;
	pthread_mutex_unlock(&lock);
	return hd_cuda_fail(HD_E_UNSUPPORTED, "%s", describe());
}

static hd_status open_rank(
        hd_backend *self, hd_collective **out, const hd_collective_id *id, int ranks, int rank, double seconds)
{
	(void)id, (void)ranks, (void)rank, (void)seconds;
	*out = NULL;
	return make_id(self, NULL);
}

static void close_rank(hd_collective *c)
{
	(void)c;
}

/* Nothing else can be called without a collective. */
const hd_collective_ops hd_cuda_collective = {
        .text = describe, .make_id = make_id, .open = open_rank, .close = close_rank};

#else

#include <nccl.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/cuda/library.h"

#define LIBRARY "libnccl.so.2"
#define NAP_NS 50000 /* between two looks at what is under way */

_Static_assert(sizeof(ncclUniqueId) == HD_COLLECTIVE_ID_BYTES, "an id is NCCL's");

/* nccl.h declares these without a parameter list. */
typedef ncclResult_t group_function(void);

/* Names of functions whose types nccl.h has: nccl + name. */
#define FUNCTIONS(X)                                                                                                   \
	X(GetVersion)                                                                                                  \
	X(GetErrorString)                                                                                              \
	X(GetLastError)                                                                                                \
	X(GetUniqueId)                                                                                                 \
	X(CommInitRankConfig)                                                                                          \
	X(CommFinalize)                                                                                                \
	X(CommDestroy)                                                                                                 \
	X(CommAbort)                                                                                                   \
	X(CommGetAsyncError)                                                                                           \
	X(AllReduce)

typedef struct nccl_table {
#define X(name) __typeof__(&nccl##name) name;
	FUNCTIONS(X)
#undef X
	group_function *GroupStart, *GroupEnd;
} nccl_table;

struct hd_collective {
	ncclComm_t comm; /* NULL: given up */
	int ranks, rank;
	double seconds;
	bool grouped; /* between begin_group and end_group */
};

static nccl_table nccl;

static bool opened(void)
{
	static const char *const names[] = {LIBRARY, NULL};
	static const char *const symbols[] = {
#define X(name) "nccl" #name,
	        FUNCTIONS(X)
#undef X
	                "ncclGroupStart",
	        "ncclGroupEnd", NULL};
	static hd_cuda_library file = {.names = names, .symbols = symbols};
	static bool tried, found;
	pthread_mutex_lock(&lock);
	if (!tried && !hd_cuda_library_open(&file, &nccl, HD_CUDA_SLOTS(nccl))) {
		snprintf(text, sizeof text, "no NCCL: %s or one of its functions is not there", LIBRARY);
	} else if (!tried) {
		/* major * 10000 + minor * 100 + patch since 2.9 */
		int version = 0;
		found = nccl.GetVersion(&version) == ncclSuccess && version / 10000 == NCCL_MAJOR;
		snprintf(text, sizeof text, "%sNCCL %d.%d.%d%s", found ? "" : "no NCCL: ", version / 10000,
		        version / 100 % 100, version % 100,
		        found ? "" : " is there, which this library was not built for");
	}
	tried = true;
	pthread_mutex_unlock(&lock);
	return found;
}

static const char *describe(void)
{
	opened();
	return text;
}

/* HD_E_UNSUPPORTED where there is no NCCL, which the notes say once. */
static hd_status need(void)
{
	if (opened())
		return HD_OK;
	pthread_mutex_lock(&lock);
	missed = true;
	pthread_mutex_unlock(&lock);
	return hd_cuda_fail(HD_E_UNSUPPORTED, "%s; install NCCL 2, or train on one device", text);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void nap(void)
{
	nanosleep(&(struct timespec){0, NAP_NS}, NULL);
}

/* Frees what the device has of the group, also where kernels of it are waiting for ranks that do not come. */
static void give_up(hd_collective *c)
{
	if (c->comm)
		nccl.CommAbort(c->comm);
	c->comm = NULL;
}

static hd_status failed(hd_collective *c, const char *what, ncclResult_t result)
{
	const char *last = c->comm ? nccl.GetLastError(c->comm) : NULL;
	hd_status st = hd_cuda_fail(HD_E_FAILED, "%s, rank %d of %d: NCCL error %d, %s%s%s%s", what, c->rank, c->ranks,
	        (int)result, nccl.GetErrorString(result), last && *last ? ": " : "", last ? last : "",
	        result == ncclRemoteError ? "; has another process ended?" : "");
	give_up(c);
	return st;
}

static hd_status late(hd_collective *c, const char *what)
{
	give_up(c);
	return hd_cuda_fail(HD_E_FAILED, "%s, rank %d of %d: the others have not come within %g s", what, c->rank,
	        c->ranks, c->seconds);
}

static hd_status usable(const hd_collective *c, const char *what)
{
	return c->comm ? HD_OK
	               : hd_cuda_fail(HD_E_FAILED, "%s, rank %d of %d: given up after an earlier error", what, c->rank,
	                         c->ranks);
}

/* Waits until a call has been taken in, which may still be under way when it returns. */
static hd_status settle(hd_collective *c, const char *what, ncclResult_t result)
{
	double until = now() + c->seconds;
	while (result == ncclInProgress) {
		ncclResult_t asked = nccl.CommGetAsyncError(c->comm, &result);
		if (asked != ncclSuccess)
			return failed(c, what, asked);
		if (result == ncclInProgress && now() > until)
			return late(c, what);
		if (result == ncclInProgress)
			nap();
	}
	return result == ncclSuccess ? HD_OK : failed(c, what, result);
}

static hd_status make_id(hd_backend *self, hd_collective_id *out)
{
	(void)self;
	hd_status st = need();
	ncclUniqueId id;
	ncclResult_t result = st == HD_OK ? nccl.GetUniqueId(&id) : ncclSuccess;
	if (st == HD_OK && result != ncclSuccess)
		return hd_cuda_fail(HD_E_FAILED, "a group of processes: NCCL error %d, %s: %s", (int)result,
		        nccl.GetErrorString(result), nccl.GetLastError(NULL));
	if (st == HD_OK)
		memcpy(out->bytes, &id, sizeof id);
	return st;
}

static hd_status open_rank(
        hd_backend *self, hd_collective **out, const hd_collective_id *id, int ranks, int rank, double seconds)
{
	(void)self;
	hd_status st;
	hd_collective *c = NULL;
	ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
	ncclUniqueId unique;
	*out = NULL;
	HD_TRY(need());
	if (ranks < 1 || rank < 0 || rank >= ranks || !(seconds > 0))
		return hd_cuda_fail(HD_E_USAGE, "rank %d of %d within %g s: not a place in a group of processes", rank,
		        ranks, seconds);
	c = calloc(1, sizeof *c);
	if (!c)
		return hd_cuda_fail(HD_E_MEMORY, "out of memory for a group of processes");
	*c = (hd_collective){.ranks = ranks, .rank = rank, .seconds = seconds};
	memcpy(&unique, id->bytes, sizeof unique);
	config.blocking = 0;
	HD_TRY(hd_cuda_use_device());
	HD_TRY(settle(c, "joining the group", nccl.CommInitRankConfig(&c->comm, ranks, unique, rank, &config)));
	*out = c;
	c = NULL;
done:
	if (c)
		give_up(c);
	free(c);
	return st;
}

static hd_status all_reduce(hd_collective *c, void *dst, const void *src, hd_dtype dt, int64_t n, hd_stream *stream)
{
	hd_status st;
	HD_TRY(usable(c, "all_reduce"));
	if (dt != HD_F32 && dt != HD_BF16)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "all_reduce: sums are of float32 and bfloat16 only");
	ncclDataType_t type = dt == HD_F32 ? ncclFloat32 : ncclBfloat16;
	ncclResult_t result = nccl.AllReduce(src, dst, (size_t)n, type, ncclSum, c->comm, hd_cuda_stream(stream));
	/* in a group nothing is under way before its end */
	if (c->grouped && result == ncclInProgress)
		return HD_OK;
	HD_TRY(settle(c, "all_reduce", result));
done:
	return st;
}

static hd_status begin_group(hd_collective *c)
{
	hd_status st;
	HD_TRY(usable(c, "begin_group"));
	HD_TRY(settle(c, "begin_group", nccl.GroupStart()));
	c->grouped = true;
done:
	return st;
}

static hd_status end_group(hd_collective *c)
{
	hd_status st;
	bool grouped = c->grouped;
	c->grouped = false;
	/* NCCL counts groups per thread: one is ended also where its collective is lost */
	ncclResult_t result = grouped ? nccl.GroupEnd() : ncclSuccess;
	HD_TRY(usable(c, "end_group"));
	HD_TRY(settle(c, "end_group", result));
done:
	return st;
}

static hd_status check(hd_collective *c)
{
	hd_status st;
	ncclResult_t state = ncclSuccess;
	HD_TRY(usable(c, "check"));
	ncclResult_t asked = nccl.CommGetAsyncError(c->comm, &state);
	if (asked != ncclSuccess)
		return failed(c, "reduction", asked);
	if (state != ncclSuccess && state != ncclInProgress)
		return failed(c, "reduction", state);
done:
	return st;
}

static hd_status wait(hd_collective *c, hd_stream *stream)
{
	hd_status st;
	double until = now() + c->seconds;
	HD_TRY(usable(c, "wait"));
	for (;;) {
		cudaError_t error = cudaStreamQuery(hd_cuda_stream(stream));
		/* a rank that is gone may leave the stream done as well as not */
		HD_TRY(check(c));
		if (error != cudaErrorNotReady) {
			HD_TRY(hd_cuda_check(error, "wait"));
			return HD_OK;
		}
		cudaGetLastError(); /* or the next launch finds this one */
		if (now() > until)
			return late(c, "wait");
		nap();
	}
done:
	return st;
}

static void close_rank(hd_collective *c)
{
	if (!c)
		return;
	if (c->comm && settle(c, "closing the group", nccl.CommFinalize(c->comm)) == HD_OK)
		nccl.CommDestroy(c->comm);
	free(c);
}

const hd_collective_ops hd_cuda_collective = {
        .text = describe,
        .make_id = make_id,
        .open = open_rank,
        .all_reduce = all_reduce,
        .begin_group = begin_group,
        .end_group = end_group,
        .check = check,
        .wait = wait,
        .close = close_rank,
};

#endif
