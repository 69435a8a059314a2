/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/wait.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/random.h>
#include <time.h>

#include "host/common/progress.h"

#define SLICE_S 0.05

bool hd_wait(double seconds, bool (*stop)(void))
{
	double end = hd_now_s() + seconds, left = seconds;
	while (left > 0) {
		double slice = left < SLICE_S ? left : SLICE_S;
		if (stop && stop())
			return false;
		nanosleep(&(const struct timespec){0, (long)(slice * 1e9)}, NULL);
		left = end - hd_now_s();
	}
	return true;
}

double hd_chance(void)
{
	uint32_t bits;
	if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != (ssize_t)sizeof bits)
		return 0.5;
	return bits / 4294967296.0;
}
