/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/tune_trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/product.h"
#include "kernels/cuda/turn.h"

#define BETA 0.5f
#define WARM_UP 2
#define SAMPLES 7
#define SAMPLE_MS 0.2 /* a sample is as many calls as take about this long ... */
#define CALLS_MAX 100 /* ... but at most */
#define EPS 0x1p-23
#define TF32_ERROR 0x1p-9 /* of a product whose factors are cut to 11 bits, relative */

/* Outputs on the host, all beta after beta: (2, elements). */
typedef struct results {
	float *of[HD_TUNE_OUTPUTS];
} results;

struct hd_trial {
	const hd_tune_op *op;
	hd_tune_call call; /* on the trial's own device memory */
	hd_stream *stream;
	cudaStream_t cuda;
	int64_t out_count[HD_TUNE_OUTPUTS], in_count[HD_TUNE_INPUTS];
	cudaEvent_t from, to;
	results want, size, got, again; /* ours, ours of absolute values, another's twice */
};

static int betas(const hd_trial *t)
{
	return t->op->scaled ? 2 : 1;
}

/* Writes CUDA's error where there is one. */
static bool good(cudaError_t error, char *why)
{
	if (error == cudaSuccess)
		return true;
	cudaGetLastError(); /* or the next launch finds this error */
	snprintf(why, HD_TUNE_WHY, "%s: %s", cudaGetErrorName(error), cudaGetErrorString(error));
	return false;
}

static bool take_device(void **out, size_t bytes, char *why)
{
	*out = NULL;
	return good(cudaMalloc(out, bytes ? bytes : 1), why);
}

static bool take_results(const hd_trial *t, results *out, char *why)
{
	for (int i = 0; i < HD_TUNE_OUTPUTS; i++) {
		out->of[i] = calloc((size_t)(betas(t) * t->out_count[i]) + 1, sizeof(float));
		if (!out->of[i]) {
			snprintf(why, HD_TUNE_WHY, "out of memory");
			return false;
		}
	}
	return true;
}

static bool take_memory(hd_trial *t, char *why)
{
	const int64_t *size = t->call.size;
	void *p;
	for (int i = 0; i < HD_TUNE_OUTPUTS; i++) {
		t->out_count[i] = t->op->out_count(size, i);
		if (t->out_count[i] > 0 && !take_device(&t->call.out[i], (size_t)t->out_count[i] * sizeof(float), why))
			return false;
	}
	for (int i = 0; i < HD_TUNE_INPUTS; i++) {
		t->in_count[i] = t->op->in_count(size, i);
		if (t->in_count[i] > 0 && !take_device(&p, (size_t)t->in_count[i] * sizeof(float), why))
			return false;
		t->call.in[i] = t->in_count[i] > 0 ? p : NULL;
	}
	return take_device(&t->call.work, t->op->work_bytes(size), why) && take_results(t, &t->want, why) &&
	       take_results(t, &t->size, why) && take_results(t, &t->got, why) && take_results(t, &t->again, why) &&
	       good(cudaEventCreate(&t->from), why) && good(cudaEventCreate(&t->to), why);
}

/* NaN with beta 0: a way that adds to it shows. */
static bool fill(hd_trial *t, bool absolute, float beta, char *why)
{
	hd_status st = HD_OK;
	for (int i = 0; st == HD_OK && i < HD_TUNE_INPUTS; i++)
		st = hd_cuda_fill_random(
		        (void *)t->call.in[i], HD_F32, t->in_count[i], (uint32_t)i + 1, absolute, t->cuda);
	for (int i = 0; st == HD_OK && i < HD_TUNE_OUTPUTS; i++) {
		size_t bytes = (size_t)t->out_count[i] * sizeof(float);
		if (beta != 0)
			st = hd_cuda_fill_random(
			        t->call.out[i], HD_F32, t->out_count[i], (uint32_t)i + 101, absolute, t->cuda);
		else if (bytes && !good(cudaMemsetAsync(t->call.out[i], 0xff, bytes, t->cuda), why))
			return false;
	}
	if (st != HD_OK)
		snprintf(why, HD_TUNE_WHY, "the inputs of the trial could not be made");
	return st == HD_OK;
}

/* One call by a way; waits for it. */
static bool call(hd_trial *t, const hd_tune_way *way, char *why)
{
	*why = '\0';
	hd_status st = way->run(&t->call, t->stream, why);
	if (!good(cudaStreamSynchronize(t->cuda), why))
		return false;
	if (st != HD_OK)
		cudaGetLastError(); /* or the next launch finds this error */
	if (st != HD_OK && !*why)
		snprintf(why, HD_TUNE_WHY, "failed with status %d", (int)st);
	return st == HD_OK;
}

