/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/tune_record.h"

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/tune.h"
#include "kernels/cuda/tune_file.h"

#define VERSION 1 /* of the ways: counts up when one of them changes, so that they are measured anew */
#define KEY_BYTES 1024
#define NOTES_BYTES 8192

/* Of all that follows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool ready, on, has_file;
static char path[PATH_MAX], machine[512];
static char notes[NOTES_BYTES];
static size_t notes_used;
static int holders, held = -1; /* of the file's lock */

/* Matrix products that were timed since the notes were taken. */
static struct {
	int shapes, changed, left_out;
	double first_ms, taken_ms;
	char why[HD_TUNE_WHY];
} products;

static void append(const char *format, va_list arguments)
{
	size_t left = sizeof notes - notes_used;
	int length = vsnprintf(notes + notes_used, left, format, arguments);
	/* what has no room is left out as a whole */
	if (length >= 0 && (size_t)length < left)
		notes_used += (size_t)length;
	else
		notes[notes_used] = '\0';
}

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	append(format, arguments);
	va_end(arguments);
}

void hd_cuda_tune_record_note(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	pthread_mutex_lock(&lock);
	append(format, arguments);
	pthread_mutex_unlock(&lock);
	va_end(arguments);
}

/* Once per opening of the back end. */
static void prepare(void)
{
	const char *setting = getenv("HEIMDALL_TUNING");
	int driver = 0, runtime = 0;
	if (ready)
		return;
	ready = true;
	on = !setting || strcmp(setting, "off") != 0;
	if (!on)
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
		     "a resumed run may choose otherwise\n");
}

bool hd_cuda_tune_record_on(void)
{
	pthread_mutex_lock(&lock);
	prepare();
	bool out = on;
	pthread_mutex_unlock(&lock);
	return out;
}

/* Of the file. */
static void key_of(char *out, size_t bytes, const hd_tune_subject *s)
{
	snprintf(out, bytes, "%s\t%s\t%s\t%s", machine, s->operation, s->dtype, s->sizes);
}

bool hd_cuda_tune_record_find(const hd_tune_subject *subject, int nth, char *way, size_t bytes)
{
	char key[KEY_BYTES];
	bool found = false;
	*way = '\0';
	pthread_mutex_lock(&lock);
	prepare();
	if (has_file) {
		key_of(key, sizeof key, subject);
		found = hd_cuda_tune_file_find(path, key, nth, way, bytes);
	}
	pthread_mutex_unlock(&lock);
	return found;
}

bool hd_cuda_tune_record_may_measure(cudaStream_t stream)
{
	enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
	if (cudaStreamIsCapturing(stream, &status) == cudaSuccess)
		return status == cudaStreamCaptureStatusNone;
	cudaGetLastError();
	return false;
}

void hd_cuda_tune_record_add(const hd_tune_subject *subject, const char *way, double ours_ms, double way_ms)
{
	char key[KEY_BYTES], line[KEY_BYTES + 512], why[HD_TUNE_WHY + PATH_MAX];
	pthread_mutex_lock(&lock);
	prepare();
	if (has_file) {
		key_of(key, sizeof key, subject);
		if (ours_ms >= 0)
			snprintf(line, sizeof line, "%s\t%s\t%.2f\t%.2f", key, way, 1e3 * ours_ms, 1e3 * way_ms);
		else
			snprintf(line, sizeof line, "%s\t%s\t-\t-", key, way);
		if (!hd_cuda_tune_file_add(path, line, why, sizeof why)) {
			note("tuning: %s; choices are not kept, and a resumed run may choose otherwise\n", why);
			has_file = false;
		}
	}
	pthread_mutex_unlock(&lock);
}

void hd_cuda_tune_record_lock(void)
{
	pthread_mutex_lock(&lock);
	prepare();
	if (holders++ == 0)
		held = has_file ? hd_cuda_tune_file_lock(path) : -1;
	pthread_mutex_unlock(&lock);
}

void hd_cuda_tune_record_unlock(void)
{
	pthread_mutex_lock(&lock);
	if (--holders == 0)
		hd_cuda_tune_file_unlock(held);
	pthread_mutex_unlock(&lock);
}

void hd_cuda_tune_record_product(bool changed, double first_ms, double taken_ms, int left_out, const char *why)
{
	pthread_mutex_lock(&lock);
	products.shapes++;
	products.changed += changed;
	products.first_ms += first_ms;
	products.taken_ms += taken_ms;
	products.left_out += left_out;
	if (*why)
		snprintf(products.why, sizeof products.why, "%s", why);
	pthread_mutex_unlock(&lock);
}

static void sum_up_products(void)
{
	if (products.shapes == 0)
		return;
	note("tuning: matrix products of %d shapes timed; for %d of them another algorithm than cuBLASLt's first is "
	     "taken: %.1f us in place of %.1f for one product of each",
	        products.shapes, products.changed, 1e3 * products.taken_ms, 1e3 * products.first_ms);
	if (products.left_out)
		note("; %d algorithms left out, the last as %s", products.left_out, products.why);
	note("\n");
	memset(&products, 0, sizeof products);
}

size_t hd_cuda_tune_record_take_notes(char *out, size_t bytes)
{
	pthread_mutex_lock(&lock);
	sum_up_products();
	size_t length = notes_used < bytes ? notes_used : bytes ? bytes - 1 : 0;
	if (bytes) {
		memcpy(out, notes, length);
		out[length] = '\0';
		notes_used = 0;
	}
	pthread_mutex_unlock(&lock);
	return length;
}

void hd_cuda_tune_record_close(void)
{
	pthread_mutex_lock(&lock);
	ready = on = has_file = false;
	pthread_mutex_unlock(&lock);
}
