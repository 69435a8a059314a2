/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/batch.h"

#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "kernels/philox.h"

/* Keep draws for different purposes apart. */
#define ORDER_STREAM 0x4f524452u
#define WINDOW_STREAM 0x57494e44u

static uint32_t draw(uint64_t seed, uint32_t epoch, uint32_t sample, uint32_t stream)
{
	uint32_t words[4];
	hd_philox(words, (const uint32_t[4]){0, sample, epoch, stream},
	        (const uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)});
	return words[0];
}

hd_status hd_batcher_open(hd_batcher *b, hd_model *model, hd_backend *backend, const hd_dataset *dataset)
{
	hd_status st;
	const hd_feature_cache *c = &dataset->cache;
	size_t N = (size_t)hd_model_get_config(model)->batch, slot = (size_t)(c->C * c->M * c->T);
	*b = (hd_batcher){.dataset = dataset, .model = model, .backend = backend};
	HD_TRY(backend->alloc(backend, (void **)&b->db, N * slot * sizeof *b->db));
	HD_TRY(backend->alloc(backend, (void **)&b->index, N * sizeof *b->index));
	HD_TRY(backend->alloc(backend, (void **)&b->start, N * sizeof *b->start));
	HD_TRY(hd_alloc(&b->host_db, N * slot, sizeof *b->host_db));
	HD_TRY(hd_alloc(&b->host_index, N, sizeof *b->host_index));
	HD_TRY(hd_alloc(&b->host_start, N, sizeof *b->host_start));
	HD_TRY(hd_alloc(&b->host_sample, N, sizeof *b->host_sample));
	HD_TRY(hd_alloc(&b->host_target, 2 * N, sizeof *b->host_target));
	HD_TRY(hd_alloc(&b->host_weight, N, sizeof *b->host_weight));
	if (dataset->card.mean) {
		size_t bytes = (size_t)dataset->card.n_mels * sizeof(float);
		HD_TRY(backend->alloc(backend, (void **)&b->mean, bytes));
		HD_TRY(backend->alloc(backend, (void **)&b->rstd, bytes));
		HD_TRY(backend->upload(backend, b->mean, dataset->card.mean, bytes, NULL));
		HD_TRY(backend->upload(backend, b->rstd, dataset->card.rstd, bytes, NULL));
	}
done:
	if (st != HD_OK)
		hd_batcher_close(b);
	return st;
}

void hd_batcher_close(hd_batcher *b)
{
	if (!b || !b->backend)
		return;
	void *device[] = {b->rstd, b->mean, b->start, b->index, b->db};
	for (size_t i = 0; i < sizeof device / sizeof *device; i++)
		b->backend->free(b->backend, device[i]);
	void *host[] = {b->host_weight, b->host_target, b->host_sample, b->host_start, b->host_index, b->host_db};
	for (size_t i = 0; i < sizeof host / sizeof *host; i++)
		free(host[i]);
	*b = (hd_batcher){0};
}

static void stage_row(hd_batcher *b, int64_t n, int32_t sample, uint64_t seed, uint32_t epoch, bool training)
{
	const hd_dataset *d = b->dataset;
	const hd_sample *s = &d->samples.samples[sample];
	size_t slot = (size_t)(d->cache.C * d->cache.M * d->cache.T);
	int32_t room = (int32_t)(d->cache.T - d->features.frames);
	double north, east;
	memcpy(b->host_db + (size_t)n * slot, d->cache.db + (size_t)sample * slot, slot * sizeof *b->host_db);
	hd_geo_to_local_m(&d->card.frame, s->latitude_deg, s->longitude_deg, &north, &east);
	b->host_index[n] = (int32_t)n;
	b->host_start[n] = training && room
	                           ? (int32_t)(draw(seed, epoch, s->key_hash, WINDOW_STREAM) % (uint32_t)(room + 1))
	                           : room / 2;
	b->host_sample[n] = (int32_t)s->key_hash;
	b->host_target[2 * n] = (float)(north / d->card.frame.scale_m);
	b->host_target[2 * n + 1] = (float)(east / d->card.frame.scale_m);
	b->host_weight[n] = 1;
}

hd_status hd_batcher_fill(
        hd_batcher *b, const int32_t *samples, int64_t count, uint64_t seed, uint32_t epoch, bool training)
{
	hd_status st;
	hd_backend *be = b->backend;
	const hd_model_io *io = hd_model_buffers(b->model);
	const hd_feature_cache *c = &b->dataset->cache;
	int64_t N = hd_model_get_config(b->model)->batch;
	size_t n = (size_t)N, slot_bytes = (size_t)(c->C * c->M * c->T) * sizeof *b->db;
	const hd_rng_key key = {(uint32_t)seed, (uint32_t)(seed >> 32), epoch, 0};
	for (int64_t i = 0; i < N; i++) {
		if (i < count) {
			stage_row(b, i, samples[i], seed, epoch, training);
			continue;
		}
		b->host_index[i] = -1;
		b->host_start[i] = b->host_sample[i] = 0;
		b->host_target[2 * i] = b->host_target[2 * i + 1] = b->host_weight[i] = 0;
	}
	HD_TRY(be->upload(be, b->db, b->host_db, (size_t)count * slot_bytes, NULL));
	HD_TRY(be->upload(be, b->index, b->host_index, n * sizeof(int32_t), NULL));
	HD_TRY(be->upload(be, b->start, b->host_start, n * sizeof(int32_t), NULL));
	HD_TRY(be->upload(be, io->sample, b->host_sample, n * sizeof(int32_t), NULL));
	HD_TRY(be->upload(be, io->target, b->host_target, 2 * n * sizeof(float), NULL));
	HD_TRY(be->upload(be, io->weight, b->host_weight, n * sizeof(float), NULL));
	HD_TRY(be->upload(be, io->key, &key, sizeof key, NULL));
	HD_TRY(be->ops.assemble_batch(io->input, b->db, b->index, b->start, b->mean, b->rstd, HD_F32, N, c->C, c->M,
	        c->T, b->dataset->features.frames, NULL));
done:
	return st;
}

typedef struct drawn {
	uint32_t number;
	int32_t sample;
} drawn;

static int by_number(const void *a, const void *b)
{
	const drawn *x = a, *y = b;
	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return (x->sample > y->sample) - (x->sample < y->sample);
}

hd_status hd_epoch_order(int32_t *order, int64_t count, const hd_samples *samples, uint64_t seed, uint32_t epoch)
{
	drawn *list;
	hd_status st = hd_alloc(&list, (size_t)count, sizeof *list);
	if (st != HD_OK)
		return st;
	for (int64_t i = 0; i < count; i++)
		list[i] = (drawn){draw(seed, epoch, samples->samples[order[i]].key_hash, ORDER_STREAM), order[i]};
	qsort(list, (size_t)count, sizeof *list, by_number);
	for (int64_t i = 0; i < count; i++)
		order[i] = list[i].sample;
	free(list);
	return st;
}
