/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "kernels/philox.h"

/* Keep draws for different purposes apart. */
#define ORDER_STREAM 0x4f524452u
#define WINDOW_STREAM 0x57494e44u
#define SHIFT_STREAM 0x53484946u

#define ALIGN_BYTES 64

static uint32_t draw(uint64_t seed, uint32_t epoch, uint32_t sample, uint32_t stream)
{
	uint32_t words[4];
	hd_philox(words, (const uint32_t[4]){0, sample, epoch, stream},
	        (const uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)});
	return words[0];
}

/* Elements of one row's windows in all channels. */
static size_t row_size(const hd_dataset *d)
{
	return (size_t)(d->cache.C * d->cache.H * d->features.frames);
}

static size_t take(size_t *at, size_t bytes)
{
	size_t here = *at;
	*at += (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
	return here;
}

/* For N rows; the windows come last, so that of a batch that is not full only those that are there are copied. */
static hd_batch_layout lay_out(size_t N)
{
	size_t at = 0;
	return (hd_batch_layout){
	        .key = take(&at, sizeof(hd_rng_key)),
	        .index = take(&at, N * sizeof(int32_t)),
	        .start = take(&at, N * sizeof(int32_t)),
	        .sample = take(&at, N * sizeof(int32_t)),
	        .target = take(&at, 2 * N * sizeof(float)),
	        .weight = take(&at, N * sizeof(float)),
	        .label_sigma = take(&at, N * sizeof(float)),
	        .db = at,
	};
}

static hd_status open_slot(hd_backend *b, hd_batch_slot *slot, size_t bytes)
{
	hd_status st;
	HD_TRY(b->alloc_host(b, (void **)&slot->host, bytes));
	HD_TRY(b->alloc(b, (void **)&slot->device, bytes));
	HD_TRY(b->open_event(b, &slot->sent));
	HD_TRY(b->open_event(b, &slot->used));
done:
	return st;
}

static void close_slot(hd_backend *b, hd_batch_slot *slot)
{
	b->close_event(b, slot->used);
	b->close_event(b, slot->sent);
	b->free(b, slot->device);
	b->free_host(b, slot->host);
}

static hd_status upload_new(hd_backend *b, float **out, const float *host, int n)
{
	hd_status st = host ? b->alloc(b, (void **)out, (size_t)n * sizeof(float)) : HD_OK;
	return host && st == HD_OK ? b->upload(b, *out, host, (size_t)n * sizeof(float), NULL) : st;
}

hd_status hd_batcher_open(
        hd_batcher *b, hd_model *model, hd_backend *backend, const hd_dataset *dataset, const hd_augment *augment)
{
	hd_status st;
	size_t N = (size_t)hd_model_get_config(model)->batch;
	const hd_data_card *card = &dataset->card;
	float *silence = NULL;
	*b = (hd_batcher){.dataset = dataset,
	        .model = model,
	        .backend = backend,
	        .layout = lay_out(N),
	        .slot_count = backend->own_memory ? HD_BATCH_SLOTS : 1,
	        .augmented = augment != NULL};
	if (augment)
		b->augment = *augment;
	HD_TRY(backend->open_stream(backend, &b->stream));
	for (int i = 0; i < b->slot_count; i++)
		HD_TRY(open_slot(backend, &b->slots[i], b->layout.db + N * row_size(dataset) * sizeof(uint16_t)));
	HD_TRY(hd_alloc(&silence, (size_t)card->height, sizeof *silence));
	hd_features_silence(silence, &dataset->features);
	HD_TRY(upload_new(backend, &b->silence, silence, card->height));
	HD_TRY(upload_new(backend, &b->mean, card->mean, card->height));
	HD_TRY(upload_new(backend, &b->rstd, card->rstd, card->height));
	HD_TRY(upload_new(backend, &b->offset, card->offset, card->channels));
	/* the host's copies are let go below */
	HD_TRY(backend->sync(backend, NULL));
done:
	free(silence);
	if (st != HD_OK)
		hd_batcher_close(b);
	return st;
}

void hd_batcher_close(hd_batcher *b)
{
	if (!b || !b->backend)
		return;
	/* after an error batches may still be on their way */
	b->backend->sync(b->backend, NULL);
	b->backend->close_stream(b->backend, b->stream);
	void *device[] = {b->offset, b->rstd, b->mean, b->silence, b->plain, b->cache};
	for (size_t i = 0; i < sizeof device / sizeof *device; i++)
		b->backend->free(b->backend, device[i]);
	for (int i = b->slot_count - 1; i >= 0; i--)
		close_slot(b->backend, &b->slots[i]);
	free(b->host_features);
	free(b->host_input);
	*b = (hd_batcher){0};
}

/* First frame of a row's window among the kept ones. */
static int64_t window_start(
        const hd_dataset *d, int32_t window, uint32_t key, uint64_t seed, uint32_t epoch, bool training)
{
	int64_t F = hd_features_window_frames(&d->features), room = F - d->features.frames;
	if (!training)
		return window * F + room / 2;
	window = (int32_t)(draw(seed, epoch, key, WINDOW_STREAM) % (uint32_t)hd_features_windows(&d->features));
	return window * F + (room ? draw(seed, epoch, key, SHIFT_STREAM) % (uint32_t)(room + 1) : 0);
}

/* Pointers into a slot's memory on either side. */
typedef struct batch {
	hd_rng_key *key;
	int32_t *index, *start, *sample;
	float *target, *weight, *label_sigma;
	uint16_t *db; /* (N,C,H,W) */
} batch;

static batch batch_at(const hd_batch_layout *l, char *memory)
{
	return (batch){
	        .key = (hd_rng_key *)(void *)(memory + l->key),
	        .index = (int32_t *)(void *)(memory + l->index),
	        .start = (int32_t *)(void *)(memory + l->start),
	        .sample = (int32_t *)(void *)(memory + l->sample),
	        .target = (float *)(void *)(memory + l->target),
	        .weight = (float *)(void *)(memory + l->weight),
	        .label_sigma = (float *)(void *)(memory + l->label_sigma),
	        .db = (uint16_t *)(void *)(memory + l->db),
	};
}

static void stage_window(const hd_dataset *d, uint16_t *to, int32_t sample, int64_t start)
{
	int64_t rows = d->cache.C * d->cache.H, W = d->features.frames;
	const uint16_t *from = d->cache.db + sample * rows * d->cache.T + start;
	for (int64_t r = 0; r < rows; r++)
		memcpy(to + r * W, from + r * d->cache.T, (size_t)W * sizeof *to);
}

static void stage_row(const hd_batcher *b, const batch *to, int64_t n, int32_t sample, int64_t start)
{
	const hd_dataset *d = b->dataset;
	const hd_sample *s = &d->samples.samples[sample];
	double north, east;
	if (!b->cache)
		stage_window(d, to->db + (size_t)n * row_size(d), sample, start);
	to->index[n] = b->cache ? sample : (int32_t)n;
	to->start[n] = b->cache ? (int32_t)start : 0;
	hd_geo_to_local_m(&d->card.frame, s->latitude_deg, s->longitude_deg, &north, &east);
	to->sample[n] = (int32_t)s->key_hash;
	to->target[2 * n] = (float)(north / d->card.frame.scale_m);
	to->target[2 * n + 1] = (float)(east / d->card.frame.scale_m);
	to->weight[n] = 1;
	double label_m = isnan(s->label_sigma_m) ? d->label_sigma_m : s->label_sigma_m;
	to->label_sigma[n] = (float)(label_m / d->card.frame.scale_m);
}

static void stage_nothing(const batch *to, int64_t n)
{
	to->index[n] = -1;
	to->start[n] = to->sample[n] = 0;
	to->target[2 * n] = to->target[2 * n + 1] = to->weight[n] = to->label_sigma[n] = 0;
}

hd_status hd_batcher_keep_on_device(hd_batcher *b)
{
	hd_status st = HD_OK;
	hd_backend *be = b->backend;
	const hd_feature_cache *cache = &b->dataset->cache;
	size_t bytes = (size_t)(cache->S * cache->C * cache->H * cache->T) * sizeof *cache->db, available, total;
	if (!be->own_memory || b->cache || !bytes)
		return HD_OK;
	HD_TRY(be->memory(be, &available, &total));
	if (bytes > available / 2)
		return HD_OK;
	HD_TRY(be->alloc(be, (void **)&b->cache, bytes));
	HD_TRY(be->upload(be, b->cache, cache->db, bytes, NULL));
	hd_message("features: %.1f MB kept in the memory of %s", (double)bytes / 1e6, be->tier);
done:
	return st;
}

hd_status hd_batcher_transform(hd_batcher *b, hd_transform transform, void *context)
{
	hd_status st;
	size_t N = (size_t)hd_model_get_config(b->model)->batch, slot = row_size(b->dataset);
	HD_TRY(hd_alloc(&b->host_input, N * slot, sizeof *b->host_input));
	HD_TRY(hd_alloc(&b->host_features, slot, sizeof *b->host_features));
	if (hd_model_map_dtype(b->model) != HD_F32)
		HD_TRY(b->backend->alloc(b->backend, (void **)&b->plain, N * slot * sizeof *b->plain));
	b->transform = transform;
	b->transform_context = context;
done:
	return st;
}

/* Kernels keep channels innermost, the transform sees them outermost. */
static hd_status transform_one(hd_batcher *b, float *input, int32_t sample, uint32_t epoch)
{
	const hd_dataset *d = b->dataset;
	int64_t C = d->cache.C, H = d->cache.H, W = d->features.frames, P = H * W;
	for (int64_t p = 0; p < P; p++)
		for (int64_t c = 0; c < C; c++)
			b->host_features[c * P + p] = input[p * C + c];
	hd_status st =
	        b->transform(b->transform_context, b->host_features, C, H, W, &d->samples.samples[sample], epoch);
	for (int64_t p = 0; p < P; p++)
		for (int64_t c = 0; c < C; c++)
			input[p * C + c] = b->host_features[c * P + p];
	return st;
}

static hd_status transform_batch(hd_batcher *b, const int32_t *samples, int64_t count, uint32_t epoch)
{
	hd_status st;
	hd_backend *be = b->backend;
	const hd_model_io *io = hd_model_buffers(b->model);
	float *input = b->plain ? b->plain : io->input;
	size_t slot = row_size(b->dataset), bytes = (size_t)count * slot * sizeof(float);
	int64_t all = hd_model_get_config(b->model)->batch * (int64_t)slot;
	HD_TRY(be->download(be, b->host_input, input, bytes, NULL));
	HD_TRY(be->sync(be, NULL));
	for (int64_t i = 0; i < count; i++)
		HD_TRY(transform_one(b, b->host_input + (size_t)i * slot, samples[i], epoch));
	HD_TRY(be->upload(be, input, b->host_input, bytes, NULL));
	if (b->plain)
		HD_TRY(be->ops.cast(io->input, b->plain, hd_model_map_dtype(b->model), all, NULL));
done:
	return st;
}

/* The slot's host side to its device side; the main stream goes on when it is there. */
static hd_status send(const hd_batcher *b, const hd_batch_slot *slot, size_t bytes)
{
	hd_status st;
	hd_backend *be = b->backend;
	HD_TRY(be->await(be, b->stream, slot->used));
	HD_TRY(be->copy(be, slot->device, slot->host, bytes, b->stream));
	HD_TRY(be->record(be, slot->sent, b->stream));
	HD_TRY(be->await(be, NULL, slot->sent));
done:
	return st;
}

/* From the slot's device side into the model's buffers. */
static hd_status assemble(const hd_batcher *b, const hd_batch_slot *slot, bool augmented, bool transformed)
{
	hd_status st;
	hd_backend *be = b->backend;
	const hd_dataset *d = b->dataset;
	const hd_model_io *io = hd_model_buffers(b->model);
	const batch from = batch_at(&b->layout, slot->device);
	bool plain = transformed && b->plain;
	void *input = plain ? b->plain : io->input;
	hd_dtype dtype = plain ? HD_F32 : hd_model_map_dtype(b->model);
	int64_t N = hd_model_get_config(b->model)->batch, W = d->features.frames, T = b->cache ? d->cache.T : W;
	size_t n = (size_t)N;
	HD_TRY(be->copy(be, io->sample, from.sample, n * sizeof(int32_t), NULL));
	HD_TRY(be->copy(be, io->target, from.target, 2 * n * sizeof(float), NULL));
	HD_TRY(be->copy(be, io->weight, from.weight, n * sizeof(float), NULL));
	if (io->label_sigma)
		HD_TRY(be->copy(be, io->label_sigma, from.label_sigma, n * sizeof(float), NULL));
	HD_TRY(be->copy(be, io->key, from.key, sizeof *from.key, NULL));
	HD_TRY(be->ops.assemble_batch(input, b->cache ? b->cache : from.db, from.index, from.start, b->mean, b->rstd,
	        b->silence, b->offset, augmented ? &b->augment : NULL, io->key, io->sample, dtype, N, d->cache.C,
	        d->cache.H, T, W, NULL));
	HD_TRY(be->record(be, slot->used, NULL));
done:
	return st;
}

hd_status hd_batcher_fill(hd_batcher *b, const int32_t *samples, const int32_t *windows, int64_t count, uint64_t seed,
        uint32_t epoch, bool training)
{
	hd_status st;
	const hd_dataset *d = b->dataset;
	int64_t N = hd_model_get_config(b->model)->batch;
	const hd_batch_slot *slot = &b->slots[b->next];
	const batch to = batch_at(&b->layout, slot->host);
	b->next = (b->next + 1) % b->slot_count;
	HD_TRY(b->backend->wait(b->backend, slot->sent));
	for (int64_t i = 0; i < N; i++) {
		if (i < count)
			stage_row(b, &to, i, samples[i],
			        window_start(d, windows ? windows[i] : 0, d->samples.samples[samples[i]].key_hash, seed,
			                epoch, training));
		else
			stage_nothing(&to, i);
	}
	*to.key = (hd_rng_key){(uint32_t)seed, (uint32_t)(seed >> 32), epoch, 0};
	bool transformed = training && b->transform;
	size_t travelling = b->cache ? 0 : (size_t)count * row_size(d) * sizeof *to.db;
	HD_TRY(send(b, slot, b->layout.db + travelling));
	HD_TRY(assemble(b, slot, training && b->augmented, transformed));
	if (transformed)
		HD_TRY(transform_batch(b, samples, count, epoch));
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
