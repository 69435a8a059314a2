/* SPDX-License-Identifier: Apache-2.0 */
/* A small ConvNeXt on the CPU and the golden file of PyTorch's numbers that it is held against. */
#ifndef HD_TESTS_SMALL_MODEL_H
#define HD_TESTS_SMALL_MODEL_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/model.h"
#include "heimdall/safetensors.h"

#define TOLERANCE 1e-4      /* relative to the tensor's largest value, as golden values are exact to 1e-12 */
#define SMALL_GRADIENT 1e-2 /* a tensor's gradient below this share of the whole one's norm counts as this much */
#define ROWS_MAX 4

static const hd_model_config small = {
        .backbone = {"small-test", {1, 1, 2, 1}, {8, 16, 24, 32}, false},
        .channels = 3,
        .height = 64,
        .width = 32,
        .batch = ROWS_MAX, /* a row of weight 0 fills up where the golden batch has three */
        .head_layers = 2,
        .head_widths = {128, 64},
        .layer_decay = 1,
        .loss = {.lo = 0.01f, .hi = 1.0f},
};

typedef struct fixture {
	hd_backend *backend;
	hd_model *model;
	hd_safetensors golden;
	const char *path;
} fixture;

static inline const float *golden(const fixture *f, const char *prefix, const char *name, int64_t count)
{
	char key[128];
	snprintf(key, sizeof key, "%s%s", prefix, name);
	const hd_tensor *t = hd_safetensors_find(&f->golden, key);
	cr_assert_not_null(t, "%s: no tensor %s", f->path, key);
	cr_assert_eq(t->bytes, (size_t)count * sizeof(float), "%s: %s has %zu bytes, want %zu", f->path, key, t->bytes,
	        (size_t)count * sizeof(float));
	return t->data;
}

/* floor: what a tensor's largest value counts as at least, for one that is 0 but for rounding. */
static inline void expect_near(const char *what, const float *got, const float *want, int64_t n, double floor)
{
	double largest = floor;
	for (int64_t i = 0; i < n; i++)
		largest = fmax(largest, fabs((double)want[i]));
	for (int64_t i = 0; i < n; i++) {
		double error = fabs((double)got[i] - (double)want[i]);
		cr_assert(error <= TOLERANCE * largest, "%s[%ld]: got %.9g, want %.9g, bound %.3g", what, (long)i,
		        (double)got[i], (double)want[i], TOLERANCE * largest);
	}
}

static inline void expect_close(const char *what, const float *got, const float *want, int64_t n)
{
	expect_near(what, got, want, n, 0);
}

static inline void put(const fixture *f, void *device, const void *host, size_t bytes)
{
	cr_assert_eq(f->backend->upload(f->backend, device, host, bytes, NULL), HD_OK);
}

static inline void get(const fixture *f, void *host, const void *device, size_t bytes)
{
	cr_assert_eq(f->backend->download(f->backend, host, device, bytes, NULL), HD_OK);
}

/* What the last step came to; it must not have been skipped. Squared norm of its gradient. */
static inline float step_norm2(const fixture *f)
{
	hd_backend *b = f->backend;
	float *norm2, result;
	cr_assert_eq(b->alloc_host(b, (void **)&norm2, sizeof *norm2), HD_OK);
	cr_assert_eq(hd_model_send_norm(f->model, norm2), HD_OK);
	cr_assert_eq(b->sync(b, NULL), HD_OK);
	result = *norm2;
	cr_assert(isfinite(result));
	b->free_host(b, norm2);
	return result;
}

