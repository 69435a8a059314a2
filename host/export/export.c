/* SPDX-License-Identifier: Apache-2.0 */
/* Export from end to end: write the model, validate it, quantise it, report. */
#include "heimdall/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/dataset.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/sha256.h"
#include "host/export/quantize.h"
#include "host/export/validate.h"
#include "host/export/write.h"

void hd_export_result_free(hd_export_result *result)
{
	if (!result)
		return;
	json_decref(result->report);
	free(result->onnx_path);
	*result = (hd_export_result){0};
}

#define BATCH 32 /* samples of a run while models are evaluated */

/* What the steps share. */
typedef struct job {
	const hd_settings *settings; /* of this call */
	hd_settings data_settings;   /* those, and what the checkpoint's run had */
	hd_checkpoint checkpoint;
	char sha256[HD_SHA256_HEX_BYTES];
	hd_onnx_form form;
	hd_backend *backend;
	hd_dataset opened;         /* here */
	const hd_dataset *dataset; /* the caller's, or that; NULL where no recordings are at hand */
	hd_runtime *runtime;       /* NULL where there is none */
} job;

/* ---- what the steps need ---- */

/*
 * The data set, where it can be opened; a named one must. Validation alone looks at a few samples, and makes features
 * of those alone.
 */
static hd_status open_data(job *j, bool all)
{
	hd_status st;
	char *differences = NULL;
	HD_TRY(hd_settings_copy(&j->data_settings, j->settings));
	HD_TRY(hd_settings_inherit(&j->data_settings, &j->checkpoint.settings, &differences));
	st = hd_dataset_open(&j->opened, &j->data_settings, &j->checkpoint.card);
	if (st == HD_OK && !all)
		hd_samples_thin(&j->opened.samples, HD_VALIDATE_ROWS);
	if (st == HD_OK)
		st = hd_dataset_load(&j->opened, &j->data_settings, j->backend);
	if (st == HD_OK)
		j->dataset = &j->opened;
	if (st != HD_OK && !j->settings->given[HD_SET_data_dir]) {
		hd_warn("no recordings to check with: %s; --data_dir names some", hd_error_text());
		st = HD_OK;
	}
done:
	free(differences);
	return st;
}

/* ONNX Runtime; without it the program says so, or fails where that was asked for. */
static hd_status open_runtime(job *j)
{
	hd_status st = hd_runtime_open(&j->runtime, j->settings->onnxruntime);
	if (st != HD_E_UNSUPPORTED)
		return st;
	if (j->settings->require_validation)
		return hd_context(HD_E_FAILED, "not validated");
	hd_warn("not validated: %s", hd_error_text());
	return HD_OK;
}

static void close_job(job *j)
{
	hd_runtime_close(j->runtime);
	hd_dataset_close(&j->opened);
	hd_backend_close(j->backend);
	hd_settings_free(&j->data_settings);
	hd_checkpoint_close(&j->checkpoint);
}

static hd_status model_path(char **out, const char *path, const char *checkpoint)
{
	const char *slash = strrchr(checkpoint, '/');
	if (path)
		return hd_strdup(out, path);
	return hd_sprintf(out, "%.*s" HD_ONNX_FILE, slash ? (int)(slash + 1 - checkpoint) : 0, checkpoint);
}

/* ---- the steps ---- */

static hd_status write_model(hd_export_result *out, job *j, const hd_metrics *metrics)
{
	double started = hd_now_s();
	hd_status st = hd_onnx_model_write(out->onnx_path, &j->checkpoint, &j->form, metrics, j->sha256);
	out->write_s = hd_now_s() - started;
	if (st == HD_OK)
		st = hd_onnx_bytes(&out->bytes, out->onnx_path);
	if (st == HD_OK)
		hd_message("%s: opset %d, %.1f MB in %.1f s", out->onnx_path, j->form.opset, (double)out->bytes / 1e6,
		        out->write_s);
	return st;
}

