/* SPDX-License-Identifier: Apache-2.0 */
/* Curves as PNG and SVG: what is drawn where, found again in the pixels. */
#include <cairo/cairo.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "host/report/line_plot.h"
#include "host/report/palette.h"
#include "tests/folder.h"

TestSuite(line_plot, .init = start, .fini = stop);

#define INK 0x1a1a1a
#define WIDTH (HD_LINE_PLOT_SCALE * HD_LINE_PLOT_WIDTH)
#define HEIGHT (HD_LINE_PLOT_SCALE * HD_LINE_PLOT_HEIGHT)
#define MARKER 0x666666

static const double ones[11] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static const double counting[11] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

static uint32_t pixels[HEIGHT][WIDTH]; /* 0xRRGGBB */

static void load(const char *path)
{
	cairo_surface_t *s = cairo_image_surface_create_from_png(path);
	cr_assert_eq(cairo_surface_status(s), CAIRO_STATUS_SUCCESS, "%s: got '%s', wanted a PNG", path,
	        cairo_status_to_string(cairo_surface_status(s)));
	int width = cairo_image_surface_get_width(s), height = cairo_image_surface_get_height(s);
	cr_assert(
	        width == WIDTH && height == HEIGHT, "got %d x %d pixels, wanted %d x %d", width, height, WIDTH, HEIGHT);
	for (int y = 0; y < HEIGHT; y++) {
		const unsigned char *row =
		        cairo_image_surface_get_data(s) + (size_t)y * (size_t)cairo_image_surface_get_stride(s);
		memcpy(pixels[y], row, sizeof pixels[y]);
		for (int x = 0; x < WIDTH; x++)
			pixels[y][x] &= 0xffffff;
	}
	cairo_surface_destroy(s);
}

/* Writes the picture and reads its pixels. */
static void show(const hd_line_plot *plot)
{
	const char *path = file_in("plot.png");
	hd_status st = hd_line_plot_write(path, plot);
	cr_assert_eq(st, HD_OK, "got status %d: %s", (int)st, hd_error_text());
	load(path);
}

/* Where a colour is, in pixels; count 0: nowhere. */
typedef struct area {
	int left, right, top, bottom, count;
} area;

static area find(uint32_t rgb, int from_x, int to_x, int from_y, int to_y)
{
	area a = {WIDTH, -1, HEIGHT, -1, 0};
	for (int y = from_y; y < to_y; y++) {
		for (int x = from_x; x < to_x; x++) {
			if (pixels[y][x] != rgb)
				continue;
			a.left = x < a.left ? x : a.left;
			a.right = x > a.right ? x : a.right;
			a.top = y < a.top ? y : a.top;
			a.bottom = y > a.bottom ? y : a.bottom;
			a.count++;
		}
	}
	return a;
}

static area find_curve(int c)
{
	return find(hd_palette_series[c], 0, WIDTH, 0, HEIGHT);
}

/* Height of a curve in one column: the middle of its pixels. */
static double height_at(int c, int x)
{
	area a = find(hd_palette_series[c], x, x + 1, 0, HEIGHT);
	cr_assert_gt(a.count, 0, "got nothing of curve %d in column %d", c, x);
	return (a.top + a.bottom) / 2.0;
}

/* Share of the curve's width in which it is there. */
static double share_drawn(int c)
{
	area a = find_curve(c);
	int n = 0;
	for (int x = a.left; x <= a.right; x++)
		n += find(hd_palette_series[c], x, x + 1, a.top, a.bottom + 1).count > 0;
	return a.count ? (double)n / (a.right + 1 - a.left) : 0;
}

/* The panel's frame: the rows and columns that are mostly in the colour of its lines. */
static area find_frame(void)
{
	area a = {WIDTH, -1, HEIGHT, -1, 0};
	int in_row[HEIGHT] = {0}, in_column[WIDTH] = {0};
	for (int y = 0; y < HEIGHT; y++) {
		for (int x = 0; x < WIDTH; x++) {
			in_row[y] += pixels[y][x] == INK;
			in_column[x] += pixels[y][x] == INK;
		}
	}
	for (int y = 0; y < HEIGHT; y++) {
		if (in_row[y] > WIDTH / 2) {
			a.top = y < a.top ? y : a.top;
			a.bottom = y;
		}
	}
	for (int x = 0; x < WIDTH; x++) {
		if (in_column[x] > HEIGHT / 2) {
			a.left = x < a.left ? x : a.left;
			a.right = x;
		}
	}
	cr_assert(a.bottom > a.top && a.right > a.left, "got no frame, wanted one");
	return a;
}

