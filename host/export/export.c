/* SPDX-License-Identifier: Apache-2.0 */
/* Export from end to end: write the model, validate it, quantise it, report. */
#include "heimdall/export.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
	hd_dataset dataset;
	bool has_data;       /* the recordings that it was trained on, or others that were named, are at hand */
	hd_runtime *runtime; /* NULL where there is none */
} job;

/* ---- what the steps need ---- */

/* The data set, where it can be opened; a named one must. */
static hd_status open_data(job *j)
{
	hd_status st;
	char *differences = NULL;
	bool named = j->settings->given[HD_SET_data_dir];
	HD_TRY(hd_settings_copy(&j->data_settings, j->settings));
	HD_TRY(hd_settings_inherit(&j->data_settings, &j->checkpoint.settings, &differences));
	if (!named && access(j->data_settings.data_dir, F_OK) != 0) {
		hd_message("%s, where it was trained, is not there: --data_dir names recordings to check with",
		        j->data_settings.data_dir);
		goto done;
	}
	st = hd_dataset_open(&j->dataset, &j->data_settings, &j->checkpoint.card);
	if (st == HD_OK)
		st = hd_dataset_load(&j->dataset, &j->data_settings, j->backend);
	j->has_data = st == HD_OK;
	if (st != HD_OK && !named) {
		hd_warn("no recordings to check with: %s", hd_error_text());
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
	hd_dataset_close(&j->dataset);
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

static size_t bytes_of(const char *path)
{
	struct stat info;
	return stat(path, &info) == 0 ? (size_t)info.st_size : 0;
}

static hd_status write_model(hd_export_result *out, job *j, const hd_metrics *metrics)
{
	char data[4096];
	double started = hd_now_s();
	hd_status st = hd_onnx_model_write(out->onnx_path, &j->checkpoint, &j->form, metrics, j->sha256);
	if (st != HD_OK)
		return st;
	out->write_s = hd_now_s() - started;
	snprintf(data, sizeof data, "%s.data", out->onnx_path);
	out->bytes = bytes_of(out->onnx_path) + (j->form.external != HD_ONNX_EXTERNAL_NEVER ? bytes_of(data) : 0);
	hd_message("%s: opset %d, %.1f MB in %.1f s", out->onnx_path, j->form.opset, (double)out->bytes / 1e6,
	        out->write_s);
	return HD_OK;
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
	hd_status st = hd_validate(&v, j->runtime, out->onnx_path, &j->checkpoint, j->backend,
	        j->has_data ? &j->dataset : NULL, (int)j->settings->threads);
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
	        .dataset = j->has_data ? &j->dataset : NULL,
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

static hd_status describe(hd_export_result *out, const job *j)
{
	out->report = json_pack("{s:s, s:s, s:i, s:I, s:f, s:s, s:n}", "checkpoint_path", j->settings->checkpoint,
	        "onnx_path", out->onnx_path, "opset", j->form.opset, "bytes", (json_int_t)out->bytes, "write_s",
	        out->write_s, "sha256", j->sha256, "validation");
	return out->report ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the export's report");
}

hd_status hd_export(hd_export_result *out, const hd_settings *settings, const char *path, const hd_metrics *metrics)
{
	hd_status st;
	job j = {.settings = settings};
	bool quantized = strcmp(settings->quantize, "none") != 0;
	*out = (hd_export_result){0};
	HD_TRY(hd_onnx_form_from(&j.form, settings));
	HD_TRY(hd_checkpoint_open(&j.checkpoint, settings->checkpoint));
	HD_TRY(hd_sha256_file(j.sha256, settings->checkpoint));
	HD_TRY(model_path(&out->onnx_path, path, settings->checkpoint));
	HD_TRY(write_model(out, &j, metrics));
	HD_TRY(describe(out, &j));
	if (settings->validate || quantized)
		HD_TRY(open_runtime(&j));
	if (!j.runtime && quantized)
		st = hd_fail(
		        HD_E_UNSUPPORTED, "quantize %s: what it costs is measured in ONNX Runtime", settings->quantize);
	if (!j.runtime)
		goto done;
	HD_TRY(hd_backend_open(&j.backend, settings->accelerator, (int)settings->threads));
	HD_TRY(open_data(&j));
	if (settings->validate)
		HD_TRY(validate(out, &j));
	if (quantized)
		HD_TRY(quantize(out, &j));
done:
	close_job(&j);
	return st;
}
