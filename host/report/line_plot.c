/* SPDX-License-Identifier: Apache-2.0 */
#include "host/report/line_plot.h"

#include <cairo/cairo-svg.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/report/axis.h"
#include "host/report/palette.h"

#define MARGIN 16     /* around everything */
#define EDGE 4        /* least distance of a text from the page's end */
#define RIGHT 28      /* of the panel, at least */
#define FOOT 60       /* under the panel: ticks and label */
#define TITLE_SIZE 15 /* heights of text */
#define TEXT_SIZE 12
#define RAISED_SIZE 9
#define RAISED_BY 5 /* exponents over the baseline */
#define ROW 20      /* a line of the legend */
#define TICK 5
#define MINOR_TICK 3
#define TEXT_GAP 14 /* at least, between two ticks' texts */
#define SAMPLE 28   /* line in the legend */
#define SAMPLE_GAP 7
#define ENTRY_GAP 22
#define X_TICKS 10 /* at most about so many with text */
#define Y_TICKS 7
#define PADDING 0.04 /* of the y range, above and below the curves */
#define COLUMNS 2    /* per unit of x; points of one column are thinned */
#define FAINT 0.4    /* opacity */
#define INK 0x1a1a1a
#define QUIET 0x666666
#define GRID 0xdddddd
#define MINOR_GRID 0xf0f0f0

_Static_assert(HD_LINE_PLOT_CURVES == HD_PALETTE_SERIES, "each curve has a colour of its own");

static void find_ranges(hd_axis *x, hd_axis *y, const hd_line_plot *plot)
{
	x->low = y->low = INFINITY;
	x->high = y->high = -INFINITY;
	for (int c = 0; c < plot->curve_count; c++) {
		const hd_curve *curve = &plot->curves[c];
		for (size_t i = 0; i < curve->n; i++) {
			if (!hd_axis_has_place(x, curve->x[i]) || !hd_axis_has_place(y, curve->y[i]))
				continue;
			hd_axis_cover(x, curve->x[i]);
			hd_axis_cover(y, curve->y[i]);
		}
	}
}

/* ---- text ---- */

static double text_width(cairo_t *cr, const char *text)
{
	cairo_text_extents_t e;
	cairo_text_extents(cr, text, &e);
	return e.x_advance;
}

