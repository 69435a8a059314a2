/* SPDX-License-Identifier: Apache-2.0 */
/* Made-up features and labels. */
#include "bench/common/step_inputs.h"

#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "heimdall/features.h"
#include "host/common/memory.h"
#include "host/signal/random.h"
#include "kernels/half.h"

#define SEED 11u
#define LOW_DB (-80.0)
#define HIGH_DB 0.0

/* Device memory with a copy of what the host has. */
static hd_status put(hd_backend *b, void *out_device, const void *host, size_t bytes)
{
	hd_status st;
	void **device = out_device;
	if (!*device)
		HD_TRY(b->alloc(b, device, bytes));
	HD_TRY(b->upload(b, *device, host, bytes, NULL));
	HD_TRY(b->sync(b, NULL));
	st = HD_OK;
done:
	return st;
}

static hd_status make_features(hd_step_inputs *in, const hd_model_config *c, hd_random *random)
{
	hd_status st;
	uint16_t *db = NULL;
	float *statistics = NULL;
	size_t M = (size_t)c->height, count = (size_t)c->batch * (size_t)c->channels * M * (size_t)c->width;
	HD_TRY(hd_alloc(&db, count, sizeof *db));
	HD_TRY(hd_alloc(&statistics, 3 * M, sizeof *statistics));
	for (size_t i = 0; i < count; i++)
		db[i] = hd_float_to_half((float)hd_random_between(random, LOW_DB, HIGH_DB));
	for (size_t m = 0; m < M; m++) {
		statistics[m] = (float)((LOW_DB + HIGH_DB) / 2);
		statistics[M + m] = (float)(sqrt(12) / (HIGH_DB - LOW_DB)); /* of a uniform distribution */
		statistics[2 * M + m] = HD_DB_SILENCE;
	}
	HD_TRY(put(in->backend, &in->db, db, count * sizeof *db));
	HD_TRY(put(in->backend, &in->statistics, statistics, 3 * M * sizeof *statistics));
done:
	free(statistics);
	free(db);
	return st;
}

static hd_status make_labels(hd_step_inputs *in, const hd_model_config *c, hd_random *random)
{
	hd_status st;
	const hd_model_io *io = hd_model_buffers(in->model);
	size_t N = (size_t)c->batch;
	int32_t *number = NULL;
	float *values = NULL;
	const hd_rng_key key = {.seed_lo = SEED};
	HD_TRY(hd_alloc(&number, N, sizeof *number));
	HD_TRY(hd_alloc(&values, 2 * N, sizeof *values));
	HD_TRY(put(in->backend, &in->start, number, N * sizeof *number));
	for (size_t n = 0; n < N; n++)
		number[n] = (int32_t)n;
	HD_TRY(put(in->backend, &in->index, number, N * sizeof *number));
	HD_TRY(put(in->backend, (void *)&(void *){io->sample}, number, N * sizeof *number));
	HD_TRY(put(in->backend, (void *)&(void *){io->key}, &key, sizeof key));
	for (size_t n = 0; n < 2 * N; n++)
		values[n] = (float)hd_random_between(random, -1, 1);
	HD_TRY(put(in->backend, (void *)&(void *){io->target}, values, 2 * N * sizeof *values));
	for (size_t n = 0; n < N; n++)
		values[n] = 1;
	HD_TRY(put(in->backend, (void *)&(void *){io->weight}, values, N * sizeof *values));
done:
	free(values);
	free(number);
	return st;
}

hd_status hd_step_inputs_open(hd_step_inputs *out, hd_backend *backend, hd_model *model)
{
	hd_status st;
	hd_random random = hd_random_start(SEED, 0);
	*out = (hd_step_inputs){.backend = backend,
	        .model = model,
	        .dtype = hd_bench_precision_dtype(hd_model_get_config(model)->precision)};
	HD_TRY(make_features(out, hd_model_get_config(model), &random));
	HD_TRY(make_labels(out, hd_model_get_config(model), &random));
done:
	return st;
}

hd_status hd_step_inputs_assemble(const hd_step_inputs *in)
{
	const hd_model_config *c = hd_model_get_config(in->model);
	return in->backend->ops.assemble_batch(hd_model_buffers(in->model)->input, in->db, in->index, in->start,
	        in->statistics, in->statistics + c->height, in->statistics + 2 * c->height, NULL, NULL, NULL, NULL,
	        in->dtype, c->batch, c->channels, c->height, c->width, c->width, NULL);
}

void hd_step_inputs_close(hd_step_inputs *in)
{
	if (in->backend) {
		in->backend->free(in->backend, in->statistics);
		in->backend->free(in->backend, in->start);
		in->backend->free(in->backend, in->index);
		in->backend->free(in->backend, in->db);
	}
	*in = (hd_step_inputs){NULL};
}
