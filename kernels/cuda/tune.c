/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/tune.h"

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/tune_file.h"
#include "kernels/cuda/tune_trial.h"

#define VERSION 1 /* of the ways: counts up when one of them changes, so that they are measured anew */
#define KEY_BYTES 768
#define NOTES_BYTES 8192

typedef struct choice {
	const hd_tune_op *op;
	int64_t size[HD_TUNE_SIZES];
	int way;
} choice;

/* Of all that follows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static choice *choices;
static size_t choice_count, choice_capacity;
static bool ready, off, has_file;
static char path[PATH_MAX], machine[512];
static char notes[NOTES_BYTES];
static size_t notes_used;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	size_t left = sizeof notes - notes_used;
	int length = vsnprintf(notes + notes_used, left, format, arguments);
	va_end(arguments);
	/* what has no room is left out as a whole */
	if (length >= 0 && (size_t)length < left)
		notes_used += (size_t)length;
	else
		notes[notes_used] = '\0';
}

/* Once per opening of the back end. */
static void prepare(void)
{
	const char *setting = getenv("HEIMDALL_TUNING");
	int driver = 0, runtime = 0;
	if (ready)
		return;
	ready = true;
	off = setting && !strcmp(setting, "off");
	if (off)
		return;
	if (cudaDriverGetVersion(&driver) != cudaSuccess || cudaRuntimeGetVersion(&runtime) != cudaSuccess)
		cudaGetLastError();
	snprintf(machine, sizeof machine, "%s sm_%d%d, driver %d, CUDA %d, %s, cuBLASLt %zu, ways %d",
	        hd_cuda_device.name, hd_cuda_device.major, hd_cuda_device.minor, driver, runtime, hd_cuda_cudnn_text(),
	        hd_cuda_cublaslt_version(), VERSION);
	for (char *c = machine; *c; c++)
		if (*c == '\t' || *c == '\n')
			*c = ' ';
	has_file = hd_cuda_tune_file_name(path, sizeof path);
	if (!has_file)
		note("tuning: no file to keep choices in, as neither HEIMDALL_TUNING, XDG_CACHE_HOME nor HOME is set; "
		     "a "
		     "resumed run may choose otherwise\n");
}

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

/* Of the file. */
static void key_of(char *out, size_t bytes, const hd_tune_op *op, const int64_t *size)
{
	char sizes[160];
	describe(sizes, sizeof sizes, op, size);
	snprintf(out, bytes, "%s\t%s\tf32\t%s", machine, op->name, sizes);
}

static choice *find(const hd_tune_op *op, const int64_t *size)
{
	for (size_t i = 0; i < choice_count; i++)
		if (choices[i].op == op && memcmp(choices[i].size, size, sizeof choices[i].size) == 0)
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
	memcpy(c->size, size, sizeof c->size);
	c->way = way;
	return way;
}

static bool is_there(const hd_tune_way *way)
{
	return way->name && (!way->there || way->there());
}

/* The file's choice; -1 where it has none, or one that is not there. */
static int look_up(const hd_tune_op *op, const int64_t *size)
{
	char key[KEY_BYTES], name[64];
	if (!has_file)
		return -1;
	key_of(key, sizeof key, op, size);
	hd_cuda_tune_file_find(path, key, name, sizeof name);
	for (int i = 0; i < HD_TUNE_WAYS && *name; i++)
		if (is_there(&op->ways[i]) && !strcmp(op->ways[i].name, name))
			return i;
	return -1;
}

static void write_down(const hd_tune_op *op, const int64_t *size, int way, double ours_ms, double way_ms)
{
	char key[KEY_BYTES], line[KEY_BYTES + 128], why[HD_TUNE_WHY + PATH_MAX];
	if (!has_file)
		return;
	key_of(key, sizeof key, op, size);
	if (ours_ms >= 0)
		snprintf(line, sizeof line, "%s\t%s\t%.2f\t%.2f", key, op->ways[way].name, 1e3 * ours_ms, 1e3 * way_ms);
	else
		snprintf(line, sizeof line, "%s\t%s\t-\t-", key, op->ways[way].name);
	if (hd_cuda_tune_file_add(path, line, why, sizeof why))
		return;
	note("tuning: %s; choices are not kept, and a resumed run may choose otherwise\n", why);
	has_file = false;
}