static area find_marker(void)
{
	area frame = find_frame();
	return find(MARKER, frame.left, frame.right + 1, frame.top, frame.bottom);
}

/* Lines that cross a row `under` units below the frame: 4 for ticks with text, 2 for all. */
static int ticks_below(int under)
{
	area frame = find_frame();
	int n = 0, y = frame.bottom + under * HD_LINE_PLOT_SCALE - 1;
	for (int x = frame.left - 1; x < WIDTH; x++)
		n += pixels[y][x] == INK && pixels[y][x - 1] != INK;
	return n;
}

static int ticks_beside(int beside)
{
	area frame = find_frame();
	int n = 0, x = frame.left - beside * HD_LINE_PLOT_SCALE + 1;
	for (int y = 1; y <= frame.bottom; y++)
		n += pixels[y][x] == INK && pixels[y - 1][x] != INK;
	return n;
}

static void check_near(const char *what, double got, double want, double bound)
{
	cr_assert(fabs(got - want) <= bound, "%s: got %g, wanted %g within %g", what, got, want, bound);
}

Test(line_plot, png_has_signature_and_size)
{
	static const unsigned char signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
	unsigned char got[8];
	hd_curve curve = {"a", counting, ones, 11, false};
	show(&(hd_line_plot){.title = "t", .x_label = "x", .y_label = "y", .curves = &curve, .curve_count = 1});
	FILE *f = fopen(file_in("plot.png"), "rb");
	cr_assert_not_null(f);
	cr_assert_eq(fread(got, 1, 8, f), 8);
	fclose(f);
	cr_assert_arr_eq(got, signature, 8);
}

Test(line_plot, svg_is_written_whole)
{
	static char text[1 << 20];
	hd_curve curve = {"a", counting, ones, 11, false};
	hd_line_plot plot = {.title = "t", .curves = &curve, .curve_count = 1};
	cr_assert_eq(hd_line_plot_write(file_in("plot.SVG"), &plot), HD_OK, "got: %s", hd_error_text());
	FILE *f = fopen(file_in("plot.SVG"), "rb");
	cr_assert_not_null(f);
	size_t n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	cr_assert(strstr(text, "<svg"), "got %zu bytes without '<svg'", n);
	cr_assert(strstr(text, "width=\"900"), "got a page that is not 900 wide: %.300s", text);
	cr_assert(strstr(text, "</svg>"), "got %zu bytes without an end", n);
}

Test(line_plot, other_endings_and_too_many_curves_are_wrong_usage)
{
	static const char *const names[] = {"plot.gif", "plot", "png", ".png.txt", ""};
	hd_curve curves[HD_LINE_PLOT_CURVES + 1];
	struct stat s;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		hd_status st = hd_line_plot_write(file_in(names[i]), &(hd_line_plot){.title = "t"});
		cr_expect_eq(st, HD_E_USAGE, "'%s': got status %d, wanted %d", names[i], (int)st, HD_E_USAGE);
		cr_expect(strstr(hd_error_text(), ".png or .svg"), "'%s': got '%s'", names[i], hd_error_text());
		cr_expect(!*names[i] || stat(file_in(names[i]), &s) != 0, "'%s': got a file", names[i]);
	}
	for (int c = 0; c <= HD_LINE_PLOT_CURVES; c++)
		curves[c] = (hd_curve){NULL, counting, ones, 11, false};
	hd_line_plot plot = {.curves = curves, .curve_count = HD_LINE_PLOT_CURVES + 1};
	hd_status st = hd_line_plot_write(file_in("plot.png"), &plot);
	cr_expect_eq(st, HD_E_USAGE, "got status %d, wanted %d", (int)st, HD_E_USAGE);
}

Test(line_plot, failures_are_told)
{
	hd_status st = hd_line_plot_write(file_in("none/plot.png"), &(hd_line_plot){.title = "t"});
	cr_expect_eq(st, HD_E_IO, "no folder: got status %d, wanted %d", (int)st, HD_E_IO);
	cr_expect(strstr(hd_error_text(), "none/plot.png"), "got '%s'", hd_error_text());
	st = hd_line_plot_write(file_in("plot.png"), &(hd_line_plot){.title = "no \xff text"});
	cr_expect_eq(st, HD_E_FAILED, "not UTF-8: got status %d, wanted %d", (int)st, HD_E_FAILED);
}