/* Text, shortened to the width where need be. */
static void draw_text(cairo_t *cr, double x, double y, double align, double width, const char *text)
{
	char shown[256];
	size_t n = strnlen(text, sizeof shown - 4);
	bool whole = !text[n];
	memcpy(shown, text, n);
	for (;;) {
		while (!whole && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--; /* not within a character */
		strcpy(shown + n, whole ? "" : "...");
		if (n == 0 || text_width(cr, shown) <= width)
			break;
		whole = false;
		n--;
	}
	hd_palette_text(cr, x, y, align, shown);
}

/* "10" with a raised exponent, a factor in front where that is not "". Gives the width; draws from x where told to. */
static double power_text(cairo_t *cr, bool draw, double x, double y, const char *factor, int exponent)
{
	char base[48], raised[16];
	snprintf(base, sizeof base, "%s%s10", factor, *factor ? "\u00d7" : "");
	snprintf(raised, sizeof raised, "%d", exponent);
	double width = text_width(cr, base) + 1;
	if (draw)
		hd_palette_text(cr, x, y, 0, base);
	cairo_set_font_size(cr, RAISED_SIZE);
	if (draw)
		hd_palette_text(cr, x + width, y - RAISED_BY, 0, raised);
	width += text_width(cr, raised);
	cairo_set_font_size(cr, TEXT_SIZE);
	return width;
}

static double tick_width(cairo_t *cr, const hd_tick *k)
{
	return k->power ? power_text(cr, false, 0, 0, k->text, k->exponent) : text_width(cr, k->text);
}

static void tick_text(cairo_t *cr, const hd_tick *k, double x, double y, double align)
{
	if (k->power)
		power_text(cr, true, x - align * tick_width(cr, k), y, k->text, k->exponent);
	else
		hd_palette_text(cr, x, y, align, k->text);
}

/* The factor that was taken out of an axis, as "x10" with its exponent; ends at x. Gives the width. */
static double factor_text(cairo_t *cr, bool draw, double x, double y, int exponent)
{
	static const char times[] = "\u00d7";
	double power = power_text(cr, false, 0, 0, "", exponent), width = text_width(cr, times) + power;
	if (draw) {
		hd_palette_text(cr, x - width, y, 0, times);
		power_text(cr, true, x - power, y, "", exponent);
	}
	return width;
}

static double widest(cairo_t *cr, const hd_axis *a)
{
	double width = a->factor ? factor_text(cr, false, 0, 0, a->factor) : 0;
	for (int i = 0; i < a->tick_count; i++)
		if (a->ticks[i].major)
			width = fmax(width, tick_width(cr, &a->ticks[i]));
	return width;
}

/* Whether the texts under an x axis keep their distance; *first and *last are the ends of all of them. */
static bool texts_fit(cairo_t *cr, const hd_axis *x, double *first, double *last)
{
	bool fit = true;
	*first = x->to;
	*last = -INFINITY;
	for (int i = 0; i < x->tick_count; i++) {
		if (!x->ticks[i].major)
			continue;
		double half = tick_width(cr, &x->ticks[i]) / 2, at = hd_axis_place(x, x->ticks[i].value);
		fit &= at - half >= *last + TEXT_GAP;
		*first = fmin(*first, at - half);
		*last = at + half;
	}
	return fit;
}

/* As many ticks as have room; the panel's ends are moved inwards where a text would leave the page. */
static void fit_x_axis(cairo_t *cr, hd_axis *x)
{
	const double left = x->from, right = HD_LINE_PLOT_WIDTH - RIGHT;
	for (int wanted = X_TICKS; wanted > 0; wanted--) {
		double first, last;
		x->from = round(left);
		x->to = right;
		hd_axis_make_ticks(x, wanted);
		texts_fit(cr, x, &first, &last);
		x->from = round(left + fmax(EDGE - first, 0));
		x->to = round(right - fmax(last - (HD_LINE_PLOT_WIDTH - EDGE), 0));
		if (texts_fit(cr, x, &first, &last))
			break;
	}
}

/* ---- parts of the picture ---- */

static void line(cairo_t *cr, double x0, double y0, double x1, double y1)
{
	cairo_move_to(cr, round(x0) + 0.5, round(y0) + 0.5);
	cairo_line_to(cr, round(x1) + 0.5, round(y1) + 0.5);
	cairo_stroke(cr);
}

static void draw_grid(cairo_t *cr, const hd_axis *x, const hd_axis *y)
{
	for (int major = 0; major < 2; major++) {
		hd_palette_use(cr, major ? GRID : MINOR_GRID, 1);
		for (int i = 0; i < x->tick_count; i++) {
			double at = hd_axis_place(x, x->ticks[i].value);
			if (x->ticks[i].major == major)
				line(cr, at, y->from, at, y->to);
		}
		for (int i = 0; i < y->tick_count; i++) {
			double at = hd_axis_place(y, y->ticks[i].value);
			if (y->ticks[i].major == major)
				line(cr, x->from, at, x->to, at);
		}
	}
}

static void draw_axes(cairo_t *cr, const hd_axis *x, const hd_axis *y, const hd_line_plot *plot)
{
	hd_palette_use(cr, INK, 1);
	cairo_rectangle(cr, round(x->from) + 0.5, round(y->to) + 0.5, round(x->to) - round(x->from),
	        round(y->from) - round(y->to));
	cairo_stroke(cr);
	for (int i = 0; i < x->tick_count; i++) {
		const hd_tick *k = &x->ticks[i];
		double at = hd_axis_place(x, k->value);
		line(cr, at, y->from, at, y->from + (k->major ? TICK : MINOR_TICK));
		if (k->major)
			tick_text(cr, k, at, y->from + 21, 0.5);
	}
	for (int i = 0; i < y->tick_count; i++) {
		const hd_tick *k = &y->ticks[i];
		double at = hd_axis_place(y, k->value);
		line(cr, x->from - (k->major ? TICK : MINOR_TICK), at, x->from, at);
		if (k->major)
			tick_text(cr, k, x->from - TICK - 4, at + 4, 1);
	}
	double width = x->to - x->from, height = y->from - y->to, foot = y->from + 44;
	if (x->factor)
		factor_text(cr, true, x->to, foot, x->factor);
	if (y->factor)
		factor_text(cr, true, x->from - TICK - 4, y->to - 10, y->factor);
	if (plot->x_label) {
		double beside = x->factor ? factor_text(cr, false, 0, 0, x->factor) + TEXT_GAP : 0;
		draw_text(cr, x->from + width / 2, foot, 0.5, width - 2 * beside, plot->x_label);
	}
	if (plot->y_label) {
		cairo_save(cr);
		cairo_translate(cr, MARGIN + TEXT_SIZE - 4, y->to + height / 2);
		cairo_rotate(cr, -M_PI / 2);
		draw_text(cr, 0, 0, 0.5, height, plot->y_label);
		cairo_restore(cr);
	}
}

/* The marker's line, its label above the panel. */
static void draw_marker(cairo_t *cr, const hd_axis *x, const hd_axis *y, const hd_line_plot *plot)
{
	double at = hd_axis_place(x, plot->marker_x), width = x->to - x->from;
	double half = fmin(text_width(cr, plot->marker_label), width) / 2;
	hd_palette_use(cr, QUIET, 1);
	cairo_set_dash(cr, (const double[]){5, 3}, 2, 0);
	line(cr, at, y->from, at, y->to - 5);
	cairo_set_dash(cr, NULL, 0, 0);
	hd_palette_use(cr, INK, 1);
	draw_text(cr, fmin(fmax(at, x->from + half), x->to - half), y->to - 9, 0.5, width, plot->marker_label);
}

/* ---- curves ---- */

/* How a curve is drawn. */
typedef struct style {
	uint32_t rgb;
	int dashes; /* row of the table */
	bool faint;
	bool edged; /* a light colour, which needs a dark edge to stand off the page */
} style;

/* Faint curves are never dashed and take no dashes from the others, so that a single strong curve is solid. */
static style style_of(const hd_line_plot *plot, int c)
{
	uint32_t rgb = hd_palette_series[c];
	double luma = 0.30 * (rgb >> 16 & 255) + 0.59 * (rgb >> 8 & 255) + 0.11 * (rgb & 255);
	style s = {.rgb = rgb, .faint = plot->curves[c].faint};
	s.edged = luma > 200 && !s.faint;
	for (int i = 0; i < c && !s.faint; i++)
		s.dashes += !plot->curves[i].faint;
	return s;
}

static void stroke_curve(cairo_t *cr, const style *s)
{
	static const struct {
		int count;
		double on_off[6];
	} dashes[HD_LINE_PLOT_CURVES] = {{0, {0}}, {2, {9, 4}}, {2, {2.5, 2.5}}, {4, {9, 3, 2.5, 3}}, {2, {5, 2}},
	        {6, {9, 3, 2.5, 3, 2.5, 3}}, {2, {16, 4}}, {4, {16, 3, 5, 3}}};
	double width = s->faint ? 1 : 2;
	cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
	cairo_set_dash(cr, dashes[s->dashes].on_off, dashes[s->dashes].count, 0);
	if (s->edged) {
		hd_palette_use(cr, INK, 1);
		cairo_set_line_width(cr, width + 1);
		cairo_stroke_preserve(cr);
	}
	hd_palette_use(cr, s->rgb, s->faint ? FAINT : 1);
	cairo_set_line_width(cr, width);
	cairo_stroke(cr);
	cairo_set_line_width(cr, 1);
	cairo_set_dash(cr, NULL, 0, 0);
}

static void draw_dot(cairo_t *cr, double x, double y, const style *s)
{
	cairo_new_path(cr);
	cairo_arc(cr, x, y, s->faint ? 1.5 : 3, 0, 2 * M_PI);
	hd_palette_use(cr, s->rgb, s->faint ? FAINT : 1);
	cairo_fill_preserve(cr);
	hd_palette_use(cr, INK, 1);
	if (s->edged)
		cairo_stroke_preserve(cr);
	cairo_new_path(cr);
}

typedef struct point {
	double x, y;
	int64_t index;
} point;

/*
 * An unbroken part of a curve. Of neighbouring points in one column of pixels only the first, lowest, highest and last
 * are drawn, which looks the same (U. Jugel et al., M4: A Visualization-Oriented Time Series Data Aggregation, 2014).
 */
typedef struct part {
	bool pending;
	point first, low, high, last; /* of the column */
	int64_t drawn, points;        /* index of the last one on the path, how many are */
} part;

static void draw_point(cairo_t *cr, part *p, point at)
{
	if (p->points && at.index <= p->drawn)
		return;
	(p->points++ ? cairo_line_to : cairo_move_to)(cr, at.x, at.y);
	p->drawn = at.index;
}

static void end_column(cairo_t *cr, part *p)
{
	if (!p->pending)
		return;
	bool low_first = p->low.index < p->high.index;
	draw_point(cr, p, p->first);
	draw_point(cr, p, low_first ? p->low : p->high);
	draw_point(cr, p, low_first ? p->high : p->low);
	draw_point(cr, p, p->last);
	p->pending = false;
}

static void add_point(cairo_t *cr, part *p, point at)
{
	if (p->pending && floor(at.x * COLUMNS) != floor(p->last.x * COLUMNS))
		end_column(cr, p);
	if (!p->pending)
		p->first = p->low = p->high = at;
	if (at.y < p->low.y)
		p->low = at;
	if (at.y > p->high.y)
		p->high = at;
	p->last = at;
	p->pending = true;
}

static void end_part(cairo_t *cr, part *p, const style *s)
{
	end_column(cr, p);
	if (p->points == 1)
		draw_dot(cr, p->last.x, p->last.y, s);
	else if (p->points)
		stroke_curve(cr, s);
	*p = (part){0};
}

static void draw_curve(cairo_t *cr, const hd_axis *x, const hd_axis *y, const hd_curve *curve, const style *s)
{
	part p = {0};
	for (size_t i = 0; i < curve->n; i++) {
		if (hd_axis_has_place(x, curve->x[i]) && hd_axis_has_place(y, curve->y[i]))
			add_point(cr, &p,
			        (point){hd_axis_place(x, curve->x[i]), hd_axis_place(y, curve->y[i]), (int64_t)i});
		else
			end_part(cr, &p, s);
	}
	end_part(cr, &p, s);
}

static void draw_curves(cairo_t *cr, const hd_axis *x, const hd_axis *y, const hd_line_plot *plot)
{
	cairo_save(cr);
	cairo_rectangle(cr, x->from - 3, y->to - 3, x->to - x->from + 6, y->from - y->to + 6);
	cairo_clip(cr);
	for (int strong = 0; strong < 2; strong++) {
		for (int c = 0; c < plot->curve_count; c++) {
			style s = style_of(plot, c);
			if (s.faint != strong)
				draw_curve(cr, x, y, &plot->curves[c], &s);
		}
	}
	cairo_restore(cr);
}

/* The curves' names in rows from y down; gives the y under them. */
static double draw_legend(cairo_t *cr, double left, double right, double y, const hd_line_plot *plot)
{
	double x = left, most = right - left - SAMPLE - SAMPLE_GAP;
	bool any = false;
	for (int c = 0; c < plot->curve_count; c++) {
		const char *name = plot->curves[c].name;
		if (!name)
			continue;
		double width = fmin(text_width(cr, name), most);
		if (any && x + SAMPLE + SAMPLE_GAP + width > right + 0.01) {
			x = left;
			y += ROW;
		}
		cairo_move_to(cr, x, y + ROW / 2.0);
		cairo_line_to(cr, x + SAMPLE, y + ROW / 2.0);
		style s = style_of(plot, c);
		stroke_curve(cr, &s);
		hd_palette_use(cr, INK, 1);
		draw_text(cr, x + SAMPLE + SAMPLE_GAP, y + ROW / 2.0 + 4, 0, width + 0.01, name);
		x += SAMPLE + SAMPLE_GAP + width + ENTRY_GAP;
		any = true;
	}
	return any ? y + ROW : y;
}

static void draw(cairo_t *cr, const hd_line_plot *plot)
{
	hd_axis x = {.log = plot->log_x}, y = {.log = plot->log_y};
	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	cairo_set_font_size(cr, TEXT_SIZE);
	cairo_set_line_width(cr, 1);

	find_ranges(&x, &y, plot);
	bool empty = x.low > x.high, marked = plot->marker_label && hd_axis_has_place(&x, plot->marker_x);
	if (marked)
		hd_axis_cover(&x, plot->marker_x);
	hd_axis_pad(&x, 0);
	hd_axis_pad(&y, PADDING);
	hd_axis_make_ticks(&y, Y_TICKS);
	x.from = MARGIN + (plot->y_label ? TEXT_SIZE + 10 : 0) + widest(cr, &y) + TICK + 4;
	fit_x_axis(cr, &x);

	double top = MARGIN;
	if (plot->title) {
		cairo_set_font_size(cr, TITLE_SIZE);
		hd_palette_use(cr, INK, 1);
		draw_text(cr, x.from, top + TITLE_SIZE - 2, 0, x.to - x.from, plot->title);
		cairo_set_font_size(cr, TEXT_SIZE);
		top += TITLE_SIZE + 8;
	}
	top = draw_legend(cr, x.from, x.to, top, plot) + (marked || y.factor ? 26 : 8);
	y.from = HD_LINE_PLOT_HEIGHT - FOOT;
	y.to = round(top);
	draw_grid(cr, &x, &y);
	draw_axes(cr, &x, &y, plot);
	if (marked)
		draw_marker(cr, &x, &y, plot);
	draw_curves(cr, &x, &y, plot);
	if (empty) {
		hd_palette_use(cr, QUIET, 1);
		hd_palette_text(cr, (x.from + x.to) / 2, (y.from + y.to) / 2, 0.5, "no values to show");
	}
}

/* ---- the file ---- */

typedef struct buffer {
	unsigned char *bytes;
	size_t used, capacity;
} buffer;

static cairo_status_t append(void *closure, const unsigned char *data, unsigned n)
{
	buffer *b = closure;
	if (hd_grow(&b->bytes, &b->capacity, b->used + n, 1) != HD_OK)
		return CAIRO_STATUS_NO_MEMORY;
	memcpy(b->bytes + b->used, data, n);
	b->used += n;
	return CAIRO_STATUS_SUCCESS;
}

static cairo_status_t render(buffer *out, bool svg, const hd_line_plot *plot)
{
	const int scale = HD_LINE_PLOT_SCALE;
	cairo_surface_t *page =
	        svg ? cairo_svg_surface_create_for_stream(append, out, HD_LINE_PLOT_WIDTH, HD_LINE_PLOT_HEIGHT)
	            : cairo_image_surface_create(
	                      CAIRO_FORMAT_RGB24, scale * HD_LINE_PLOT_WIDTH, scale * HD_LINE_PLOT_HEIGHT);
	cairo_t *cr = cairo_create(page);
	if (svg)
		cairo_svg_surface_set_document_unit(page, CAIRO_SVG_UNIT_PX);
	else
		cairo_scale(cr, scale, scale);
	draw(cr, plot);
	cairo_status_t status = cairo_status(cr);
	cairo_destroy(cr);
	if (status == CAIRO_STATUS_SUCCESS && !svg)
		status = cairo_surface_write_to_png_stream(page, append, out);
	cairo_surface_finish(page); /* an SVG is written here */
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(page);
	cairo_surface_destroy(page);
	return status;
}

hd_status hd_line_plot_write(const char *path, const hd_line_plot *plot)
{
	hd_status st;
	buffer out = {0};
	size_t length = strlen(path);
	const char *ending = length > 4 ? path + length - 4 : "";
	bool svg = !strcasecmp(ending, ".svg");
	if (!svg && strcasecmp(ending, ".png") != 0)
		HD_TRY(hd_fail(HD_E_USAGE,
		        "%s: not a kind of picture that can be written; end the name in .png or .svg", path));
	if (plot->curve_count < 0 || plot->curve_count > HD_LINE_PLOT_CURVES)
		HD_TRY(hd_fail(HD_E_USAGE,
		        "%s: %d curves in one picture; draw %d at most, the others in another picture", path,
		        plot->curve_count, HD_LINE_PLOT_CURVES));
	cairo_status_t status = render(&out, svg, plot);
	if (status == CAIRO_STATUS_NO_MEMORY)
		HD_TRY(hd_fail(HD_E_MEMORY, "%s: out of host memory for the picture", path));
	if (status != CAIRO_STATUS_SUCCESS)
		HD_TRY(hd_fail(HD_E_FAILED, "%s: cannot draw the picture: %s", path, cairo_status_to_string(status)));
	HD_TRY(hd_file_write(path, &(hd_span){out.bytes, out.used}, 1, 0));
done:
	free(out.bytes);
	return st;
}
