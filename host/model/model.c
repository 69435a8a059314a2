/* SPDX-License-Identifier: Apache-2.0 */
/* The model's life: creation, random weights, transfers between file and kernel order, the optimizer step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/model/convnext.h"
#include "kernels/philox.h"

#define LAYER_SCALE_INIT 1e-6f
#define INIT_STREAM 0x494e4954u /* keeps initial weights apart from other uses of the seed */

static hd_status check_config(const hd_model_config *c)
{
	int multiple = HD_STEM_PATCH * HD_DOWN_PATCH * HD_DOWN_PATCH * HD_DOWN_PATCH;
	if (c->channels < 1 || c->batch < 1)
		return hd_fail(HD_E_USAGE,
		        "the model needs at least one channel and one sample in a batch, got %d and %d", c->channels,
		        c->batch);
	if (c->height < multiple || c->width < multiple || c->height % multiple || c->width % multiple)
		return hd_fail(HD_E_USAGE, "n_mels and frames must be multiples of %d for ConvNeXt, got %d x %d",
		        multiple, c->height, c->width);
	if (!(c->drop_path >= 0 && c->drop_path < 1))
		return hd_fail(HD_E_USAGE, "drop_path %g must lie in 0 .. 1, 1 excluded", (double)c->drop_path);
	if (!(c->layer_decay > 0 && c->layer_decay <= 1))
		return hd_fail(HD_E_USAGE, "layer_decay %g must lie in 0 .. 1, 0 excluded", (double)c->layer_decay);
	if (c->head_layers < 1 || c->head_layers > HD_HEAD_LAYERS_MAX)
		return hd_fail(
		        HD_E_USAGE, "a head has 1 to %d hidden layers, not %d", HD_HEAD_LAYERS_MAX, c->head_layers);
	for (int i = 0; i < c->head_layers; i++)
		if (c->head_widths[i] < 1)
			return hd_fail(HD_E_USAGE, "head_widths: %d is no width", c->head_widths[i]);
	if (!(c->loss.lo > 0) || !(c->loss.hi > c->loss.lo))
		return hd_fail(HD_E_USAGE, "uncertainty_min must be positive and below uncertainty_max");
	return HD_OK;
}

static hd_status outline(hd_model *model, hd_backend *backend, const hd_model_config *config)
{
	hd_status st;
	model->config = *config;
	model->backend = backend;
	model->dtype = config->precision == HD_PRECISION_BF16  ? HD_BF16
	               : config->precision == HD_PRECISION_F16 ? HD_F16
	                                                       : HD_F32;
	model->stale = true;
	HD_TRY(check_config(config));
	HD_TRY(hd_model_build_parameters(model));
	HD_TRY(hd_model_build_plan(model));
done:
	return st;
}

/* Per-chunk tables of the optimizer. */
static hd_status upload_chunks(hd_model *model)
{
	hd_status st;
	float *lr = NULL, *decay = NULL;
	int64_t chunks = model->flat_size / HD_CHUNK;
	size_t bytes = (size_t)chunks * sizeof(float);
	if (model->config.inference)
		return HD_OK;
	HD_TRY(hd_alloc(&lr, (size_t)chunks, sizeof(float)));
	HD_TRY(hd_alloc(&decay, (size_t)chunks, sizeof(float)));
	for (int p = 0; p < model->parameter_count; p++) {
		const hd_parameter *row = &model->parameters[p];
		int64_t end = (row->offset + row->size + HD_CHUNK - 1) / HD_CHUNK;
		for (int64_t c = row->offset / HD_CHUNK; c < end; c++) {
			lr[c] = row->lr_scale;
			decay[c] = row->decay ? 1.0f : 0.0f;
		}
	}
	HD_TRY(model->backend->upload(model->backend, model->chunk_lr, lr, bytes, model->stream));
	HD_TRY(model->backend->upload(model->backend, model->chunk_decay, decay, bytes, model->stream));
	HD_TRY(model->backend->sync(model->backend, model->stream));
done:
	free(decay);
	free(lr);
	return st;
}

