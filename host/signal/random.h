/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of random numbers that depends on (seed, stream) alone; Philox-4x32-10. One thread per stream. */
#ifndef HD_SIGNAL_RANDOM_H
#define HD_SIGNAL_RANDOM_H

#include <math.h>
#include <stdint.h>

#include "kernels/philox.h"

typedef struct hd_random {
	uint32_t key[2];
	uint32_t counter[4];
	uint32_t words[4];
	int left;
} hd_random;

static inline hd_random hd_random_start(uint64_t seed, uint64_t stream)
{
	return (hd_random){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
	        .counter = {0, 0, (uint32_t)stream, (uint32_t)(stream >> 32)}};
}

static inline uint32_t hd_random_word(hd_random *r)
{
	if (!r->left) {
		hd_philox(r->words, r->counter, r->key);
		r->counter[1] += ++r->counter[0] == 0;
		r->left = 4;
	}
	return r->words[--r->left];
}

/* Uniform in (0,1). */
static inline double hd_random_uniform(hd_random *r)
{
	return (hd_random_word(r) + 0.5) / 4294967296.0;
}

static inline double hd_random_between(hd_random *r, double low, double high)
{
	return low + (high - low) * hd_random_uniform(r);
}

/* Two independent standard normals (Box and Muller 1958). */
static inline void hd_random_normals(hd_random *r, double *a, double *b)
{
	double radius = sqrt(-2 * log(hd_random_uniform(r))), angle = 2 * M_PI * hd_random_uniform(r);
	*a = radius * cos(angle);
	*b = radius * sin(angle);
}

static inline double hd_random_normal(hd_random *r)
{
	double a, b;
	hd_random_normals(r, &a, &b);
	return a;
}

#endif
