/* SPDX-License-Identifier: Apache-2.0 */
#include "host/model/summary.h"

#include <string.h>

#include "host/model/convnext.h"

#define SHAPE_BYTES 48

/* Parameters whose names begin with "module.". */
static int64_t count_of(const hd_model *m, const char *module, bool *trained)
{
	int64_t count = 0;
	size_t length = strlen(module);
	*trained = false;
	for (int p = 0; p < m->parameter_count; p++) {
		const hd_parameter *row = &m->parameters[p];
		if (strncmp(row->name, module, length) != 0 || row->name[length] != '.' || !row->trained)
			continue;
		count += row->size;
		*trained |= row->offset >= (m->frozen ? m->heads_from : m->trained_from);
	}
	return count;
}

static void put_row(FILE *to, const hd_model *m, const char *module, const char *kind, const char *shape)
{
	bool trained;
	int64_t count = count_of(m, module, &trained);
	fprintf(to, "  %-17s %-22s %-18s %12lld%s\n", module, kind, shape, (long long)count, trained ? "" : " frozen");
}

void hd_model_summary_print(FILE *to, const hd_model *m)
{
	const hd_model_config *c = &m->config;
	char module[24], kind[64], shape[SHAPE_BYTES], widths[48] = "";
	int64_t all = hd_model_parameter_count(m), trained = 0;
	fprintf(to, "  %-17s %-22s %-18s %12s\n", "module", "", "output", "parameters");
	for (int s = -1; s < HD_STAGES; s++) {
		const hd_stage *stage = &m->stages[s < 0 ? 0 : s];
		snprintf(shape, sizeof shape, "(%d, %lld, %lld, %lld)", c->batch, (long long)stage->C,
		        (long long)stage->H, (long long)stage->W);
		snprintf(module, sizeof module, s < 0 ? "stem" : "stages.%d", s);
		snprintf(kind, sizeof kind, s < 0 ? "%d channels" : "%d blocks", s < 0 ? c->channels : stage->depth);
		put_row(to, m, module, kind, shape);
	}
	snprintf(shape, sizeof shape, "(%d, %d)", c->batch, c->backbone.widths[HD_STAGES - 1]);
	put_row(to, m, "head", "mean, norm", shape);
	for (int i = 0; i < c->head_layers; i++)
		snprintf(widths + strlen(widths), sizeof widths - strlen(widths), "%d, ", c->head_widths[i]);
	snprintf(kind, sizeof kind, "%s2", widths);
	snprintf(shape, sizeof shape, "(%d, 2)", c->batch);
	put_row(to, m, "position_head", kind, shape);
	put_row(to, m, "uncertainty_head", kind, shape);
	for (int p = 0; p < m->parameter_count; p++)
		if (m->parameters[p].trained &&
		        m->parameters[p].offset >= (m->frozen ? m->heads_from : m->trained_from))
			trained += m->parameters[p].size;
	fprintf(to,
	        "  %.2f M parameters, %.2f M of them trained; %.0f MB for them and their state, %.0f MB for a batch\n",
	        (double)all / 1e6, (double)trained / 1e6, (double)m->parameter_bytes / 1e6,
	        (double)(m->plan_bytes - m->parameter_bytes) / 1e6);
}
