/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/schedule.h"

#include <math.h>

double hd_schedule_lr(double peak, bool cosine, int64_t step, int64_t warmup_steps, int64_t total_steps)
{
	if (step < warmup_steps)
		return peak * (double)(step + 1) / (double)warmup_steps;
	if (!cosine || total_steps <= warmup_steps)
		return peak;
	double progress = (double)(step - warmup_steps) / (double)(total_steps - warmup_steps);
	return peak * 0.5 * (1.0 + cos(M_PI * fmin(progress, 1.0)));
}
