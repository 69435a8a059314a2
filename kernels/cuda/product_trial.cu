/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/product_trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/tune.h"
#include "kernels/cuda/turn.h"

#define BETA 0.5f
#define WARM_UP 2
#define SAMPLES 7
#define SAMPLE_MS 0.2 /* a sample is as many calls as take about this long ... */
#define CALLS_MAX 50  /* ... but at most */
#define COPIES_MAX 8  /* of the operands, to have twice the L2 cache of them */
#define TF32_ERROR 0x1p-9
#define PARTS 4 /* a, b, c, bias */
#define UNIT ((size_t)256)

/* The first element out of its bounds and the first of other bits; UINT64_MAX where there is none. */
struct hd_product_finding {
	unsigned long long off, other;
};

struct hd_product_bounds {
	float sum, own, least; /* of the terms' sum, of the result, and what numbers near 0 are off by */
};

namespace
{

/*
 * found      out; got, again, want, magnitude in (n) of T
 *
 * The smallest index of either fault: integers, so that the order of threads does not matter. Bytes: four times c.
 * Threads in turn over all elements. Once per algorithm and shape: no goal.
 */
template <typename T>
__global__ void __launch_bounds__(HD_MAP_THREADS)
        compare_kernel(hd_product_finding *found, const T *__restrict__ got, const T *__restrict__ again,
                const T *__restrict__ want, const T *__restrict__ magnitude, hd_product_bounds limit, int64_t n)
{
	int64_t threads = (int64_t)gridDim.x * blockDim.x;
	for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads) {
		float value = hd_widen(got[i]), right = hd_widen(want[i]);
		float bound = limit.sum * hd_widen(magnitude[i]) + limit.own * fabsf(right) + limit.least;
		/* unequal is spelled so that NaN on either side fails */
		if (!(fabsf(value - right) <= bound))
			atomicMin(&found->off, (unsigned long long)i);
		if (__float_as_uint(value) != __float_as_uint(hd_widen(again[i])))
			atomicMin(&found->other, (unsigned long long)i);
	}
}

} /* namespace */

struct hd_product_trial {
	hd_product product; /* without operands */
	hd_dtype result;
	cudaStream_t stream;
	char *memory;
	size_t offset[PARTS], set_bytes; /* of an operand in a set */
	int64_t count[PARTS];
	int copies;
	hd_product_bounds limit;
	char *got, *again, *want[2], *magnitude[2]; /* c; by beta */
	hd_product_finding *found;
	cudaEvent_t from, to;
};

