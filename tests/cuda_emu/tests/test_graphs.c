/* SPDX-License-Identifier: Apache-2.0 */
/* Capture of streams into graphs, replay, and what must not be done while a stream is captured. */
#include "kernels.h"
#include "self.h"

enum { N = 200 };

typedef enum fault { NO_FAULT, NO_FORK, NO_JOIN } fault;

static float *a, *b, *c;
static cudaStream_t main_stream, side;
static cudaEvent_t forked, joined;

static void make(void)
{
	main_stream = new_stream();
	side = new_stream();
	CUDA_OK(cudaEventCreateWithFlags(&forked, cudaEventDisableTiming));
	CUDA_OK(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming));
	a = to_device(NULL, N * sizeof *a);
	b = to_device(NULL, N * sizeof *b);
	c = to_device(NULL, N * sizeof *c);
}

static void destroy(void)
{
	CUDA_OK(cudaFree(a));
	CUDA_OK(cudaFree(b));
	CUDA_OK(cudaFree(c));
	CUDA_OK(cudaEventDestroy(forked));
	CUDA_OK(cudaEventDestroy(joined));
	CUDA_OK(cudaStreamDestroy(main_stream));
	CUDA_OK(cudaStreamDestroy(side));
}

/* a += 1; then b = a + 10 on the side and c = a + 20; then c = c + 0 behind both, b = c + 100 at the end. */
static void capture_work(fault planted)
{
	CUDA_OK(launch_add(a, a, 1, N, main_stream));
	CUDA_OK(cudaEventRecord(forked, main_stream));
	if (planted == NO_FORK)
		/* the side joins the capture from before the kernel that it needs */
		CUDA_OK(launch_add(a, a, 1, N, main_stream));
	CUDA_OK(cudaStreamWaitEvent(side, forked, 0));
	CUDA_OK(launch_add(b, a, 10, N, side));
	CUDA_OK(launch_add(c, a, 20, N, main_stream));
	CUDA_OK(cudaEventRecord(joined, side));
	if (planted == NO_JOIN)
		CUDA_OK(launch_add(b, c, 100, N, main_stream));
	CUDA_OK(cudaStreamWaitEvent(main_stream, joined, 0));
	if (planted != NO_JOIN)
		CUDA_OK(launch_add(b, c, 100, N, main_stream));
}

static cudaGraphExec_t capture(fault planted)
{
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	size_t nodes;
	enum cudaStreamCaptureStatus status;
	CUDA_OK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
	CUDA_OK(cudaStreamIsCapturing(main_stream, &status));
	CHECK(status == cudaStreamCaptureStatusActive, "status %d", (int)status);
	capture_work(planted);
	CUDA_OK(cudaStreamEndCapture(main_stream, &graph));
	CUDA_OK(cudaStreamIsCapturing(side, &status));
	CHECK(status == cudaStreamCaptureStatusNone, "status %d", (int)status);
	CUDA_OK(cudaGraphGetNodes(graph, NULL, &nodes));
	CHECK(nodes == (planted == NO_FORK ? 5 : 4), "%zu nodes", nodes);
	CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
	CUDA_OK(cudaGraphDestroy(graph));
	return exec;
}

static void check_all(const float *device, float value, const char *what)
{
	float got[N], wanted[N];
	for (int i = 0; i < N; i++)
		wanted[i] = value;
	from_device(got, device, sizeof got);
	check_close(got, wanted, N, 0, what);
}

static void replay(fault planted)
{
	make();
	CUDA_OK(cudaMemsetAsync(a, 0, N * sizeof *a, main_stream));
	CUDA_OK(cudaMemsetAsync(b, 0, N * sizeof *b, main_stream));
	CUDA_OK(cudaMemsetAsync(c, 0, N * sizeof *c, main_stream));
	cudaGraphExec_t exec = capture(planted);
	CUDA_OK(cudaStreamSynchronize(main_stream));
	check_all(a, 0, "nothing runs while it is captured");
	for (int i = 0; i < 3; i++)
		CUDA_OK(cudaGraphLaunch(exec, main_stream));
	CUDA_OK(cudaStreamSynchronize(main_stream));
	float rounds = planted == NO_FORK ? 6 : 3;
	check_all(a, rounds, "a");
	check_all(c, rounds + 20, "c");
	check_all(b, rounds + 120, "b");
	CUDA_OK(cudaGraphExecDestroy(exec));
	destroy();
}

