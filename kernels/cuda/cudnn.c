/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cudnn.h"

#if !HD_CUDA_HAS_CUDNN

#include <stdio.h>

const char *hd_cuda_cudnn_text(void)
{
	return "no cuDNN: its headers were missing when this library was built";
}

bool hd_cuda_cudnn_ready(void)
{
	return false;
}

hd_status hd_cuda_cudnn_convolve(hd_cudnn_task task, const hd_cudnn_shape *shape, float *out, const float *data,
        const float *other, float beta, void *workspace, size_t workspace_bytes, cudaStream_t stream, char *why,
        size_t bytes)
{
	(void)task, (void)shape, (void)out, (void)data, (void)other, (void)beta;
	(void)workspace, (void)workspace_bytes, (void)stream;
	snprintf(why, bytes, "%s", hd_cuda_cudnn_text());
	return HD_E_UNSUPPORTED;
}

void hd_cuda_cudnn_close(void)
{
}

#else

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/library.h"

#define LIBRARY "libcudnn.so.9"
#define PLANS 64
#define MOST_ELEMENTS ((int64_t)INT32_MAX) /* of a tensor: cuDNN's own limit */
#define UNKNOWN SIZE_MAX

/* A shape's descriptors and what its tasks want of workspace. */
typedef struct plan {
	hd_cudnn_shape shape;
	cudnnTensorDescriptor_t x, y;
	cudnnFilterDescriptor_t w;
	cudnnConvolutionDescriptor_t convolution;
	size_t workspace_bytes[HD_CUDNN_TASKS]; /* UNKNOWN: not asked for yet */
} plan;

/* Of all that follows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static cudnnHandle_t handle;
static bool handle_tried;
static plan plans[PLANS];
static int plan_count;
static char text[256] = "no cuDNN";

/*
 * Opens the parts that libcudnn.so.9 would open by itself when they are first wanted, from its own folder or by name:
 * where one is missing there, it aborts the process.
 */
static bool open_parts(const void *function)
{
	static const char *const parts[] = {
	        "graph", "ops", "cnn", "engines_precompiled", "engines_runtime_compiled", "heuristic"};
	Dl_info from;
	const char *path_of = dladdr(function, &from) && from.dli_fname ? from.dli_fname : "",
	           *slash = strrchr(path_of, '/'), *file = slash ? slash + 1 : path_of;
	if (strncmp(file, "libcudnn", 8) != 0)
		return true; /* linked in */
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		char name[64], path[PATH_MAX];
		snprintf(name, sizeof name, "libcudnn_%s.so.9", parts[i]);
		int length = snprintf(path, sizeof path, "%.*s%s", (int)(file - path_of), path_of, name);
		bool fits = length < (int)sizeof path;
		if ((!fits || !dlopen(path, RTLD_NOW | RTLD_LOCAL)) && !dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
			snprintf(text, sizeof text, "no cuDNN: %s is there, %s is not", LIBRARY, name);
			return false;
		}
	}
	return true;
}

const hd_cudnn *hd_cuda_cudnn(void)
{
	static const char *const names[] = {LIBRARY, NULL};
	static const char *const symbols[] = {
#define X(name) "cudnn" #name,
	        HD_CUDNN_FUNCTIONS(X)
#undef X
	                NULL};
	static hd_cuda_library file = {.names = names, .symbols = symbols};
	static hd_cudnn table;
	static bool tried, found;
	if (tried)
		return found ? &table : NULL;
	tried = true;
	if (!hd_cuda_library_open(&file, &table, HD_CUDA_SLOTS(table))) {
		snprintf(text, sizeof text, "no cuDNN: %s or one of its functions is not there", LIBRARY);
		return NULL;
	}
	const void *function;
	memcpy(&function, &table, sizeof function);
	if (!open_parts(function))
		return NULL;
	size_t version = table.GetVersion();
	size_t major = version / 10000, minor = version / 100 % 100, patch = version % 100;
	found = major == CUDNN_MAJOR;
	snprintf(text, sizeof text, "%scuDNN %zu.%zu.%zu%s", found ? "" : "no cuDNN: ", major, minor, patch,
	        found ? "" : " is there, which this library was not built for");
	return found ? &table : NULL;
}

/* NULL where the library is missing or does not start. */
static const hd_cudnn *library(void)
{
	const hd_cudnn *dnn = hd_cuda_cudnn();
	if (dnn && !handle_tried) {
		cudnnStatus_t status = dnn->Create(&handle);
		if (status != CUDNN_STATUS_SUCCESS) {
			handle = NULL;
			snprintf(text, sizeof text, "no cuDNN: cudnnCreate: %d %s", (int)status,
			        dnn->GetErrorString(status));
			cudaGetLastError(); /* or the next launch finds this error */
		}
	}
	handle_tried = true;
	return handle ? dnn : NULL;
}