static bool run(hd_trial *t, const hd_tune_way *way, bool absolute, results *out, char *why)
{
	for (int b = 0; b < betas(t); b++) {
		t->call.beta = b ? BETA : 0;
		if (!fill(t, absolute, t->call.beta, why) || !call(t, way, why))
			return false;
		for (int i = 0; i < HD_TUNE_OUTPUTS; i++) {
			size_t bytes = (size_t)t->out_count[i] * sizeof(float);
			if (bytes && !good(cudaMemcpyAsync(out->of[i] + b * t->out_count[i], t->call.out[i], bytes,
			                           cudaMemcpyDeviceToHost, t->cuda),
			                     why))
				return false;
		}
		if (!good(cudaStreamSynchronize(t->cuda), why))
			return false;
	}
	return true;
}

hd_trial *hd_cuda_trial_begin(const hd_tune_op *op, const hd_tune_call *wanted, hd_stream *stream, char *why)
{
	hd_trial *t = calloc(1, sizeof *t);
	if (!t) {
		snprintf(why, HD_TUNE_WHY, "out of memory");
		return NULL;
	}
	t->op = op;
	t->call.dt = wanted->dt;
	memcpy(t->call.size, wanted->size, sizeof t->call.size);
	t->stream = stream;
	t->cuda = hd_cuda_stream(stream);
	if (take_memory(t, why) && run(t, &op->ways[0], false, &t->want, why) &&
	        run(t, &op->ways[0], true, &t->size, why))
		return t;
	hd_cuda_trial_end(t);
	return NULL;
}

static uint32_t bits(float value)
{
	uint32_t out;
	memcpy(&out, &value, sizeof out);
	return out;
}

static bool compare(const hd_trial *t, char *why)
{
	double n = (double)t->op->terms(t->call.size), c = fmin(n, 6 * sqrt(n)) / 2 + 1;
	double sum = c * EPS + (hd_cuda_linear_tf32() ? TF32_ERROR : 0);
	for (int i = 0; i < HD_TUNE_OUTPUTS; i++) {
		for (int64_t at = 0; at < betas(t) * t->out_count[i]; at++) {
			double want = (double)t->want.of[i][at], got = (double)t->got.of[i][at];
			double bound = 2 * (sum * (double)t->size.of[i][at] + EPS * fabs(want));
			/* unequal is spelled so that NaN on either side fails */
			if (!(fabs(got - want) <= bound)) {
				snprintf(why, HD_TUNE_WHY, "output %d, index %ld: %.9g, ours %.9g, bound %.3g", i,
				        (long)(at % t->out_count[i]), got, want, bound);
				return false;
			}
			if (bits(t->got.of[i][at]) != bits(t->again.of[i][at])) {
				snprintf(why, HD_TUNE_WHY, "output %d, index %ld: %.9g, the second time %.9g", i,
				        (long)(at % t->out_count[i]), got, (double)t->again.of[i][at]);
				return false;
			}
		}
	}
	return true;
}

bool hd_cuda_trial_agrees(hd_trial *t, const hd_tune_way *way, char *why)
{
	return run(t, way, false, &t->got, why) && run(t, way, false, &t->again, why) && compare(t, why);
}

/* Time of so many calls in ms; below 0 where something fails. */
static double sample(hd_trial *t, const hd_tune_way *way, int calls, char *why)
{
	float ms = -1;
	hd_status st = HD_OK;
	if (!good(cudaEventRecord(t->from, t->cuda), why))
		return -1;
	for (int i = 0; st == HD_OK && i < calls; i++)
		st = way->run(&t->call, t->stream, why);
	if (st != HD_OK || !good(cudaEventRecord(t->to, t->cuda), why) || !good(cudaEventSynchronize(t->to), why) ||
	        !good(cudaEventElapsedTime(&ms, t->from, t->to), why))
		return -1;
	return (double)ms;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double hd_cuda_trial_time(hd_trial *t, const hd_tune_way *way, char *why)
{
	double ms[SAMPLES];
	t->call.beta = 0;
	if (!fill(t, false, 0, why))
		return -1;
	for (int i = 0; i < WARM_UP; i++)
		if (!call(t, way, why))
			return -1;
	double once = sample(t, way, 1, why);
	if (once < 0)
		return -1;
	int calls = once * CALLS_MAX > SAMPLE_MS ? (int)(SAMPLE_MS / once) + 1 : CALLS_MAX;
	for (int i = 0; i < SAMPLES; i++) {
		ms[i] = sample(t, way, calls, why) / calls;
		if (ms[i] < 0)
			return -1;
	}
	qsort(ms, SAMPLES, sizeof *ms, by_size);
	return ms[SAMPLES / 2];
}

void hd_cuda_trial_end(hd_trial *t)
{
	if (!t)
		return;
	if (t->to)
		cudaEventDestroy(t->to);
	if (t->from)
		cudaEventDestroy(t->from);
	for (int i = 0; i < HD_TUNE_OUTPUTS; i++) {
		free(t->again.of[i]);
		free(t->got.of[i]);
		free(t->size.of[i]);
		free(t->want.of[i]);
		cudaFree(t->call.out[i]);
	}
	for (int i = 0; i < HD_TUNE_INPUTS; i++)
		cudaFree((void *)t->call.in[i]);
	cudaFree(t->call.work);
	free(t);
}
