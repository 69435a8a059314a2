/* SPDX-License-Identifier: Apache-2.0 */
/* What shows only beside the other recordings of a catalogue, and receivers over time. */
#include "heimdall/health.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/statistics.h"

#define LENGTH_SAME 0.01     /* a recorder's own jitter stays under it */
#define FEWEST_POSITIONS 8   /* fewer have no quartiles worth the name */
#define FAR_M 100e3          /* beyond what one VHF or UHF area spans */
#define FAR_EXTENTS 5        /* of the area that half of the recordings are within */
#define SAME_POSITION_M 1.0  /* the tolerance of the grouping for training */
#define REFERENCE_MEMBERS 64 /* of one emission are asked which position is the common one */
#define FUTURE_S 86400       /* stamps without a zone are up to 14 hours off */
#define SHIFT_SIDE 10        /* recordings before and after a shift */
#define SHIFT_DB 10.0        /* a lost amplifier or aerial, not weather */
#define SHIFT_P 1e-3         /* one in a thousand receivers that are in order */
#define EXTENT_QUANTILE 0.75 /* of the distances to the median position: the extent */

/* A recording's place in some order: by hash, by emission, by time. */
typedef struct ranked {
	const hd_checked *checked;
	size_t index;
	double value;
	double rank;
} ranked;

/* ---- duplicates ---- */