/* Those that the flat buffer and the golden file have; how many they were. */
static inline int compare_parameters(const fixture *f, hd_flat which, const char *prefix)
{
	int count, compared = 0;
	double floor = which == HD_FLAT_GRADIENTS ? SMALL_GRADIENT * (double)golden(f, "", "norm", 1)[0] : 0;
	const hd_parameter *p = hd_model_parameters(f->model, &count);
	for (int i = 0; i < count; i++) {
		char what[128];
		snprintf(what, sizeof what, "%s%s", prefix, p[i].name);
		if (!hd_model_has(f->model, which, i) || !hd_safetensors_find(&f->golden, what))
			continue;
		float *values = calloc((size_t)p[i].size, sizeof(float));
		cr_assert_eq(hd_model_read(f->model, which, i, values), HD_OK);
		expect_near(what, values, golden(f, prefix, p[i].name, p[i].size), p[i].size, floor);
		free(values);
		compared++;
	}
	return compared;
}

static inline void start(fixture *f, const char *path, const hd_model_config *config)
{
	f->path = path;
	cr_assert_eq(hd_backend_open(&f->backend, "cpu", NULL, 0), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_model_create(&f->model, f->backend, config), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_safetensors_open(&f->golden, path, false), HD_OK, "%s", hd_error_text());
	int count;
	const hd_parameter *p = hd_model_parameters(f->model, &count);
	for (int i = 0; i < count; i++)
		cr_assert_eq(
		        hd_model_write(f->model, HD_FLAT_WEIGHTS, i, golden(f, "w.", p[i].name, p[i].size)), HD_OK);
}

static inline void stop(fixture *f)
{
	hd_safetensors_close(&f->golden);
	hd_model_free(f->model);
	hd_backend_close(f->backend);
}

/* The network's input, rounded to what its maps are of. */
static inline void put_input(const fixture *f, const float *host, int64_t n)
{
	void *input = hd_model_buffers(f->model)->input;
	hd_dtype dtype = hd_model_map_dtype(f->model);
	void *floats = input;
	if (dtype != HD_F32)
		cr_assert_eq(f->backend->alloc(f->backend, &floats, (size_t)n * sizeof(float)), HD_OK);
	put(f, floats, host, (size_t)n * sizeof(float));
	if (dtype == HD_F32)
		return;
	cr_assert_eq(f->backend->ops.cast(input, floats, dtype, n, NULL), HD_OK);
	cr_assert_eq(f->backend->sync(f->backend, NULL), HD_OK);
	f->backend->free(f->backend, floats);
}

/*
 * Rows [from, from + n) of the golden batch of `rows`; behind them rubbish of weight 0. The golden input is NCHW, ours
 * NHWC.
 */
static inline void put_rows(const fixture *f, int rows, int from, int n)
{
	int H = small.height, W = small.width, C = small.channels;
	const float *x = golden(f, "", "x", (int64_t)rows * C * H * W), *t = golden(f, "", "target", 2 * rows),
	            *w = golden(f, "", "weight", rows);
	const hd_model_io *io = hd_model_buffers(f->model);
	float *nhwc = calloc((size_t)ROWS_MAX * H * W * C, sizeof(float));
	float target[2 * ROWS_MAX] = {0}, weight[ROWS_MAX] = {0};
	for (int r = 0; r < ROWS_MAX; r++)
		for (int i = 0; i < H * W; i++)
			for (int c = 0; c < C; c++)
				nhwc[((size_t)r * H * W + i) * C + c] =
				        r < n ? x[((size_t)(from + r) * C + c) * H * W + i] : 0.25f * i / W;
	memcpy(target, t + 2 * from, 2 * (size_t)n * sizeof(float));
	memcpy(weight, w + from, (size_t)n * sizeof(float));
	put_input(f, nhwc, (int64_t)ROWS_MAX * H * W * C);
	put(f, io->target, target, sizeof target);
	put(f, io->weight, weight, sizeof weight);
	if (io->label_sigma) {
		float sigma[ROWS_MAX] = {0};
		memcpy(sigma, golden(f, "", "label_sigma", rows) + from, (size_t)n * sizeof(float));
		put(f, io->label_sigma, sigma, sizeof sigma);
	}
	free(nhwc);
}

#endif
