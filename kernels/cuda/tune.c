/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/tune.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/product.h"
#include "kernels/cuda/tune_record.h"
#include "kernels/cuda/tune_trial.h"

#define DESCRIPTION_BYTES 160

typedef struct choice {
	const hd_tune_op *op;
	int64_t size[HD_TUNE_SIZES];
	bool tf32; /* products may round their inputs to it */
	int way;
} choice;

/* Of all that follows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static choice *choices;
static size_t choice_count, choice_capacity;
static hd_conv conv = HD_CONV_AUTO;

/* "N=32 H=32 W=8 C=192" */
static void describe(char *out, size_t bytes, const hd_tune_op *op, const int64_t *size)
{
	size_t at = 0;
	const char *name = op->sizes;
	*out = '\0';
	for (int i = 0; i < HD_TUNE_SIZES && *name && at < bytes; i++) {
		int length = (int)strcspn(name, " ");
		at += (size_t)snprintf(out + at, bytes - at, "%s%.*s=%ld", i ? " " : "", length, name, (long)size[i]);
		name += length + (name[length] == ' ');
	}
}

static choice *find(const hd_tune_op *op, const int64_t *size)
{
	bool tf32 = hd_cuda_linear_tf32();
	for (size_t i = 0; i < choice_count; i++)
		if (choices[i].op == op && choices[i].tf32 == tf32 &&
		        memcmp(choices[i].size, size, sizeof choices[i].size) == 0)
			return &choices[i];
	return NULL;
}

/* Out of memory: the choice, which is then ours, is made again at the next call. */
static int keep(const hd_tune_op *op, const int64_t *size, int way)
{
	if (choice_count == choice_capacity) {
		size_t capacity = choice_capacity ? 2 * choice_capacity : 32;
		choice *larger = realloc(choices, capacity * sizeof *choices);
		if (!larger)
			return 0;
		choices = larger;
		choice_capacity = capacity;
	}
	choice *c = &choices[choice_count++];
	c->op = op;
	c->tf32 = hd_cuda_linear_tf32();
	memcpy(c->size, size, sizeof c->size);
	c->way = way;
	return way;
}

static bool is_cudnn(const hd_tune_way *way)
{
	return strncmp(way->name, HD_TUNE_CUDNN, strlen(HD_TUNE_CUDNN)) == 0;
}

/* There, and of those that the setting lets take part; ours always does. */
static bool is_there(const hd_tune_op *op, int i)
{
	const hd_tune_way *way = &op->ways[i];
	if (!way->name || (i > 0 && conv != HD_CONV_AUTO && is_cudnn(way) != (conv == HD_CONV_CUDNN)))
		return false;
	return !way->there || way->there();
}

/* What the file calls a choice: those that a setting narrows do not mix with the others. */
typedef struct subject {
	char operation[64], sizes[DESCRIPTION_BYTES];
	hd_tune_subject is;
} subject;

static const hd_tune_subject *subject_of(subject *s, const hd_tune_op *op, const int64_t *size)
{
	static const char *const narrowed[] = {"", " by cudnn", " by own"};
	snprintf(s->operation, sizeof s->operation, "%s%s", op->name, narrowed[conv]);
	describe(s->sizes, sizeof s->sizes, op, size);
	s->is = (hd_tune_subject){s->operation, hd_cuda_linear_tf32() ? "tf32" : "f32", s->sizes};
	return &s->is;
}

/* The file's choice; -1 where it has none, or one that is not there. */
static int look_up(const hd_tune_op *op, const int64_t *size)
{
	subject s = {.sizes = ""};
	char name[64];
	subject_of(&s, op, size);
	for (int nth = 0; hd_cuda_tune_record_find(&s.is, nth, name, sizeof name); nth++)
		for (int i = 0; i < HD_TUNE_WAYS; i++)
			if (is_there(op, i) && !strcmp(op->ways[i].name, name))
				return i;
	return -1;
}

static void write_down(const hd_tune_op *op, const int64_t *size, int way, double ours_ms, double way_ms)
{
	subject s = {.sizes = ""};
	hd_cuda_tune_record_add(subject_of(&s, op, size), op->ways[way].name, ours_ms, way_ms);
}

