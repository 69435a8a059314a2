/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cli/reproduce_compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/track/metrics_log.h"

#define MOST_NAMES 512
#define EPOCHS_SHOWN 10

typedef struct point {
	int64_t step, epoch; /* epoch from 0, as the log has it */
	const char *name;
	double value;
	size_t line; /* in the order of the log */
} point;

struct hd_run_points {
	point *points; /* by step and name */
	size_t count, capacity;
	size_t lines; /* read so far */
	char *names[MOST_NAMES];
	size_t name_count;
};

/* ---- reading ---- */

/* What depends on the hour and on what else the machine does. */
static bool is_of_the_moment(const char *name)
{
	static const char *const names[] = {"epoch_seconds", "memory_mb", "samples_per_s"};
	bool found = !strncmp(name, "system/", 7);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		found = found || !strcmp(name, names[i]);
	return found;
}

/* The log's own name, which stays when the next line is read. */
static hd_status keep_name(const char **out, hd_run_points *p, const char *name)
{
	for (size_t i = 0; i < p->name_count; i++) {
		*out = p->names[i];
		if (!strcmp(name, *out))
			return HD_OK;
	}
	if (p->name_count == MOST_NAMES)
		return hd_fail(HD_E_DATA, "metrics.log: more than %d different metrics", MOST_NAMES);
	hd_status st = hd_strdup(&p->names[p->name_count], name);
	if (st == HD_OK)
		*out = p->names[p->name_count++];
	return st;
}

static hd_status add_line(void *context, const hd_metrics_line *line)
{
	hd_status st = HD_OK;
	hd_run_points *p = context;
	for (size_t i = 0; i < line->count; i++) {
		if (is_of_the_moment(line->metrics[i].name))
			continue;
		HD_TRY(hd_grow(&p->points, &p->capacity, p->count + 1, sizeof *p->points));
		point *to = &p->points[p->count];
		*to = (point){line->step, line->epoch, NULL, line->metrics[i].value, p->lines};
		HD_TRY(keep_name(&to->name, p, line->metrics[i].name));
		p->count++;
	}
	p->lines++;
done:
	return st;
}

static int by_place(const point *a, const point *b)
{
	if (a->step != b->step)
		return a->step < b->step ? -1 : 1;
	return strcmp(a->name, b->name);
}

static int by_place_and_line(const void *a, const void *b)
{
	const point *x = a, *y = b;
	int order = by_place(x, y);
	return order ? order : (x->line > y->line) - (x->line < y->line);
}

/* Sorts, and keeps the latest of each place. */
static void sort_points(hd_run_points *p)
{
	size_t kept = 0;
	if (p->count)
		qsort(p->points, p->count, sizeof *p->points, by_place_and_line);
	for (size_t i = 0; i < p->count; i++)
		if (i + 1 == p->count || by_place(&p->points[i], &p->points[i + 1]) != 0)
			p->points[kept++] = p->points[i];
	p->count = kept;
}

hd_status hd_run_points_read(hd_run_points **out, const hd_run *run)
{
	hd_status st;
	char *path = NULL;
	hd_run_points *p = NULL;
	*out = NULL;
	HD_TRY(hd_alloc(&p, 1, sizeof *p));
	HD_TRY(hd_run_path(&path, run, "metrics.log"));
	HD_TRY(hd_metrics_log_each(path, 0, add_line, p, NULL));
	sort_points(p);
	*out = p;
	p = NULL;
done:
	free(path);
	hd_run_points_free(p);
	return st;
}

void hd_run_points_free(hd_run_points *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->name_count; i++)
		free(p->names[i]);
	free(p->points);
	free(p);
}

/* ---- comparing ---- */

static bool is_same(double a, double b)
{
	return isnan(a) ? isnan(b) : a == b;
}

/* Points side by side: where both are at the same place, both are given; else the other is NULL. */
typedef struct walk {
	const hd_run_points *then, *now;
	size_t i, j;
	const point *a, *b;
} walk;

static bool next_pair(walk *w)
{
	bool more_a = w->i < w->then->count, more_b = w->j < w->now->count;
	w->a = more_a ? &w->then->points[w->i] : NULL;
	w->b = more_b ? &w->now->points[w->j] : NULL;
	if (more_a && more_b) {
		int order = by_place(w->a, w->b);
		if (order < 0)
			w->b = NULL;
		if (order > 0)
			w->a = NULL;
	}
	w->i += w->a != NULL;
	w->j += w->b != NULL;
	return w->a || w->b;
}

/* Step up to which a run that was cut short is compared: of its last point. */
static int64_t last_step(const hd_run_points *p)
{
	return p->count ? p->points[p->count - 1].step : -1;
}

static void count_pair(hd_run_comparison *c, const walk *w, bool *epoch_equal)
{
	const point *a = w->a, *b = w->b;
	c->only_then += !b;
	c->only_now += !a;
	bool same = a && b && is_same(a->value, b->value);
	c->compared += a && b;
	c->equal += same;
	*epoch_equal = *epoch_equal && same;
	if (same || c->first_name[0])
		return;
	const point *any = a ? a : b;
	snprintf(c->first_name, sizeof c->first_name, "%s", any->name);
	c->first_step = any->step;
	c->first_epoch = any->epoch + 1;
	c->first_then = a ? a->value : NAN;
	c->first_now = b ? b->value : NAN;
}

