/* SPDX-License-Identifier: Apache-2.0 */
/* Random weights that let every part of a network be seen in its answers. Include once per test program. */
#ifndef HD_TESTS_RANDOM_WEIGHTS_H
#define HD_TESTS_RANDOM_WEIGHTS_H

#include <math.h>
#include <string.h>

#include "heimdall/model.h"
#include "host/common/text.h"

/* ---- random numbers (xorshift64*, Vigna 2016) ---- */

static uint64_t random_state = 20240229;

static inline double uniform(double lo, double hi)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return lo + (hi - lo) * (double)(random_state * 0x2545F4914F6CDD1DULL >> 11) * 0x1p-53;
}

/* ---- weights ---- */

/*
 * Keeps activations near 1, with norms, biases and layer scale that matter: with those of a new model, or of one barely
 * trained, half of what follows could be missing unnoticed.
 */
static inline double random_weight(const hd_parameter *p)
{
	int64_t fan_in = p->ndim > 1 ? p->size / p->shape[0] : 1;
	if (p->ndim > 1)
		return uniform(-1, 1) * sqrt(3.0 / (double)fan_in);
	if (hd_ends_with(p->name, "gamma"))
		return uniform(0.1, 0.6) * (uniform(-1, 1) < 0 ? -1 : 1);
	if (hd_ends_with(p->name, "running_var") || (strstr(p->name, "norm") && hd_ends_with(p->name, ".weight")))
		return uniform(0.5, 1.5);
	return uniform(-0.5, 0.5);
}

#endif
