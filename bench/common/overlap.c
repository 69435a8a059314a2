/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of a step, and how long two streams take in them. */
#include "bench/common/overlap.h"

#include <math.h>

const char *hd_region_name(int region)
{
	static const char *const names[HD_REGIONS] = {"alone", "forward", "stage 0", "stage 1", "stage 2", "stage 3"};
	return names[region];
}

/*
 * Forward behind AdamW: the longest way from the first piece to some block's piece and from that block on to the end.
 * Blocks of a stage are equal, so that a longest way crosses at the first or the last of one.
 */
static double forward_order_s(const hd_training_step *step, const double *forward_s, double adamw_s)
{
	double rest_s = 0, before = 0, longest = adamw_s;
	for (int s = 0; s < HD_STEP_STAGES; s++)
		rest_s += forward_s[s];
	for (int s = 0; s < HD_STEP_STAGES; s++) {
		const hd_step_stage *stage = &step->stage[s];
		double last_s = forward_s[s] / stage->depth, first = before + stage->first_piece;
		longest = fmax(longest, adamw_s * first + rest_s);
		rest_s -= forward_s[s];
		before += stage->parameters;
		longest = fmax(longest, adamw_s * before + last_s + rest_s);
	}
	return longest;
}

static void finish(hd_region_time *t)
{
	double both = t->main_s + t->beside_s;
	t->order_s = fmax(t->order_s, fmax(t->main_s, t->beside_s));
	t->overlapped_s = HD_CONTENTION * fmax(fmax(t->dram_s, t->l2_s), fmax(t->busy_s, t->order_s));
	t->overlapped_s = t->main_s > 0 && t->beside_s > 0 ? fmin(t->overlapped_s, both) : both;
}

hd_step_time hd_overlap(const hd_gpu *gpu, const hd_training_step *step)
{
	hd_step_time all = {0};
	double forward_s[HD_STEP_STAGES] = {0}, adamw_s = 0;
	for (size_t i = 0; i < step->count; i++) {
		const hd_step_row *row = &step->rows[i];
		hd_prediction p = hd_predict(gpu, row);
		hd_region_time *t = &all.region[row->region];
		double s = row->calls * (p.launch_s + p.work_s);
		*(row->beside ? &t->beside_s : &t->main_s) += s;
		t->dram_s += row->calls * p.dram_s;
		t->l2_s += row->calls * p.l2_s;
		t->busy_s += row->calls * p.busy_s;
		all.serial_s += s;
		if (row->region == HD_REGION_FORWARD && row->beside)
			adamw_s += s;
		else if (row->region == HD_REGION_FORWARD)
			forward_s[row->stage] += s;
	}
	all.region[HD_REGION_FORWARD].order_s = forward_order_s(step, forward_s, adamw_s);
	for (int r = 0; r < HD_REGIONS; r++) {
		finish(&all.region[r]);
		all.overlapped_s += all.region[r].overlapped_s;
	}
	return all;
}