/* Rates of drop path: rising evenly over all blocks. */
static hd_status upload_paths(hd_model *model)
{
	float *rates;
	int count = hd_model_block_count(model);
	if (!(model->config.drop_path > 0))
		return HD_OK;
	hd_status st = hd_alloc(&rates, (size_t)count, sizeof *rates);
	for (int b = 0; st == HD_OK && b < count; b++)
		rates[b] = count > 1 ? model->config.drop_path * (float)b / (float)(count - 1) : 0;
	if (st == HD_OK)
		st = model->backend->upload(
		        model->backend, model->path_rate, rates, (size_t)count * sizeof *rates, model->stream);
	if (st == HD_OK)
		st = model->backend->sync(model->backend, model->stream);
	free(rates);
	return st;
}

hd_status hd_model_create(hd_model **out, hd_backend *backend, const hd_model_config *config)
{
	hd_status st;
	hd_model *model = NULL;
	*out = NULL;
	HD_TRY(hd_alloc(&model, 1, sizeof *model));
	HD_TRY(outline(model, backend, config));
	HD_TRY(hd_model_allocate(model));
	HD_TRY(hd_model_open_beside(model));
	HD_TRY(hd_model_open_update(model));
	if (backend->allow_tf32)
		backend->allow_tf32(backend, config->precision == HD_PRECISION_TF32);
	HD_TRY(upload_chunks(model));
	HD_TRY(upload_paths(model));
	HD_TRY(hd_model_set_loss_scale(model, HD_LOSS_SCALE_START, 0));
	*out = model;
	model = NULL;
done:
	hd_model_free(model);
	return st;
}

void hd_model_free(hd_model *model)
{
	if (!model)
		return;
	hd_model_close_recordings(model);
	hd_model_close_update(model);
	hd_model_close_beside(model);
	hd_model_release(model);
	free(model->buffers);
	for (int s = 0; s < HD_STAGES; s++)
		free(model->stages[s].blocks);
	free(model->parameters);
	free(model);
}

hd_status hd_model_footprint(const hd_backend *backend, const hd_model_config *config, size_t *parameter_bytes,
        size_t *activation_bytes, int64_t *parameters)
{
	hd_status st;
	hd_model *model = NULL;
	HD_TRY(hd_alloc(&model, 1, sizeof *model));
	HD_TRY(outline(model, (hd_backend *)backend, config));
	*parameter_bytes = model->parameter_bytes;
	*activation_bytes = model->plan_bytes - model->parameter_bytes;
	*parameters = hd_model_parameter_count(model);
done:
	hd_model_free(model);
	return st;
}

const hd_model_config *hd_model_get_config(const hd_model *model)
{
	return &model->config;
}

const hd_parameter *hd_model_parameters(const hd_model *model, int *count)
{
	*count = model->parameter_count;
	return model->parameters;
}

int64_t hd_model_parameter_count(const hd_model *model)
{
	int64_t count = 0;
	for (int p = 0; p < model->parameter_count; p++)
		count += model->parameters[p].trained ? model->parameters[p].size : 0;
	return count;
}

bool hd_model_has(const hd_model *model, hd_flat which, int parameter)
{
	const hd_parameter *p = &model->parameters[parameter];
	if (!model->flat[which])
		return false;
	return which == HD_FLAT_WEIGHTS || which == HD_FLAT_AVERAGE || (p->trained && p->offset >= model->trained_from);
}

const hd_model_io *hd_model_buffers(const hd_model *model)
{
	return &model->io;
}

hd_dtype hd_model_map_dtype(const hd_model *model)
{
	return model->dtype;
}

const char *hd_precision_name(hd_precision precision)
{
	static const char *const names[] = {"32", "tf32", "bf16-mixed", "16-mixed"};
	return names[precision];
}

hd_status hd_model_refresh(hd_model *m)
{
	hd_status st = HD_OK;
	if (m->narrow && m->stale)
		st = m->backend->ops.cast(m->narrow, m->flat[m->in_use], m->dtype, m->flat_size, m->stream);
	m->stale = m->stale && st != HD_OK;
	return st;
}

/* Standard normal within two deviations: Box-Muller, drawn again while outside; `draw` counts per element. */
static float truncated_normal(uint64_t seed, uint32_t parameter, uint32_t element)
{
	for (uint32_t draw = 0;; draw++) {
		uint32_t r[4];
		hd_philox(r, (const uint32_t[4]){element, parameter, draw, INIT_STREAM},
		        (const uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)});
		double u = (r[0] + 0.5) / 4294967296.0, v = (r[1] + 0.5) / 4294967296.0;
		double z = sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
		if (fabs(z) <= 2.0)
			return (float)z;
	}
}

