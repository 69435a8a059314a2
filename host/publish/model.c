/* SPDX-License-Identifier: Apache-2.0 */
#include "host/publish/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/sha256.h"
#include "host/data/csv.h"
#include "host/export/onnx_model.h"
#include "host/export/validate.h"
#include "host/model/data_card.h"
#include "host/publish/package.h"
#include "host/track/mlflow_sender.h"
#include "host/track/run.h"

const char *hd_publish_model_text(const hd_publish_model *model, const char *key)
{
	const char *text = hd_onnx_peek_find(&model->peek, key);
	return text ? text : "";
}

/* ---- the file ---- */

static hd_status read_file(hd_publish_model *m)
{
	hd_status st;
	static const char *const needed[] = {
	        HD_ONNX_KEY_FORMAT, HD_ONNX_KEY_CONFIG, HD_ONNX_KEY_CARD, HD_ONNX_KEY_OUTPUTS, HD_ONNX_KEY_INPUT};
	HD_TRY(hd_onnx_peek_file(&m->peek, m->onnx_path));
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
		if (!hd_onnx_peek_find(&m->peek, needed[i])) {
			st = hd_fail(
			        HD_E_DATA, "%s: no model of this program: no metadata '%s'", m->onnx_path, needed[i]);
			goto done;
		}
	}
	HD_TRY(hd_settings_init(&m->settings));
	HD_TRY(hd_settings_read_yaml_text(
	        &m->settings, hd_publish_model_text(m, HD_ONNX_KEY_CONFIG), HD_ONNX_KEY_CONFIG));
	HD_TRY(hd_settings_dump(&m->settings, &m->config));
	HD_TRY(hd_data_card_read(&m->card, hd_publish_model_text(m, HD_ONNX_KEY_CARD), HD_ONNX_KEY_CARD));
done:
	return st;
}

/* A model that was written before its checkpoint was replaced must not go out under the new one's name. */
static hd_status check_origin(const hd_publish_model *m, const char *checkpoint)
{
	char sha256[HD_SHA256_HEX_BYTES];
	hd_status st = hd_sha256_file(sha256, checkpoint);
	if (st != HD_OK || !strcmp(sha256, hd_publish_model_text(m, HD_ONNX_KEY_SHA256)))
		return st;
	return hd_fail(HD_E_DATA,
	        "%s was not written from %s; heimdall export --checkpoint %s --out NEW.onnx, then publish NEW.onnx",
	        m->onnx_path, checkpoint, checkpoint);
}

/* ---- metrics ---- */

/* The numbers of an object alone. */
static json_t *numbers_of(const json_t *object)
{
	json_t *out = json_object(), *value;
	const char *key;
	json_object_foreach((json_t *)object, key, value)
	{
		if (json_is_number(value) && strchr(key, '/'))
			json_object_set(out, key, value);
	}
	return out;
}

static hd_status metrics_of_file(hd_publish_model *m, const char *path)
{
	json_error_t error;
	json_t *object = json_load_file(path, 0, &error);
	if (!json_is_object(object)) {
		json_decref(object);
		return hd_fail(HD_E_DATA, "%s: is no JSON of heimdall eval: %s", path, error.text);
	}
	m->metrics = numbers_of(object);
	json_decref(object);
	return HD_OK;
}

/* Columns "val_NAME" of one row of a checkpoint folder's metrics.csv, as "val/NAME". */
static hd_status row_of_table(json_t *out, hd_csv *csv, int64_t epoch)
{
	int more;
	char **names = NULL;
	hd_status st = hd_csv_next(csv, &more);
	size_t columns = more ? csv->field_count : 0;
	HD_TRY(st);
	HD_TRY(hd_alloc(&names, columns, sizeof *names));
	for (size_t i = 0; i < columns; i++)
		HD_TRY(hd_strdup(&names[i], csv->fields[i]));
	while (more) {
		HD_TRY(hd_csv_next(csv, &more));
		if (!more || csv->field_count != columns || strtoll(csv->fields[0], NULL, 10) != epoch)
			continue;
		for (size_t i = 0; i < columns; i++) {
			char name[128], *end;
			double value = strtod(csv->fields[i], &end);
			snprintf(name, sizeof name, "val/%s", names[i] + (strlen(names[i]) > 4 ? 4 : 0));
			if (!strncmp(names[i], "val_", 4) && end != csv->fields[i] && !*end && isfinite(value))
				json_object_set_new(out, name, json_real(value));
		}
	}
done:
	for (size_t i = 0; names && i < columns; i++)
		free(names[i]);
	free(names);
	return st;
}

