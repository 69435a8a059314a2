/* SPDX-License-Identifier: Apache-2.0 */
#include "host/model/snapshot.h"

#include <stdlib.h>

#include "host/common/memory.h"
#include "host/model/convnext.h"

static const hd_flat copied[] = {HD_FLAT_WEIGHTS, HD_FLAT_MOMENT1, HD_FLAT_MOMENT2, HD_FLAT_AVERAGE};
#define COPIED_COUNT (sizeof copied / sizeof *copied)

struct hd_snapshot {
	const hd_model *of;
	hd_model view; /* of's tables, with the flat buffers and the stream of the copy */
	void *memory;
	hd_stream *stream;
	hd_event *taken;
};

static size_t flat_bytes(const hd_model *model, hd_flat which)
{
	int64_t elements = model->flat_size - hd_model_flat_from(model, which);
	return model->flat[which] ? (size_t)elements * sizeof(float) : 0;
}

/* The view's flat buffers one behind the other in its memory. */
static void place(hd_snapshot *s)
{
	char *at = s->memory;
	for (int f = 0; f < HD_FLAT_COUNT; f++)
		s->view.flat[f] = NULL;
	for (size_t i = 0; i < COPIED_COUNT; i++) {
		size_t bytes = flat_bytes(s->of, copied[i]);
		s->view.flat[copied[i]] = bytes ? (float *)(void *)at : NULL;
		at += bytes;
	}
}

hd_status hd_snapshot_open(hd_snapshot **out, const hd_model *model)
{
	hd_status st;
	hd_backend *b = model->backend;
	hd_snapshot *s = NULL;
	size_t bytes = 0;
	*out = NULL;
	for (size_t i = 0; i < COPIED_COUNT; i++)
		bytes += flat_bytes(model, copied[i]);
	HD_TRY(hd_alloc(&s, 1, sizeof *s));
	s->of = model;
	s->view = *model;
	s->view.update = NULL; /* the copy is taken of parameters that are settled */
	HD_TRY(b->open_stream(b, &s->stream));
	HD_TRY(b->open_event(b, &s->taken));
	HD_TRY(b->alloc(b, &s->memory, bytes));
	s->view.stream = s->stream;
	place(s);
	*out = s;
	s = NULL;
done:
	hd_snapshot_close(s);
	return st;
}

void hd_snapshot_close(hd_snapshot *s)
{
	if (!s)
		return;
	hd_backend *b = s->of->backend;
	b->close_stream(b, s->stream);
	b->close_event(b, s->taken);
	b->free(b, s->memory);
	free(s);
}

hd_status hd_snapshot_take(hd_snapshot *s)
{
	hd_status st = HD_OK;
	hd_backend *b = s->of->backend;
	HD_TRY(hd_model_settle(s->of));
	for (size_t i = 0; i < COPIED_COUNT; i++)
		HD_TRY(b->copy(b, s->view.flat[copied[i]], s->of->flat[copied[i]], flat_bytes(s->of, copied[i]),
		        s->of->stream));
	HD_TRY(b->record(b, s->taken, s->of->stream));
	HD_TRY(b->await(b, s->stream, s->taken));
done:
	return st;
}

const hd_model *hd_snapshot_model(const hd_snapshot *snapshot)
{
	return &snapshot->view;
}