/* Tries and times all ways. */
static int measure(const hd_tune_op *op, const hd_tune_call *call, hd_stream *stream)
{
	char why[HD_TUNE_WHY] = "", sizes[DESCRIPTION_BYTES];
	/* of a setting that wants cuDNN, any way of it is better than ours */
	double enough = conv == HD_CONV_CUDNN ? INFINITY : HD_TUNE_MARGIN;
	int best = 0;
	describe(sizes, sizeof sizes, op, call->size);
	hd_trial *trial = hd_cuda_trial_begin(op, call, stream, why);
	double ours = trial ? hd_cuda_trial_time(trial, &op->ways[0], why) : -1, best_ms = ours;
	if (ours < 0)
		hd_cuda_tune_record_note(
		        "tuning: %s %s: not measured, %s stays: %s\n", op->name, sizes, op->ways[0].name, why);
	for (int i = 1; ours >= 0 && i < HD_TUNE_WAYS; i++) {
		const hd_tune_way *way = &op->ways[i];
		if (!is_there(op, i))
			continue;
		double ms = hd_cuda_trial_agrees(trial, way, why) ? hd_cuda_trial_time(trial, way, why) : -1;
		if (ms < 0)
			hd_cuda_tune_record_note(
			        "tuning: %s %s: %s is left out: %s\n", op->name, sizes, way->name, why);
		else if (best ? ms < best_ms : ms < enough * ours) {
			best = i;
			best_ms = ms;
		}
	}
	hd_cuda_trial_end(trial);
	if (ours >= 0)
		hd_cuda_tune_record_note("tuning: %s %s: by %s, %.4f ms; %s %.4f\n", op->name, sizes,
		        op->ways[best].name, best_ms, op->ways[0].name, ours);
	write_down(op, call->size, best, ours, best_ms);
	return best;
}

/* Without measuring: ours, or the first of cuDNN where that is what the setting wants. */
static int decide_unmeasured(const hd_tune_op *op)
{
	for (int i = 1; conv == HD_CONV_CUDNN && i < HD_TUNE_WAYS; i++)
		if (is_there(op, i))
			return i;
	return 0;
}

static int decide(const hd_tune_op *op, const hd_tune_call *call, hd_stream *stream)
{
	int others = 0;
	for (int i = 1; i < HD_TUNE_WAYS; i++)
		others += is_there(op, i);
	if (others == 0)
		return 0;
	int way = look_up(op, call->size);
	if (way >= 0)
		return way;
	if (!hd_cuda_tune_record_may_measure(hd_cuda_stream(stream))) {
		char sizes[DESCRIPTION_BYTES];
		way = decide_unmeasured(op);
		describe(sizes, sizeof sizes, op, call->size);
		hd_cuda_tune_record_note("tuning: %s %s: first called while a graph is captured, %s stays\n", op->name,
		        sizes, op->ways[way].name);
		write_down(op, call->size, way, -1, -1);
		return way;
	}
	hd_cuda_tune_record_lock();
	way = look_up(op, call->size); /* what another process chose in the meantime */
	if (way < 0)
		way = measure(op, call, stream);
	hd_cuda_tune_record_unlock();
	return way;
}

static bool is_empty(const hd_tune_op *op, const int64_t *size)
{
	return op->out_count(size, 0) <= 0 || op->in_count(size, 0) <= 0;
}

static int choose(const hd_tune_op *op, const hd_tune_call *call, hd_stream *stream)
{
	if (call->dt != HD_F32 || is_empty(op, call->size))
		return 0;
	pthread_mutex_lock(&lock);
	const choice *known = find(op, call->size);
	int way = known ? known->way
	                : keep(op, call->size,
	                          hd_cuda_tune_record_on() ? decide(op, call, stream) : decide_unmeasured(op));
	pthread_mutex_unlock(&lock);
	return way;
}

/* A way that was taken and fails all the same is not taken again. */
static void give_up(const hd_tune_op *op, const hd_tune_call *call, int way, const char *why)
{
	char sizes[DESCRIPTION_BYTES];
	describe(sizes, sizeof sizes, op, call->size);
	pthread_mutex_lock(&lock);
	choice *c = find(op, call->size);
	if (c && c->way == way) {
		hd_cuda_tune_record_note("tuning: %s %s: %s fails, %s takes its place: %s\n", op->name, sizes,
		        op->ways[way].name, op->ways[0].name, why);
		c->way = 0;
	}
	pthread_mutex_unlock(&lock);
}

hd_status hd_cuda_tune_run(const hd_tune_op *op, const hd_tune_call *call, hd_stream *stream)
{
	char why[HD_TUNE_WHY] = "";
	int way = choose(op, call, stream);
	hd_status st = op->ways[way].run(call, stream, why);
	if (way == 0 || st != HD_E_UNSUPPORTED)
		return st;
	cudaGetLastError(); /* or the next launch finds this error */
	give_up(op, call, way, why);
	return op->ways[0].run(call, stream, why);
}

const char *hd_cuda_tune_chosen(const hd_tune_op *op, const hd_tune_call *call)
{
	pthread_mutex_lock(&lock);
	const choice *known = find(op, call->size);
	const char *name = known ? op->ways[known->way].name : NULL;
	pthread_mutex_unlock(&lock);
	return name;
}

void hd_cuda_tune_conv(hd_conv wanted)
{
	pthread_mutex_lock(&lock);
	conv = wanted;
	choice_count = 0;
	pthread_mutex_unlock(&lock);
}

size_t hd_cuda_tune_notes(char *out, size_t bytes)
{
	return hd_cuda_tune_record_take_notes(out, bytes);
}

void hd_cuda_tune_close(void)
{
	pthread_mutex_lock(&lock);
	free(choices);
	choices = NULL;
	choice_count = choice_capacity = 0;
	pthread_mutex_unlock(&lock);
	hd_cuda_tune_record_close();
}