static hd_status metrics_of_table(hd_publish_model *m, const char *checkpoint)
{
	hd_status st;
	hd_csv csv = {0};
	hd_checkpoint c = {0};
	char *path = NULL;
	const char *slash = strrchr(checkpoint, '/');
	HD_TRY(hd_sprintf(&path, "%.*smetrics.csv", slash ? (int)(slash + 1 - checkpoint) : 0, checkpoint));
	HD_TRY(hd_checkpoint_open(&c, checkpoint));
	/* within an epoch, no row is this checkpoint's */
	if (access(path, F_OK) != 0 || c.state.step != 0 || c.state.epoch < 1)
		goto done;
	m->metrics = json_object();
	HD_TRY(hd_csv_open(&csv, path));
	HD_TRY(row_of_table(m->metrics, &csv, c.state.epoch - 1));
done:
	hd_csv_close(&csv);
	hd_checkpoint_close(&c);
	free(path);
	return st;
}

static hd_status find_metrics(hd_publish_model *m, const hd_settings *settings, const hd_publish_source *source)
{
	hd_status st = HD_OK;
	const char *text = hd_publish_model_text(m, HD_ONNX_KEY_METRICS);
	if (settings->metrics[0]) {
		HD_TRY(metrics_of_file(m, settings->metrics));
	} else if (source->metrics) {
		json_t *all = hd_metrics_json(source->metrics, "val");
		m->metrics = numbers_of(all);
		json_decref(all);
	} else if (text[0]) {
		json_t *all = json_loads(text, 0, NULL);
		m->metrics = numbers_of(all);
		json_decref(all);
	} else if (source->checkpoint) {
		HD_TRY(metrics_of_table(m, source->checkpoint));
	}
	if (!isfinite(hd_publish_metric(m->metrics, "median_m")))
		st = hd_fail(HD_E_FAILED,
		        "%s: was never evaluated; heimdall eval --checkpoint %s --split val --data_dir DIR --json "
		        "metrics.json, then publish it with --metrics metrics.json",
		        m->onnx_path, source->checkpoint ? source->checkpoint : m->onnx_path);
done:
	return st;
}

double hd_publish_metric(const json_t *metrics, const char *name)
{
	static const char *const splits[] = {"val", "test", "all", "train"};
	char key[128];
	for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
		snprintf(key, sizeof key, "%s/%s", splits[i], name);
		const json_t *value = json_object_get(metrics, key);
		if (json_is_number(value))
			return json_number_value(value);
	}
	return NAN;
}

/* ---- validation ---- */

static hd_status beside_engine(
        hd_runtime *runtime, const hd_publish_model *m, const hd_settings *s, const char *checkpoint)
{
	hd_status st;
	hd_checkpoint c = {0};
	hd_backend *backend = NULL;
	hd_validation v;
	HD_TRY(hd_checkpoint_open(&c, checkpoint));
	HD_TRY(hd_backend_open(&backend, s->accelerator, s->devices, (int)s->threads));
	HD_TRY(hd_validate(&v, runtime, m->onnx_path, &c, backend, NULL, (int)s->threads));
	if (!v.passed) {
		hd_validation_print(stderr, &v);
		st = hd_fail(HD_E_FAILED,
		        "%s does not give the answers of %s; heimdall export --checkpoint %s writes it anew",
		        m->onnx_path, checkpoint, checkpoint);
	}
done:
	hd_backend_close(backend);
	hd_checkpoint_close(&c);
	return st;
}

