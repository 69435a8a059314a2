/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams and events. Missing synchronisation gives a wrong result where streams are lazy; the thread sanitizer reports
 * it whenever it happens.
 */
#include "kernels.h"
#include "self.h"

enum { N = 300 };

typedef enum fault {
	NO_FAULT,
	NO_EVENT,     /* the second stream does not wait for the first */
	NO_WAIT,      /* the host reads before the copy has come */
	EARLY_REUSE,  /* the host changes the source of a copy that is on its way */
	EARLY_RECORD, /* the event is recorded before the work that it stands for */
} fault;

/* Up on one stream, plus 1 there, plus 2 on another, down. */
static void pipeline(fault planted)
{
	float *up, *down, wanted[N];
	cudaEvent_t event;
	cudaStream_t first = new_stream(), second = new_stream();
	CUDA_OK(cudaMallocHost((void **)&up, N * sizeof *up));
	CUDA_OK(cudaMallocHost((void **)&down, N * sizeof *down));
	CUDA_OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
	for (int i = 0; i < N; i++) {
		up[i] = (float)i;
		down[i] = -1;
		wanted[i] = (float)i + 3;
	}
	float *a = to_device(NULL, N * sizeof *a), *b = to_device(NULL, N * sizeof *b),
	      *c = to_device(NULL, N * sizeof *c);
	CUDA_OK(cudaMemcpyAsync(a, up, N * sizeof *a, cudaMemcpyHostToDevice, first));
	if (planted == EARLY_REUSE)
		up[5] = 1000;
	if (planted == EARLY_RECORD)
		CUDA_OK(cudaEventRecord(event, first));
	CUDA_OK(launch_add(b, a, 1, N, first));
	if (planted != EARLY_RECORD)
		CUDA_OK(cudaEventRecord(event, first));
	if (planted != NO_EVENT)
		CUDA_OK(cudaStreamWaitEvent(second, event, 0));
	CUDA_OK(launch_add(c, b, 2, N, second));
	CUDA_OK(cudaMemcpyAsync(down, c, N * sizeof *c, cudaMemcpyDeviceToHost, second));
	if (planted != NO_WAIT)
		CUDA_OK(cudaStreamSynchronize(second));
	check_close(down, wanted, N, 0, "pipeline");
	CUDA_OK(cudaDeviceSynchronize());
	CUDA_OK(cudaEventDestroy(event));
	CUDA_OK(cudaStreamDestroy(first));
	CUDA_OK(cudaStreamDestroy(second));
	CUDA_OK(cudaFree(a));
	CUDA_OK(cudaFree(b));
	CUDA_OK(cudaFree(c));
	CUDA_OK(cudaFreeHost(up));
	CUDA_OK(cudaFreeHost(down));
}

static void correct(void)
{
	pipeline(NO_FAULT);
}

static void no_event(void)
{
	pipeline(NO_EVENT);
}

static void no_wait(void)
{
	pipeline(NO_WAIT);
}

static void early_reuse(void)
{
	pipeline(EARLY_REUSE);
}

static void early_record(void)
{
	pipeline(EARLY_RECORD);
}

/* Of pageable memory the source may change at once and the target is complete. */
static void pageable_copies(void)
{
	float up[N], down[N], wanted[N];
	cudaStream_t stream = new_stream();
	float *d = to_device(NULL, sizeof up);
	for (int i = 0; i < N; i++)
		wanted[i] = up[i] = (float)i;
	CUDA_OK(cudaMemcpyAsync(d, up, sizeof up, cudaMemcpyHostToDevice, stream));
	memset(up, 0, sizeof up);
	CUDA_OK(cudaMemcpyAsync(down, d, sizeof down, cudaMemcpyDeviceToHost, stream));
	check_close(down, wanted, N, 0, "pageable copies");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(d));
}

static void queries(void)
{
	cudaStream_t stream = new_stream();
	cudaEvent_t event;
	float *d = to_device(NULL, N * sizeof *d);
	CUDA_OK(cudaEventCreate(&event));
	CUDA_OK(cudaEventQuery(event));
	CUDA_OK(cudaStreamQuery(stream));
	CUDA_OK(cudaMemsetAsync(d, 0, N * sizeof *d, stream));
	CUDA_OK(cudaEventRecord(event, stream));
	CUDA_OK(launch_add(d, d, 1, N, stream));
	CHECK_CUDA(cudaEventQuery(event), cudaErrorNotReady);
	CUDA_OK(cudaGetLastError());
	int asked = 1;
	while (cudaEventQuery(event) == cudaErrorNotReady)
		CHECK(asked++ < 10, "the event never happens");
	CHECK_CUDA(cudaStreamQuery(stream), cudaErrorNotReady);
	while (cudaStreamQuery(stream) == cudaErrorNotReady)
		CHECK(asked++ < 20, "the stream never ends");
	CUDA_OK(cudaEventDestroy(event));
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(d));
}

static void timing(void)
{
	cudaStream_t stream = new_stream();
	cudaEvent_t begin, end, quiet;
	float elapsed = -1;
	float *d = to_device(NULL, 3000 * sizeof *d);
	CUDA_OK(cudaEventCreate(&begin));
	CUDA_OK(cudaEventCreate(&end));
	CUDA_OK(cudaEventCreateWithFlags(&quiet, cudaEventDisableTiming));
	CHECK_CUDA(cudaEventElapsedTime(&elapsed, begin, end), cudaErrorInvalidResourceHandle);
	cudaGetLastError();
	CUDA_OK(cudaEventRecord(begin, stream));
	CUDA_OK(launch_add(d, d, 1, 3000, stream));
	CUDA_OK(cudaEventRecord(end, stream));
	CUDA_OK(cudaEventRecord(quiet, stream));
	CUDA_OK(cudaEventSynchronize(end));
	CUDA_OK(cudaEventElapsedTime(&elapsed, begin, end));
	CHECK(elapsed > 0 && elapsed < 60000, "%g ms", (double)elapsed);
	CHECK_CUDA(cudaEventElapsedTime(&elapsed, begin, quiet), cudaErrorInvalidResourceHandle);
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(d));
}

