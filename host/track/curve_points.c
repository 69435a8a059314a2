/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/curve_points.h"

#include <stdlib.h>

#include "host/common/memory.h"

hd_status hd_curve_points_open(hd_curve_points *out)
{
	hd_status st;
	*out = (hd_curve_points){.stride = 1};
	HD_TRY(hd_alloc(&out->x, HD_CURVE_POINTS + 1, sizeof *out->x));
	HD_TRY(hd_alloc(&out->y, HD_CURVE_POINTS + 1, sizeof *out->y));
done:
	if (st != HD_OK)
		hd_curve_points_close(out);
	return st;
}

void hd_curve_points_close(hd_curve_points *curve)
{
	if (!curve)
		return;
	free(curve->y);
	free(curve->x);
	*curve = (hd_curve_points){0};
}

static void forget_sum(hd_curve_points *c)
{
	c->sum_x = c->sum_y = 0;
	c->summed = 0;
}

void hd_curve_points_end(hd_curve_points *c)
{
	if (!c->summed)
		return;
	c->x[c->n] = c->sum_x / (double)c->summed;
	c->y[c->n++] = c->sum_y / (double)c->summed;
	forget_sum(c);
}

/* Half as many means of twice as many points. */
static void halve(hd_curve_points *c)
{
	for (size_t i = 0; i < c->n / 2; i++) {
		c->x[i] = (c->x[2 * i] + c->x[2 * i + 1]) / 2;
		c->y[i] = (c->y[2 * i] + c->y[2 * i + 1]) / 2;
	}
	c->n /= 2;
	c->stride *= 2;
}

void hd_curve_points_add(hd_curve_points *c, double x, double y)
{
	if ((c->n || c->summed) && x <= c->last_x) {
		forget_sum(c);
		while (c->n && c->x[c->n - 1] >= x)
			c->n--;
	}
	c->last_x = x;
	if (c->n == HD_CURVE_POINTS)
		halve(c);
	c->sum_x += x;
	c->sum_y += y;
	if (++c->summed == c->stride)
		hd_curve_points_end(c);
}