const char *hd_cuda_cudnn_text(void)
{
	pthread_mutex_lock(&lock);
	hd_cuda_cudnn();
	pthread_mutex_unlock(&lock);
	return text;
}

bool hd_cuda_cudnn_ready(void)
{
	pthread_mutex_lock(&lock);
	bool ready = library() != NULL;
	pthread_mutex_unlock(&lock);
	return ready;
}

#define DNN_TRY(call)                                                                                                  \
	do {                                                                                                           \
		cudnnStatus_t result_ = (call);                                                                        \
		if (result_ != CUDNN_STATUS_SUCCESS)                                                                   \
			return result_;                                                                                \
	} while (0)

static int64_t output_length(int64_t length, const hd_cudnn_shape *s)
{
	return (length + 2 * s->padding - s->taps) / s->stride + 1;
}

/* Sizes that fit cuDNN's ints and its limit on a tensor. */
static bool fits(const hd_cudnn_shape *s)
{
	int64_t most = s->C > s->K ? s->C : s->K;
	if (s->N < 1 || s->H < 1 || s->W < 1 || s->C < 1 || s->K < 1 || s->N > INT_MAX || s->H > INT_MAX ||
	        s->W > INT_MAX || most > INT_MAX || s->H + 2 * s->padding < s->taps || s->W + 2 * s->padding < s->taps)
		return false;
	return (double)s->N * (double)s->H * (double)s->W * (double)most <= (double)MOST_ELEMENTS &&
	       (double)s->K * (double)s->C * (double)(s->taps * s->taps) <= (double)MOST_ELEMENTS;
}