Test(line_plot, constant_curve_is_level_and_over_the_whole_panel)
{
	hd_curve curve = {NULL, counting, ones, 11, false};
	show(&(hd_line_plot){.curves = &curve, .curve_count = 1});
	area a = find_curve(0), frame = find_frame();
	cr_assert_gt(a.count, 0);
	check_near("thickness", a.bottom - a.top, 4, 2);
	check_near("left end", a.left, frame.left, 4);
	check_near("right end", a.right, frame.right, 4);
	check_near("height", (a.top + a.bottom) / 2.0, (frame.top + frame.bottom) / 2.0, 4);
}

Test(line_plot, one_point_is_a_dot)
{
	for (int kind = 0; kind < 4; kind++) {
		hd_curve curve = {NULL, (const double[]){5}, (const double[]){-0.0 + 7}, 1, false};
		show(&(hd_line_plot){.log_x = kind & 1, .log_y = kind & 2, .curves = &curve, .curve_count = 1});
		area a = find_curve(0), frame = find_frame();
		cr_assert_gt(a.count, 20, "kind %d: got %d pixels", kind, a.count);
		check_near("width", a.right - a.left, 11, 3);
		check_near("height", a.bottom - a.top, 11, 3);
		check_near("x", (a.left + a.right) / 2.0, (frame.left + frame.right) / 2.0, 4);
	}
}

Test(line_plot, nothing_to_draw_is_a_picture_all_the_same)
{
	const double nan[] = {NAN, NAN, NAN}, huge[] = {INFINITY, -INFINITY, 1e301}, x[] = {1, 2, 3};
	const double negative[] = {0, -1, -0.0};
	hd_curve curves[] = {{NULL, x, nan, 3, false}, {NULL, nan, x, 3, false}, {NULL, x, huge, 3, false},
	        {NULL, NULL, NULL, 0, false}, {NULL, x, negative, 3, false}};
	show(&(hd_line_plot){.title = "none"});
	find_frame();
	show(&(hd_line_plot){.log_x = true, .log_y = true, .curves = curves, .curve_count = 5});
	find_frame();
	for (int c = 0; c < 5; c++)
		cr_expect_eq(find_curve(c).count, 0, "curve %d: got %d pixels, wanted none", c, find_curve(c).count);
	show(&(hd_line_plot){.log_x = true, .curves = curves, .curve_count = 1, .marker_x = 3e-4, .marker_label = "m"});
	cr_expect_gt(find_marker().count, 100, "got no marker");
}

Test(line_plot, nan_breaks_a_line)
{
	double y[11];
	memcpy(y, ones, sizeof y);
	y[5] = NAN;
	hd_curve curve = {NULL, counting, y, 11, false};
	show(&(hd_line_plot){.curves = &curve, .curve_count = 1});
	area frame = find_frame();
	int width = frame.right - frame.left;
	const int to[] = {frame.left + 395 * width / 1000, frame.left + 605 * width / 1000};
	cr_expect_eq(find(0, frame.left + 41 * width / 100, frame.left + 59 * width / 100, 0, HEIGHT).count, 0,
	        "got no gap");
	height_at(0, to[0]);
	height_at(0, to[1]);
}

Test(line_plot, values_that_have_no_logarithm_are_left_out)
{
	const double y[] = {1, 1, 1, 0, -5, 1, 1, 1, 1, 1, 1};
	hd_curve curve = {NULL, counting, y, 11, false};
	show(&(hd_line_plot){.log_y = true, .curves = &curve, .curve_count = 1});
	area a = find_curve(0), frame = find_frame();
	int width = frame.right - frame.left;
	cr_expect_eq(find(0, frame.left + 21 * width / 100, frame.left + 49 * width / 100, 0, HEIGHT).count, 0,
	        "got no gap");
	check_near("thickness", a.bottom - a.top, 4, 2);

	hd_curve from_zero = {NULL, counting, counting, 11, false};
	show(&(hd_line_plot){.log_x = true, .log_y = true, .curves = &from_zero, .curve_count = 1});
	frame = find_frame();
	cr_expect_gt(find_curve(0).count, 0);
	check_near("x starts at 1", find_curve(0).left, frame.left, 6);
}