static int by_content(const void *a, const void *b)
{
	const ranked *x = a, *y = b;
	const hd_health *p = &x->checked[x->index].health, *q = &y->checked[y->index].health;
	if (p->hash != q->hash)
		return p->hash < q->hash ? -1 : 1;
	if (p->samples != q->samples)
		return p->samples < q->samples ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

static bool same_content(const hd_health *p, const hd_health *q)
{
	return p->hash == q->hash && p->samples == q->samples && p->dtype == q->dtype;
}

static hd_status find_duplicates(hd_checked *checked, size_t count, ranked *order)
{
	hd_status st = HD_OK;
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		if (checked[i].read && !checked[i].health.constant)
			order[n++] = (ranked){.checked = checked, .index = i};
	if (n)
		qsort(order, n, sizeof *order, by_content);
	for (size_t k = 0, first = 0; k < n; k++) {
		hd_checked *c = &checked[order[k].index], *f = &checked[order[first].index];
		if (k == first)
			continue;
		if (!same_content(&c->health, &f->health)) {
			first = k;
			continue;
		}
		if (!hd_notes_has(&f->notes, HD_FOUND_DUPLICATE))
			HD_TRY(hd_notes_add(&f->notes, HD_FOUND_DUPLICATE, "same content as %s", c->name));
		HD_TRY(hd_notes_add(&c->notes, HD_FOUND_DUPLICATE, "same content as %s", f->name));
	}
done:
	return st;
}

/* ---- lengths ---- */

static double length_of(const hd_health *h)
{
	return h->rate_hz > 0 ? h->duration_s : (double)h->samples;
}

static hd_status find_lengths(hd_checked *checked, size_t count, double *scratch)
{
	hd_status st = HD_OK;
	size_t n = 0, near = 0;
	for (size_t i = 0; i < count; i++)
		if (checked[i].read && checked[i].recording)
			scratch[n++] = length_of(&checked[i].health);
	if (n < 3)
		return HD_OK;
	double median = hd_median(scratch, n);
	for (size_t i = 0; i < n; i++)
		near += fabs(scratch[i] - median) <= LENGTH_SAME * median;
	for (size_t i = 0; 2 * near > n && i < count; i++) {
		const hd_health *h = &checked[i].health;
		if (!checked[i].read || !checked[i].recording || fabs(length_of(h) - median) <= LENGTH_SAME * median)
			continue;
		HD_TRY(hd_notes_add(&checked[i].notes, HD_FOUND_LENGTH_OTHER, "length %.4g %s, most have %.4g",
		        length_of(h), h->rate_hz > 0 ? "s" : "samples", median));
	}
done:
	return st;
}

/* ---- positions ---- */

static bool in_range(double latitude_deg, double longitude_deg)
{
	return fabs(latitude_deg) <= 90 && fabs(longitude_deg) <= 180;
}

static bool usable(const hd_recording *r)
{
	return r && in_range(r->latitude_deg, r->longitude_deg) && (r->latitude_deg != 0 || r->longitude_deg != 0);
}

/* Where the catalogue is: median position and how far from it is far; NaN where it has too few. */
typedef struct area {
	double latitude_deg, longitude_deg, far_m;
} area;

static area find_area(const hd_checked *checked, size_t count, double *scratch)
{
	area a = {NAN, NAN, NAN};
	size_t n = 0;
	double first = NAN;
	for (size_t i = 0; i < count; i++)
		if (usable(checked[i].recording))
			scratch[n++] = checked[i].recording->latitude_deg;
	if (n < FEWEST_POSITIONS)
		return a;
	a.latitude_deg = hd_median(scratch, n);
	n = 0;
	for (size_t i = 0; i < count; i++) {
		const hd_recording *r = checked[i].recording;
		if (!usable(r))
			continue;
		first = isnan(first) ? r->longitude_deg : first;
		scratch[n++] = first + remainder(r->longitude_deg - first, 360);
	}
	a.longitude_deg = remainder(hd_median(scratch, n), 360);
	n = 0;
	for (size_t i = 0; i < count; i++) {
		const hd_recording *r = checked[i].recording;
		if (usable(r))
			scratch[n++] =
			        hd_geo_distance_m(a.latitude_deg, a.longitude_deg, r->latitude_deg, r->longitude_deg);
	}
	hd_median(scratch, n); /* leaves them sorted */
	a.far_m = fmax(FAR_M, FAR_EXTENTS * scratch[(size_t)(EXTENT_QUANTILE * (double)(n - 1))]);
	return a;
}

static hd_status judge_position(hd_checked *c, const area *a)
{
	double lat = c->recording->latitude_deg, lon = c->recording->longitude_deg;
	if (isnan(lat) || isnan(lon))
		return hd_notes_add(&c->notes, HD_FOUND_POSITION_MISSING, "position missing");
	if (lat == 0 && lon == 0)
		return hd_notes_add(&c->notes, HD_FOUND_POSITION_MISSING, "position 0,0: a missing one");
	bool range = in_range(lat, lon);
	double away_m = range ? hd_geo_distance_m(a->latitude_deg, a->longitude_deg, lat, lon) : NAN;
	bool far = away_m > a->far_m;
	bool fits_swapped =
	        in_range(lon, lat) && hd_geo_distance_m(a->latitude_deg, a->longitude_deg, lon, lat) <= a->far_m;
	if ((!range || far) && fits_swapped)
		return hd_notes_add(&c->notes, HD_FOUND_POSITION_SWAPPED,
		        "position %.4f, %.4f: latitude and longitude look swapped", lat, lon);
	if (!range)
		return hd_notes_add(&c->notes, HD_FOUND_POSITION_RANGE, "position %g, %g is out of range", lat, lon);
	if (far)
		return hd_notes_add(&c->notes, HD_FOUND_POSITION_FAR,
		        "position %.4f, %.4f: %.0f km from the median one", lat, lon, away_m / 1000);
	return HD_OK;
}

static int by_emission(const void *a, const void *b)
{
	const ranked *x = a, *y = b;
	const hd_recording *p = x->checked[x->index].recording, *q = y->checked[y->index].recording;
	int order = strcmp(p->session, q->session);
	if (!order)
		order = strcmp(p->emission, q->emission);
	return order ? order : (x->index > y->index) - (x->index < y->index);
}

static bool same_place(const hd_recording *p, const hd_recording *q)
{
	return hd_geo_distance_m(p->latitude_deg, p->longitude_deg, q->latitude_deg, q->longitude_deg) <=
	       SAME_POSITION_M;
}

/* The member of group[n] whose position most others share; the first of several. */
static size_t common_member(const hd_checked *checked, const ranked *group, size_t n)
{
	size_t best = 0, best_votes = 0;
	size_t asked = n < REFERENCE_MEMBERS ? n : REFERENCE_MEMBERS;
	for (size_t i = 0; i < asked; i++) {
		size_t votes = 0;
		for (size_t j = 0; j < asked; j++)
			votes += same_place(checked[group[i].index].recording, checked[group[j].index].recording);
		if (votes > best_votes) {
			best_votes = votes;
			best = i;
		}
	}
	return group[best].index;
}

static hd_status find_disagreement(hd_checked *checked, size_t count, ranked *order)
{
	hd_status st = HD_OK;
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		if (usable(checked[i].recording))
			order[n++] = (ranked){.checked = checked, .index = i};
	if (n)
		qsort(order, n, sizeof *order, by_emission);
	for (size_t from = 0, to; from < n; from = to) {
		const hd_recording *first = checked[order[from].index].recording;
		for (to = from + 1; to < n; to++) {
			const hd_recording *r = checked[order[to].index].recording;
			if (strcmp(r->session, first->session) != 0 || strcmp(r->emission, first->emission) != 0)
				break;
		}
		const hd_checked *common = &checked[common_member(checked, order + from, to - from)];
		for (size_t k = from; k < to; k++) {
			hd_checked *c = &checked[order[k].index];
			const hd_recording *p = c->recording, *q = common->recording;
			if (!same_place(p, q))
				HD_TRY(hd_notes_add(&c->notes, HD_FOUND_POSITIONS_DISAGREE,
				        "position %.4f, %.4f, but %.4f, %.4f in %s", p->latitude_deg, p->longitude_deg,
				        q->latitude_deg, q->longitude_deg, common->name));
		}
	}
done:
	return st;
}

static hd_status judge_time(hd_checked *c, double now_s)
{
	double at = c->recording->timestamp_s;
	if (isnan(at) && !(c->read && isfinite(c->info.start_s)))
		return hd_notes_add(&c->notes, HD_FOUND_TIME_MISSING, "timestamp missing");
	if (at > now_s + FUTURE_S)
		return hd_notes_add(
		        &c->notes, HD_FOUND_TIME_FUTURE, "timestamp %.1f days in the future", (at - now_s) / 86400);
	return HD_OK;
}

hd_status hd_health_compare(hd_checked *checked, size_t count, double now_s)
{
	hd_status st;
	ranked *order = NULL;
	double *scratch = NULL;
	HD_TRY(hd_alloc(&order, count, sizeof *order));
	HD_TRY(hd_alloc(&scratch, count, sizeof *scratch));
	HD_TRY(find_duplicates(checked, count, order));
	HD_TRY(find_lengths(checked, count, scratch));
	const area a = find_area(checked, count, scratch);
	for (size_t i = 0; i < count; i++) {
		if (!checked[i].recording)
			continue;
		HD_TRY(judge_position(&checked[i], &a));
		HD_TRY(judge_time(&checked[i], now_s));
	}
	HD_TRY(find_disagreement(checked, count, order));
done:
	free(scratch);
	free(order);
	return st;
}

/* ---- receivers ---- */

double hd_health_time_s(const hd_checked *c)
{
	if (c->recording && isfinite(c->recording->timestamp_s))
		return c->recording->timestamp_s;
	return c->read ? c->info.start_s : NAN;
}

/* By receiver, then by time (value). */
static int by_receiver(const void *a, const void *b)
{
	const ranked *x = a, *y = b;
	int order = hd_name_compare(x->checked[x->index].recording->receiver, y->checked[y->index].recording->receiver);
	if (!order)
		order = (x->value > y->value) - (x->value < y->value);
	return order ? order : (x->index > y->index) - (x->index < y->index);
}

static int by_level(const void *a, const void *b)
{
	const ranked *x = a, *y = b;
	double p = x->checked[x->index].health.level_dbfs, q = y->checked[y->index].health.level_dbfs;
	return (p > q) - (p < q);
}

static int by_time(const void *a, const void *b)
{
	const ranked *x = a, *y = b;
	int order = (x->value > y->value) - (x->value < y->value);
	return order ? order : (x->index > y->index) - (x->index < y->index);
}

static double median_level(const ranked *list, size_t n, double *scratch)
{
	for (size_t i = 0; i < n; i++)
		scratch[i] = list[i].checked[list[i].index].health.level_dbfs;
	return hd_median(scratch, n);
}

/* Ranks of the levels, ties sharing their mean; leaves the list in order of time. */
static void rank_levels(ranked *list, size_t n)
{
	qsort(list, n, sizeof *list, by_level);
	for (size_t from = 0, to; from < n; from = to) {
		for (to = from + 1; to < n && by_level(&list[to], &list[from]) == 0; to++) {
		}
		for (size_t i = from; i < to; i++)
			list[i].rank = (double)(from + to + 1) / 2;
	}
	qsort(list, n, sizeof *list, by_time);
}

/* Pettitt's test over list[n], in order of time. */
static void find_shift(hd_receiver_health *r, ranked *list, size_t n, double *scratch)
{
	double sum = 0, best = 0, count = (double)n;
	size_t at = 0;
	if (n < 2 * SHIFT_SIDE)
		return;
	rank_levels(list, n);
	for (size_t k = 1; k + SHIFT_SIDE <= n; k++) {
		sum += list[k - 1].rank;
		double u = fabs(2 * sum - (double)k * (count + 1));
		if (k >= SHIFT_SIDE && u > best) {
			best = u;
			at = k;
		}
	}
	if (!at || !(2 * exp(-6 * best * best / (count * count * count + count * count)) < SHIFT_P))
		return;
	double shift = median_level(list + at, n - at, scratch) - median_level(list, at, scratch);
	if (fabs(shift) <= SHIFT_DB)
		return;
	r->shift_db = shift;
	r->shift_s = list[at].value;
}

/* list[n]: all recordings of one receiver, in order of time; timed ones are moved to the front. */
static void summarise_receiver(hd_receiver_health *r, ranked *list, size_t n, double *scratch)
{
	const hd_checked *checked = list[0].checked;
	*r = (hd_receiver_health){.name = checked[list[0].index].recording->receiver,
	        .recordings = n,
	        .level_dbfs = NAN,
	        .mad_db = NAN,
	        .shift_s = NAN};
	size_t timed = 0;
	for (size_t i = 0; i < n; i++) {
		const hd_checked *c = &checked[list[i].index];
		r->sick += hd_notes_sick(&c->notes);
		if (c->read && !c->health.constant)
			scratch[r->read++] = c->health.level_dbfs;
	}
	if (r->read) {
		r->level_dbfs = hd_median(scratch, r->read);
		for (size_t i = 0; i < r->read; i++)
			scratch[i] = fabs(scratch[i] - r->level_dbfs);
		r->mad_db = hd_median(scratch, r->read);
	}
	for (size_t i = 0; i < n; i++) {
		const hd_checked *c = &checked[list[i].index];
		if (c->read && !c->health.constant && isfinite(list[i].value))
			list[timed++] = list[i];
	}
	find_shift(r, list, timed, scratch);
}

hd_status hd_health_receivers(hd_receiver_health **out, size_t *out_count, const hd_checked *checked, size_t count)
{
	hd_status st;
	ranked *order = NULL;
	double *scratch = NULL;
	size_t n = 0;
	*out = NULL;
	*out_count = 0;
	HD_TRY(hd_alloc(&order, count, sizeof *order));
	HD_TRY(hd_alloc(&scratch, count, sizeof *scratch));
	HD_TRY(hd_alloc(out, count, sizeof **out));
	for (size_t i = 0; i < count; i++) {
		if (!checked[i].recording)
			continue;
		double at = hd_health_time_s(&checked[i]);
		/* NaN has no place in an order */
		order[n++] = (ranked){.checked = checked, .index = i, .value = isfinite(at) ? at : INFINITY};
	}
	if (n)
		qsort(order, n, sizeof *order, by_receiver);
	for (size_t from = 0, to; from < n; from = to) {
		const char *name = checked[order[from].index].recording->receiver;
		for (to = from + 1; to < n && !strcmp(checked[order[to].index].recording->receiver, name); to++) {
		}
		summarise_receiver(&(*out)[(*out_count)++], order + from, to - from, scratch);
	}
done:
	free(scratch);
	free(order);
	if (st != HD_OK) {
		free(*out);
		*out = NULL;
		*out_count = 0;
	}
	return st;
}
