/* SPDX-License-Identifier: Apache-2.0 */
/* A run's curves: which pictures there are, and what becomes of long and resumed logs. */
#include <cairo/cairo.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/report/line_plot.h"
#include "host/report/palette.h"
#include "host/track/curve_points.h"
#include "host/track/curves.h"
#include "host/track/metrics_log.h"
#include "tests/folder.h"

#define LEGEND 120     /* height of what stands above the panel, pixels */
#define FAINT 0x999999 /* black, light on white */

static hd_run run;
static hd_metrics_log *metrics;

static void start_log(void)
{
	char *path;
	start();
	cr_assert_eq(hd_run_create(&run, file_in("runs"), "experiment", "", "one"), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_run_path(&path, &run, "metrics.log"), HD_OK);
	cr_assert_eq(hd_metrics_log_open(&metrics, path), HD_OK, "%s", hd_error_text());
	free(path);
}

static void stop_log(void)
{
	hd_metrics_log_close(metrics);
	hd_run_free(&run);
	stop();
}

TestSuite(curves, .init = start_log, .fini = stop_log);

static void put(int64_t step, int64_t epoch, const char *name, double value)
{
	const hd_metrics_line line = {1700000000000, step, epoch, 1, {{name, value}}};
	cr_assert_eq(hd_metrics_log_append(metrics, &line), HD_OK, "%s", hd_error_text());
}

static void draw(void)
{
	cr_assert_eq(hd_curves_write(&run), HD_OK, "%s", hd_error_text());
}

static const char *picture(const char *name)
{
	static char path[600];
	snprintf(path, sizeof path, "%s/artifacts/curves/%s", run.folder, name);
	return path;
}

/* Where a colour is in a picture, below its legend. */
typedef struct area {
	int left, right, top, bottom, count;
} area;

static area find_between(const char *name, uint32_t rgb, int from_x, int to_x)
{
	area a = {1 << 20, -1, 1 << 20, -1, 0};
	cairo_surface_t *s = cairo_image_surface_create_from_png(picture(name));
	cr_assert_eq(cairo_surface_status(s), CAIRO_STATUS_SUCCESS, "%s is no PNG", picture(name));
	int width = cairo_image_surface_get_width(s), height = cairo_image_surface_get_height(s);
	for (int y = LEGEND; y < height; y++) {
		const unsigned char *row = cairo_image_surface_get_data(s) + y * cairo_image_surface_get_stride(s);
		for (int x = from_x; x < to_x && x < width; x++) {
			uint32_t pixel;
			memcpy(&pixel, row + 4 * x, sizeof pixel);
			if ((pixel & 0xffffff) != rgb)
				continue;
			a.left = x < a.left ? x : a.left;
			a.right = x > a.right ? x : a.right;
			a.top = y < a.top ? y : a.top;
			a.bottom = y > a.bottom ? y : a.bottom;
			a.count++;
		}
	}
	cairo_surface_destroy(s);
	return a;
}

static area find(const char *name, uint32_t rgb)
{
	return find_between(name, rgb, 0, 1 << 20);
}

/* ---- pictures ---- */

Test(curves, no_picture_without_points)
{
	draw();
	cr_assert_neq(access(picture("loss.png"), F_OK), 0);
	put(1, 0, "train/loss", 2);
	put(1, 0, "something/else", 2);
	draw();
	cr_assert_eq(access(picture("loss.png"), F_OK), 0);
	static const char *const others[] = {"error.png", "learning_rate.png", "gradient_norm.png", "calibration.png"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		cr_assert_neq(access(picture(others[i]), F_OK), 0, "%s is there", others[i]);
}

/* Each metric is a curve, in the colour of its place. */
Test(curves, every_metric_has_its_curve)
{
	static const struct {
		const char *file, *metric;
		int place;
	} curves[] = {{"loss.png", "train/loss_epoch", 1}, {"loss.png", "val/loss", 2}, {"error.png", "val/mae_m", 1},
	        {"error.png", "val/p90_m", 2}, {"error.png", "val/centre_median_m", 3},
	        {"calibration.png", "val/mae_m", 1}};
	/* so that each picture has all its curves */
	static const char *const all[] = {"train/loss", "train/loss_epoch", "val/loss", "val/median_m", "val/mae_m",
	        "val/p90_m", "val/centre_median_m", "val/expected_error_m", "lr", "grad_norm"};
	for (int e = 0; e < 20; e++)
		for (size_t i = 0; i < sizeof all / sizeof *all; i++)
			put(10 * e, e, all[i], (double)(i + 1) + 0.01 * e);
	draw();
	for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
		area a = find(curves[i].file, hd_palette_series[curves[i].place]);
		cr_assert(a.count > 500 && a.right - a.left > 1000, "%s in %s: %d pixels, %d wide", curves[i].metric,
		        curves[i].file, a.count, a.right - a.left);
	}
	cr_assert_gt(find("learning_rate.png", hd_palette_series[0]).count, 500);
	cr_assert_gt(find("gradient_norm.png", FAINT).count, 500);
}

/* How far down a falling curve of one colour is at the middle of its picture, 0 to 1. */
static double middle(const char *name, uint32_t rgb)
{
	area all = find(name, rgb);
	int x = (all.left + all.right) / 2;
	area there = find_between(name, rgb, x - 2, x + 3);
	cr_assert_gt(there.count, 0);
	return (double)(there.top + there.bottom - 2 * all.top) / (2.0 * (all.bottom - all.top));
}

