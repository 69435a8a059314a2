/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The optimizer's step: the gradient's norm, then clip, AdamW and the averages over the flat buffers.
 *
 * A back end with streams has the update wait for the next batch and run beside its forward pass: piece by piece in
 * the order of the layers, and each layer waits for its own. AdamW is bound by memory and most of forward by
 * arithmetic; 30 bytes a parameter, 2.2 ms of ConvNeXt-Large on 3 TB/s, would otherwise stand alone in every step.
 * Whoever reads or writes parameters in between has it done first (hd_model_settle).
 */
#include <stdlib.h>

#include "host/common/memory.h"
#include "host/model/convnext.h"

/* Parameters of a piece at least: below, a launch costs more than it hides. */
#define PIECE_PARAMETERS ((int64_t)1 << 20)

/* ---- the scale on the loss ---- */

hd_status hd_model_set_loss_scale(hd_model *m, float scale, int32_t good_steps)
{
	hd_backend *b = m->backend;
	const hd_loss_scale state = {.scale = scale, .inverse = 1 / scale, .good = good_steps};
	hd_status st = hd_model_settle(m);
	if (m->loss_scale && st == HD_OK)
		st = b->upload(b, m->loss_scale, &state, sizeof state, m->stream);
	return st;
}

hd_status hd_model_get_loss_scale(const hd_model *m, float *scale, int32_t *good_steps)
{
	hd_status st = HD_OK;
	hd_backend *b = m->backend;
	hd_loss_scale state = {0};
	if (m->loss_scale) {
		HD_TRY(b->download(b, &state, m->loss_scale, sizeof state, m->stream));
		HD_TRY(b->sync(b, m->stream));
	}
	*scale = state.scale;
	*good_steps = state.good;
done:
	return st;
}

/* ---- pieces ---- */

static int64_t block_start(const hd_model *m, int s, int i)
{
	const hd_stage *stage = &m->stages[s];
	int first = i ? stage->blocks[i].dw.weight : s ? stage->norm.weight : stage->conv.weight;
	return m->parameters[first].offset;
}

/* A piece ends before a block (a stage's first with what stands before it) once it is large enough. */
static hd_status cut(hd_update *u, const hd_model *m)
{
	hd_status st;
	int blocks = hd_model_block_count(m), number = 0;
	HD_TRY(hd_alloc(&u->start, (size_t)blocks + 2, sizeof *u->start));
	HD_TRY(hd_alloc(&u->piece_of, (size_t)blocks, sizeof *u->piece_of));
	for (int s = 0; s < HD_STAGES; s++) {
		for (int i = 0; i < m->stages[s].depth; i++) {
			int64_t at = block_start(m, s, i);
			if (at - u->start[u->pieces] >= PIECE_PARAMETERS)
				u->start[++u->pieces] = at;
			u->piece_of[number++] = u->pieces;
		}
	}
	u->start[++u->pieces] = m->flat_size;
done:
	return st;
}

hd_status hd_model_open_update(hd_model *m)
{
	hd_status st;
	hd_update *u = NULL;
	HD_TRY(hd_alloc(&u, 1, sizeof *u));
	m->update = u;
	HD_TRY(cut(u, m));
	u->awaited = u->pieces;
	if (!m->beside.stream)
		goto done;
	HD_TRY(hd_alloc(&u->done, (size_t)u->pieces, sizeof(hd_event *)));
	for (int i = 0; i < u->pieces; i++)
		HD_TRY(m->backend->open_event(m->backend, &u->done[i]));
done:
	return st;
}

void hd_model_close_update(hd_model *m)
{
	hd_update *u = m->update;
	if (!u)
		return;
	for (int i = 0; u->done && i < u->pieces; i++)
		m->backend->close_event(m->backend, u->done[i]);
	free(u->done);
	free(u->piece_of);
	free(u->start);
	free(u);
	m->update = NULL;
}

/* ---- AdamW ---- */

/* Parameters [from, to) of the flat buffers. */
static hd_status update_range(const hd_model *m, const float *hyper, int64_t from, int64_t to, hd_stream *stream)
{
	if (from >= to)
		return HD_OK;
	float *average = m->config.average ? hd_model_at(m, HD_FLAT_AVERAGE, from) : NULL;
	void *narrow = m->narrow ? (char *)m->narrow + (size_t)from * hd_dtype_bytes(m->dtype) : NULL;
	return m->backend->ops.adamw(hd_model_at(m, HD_FLAT_WEIGHTS, from), hd_model_at(m, HD_FLAT_MOMENT1, from),
	        hd_model_at(m, HD_FLAT_MOMENT2, from), average, narrow, m->dtype, m->skipped,
	        hd_model_at(m, HD_FLAT_GRADIENTS, from), m->norm2, m->loss_scale ? &m->loss_scale->inverse : NULL,
	        (const hd_adamw_hyper *)hyper, m->chunk_lr + from / HD_CHUNK, m->chunk_decay + from / HD_CHUNK,
	        to - from, stream);
}

