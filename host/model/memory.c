/* SPDX-License-Identifier: Apache-2.0 */
/* The plan's memory: one arena, or a buffer each for tools that look for overruns; what to say where it does not fit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/model/convnext.h"

#define BATCH_MAX 65536

/*
 * Where nothing runs back nothing is kept: every block reads one of two maps and writes the other, and all share what
 * lies inside a branch. A branch's output takes the place of the depthwise convolution's, which is read no more by
 * then.
 */
static void share_maps(hd_model *m)
{
	int at = 0;
	void *branch = m->inside[0].branch, *norm = m->norm_grad;
	for (int s = 0; s < HD_STAGES; s++) {
		hd_stage *stage = &m->stages[s];
		stage->mean = m->row_statistics[0];
		stage->rstd = m->row_statistics[1];
		stage->cols = m->inside[0].wide;
		stage->conv_out = s == 0 ? branch : m->grad[1 - at];
		stage->norm_out = s == 0 ? m->grad[at] : branch;
		at = s == 0 ? at : 1 - at;
		for (int i = 0; i < stage->depth; i++) {
			hd_block *b = &stage->blocks[i];
			at = 1 - at;
			b->dw_out = b->branch = branch;
			b->norm_out = norm;
			b->mean = m->row_statistics[0];
			b->rstd = m->row_statistics[1];
			b->h = m->inside[0].wide;
			b->g = m->gelu_grad;
			b->y = m->grad[at];
		}
	}
}

/* With gradient_checkpointing all blocks compute their insides in one place. */
static void share_insides(hd_model *m)
{
	for (int s = 0; s < HD_STAGES; s++) {
		for (int i = 0; i < m->stages[s].depth; i++) {
			hd_block *b = &m->stages[s].blocks[i];
			b->dw_out = m->recomputed.dw_out;
			b->norm_out = m->recomputed.norm_out;
			b->mean = m->recomputed.mean;
			b->rstd = m->recomputed.rstd;
			b->h = m->recomputed.h;
			b->g = m->recomputed.g;
			b->branch = m->recomputed.branch;
		}
	}
}

/* Largest batch whose plan fits into so many bytes, 0 for none. */
static int batch_that_fits(const hd_model *m, size_t bytes)
{
	int low = 0, high = BATCH_MAX;
	while (low < high) {
		hd_model_config config = m->config;
		size_t own, maps;
		int64_t parameters;
		config.batch = (low + high + 1) / 2;
		if (hd_model_footprint(m->backend, &config, &own, &maps, &parameters) == HD_OK && own + maps <= bytes)
			low = config.batch;
		else
			high = config.batch - 1;
	}
	return low;
}

int hd_model_batch_that_fits(const hd_backend *backend, const hd_model_config *config, size_t bytes)
{
	const hd_model model = {.config = *config, .backend = (hd_backend *)backend};
	return batch_that_fits(&model, bytes);
}

/* "h of stage 2" from "&block->h". */
static void name_buffer(char *out, size_t bytes, const hd_buffer *b)
{
	const char *name = strrchr(b->name, '>') ? strrchr(b->name, '>') + 1 : b->name;
	if (b->stage >= 0)
		snprintf(out, bytes, "%s of stage %d", name, b->stage);
	else
		snprintf(out, bytes, "%s", name);
}

static hd_status too_large(const hd_model *m)
{
	size_t available = 0, total = 0;
	const hd_buffer *largest = &m->buffers[0];
	char name[64], advice[64] = "no batch would fit";
	for (size_t i = 0; i < m->buffer_count; i++)
		if (m->buffers[i].bytes > largest->bytes)
			largest = &m->buffers[i];
	name_buffer(name, sizeof name, largest);
	m->backend->memory(m->backend, &available, &total);
	int batch = batch_that_fits(m, available);
	if (batch > 0)
		snprintf(advice, sizeof advice, "--batch_size %d would fit", batch);
	return hd_fail(HD_E_MEMORY,
	        "out of memory on %s: the model wants %.1f MB at batch %d (%.1f MB parameters and their state; the "
	        "largest "
	        "buffer is %s, %.1f MB), %.1f of %.1f MB are free: %s",
	        m->backend->tier, (double)m->plan_bytes / 1e6, m->config.batch, (double)m->parameter_bytes / 1e6, name,
	        (double)largest->bytes / 1e6, (double)available / 1e6, (double)total / 1e6, advice);
}

static hd_status allocate_apart(hd_model *m)
{
	for (size_t i = 0; i < m->buffer_count; i++) {
		hd_buffer *b = &m->buffers[i];
		hd_status st = m->backend->alloc(m->backend, &b->own, b->bytes);
		if (st != HD_OK)
			return st;
		*b->where = b->own;
	}
	return HD_OK;
}

/* Parameters, moments and their tables start as zeros. */
static hd_status clear_parameters(hd_model *m)
{
	hd_backend *b = m->backend;
	hd_status st = HD_OK;
	if (m->memory)
		return b->fill(b, m->memory, 0, m->parameter_bytes, m->stream);
	for (size_t i = 0; i < m->buffer_count && st == HD_OK; i++)
		if (m->buffers[i].offset < m->parameter_bytes)
			st = b->fill(b, m->buffers[i].own, 0, m->buffers[i].bytes, m->stream);
	return st;
}

hd_status hd_model_allocate(hd_model *m)
{
	const char *arena = getenv("HEIMDALL_ARENA");
	hd_status st;
	if (arena && !strcmp(arena, "off"))
		st = allocate_apart(m);
	else
		st = m->backend->alloc(m->backend, &m->memory, m->plan_bytes);
	if (st != HD_OK)
		return st == HD_E_MEMORY ? too_large(m) : st;
	for (size_t i = 0; m->memory && i < m->buffer_count; i++)
		*m->buffers[i].where = (char *)m->memory + m->buffers[i].offset;
	for (int s = 0; s < HD_STAGES && hd_model_convolves(m); s++)
		m->stages[s].cols = m->work;
	if (hd_model_keeps_no_maps(m))
		share_maps(m);
	else if (m->config.gradient_checkpointing)
		share_insides(m);
	if (!hd_model_has_beside(m))
		m->inside[1] = m->inside[0];
	m->io.mu = m->heads[0].out;
	return clear_parameters(m);
}

void hd_model_release(hd_model *m)
{
	for (size_t i = 0; i < m->buffer_count; i++)
		if (m->buffers[i].own)
			m->backend->free(m->backend, m->buffers[i].own);
	if (m->memory)
		m->backend->free(m->backend, m->memory);
}
