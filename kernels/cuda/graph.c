/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/graph.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct hd_graph {
	cudaGraphExec_t exec;
};

/* Of what follows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static enum { IDLE, RECORDING, LOST } state; /* LOST: end_capture has not been called yet */
static pthread_t recorder;
static bool captured; /* the main stream is being captured */
static char why[192]; /* the recording is lost */

/* Ends the capture, which leaves no stream in it. */
static cudaError_t end(cudaGraph_t *graph)
{
	*graph = NULL;
	cudaError_t error = captured ? cudaStreamEndCapture(hd_cuda_main_stream.cuda, graph) : cudaSuccess;
	captured = false;
	return error;
}

/* Under the lock. Another thread than the recorder cannot end the capture: end_capture will. */
static void lose(const char *what, const char *reason)
{
	cudaGraph_t graph;
	if (state != RECORDING)
		return;
	state = LOST;
	snprintf(why, sizeof why, "%s: %s; the recording is lost", what, reason);
	if (!pthread_equal(recorder, pthread_self()))
		return;
	end(&graph);
	cudaGetLastError(); /* or the next launch finds this error */
	if (graph)
		cudaGraphDestroy(graph);
}

hd_status hd_cuda_not_recorded(const char *what, hd_stream *stream)
{
	hd_status st = HD_OK;
	pthread_mutex_lock(&lock);
	if (state == RECORDING && (pthread_equal(recorder, pthread_self()) || hd_cuda_is_main(stream))) {
		lose(what, "cannot be part of a recording (begin_capture)");
		st = hd_cuda_fail(HD_E_UNSUPPORTED, "%s", why);
	}
	pthread_mutex_unlock(&lock);
	return st;
}

void hd_cuda_end_recording(const char *what)
{
	pthread_mutex_lock(&lock);
	if (state == RECORDING && pthread_equal(recorder, pthread_self()))
		lose(what, "cannot be part of a recording (begin_capture)");
	pthread_mutex_unlock(&lock);
}

hd_status hd_cuda_check_await(cudaError_t error)
{
	hd_status st;
	if (error != cudaErrorStreamCaptureIsolation)
		return hd_cuda_check(error, "await");
	cudaGetLastError(); /* or the next launch finds this error */
	pthread_mutex_lock(&lock);
	lose("await", "the event was recorded before begin_capture, and is to be awaited there");
	st = hd_cuda_fail(HD_E_UNSUPPORTED, "%s", why);
	pthread_mutex_unlock(&lock);
	return st;
}

hd_status hd_cuda_begin_capture(hd_backend *self)
{
	(void)self;
	hd_status st = HD_OK;
	pthread_mutex_lock(&lock);
	if (state != IDLE) {
		st = hd_cuda_fail(HD_E_UNSUPPORTED, "begin_capture: a recording is under way; end_capture ends it");
		goto done;
	}
	HD_TRY(hd_cuda_use_device());
	HD_TRY(hd_cuda_check(
	        cudaStreamBeginCapture(hd_cuda_main_stream.cuda, cudaStreamCaptureModeThreadLocal), "begin_capture"));
	state = RECORDING;
	captured = true;
	recorder = pthread_self();
done:
	pthread_mutex_unlock(&lock);
	return st;
}

/* What was captured, or why it is lost. The main stream is not captured afterwards. */
static hd_status take(cudaGraph_t *graph)
{
	hd_status st = HD_OK;
	*graph = NULL;
	pthread_mutex_lock(&lock);
	if (state == IDLE) {
		st = hd_cuda_fail(HD_E_UNSUPPORTED, "end_capture: nothing is being recorded");
		goto done;
	}
	if (!pthread_equal(recorder, pthread_self())) {
		st = hd_cuda_fail(HD_E_UNSUPPORTED, "end_capture: another thread is recording");
		goto done;
	}
	bool lost = state == LOST;
	cudaError_t error = end(graph);
	state = IDLE;
	if (error != cudaSuccess)
		cudaGetLastError(); /* or the next launch finds this error */
	if (lost)
		st = hd_cuda_fail(HD_E_UNSUPPORTED, "%s", why);
	else if (error == cudaErrorStreamCaptureUnjoined)
		st = hd_cuda_fail(HD_E_FAILED,
		        "end_capture: a stream was drawn into the recording, and the main one does "
		        "not await it at the end");
	else if (error == cudaErrorStreamCaptureInvalidated)
		st = hd_cuda_fail(HD_E_FAILED,
		        "end_capture: an error, or something that cannot be recorded, has broken the recording");
	else
		st = hd_cuda_check(error, "end_capture");
done:
	pthread_mutex_unlock(&lock);
	return st;
}

hd_status hd_cuda_end_capture(hd_backend *self, hd_graph **out)
{
	hd_status st = HD_OK;
	cudaGraph_t recorded = NULL;
	hd_graph *graph = NULL;
	*out = NULL;
	HD_TRY(hd_cuda_use_device());
	HD_TRY(take(&recorded));
	graph = calloc(1, sizeof *graph);
	if (!graph) {
		st = hd_cuda_fail(HD_E_MEMORY, "out of memory for a recording");
		goto done;
	}
	HD_TRY(hd_cuda_check(cudaGraphInstantiateWithFlags(&graph->exec, recorded, 0), "cudaGraphInstantiate"));
	/* or the first run takes it to the device */
	HD_TRY(hd_cuda_check(cudaGraphUpload(graph->exec, hd_cuda_main_stream.cuda), "cudaGraphUpload"));
	*out = graph;
	graph = NULL;
done:
	if (recorded)
		cudaGraphDestroy(recorded);
	hd_cuda_close_graph(self, graph);
	return st;
}

hd_status hd_cuda_run_graph(hd_backend *self, hd_graph *graph)
{
	(void)self;
	hd_status st;
	HD_TRY(hd_cuda_not_recorded("run_graph", NULL));
	HD_TRY(hd_cuda_use_device());
	HD_TRY(hd_cuda_check(cudaGraphLaunch(graph->exec, hd_cuda_main_stream.cuda), "run_graph"));
done:
	return st;
}

void hd_cuda_close_graph(hd_backend *self, hd_graph *graph)
{
	(void)self;
	if (!graph)
		return;
	hd_cuda_end_recording("close_graph");
	if (graph->exec && hd_cuda_use_device() == HD_OK) {
		cudaStreamSynchronize(hd_cuda_main_stream.cuda);
		cudaGraphExecDestroy(graph->exec);
	}
	free(graph);
}

void hd_cuda_graph_close(void)
{
	pthread_mutex_lock(&lock);
	lose("close", "the back end closes");
	state = IDLE;
	captured = false;
	pthread_mutex_unlock(&lock);
}