namespace
{

/* Writes CUDA's error where there is one. */
bool good(cudaError_t error, char *why)
{
	if (error == cudaSuccess)
		return true;
	cudaGetLastError(); /* or the next launch finds this error */
	snprintf(why, HD_TUNE_WHY, "%s: %s", cudaGetErrorName(error), cudaGetErrorString(error));
	return false;
}

size_t bytes_of(hd_dtype dt)
{
	return dt == HD_F32 ? sizeof(float) : sizeof(uint16_t);
}

hd_dtype type_of_part(const hd_product_trial *t, int part)
{
	return part == 2 ? t->result : t->product.dt;
}

size_t part_bytes(const hd_product_trial *t, int part)
{
	return (size_t)t->count[part] * bytes_of(type_of_part(t, part));
}

int betas(const hd_product_trial *t)
{
	return t->result == HD_F32 && !t->count[3] ? 2 : 1;
}

hd_product operands(const hd_product_trial *t, int copy, float beta)
{
	hd_product p = t->product;
	char *set = t->memory + (size_t)copy * t->set_bytes;
	p.a = set + t->offset[0];
	p.b = set + t->offset[1];
	p.c = set + t->offset[2];
	p.bias = t->count[3] ? set + t->offset[3] : NULL;
	p.beta = beta;
	return p;
}

/* Where the parts lie: each starts on its alignment and on no larger one. */
void lay_out(hd_product_trial *t, const unsigned *alignment)
{
	const hd_product *p = &t->product;
	const int64_t count[PARTS] = {p->m * p->k, p->k * p->n, p->m * p->n, p->bias ? p->n : 0};
	size_t at = 0;
	for (int i = 0; i < PARTS; i++) {
		t->count[i] = count[i];
		t->offset[i] = at + alignment[i] % UNIT;
		at = (t->offset[i] + part_bytes(t, i) + UNIT - 1) / UNIT * UNIT;
	}
	t->set_bytes = at;
	size_t wanted = (2 * (size_t)hd_cuda_device.l2CacheSize + at - 1) / at;
	t->copies = wanted < 1 ? 1 : wanted > COPIES_MAX ? COPIES_MAX : (int)wanted;
}

void set_limit(hd_product_trial *t, bool tf32)
{
	const hd_product *p = &t->product;
	double n = (double)(p->k + 1), c = fmin(n, 6 * sqrt(n)) / 2 + 1;
	double own = t->result == HD_F32 ? 0x1p-23 : t->result == HD_BF16 ? 0x1p-7 : 0x1p-10;
	t->limit.sum = (float)(2 * (c * 0x1p-23 + (tf32 ? TF32_ERROR : 0)) * (1 + own));
	t->limit.own = (float)(2 * own);
	t->limit.least = t->result == HD_F16 ? 0x1p-23f : 0.0f; /* the spacing of halfs below 2^-14, twice */
}

bool take_memory(hd_product_trial *t, char *why)
{
	size_t bytes = part_bytes(t, 2);
	char **const results[] = {&t->got, &t->again, &t->want[0], &t->magnitude[0], &t->want[1], &t->magnitude[1]};
	for (int i = 0; i < 2 + 2 * betas(t); i++)
		if (!good(cudaMalloc(reinterpret_cast<void **>(results[i]), bytes), why))
			return false;
	return good(cudaMalloc(reinterpret_cast<void **>(&t->memory), (size_t)t->copies * t->set_bytes), why) &&
	       good(cudaMalloc(reinterpret_cast<void **>(&t->found), sizeof *t->found), why) &&
	       good(cudaEventCreate(&t->from), why) && good(cudaEventCreate(&t->to), why);
}

/* c: NaN with beta 0, so that a way that adds to it shows. */
bool fill(const hd_product_trial *t, int copy, bool absolute, float beta, char *why)
{
	hd_product p = operands(t, copy, beta);
	void *const part[PARTS] = {const_cast<void *>(p.a), const_cast<void *>(p.b), p.c, const_cast<void *>(p.bias)};
	if (!good(cudaMemsetAsync(p.c, 0xff, part_bytes(t, 2), t->stream), why))
		return false;
	for (int i = 0; i < PARTS; i++) {
		if (i == 2 && beta == 0)
			continue;
		hd_status st = hd_cuda_fill_random(
		        part[i], type_of_part(t, i), t->count[i], (uint32_t)i + 1, absolute, t->stream);
		if (st != HD_OK) {
			snprintf(why, HD_TUNE_WHY, "the operands of the trial could not be made");
			return false;
		}
	}
	return true;
}

/* One product of fresh operands to `out`, waited for. */
bool run(const hd_product_trial *t, const hd_product_way *way, bool absolute, float beta, void *out, char *why)
{
	hd_product p = operands(t, 0, beta);
	if (!fill(t, 0, absolute, beta, why))
		return false;
	bool queued = way->queue(way->state, &p, why);
	if (!good(cudaStreamSynchronize(t->stream), why))
		return false;
	cudaGetLastError(); /* of what was refused: or the next launch finds it */
	return queued && good(cudaMemcpyAsync(out, p.c, part_bytes(t, 2), cudaMemcpyDeviceToDevice, t->stream), why) &&
	       good(cudaStreamSynchronize(t->stream), why);
}

bool queue_own(const void *state, const hd_product *p, char *why)
{
	const hd_product_trial *t = static_cast<const hd_product_trial *>(state);
	if (hd_cuda_gemm(p, t->stream) == HD_OK)
		return true;
	snprintf(why, HD_TUNE_WHY, "the own kernel fails");
	return false;
}

bool run_own(hd_product_trial *t, char *why)
{
	const hd_product_way own = {queue_own, t};
	for (int b = 0; b < betas(t); b++)
		if (!run(t, &own, false, b ? BETA : 0, t->want[b], why) ||
		        !run(t, &own, true, b ? BETA : 0, t->magnitude[b], why))
			return false;
	for (int i = 1; i < t->copies; i++)
		if (!fill(t, i, false, 0, why))
			return false;
	return true;
}

template <typename T> void launch_compare(const hd_product_trial *t, int b)
{
	int64_t n = t->count[2];
	compare_kernel<T><<<hd_cuda_map_grid(n), HD_MAP_THREADS, 0, t->stream>>>(t->found,
	        reinterpret_cast<const T *>(t->got), reinterpret_cast<const T *>(t->again),
	        reinterpret_cast<const T *>(t->want[b]), reinterpret_cast<const T *>(t->magnitude[b]), t->limit, n);
}

hd_status launch_compare_of_type(const hd_product_trial *t, int b)
{
	HD_BY_DTYPE(product_trial, t->result, launch_compare<T>(t, b));
	return HD_CUDA_LAUNCHED(product_trial);
}

bool compare(const hd_product_trial *t, int b, char *why)
{
	hd_product_finding found;
	if (!good(cudaMemsetAsync(t->found, 0xff, sizeof found, t->stream), why))
		return false;
	if (launch_compare_of_type(t, b) != HD_OK) {
		snprintf(why, HD_TUNE_WHY, "the results could not be compared");
		return false;
	}
	if (!good(cudaMemcpyAsync(&found, t->found, sizeof found, cudaMemcpyDeviceToHost, t->stream), why) ||
	        !good(cudaStreamSynchronize(t->stream), why))
		return false;
	if (found.off != UINT64_MAX)
		snprintf(why, HD_TUNE_WHY, "element %llu is further from the own kernel's than rounding explains",
		        found.off);
	else if (found.other != UINT64_MAX)
		snprintf(why, HD_TUNE_WHY, "element %llu has other bits the second time", found.other);
	return found.off == UINT64_MAX && found.other == UINT64_MAX;
}

/* A graph of so many calls; NULL with the reason in why. */
cudaGraphExec_t record(hd_product_trial *t, const hd_product_way *way, int calls, char *why)
{
	cudaGraph_t graph = NULL;
	cudaGraphExec_t out = NULL;
	bool queued = true;
	if (!good(cudaStreamBeginCapture(t->stream, cudaStreamCaptureModeThreadLocal), why))
		return NULL;
	for (int i = 0; queued && i < calls; i++) {
		hd_product p = operands(t, i % t->copies, 0);
		queued = way->queue(way->state, &p, why);
	}
	char end[HD_TUNE_WHY];
	bool ended = good(cudaStreamEndCapture(t->stream, &graph), queued ? why : end);
	if (queued && ended && !good(cudaGraphInstantiate(&out, graph, 0), why))
		out = NULL;
	if (graph)
		cudaGraphDestroy(graph);
	return out;
}

/* Time of a launch in ms; below 0 where it fails. */
double sample(hd_product_trial *t, cudaGraphExec_t graph, char *why)
{
	float ms = -1;
	if (!good(cudaEventRecord(t->from, t->stream), why) || !good(cudaGraphLaunch(graph, t->stream), why) ||
	        !good(cudaEventRecord(t->to, t->stream), why) || !good(cudaEventSynchronize(t->to), why) ||
	        !good(cudaEventElapsedTime(&ms, t->from, t->to), why))
		return -1;
	return (double)ms;
}

int by_size(const void *a, const void *b)
{
	double x = *static_cast<const double *>(a), y = *static_cast<const double *>(b);
	return (x > y) - (x < y);
}

/* Median of samples of a graph of so many calls, per call. */
double time_calls(hd_product_trial *t, const hd_product_way *way, int calls, int samples, char *why)
{
	double ms[SAMPLES];
	cudaGraphExec_t graph = record(t, way, calls, why);
	if (!graph)
		return -1;
	for (int i = -WARM_UP; i < samples; i++) {
		double one = sample(t, graph, why) / calls;
		ms[i < 0 ? 0 : i] = one;
		if (one < 0)
			samples = 0;
	}
	cudaGraphExecDestroy(graph);
	if (samples == 0)
		return -1;
	qsort(ms, (size_t)samples, sizeof *ms, by_size);
	return ms[samples / 2];
}

} /* namespace */

