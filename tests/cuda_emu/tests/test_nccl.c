/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in for NCCL: three processes, one rank each. */
#include "fakes/number.h"
#include "self.h"

#include <nccl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 3, N = 200001 };

#define NCCL_OK(call)                                                                                                  \
	do {                                                                                                           \
		ncclResult_t got_ = (call);                                                                            \
		CHECK(got_ == ncclSuccess, "got %d (%s)", (int)got_, ncclGetErrorString(got_));                        \
	} while (0)

static ncclComm_t comm;
static int rank;
static cudaStream_t stream;

/* Runs work(rank) in as many processes; ends the case where one of them fails. */
static void in_every_rank(void (*work)(void))
{
	ncclUniqueId id;
	pid_t children[RANKS];
	NCCL_OK(ncclGetUniqueId(&id));
	for (int r = 0; r < RANKS; r++) {
		children[r] = fork();
		CHECK(children[r] >= 0, "no process");
		if (children[r] == 0) {
			rank = r;
			stream = new_stream();
			NCCL_OK(ncclCommInitRank(&comm, RANKS, id, r));
			work();
			ncclCommDestroy(comm);
			CUDA_OK(cudaStreamDestroy(stream));
			exit(0);
		}
	}
	int failed = 0;
	for (int r = 0; r < RANKS; r++) {
		int status;
		CHECK(waitpid(children[r], &status, 0) == children[r], "rank %d is lost", r);
		failed += status != 0;
	}
	CHECK(failed == 0, "%d ranks have failed", failed);
}

/* Numbers of a rank, small integers: sums are exact also in bf16. */
static float number_of(int r, size_t i)
{
	return (float)(r + 1) * (float)(i % 10);
}

static void collectives(void)
{
	float *x = malloc(N * sizeof *x), *wanted = malloc(N * sizeof *x), *got = malloc(N * sizeof *x);
	for (size_t i = 0; i < N; i++)
		x[i] = number_of(rank, i);
	float *d = to_device(x, N * sizeof *x), *all = to_device(NULL, RANKS * N * sizeof *x);
	NCCL_OK(ncclAllReduce(d, all, N, ncclFloat32, ncclSum, comm, stream));
	NCCL_OK(ncclAllReduce(d, d, N, ncclFloat32, ncclAvg, comm, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, all, N * sizeof *x);
	for (size_t i = 0; i < N; i++)
		wanted[i] = 6 * (float)(i % 10);
	check_close(got, wanted, N, 0, "sum");
	from_device(got, d, N * sizeof *x);
	for (size_t i = 0; i < N; i++)
		wanted[i] = 2 * (float)(i % 10);
	check_close(got, wanted, N, 0, "average");
	/* gather RANKS copies of the average; the scatter's sum over the ranks is RANKS times that */
	NCCL_OK(ncclAllGather(d, all, N, ncclFloat32, comm, stream));
	NCCL_OK(ncclReduceScatter(all, d, N, ncclFloat32, ncclSum, comm, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, N * sizeof *x);
	for (size_t i = 0; i < N; i++)
		wanted[i] = 6 * (float)(i % 10);
	check_close(got, wanted, N, 0, "gather and scatter");
	CUDA_OK(cudaFree(d));
	CUDA_OK(cudaFree(all));
	free(x);
	free(wanted);
	free(got);
}

static void group(void)
{
	enum { SMALL = 1000 };
	uint16_t x[SMALL], got[SMALL];
	float y[SMALL], got_y[SMALL];
	for (size_t i = 0; i < SMALL; i++) {
		x[i] = float_to_bf16(number_of(rank, i));
		y[i] = (float)rank;
	}
	uint16_t *d = to_device(x, sizeof x);
	float *e = to_device(y, sizeof y);
	NCCL_OK(ncclGroupStart());
	NCCL_OK(ncclAllReduce(d, d, SMALL, ncclBfloat16, ncclSum, comm, stream));
	NCCL_OK(ncclBroadcast(e, e, SMALL, ncclFloat32, 1, comm, stream));
	NCCL_OK(ncclGroupEnd());
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	from_device(got_y, e, sizeof got_y);
	for (size_t i = 0; i < SMALL; i++)
		CHECK(hd_bf16_to_float(got[i]) == 6 * (float)(i % 10) && got_y[i] == 1, "number %zu: %g, %g", i,
		        (double)hd_bf16_to_float(got[i]), (double)got_y[i]);
	CUDA_OK(cudaFree(d));
	CUDA_OK(cudaFree(e));
}

static void different_sizes(void)
{
	float *d = to_device(NULL, 100 * sizeof *d);
	ncclAllReduce(d, d, rank == 1 ? 99 : 100, ncclFloat32, ncclSum, comm, stream);
	CUDA_OK(cudaStreamSynchronize(stream));
}

/* Joins without blocking; the last rank comes late. */
static void joins(void)
{
	ncclResult_t state = ncclInProgress;
	ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
	ncclUniqueId id;
	config.blocking = 0;
	memset(&id, 0, sizeof id);
	snprintf(id.internal, sizeof id.internal, "/cuda_emu_nccl_joins_%d", (int)getppid());
	usleep(rank == RANKS - 1 ? 200000 : 0);
	ncclComm_t other;
	ncclResult_t got = ncclCommInitRankConfig(&other, RANKS, id, rank, &config);
	CHECK(got == ncclInProgress, "got %d", (int)got);
	for (int i = 0; state == ncclInProgress; i++) {
		usleep(1000);
		NCCL_OK(ncclCommGetAsyncError(other, &state));
		CHECK(i < 10000, "still joining");
	}
	NCCL_OK(state);
	float x = number_of(rank, 3), sum;
	float *d = to_device(&x, sizeof x);
	NCCL_OK(ncclAllReduce(d, d, 1, ncclFloat32, ncclSum, other, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(&sum, d, sizeof sum);
	CHECK(sum == 18, "got %g", (double)sum);
	NCCL_OK(ncclCommDestroy(other));
	CUDA_OK(cudaFree(d));
}

/* One rank does not come: the others get an error and do not hang. */
static void absent(void)
{
	ncclResult_t error = ncclSuccess;
	float *d = to_device(NULL, 100 * sizeof *d);
	if (rank == 0)
		return;
	NCCL_OK(ncclAllReduce(d, d, 100, ncclFloat32, ncclSum, comm, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	NCCL_OK(ncclCommGetAsyncError(comm, &error));
	CHECK(error == ncclRemoteError, "got %d", (int)error);
}

static void nccl_collectives(void)
{
	in_every_rank(collectives);
}

static void nccl_group(void)
{
	in_every_rank(group);
}

static void nccl_joins(void)
{
	in_every_rank(joins);
}

static void nccl_disagree(void)
{
	in_every_rank(different_sizes);
}

static void nccl_absent(void)
{
	in_every_rank(absent);
}

const test_case nccl_cases[] = {
        {"nccl_collectives", NULL, nccl_collectives, EVERY(PASSES)},
        {"nccl_collectives_lazy", "HD_EMU_LAZY=1 HD_EMU_LEAKS=1", nccl_collectives, EVERY(PASSES)},
        {"nccl_group", "HD_EMU_LAZY=1", nccl_group, EVERY(PASSES)},
        {"nccl_joins", NULL, nccl_joins, EVERY(PASSES)},
        {"nccl_disagree", "HD_EMU_NCCL_SECONDS=20", nccl_disagree, EVERY("99 elements")},
        {"nccl_absent", "HD_EMU_NCCL_SECONDS=4", nccl_absent, EVERY(PASSES)},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
