/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizer steps, queued on the device and looked at later. */
#include <math.h>

#include "host/train/trainer.h"

static hd_status open_slot(hd_backend *b, hd_step_slot *slot, size_t batches)
{
	hd_status st;
	HD_TRY(b->alloc_host(b, (void **)&slot->sums, batches * 4 * sizeof *slot->sums));
	HD_TRY(b->alloc_host(b, (void **)&slot->norm2, sizeof *slot->norm2));
	HD_TRY(b->open_event(b, &slot->done));
done:
	return st;
}

hd_status hd_steps_open(hd_trainer *t)
{
	hd_status st = HD_OK;
	t->steps = (hd_steps){.most = t->backend->own_memory ? HD_STEP_SLOTS : 1};
	for (int i = 0; st == HD_OK && i < t->steps.most; i++)
		st = open_slot(t->backend, &t->steps.slots[i], (size_t)t->settings->accumulate_grad_batches);
	return st;
}

void hd_steps_close(hd_trainer *t)
{
	hd_backend *b = t->backend;
	if (!b || !t->steps.most)
		return;
	/* after an error copies may still be on their way */
	b->sync(b, NULL);
	for (int i = t->steps.most - 1; i >= 0; i--) {
		hd_step_slot *slot = &t->steps.slots[i];
		b->close_event(b, slot->done);
		b->free_host(b, slot->norm2);
		b->free_host(b, slot->sums);
	}
	t->steps = (hd_steps){0};
}

static hd_step_slot *slot_of(hd_trainer *t, int64_t number)
{
	return &t->steps.slots[number % t->steps.most];
}

static hd_status queue_gradient(hd_trainer *t, const hd_step_slot *slot)
{
	hd_status st = HD_OK;
	const hd_settings *s = t->settings;
	float *sums = slot->sums;
	for (int64_t from = 0; from < slot->count; from += s->batch_size) {
		int64_t n = slot->count - from < s->batch_size ? slot->count - from : s->batch_size;
		HD_TRY(hd_batcher_fill(&t->batcher, slot->samples + from, NULL, n, (uint64_t)s->seed,
		        (uint32_t)t->state.epoch, s->overfit_batches == 0));
		HD_TRY(hd_model_train_batch(t->model, 1.0f / (float)slot->count, from > 0));
		HD_TRY(hd_model_send_sums(t->model, sums));
		sums += 4;
	}
done:
	return st;
}

hd_status hd_steps_queue(hd_trainer *t, const int32_t *samples, int64_t count, const hd_adamw_hyper *hyper,
        const hd_adamw_hyper *backbone)
{
	hd_status st;
	hd_step_slot *slot = slot_of(t, t->steps.queued);
	slot->samples = samples;
	slot->count = count;
	HD_TRY(queue_gradient(t, slot));
	HD_TRY(hd_model_step(t->model, hyper, backbone));
	HD_TRY(hd_model_send_norm(t->model, slot->norm2));
	HD_TRY(t->backend->record(t->backend, slot->done, NULL));
	t->steps.queued++;
done:
	return st;
}

hd_status hd_steps_take(hd_trainer *t, hd_step *out)
{
	const hd_step_slot *slot = slot_of(t, t->steps.taken);
	hd_status st = t->backend->wait(t->backend, slot->done);
	if (st != HD_OK)
		return st;
	int64_t batch = t->settings->batch_size, batches = (slot->count + batch - 1) / batch;
	*out = (hd_step){.samples = slot->samples,
	        .count = slot->count,
	        .norm = sqrt((double)*slot->norm2),
	        .skipped = !isfinite(*slot->norm2)};
	for (int64_t k = 0; k < batches; k++)
		for (int i = 0; i < 4; i++)
			out->sums[i] += (double)slot->sums[4 * k + i];
	t->steps.taken++;
	return HD_OK;
}
