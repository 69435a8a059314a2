/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/earlier.h"

#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"

typedef struct point {
	int64_t step;
	char *name;
	double value;
} point;

struct hd_earlier {
	point *points; /* by step */
	size_t count, capacity;
};

static int by_step(const void *a, const void *b)
{
	int64_t x = ((const point *)a)->step, y = ((const point *)b)->step;
	return (x > y) - (x < y);
}

typedef struct reading {
	hd_earlier *earlier;
	int64_t step;
} reading;

static hd_status take_line(void *context, const hd_metrics_line *line)
{
	hd_status st = HD_OK;
	const reading *r = context;
	hd_earlier *e = r->earlier;
	for (size_t i = 0; line->step >= r->step && i < line->count; i++) {
		HD_TRY(hd_grow(&e->points, &e->capacity, e->count + 1, sizeof *e->points));
		HD_TRY(hd_strdup(&e->points[e->count].name, line->metrics[i].name));
		e->points[e->count].step = line->step;
		e->points[e->count++].value = line->metrics[i].value;
	}
done:
	return st;
}

hd_status hd_earlier_read(hd_earlier **out, const char *log, int64_t step)
{
	hd_status st;
	hd_earlier *e = NULL;
	*out = NULL;
	HD_TRY(hd_alloc(&e, 1, sizeof *e));
	HD_TRY(hd_metrics_log_each(log, 0, take_line, &(reading){e, step}, NULL));
	if (e->count) {
		qsort(e->points, e->count, sizeof *e->points, by_step);
		*out = e;
		e = NULL;
	}
done:
	hd_earlier_free(e);
	return st;
}

/* To the last bit, a NaN too. */
static bool is_same(double a, double b)
{
	uint64_t x, y;
	memcpy(&x, &a, sizeof x);
	memcpy(&y, &b, sizeof y);
	return x == y;
}

bool hd_earlier_has(const hd_earlier *e, int64_t step, const hd_metric *metric)
{
	const point key = {.step = step};
	const point *at = bsearch(&key, e->points, e->count, sizeof *e->points, by_step);
	while (at && at > e->points && at[-1].step == step)
		at--;
	for (; at && at < e->points + e->count && at->step == step; at++)
		if (is_same(at->value, metric->value) && !strcmp(at->name, metric->name))
			return true;
	return false;
}

void hd_earlier_free(hd_earlier *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->count; i++)
		free(e->points[i].name);
	free(e->points);
	free(e);
}
