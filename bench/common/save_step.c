/* SPDX-License-Identifier: Apache-2.0 */
/* Weights, input and answers to a safetensors file. */
#include "bench/common/save_step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/safetensors.h"
#include "host/common/memory.h"
#include "host/signal/random.h"

#define SEED 17u
#define OWN 5 /* tensors beside the weights */

typedef struct saved {
	hd_tensor *tensors;
	float **data;
	size_t count;
} saved;

static hd_status add(saved *s, const char *name, int ndim, const int64_t *shape, float **out)
{
	hd_tensor *t = &s->tensors[s->count];
	size_t values = 1;
	for (int d = 0; d < ndim; d++)
		values *= (size_t)shape[d];
	hd_status st = hd_alloc(&s->data[s->count], values, sizeof(float));
	if (st != HD_OK)
		return st;
	t->name = (char *)name; /* a literal, or the model's, which outlives the writing */
	t->dtype = HD_F32;
	t->ndim = ndim;
	memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
	t->bytes = values * sizeof(float);
	t->data = *out = s->data[s->count++];
	return HD_OK;
}

/* Random weights have layer scales of 1e-6, behind which a block would not show. */
static hd_status add_parameters(saved *s, hd_model *model)
{
	hd_status st = HD_OK;
	int count;
	hd_random random = hd_random_start(SEED, 0);
	const hd_parameter *p = hd_model_parameters(model, &count);
	for (int i = 0; i < count; i++) {
		float *values;
		size_t length = strlen(p[i].name);
		HD_TRY(add(s, p[i].name, p[i].ndim, p[i].shape, &values));
		HD_TRY(hd_model_read(model, HD_FLAT_WEIGHTS, i, values));
		bool bias = length > 5 && !strcmp(p[i].name + length - 5, ".bias");
		for (int64_t k = 0; p[i].ndim == 1 && p[i].trained && k < p[i].size; k++)
			values[k] = (float)((bias ? 0 : 1) + 0.1 * hd_random_normal(&random));
		HD_TRY(hd_model_write(model, HD_FLAT_WEIGHTS, i, values));
	}
done:
	return st;
}

static hd_status get(hd_backend *b, float *host, const void *device, size_t bytes)
{
	hd_status st = b->download(b, host, device, bytes, NULL);
	return st == HD_OK ? b->sync(b, NULL) : st;
}

/* The input as PyTorch has it. */
static hd_status add_input(saved *s, hd_backend *b, const hd_model_config *c, const void *input)
{
	hd_status st;
	int64_t N = c->batch, C = c->channels, P = (int64_t)c->height * c->width;
	float *nchw, *nhwc = NULL;
	HD_TRY(add(s, "bench.x", 4, (const int64_t[]){N, C, c->height, c->width}, &nchw));
	HD_TRY(hd_alloc(&nhwc, (size_t)(N * C * P), sizeof *nhwc));
	HD_TRY(get(b, nhwc, input, (size_t)(N * C * P) * sizeof *nhwc));
	for (int64_t n = 0; n < N; n++)
		for (int64_t i = 0; i < P; i++)
			for (int64_t k = 0; k < C; k++)
				nchw[(n * C + k) * P + i] = nhwc[(n * P + i) * C + k];
done:
	free(nhwc);
	return st;
}

static hd_status add_answers(saved *s, hd_backend *b, const hd_step_inputs *in)
{
	hd_status st;
	const hd_model_config *c = hd_model_get_config(in->model);
	const hd_model_io *io = hd_model_buffers(in->model);
	const int64_t pair[] = {c->batch, 2}, one[] = {1};
	const size_t bytes = 2 * (size_t)c->batch * sizeof(float);
	float *target, *mu, *sigma, *loss, sums[4];
	HD_TRY(hd_step_inputs_assemble(in));
	HD_TRY(hd_model_forward(in->model, false));
	HD_TRY(hd_model_loss(in->model, 1));
	HD_TRY(add_input(s, b, c, io->input));
	HD_TRY(add(s, "bench.target", 2, pair, &target));
	HD_TRY(add(s, "bench.mu", 2, pair, &mu));
	HD_TRY(add(s, "bench.sigma", 2, pair, &sigma));
	HD_TRY(add(s, "bench.loss", 1, one, &loss));
	HD_TRY(get(b, target, io->target, bytes));
	HD_TRY(get(b, mu, io->mu, bytes));
	HD_TRY(get(b, sigma, io->sigma, bytes));
	HD_TRY(get(b, sums, io->sums, sizeof sums));
	*loss = sums[0] / sums[1];
done:
	return st;
}

hd_status hd_save_step(const char *path, hd_backend *backend, const hd_step_inputs *inputs)
{
	hd_status st;
	int count;
	saved s = {NULL};
	const hd_model_config *c = hd_model_get_config(inputs->model);
	char widths[128] = "", lo[32], hi[32], name[32];
	char keys[][16] = {"backbone", "head_widths", "sigma_lo", "sigma_hi"};
	if (inputs->dtype != HD_F32)
		return hd_fail(HD_E_USAGE, "--save %s: takes a model in float32", path);
	hd_model_parameters(inputs->model, &count);
	for (int i = 0; i < c->head_layers; i++)
		snprintf(widths + strlen(widths), sizeof widths - strlen(widths), "%s%d", i ? "," : "",
		        c->head_widths[i]);
	snprintf(lo, sizeof lo, "%.9g", (double)c->loss.lo);
	snprintf(hi, sizeof hi, "%.9g", (double)c->loss.hi);
	snprintf(name, sizeof name, "%s", c->backbone.name);
	const hd_metadata metadata[] = {{keys[0], name}, {keys[1], widths}, {keys[2], lo}, {keys[3], hi}};
	HD_TRY(hd_alloc(&s.tensors, (size_t)count + OWN, sizeof *s.tensors));
	HD_TRY(hd_alloc(&s.data, (size_t)count + OWN, sizeof *s.data));
	HD_TRY(add_parameters(&s, inputs->model));
	HD_TRY(add_answers(&s, backend, inputs));
	HD_TRY(hd_safetensors_write(path, s.tensors, s.count, metadata, sizeof metadata / sizeof *metadata));
done:
	for (size_t i = 0; i < s.count; i++)
		free(s.data[i]);
	free(s.data);
	free(s.tensors);
	return st;
}