static void correct(void)
{
	replay(NO_FAULT);
}

static void no_fork(void)
{
	replay(NO_FORK);
}

static void no_join(void)
{
	replay(NO_JOIN);
}

/* Launches of one graph follow each other, also on different streams. */
static void two_streams(void)
{
	make();
	CUDA_OK(cudaMemsetAsync(a, 0, N * sizeof *a, main_stream));
	CUDA_OK(cudaStreamSynchronize(main_stream));
	cudaGraphExec_t exec = capture(NO_FAULT);
	CUDA_OK(cudaGraphLaunch(exec, main_stream));
	CUDA_OK(cudaGraphLaunch(exec, side));
	CUDA_OK(cudaStreamSynchronize(side));
	check_all(a, 2, "a");
	CUDA_OK(cudaGraphExecDestroy(exec));
	destroy();
}

static void count_up(void *data)
{
	++*(int *)data;
}

static void host_node(void)
{
	int count = 0;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	make();
	CUDA_OK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeThreadLocal));
	CUDA_OK(cudaMemsetAsync(a, 0, N * sizeof *a, main_stream));
	CUDA_OK(cudaLaunchHostFunc(main_stream, count_up, &count));
	CUDA_OK(cudaStreamEndCapture(main_stream, &graph));
	CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
	CUDA_OK(cudaGraphLaunch(exec, main_stream));
	CUDA_OK(cudaGraphLaunch(exec, main_stream));
	CUDA_OK(cudaStreamSynchronize(main_stream));
	CHECK(count == 2, "called %d times", count);
	CUDA_OK(cudaGraphExecDestroy(exec));
	CUDA_OK(cudaGraphDestroy(graph));
	destroy();
}

/* A call that spoils the capture, with its error; the capture's end then says so. */
#define SPOILS(call, error)                                                                                            \
	do {                                                                                                           \
		cudaGraph_t graph_;                                                                                    \
		CUDA_OK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));                             \
		CUDA_OK(launch_add(a, a, 1, N, main_stream));                                                          \
		CHECK_CUDA(call, error);                                                                               \
		CHECK_CUDA(launch_add(a, a, 1, N, main_stream), cudaErrorStreamCaptureInvalidated);                    \
		CHECK_CUDA(cudaStreamEndCapture(main_stream, &graph_), cudaErrorStreamCaptureInvalidated);             \
		CHECK(!graph_, "a graph of a spoiled capture");                                                        \
		cudaGetLastError();                                                                                    \
	} while (0)

static void forbidden(void)
{
	void *memory, *pinned;
	float on_the_host;
	cudaEvent_t outside;
	cudaGraph_t graph;
	make();
	CUDA_OK(cudaEventCreate(&outside));
	CUDA_OK(cudaMallocHost(&pinned, 100));
	CUDA_OK(cudaEventRecord(outside, side));
	SPOILS(cudaStreamSynchronize(main_stream), cudaErrorStreamCaptureUnsupported);
	SPOILS(cudaStreamQuery(main_stream), cudaErrorStreamCaptureUnsupported);
	SPOILS(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
	SPOILS(cudaMalloc(&memory, 100), cudaErrorStreamCaptureUnsupported);
	SPOILS(cudaMallocHost(&memory, 100), cudaErrorStreamCaptureUnsupported);
	SPOILS(cudaFreeHost(pinned), cudaErrorStreamCaptureUnsupported);
	SPOILS(cudaStreamWaitEvent(main_stream, outside, 0), cudaErrorStreamCaptureIsolation);
	SPOILS(cudaMemcpy(&on_the_host, a, 4, cudaMemcpyDeviceToHost), cudaErrorStreamCaptureUnsupported);
	CHECK_CUDA(cudaStreamEndCapture(main_stream, &graph), cudaErrorIllegalState);
	CHECK_CUDA(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
	CUDA_OK(cudaEventDestroy(outside));
	CUDA_OK(cudaFreeHost(pinned));
	cudaGetLastError();
	destroy();
}

/* In the relaxed mode allocations are allowed, and streams that are not captured go on. */
static void relaxed(void)
{
	void *memory;
	cudaGraph_t graph;
	make();
	CUDA_OK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeRelaxed));
	CUDA_OK(launch_add(a, a, 1, N, main_stream));
	CUDA_OK(cudaMalloc(&memory, 100));
	CUDA_OK(cudaMemsetAsync(memory, 0, 100, side));
	CUDA_OK(cudaStreamSynchronize(side));
	CUDA_OK(cudaStreamEndCapture(main_stream, &graph));
	CUDA_OK(cudaGraphDestroy(graph));
	CUDA_OK(cudaFree(memory));
	destroy();
}