/* A model of lower precision differs from the engine by design, which its export has measured; it must load. */
static hd_status validate(hd_publish_model *m, const hd_settings *s, const char *checkpoint)
{
	hd_status st;
	hd_runtime *runtime = NULL;
	hd_onnx_model model = {0};
	const char *precision = hd_publish_model_text(m, HD_ONNX_KEY_PRECISION);
	st = hd_runtime_open(&runtime, s->onnxruntime);
	if (st == HD_E_UNSUPPORTED)
		st = hd_context(
		        HD_E_FAILED, "%s cannot be validated (--no-validate publishes it as it is)", m->onnx_path);
	HD_TRY(st);
	if (checkpoint && (!precision[0] || !strcmp(precision, "fp32"))) {
		HD_TRY(beside_engine(runtime, m, s, checkpoint));
	} else {
		HD_TRY(hd_onnx_model_open(&model, runtime, m->onnx_path, HD_RUNTIME_ALL, (int)s->threads));
		hd_onnx_model_close(&model);
	}
	m->validated = true;
done:
	hd_runtime_close(runtime);
	return st;
}

/* ---- the run ---- */

/* Recordings by split, from the run's table of them. */
static hd_status count_recordings(json_t **out, const char *path)
{
	hd_status st;
	hd_csv csv = {0};
	int more;
	size_t column = 0;
	HD_TRY(hd_csv_open(&csv, path));
	HD_TRY(hd_csv_next(&csv, &more));
	while (more && column < csv.field_count && strcmp(csv.fields[column], "split") != 0)
		column++;
	if (!more || column == csv.field_count)
		goto done;
	*out = json_object();
	for (;;) {
		HD_TRY(hd_csv_next(&csv, &more));
		if (!more)
			break;
		if (column >= csv.field_count)
			continue;
		json_int_t n = json_integer_value(json_object_get(*out, csv.fields[column]));
		json_object_set_new(*out, csv.fields[column], json_integer(n + 1));
	}
done:
	hd_csv_close(&csv);
	return st;
}

static hd_status read_run(hd_publish_model *m, const char *folder)
{
	hd_status st;
	hd_run run = {0};
	hd_sent sent = {0};
	char *table = NULL;
	HD_TRY(hd_run_open(&run, folder));
	HD_TRY(hd_set_text(&m->run_name, run.name));
	HD_TRY(hd_set_text(&m->experiment, run.experiment));
	if (hd_sender_state(&sent, &run) != HD_OK)
		hd_warn("the version will not name its run in MLflow: %s", hd_error_text());
	HD_TRY(hd_set_text(&m->mlflow_run_id, sent.mlflow_run_id));
	HD_TRY(hd_run_path(&table, &run, "catalog.csv"));
	if (access(table, F_OK) == 0)
		HD_TRY(count_recordings(&m->recordings, table));
done:
	free(table);
	hd_run_free(&run);
	return st;
}

/* ---- all of it ---- */

hd_status hd_publish_model_open(hd_publish_model *m, const hd_settings *settings, const hd_publish_source *source)
{
	hd_status st;
	*m = (hd_publish_model){.validated = source->validated};
	HD_TRY(hd_strdup(&m->onnx_path, source->onnx_path));
	HD_TRY(hd_strdup(&m->run_name, ""));
	HD_TRY(hd_strdup(&m->experiment, ""));
	HD_TRY(hd_strdup(&m->mlflow_run_id, ""));
	HD_TRY(read_file(m));
	if (source->checkpoint)
		HD_TRY(check_origin(m, source->checkpoint));
	HD_TRY(find_metrics(m, settings, source));
	if (source->run_folder)
		HD_TRY(read_run(m, source->run_folder));
	if (!m->validated && settings->validate)
		HD_TRY(validate(m, settings, source->checkpoint));
	if (!m->validated)
		hd_warn("%s: not validated", m->onnx_path);
done:
	if (st != HD_OK)
		hd_publish_model_close(m);
	return st;
}

void hd_publish_model_close(hd_publish_model *m)
{
	if (!m)
		return;
	json_decref(m->recordings);
	json_decref(m->metrics);
	free(m->mlflow_run_id);
	free(m->experiment);
	free(m->run_name);
	hd_data_card_free(&m->card);
	free(m->config);
	hd_settings_free(&m->settings);
	hd_onnx_peek_free(&m->peek);
	free(m->onnx_path);
	*m = (hd_publish_model){0};
}
