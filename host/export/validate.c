/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/validate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/export/validate_pool.h"

#define COLUMNS 2

static const int batches[] = {1, 2, 7, 32};
#define BATCHES (sizeof batches / sizeof *batches)

/* ---- comparing ---- */

/* Differences of one answer: two positions and two uncertainties. */
typedef struct difference {
	double position[COLUMNS], uncertainty[COLUMNS];
	int positions; /* values in position: 2 axes, or 1 distance */
	bool within;
} difference;

static difference compare(const hd_onnx_model *m, const hd_prediction *want, const float *position, const float *sigma)
{
	const hd_label_frame *frame = &m->card.frame;
	double sigmas[COLUMNS] = {want->sigma_north_m, want->sigma_east_m}, at[COLUMNS];
	difference d = {.positions = 1, .within = true};
	if (m->outputs == HD_ONNX_OUTPUTS_RAW) {
		hd_geo_to_local_m(frame, want->predicted_latitude_deg, want->predicted_longitude_deg, &at[0], &at[1]);
		d.positions = COLUMNS;
		for (int i = 0; i < COLUMNS; i++) {
			d.position[i] = fabs((double)position[i] - at[i] / frame->scale_m);
			d.uncertainty[i] = fabs((double)sigma[i] - sigmas[i] / frame->scale_m);
			d.within = d.within && d.position[i] <= HD_VALIDATE_MAX && d.uncertainty[i] <= HD_VALIDATE_MAX;
		}
		return d;
	}
	d.position[0] = hd_geo_distance_m(
	        (double)position[0], (double)position[1], want->predicted_latitude_deg, want->predicted_longitude_deg);
	d.within = d.position[0] <= HD_VALIDATE_M;
	for (int i = 0; i < COLUMNS; i++) {
		d.uncertainty[i] = fabs((double)sigma[i] - sigmas[i]);
		d.within = d.within && d.uncertainty[i] <= fmax(HD_VALIDATE_M, HD_VALIDATE_RELATIVE * sigmas[i]);
	}
	return d;
}

/* The larger one; what is no number stays. */
static double larger(double a, double b)
{
	return isnan(a) || a >= b ? a : b;
}

/* Adds one answer; means are sums until the level is done. */
static void add(hd_validation_level *l, const difference *d, int row, int batch)
{
	double most = 0;
	for (int i = 0; i < d->positions; i++) {
		most = larger(most, d->position[i]);
		l->position_mean += d->position[i] / d->positions;
	}
	for (int i = 0; i < COLUMNS; i++) {
		l->uncertainty_max = larger(l->uncertainty_max, d->uncertainty[i]);
		l->uncertainty_mean += d->uncertainty[i] / COLUMNS;
	}
	if (!l->compared || (!isnan(l->position_max) && !(most <= l->position_max))) {
		l->worst_row = row;
		l->worst_batch = batch;
	}
	l->position_max = larger(l->position_max, most);
	l->passed = l->passed && d->within;
	l->compared++;
}

/* `batch` rows from a row on, which begin again where the rows of that kind end. */
static hd_status run_batch(hd_validation_level *l, hd_onnx_model *m, const hd_validate_pool *p, int first, int rows,
        int from, int batch, float *inputs)
{
	hd_status st;
	float *answers = NULL;
	hd_run_tensor input = {.ndim = p->ndim, .data = inputs};
	memcpy(input.shape, p->shape, sizeof input.shape);
	input.shape[0] = batch;
	HD_TRY(hd_alloc(&answers, (size_t)batch * 2 * COLUMNS, sizeof *answers));
	float *sigma = answers + batch * COLUMNS;
	for (int i = 0; i < batch; i++)
		memcpy(inputs + i * p->row, p->inputs + (first + (from + i) % rows) * p->row,
		        (size_t)p->row * sizeof *inputs);
	HD_TRY(hd_onnx_model_run_raw(m, &input, answers, sigma));
	for (int i = 0; i < batch; i++) {
		int row = first + (from + i) % rows;
		difference d = compare(m, &p->answers[row], answers + i * COLUMNS, sigma + i * COLUMNS);
		add(l, &d, row, batch);
	}
done:
	free(answers);
	return st;
}

/* Rows of one kind in batches of all sizes, each beginning where the one before ended. */
static hd_status run_kind(
        hd_validation_level *l, hd_onnx_model *m, const hd_validate_pool *p, int first, int rows, float *inputs)
{
	hd_status st = HD_OK;
	int from = 0;
	for (size_t k = 0; rows && k < BATCHES; k++) {
		int batch = m->rows ? (int)m->rows : batches[k];
		HD_TRY(run_batch(l, m, p, first, rows, from, batch, inputs));
		from += batch;
	}
done:
	return st;
}