/* What of [from, to) is trained, the backbone's part with its own scalars where they are apart. */
static hd_status update_piece(const hd_model *m, int64_t from, int64_t to, hd_stream *stream)
{
	hd_status st;
	int64_t heads = m->heads_from, trained = m->frozen ? heads : 0;
	bool apart = m->update->kind == HD_UPDATE_APART;
	int64_t first = from > trained ? from : trained, middle = apart ? (heads < to ? heads : to) : first;
	if (middle < first)
		middle = first;
	HD_TRY(update_range(m, m->hyper[1], first, middle, stream));
	HD_TRY(update_range(m, m->hyper[0], middle, to, stream));
done:
	return st;
}

hd_status hd_model_settle(const hd_model *m)
{
	hd_status st = HD_OK;
	if (m->update && m->update->kind != HD_UPDATE_NONE) {
		st = update_piece(m, 0, m->flat_size, m->stream);
		m->update->kind = HD_UPDATE_NONE;
	}
	return st;
}

hd_status hd_model_begin_update(hd_model *m)
{
	hd_status st = HD_OK;
	hd_backend *b = m->backend;
	hd_update *u = m->update;
	hd_stream *stream = m->beside.stream;
	u->awaited = u->pieces;
	if (u->kind == HD_UPDATE_NONE)
		return HD_OK;
	u->awaited = 0;
	HD_TRY(hd_model_fork_beside(m));
	for (int i = 0; i < u->pieces; i++) {
		HD_TRY(update_piece(m, u->start[i], u->start[i + 1], stream));
		if (stream)
			HD_TRY(b->record(b, u->done[i], stream));
	}
done:
	return st;
}

/* The main stream waits for pieces up to this one; those before it came earlier on their stream. */
static hd_status await_piece(const hd_model *m, int piece)
{
	hd_update *u = m->update;
	if (piece < u->awaited)
		return HD_OK;
	u->awaited = piece + 1;
	return u->done ? m->backend->await(m->backend, m->stream, u->done[piece]) : HD_OK;
}

hd_status hd_model_await_block(const hd_model *m, int block)
{
	return await_piece(m, m->update->piece_of[block]);
}

hd_status hd_model_end_update(const hd_model *m)
{
	return await_piece(m, m->update->pieces - 1);
}

/* ---- the step ---- */

/* Norm of the gradient, and with half precision what it is scaled by. */
static hd_status queue_norm(hd_model *m, int variant)
{
	hd_status st;
	int64_t from = m->frozen ? m->heads_from : 0;
	(void)variant;
	HD_TRY(m->backend->ops.sum_squares(
	        m->norm2, hd_model_at(m, HD_FLAT_GRADIENTS, from), m->work, m->flat_size - from, m->stream));
	if (m->loss_scale)
		HD_TRY(m->backend->ops.loss_scale_update(m->loss_scale, m->norm2, HD_LOSS_SCALE_INTERVAL, m->stream));
done:
	return st;
}

hd_status hd_model_step(hd_model *m, const hd_adamw_hyper *hyper, const hd_adamw_hyper *backbone)
{
	hd_status st;
	hd_backend *b = m->backend;
	bool apart = backbone && !m->frozen;
	HD_TRY(hd_model_settle(m));
	HD_TRY(b->upload(b, m->hyper[0], hyper, sizeof *hyper, m->stream));
	if (apart)
		HD_TRY(b->upload(b, m->hyper[1], backbone, sizeof *backbone, m->stream));
	HD_TRY(hd_model_run_recorded(m, &m->recordings.norm[m->frozen], queue_norm, 0, "the gradient's norm"));
	m->update->kind = apart ? HD_UPDATE_APART : HD_UPDATE_ALL;
	if (!hd_model_has_beside(m))
		HD_TRY(hd_model_settle(m));
done:
	return st;
}

hd_status hd_model_send_sums(const hd_model *model, float *sums)
{
	return model->backend->copy(model->backend, sums, model->io.sums, 4 * sizeof *sums, model->stream);
}

hd_status hd_model_send_norm(const hd_model *model, float *norm2)
{
	return model->backend->copy(model->backend, norm2, model->norm2, sizeof *norm2, model->stream);
}
