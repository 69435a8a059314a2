/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/json.h"
#include "host/export/validate.h"

static void describe_row(char out[48], const hd_validation *v, int row)
{
	if (row < v->made)
		snprintf(out, 48, "made %d", row + 1);
	else
		snprintf(out, 48, "real %d", row - v->made + 1);
}

void hd_validation_print(FILE *to, const hd_validation *v)
{
	char worst[48];
	fprintf(to, "%s: input %s, outputs %s\n", v->model, hd_onnx_input_names[v->input],
	        hd_onnx_outputs_names[v->outputs]);
	fprintf(to, "%s\n", v->runtime);
	if (v->real)
		fprintf(to, "against the engine: %d made and %d real inputs, differences in %s\n", v->made, v->real,
		        v->unit);
	else
		fprintf(to, "against the engine: %d made inputs, no real ones; differences in %s\n", v->made, v->unit);
	fprintf(to, "%-10s %10s %10s %10s %10s  %-16s\n", "level", "pos. max", "pos. mean", "sigma max", "sigma mean",
	        "worst");
	for (int i = 0; i < HD_RUNTIME_LEVELS; i++) {
		const hd_validation_level *l = &v->levels[i];
		describe_row(worst, v, l->worst_row);
		fprintf(to, "%-10s %10.2e %10.2e %10.2e %10.2e  %s, batch %d%s\n",
		        hd_runtime_level_name((hd_runtime_level)i), l->position_max, l->position_mean,
		        l->uncertainty_max, l->uncertainty_mean, worst, l->worst_batch, l->passed ? "" : "  FAILED");
	}
	fprintf(to, "latency of a batch of %d: p50 %.2f ms, p95 %.2f ms (%d runs, level all)\n", v->latency_batch,
	        v->latency_p50_ms, v->latency_p95_ms, v->latency_runs);
	fprintf(to, "%s\n", v->passed ? "validated: the model answers as the engine does" : "NOT VALIDATED");
}

static json_t *level_json(const hd_validation *v, const hd_validation_level *l)
{
	char worst[48];
	describe_row(worst, v, l->worst_row);
	return json_pack("{s:b, s:o, s:o, s:o, s:o, s:I, s:s, s:i}", "passed", l->passed, "position_max",
	        hd_json_number(l->position_max), "position_mean", hd_json_number(l->position_mean), "uncertainty_max",
	        hd_json_number(l->uncertainty_max), "uncertainty_mean", hd_json_number(l->uncertainty_mean), "compared",
	        (json_int_t)l->compared, "worst", worst, "worst_batch", l->worst_batch);
}

json_t *hd_validation_json(const hd_validation *v)
{
	json_t *levels = json_object();
	for (int i = 0; i < HD_RUNTIME_LEVELS; i++)
		json_object_set_new(levels, hd_runtime_level_name((hd_runtime_level)i), level_json(v, &v->levels[i]));
	return json_pack("{s:b, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:o, s:{s:i, s:i, s:o, s:o}}", "passed", v->passed,
	        "model", v->model, "runtime", v->runtime, "input", hd_onnx_input_names[v->input], "outputs",
	        hd_onnx_outputs_names[v->outputs], "unit", v->unit, "made_inputs", v->made, "real_inputs", v->real,
	        "levels", levels, "latency", "batch", v->latency_batch, "runs", v->latency_runs, "p50_ms",
	        hd_json_number(v->latency_p50_ms), "p95_ms", hd_json_number(v->latency_p95_ms));
}