hd_product_trial *hd_cuda_product_trial_begin(
        const hd_product *wanted, const unsigned alignment[4], bool tf32, cudaStream_t stream, char *why)
{
	hd_product_trial *t = static_cast<hd_product_trial *>(calloc(1, sizeof *t));
	if (!t) {
		snprintf(why, HD_TUNE_WHY, "out of memory");
		return NULL;
	}
	t->product = *wanted;
	t->result = hd_product_result(wanted);
	t->stream = stream;
	lay_out(t, alignment);
	set_limit(t, tf32);
	if (take_memory(t, why) && run_own(t, why))
		return t;
	hd_cuda_product_trial_end(t);
	return NULL;
}

bool hd_cuda_product_trial_agrees(hd_product_trial *t, const hd_product_way *way, char *why)
{
	for (int b = 0; b < betas(t); b++)
		if (!run(t, way, false, b ? BETA : 0, t->got, why) ||
		        !run(t, way, false, b ? BETA : 0, t->again, why) || !compare(t, b, why))
			return false;
	return true;
}

double hd_cuda_product_trial_time(hd_product_trial *t, const hd_product_way *way, char *why)
{
	double once = time_calls(t, way, 1, 1, why);
	if (once < 0)
		return -1;
	int calls = once * CALLS_MAX > SAMPLE_MS ? (int)(SAMPLE_MS / once) + 1 : CALLS_MAX;
	return time_calls(t, way, calls, SAMPLES, why);
}

void hd_cuda_product_trial_end(hd_product_trial *t)
{
	if (!t)
		return;
	if (t->to)
		cudaEventDestroy(t->to);
	if (t->from)
		cudaEventDestroy(t->from);
	cudaFree(t->found);
	cudaFree(t->memory);
	for (int b = 0; b < 2; b++) {
		cudaFree(t->magnitude[b]);
		cudaFree(t->want[b]);
	}
	cudaFree(t->again);
	cudaFree(t->got);
	free(t);
}
