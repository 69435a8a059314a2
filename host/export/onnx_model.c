/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/onnx_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/statistics.h"
#include "host/model/data_card.h"

#define WARM_UP 10
#define LATENCY_RUNS 100
#define LATENCY_RUNS_MIN 20 /* also of a model that is slow */
#define LATENCY_S 5.0

const char *const hd_onnx_outputs_names[HD_ONNX_OUTPUTS_COUNT] = {"positions,uncertainties", "raw", "combined"};
const char *const hd_onnx_input_names[HD_ONNX_INPUT_COUNT] = {"features", "iq", "magnitude"};

/*
 * Both kinds of file begin with a number: ONNX with the tag of ir_version, 0x08, safetensors with the length of its
 * header, which follows after 8 bytes as JSON.
 */
bool hd_onnx_model_is(const char *path)
{
	const char *dot = strrchr(path, '.');
	unsigned char head[9] = {0};
	if (dot && !strcmp(dot, ".onnx"))
		return true;
	FILE *from = fopen(path, "rb");
	size_t got = from ? fread(head, 1, sizeof head, from) : 0;
	if (from)
		fclose(from);
	return got == sizeof head && head[0] == 0x08 && head[8] != '{';
}

/* ---- metadata and ports ---- */

static hd_status find(const char **out, const hd_session *session, const char *key)
{
	*out = hd_session_metadata(session, key);
	return *out ? HD_OK : hd_fail(HD_E_DATA, "no model of this program: no metadata '%s'", key);
}

static hd_status find_name(int *out, const hd_session *session, const char *key, const char *const *names, int count)
{
	const char *text;
	hd_status st = find(&text, session, key);
	if (st != HD_OK)
		return st;
	for (*out = 0; *out < count; ++*out)
		if (!strcmp(text, names[*out]))
			return HD_OK;
	return hd_fail(HD_E_DATA, "metadata '%s': '%s' is not known to this program", key, text);
}

static hd_status read_metadata(hd_onnx_model *m)
{
	hd_status st;
	const char *config, *card, *format;
	int outputs, input;
	HD_TRY(find(&config, m->session, HD_ONNX_KEY_CONFIG));
	HD_TRY(find(&card, m->session, HD_ONNX_KEY_CARD));
	HD_TRY(find(&format, m->session, HD_ONNX_KEY_FORMAT));
	if (strcmp(format, HD_ONNX_FORMAT) != 0) {
		st = hd_fail(HD_E_DATA, "model format %s, this program reads " HD_ONNX_FORMAT, format);
		goto done;
	}
	HD_TRY(find_name(&outputs, m->session, HD_ONNX_KEY_OUTPUTS, hd_onnx_outputs_names, HD_ONNX_OUTPUTS_COUNT));
	HD_TRY(find_name(&input, m->session, HD_ONNX_KEY_INPUT, hd_onnx_input_names, HD_ONNX_INPUT_COUNT));
	m->outputs = (hd_onnx_outputs)outputs;
	m->input = (hd_onnx_input_form)input;
	HD_TRY(hd_settings_init(&m->settings));
	HD_TRY(hd_settings_read_yaml_text(&m->settings, config, HD_ONNX_KEY_CONFIG));
	HD_TRY(hd_data_card_read(&m->card, card, HD_ONNX_KEY_CARD));
done:
	return st;
}

/* Whether a port has the sizes; those that only a run knows fit any, and -1 is any. */
static bool has_shape(const hd_port *port, int ndim, const int64_t *shape)
{
	bool fits = port->ndim == ndim && port->type == HD_ONNX_F32;
	for (int i = 0; fits && i < ndim; i++)
		fits = shape[i] < 0 || port->shape[i] < 0 || port->shape[i] == shape[i];
	return fits;
}

static hd_status check_input(hd_onnx_model *m)
{
	int count;
	const hd_port *port = hd_session_inputs(m->session, &count);
	const hd_data_card *c = &m->card;
	const int64_t shapes[HD_ONNX_INPUT_COUNT][HD_PORT_DIMS] = {
	        {-1, c->channels, c->height, m->settings.frames}, {-1, c->channels, -1, 2}, {-1, c->channels, -1}};
	static const int ndim[HD_ONNX_INPUT_COUNT] = {4, 4, 3};
	if (count != 1 || !has_shape(port, ndim[m->input], shapes[m->input]))
		return hd_fail(HD_E_DATA, "its input does not have the shape that its metadata say (%s, %d channels)",
		        hd_onnx_input_names[m->input], c->channels);
	m->rows = port->shape[0] > 0 ? port->shape[0] : 0;
	return HD_OK;
}

static int find_port(const hd_port *ports, int count, const char *name, int64_t columns)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(ports[i].name, name) && has_shape(&ports[i], 2, (const int64_t[]){-1, columns}))
			return i;
	return -1;
}

static hd_status check_outputs(hd_onnx_model *m)
{
	int count;
	const hd_port *ports = hd_session_outputs(m->session, &count);
	if (m->outputs == HD_ONNX_OUTPUTS_COMBINED) {
		m->position = m->uncertainty = count == 1 && has_shape(ports, 2, (const int64_t[]){-1, 4}) ? 0 : -1;
	} else {
		m->position = find_port(ports, count, "positions", 2);
		m->uncertainty = find_port(ports, count, "uncertainties", 2);
	}
	return m->position >= 0 && m->uncertainty >= 0
	               ? HD_OK
	               : hd_fail(HD_E_DATA, "its outputs are not those that its metadata say (%s)",
	                         hd_onnx_outputs_names[m->outputs]);
}