static void unjoined(void)
{
	cudaGraph_t graph;
	make();
	CUDA_OK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
	CUDA_OK(launch_add(a, a, 1, N, main_stream));
	CUDA_OK(cudaEventRecord(forked, main_stream));
	CUDA_OK(cudaStreamWaitEvent(side, forked, 0));
	CUDA_OK(launch_add(b, a, 1, N, side));
	CHECK_CUDA(cudaStreamEndCapture(side, &graph), cudaErrorStreamCaptureUnmatched);
	CHECK_CUDA(cudaStreamEndCapture(main_stream, &graph), cudaErrorStreamCaptureInvalidated);
	cudaGetLastError();
	CUDA_OK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
	CUDA_OK(launch_add(a, a, 1, N, main_stream));
	CUDA_OK(cudaEventRecord(forked, main_stream));
	CHECK_CUDA(cudaEventSynchronize(forked), cudaErrorCapturedEvent);
	CHECK_CUDA(cudaStreamEndCapture(main_stream, &graph), cudaErrorStreamCaptureInvalidated);
	cudaGetLastError();
	CUDA_OK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
	CUDA_OK(launch_add(a, a, 1, N, main_stream));
	CUDA_OK(cudaEventRecord(forked, main_stream));
	CUDA_OK(cudaStreamWaitEvent(side, forked, 0));
	CUDA_OK(launch_add(b, a, 1, N, side));
	CHECK_CUDA(cudaStreamEndCapture(main_stream, &graph), cudaErrorStreamCaptureUnjoined);
	destroy();
}

static void memory_freed(void)
{
	make();
	cudaGraphExec_t exec = capture(NO_FAULT);
	CUDA_OK(cudaFree(c));
	CUDA_OK(cudaGraphLaunch(exec, main_stream));
	CUDA_OK(cudaStreamSynchronize(main_stream));
}

static void graph_leaks(void)
{
	make();
	capture(NO_FAULT);
	destroy();
}

#define RACE "ThreadSanitizer: data race"

const test_case graph_cases[] = {
        {"graph", NULL, correct, EVERY(PASSES)},
        {"graph_lazy", "HD_EMU_LAZY=1 HD_EMU_LEAKS=1", correct, EVERY(PASSES)},
        {"graph_reverse", "HD_EMU_ORDER=reverse", correct, EVERY(PASSES)},
        {"graph_random", "HD_EMU_ORDER=random:5 HD_EMU_LAZY=1", correct, EVERY(PASSES)},
        {"graph_on_two_streams", "HD_EMU_LAZY=1", two_streams, EVERY(PASSES)},
        {"graph_without_fork", NULL, no_fork, {NOT_RUN, NOT_RUN, RACE}},
        {"graph_without_join", "HD_EMU_ORDER=reverse", no_join, {"FAIL", "FAIL", RACE}},
        {"graph_without_join_forward", NULL, no_join, {NOT_RUN, NOT_RUN, RACE}},
        {"graph_host_node", NULL, host_node, EVERY(PASSES)},
        {"graph_forbidden_calls", NULL, forbidden, EVERY(PASSES)},
        {"graph_relaxed", "HD_EMU_LAZY=1", relaxed, EVERY(PASSES)},
        {"graph_unjoined", NULL, unjoined, EVERY(PASSES)},
        {"graph_memory_freed", NULL, memory_freed, EVERY("memory that has been freed when its stream runs add")},
        {"graph_leaks", "HD_EMU_LEAKS=1", graph_leaks, EVERY("0 graphs, 1 executable graphs")},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
