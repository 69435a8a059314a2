/* SPDX-License-Identifier: Apache-2.0 */
/* A batch of training, and parts of the step as recordings: queued at first, then recorded, then replayed. */
#include "host/common/progress.h"
#include "host/model/convnext.h"

/* Queued plainly before: libraries start up, and ways are timed, which a recording would not allow. */
#define QUEUED_BEFORE_RECORDING 2

static bool records(const hd_model *m, const hd_recorded *r)
{
	return m->config.graph && m->backend->begin_capture && !r->refused && r->queued >= QUEUED_BEFORE_RECORDING;
}

static hd_status record(hd_model *m, hd_recorded *r, hd_queue queue, int variant)
{
	hd_backend *b = m->backend;
	hd_graph *graph = NULL;
	hd_status st = b->begin_capture(b);
	if (st != HD_OK)
		return st;
	st = queue(m, variant);
	hd_status ended = b->end_capture(b, &graph);
	if (st == HD_OK)
		st = ended;
	if (st == HD_OK)
		r->graph = graph;
	else
		b->close_graph(b, graph);
	return st;
}

hd_status hd_model_run_recorded(hd_model *m, hd_recorded *r, hd_queue queue, int variant, const char *what)
{
	if (!r->graph && records(m, r) && record(m, r, queue, variant) != HD_OK) {
		/* said once; from now on it is queued plainly */
		hd_warn("%s is not recorded as a graph: %s", what, hd_error_text());
		r->refused = true;
	}
	if (r->graph)
		return m->backend->run_graph(m->backend, r->graph);
	r->queued++;
	return queue(m, variant);
}

void hd_model_close_recordings(hd_model *m)
{
	hd_recorded *all = (hd_recorded *)&m->recordings;
	for (size_t i = 0; i < sizeof m->recordings / sizeof *all; i++)
		if (all[i].graph)
			m->backend->close_graph(m->backend, all[i].graph);
}

static hd_status queue_batch(hd_model *m, int accumulate)
{
	hd_status st;
	HD_TRY(hd_model_begin_update(m));
	HD_TRY(hd_model_queue_forward(m, true));
	HD_TRY(hd_model_queue_loss(m));
	HD_TRY(hd_model_backward(m, accumulate));
done:
	return st;
}

hd_status hd_model_train_batch(hd_model *m, float scale, bool accumulate)
{
	hd_status st;
	hd_backend *b = m->backend;
	hd_update *update = m->update;
	hd_recorded *r = &m->recordings.batch[accumulate][m->frozen][update->kind];
	HD_TRY(b->upload(b, m->scale, &scale, sizeof scale, m->stream));
	/* before a recording, which would repeat it */
	HD_TRY(hd_model_refresh(m));
	HD_TRY(hd_model_run_recorded(m, r, queue_batch, accumulate, "a batch"));
	update->kind = HD_UPDATE_NONE;
done:
	return st;
}
