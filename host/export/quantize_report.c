/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/json.h"
#include "host/export/quantize.h"

static const char *const split_names[] = {"training", "validation", "test"};

static double ratio(const hd_quantized *q, const hd_quantized_model *m)
{
	return (double)m->bytes / (double)q->models[0].bytes;
}

static const char *verdict(const hd_quantized *q, const hd_quantized_model *m)
{
	if (m == &q->models[0])
		return "";
	return m->why_not[0] ? "failed" : m->passed ? "passed" : "loses more than 2 %";
}

void hd_quantized_print(FILE *to, const hd_quantized *q)
{
	fprintf(to, "quantised models on %lld %s samples; latency of batch 1, %d runs\n", (long long)q->evaluated,
	        split_names[q->evaluated_on], q->latency_runs);
	fprintf(to, "%s\n", q->runtime);
	if (q->calibrated)
		fprintf(to, "int8-static: ranges of %lld %s samples\n", (long long)q->calibrated,
		        split_names[q->calibrated_on]);
	fprintf(to, "%-12s %8s %5s %8s %8s %9s %9s %7s\n", "model", "MB", "size", "p50 ms", "p95 ms", "median m",
	        "mae m", "worse");
	for (int i = 0; i < q->count; i++) {
		const hd_quantized_model *m = &q->models[i];
		fprintf(to, "%-12s %8.2f %5.2f %8.2f %8.2f %9.0f %9.0f %5.1f %%\n",
		        hd_onnx_precision_name(m->precision), (double)m->bytes / 1e6, ratio(q, m), m->p50_ms, m->p95_ms,
		        m->metrics.median_m, m->metrics.mae_m, 100 * m->worse);
	}
	for (int i = 1; i < q->count; i++) {
		const hd_quantized_model *m = &q->models[i];
		fprintf(to, "%s: %s%s%s\n", hd_onnx_precision_name(m->precision), verdict(q, m),
		        m->why_not[0] ? ": " : "", m->why_not);
	}
	fprintf(to, "to use: %s\n", q->models[q->use].path);
}

json_t *hd_quantized_json(const hd_quantized *q)
{
	json_t *models = json_array();
	for (int i = 0; i < q->count; i++) {
		const hd_quantized_model *m = &q->models[i];
		json_array_append_new(models,
		        json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:s, s:s}", "precision",
		                hd_onnx_precision_name(m->precision), "path", m->path, "bytes", (json_int_t)m->bytes,
		                "size", hd_json_number(ratio(q, m)), "p50_ms", hd_json_number(m->p50_ms), "p95_ms",
		                hd_json_number(m->p95_ms), "median_m", hd_json_number(m->metrics.median_m), "mae_m",
		                hd_json_number(m->metrics.mae_m), "worse", hd_json_number(m->worse), "passed",
		                m->passed, "verdict", verdict(q, m), "why_not", m->why_not));
	}
	return json_pack("{s:s, s:s, s:I, s:s, s:I, s:i, s:i, s:o, s:s}", "runtime", q->runtime, "evaluated_on",
	        split_names[q->evaluated_on], "evaluated", (json_int_t)q->evaluated, "calibrated_on",
	        q->calibrated ? split_names[q->calibrated_on] : "", "calibrated", (json_int_t)q->calibrated,
	        "latency_runs", q->latency_runs, "threads", q->threads, "models", models, "use",
	        q->models[q->use].path);
}