static void finish(hd_validation_level *l, const hd_onnx_model *m)
{
	l->position_mean /= (double)l->compared;
	l->uncertainty_mean /= (double)l->compared;
	if (m->outputs == HD_ONNX_OUTPUTS_RAW)
		l->passed =
		        l->passed && l->position_mean <= HD_VALIDATE_MEAN && l->uncertainty_mean <= HD_VALIDATE_MEAN;
}

static hd_status measure(hd_validation *v, hd_onnx_model *m, const hd_validate_pool *p)
{
	hd_onnx_latency latency;
	hd_run_tensor input = {.ndim = p->ndim, .data = p->inputs};
	memcpy(input.shape, p->shape, sizeof input.shape);
	input.shape[0] = m->rows ? m->rows : 1;
	hd_status st = hd_onnx_model_time(&latency, m, &input);
	v->latency_batch = (int)input.shape[0];
	v->latency_runs = latency.runs;
	v->latency_p50_ms = latency.p50_ms;
	v->latency_p95_ms = latency.p95_ms;
	return st;
}

/* ---- all of it ---- */

static hd_status check_fit(const hd_onnx_model *m, const hd_checkpoint *c, const hd_dataset *real)
{
	const hd_data_card *a = &m->card, *b = &c->card;
	if (a->channels != b->channels || a->height != b->height || m->settings.frames != c->settings.frames ||
	        a->frame.scale_m != b->frame.scale_m || a->frame.origin_latitude_deg != b->frame.origin_latitude_deg ||
	        a->frame.origin_longitude_deg != b->frame.origin_longitude_deg)
		return hd_fail(
		        HD_E_DATA, "the model was not made from this checkpoint: receivers, inputs or area differ");
	if (real && (real->cache.C != b->channels || real->cache.H != b->height ||
	                    real->features.frames != c->settings.frames))
		return hd_fail(HD_E_DATA, "the data set's features are not of the model's shape");
	if (m->rows > 2 * HD_VALIDATE_ROWS)
		return hd_fail(HD_E_UNSUPPORTED, "a model of %lld rows in each run; at most %d are compared",
		        (long long)m->rows, 2 * HD_VALIDATE_ROWS);
	return HD_OK;
}

static hd_status run_level(hd_validation *v, hd_runtime_level level, hd_onnx_model *m, const hd_validate_pool *p)
{
	hd_status st;
	hd_validation_level *l = &v->levels[level];
	float *inputs = NULL;
	*l = (hd_validation_level){.passed = true};
	HD_TRY(hd_alloc(&inputs, (size_t)(2 * HD_VALIDATE_ROWS) * (size_t)p->row, sizeof *inputs));
	HD_TRY(run_kind(l, m, p, 0, p->made, inputs));
	HD_TRY(run_kind(l, m, p, p->made, p->real, inputs));
	finish(l, m);
	v->passed = v->passed && l->passed;
	if (level == HD_RUNTIME_ALL)
		HD_TRY(measure(v, m, p));
done:
	free(inputs);
	return st == HD_OK ? st : hd_context(st, "level %s", hd_runtime_level_name(level));
}

hd_status hd_validate(hd_validation *v, hd_runtime *runtime, const char *onnx_path, const hd_checkpoint *checkpoint,
        hd_backend *backend, const hd_dataset *real, int threads)
{
	hd_status st = HD_OK;
	hd_onnx_model model = {0};
	hd_validate_pool pool = {0};
	*v = (hd_validation){.passed = true, .threads = threads};
	snprintf(v->runtime, sizeof v->runtime, "%s", hd_runtime_name(runtime));
	snprintf(v->model, sizeof v->model, "%s", onnx_path);
	for (hd_runtime_level level = 0; level < HD_RUNTIME_LEVELS; level++) {
		HD_TRY(hd_onnx_model_open(&model, runtime, onnx_path, level, threads));
		if (!pool.inputs) {
			HD_TRY(check_fit(&model, checkpoint, real));
			HD_TRY(hd_validate_pool_open(&pool, &model, checkpoint, backend, real));
		}
		HD_TRY(run_level(v, level, &model, &pool));
		v->outputs = model.outputs;
		v->input = model.input;
		hd_onnx_model_close(&model);
	}
	v->unit = v->outputs == HD_ONNX_OUTPUTS_RAW ? "label units" : "m";
	v->made = pool.made;
	v->real = pool.real;
done:
	hd_validate_pool_close(&pool);
	hd_onnx_model_close(&model);
	if (st != HD_OK) {
		v->passed = false;
		/* errors of the model name it already */
		if (!strstr(hd_error_text(), onnx_path))
			hd_context(st, "%s", onnx_path);
	}
	return st;
}
