/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic rows of a fitted site. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/first_error.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/signal/fit.h"
#include "host/signal/random.h"

#define BLOCK_ROWS 256
#define FLOOR_SCATTER_DB 1.0 /* of readings of a receiver's own noise, as measured ones have */
#define LEVEL_STEP_DB 0.01   /* as tables of measurements have it */

/* What one block of rows is drawn with; one thread. */
typedef struct block {
	double north_m[BLOCK_ROWS], east_m[BLOCK_ROWS], mean_db[BLOCK_ROWS], variance[BLOCK_ROWS];
	double common_db[BLOCK_ROWS];
	int hour[BLOCK_ROWS];
	hd_random random[BLOCK_ROWS];
} block;

typedef struct box {
	double low[2], high[2];
} box;

/* North and east of the rows, enlarged. */
static box bounds(const hd_fit *f, double margin)
{
	box b = {{INFINITY, INFINITY}, {-INFINITY, -INFINITY}};
	for (size_t i = 0; i < f->levels.count; i++) {
		const double at[2] = {f->north_m[i], f->east_m[i]};
		for (int d = 0; d < 2; d++) {
			b.low[d] = fmin(b.low[d], at[d]);
			b.high[d] = fmax(b.high[d], at[d]);
		}
	}
	for (int d = 0; d < 2; d++) {
		double edge = b.high[d] - b.low[d];
		b.low[d] -= margin * edge;
		b.high[d] += margin * edge;
	}
	return b;
}

/* Positions, hours and what all receivers share of rows [from, from + n). */
static void draw_places(block *b, const hd_fit *f, const hd_draw_config *c, box area, int64_t from, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		hd_random *r = &b->random[i];
		*r = hd_random_start(c->seed, (uint64_t)(from + i));
		size_t row = (size_t)(hd_random_uniform(r) * (double)f->levels.count);
		b->hour[i] = f->levels.rows[row].hour;
		if (hd_random_uniform(r) < c->uniform_share) {
			b->north_m[i] = hd_random_between(r, area.low[0], area.high[0]);
			b->east_m[i] = hd_random_between(r, area.low[1], area.high[1]);
		} else {
			double a, e;
			size_t near = (size_t)(hd_random_uniform(r) * (double)f->levels.count);
			hd_random_normals(r, &a, &e);
			b->north_m[i] = f->north_m[near] + c->spread_m * a;
			b->east_m[i] = f->east_m[near] + c->spread_m * e;
		}
		b->common_db[i] = f->common_db * hd_random_normal(r);
	}
}

static bool draw_heard(const hd_law *l, double reading_db, hd_random *r)
{
	double chance = 1 / (1 + exp(-(l->heard_intercept + l->heard_slope * (reading_db - l->limit_db))));
	return hd_random_uniform(r) < chance;
}

static hd_status draw_block(hd_levels *out, block *b, const hd_fit *f, int64_t from, int64_t n)
{
	for (int q = 0; q < f->levels.R; q++) {
		const hd_law *law = &f->laws[q];
		if (!law->rows)
			continue;
		hd_status st = hd_law_predict(law, b->north_m, b->east_m, (size_t)n, b->mean_db, b->variance);
		if (st != HD_OK)
			return st;
		double own = hd_law_emission_variance(f, law);
		for (int64_t i = 0; i < n; i++) {
			/* drawn for absent ones too, so that a receiver's draws do not depend on the others */
			double signal = b->mean_db[i] + sqrt(b->variance[i] + own) * hd_random_normal(&b->random[i]) +
			                b->common_db[i];
			bool heard = draw_heard(law, hd_law_reading_db(law, b->mean_db[i]), &b->random[i]);
			double reading = hd_law_reading_db(law, signal),
			       noise_share = pow(10, (law->floor_db - reading) / 10);
			reading += FLOOR_SCATTER_DB * fmin(noise_share, 1) * hd_random_normal(&b->random[i]);
			if (heard && b->hour[i] >= 0 && f->online[b->hour[i] * f->levels.R + q])
				out->rows[from + i].level_db[q] =
				        (float)(round(reading / LEVEL_STEP_DB) * LEVEL_STEP_DB);
		}
	}
	for (int64_t i = 0; i < n; i++)
		hd_geo_from_local_m(&f->frame, b->north_m[i], b->east_m[i], &out->rows[from + i].latitude_deg,
		        &out->rows[from + i].longitude_deg);
	return HD_OK;
}

hd_status hd_fit_draw(hd_levels *out, const hd_fit *f, const hd_draw_config *c)
{
	int64_t blocks = (c->emissions + BLOCK_ROWS - 1) / BLOCK_ROWS, done = 0;
	box area = bounds(f, c->margin);
	hd_first_error error = {HD_OK};
	hd_status st = hd_levels_make(out, f->levels.receivers, f->levels.R, (size_t)c->emissions);
	if (st != HD_OK)
		return st;
	hd_progress *bar = hd_progress_start("draw", "emission", c->emissions);
#pragma omp parallel num_threads(c->threads > 0 ? c->threads : omp_get_num_procs())
	{
		block *b = NULL;
		hd_status own = hd_alloc(&b, 1, sizeof *b);
		/* the library's own threads would change the order of its sums */
		omp_set_num_threads(1);
#pragma omp for schedule(dynamic, 1)
		for (int64_t k = 0; k < blocks; k++) {
			int64_t from = k * BLOCK_ROWS, now;
			int64_t n = c->emissions - from < BLOCK_ROWS ? c->emissions - from : BLOCK_ROWS;
			if (own == HD_OK) {
				draw_places(b, f, c, area, from, n);
				own = draw_block(out, b, f, from, n);
			}
#pragma omp atomic capture
			now = done += n;
			hd_progress_update(bar, now, NULL);
		}
		free(b);
		hd_first_error_note(&error, own);
	}
	hd_progress_end(bar);
	st = hd_first_error_take(&error);
	if (st != HD_OK)
		hd_levels_free(out);
	return st;
}
