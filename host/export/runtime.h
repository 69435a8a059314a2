/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ONNX Runtime, opened at run time: its C library where one is found, else Python's onnxruntime in a child process.
 * Nothing here is needed to write a model, only to run one.
 */
#ifndef HD_EXPORT_RUNTIME_H
#define HD_EXPORT_RUNTIME_H

#include "host/export/onnx.h"

typedef struct hd_runtime hd_runtime;

/*
 * library: path of libonnxruntime.so, "" to look for one: HEIMDALL_ONNXRUNTIME in the environment, the loader's path
 * (libonnxruntime.so.1, libonnxruntime.so), then the package onnxruntime of python3 (HEIMDALL_PYTHON names another
 * interpreter): its library, and where it has none its Python. HD_E_UNSUPPORTED, with all that was tried and how to
 * install it, where there is none.
 */
hd_status hd_runtime_open(hd_runtime **out, const char *library);
void hd_runtime_close(hd_runtime *runtime); /* NULL-safe */
/* "ONNX Runtime 1.20.0, /usr/lib/libonnxruntime.so.1"; valid as long as the runtime. */
const char *hd_runtime_name(const hd_runtime *runtime);

/* Graph optimisation levels of ONNX Runtime, the least first. */
typedef enum hd_runtime_level {
	HD_RUNTIME_DISABLED,
	HD_RUNTIME_BASIC,
	HD_RUNTIME_EXTENDED,
	HD_RUNTIME_ALL,
	HD_RUNTIME_LEVELS
} hd_runtime_level;
const char *hd_runtime_level_name(hd_runtime_level level); /* "disabled", ... */

typedef struct hd_session hd_session;

/* threads: of one operator (intra-op); 0: all cores. Errors name the file and give the runtime's own words. */
hd_status hd_session_open(
        hd_session **out, hd_runtime *runtime, const char *model_path, hd_runtime_level level, int threads);
void hd_session_close(hd_session *session); /* NULL-safe */

/* Text of the model's metadata, NULL where it has no such key. Valid as long as the session. */
const char *hd_session_metadata(const hd_session *session, const char *key);

#define HD_PORT_DIMS 4
/* An input or output of the model; -1 for sizes that only a run knows. */
typedef struct hd_port {
	char *name;
	hd_onnx_type type;
	int ndim;
	int64_t shape[HD_PORT_DIMS];
} hd_port;
const hd_port *hd_session_inputs(const hd_session *session, int *count);
const hd_port *hd_session_outputs(const hd_session *session, int *count);

/* A float tensor: what goes in, or what comes out. */
typedef struct hd_run_tensor {
	int ndim;
	int64_t shape[HD_PORT_DIMS];
	float *data; /* outputs: malloc'ed by the run, free() it */
} hd_run_tensor;

/* Runs all inputs to all outputs, in the order of the ports; HD_E_DATA where shapes do not fit the model. */
hd_status hd_session_run(hd_session *session, const hd_run_tensor *inputs, hd_run_tensor *outputs);

#endif
