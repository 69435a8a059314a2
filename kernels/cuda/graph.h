/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recordings of the main stream (backend.h: begin_capture and what follows it): CUDA graphs, made once, launched as
 * one.
 *
 * The capture is thread-local: what the recording thread may not do meanwhile, such as allocating in an operation's
 * first call, fails instead of being left out of the graph, while copies, events and allocations of other threads go
 * on.
 */
#ifndef HD_KERNELS_CUDA_GRAPH_H
#define HD_KERNELS_CUDA_GRAPH_H

#include "kernels/cuda/cuda.h"

hd_status hd_cuda_begin_capture(hd_backend *self);
hd_status hd_cuda_end_capture(hd_backend *self, hd_graph **out);
hd_status hd_cuda_run_graph(hd_backend *self, hd_graph *graph);
void hd_cuda_close_graph(hd_backend *self, hd_graph *graph);

/*
 * At the start of what cannot be recorded. HD_OK where the calling thread is not recording, and the stream is not the
 * main one of a thread that is. Else an error that says so and the recording is lost, with its streams usable.
 */
hd_status hd_cuda_not_recorded(const char *what, hd_stream *stream);

/* The same for what cannot fail: the recording is lost, and what cannot be recorded may be done. */
void hd_cuda_end_recording(const char *what);

/* HD_OK or the error of an await, which inside of a recording says what cannot be awaited there. */
hd_status hd_cuda_check_await(cudaError_t error);

/* Ends a recording that nobody has ended. */
void hd_cuda_graph_close(void);

#endif