Test(curves, values_far_apart_are_on_a_logarithmic_axis)
{
	for (int i = 0; i <= 100; i++) {
		put(i, 0, "val/loss", pow(10, 5 - i / 20.0));
		put(i, 0, "lr", pow(10, 5 - i / 20.0));
	}
	draw();
	cr_assert_float_eq(middle("loss.png", hd_palette_series[0]), 0.5, 0.02, "got %g",
	        middle("loss.png", hd_palette_series[0]));
	cr_assert_gt(middle("learning_rate.png", hd_palette_series[0]), 0.98);
	/* which has no place for a value below 0 */
	put(101, 0, "val/loss", -1);
	draw();
	cr_assert_gt(middle("loss.png", hd_palette_series[0]), 0.98);
}

Test(curves, values_that_are_no_numbers)
{
	for (int i = 0; i < 3000; i++)
		put(i, 0, "train/loss", i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : 1);
	put(0, 0, "val/mae_m", NAN);
	draw();
	cr_assert_eq(access(picture("loss.png"), F_OK), 0);
}

/* A sanitizer keeps what was freed. */
#ifdef __SANITIZE_ADDRESS__
#define ROOM_KB 32768
#else
#define ROOM_KB 2048
#endif

/* Two hundred thousand lines, 12 MB, in the memory of four thousand. */
Test(curves, memory_does_not_grow_with_the_log)
{
	struct rusage before, after;
	for (int i = 0; i < 4000; i++)
		put(i, 0, "train/loss", 1 + i);
	draw();
	cr_assert_eq(getrusage(RUSAGE_SELF, &before), 0);
	for (int i = 4000; i < 200000; i++)
		put(i, 0, "train/loss", 1 + i);
	draw();
	cr_assert_eq(getrusage(RUSAGE_SELF, &after), 0);
	cr_assert_lt(after.ru_maxrss - before.ru_maxrss, ROOM_KB, "%ld kB more", after.ru_maxrss - before.ru_maxrss);
}

/* ---- points ---- */

static hd_curve_points points;

static void open_points(void)
{
	cr_assert_eq(hd_curve_points_open(&points), HD_OK);
}

static void close_points(void)
{
	hd_curve_points_close(&points);
}

TestSuite(curve_points, .init = open_points, .fini = close_points);

Test(curve_points, few_are_kept_as_they_are)
{
	for (int i = 0; i < HD_CURVE_POINTS; i++)
		hd_curve_points_add(&points, 3 * i, i % 7);
	hd_curve_points_end(&points);
	cr_assert_eq(points.n, HD_CURVE_POINTS);
	for (int i = 0; i < HD_CURVE_POINTS; i++)
		cr_assert(points.x[i] == 3 * i && points.y[i] == i % 7, "point %d", i);
}

/* Sums of x and y over the means, each times what it is a mean of, are those of all points: none is lost. */
Test(curve_points, many_are_means_of_neighbours)
{
	static const int counts[] = {HD_CURVE_POINTS + 1, 2 * HD_CURVE_POINTS, 2 * HD_CURVE_POINTS + 1, 99991, 1000003};
	for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
		int n = counts[k];
		double sum_x = 0, sum_y = 0, got_x = 0, got_y = 0;
		for (int i = 0; i < n; i++) {
			double y = (i * 31 % 101) - 50;
			hd_curve_points_add(&points, i, y);
			sum_x += i;
			sum_y += y;
		}
		int64_t stride = points.stride, left = points.summed;
		hd_curve_points_end(&points);
		cr_assert(points.n <= HD_CURVE_POINTS + 1 && points.n >= HD_CURVE_POINTS / 2, "%d: %zu points", n,
		        points.n);
		cr_assert_eq((int64_t)(points.n - (left > 0)) * stride + left, n, "%d", n);
		for (size_t i = 0; i < points.n; i++) {
			double weight = (double)(left && i == points.n - 1 ? left : stride);
			got_x += weight * points.x[i];
			got_y += weight * points.y[i];
			cr_assert(i == 0 || points.x[i] > points.x[i - 1], "%d: x does not rise", n);
		}
		cr_assert_float_eq(got_x, sum_x, 1e-9 * sum_x);
		cr_assert_float_eq(got_y, sum_y, 1e-9 * n);
		close_points();
		open_points();
	}
}

/* A run that was killed at step 99 and resumed from its checkpoint of step 50. */
Test(curve_points, a_resumed_run_stands_in_place_of_what_it_does_again)
{
	for (int i = 0; i < 100; i++)
		hd_curve_points_add(&points, i, 1);
	for (int i = 50; i < 80; i++)
		hd_curve_points_add(&points, i, 2);
	hd_curve_points_add(&points, 79, 3);
	hd_curve_points_end(&points);
	cr_assert_eq(points.n, 80);
	for (int i = 0; i < 80; i++)
		cr_assert(points.x[i] == i && points.y[i] == (i < 50          ? 1
		                                                     : i < 79 ? 2
		                                                              : 3),
		        "point %d: %g", i, points.y[i]);
}

Test(curve_points, a_long_resumed_run)
{
	for (int i = 0; i < 100000; i++)
		hd_curve_points_add(&points, i, 1);
	for (int i = 50000; i < 200000; i++)
		hd_curve_points_add(&points, i, 2);
	hd_curve_points_end(&points);
	for (size_t i = 0; i < points.n; i++) {
		cr_assert(i == 0 || points.x[i] > points.x[i - 1]);
		if (fabs(points.x[i] - 50000) > (double)points.stride)
			cr_assert_eq(points.y[i], points.x[i] < 50000 ? 1 : 2);
	}
}
