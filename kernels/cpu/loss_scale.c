/* SPDX-License-Identifier: Apache-2.0 */
/* Scaling of the loss (Micikevicius et al. 2018): halved where gradients overflow, doubled after a while without. */
#include <math.h>

#include "kernels/cpu/cpu.h"

#define LEAST_SCALE 1.0f
#define LARGEST_SCALE 0x1p24f

hd_status HD_CPU(loss_scale_update)(hd_loss_scale *state, float *norm2, int32_t growth_interval, hd_stream *stream)
{
	(void)stream;
	state->inverse = 1.0f / state->scale;
	norm2[0] = norm2[0] * state->inverse * state->inverse;
	if (!isfinite(norm2[0])) {
		state->scale = fmaxf(state->scale / 2, LEAST_SCALE);
		state->good = 0;
	} else if (++state->good == growth_interval) {
		state->scale = fminf(2 * state->scale, LARGEST_SCALE);
		state->good = 0;
	}
	return HD_OK;
}