/* The best values come behind the last epoch: they are of none of their own. */
static bool is_best(const point *p)
{
	return !strncmp(p->name, "best/", 5);
}

void hd_run_compare(hd_run_comparison *out, const hd_run_points *then, const hd_run_points *now, bool whole)
{
	walk w = {.then = then, .now = now};
	int64_t epoch = -1;
	bool equal = true, best_equal = true;
	*out = (hd_run_comparison){.then = then, .now = now, .end_step = whole ? INT64_MAX : last_step(then)};
	while (next_pair(&w)) {
		const point *any = w.a ? w.a : w.b;
		if (!whole && (any->step > out->end_step || (!w.a && is_best(any))))
			continue;
		if (any->epoch != epoch && !is_best(any)) {
			out->equal_epochs += epoch >= 0 && equal;
			out->epochs++;
			epoch = any->epoch;
			equal = true;
		}
		count_pair(out, &w, is_best(any) ? &best_equal : &equal);
	}
	out->equal_epochs += epoch >= 0 && equal;
}

bool hd_run_is_equal(const hd_run_comparison *c)
{
	return c->compared > 0 && c->equal == c->compared && !c->only_then && !c->only_now;
}

/* ---- printing ---- */

static const point *last_of(const hd_run_points *p, const char *name, int64_t end_step)
{
	for (size_t i = p->count; i-- > 0;)
		if (p->points[i].step <= end_step && !strcmp(p->points[i].name, name))
			return &p->points[i];
	return NULL;
}

static void print_values(FILE *to, double then, double now)
{
	fprintf(to, " %15.9g %15.9g", then, now);
	if (is_same(then, now))
		fprintf(to, " %11s\n", "equal");
	else
		fprintf(to, " %+11.3g\n", now - then);
}

/* val/loss (or the training loss, without a validation split) of the epochs in which it differs. */
static void print_epochs(FILE *to, const hd_run_comparison *c)
{
	const char *name = last_of(c->then, "val/loss", c->end_step) ? "val/loss" : "train/loss_epoch";
	walk w = {.then = c->then, .now = c->now};
	int64_t differing = 0, points = c->compared + c->only_then + c->only_now;
	fprintf(to, "%lld of %lld epochs and %lld of %lld points equal to the last digit\n", (long long)c->equal_epochs,
	        (long long)c->epochs, (long long)c->equal, (long long)points);
	while (next_pair(&w)) {
		if (!w.a || !w.b || strcmp(w.a->name, name) != 0 || is_same(w.a->value, w.b->value))
			continue;
		if (!differing)
			fprintf(to, "\n%-29s %15s %15s %11s\n", name, "then", "now", "difference");
		if (++differing > EPOCHS_SHOWN)
			continue;
		fprintf(to, "  epoch %-21lld", (long long)w.a->epoch + 1);
		print_values(to, w.a->value, w.b->value);
	}
	int64_t hidden = differing - EPOCHS_SHOWN;
	if (hidden > 0)
		fprintf(to, "  and %lld more epochs\n", (long long)hidden);
}

void hd_run_comparison_print(FILE *to, const hd_run_comparison *c)
{
	bool both = last_of(c->then, "best/loss", c->end_step) && last_of(c->now, "best/loss", c->end_step);
	const char *prefix = both ? "best/" : last_of(c->then, "val/loss", c->end_step) ? "val/" : "train/";
	print_epochs(to, c);
	fprintf(to, "\n%-29s %15s %15s %11s\n", both ? "best epoch" : "last values", "then", "now", "difference");
	for (size_t i = 0; i < c->then->name_count; i++) {
		const char *name = c->then->names[i];
		const point *a = last_of(c->then, name, c->end_step), *b = last_of(c->now, name, c->end_step);
		if (strncmp(name, prefix, strlen(prefix)) != 0 || !b)
			continue;
		fprintf(to, "  %-27s", name + strlen(prefix));
		print_values(to, a->value, b->value);
	}
	if (c->first_name[0])
		fprintf(to, "\nfirst difference: %s at step %lld, epoch %lld: %.17g, %.17g\n", c->first_name,
		        (long long)c->first_step, (long long)c->first_epoch, c->first_then, c->first_now);
}

json_t *hd_run_comparison_json(const hd_run_comparison *c)
{
	json_t *last = json_object();
	for (size_t i = 0; i < c->then->name_count; i++) {
		const char *name = c->then->names[i];
		const point *a = last_of(c->then, name, c->end_step), *b = last_of(c->now, name, c->end_step);
		json_object_set_new(last, name,
		        json_pack("{s:o, s:o}", "then", hd_json_number(a ? a->value : NAN), "now",
		                hd_json_number(b ? b->value : NAN)));
	}
	return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "equal", (int)hd_run_is_equal(c),
	        "points_compared", (json_int_t)c->compared, "points_equal", (json_int_t)c->equal, "points_only_then",
	        (json_int_t)c->only_then, "points_only_now", (json_int_t)c->only_now, "epochs", (json_int_t)c->epochs,
	        "epochs_equal", (json_int_t)c->equal_epochs, "last", last);
}
