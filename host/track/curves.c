/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/curves.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/report/line_plot.h"
#include "host/track/curve_points.h"
#include "host/track/metrics_log.h"

#define FOLDER "artifacts/curves"
#define MOST_CURVES 4  /* of a picture */
#define FAR_APART 30.0 /* largest over smallest value, from which an axis is logarithmic */

typedef struct curve_spec {
	const char *metric, *name;
	bool faint;
} curve_spec;

typedef struct picture_spec {
	const char *file, *title, *y_label;
	bool by_epoch, linear;
	curve_spec curves[MOST_CURVES];
} picture_spec;

static const picture_spec pictures[] = {
        {"loss.png", "Loss", "loss", false, false,
                {{"train/loss", "training, steps", true}, {"train/loss_epoch", "training, epochs", false},
                        {"val/loss", "validation", false}}},
        {"error.png", "Error on validation samples", "error (m)", true, false,
                {{"val/median_m", "median", false}, {"val/mae_m", "mean", false},
                        {"val/p90_m", "90 % of errors below", false},
                        {"val/centre_median_m", "training centre, median", false}}},
        {"learning_rate.png", "Learning rate", "learning rate", false, true, {{"lr", NULL, false}}},
        {"gradient_norm.png", "Norm of the gradient before clipping", "norm", false, false,
                {{"grad_norm", NULL, true}}},
        {"calibration.png", "Calibration of the predicted uncertainty", "mean error (m)", true, false,
                {{"val/expected_error_m", "promised by the sigmas", false}, {"val/mae_m", "observed", false}}},
};

#define PICTURES (sizeof pictures / sizeof *pictures)

typedef struct curves {
	hd_curve_points of[PICTURES][MOST_CURVES];
} curves;

static const hd_metric *find(const hd_metrics_line *line, const char *name)
{
	for (size_t m = 0; m < line->count; m++)
		if (!strcmp(line->metrics[m].name, name))
			return &line->metrics[m];
	return NULL;
}

static hd_status take_line(void *context, const hd_metrics_line *line)
{
	curves *all = context;
	for (size_t p = 0; p < PICTURES; p++) {
		for (size_t i = 0; i < MOST_CURVES && pictures[p].curves[i].metric; i++) {
			const hd_metric *metric = find(line, pictures[p].curves[i].metric);
			if (metric)
				hd_curve_points_add(&all->of[p][i],
				        (double)(pictures[p].by_epoch ? line->epoch : line->step), metric->value);
		}
	}
	return HD_OK;
}

/* Values of one decade or two are read off a linear axis better. */
static bool wants_log(const hd_curve *list, int count)
{
	double low = INFINITY, high = -INFINITY;
	for (int c = 0; c < count; c++) {
		for (size_t i = 0; i < list[c].n; i++) {
			if (!isfinite(list[c].y[i]))
				continue;
			low = fmin(low, list[c].y[i]);
			high = fmax(high, list[c].y[i]);
		}
	}
	return low > 0 && high > FAR_APART * low;
}

static hd_status draw(const picture_spec *spec, const hd_curve_points *found, const char *folder)
{
	char *path;
	hd_curve list[MOST_CURVES];
	int count = 0;
	for (size_t i = 0; i < MOST_CURVES && spec->curves[i].metric; i++)
		if (found[i].n)
			list[count++] = (hd_curve){.name = spec->curves[i].name,
			        .x = found[i].x,
			        .y = found[i].y,
			        .n = found[i].n,
			        .faint = spec->curves[i].faint};
	if (!count)
		return HD_OK;
	const hd_line_plot plot = {.title = spec->title,
	        .x_label = spec->by_epoch ? "epoch" : "optimizer step",
	        .y_label = spec->y_label,
	        .log_y = !spec->linear && wants_log(list, count),
	        .curves = list,
	        .curve_count = count,
	        .marker_x = NAN};
	hd_status st = hd_sprintf(&path, "%s/%s", folder, spec->file);
	if (st == HD_OK)
		st = hd_line_plot_write(path, &plot);
	free(path);
	return st;
}

static hd_status make_curves(curves *all)
{
	hd_status st = HD_OK;
	for (size_t p = 0; p < PICTURES; p++)
		for (size_t i = 0; i < MOST_CURVES && pictures[p].curves[i].metric; i++)
			HD_TRY(hd_curve_points_open(&all->of[p][i]));
done:
	return st;
}

static void free_curves(curves *all)
{
	for (size_t p = 0; p < PICTURES; p++)
		for (size_t i = 0; i < MOST_CURVES; i++)
			hd_curve_points_close(&all->of[p][i]);
}

hd_status hd_curves_write(const hd_run *run)
{
	hd_status st;
	curves all = {0};
	char *log = NULL, *folder = NULL;
	HD_TRY(make_curves(&all));
	HD_TRY(hd_run_path(&log, run, "metrics.log"));
	HD_TRY(hd_run_path(&folder, run, FOLDER));
	HD_TRY(hd_metrics_log_each(log, 0, take_line, &all, NULL));
	HD_TRY(hd_make_folders(folder));
	for (size_t p = 0; p < PICTURES; p++) {
		for (size_t i = 0; i < MOST_CURVES; i++)
			hd_curve_points_end(&all.of[p][i]);
		HD_TRY(draw(&pictures[p], all.of[p], folder));
	}
done:
	free(folder);
	free(log);
	free_curves(&all);
	return st;
}
