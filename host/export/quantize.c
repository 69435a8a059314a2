/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/export/quantize_calibrate.h"

/* A task in progress. */
typedef struct job {
	const hd_quantize_task *task;
	hd_quantized *out;
	int32_t *samples; /* evaluated */
	hd_onnx_range *ranges;
	float *features; /* of one sample */
} job;

/* ---- samples ---- */

/* At most `most` samples, spread evenly over the first of three splits that has any; *out is the caller's. */
static hd_status pick(
        int32_t **out, int64_t *count, hd_split *from, const hd_dataset *dataset, const hd_split order[3], int64_t most)
{
	*out = NULL;
	*count = 0;
	for (int i = 0; i < 3 && *count == 0; i++) {
		free(*out);
		*out = NULL;
		*from = order[i];
		hd_status st = hd_dataset_split(dataset, order[i], out, count);
		if (st != HD_OK)
			return st;
	}
	if (*count == 0)
		return hd_fail(HD_E_DATA, "%s: no sample to measure quantised models on", dataset->catalog.path);
	int64_t kept = *count < most ? *count : most;
	for (int64_t i = 0; i < kept; i++)
		(*out)[i] = (*out)[i * *count / kept];
	*count = kept;
	return HD_OK;
}

static hd_status calibrate(job *j)
{
	static const hd_split order[] = {HD_TRAIN, HD_VAL, HD_TEST};
	hd_status st;
	const hd_quantize_task *t = j->task;
	hd_model_config config;
	int32_t *samples = NULL;
	char *path = NULL;
	HD_TRY(hd_model_config_from(&config, &t->checkpoint->settings, &t->checkpoint->card, 1));
	HD_TRY(hd_alloc(&j->ranges, (size_t)hd_export_product_count(&config.backbone), sizeof *j->ranges));
	HD_TRY(pick(&samples, &j->out->calibrated, &j->out->calibrated_on, t->dataset, order, t->calibration_samples));
	HD_TRY(hd_sprintf(&path, "%s.calibration", t->path));
	HD_TRY(hd_calibrate(j->ranges, t->checkpoint, t->runtime, path, t->form->opset, t->dataset, samples,
	        j->out->calibrated, t->threads));
done:
	free(path);
	free(samples);
	return st;
}

/* ---- one model ---- */

/* Errors and latency of a model of features. */
static hd_status measure(job *j, hd_quantized_model *m, const char *path)
{
	hd_status st;
	const hd_quantize_task *t = j->task;
	const hd_dataset *d = t->dataset;
	hd_onnx_model model = {0};
	hd_onnx_latency latency;
	HD_TRY(hd_onnx_model_open(&model, t->runtime, path, HD_RUNTIME_ALL, t->threads));
	HD_TRY(hd_onnx_evaluate(&m->metrics, NULL, &model, d, t->batch, j->samples, j->out->evaluated,
	        hd_onnx_precision_name(m->precision), true));
	HD_TRY(hd_onnx_model_time(
	        &latency, &model, &(hd_run_tensor){4, {1, d->cache.C, d->cache.H, d->features.frames}, j->features}));
	m->p50_ms = latency.p50_ms;
	m->p95_ms = latency.p95_ms;
	if (latency.runs > j->out->latency_runs)
		j->out->latency_runs = latency.runs;
done:
	hd_onnx_model_close(&model);
	return st;
}

/* Models that take recordings: the same network without their front end, for as long as it takes to measure it. */
static hd_status measure_behind_front_end(job *j, hd_quantized_model *m)
{
	hd_status st;
	const hd_quantize_task *t = j->task;
	hd_onnx_form form = *t->form;
	char *path = NULL;
	form.input = HD_ONNX_INPUT_FEATURES;
	form.input_name = "features";
	form.precision = m->precision;
	form.ranges = j->ranges;
	HD_TRY(hd_sprintf(&path, "%s.features", m->path));
	HD_TRY(hd_onnx_model_write(path, t->checkpoint, &form, NULL, t->sha256));
	HD_TRY(measure(j, m, path));
done:
	if (path)
		hd_onnx_remove(path);
	free(path);
	return st;
}

static hd_status write_and_measure(job *j, hd_quantized_model *m)
{
	hd_status st = HD_OK;
	const hd_quantize_task *t = j->task;
	hd_onnx_form form = *t->form;
	form.precision = m->precision;
	form.ranges = j->ranges;
	bool quantised = m->precision != HD_ONNX_FP32;
	if (quantised)
		HD_TRY(hd_onnx_model_write(m->path, t->checkpoint, &form, NULL, t->sha256));
	HD_TRY(form.input != HD_ONNX_INPUT_FEATURES ? measure_behind_front_end(j, m) : measure(j, m, m->path));
	/* again, with errors of its own in its metadata */
	if (quantised && j->out->evaluated_on == HD_VAL)
		HD_TRY(hd_onnx_model_write(m->path, t->checkpoint, &form, &m->metrics, t->sha256));
	HD_TRY(hd_onnx_bytes(&m->bytes, m->path));
done:
	return st;
}