static void count_up(void *data)
{
	++*(int *)data;
}

static void calls_runtime(void *data)
{
	cudaStreamSynchronize(*(cudaStream_t *)data);
}

static void host_functions(void)
{
	int count = 0;
	cudaStream_t stream = new_stream();
	CUDA_OK(cudaLaunchHostFunc(stream, count_up, &count));
	CUDA_OK(cudaLaunchHostFunc(stream, count_up, &count));
	CUDA_OK(cudaStreamSynchronize(stream));
	CHECK(count == 2, "called %d times", count);
	CUDA_OK(cudaStreamDestroy(stream));
}

static void host_function_calls_runtime(void)
{
	cudaStream_t stream = new_stream();
	CUDA_OK(cudaLaunchHostFunc(stream, calls_runtime, &stream));
	CUDA_OK(cudaStreamSynchronize(stream));
}

/* The default stream waits for blocking streams and they for it; for a non-blocking one nothing is promised. */
static void blocking(bool blocks)
{
	cudaStream_t stream;
	float *a = to_device(NULL, N * sizeof *a), *b = to_device(NULL, N * sizeof *b), got[N], wanted[N];
	for (int i = 0; i < N; i++)
		wanted[i] = 1;
	CUDA_OK(cudaStreamCreateWithFlags(&stream, blocks ? cudaStreamDefault : cudaStreamNonBlocking));
	CUDA_OK(cudaMemsetAsync(a, 0, N * sizeof *a, stream));
	CUDA_OK(launch_add(b, a, 1, N, NULL));
	CUDA_OK(cudaMemcpyAsync(a, b, N * sizeof *a, cudaMemcpyDeviceToDevice, stream));
	CUDA_OK(cudaMemcpy(got, blocks ? a : b, sizeof got, cudaMemcpyDeviceToHost));
	check_close(got, wanted, N, 0, "default stream");
}

static void blocking_stream(void)
{
	blocking(true);
}

static void non_blocking_stream(void)
{
	blocking(false);
}

static void handles(void)
{
	cudaStream_t stream = new_stream();
	cudaEvent_t event;
	CUDA_OK(cudaEventCreate(&event));
	CUDA_OK(cudaStreamDestroy(stream));
	CHECK_CUDA(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
	CHECK_CUDA(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
	CHECK_CUDA(cudaEventRecord(event, stream), cudaErrorInvalidResourceHandle);
	CUDA_OK(cudaEventDestroy(event));
	CHECK_CUDA(cudaEventSynchronize(event), cudaErrorInvalidResourceHandle);
	CHECK_CUDA(cudaEventDestroy(event), cudaErrorInvalidResourceHandle);
}

#define RACE "ThreadSanitizer: data race"

const test_case stream_cases[] = {
        {"pipeline", NULL, correct, EVERY(PASSES)},
        {"pipeline_lazy", "HD_EMU_LAZY=1 HD_EMU_DEFAULT_STREAM=forbid HD_EMU_LEAKS=1", correct, EVERY(PASSES)},
        {"pipeline_lazy_reverse", "HD_EMU_LAZY=1 HD_EMU_ORDER=reverse", correct, EVERY(PASSES)},
        {"pipeline_lazy_random", "HD_EMU_LAZY=1 HD_EMU_ORDER=random:3", correct, EVERY(PASSES)},
        {"missing_event", "HD_EMU_LAZY=1", no_event, EVERY("FAIL")},
        {"missing_event_eager", NULL, no_event, {NOT_RUN, NOT_RUN, RACE}},
        {"missing_synchronise", "HD_EMU_LAZY=1", no_wait, EVERY("FAIL")},
        {"missing_synchronise_eager", NULL, no_wait, {NOT_RUN, NOT_RUN, RACE}},
        {"source_changed_early", "HD_EMU_LAZY=1", early_reuse, {"FAIL", "FAIL", RACE}},
        {"source_changed_early_eager", NULL, early_reuse, {NOT_RUN, NOT_RUN, RACE}},
        {"event_recorded_early", "HD_EMU_LAZY=1", early_record, EVERY("FAIL")},
        {"event_recorded_early_eager", NULL, early_record, {NOT_RUN, NOT_RUN, RACE}},
        {"pageable_copies", "HD_EMU_LAZY=1", pageable_copies, EVERY(PASSES)},
        {"queries", "HD_EMU_LAZY=1", queries, EVERY(PASSES)},
        {"timing", "HD_EMU_LAZY=1", timing, EVERY(PASSES)},
        {"host_functions", "HD_EMU_LAZY=1", host_functions, EVERY(PASSES)},
        {"host_function_calls_runtime", NULL, host_function_calls_runtime,
                EVERY("called by a host function of a stream")},
        {"blocking_stream", "HD_EMU_LAZY=1", blocking_stream, EVERY(PASSES)},
        {"non_blocking_stream", "HD_EMU_LAZY=1", non_blocking_stream, EVERY("FAIL")},
        {"non_blocking_stream_eager", NULL, non_blocking_stream, {NOT_RUN, NOT_RUN, RACE}},
        {"handles", NULL, handles, EVERY(PASSES)},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