/* Tries and times all ways. */
static int measure(const hd_tune_op *op, const hd_tune_call *call, hd_stream *stream)
{
	char why[HD_TUNE_WHY] = "", sizes[160];
	int best = 0;
	describe(sizes, sizeof sizes, op, call->size);
	hd_trial *trial = hd_cuda_trial_begin(op, call, stream, why);
	double ours = trial ? hd_cuda_trial_time(trial, &op->ways[0], why) : -1, best_ms = ours;
	if (ours < 0)
		note("tuning: %s %s: not measured, %s stays: %s\n", op->name, sizes, op->ways[0].name, why);
	for (int i = 1; ours >= 0 && i < HD_TUNE_WAYS; i++) {
		const hd_tune_way *way = &op->ways[i];
		if (!is_there(way))
			continue;
		double ms = hd_cuda_trial_agrees(trial, way, why) ? hd_cuda_trial_time(trial, way, why) : -1;
		if (ms < 0)
			note("tuning: %s %s: %s is left out: %s\n", op->name, sizes, way->name, why);
		else if (ms < HD_TUNE_MARGIN * ours && ms < best_ms) {
			best = i;
			best_ms = ms;
		}
	}
	hd_cuda_trial_end(trial);
	write_down(op, call->size, best, ours, best_ms);
	return best;
}

static bool is_captured(cudaStream_t stream)
{
	enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
	if (cudaStreamIsCapturing(stream, &status) != cudaSuccess) {
		cudaGetLastError();
		return true; /* nothing may be measured on it */
	}
	return status != cudaStreamCaptureStatusNone;
}

static int decide(const hd_tune_op *op, const hd_tune_call *call, hd_stream *stream)
{
	int others = 0;
	for (int i = 1; i < HD_TUNE_WAYS; i++)
		others += is_there(&op->ways[i]);
	if (others == 0)
		return 0;
	int way = look_up(op, call->size);
	if (way >= 0)
		return way;
	if (is_captured(hd_cuda_stream(stream))) {
		char sizes[160];
		describe(sizes, sizeof sizes, op, call->size);
		note("tuning: %s %s: first called while a graph is captured, %s stays\n", op->name, sizes,
		        op->ways[0].name);
		write_down(op, call->size, 0, -1, -1);
		return 0;
	}
	int held = has_file ? hd_cuda_tune_file_lock(path) : -1;
	way = look_up(op, call->size); /* what another process chose in the meantime */
	if (way < 0)
		way = measure(op, call, stream);
	hd_cuda_tune_file_unlock(held);
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
	prepare();
	const choice *known = off ? NULL : find(op, call->size);
	int way = off ? 0 : known ? known->way : keep(op, call->size, decide(op, call, stream));
	pthread_mutex_unlock(&lock);
	return way;
}

/* A way that was taken and fails all the same is not taken again. */
static void give_up(const hd_tune_op *op, const hd_tune_call *call, int way, const char *why)
{
	char sizes[160];
	describe(sizes, sizeof sizes, op, call->size);
	pthread_mutex_lock(&lock);
	choice *c = find(op, call->size);
	if (c && c->way == way) {
		note("tuning: %s %s: %s fails, %s takes its place: %s\n", op->name, sizes, op->ways[way].name,
		        op->ways[0].name, why);
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

size_t hd_cuda_tune_notes(char *out, size_t bytes)
{
	pthread_mutex_lock(&lock);
	size_t length = notes_used < bytes ? notes_used : bytes ? bytes - 1 : 0;
	if (bytes) {
		memcpy(out, notes, length);
		out[length] = '\0';
		notes_used = 0;
	}
	pthread_mutex_unlock(&lock);
	return length;
}

void hd_cuda_tune_close(void)
{
	pthread_mutex_lock(&lock);
	free(choices);
	choices = NULL;
	choice_count = choice_capacity = 0;
	ready = off = has_file = false;
	pthread_mutex_unlock(&lock);
}