static cudnnStatus_t describe(const hd_cudnn *dnn, plan *p)
{
	const hd_cudnn_shape *s = &p->shape;
	int N = (int)s->N, C = (int)s->C, K = (int)s->K, taps = (int)s->taps, padding = (int)s->padding,
	    stride = (int)s->stride, down = (int)output_length(s->H, s), across = (int)output_length(s->W, s);
	DNN_TRY(dnn->CreateTensorDescriptor(&p->x));
	DNN_TRY(dnn->CreateTensorDescriptor(&p->y));
	DNN_TRY(dnn->CreateFilterDescriptor(&p->w));
	DNN_TRY(dnn->CreateConvolutionDescriptor(&p->convolution));
	/* the order of the arguments is n, c, h, w whatever the format */
	DNN_TRY(dnn->SetTensor4dDescriptor(p->x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, N, C, (int)s->H, (int)s->W));
	DNN_TRY(dnn->SetTensor4dDescriptor(p->y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, N, K, down, across));
	DNN_TRY(dnn->SetFilter4dDescriptor(p->w, CUDNN_DATA_FLOAT, s->kcrs ? CUDNN_TENSOR_NCHW : CUDNN_TENSOR_NHWC, K,
	        C / (int)s->groups, taps, taps));
	DNN_TRY(dnn->SetConvolution2dDescriptor(
	        p->convolution, padding, padding, stride, stride, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
	DNN_TRY(dnn->SetConvolutionGroupCount(p->convolution, (int)s->groups));
	/* without this, float convolutions may round their inputs to TF32 */
	DNN_TRY(dnn->SetConvolutionMathType(p->convolution, CUDNN_FMA_MATH));
	int n = 0, c = 0, h = 0, w = 0;
	DNN_TRY(dnn->GetConvolution2dForwardOutputDim(p->convolution, p->x, p->w, &n, &c, &h, &w));
	return n == N && c == K && h == down && w == across ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

static void forget(const hd_cudnn *dnn, plan *p)
{
	if (p->convolution)
		dnn->DestroyConvolutionDescriptor(p->convolution);
	if (p->w)
		dnn->DestroyFilterDescriptor(p->w);
	if (p->y)
		dnn->DestroyTensorDescriptor(p->y);
	if (p->x)
		dnn->DestroyTensorDescriptor(p->x);
	memset(p, 0, sizeof *p);
}

static void forget_all(const hd_cudnn *dnn)
{
	while (plan_count > 0)
		forget(dnn, &plans[--plan_count]);
}

/* The plan of a shape, made where it is new. */
static cudnnStatus_t find_plan(const hd_cudnn *dnn, plan **out, const hd_cudnn_shape *shape)
{
	for (int i = 0; i < plan_count; i++) {
		if (memcmp(&plans[i].shape, shape, sizeof *shape) == 0) {
			*out = &plans[i];
			return CUDNN_STATUS_SUCCESS;
		}
	}
	if (plan_count == PLANS)
		forget_all(dnn);
	plan *p = *out = &plans[plan_count];
	p->shape = *shape;
	for (int task = 0; task < HD_CUDNN_TASKS; task++)
		p->workspace_bytes[task] = UNKNOWN;
	cudnnStatus_t status = describe(dnn, p);
	if (status != CUDNN_STATUS_SUCCESS)
		forget(dnn, p);
	else
		plan_count++;
	return status;
}

static cudnnConvolutionFwdAlgo_t forward_algorithm(hd_cudnn_task task)
{
	return task == HD_CUDNN_FORWARD ? CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM
	                                : CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
}

static cudnnStatus_t ask_workspace(const hd_cudnn *dnn, plan *p, hd_cudnn_task task, size_t *bytes)
{
	switch (task) {
	case HD_CUDNN_DATA:
		return dnn->GetConvolutionBackwardDataWorkspaceSize(
		        handle, p->w, p->y, p->convolution, p->x, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, bytes);
	case HD_CUDNN_FILTER:
		return dnn->GetConvolutionBackwardFilterWorkspaceSize(
		        handle, p->x, p->y, p->convolution, p->w, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, bytes);
	default:
		return dnn->GetConvolutionForwardWorkspaceSize(
		        handle, p->x, p->w, p->convolution, p->y, forward_algorithm(task), bytes);
	}
}

typedef struct arguments {
	float *out;
	const float *data, *other;
	float beta;
	void *workspace;
} arguments;

/* With a beta of 0, as cuDNN documents, it does not read what the output held. */
static cudnnStatus_t queue(const hd_cudnn *dnn, plan *p, hd_cudnn_task task, const arguments *a)
{
	const float one = 1, zero = 0;
	size_t bytes = p->workspace_bytes[task];
	void *workspace = bytes ? a->workspace : NULL;
	switch (task) {
	case HD_CUDNN_DATA:
		return dnn->ConvolutionBackwardData(handle, &one, p->w, a->other, p->y, a->data, p->convolution,
		        CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, workspace, bytes, &zero, p->x, a->out);
	case HD_CUDNN_FILTER:
		return dnn->ConvolutionBackwardFilter(handle, &one, p->x, a->other, p->y, a->data, p->convolution,
		        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, workspace, bytes, &a->beta, p->w, a->out);
	default:
		return dnn->ConvolutionForward(handle, &one, p->x, a->data, p->w, a->other, p->convolution,
		        forward_algorithm(task), workspace, bytes, &zero, p->y, a->out);
	}
}

static hd_status refuse(const hd_cudnn *dnn, cudnnStatus_t status, const char *what, char *why, size_t bytes)
{
	cudaGetLastError(); /* or the next launch finds this error */
	snprintf(why, bytes, "%s: %d %s", what, (int)status, dnn->GetErrorString(status));
	return HD_E_UNSUPPORTED;
}

/* Under the lock. */
static hd_status convolve(hd_cudnn_task task, const hd_cudnn_shape *shape, const arguments *a, size_t workspace_bytes,
        cudaStream_t stream, char *why, size_t bytes)
{
	const hd_cudnn *dnn = library();
	plan *p = NULL;
	if (!dnn || !fits(shape)) {
		snprintf(why, bytes, "%s", dnn ? "too large for cuDNN" : text);
		return HD_E_UNSUPPORTED;
	}
	cudnnStatus_t status = find_plan(dnn, &p, shape);
	if (status != CUDNN_STATUS_SUCCESS)
		return refuse(dnn, status, "descriptors", why, bytes);
	if (p->workspace_bytes[task] == UNKNOWN) {
		size_t wanted = UNKNOWN;
		status = ask_workspace(dnn, p, task, &wanted);
		if (status != CUDNN_STATUS_SUCCESS)
			return refuse(dnn, status, "workspace size", why, bytes);
		p->workspace_bytes[task] = wanted;
	}
	if (p->workspace_bytes[task] > workspace_bytes) {
		snprintf(
		        why, bytes, "wants %zu bytes of workspace, has %zu", p->workspace_bytes[task], workspace_bytes);
		return HD_E_UNSUPPORTED;
	}
	status = dnn->SetStream(handle, stream);
	if (status == CUDNN_STATUS_SUCCESS)
		status = queue(dnn, p, task, a);
	return status == CUDNN_STATUS_SUCCESS ? HD_OK : refuse(dnn, status, "convolution", why, bytes);
}

hd_status hd_cuda_cudnn_convolve(hd_cudnn_task task, const hd_cudnn_shape *shape, float *out, const float *data,
        const float *other, float beta, void *workspace, size_t workspace_bytes, cudaStream_t stream, char *why,
        size_t bytes)
{
	arguments a = {.out = out, .data = data, .other = other, .beta = beta, .workspace = workspace};
	pthread_mutex_lock(&lock);
	hd_status st = convolve(task, shape, &a, workspace_bytes, stream, why, bytes);
	pthread_mutex_unlock(&lock);
	return st;
}

void hd_cuda_cudnn_close(void)
{
	pthread_mutex_lock(&lock);
	if (handle) {
		forget_all(hd_cuda_cudnn());
		hd_cuda_cudnn()->Destroy(handle);
	}
	handle = NULL;
	handle_tried = false;
	pthread_mutex_unlock(&lock);
}

#endif
