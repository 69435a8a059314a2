/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime's C API, from a library opened at run time. The library stays open until the process ends. */
#include "host/export/ort.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"

/* enum values of onnxruntime_c_api.h */
#define ARENA_ALLOCATOR 1 /* OrtArenaAllocator */
#define MEMORY_DEFAULT 0  /* OrtMemTypeDefault */

typedef struct api_base {
	const void *const *(*get_api)(uint32_t version);
	const char *(*get_version)(void);
} api_base;

typedef struct api {
#define HD_ORT(slot, name, result, parameters) result(*name) parameters;
#include "host/export/ort_api.def"
#undef HD_ORT
} api;

typedef struct state {
	api api;
	void *env, *memory, *allocator;
} state;

static const api *api_of(const hd_session *session)
{
	return &((const state *)session->runtime->state)->api;
}

/* An error of the API becomes this thread's; a status is released. */
static hd_status take(const api *a, void *status, bool opening)
{
	if (!status)
		return HD_OK;
	hd_status st = hd_fail(hd_ort_status(a->GetErrorCode(status), opening), "%s", a->GetErrorMessage(status));
	a->ReleaseStatus(status);
	return st;
}

#define OPENING(call) HD_TRY(take(a, (call), true))
#define RUNNING(call) HD_TRY(take(a, (call), false))

/* ---- the library ---- */

static void end(hd_runtime *runtime)
{
	state *s = runtime->state;
	if (!s)
		return;
	if (s->memory)
		s->api.ReleaseMemoryInfo(s->memory);
	if (s->env)
		s->api.ReleaseEnv(s->env);
	free(s);
	runtime->state = NULL;
}

/* Functions from their slots; POSIX keeps functions and objects in pointers of one size. */
static void read_table(api *out, const void *const *slots)
{
#define HD_ORT(slot, name, result, parameters) memcpy(&out->name, &slots[slot], sizeof out->name);
#include "host/export/ort_api.def"
#undef HD_ORT
}

/* The table's slots; NULL with the reason as this thread's error where there are none. */
static const void *const *open_api(const char **version, const char *library)
{
	const api_base *(*get_base)(void) = NULL;
	void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL), *symbol;
	if (!opened) {
		hd_fail(HD_E_UNSUPPORTED, "%s", dlerror());
		return NULL;
	}
	symbol = dlsym(opened, "OrtGetApiBase");
	if (!symbol) {
		hd_fail(HD_E_UNSUPPORTED, "%s: no ONNX Runtime: it has no OrtGetApiBase", library);
		dlclose(opened);
		return NULL;
	}
	memcpy(&get_base, &symbol, sizeof get_base);
	const api_base *base = get_base();
	const void *const *slots = base->get_api(HD_ORT_API_VERSION);
	*version = base->get_version();
	if (!slots)
		hd_fail(HD_E_UNSUPPORTED, "%s: ONNX Runtime %s is older than version 1.%d of its C API", library,
		        *version, HD_ORT_API_VERSION);
	return slots;
}

/* ---- sessions ---- */

static void close_session(hd_session *session)
{
	if (session->state)
		api_of(session)->ReleaseSession(session->state);
}

static hd_status read_port(hd_session *session, hd_port *port, bool input, size_t index)
{
	hd_status st;
	const api *a = api_of(session);
	void *allocator = ((state *)session->runtime->state)->allocator, *type = NULL;
	const void *info = NULL;
	char *name = NULL;
	int element = 0;
	size_t ndim = 0;
	OPENING(input ? a->SessionGetInputName(session->state, index, allocator, &name)
	              : a->SessionGetOutputName(session->state, index, allocator, &name));
	HD_TRY(hd_strdup(&port->name, name));
	OPENING(input ? a->SessionGetInputTypeInfo(session->state, index, &type)
	              : a->SessionGetOutputTypeInfo(session->state, index, &type));
	OPENING(a->CastTypeInfoToTensorInfo(type, &info));
	if (info) {
		OPENING(a->GetTensorElementType(info, &element));
		OPENING(a->GetDimensionsCount(info, &ndim));
	}
	/* element types have ONNX's own numbers up to double (onnx.proto, TensorProto.DataType) */
	port->type = (hd_onnx_type)element;
	port->ndim = (int)ndim;
	if (!info || ndim > HD_PORT_DIMS)
		st = hd_fail(HD_E_DATA, "'%s' is no tensor of at most %d dimensions", name, HD_PORT_DIMS);
	else
		OPENING(a->GetDimensions(info, port->shape, ndim));
done:
	if (type)
		a->ReleaseTypeInfo(type);
	if (name)
		take(a, a->AllocatorFree(allocator, name), true);
	return st;
}

static hd_status read_ports(hd_session *session, bool input)
{
	hd_status st;
	const api *a = api_of(session);
	size_t count = 0;
	hd_port **ports = input ? &session->inputs : &session->outputs;
	OPENING(input ? a->SessionGetInputCount(session->state, &count)
	              : a->SessionGetOutputCount(session->state, &count));
	HD_TRY(hd_alloc(ports, count, sizeof **ports));
	*(input ? &session->input_count : &session->output_count) = (int)count;
	for (size_t i = 0; i < count; i++)
		HD_TRY(read_port(session, &(*ports)[i], input, i));
done:
	return st;
}