/* A model that does not agree, or that ONNX Runtime cannot run, must not be taken for one that does. */
static hd_status reject(const hd_export_result *out, hd_status st)
{
	char rejected[4096];
	snprintf(rejected, sizeof rejected, "%s.rejected", out->onnx_path);
	const char *where = rename(out->onnx_path, rejected) == 0 ? rejected : out->onnx_path;
	if (st != HD_OK)
		return hd_context(st, "%s is not valid", where);
	return hd_fail(HD_E_FAILED, "%s does not give the engine's answers", where);
}

static hd_status validate(hd_export_result *out, job *j)
{
	hd_validation v;
	hd_status st = hd_validate(
	        &v, j->runtime, out->onnx_path, &j->checkpoint, j->backend, j->dataset, (int)j->settings->threads);
	if (st == HD_E_DATA)
		return reject(out, st);
	if (st != HD_OK)
		return st;
	hd_validation_print(stdout, &v);
	json_object_set_new(out->report, "validation", hd_validation_json(&v));
	out->validated = v.passed;
	return v.passed ? HD_OK : reject(out, HD_OK);
}

static hd_status quantize(hd_export_result *out, job *j)
{
	hd_status st;
	hd_quantized q = {0};
	const hd_quantize_task task = {
	        .choice = (hd_quantize_choice)hd_settings_choice("quantize", j->settings->quantize),
	        .checkpoint = &j->checkpoint,
	        .form = &j->form,
	        .path = out->onnx_path,
	        .sha256 = j->sha256,
	        .runtime = j->runtime,
	        .dataset = j->dataset,
	        .calibration_samples = j->settings->calibration_samples,
	        .batch = BATCH,
	        .threads = (int)j->settings->threads};
	HD_TRY(hd_quantize(&q, &task));
	hd_quantized_print(stdout, &q);
	json_object_set_new(out->report, "quantized", hd_quantized_json(&q));
	free(out->onnx_path);
	out->onnx_path = NULL;
	HD_TRY(hd_strdup(&out->onnx_path, q.models[q.use].path));
	json_object_set_new(out->report, "onnx_path", json_string(out->onnx_path));
done:
	hd_quantized_free(&q);
	return st;
}

static hd_status describe(hd_export_result *out, const job *j, const char *checkpoint)
{
	out->report = json_pack("{s:s, s:s, s:i, s:I, s:f, s:s, s:n}", "checkpoint_path", checkpoint, "onnx_path",
	        out->onnx_path, "opset", j->form.opset, "bytes", (json_int_t)out->bytes, "write_s", out->write_s,
	        "sha256", j->sha256, "validation");
	return out->report ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the export's report");
}

hd_status hd_export(hd_export_result *out, const hd_settings *settings, const char *checkpoint, const char *path,
        const hd_metrics *metrics, const hd_dataset *dataset)
{
	hd_status st;
	job j = {.settings = settings, .dataset = dataset};
	bool quantized = strcmp(settings->quantize, "none") != 0;
	*out = (hd_export_result){0};
	HD_TRY(hd_onnx_form_from(&j.form, settings));
	HD_TRY(hd_checkpoint_open(&j.checkpoint, checkpoint));
	HD_TRY(hd_sha256_file(j.sha256, checkpoint));
	HD_TRY(model_path(&out->onnx_path, path, checkpoint));
	HD_TRY(write_model(out, &j, metrics));
	HD_TRY(describe(out, &j, checkpoint));
	if (settings->validate || quantized)
		HD_TRY(open_runtime(&j));
	if (!j.runtime && quantized)
		st = hd_fail(
		        HD_E_UNSUPPORTED, "quantize %s: what it costs is measured in ONNX Runtime", settings->quantize);
	if (!j.runtime)
		goto done;
	HD_TRY(hd_backend_open(&j.backend, settings->accelerator, settings->devices, (int)settings->threads));
	if (!dataset)
		HD_TRY(open_data(&j, quantized));
	if (settings->validate)
		HD_TRY(validate(out, &j));
	if (quantized)
		HD_TRY(quantize(out, &j));
done:
	close_job(&j);
	return st;
}