/* A power law on two logarithmic axes, an exponential on one and a line on none are straight. */
Test(line_plot, axes_are_linear_or_logarithmic)
{
	double x[201], y[201];
	for (int kind = 0; kind < 4; kind++) {
		bool log_x = kind & 1, log_y = kind & 2;
		for (int i = 0; i <= 200; i++) {
			double t = i / 200.0;
			x[i] = log_x ? pow(10, -8 + 8 * t) : 40 * t - 10;
			y[i] = log_y ? pow(10, 3 - 5 * t) : 7 - 3 * t;
		}
		hd_curve curve = {NULL, x, y, 201, false};
		show(&(hd_line_plot){.log_x = log_x, .log_y = log_y, .curves = &curve, .curve_count = 1});
		area frame = find_frame(), a = find_curve(0);
		int width = frame.right - frame.left, height = frame.bottom - frame.top;
		cr_assert_gt(a.bottom - a.top, height * 9 / 10 - 8, "kind %d: got a height of %d in a panel of %d",
		        kind, a.bottom - a.top, height);
		double first = height_at(0, frame.left + width / 10), middle = height_at(0, frame.left + width / 2),
		       last = height_at(0, frame.left + width * 9 / 10);
		cr_assert_lt(first, last, "kind %d: got a curve that rises", kind);
		check_near("middle", middle, (first + last) / 2, 2);
	}
}

Test(line_plot, ticks_are_round_and_few)
{
	const struct {
		bool log;
		double low, high;
		int with_text, all;
	} cases[] = {
	        {false, 0, 10, 11, 11},                              /* 0 1 .. 10 */
	        {false, 1, 100, 10, 10},                             /* 10 20 .. 100 */
	        {false, -0.3, 0.31, 7, 7},                           /* -0.3 -0.2 .. 0.3 */
	        {true, 1e-8, 1, 9, 9 + 64},                          /* every power */
	        {true, 1e-3, 1e-1, 3, 3 + 16}, {true, 1, 50, 6, 14}, /* 1 2 5 10 20 50 */
	        {true, 1e-20, 1, 11, 21},                            /* every second power with text */
	        {true, 20, 60, 9, 9},                                /* steps of 5 */
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		double x[2] = {cases[i].low, cases[i].high};
		hd_curve curve = {NULL, x, ones, 2, false};
		show(&(hd_line_plot){.log_x = cases[i].log, .curves = &curve, .curve_count = 1});
		int with_text = ticks_below(4), all = ticks_below(2);
		cr_expect(with_text == cases[i].with_text && all == cases[i].all,
		        "case %zu, %g to %g: got %d ticks with text of %d, wanted %d of %d", i, x[0], x[1], with_text,
		        all, cases[i].with_text, cases[i].all);
	}
}

Test(line_plot, ticks_of_any_range_are_neither_none_nor_many)
{
	uint64_t state = 1;
	for (int i = 0; i < 12; i++) {
		double v[2];
		bool log = i & 1;
		for (int k = 0; k < 2; k++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			double t = (double)(state >> 11) / 0x1p53;
			v[k] = log ? pow(10, 600 * t - 300) : (t - 0.5) * pow(10, i * 25 - 140);
		}
		hd_curve curve = {NULL, v, v, 2, false};
		show(&(hd_line_plot){.log_x = log, .log_y = log, .curves = &curve, .curve_count = 1});
		int below = ticks_below(4), beside = ticks_beside(4);
		cr_expect(below >= 2 && below <= 13, "%g to %g: got %d ticks below", v[0], v[1], below);
		cr_expect(beside >= 2 && beside <= 13, "%g to %g: got %d ticks beside", v[0], v[1], beside);
	}
}

Test(line_plot, marker_stands_at_its_value_and_widens_the_axis)
{
	const double x[] = {1e-8, 1e-2}, y[] = {1, 2};
	/* the second place: the edges of a black curve have the marker's colour */
	hd_curve curves[] = {{.faint = true}, {NULL, x, y, 2, false}};
	hd_line_plot plot = {.log_x = true, .curves = curves, .curve_count = 2, .marker_x = 1e-5, .marker_label = "m"};
	show(&plot);
	area frame = find_frame(), m = find_marker();
	check_near("middle", (m.left + m.right) / 2.0, (frame.left + frame.right) / 2.0, 3);
	cr_expect_gt(m.bottom - m.top, (frame.bottom - frame.top) * 9 / 10, "got a short marker");
	plot.marker_x = 1;
	show(&plot);
	check_near(
	        "curve ends at three quarters", find_curve(1).right, frame.left + 0.75 * (frame.right - frame.left), 5);
	const double none[] = {NAN, 0, -1, INFINITY};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		plot.marker_x = none[i];
		show(&plot);
		cr_expect_eq(find_marker().count, 0, "%g: got a marker", none[i]);
	}
	plot.marker_x = 1e-5;
	plot.marker_label = NULL;
	show(&plot);
	cr_expect_eq(find_marker().count, 0, "without a label: got a marker");
}

