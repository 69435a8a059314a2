/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What MLflow wants beside an ONNX model. Versions are lower bounds: the model was written by none of these packages.
 * Source: mlflow/models/model.py and mlflow/onnx of MLflow 3.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/export/onnx_model.h"
#include "host/publish/describe.h"
#include "host/publish/package.h"

#define PYTHON "3.10"
#define MLFLOW "3.17.2" /* whose form of MLmodel this is */

/* One JSON array of tensor specifications, as MLmodel's `signature` holds it. */
static char *specifications(const hd_port *ports, size_t count)
{
	json_t *all = json_array();
	for (size_t i = 0; i < count; i++) {
		json_t *shape = json_array();
		for (int d = 0; d < ports[i].ndim; d++)
			json_array_append_new(shape, json_integer(ports[i].shape[d]));
		json_array_append_new(all, json_pack("{s:s, s:s, s:{s:s, s:o}}", "name", ports[i].name, "type",
		                                   "tensor", "tensor-spec", "dtype", "float32", "shape", shape));
	}
	char *text = json_array_size(all) == count ? json_dumps(all, 0) : NULL;
	json_decref(all);
	return text;
}

/* A text in single quotes, as YAML takes them. */
static void put_quoted(FILE *to, const char *text)
{
	fputc('\'', to);
	for (; *text; text++)
		fputs(*text == '\'' ? "''" : (char[]){*text, 0}, to);
	fputc('\'', to);
}

static void put_metadata(FILE *to, const hd_publish_facts *f)
{
	const char *const entries[][2] = {{"heimdall.version", f->version}, {"heimdall.sha256", f->sha256},
	        {"heimdall.commit", hd_publish_model_text(f->model, HD_ONNX_KEY_COMMIT)},
	        {"heimdall.receivers", f->model->card.receivers}};
	fputs("metadata:\n", to);
	for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
		fprintf(to, "  %s: ", entries[i][0]);
		put_quoted(to, entries[i][1]);
		fputc('\n', to);
	}
}

char *hd_publish_mlmodel(const hd_publish_facts *f)
{
	size_t bytes;
	char *text = NULL;
	const hd_onnx_peek *p = &f->model->peek;
	char *inputs = specifications(p->inputs, p->input_count),
	     *outputs = specifications(p->outputs, p->output_count);
	FILE *to = inputs && outputs ? open_memstream(&text, &bytes) : NULL;
	if (to) {
		fprintf(to,
		        "flavors:\n  onnx:\n    code: null\n    data: " HD_PUBLISH_MODEL
		        "\n    onnx_session_options: null\n    onnx_version: 1.16.0\n    providers:\n    - "
		        "CUDAExecutionProvider\n    - CPUExecutionProvider\n  python_function:\n    "
		        "data: " HD_PUBLISH_MODEL
		        "\n    env:\n      conda: conda.yaml\n      virtualenv: python_env.yaml\n    loader_module: "
		        "mlflow.onnx\n    python_version: " PYTHON ".0\n");
		put_metadata(to, f);
		/* 32 hexadecimal digits that the same model always has */
		fprintf(to, "mlflow_version: " MLFLOW "\nmodel_size_bytes: %lld\nmodel_uuid: %.32s\n",
		        (long long)f->bytes, f->sha256);
		if (f->model->mlflow_run_id[0])
			fprintf(to, "run_id: %s\n", f->model->mlflow_run_id);
		fputs("signature:\n  inputs: ", to);
		put_quoted(to, inputs);
		fputs("\n  outputs: ", to);
		put_quoted(to, outputs);
		fprintf(to, "\n  params: null\nutc_time_created: '%.10s %.8s.000000'\n", f->created, f->created + 11);
		if (fclose(to) != 0) {
			free(text);
			text = NULL;
		}
	}
	free(outputs);
	free(inputs);
	return text;
}

char *hd_publish_requirements(void)
{
	return strdup("mlflow>=3.0\nnumpy\nonnx>=1.14\nonnxruntime>=1.15\n");
}

char *hd_publish_conda(void)
{
	return strdup(
	        "channels:\n- conda-forge\ndependencies:\n- python>=" PYTHON "\n- pip\n- pip:\n  - mlflow>=3.0\n  - "
	        "numpy\n  - onnx>=1.14\n  - onnxruntime>=1.15\nname: mlflow-env\n");
}

char *hd_publish_python_env(void)
{
	return strdup("python: '" PYTHON "'\nbuild_dependencies:\n- pip\n- setuptools\n- wheel\ndependencies:\n- -r "
	              "requirements.txt\n");
}

char *hd_publish_metrics(const json_t *metrics)
{
	size_t bytes;
	char *text = NULL, *json = json_dumps(metrics, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
	FILE *to = json ? open_memstream(&text, &bytes) : NULL;
	if (to) {
		fprintf(to, "%s\n", json);
		fclose(to);
	}
	free(json);
	return text;
}