hd_status hd_onnx_model_open(
        hd_onnx_model *out, hd_runtime *runtime, const char *path, hd_runtime_level level, int threads)
{
	*out = (hd_onnx_model){0};
	hd_status st = hd_session_open(&out->session, runtime, path, level, threads);
	if (st != HD_OK)
		return st;
	HD_TRY(read_metadata(out));
	HD_TRY(check_input(out));
	HD_TRY(check_outputs(out));
done:
	if (st != HD_OK) {
		hd_context(st, "%s", path);
		hd_onnx_model_close(out);
	}
	return st;
}

void hd_onnx_model_close(hd_onnx_model *model)
{
	if (!model)
		return;
	hd_data_card_free(&model->card);
	hd_settings_free(&model->settings);
	hd_session_close(model->session);
	*model = (hd_onnx_model){0};
}

/* ---- a run ---- */

/* Whether an output is (rows, columns) as the ports promised. */
static bool is_table(const hd_run_tensor *t, int64_t rows, int64_t columns)
{
	return t->ndim == 2 && t->shape[0] == rows && t->shape[1] == columns;
}

hd_status hd_onnx_model_run_raw(hd_onnx_model *m, const hd_run_tensor *input, float *position, float *uncertainty)
{
	hd_status st;
	int count;
	int64_t N = input->shape[0];
	hd_run_tensor *out = NULL;
	hd_session_outputs(m->session, &count);
	HD_TRY(hd_alloc(&out, (size_t)count, sizeof *out));
	HD_TRY(hd_session_run(m->session, input, out));
	const hd_run_tensor *p = &out[m->position], *u = &out[m->uncertainty];
	bool combined = m->outputs == HD_ONNX_OUTPUTS_COMBINED;
	int64_t columns = combined ? 4 : 2, behind = combined ? 2 : 0;
	if (!is_table(p, N, columns) || !is_table(u, N, columns)) {
		st = hd_fail(HD_E_DATA, "the model's answer to %lld rows has another number of rows", (long long)N);
		goto done;
	}
	for (int64_t n = 0; n < N; n++) {
		for (int i = 0; i < 2; i++) {
			position[2 * n + i] = p->data[columns * n + i];
			uncertainty[2 * n + i] = u->data[columns * n + behind + i];
		}
	}
done:
	for (int i = 0; out && i < count; i++)
		free(out[i].data);
	free(out);
	return st;
}

hd_status hd_onnx_model_run(hd_onnx_model *m, const hd_run_tensor *input, double *mu, double *sigma)
{
	hd_status st;
	int64_t N = input->shape[0];
	double scale = m->card.frame.scale_m;
	float *position = NULL, *uncertainty = NULL;
	HD_TRY(hd_alloc(&position, (size_t)(2 * N), sizeof *position));
	HD_TRY(hd_alloc(&uncertainty, (size_t)(2 * N), sizeof *uncertainty));
	HD_TRY(hd_onnx_model_run_raw(m, input, position, uncertainty));
	for (int64_t i = 0; i < 2 * N; i++) {
		mu[i] = (double)position[i];
		sigma[i] = (double)uncertainty[i];
	}
	for (int64_t n = 0; n < N && m->outputs != HD_ONNX_OUTPUTS_RAW; n++) {
		double *at = mu + 2 * n, *s = sigma + 2 * n;
		hd_geo_to_local_m(&m->card.frame, at[0], at[1], &at[0], &at[1]);
		at[0] /= scale;
		at[1] /= scale;
		s[0] /= scale;
		s[1] /= scale;
	}
	for (int64_t i = 0; i < 2 * N; i++) {
		if (!isfinite(mu[i]) || !isfinite(sigma[i]) || sigma[i] <= 0) {
			st = hd_fail(HD_E_NONFINITE, "row %lld: the model's answer is no position with a deviation",
			        (long long)(i / 2));
			goto done;
		}
	}
done:
	free(uncertainty);
	free(position);
	return st;
}

/* ---- time ---- */

hd_status hd_onnx_model_time(hd_onnx_latency *out, hd_onnx_model *model, const hd_run_tensor *input)
{
	hd_status st;
	double ms[LATENCY_RUNS], started;
	float *position = NULL, *uncertainty = NULL;
	size_t rows = (size_t)input->shape[0];
	*out = (hd_onnx_latency){0};
	HD_TRY(hd_alloc(&position, 2 * rows, sizeof *position));
	HD_TRY(hd_alloc(&uncertainty, 2 * rows, sizeof *uncertainty));
	for (int i = 0; i < WARM_UP; i++)
		HD_TRY(hd_onnx_model_run_raw(model, input, position, uncertainty));
	started = hd_now_s();
	while (out->runs < LATENCY_RUNS && (out->runs < LATENCY_RUNS_MIN || hd_now_s() - started < LATENCY_S)) {
		double from = hd_now_s();
		HD_TRY(hd_onnx_model_run_raw(model, input, position, uncertainty));
		ms[out->runs++] = 1e3 * (hd_now_s() - from);
	}
	out->p50_ms = hd_quantile(ms, (size_t)out->runs, 0.5);
	out->p95_ms = hd_quantile(ms, (size_t)out->runs, 0.95);
done:
	free(uncertainty);
	free(position);
	return st;
}