Test(line_plot, curves_differ_in_colour_and_dashes)
{
	double y[HD_LINE_PLOT_CURVES][11];
	hd_curve curves[HD_LINE_PLOT_CURVES];
	for (int c = 0; c < HD_LINE_PLOT_CURVES; c++) {
		for (int i = 0; i < 11; i++)
			y[c][i] = c;
		curves[c] = (hd_curve){NULL, counting, y[c], 11, false};
	}
	hd_line_plot plot = {.curves = curves, .curve_count = HD_LINE_PLOT_CURVES};
	show(&plot);
	for (int c = 0; c < HD_LINE_PLOT_CURVES; c++) {
		double share = share_drawn(c);
		if (c == 0)
			check_near("share drawn of the first curve", share, 1, 0.01);
		else
			cr_expect(share > 0.3 && share < 0.9, "curve %d: got %g of it drawn, wanted dashes", c, share);
		cr_expect(c == 0 || find_curve(c).top < find_curve(c - 1).top, "got curve %d at the wrong height", c);
	}
	curves[0].faint = true;
	show(&plot);
	cr_expect_eq(find_curve(0).count, 0, "got a faint curve in full colour");
	check_near("share drawn of the first strong curve", share_drawn(1), 1, 0.01);
}

Test(line_plot, legend_has_a_line_for_each_name)
{
	hd_curve curves[] = {{"one", counting, ones, 11, false},
	        {"a name that has no room and is therefore cut: \u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc "
	         "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 "
	         "0123456789 0123456789 0123456789 0123456789 0123456789",
	                counting, counting, 11, false},
	        {NULL, counting, counting, 11, false}};
	show(&(hd_line_plot){.title = "t", .curves = curves, .curve_count = 3});
	area frame = find_frame();
	for (int c = 0; c < 3; c++) {
		int above = 0;
		for (int y = 0; y < frame.top - 8; y++)
			for (int x = 0; x < WIDTH; x++)
				above += pixels[y][x] == hd_palette_series[c];
		cr_expect((above > 0) == (c < 2), "curve %d: got %d pixels of its colour in the legend", c, above);
	}
	for (int y = 0; y < HEIGHT; y++)
		cr_assert_eq(pixels[y][WIDTH - 1], 0xffffff, "row %d: got something at the page's end", y);
}

/* Of a hundred thousand points the picture shows every peak, and an SVG stays small. */
Test(line_plot, many_points_are_thinned_without_loss_of_peaks)
{
	enum { N = 100000 };
	static double x[N], y[N];
	struct stat s;
	for (int i = 0; i < N; i++)
		x[i] = i;
	y[N / 4] = 1;
	y[N / 2] = -1;
	hd_curve curve = {NULL, x, y, N, false};
	hd_line_plot plot = {.curves = &curve, .curve_count = 1};
	show(&plot);
	area frame = find_frame(), a = find_curve(0);
	cr_expect_gt(a.bottom - a.top, (frame.bottom - frame.top) * 88 / 100, "got a height of %d", a.bottom - a.top);
	cr_assert_eq(hd_line_plot_write(file_in("plot.svg"), &plot), HD_OK);
	cr_assert_eq(stat(file_in("plot.svg"), &s), 0);
	cr_expect_lt(s.st_size, 1 << 20, "got %lld bytes", (long long)s.st_size);
}

Test(line_plot, same_input_same_bytes)
{
	static unsigned char bytes[2][1 << 20];
	size_t n[2];
	hd_curve curve = {"a", counting, counting, 11, false};
	hd_line_plot plot = {.title = "t", .log_y = true, .curves = &curve, .curve_count = 1};
	for (int i = 0; i < 2; i++) {
		show(&plot);
		FILE *f = fopen(file_in("plot.png"), "rb");
		cr_assert_not_null(f);
		n[i] = fread(bytes[i], 1, sizeof bytes[i], f);
		fclose(f);
	}
	cr_assert_eq(n[0], n[1]);
	cr_assert_arr_eq(bytes[0], bytes[1], n[0]);
}
