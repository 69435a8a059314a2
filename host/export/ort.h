/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two ways of running models behind host/export/runtime.h: the C library in this process, Python in a child.
 * What both have in common (ports, metadata, checks of shapes, words for errors) lies in runtime.c.
 */
#ifndef HD_EXPORT_ORT_H
#define HD_EXPORT_ORT_H

#include "host/export/runtime.h"

/* The version of the C API that is asked for: ONNX Runtime 1.11's, which has all that ort_api.def names. */
#define HD_ORT_API_VERSION 11
#define HD_ORT_LOG_ERROR 3 /* ORT_LOGGING_LEVEL_ERROR */

typedef struct hd_ort_pair {
	char *key, *value;
} hd_ort_pair;

struct hd_session {
	hd_runtime *runtime;
	char *path;
	void *state; /* the way's own */
	hd_port *inputs, *outputs;
	int input_count, output_count;
	hd_ort_pair *metadata;
	int metadata_count;
};

/* One way: `runtime->state` and `session->state` are its own. */
typedef struct hd_ort_way {
	/* Fills state, ports and metadata; the caller closes it after a failure too. */
	hd_status (*open)(hd_session *session, hd_runtime_level level, int threads);
	void (*close)(hd_session *session); /* after a failed open too */
	/* Inputs fit the ports. outputs are zeroed before; what is there after a failure the caller frees. */
	hd_status (*run)(hd_session *session, const hd_run_tensor *inputs, hd_run_tensor *outputs);
	void (*end)(hd_runtime *runtime);
} hd_ort_way;

struct hd_runtime {
	const hd_ort_way *way;
	void *state;
	char *name;
};

/* GraphOptimizationLevel of the API. */
int hd_ort_level(hd_runtime_level level);

/* What an error of the API is here: of opening a model, where most say that the file is none, or of a run. */
hd_status hd_ort_status(int code, bool opening);

/* Fills way, state and name. HD_E_UNSUPPORTED with the loader's words where the library cannot be used. */
hd_status hd_ort_open_library(hd_runtime *runtime, const char *library);

/* The same with the package onnxruntime of a Python interpreter, in a child process. */
hd_status hd_ort_open_python(hd_runtime *runtime, const char *interpreter);

/* A runtime of the second kind, whatever else there is. */
hd_status hd_runtime_open_python(hd_runtime **out, const char *interpreter);

/* What the child runs: requests and answers over file descriptor 3 (ort_server.c). */
extern const char hd_ort_server[];

#endif