static hd_status read_metadata(hd_session *session)
{
	hd_status st;
	const api *a = api_of(session);
	void *allocator = ((state *)session->runtime->state)->allocator, *metadata = NULL;
	char **keys = NULL, *value = NULL;
	int64_t count = 0;
	OPENING(a->SessionGetModelMetadata(session->state, &metadata));
	OPENING(a->ModelMetadataGetCustomMetadataMapKeys(metadata, allocator, &keys, &count));
	HD_TRY(hd_alloc(&session->metadata, (size_t)count, sizeof *session->metadata));
	session->metadata_count = (int)count;
	for (int64_t i = 0; i < count; i++) {
		OPENING(a->ModelMetadataLookupCustomMetadataMap(metadata, allocator, keys[i], &value));
		HD_TRY(hd_strdup(&session->metadata[i].key, keys[i]));
		HD_TRY(hd_strdup(&session->metadata[i].value, value));
		OPENING(a->AllocatorFree(allocator, value));
		value = NULL;
	}
done:
	if (value)
		take(a, a->AllocatorFree(allocator, value), true);
	for (int64_t i = 0; i < count; i++)
		take(a, a->AllocatorFree(allocator, keys[i]), true);
	if (keys)
		take(a, a->AllocatorFree(allocator, keys), true);
	if (metadata)
		a->ReleaseModelMetadata(metadata);
	return st;
}

static hd_status open_session(hd_session *session, hd_runtime_level level, int threads)
{
	hd_status st;
	const state *s = session->runtime->state;
	const api *a = &s->api;
	void *options = NULL;
	OPENING(a->CreateSessionOptions(&options));
	OPENING(a->SetSessionLogSeverityLevel(options, HD_ORT_LOG_ERROR));
	OPENING(a->SetSessionGraphOptimizationLevel(options, hd_ort_level(level)));
	OPENING(a->SetIntraOpNumThreads(options, threads));
	OPENING(a->SetInterOpNumThreads(options, 1));
	OPENING(a->CreateSession(s->env, session->path, options, &session->state));
	HD_TRY(read_ports(session, true));
	HD_TRY(read_ports(session, false));
	HD_TRY(read_metadata(session));
done:
	if (options)
		a->ReleaseSessionOptions(options);
	return st;
}

/* ---- a run ---- */

static size_t elements(const int64_t *shape, int ndim)
{
	size_t n = 1;
	for (int i = 0; i < ndim; i++)
		n *= (size_t)shape[i];
	return n;
}

static hd_status copy_out(const api *a, hd_run_tensor *out, void *value, const char *name)
{
	hd_status st;
	void *info = NULL, *data = NULL;
	size_t ndim = 0;
	int type = 0;
	RUNNING(a->GetTensorTypeAndShape(value, &info));
	RUNNING(a->GetTensorElementType(info, &type));
	RUNNING(a->GetDimensionsCount(info, &ndim));
	if (type != HD_ONNX_F32 || ndim > HD_PORT_DIMS) {
		st = hd_fail(HD_E_DATA, "output '%s' is no float tensor of at most %d dimensions", name, HD_PORT_DIMS);
		goto done;
	}
	out->ndim = (int)ndim;
	RUNNING(a->GetDimensions(info, out->shape, ndim));
	RUNNING(a->GetTensorMutableData(value, &data));
	size_t count = elements(out->shape, out->ndim);
	HD_TRY(hd_alloc(&out->data, count, sizeof *out->data));
	if (count)
		memcpy(out->data, data, count * sizeof *out->data);
done:
	if (info)
		a->ReleaseTensorTypeAndShapeInfo(info);
	return st;
}

static hd_status run(hd_session *session, const hd_run_tensor *inputs, hd_run_tensor *outputs)
{
	hd_status st;
	const state *s = session->runtime->state;
	const api *a = &s->api;
	int in = session->input_count, out = session->output_count;
	void **values = NULL;
	const char **names = NULL;
	HD_TRY(hd_alloc(&values, (size_t)(in + out), sizeof *values));
	HD_TRY(hd_alloc(&names, (size_t)(in + out), sizeof *names));
	for (int i = 0; i < in; i++) {
		const hd_run_tensor *t = &inputs[i];
		names[i] = session->inputs[i].name;
		RUNNING(a->CreateTensorWithDataAsOrtValue(s->memory, t->data,
		        elements(t->shape, t->ndim) * sizeof *t->data, t->shape, (size_t)t->ndim, HD_ONNX_F32,
		        &values[i]));
	}
	for (int i = 0; i < out; i++)
		names[in + i] = session->outputs[i].name;
	RUNNING(a->Run(session->state, NULL, names, (const void *const *)values, (size_t)in, names + in, (size_t)out,
	        values + in));
	for (int i = 0; i < out; i++)
		HD_TRY(copy_out(a, &outputs[i], values[in + i], names[in + i]));
done:
	for (int i = 0; values && i < in + out; i++)
		if (values[i])
			a->ReleaseValue(values[i]);
	free(names);
	free(values);
	return st;
}

static const hd_ort_way way = {open_session, close_session, run, end};

hd_status hd_ort_open_library(hd_runtime *runtime, const char *library)
{
	hd_status st;
	const char *version = "";
	const void *const *slots = open_api(&version, library);
	state *s = NULL;
	runtime->way = &way;
	if (!slots)
		return HD_E_UNSUPPORTED;
	HD_TRY(hd_alloc(&s, 1, sizeof *s));
	runtime->state = s;
	read_table(&s->api, slots);
	const api *a = &s->api;
	RUNNING(a->CreateEnv(HD_ORT_LOG_ERROR, "heimdall", &s->env));
	RUNNING(a->DisableTelemetryEvents(s->env));
	RUNNING(a->CreateCpuMemoryInfo(ARENA_ALLOCATOR, MEMORY_DEFAULT, &s->memory));
	RUNNING(a->GetAllocatorWithDefaultOptions(&s->allocator));
	HD_TRY(hd_sprintf(&runtime->name, "ONNX Runtime %s, %s", version, library));
done:
	if (st != HD_OK)
		end(runtime);
	return st;
}