hd_status hd_model_initialize(hd_model *model, uint64_t seed)
{
	hd_status st = HD_OK;
	float *values = NULL;
	hd_backend *b = model->backend;
	for (hd_flat f = HD_FLAT_MOMENT1; f <= HD_FLAT_MOMENT2 && model->flat[f]; f++)
		HD_TRY(b->fill(b, model->flat[f], 0, (size_t)(model->flat_size - model->trained_from) * sizeof(float),
		        model->stream));
	for (int p = 0; p < model->parameter_count; p++) {
		const hd_parameter *row = &model->parameters[p];
		free(values);
		HD_TRY(hd_alloc(&values, (size_t)row->size, sizeof(float)));
		for (int64_t i = 0; i < row->size; i++) {
			if (row->init_std > 0)
				values[i] = row->init_std * truncated_normal(seed, (uint32_t)p, (uint32_t)i);
			else
				values[i] = row->init_std == 0 ? 0.0f : row->init_std == -1 ? 1.0f : LAYER_SCALE_INIT;
		}
		HD_TRY(hd_model_write(model, HD_FLAT_WEIGHTS, p, values));
	}
done:
	free(values);
	return st;
}

/* Position in kernel order of element i in file order. */
static int64_t kernel_index(const hd_parameter *p, int64_t i)
{
	if (p->layout == HD_LAYOUT_PLAIN)
		return i;
	int64_t taps = p->shape[2] * p->shape[3];
	int64_t tap = i % taps, outer = i / taps;
	if (p->layout == HD_LAYOUT_DEPTHWISE)
		return tap * p->shape[0] + outer;
	int64_t C = p->shape[1];
	return (outer / C * taps + tap) * C + outer % C;
}

hd_status hd_model_read(const hd_model *model, hd_flat which, int parameter, float *file_order)
{
	hd_status st;
	const hd_parameter *row = &model->parameters[parameter];
	float *kernel = NULL;
	HD_TRY(hd_model_settle(model));
	HD_TRY(hd_alloc(&kernel, (size_t)row->size, sizeof(float)));
	HD_TRY(model->backend->download(model->backend, kernel, hd_model_slot(model, which, parameter),
	        (size_t)row->size * sizeof(float), model->stream));
	HD_TRY(model->backend->sync(model->backend, model->stream));
	for (int64_t i = 0; i < row->size; i++)
		file_order[i] = kernel[kernel_index(row, i)];
done:
	free(kernel);
	return st;
}

hd_status hd_model_write(hd_model *model, hd_flat which, int parameter, const float *file_order)
{
	hd_status st;
	const hd_parameter *row = &model->parameters[parameter];
	float *kernel = NULL;
	HD_TRY(hd_model_settle(model));
	HD_TRY(hd_alloc(&kernel, (size_t)row->size, sizeof(float)));
	for (int64_t i = 0; i < row->size; i++)
		kernel[kernel_index(row, i)] = file_order[i];
	HD_TRY(model->backend->upload(model->backend, hd_model_slot(model, which, parameter), kernel,
	        (size_t)row->size * sizeof(float), model->stream));
	HD_TRY(model->backend->sync(model->backend, model->stream));
	model->stale = true;
done:
	free(kernel);
	return st;
}

hd_status hd_model_start_average(hd_model *model)
{
	hd_backend *b = model->backend;
	hd_status st = hd_model_settle(model);
	if (st != HD_OK)
		return st;
	return b->copy(b, model->flat[HD_FLAT_AVERAGE], model->flat[HD_FLAT_WEIGHTS],
	        (size_t)model->flat_size * sizeof(float), model->stream);
}

void hd_model_use(hd_model *model, hd_flat which)
{
	model->stale |= model->in_use != which;
	model->in_use = which;
}

hd_status hd_model_freeze(hd_model *model, bool frozen)
{
	/* what waits was made for what was trained then */
	hd_status st = hd_model_settle(model);
	model->frozen = frozen || model->config.frozen;
	return st;
}