/* Appends a model; what is wrong with a quantised one is its own affair. */
static hd_status add_model(job *j, hd_onnx_precision precision)
{
	hd_quantized *q = j->out;
	const char *path = j->task->path, *end = strrchr(path, '.');
	size_t stem = end && !strcmp(end, ".onnx") ? (size_t)(end - path) : strlen(path);
	hd_quantized_model *m = &q->models[q->count], *fp32 = &q->models[0];
	*m = (hd_quantized_model){.precision = precision, .worse = NAN, .p50_ms = NAN, .p95_ms = NAN};
	hd_status st = precision == HD_ONNX_FP32 ? hd_strdup(&m->path, path)
	                                         : hd_sprintf(&m->path, "%.*s.%s.onnx", (int)stem, path,
	                                                   hd_onnx_precision_name(precision));
	if (st != HD_OK)
		return st;
	q->count++;
	st = write_and_measure(j, m);
	if (m != fp32 && (st == HD_E_DATA || st == HD_E_NONFINITE)) {
		snprintf(m->why_not, sizeof m->why_not, "%s", hd_error_text());
		m->metrics.mae_m = m->metrics.median_m = NAN;
		m->bytes = 0;
		hd_onnx_remove(m->path);
		return HD_OK;
	}
	if (st != HD_OK)
		return hd_context(st, "%s", hd_onnx_precision_name(precision));
	m->worse = fmax(m->metrics.mae_m / fp32->metrics.mae_m, m->metrics.median_m / fp32->metrics.median_m) - 1;
	m->passed = m->worse <= HD_QUANTIZE_WORSE;
	return HD_OK;
}

/* ---- all of it ---- */

static bool wanted(hd_quantize_choice choice, hd_onnx_precision precision)
{
	static const hd_onnx_precision chosen[] = {[HD_QUANTIZE_DYNAMIC] = HD_ONNX_INT8_DYNAMIC,
	        [HD_QUANTIZE_STATIC] = HD_ONNX_INT8_STATIC,
	        [HD_QUANTIZE_FP16] = HD_ONNX_FP16};
	return precision == HD_ONNX_FP32 || choice == HD_QUANTIZE_ALL ||
	       (choice != HD_QUANTIZE_NONE && chosen[choice] == precision);
}

/* The one that was asked for, where it is as good as float32. */
static void choose(hd_quantized *q, hd_quantize_choice choice)
{
	const hd_quantized_model *m = &q->models[q->count - 1];
	q->use = 0;
	if (choice == HD_QUANTIZE_ALL || q->count < 2)
		return;
	if (m->passed)
		q->use = q->count - 1;
	else if (m->why_not[0])
		hd_warn("%s: %s; float32 is taken", hd_onnx_precision_name(m->precision), m->why_not);
	else
		hd_warn("%s errs by %.1f %% more than float32 (limit %.0f %%); float32 is taken",
		        hd_onnx_precision_name(m->precision), 100 * m->worse, 100 * HD_QUANTIZE_WORSE);
}

static hd_status check(const hd_quantize_task *t)
{
	const hd_dataset *d = t->dataset;
	if (!t->runtime)
		return hd_fail(HD_E_UNSUPPORTED,
		        "--quantize: there is no ONNX Runtime to measure the models in; install it "
		        "with 'pip install onnxruntime' or name libonnxruntime.so with "
		        "--onnxruntime");
	if (!d || !d->samples.count)
		return hd_fail(HD_E_USAGE,
		        "--quantize: name the recordings that the models are calibrated and measured on "
		        "with --data_dir");
	if (d->cache.C != t->checkpoint->card.channels || d->cache.H != t->checkpoint->card.height ||
	        d->features.frames != t->checkpoint->settings.frames)
		return hd_fail(HD_E_DATA, "%s: its features are not of the model's shape", d->catalog.path);
	return HD_OK;
}

hd_status hd_quantize(hd_quantized *out, const hd_quantize_task *task)
{
	static const hd_split order[] = {HD_VAL, HD_TEST, HD_TRAIN};
	hd_status st;
	job j = {.task = task, .out = out};
	const hd_dataset *d = task->dataset;
	*out = (hd_quantized){.threads = task->threads};
	HD_TRY(check(task));
	snprintf(out->runtime, sizeof out->runtime, "%s", hd_runtime_name(task->runtime));
	HD_TRY(pick(&j.samples, &out->evaluated, &out->evaluated_on, d, order, HD_QUANTIZE_SAMPLES));
	HD_TRY(hd_alloc(&j.features, (size_t)(d->cache.C * d->cache.H * d->features.frames), sizeof *j.features));
	hd_onnx_model_window(j.features, d, j.samples[0], 0);
	for (hd_onnx_precision p = HD_ONNX_FP32; p < HD_ONNX_PRECISIONS; p++) {
		if (!wanted(task->choice, p))
			continue;
		if (p == HD_ONNX_INT8_STATIC)
			HD_TRY(calibrate(&j));
		HD_TRY(add_model(&j, p));
	}
	choose(out, task->choice);
done:
	free(j.features);
	free(j.ranges);
	free(j.samples);
	if (st != HD_OK) {
		/* keeps the error of what failed */
		hd_context(st, "quantise %s", task->path);
		hd_quantized_free(out);
	}
	return st;
}

void hd_quantized_free(hd_quantized *quantized)
{
	if (!quantized)
		return;
	for (int i = 0; i < quantized->count; i++)
		free(quantized->models[i].path);
	*quantized = (hd_quantized){0};
}
