/* SPDX-License-Identifier: Apache-2.0 */
#include "host/report/health_picture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/common/memory.h"
#include "host/report/palette.h"
#include "kernels/cpu/fft.h"

#define PANEL_WIDTH 800
#define PANEL_HEIGHT 190
#define RECEIVER_HEIGHT 110
#define LEFT 76
#define RIGHT 28
#define HEAD 66        /* name and notes */
#define PANEL_TITLE 22 /* above each panel */
#define PANEL_FOOT 44  /* ticks and label under each panel */
#define TICK 4
#define NOTES_SHOWN 2
#define WELCH_POINTS 1024
#define WELCH_SEGMENTS 4000 /* more change nothing that can be seen */
#define DB_SPAN 120.0       /* shown under the strongest line at most */
#define HISTOGRAM_BINS 256
#define INK 0x1a1a1a
#define GRID 0xdddddd

enum { BLACK, BLUE, VERMILION, GREEN };

/* A plot's place on the page and the values at its edges. */
typedef struct panel {
	double x, y, width, height;
	double left, right, bottom, top;
} panel;

static double to_x(const panel *p, double value)
{
	return p->x + (value - p->left) / (p->right - p->left) * p->width;
}

static double to_y(const panel *p, double value)
{
	double t = (value - p->bottom) / (p->top - p->bottom);
	return p->y + p->height - fmin(fmax(t, 0), 1) * p->height;
}

static void line(cairo_t *cr, double x0, double y0, double x1, double y1)
{
	cairo_move_to(cr, round(x0) + 0.5, round(y0) + 0.5);
	cairo_line_to(cr, round(x1) + 0.5, round(y1) + 0.5);
	cairo_stroke(cr);
}

/* A tick's label without what rounding leaves behind. */
static const char *tick_text(char text[32], double value)
{
	snprintf(text, 32, "%.10g", value);
	return text;
}

static void x_ticks(cairo_t *cr, const panel *p)
{
	char text[32];
	double step = hd_palette_step(p->right - p->left, 8);
	for (int64_t i = (int64_t)ceil(p->left / step); (double)i <= p->right / step + 1e-6; i++) {
		double v = (double)i * step, at = to_x(p, v);
		hd_palette_use(cr, GRID, 1);
		line(cr, at, p->y, at, p->y + p->height);
		hd_palette_use(cr, INK, 1);
		line(cr, at, p->y + p->height, at, p->y + p->height + TICK);
		hd_palette_text(cr, at, p->y + p->height + 17, 0.5, tick_text(text, v));
	}
}

static void y_ticks(cairo_t *cr, const panel *p, int wanted)
{
	char text[32];
	double step = hd_palette_step(p->top - p->bottom, wanted);
	for (int64_t i = (int64_t)ceil(p->bottom / step); (double)i <= p->top / step + 1e-6; i++) {
		double v = (double)i * step, at = to_y(p, v);
		hd_palette_use(cr, GRID, 1);
		line(cr, p->x, at, p->x + p->width, at);
		hd_palette_use(cr, INK, 1);
		line(cr, p->x - TICK, at, p->x, at);
		hd_palette_text(cr, p->x - TICK - 4, at + 4, 1, tick_text(text, v));
	}
}

static void labels(cairo_t *cr, const panel *p, const char *title, const char *x_label, const char *y_label)
{
	hd_palette_use(cr, INK, 1);
	cairo_rectangle(cr, p->x + 0.5, p->y + 0.5, p->width, p->height);
	cairo_stroke(cr);
	hd_palette_text(cr, p->x, p->y - 7, 0, title);
	hd_palette_text(cr, p->x + p->width / 2, p->y + p->height + 34, 0.5, x_label);
	cairo_save(cr);
	cairo_translate(cr, 16, p->y + p->height / 2);
	cairo_rotate(cr, -M_PI / 2);
	hd_palette_text(cr, 0, 0, 0.5, y_label);
	cairo_restore(cr);
}

typedef struct legend_entry {
	uint32_t rgb;
	const char *text;
} legend_entry;

/* Right-aligned above the panel. */
static void legend(cairo_t *cr, const panel *p, const legend_entry *entries, int count)
{
	double x = p->x + p->width;
	for (int i = count - 1; i >= 0; i--) {
		cairo_text_extents_t e;
		cairo_text_extents(cr, entries[i].text, &e);
		x -= e.x_advance;
		hd_palette_use(cr, INK, 1);
		hd_palette_text(cr, x, p->y - 7, 0, entries[i].text);
		hd_palette_use(cr, entries[i].rgb, 1);
		cairo_rectangle(cr, x - 16, p->y - 16, 11, 11);
		cairo_fill(cr);
		x -= 32;
	}
}

static void clip(cairo_t *cr, const panel *p)
{
	cairo_save(cr);
	cairo_rectangle(cr, p->x, p->y, p->width + 1, p->height + 1);
	cairo_clip(cr);
}

/* ---- level over time ---- */

/* What one column of pixels covers. */
typedef struct column {
	float low[2], high[2]; /* of I, of Q */
	double power;
	int64_t count;
} column;

static hd_status measure_columns(column *columns, const hd_iq *iq, int64_t row)
{
	enum { CHUNK = 4096 };
	float *z;
	hd_status st = hd_alloc(&z, (size_t)CHUNK * 2, sizeof *z);
	if (st != HD_OK)
		return st;
	for (int i = 0; i < PANEL_WIDTH; i++)
		columns[i] = (column){.low = {INFINITY, INFINITY}, .high = {-INFINITY, -INFINITY}};
	for (int64_t from = 0; from < iq->samples; from += CHUNK) {
		int64_t n = iq->samples - from < CHUNK ? iq->samples - from : CHUNK;
		hd_iq_to_float(z, iq, row, from, n);
		for (int64_t i = 0; i < n; i++) {
			column *c = &columns[(int)((double)(from + i) / (double)iq->samples * PANEL_WIDTH)];
			if (!isfinite(z[2 * i]) || !isfinite(z[2 * i + 1]))
				continue;
			for (int k = 0; k < 2; k++) {
				c->low[k] = fminf(c->low[k], z[2 * i + k]);
				c->high[k] = fmaxf(c->high[k], z[2 * i + k]);
				c->power += (double)(z[2 * i + k] * z[2 * i + k]);
			}
			c->count++;
		}
	}
	free(z);
	return HD_OK;
}

static hd_status draw_level(cairo_t *cr, panel p, const hd_iq *iq, int64_t row, const hd_health *h)
{
	hd_status st;
	column *columns = NULL;
	bool timed = h->rate_hz > 0;
	double duration = timed ? h->duration_s : (double)h->samples;
	double unit = !timed || duration >= 1 ? 1 : duration >= 1e-3 ? 1e3 : 1e6;
	HD_TRY(hd_alloc(&columns, PANEL_WIDTH, sizeof *columns));
	HD_TRY(measure_columns(columns, iq, row));
	double top = h->peak > 0 ? 1.08 * h->peak : 1;
	p.left = 0;
	p.right = duration * unit;
	p.bottom = -top;
	p.top = top;
	x_ticks(cr, &p);
	y_ticks(cr, &p, 5);
	clip(cr, &p);
	for (int k = 0; k < 2; k++) {
		hd_palette_use(cr, hd_palette_series[k ? VERMILION : BLUE], 0.55);
		for (int i = 0; i < PANEL_WIDTH; i++) {
			if (!columns[i].count)
				continue;
			double high = to_y(&p, (double)columns[i].high[k]), low = to_y(&p, (double)columns[i].low[k]);
			cairo_rectangle(cr, p.x + i, high, 1, fmax(low - high, 1));
		}
		cairo_fill(cr);
	}
	hd_palette_use(cr, hd_palette_series[BLACK], 1);
	for (int i = 0, drawn = 0; i < PANEL_WIDTH; i++) {
		if (!columns[i].count)
			continue;
		double rms = sqrt(columns[i].power / (double)columns[i].count);
		(drawn++ ? cairo_line_to : cairo_move_to)(cr, p.x + i + 0.5, to_y(&p, rms));
	}
	cairo_stroke(cr);
	cairo_restore(cr);
	const char *x_label = !timed ? "sample" : unit == 1 ? "time (s)" : unit == 1e3 ? "time (ms)" : "time (us)";
	labels(cr, &p, "Level over time", x_label, "amplitude, full scale 1");
	legend(cr, &p,
	        (const legend_entry[]){{hd_palette_series[BLUE], "I"}, {hd_palette_series[VERMILION], "Q"},
	                {hd_palette_series[BLACK], "RMS"}},
	        3);
done:
	free(columns);
	return st;
}

/* ---- spectrum ---- */

/* Adds |Z(f)|^2 of one windowed segment, lowest frequency first, from the real transforms of I and of Q. */
static void add_segment(double *power, const fftwf_complex *fi, const fftwf_complex *fq, int points)
{
	for (int k = 0; k < points; k++) {
		int f = k - points / 2, b = abs(f);
		double side = f < 0 ? -1 : 1;
		double re = (double)fi[b][0] - side * (double)fq[b][1], im = side * (double)fi[b][1] + (double)fq[b][0];
		power[k] += re * re + im * im;
	}
}

/* Welch's estimate: dBFS per bin, points bins from -rate/2 up. */
static hd_status welch(double *db, int points, const hd_iq *iq, int64_t row)
{
	hd_status st;
	int bins = points / 2 + 1;
	double sum = 0;
	float *z = NULL, *in = fftwf_malloc((size_t)points * sizeof *in);
	fftwf_complex *fi = fftwf_malloc((size_t)bins * sizeof *fi), *fq = fftwf_malloc((size_t)bins * sizeof *fq);
	fftwf_plan plan;
	HD_TRY(in && fi && fq ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for a spectrum"));
	HD_TRY(hd_alloc(&z, (size_t)points * 2, sizeof *z));
	HD_TRY(hd_fft_plan(&plan, points));
	int64_t segments = (iq->samples - points) / (points / 2) + 1, used = 0;
	int64_t every = (segments + WELCH_SEGMENTS - 1) / WELCH_SEGMENTS;
	memset(db, 0, (size_t)points * sizeof *db);
	for (int i = 0; i < points; i++)
		sum += 0.5 - 0.5 * cos(2 * M_PI * i / points);
	for (int64_t s = 0; s < segments; s += every, used++) {
		hd_iq_to_float(z, iq, row, s * (points / 2), points);
		for (int c = 0; c < 2; c++) {
			for (int i = 0; i < points; i++) {
				float v = z[2 * i + c];
				in[i] = isfinite(v) ? v * (float)(0.5 - 0.5 * cos(2 * M_PI * i / points)) : 0;
			}
			fftwf_execute_dft_r2c(plan, in, c ? fq : fi);
		}
		add_segment(db, fi, fq, points);
	}
	for (int i = 0; i < points; i++)
		db[i] = hd_health_db(db[i] / (double)used / (sum * sum));
done:
	free(z);
	fftwf_free(fq);
	fftwf_free(fi);
	fftwf_free(in);
	return st;
}

static hd_status draw_spectrum(cairo_t *cr, panel p, const hd_iq *iq, int64_t row, const hd_checked *c)
{
	hd_status st;
	double db[WELCH_POINTS], high = -INFINITY, low = INFINITY, rate = c->health.rate_hz;
	int points = WELCH_POINTS;
	char label[64];
	while (points > 2 && points > iq->samples)
		points /= 2;
	if (iq->samples < points)
		return HD_OK;
	HD_TRY(welch(db, points, iq, row));
	for (int i = 0; i < points; i++) {
		high = fmax(high, db[i]);
		low = fmin(low, db[i]);
	}
	p.top = ceil(high / 10) * 10 + 5;
	p.bottom = fmax(floor(low / 10) * 10, p.top - DB_SPAN);
	double unit = rate >= 1e6 ? 1e6 : rate >= 1e3 ? 1e3 : 1;
	p.right = rate > 0 ? rate / 2 / unit : 0.5;
	p.left = -p.right;
	x_ticks(cr, &p);
	y_ticks(cr, &p, 5);
	clip(cr, &p);
	hd_palette_use(cr, hd_palette_series[BLUE], 1);
	for (int i = 0; i < points; i++)
		(i ? cairo_line_to : cairo_move_to)(
		        cr, to_x(&p, p.left + (p.right - p.left) * i / points), to_y(&p, db[i]));
	cairo_stroke(cr);
	cairo_restore(cr);
	const char *name = unit == 1e6 ? "MHz" : unit == 1e3 ? "kHz" : "Hz";
	if (rate > 0 && isfinite(c->info.frequency_hz))
		snprintf(label, sizeof label, "frequency less %.10g kHz (%s)", c->info.frequency_hz / 1e3, name);
	else
		snprintf(label, sizeof label, rate > 0 ? "frequency (%s)" : "frequency (of the sample rate)", name);
	labels(cr, &p, "Power spectrum", label, "dBFS per bin");
done:
	return st;
}

/* ---- histogram ---- */

/* Bins over -peak..peak: whole codes of integer types, so that no bin is empty for the codes' sake. */
typedef struct bins {
	double low, width;
	int count;
} bins;

static bins make_bins(const hd_iq *iq, double peak)
{
	if (!(peak > 0))
		peak = 1;
	if (iq->dtype == HD_F32 || iq->dtype == HD_F64)
		return (bins){-peak, 2 * peak / HISTOGRAM_BINS, HISTOGRAM_BINS};
	double step = (double)iq->scale, codes = round(2 * peak / step) + 1;
	double per_bin = ceil(codes / HISTOGRAM_BINS);
	return (bins){-peak - step / 2, per_bin * step, (int)ceil(codes / per_bin)};
}

static void count_values(int64_t *counts, const bins *b, const hd_iq *iq, int64_t row)
{
	float z[512];
	for (int64_t from = 0; from < iq->samples; from += 256) {
		int64_t n = iq->samples - from < 256 ? iq->samples - from : 256;
		hd_iq_to_float(z, iq, row, from, n);
		for (int64_t i = 0; i < 2 * n; i++) {
			if (!isfinite(z[i]))
				continue;
			int at = (int)(((double)z[i] - b->low) / b->width);
			at = at < 0 ? 0 : at >= b->count ? b->count - 1 : at;
			counts[(i & 1) * HISTOGRAM_BINS + at]++;
		}
	}
}

static void draw_histogram(cairo_t *cr, panel p, const hd_iq *iq, int64_t row, const hd_health *h)
{
	int64_t counts[2 * HISTOGRAM_BINS] = {0};
	const bins b = make_bins(iq, h->peak);
	double n = (double)iq->samples, most = 0;
	count_values(counts, &b, iq, row);
	for (int i = 0; i < 2 * HISTOGRAM_BINS; i++)
		most = fmax(most, (double)counts[i] / n);
	p.left = b.low;
	p.right = b.low + b.width * b.count;
	p.bottom = fmin(floor(log10(1 / n)), -1);
	p.top = most > 0 ? fmin(log10(most) + 0.2, 0) : 0;
	if (p.top - p.bottom < 1)
		p.top = p.bottom + 1;
	x_ticks(cr, &p);
	y_ticks(cr, &p, 4);
	clip(cr, &p);
	for (int k = 0; k < 2; k++) {
		hd_palette_use(cr, hd_palette_series[k ? VERMILION : BLUE], 0.9);
		for (int i = 0; i < b.count; i++) {
			int64_t c = counts[k * HISTOGRAM_BINS + i];
			double at = c ? to_y(&p, log10((double)c / n)) : p.y + p.height;
			(i ? cairo_line_to : cairo_move_to)(cr, to_x(&p, b.low + b.width * i), at);
			cairo_line_to(cr, to_x(&p, b.low + b.width * (i + 1)), at);
		}
		cairo_stroke(cr);
	}
	cairo_restore(cr);
	labels(cr, &p, "Histogram of the values", "value, full scale 1", "log10 of share");
	legend(cr, &p, (const legend_entry[]){{hd_palette_series[BLUE], "I"}, {hd_palette_series[VERMILION], "Q"}}, 2);
}

static void heading(cairo_t *cr, const hd_checked *c)
{
	char text[256];
	cairo_set_font_size(cr, 15);
	hd_palette_use(cr, INK, 1);
	hd_palette_text(cr, LEFT, 24, 0, c->name);
	cairo_set_font_size(cr, 12);
	size_t shown = c->notes.count > NOTES_SHOWN + 1 ? NOTES_SHOWN : c->notes.count;
	int length = 0;
	for (size_t i = 0; i < shown && length < (int)sizeof text; i++)
		length += snprintf(
		        text + length, sizeof text - (size_t)length, "%s%s", i ? "; " : "", c->notes.list[i].text);
	if (shown < c->notes.count && length < (int)sizeof text)
		snprintf(text + length, sizeof text - (size_t)length, "; and %zu more", c->notes.count - shown);
	hd_palette_use(cr, hd_palette_series[hd_notes_sick(&c->notes) ? VERMILION : BLACK], 1);
	hd_palette_text(cr, LEFT, 43, 0, c->notes.count ? text : "nothing found");
}

hd_status hd_health_picture(const char *path, const hd_iq *iq, int64_t row, const hd_checked *checked)
{
	hd_status st;
	int each = PANEL_TITLE + PANEL_HEIGHT + PANEL_FOOT;
	cairo_t *cr = hd_palette_page(LEFT + PANEL_WIDTH + RIGHT, HEAD + 3 * each);
	panel p = {.x = LEFT, .y = HEAD + PANEL_TITLE, .width = PANEL_WIDTH, .height = PANEL_HEIGHT};
	heading(cr, checked);
	HD_TRY(draw_level(cr, p, iq, row, &checked->health));
	p.y += each;
	HD_TRY(draw_spectrum(cr, p, iq, row, checked));
	p.y += each;
	draw_histogram(cr, p, iq, row, &checked->health);
	st = hd_palette_write(cr, path);
	cr = NULL;
done:
	if (cr)
		cairo_destroy(cr);
	return st;
}

/* ---- receivers over time ---- */

static bool shown(const hd_checked *c, const char *receiver)
{
	return c->recording && c->read && !c->health.constant && isfinite(hd_health_time_s(c)) &&
	       (!receiver || !strcmp(c->recording->receiver, receiver));
}

/* Steps that calendars and clocks have, in seconds. */
static double time_step(double range)
{
	static const double steps[] = {
	        1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400, 14 * 86400};
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		if (range / steps[i] <= 9)
			return steps[i];
	return 86400 * ceil(hd_palette_step(range / 86400, 8));
}

static void time_ticks(cairo_t *cr, const panel *p, bool labelled)
{
	char text[48];
	double step = time_step(p->right - p->left);
	for (int64_t i = (int64_t)ceil(p->left / step); (double)i * step <= p->right; i++) {
		double v = (double)i * step, at = to_x(p, v);
		hd_palette_use(cr, GRID, 1);
		line(cr, at, p->y, at, p->y + p->height);
		hd_palette_use(cr, INK, 1);
		line(cr, at, p->y + p->height, at, p->y + p->height + TICK);
		time_t seconds = (time_t)v;
		struct tm tm;
		if (labelled && gmtime_r(&seconds, &tm) &&
		        strftime(text, sizeof text,
		                step >= 86400 ? "%Y-%m-%d"
		                : step >= 60  ? "%d. %H:%M"
		                              : "%H:%M:%S",
		                &tm))
			hd_palette_text(cr, at, p->y + p->height + 17, 0.5, text);
	}
}

static void draw_receiver(
        cairo_t *cr, const panel *p, const hd_checked *checked, size_t count, const hd_receiver_health *r, bool last)
{
	char title[256], foot[64] = "";
	snprintf(title, sizeof title, "receiver %.100s: %zu recordings, median %.1f dBFS, MAD %.1f dB", r->name,
	        r->recordings, r->level_dbfs, r->mad_db);
	if (r->shift_db != 0)
		snprintf(
		        title + strlen(title), sizeof title - strlen(title), ", level shifts by %+.0f dB", r->shift_db);
	time_ticks(cr, p, last);
	y_ticks(cr, p, 4);
	hd_palette_use(cr, hd_palette_series[GREEN], 1);
	line(cr, p->x, to_y(p, r->level_dbfs), p->x + p->width, to_y(p, r->level_dbfs));
	for (int sick = 0; sick < 2; sick++) {
		hd_palette_use(cr, hd_palette_series[sick ? VERMILION : BLUE], sick ? 1 : 0.6);
		for (size_t i = 0; i < count; i++) {
			const hd_checked *c = &checked[i];
			if (!shown(c, r->name) || hd_notes_sick(&c->notes) != (sick == 1))
				continue;
			double x = to_x(p, hd_health_time_s(c)), y = to_y(p, c->health.level_dbfs);
			if (sick)
				cairo_rectangle(cr, x - 3, y - 3, 6, 6);
			else
				cairo_arc(cr, x, y, 2.2, 0, 2 * M_PI);
			cairo_fill(cr);
		}
	}
	if (r->shift_db != 0) {
		const double dashes[] = {4, 3};
		cairo_set_dash(cr, dashes, 2, 0);
		hd_palette_use(cr, hd_palette_series[BLACK], 1);
		line(cr, to_x(p, r->shift_s), p->y, to_x(p, r->shift_s), p->y + p->height);
		cairo_set_dash(cr, NULL, 0, 0);
	}
	if (last) {
		time_t seconds = (time_t)p->left;
		struct tm tm;
		if (gmtime_r(&seconds, &tm))
			strftime(foot, sizeof foot, "time (UTC), from %Y-%m-%d", &tm);
	}
	labels(cr, p, title, foot, "level (dBFS)");
	legend(cr, p,
	        (const legend_entry[]){{hd_palette_series[BLUE], "in order"}, {hd_palette_series[VERMILION], "sick"}},
	        2);
}

hd_status hd_receivers_picture(bool *drawn, const char *path, const hd_checked *checked, size_t count,
        const hd_receiver_health *receivers, size_t receiver_count)
{
	double from = INFINITY, to = -INFINITY, low = INFINITY, high = -INFINITY;
	size_t panels = 0, done = 0;
	for (size_t i = 0; i < count; i++) {
		if (!shown(&checked[i], NULL))
			continue;
		from = fmin(from, hd_health_time_s(&checked[i]));
		to = fmax(to, hd_health_time_s(&checked[i]));
		low = fmin(low, checked[i].health.level_dbfs);
		high = fmax(high, checked[i].health.level_dbfs);
	}
	for (size_t i = 0; i < receiver_count; i++)
		panels += receivers[i].read > 0;
	*drawn = isfinite(from) && panels;
	if (!*drawn)
		return HD_OK;
	panels = panels < HD_RECEIVER_PANELS ? panels : HD_RECEIVER_PANELS;
	double margin = fmax(0.02 * (to - from), 1);
	int each = PANEL_TITLE + RECEIVER_HEIGHT + 14;
	cairo_t *cr = hd_palette_page(LEFT + PANEL_WIDTH + RIGHT, HEAD + (int)panels * each + PANEL_FOOT);
	panel p = {LEFT, HEAD + PANEL_TITLE / 2.0, PANEL_WIDTH, RECEIVER_HEIGHT, from - margin, to + margin,
	        floor(low / 10) * 10 - 5, ceil(high / 10) * 10 + 5};
	hd_palette_use(cr, INK, 1);
	cairo_set_font_size(cr, 15);
	hd_palette_text(cr, LEFT, 28, 0, "Level of the recordings of each receiver");
	cairo_set_font_size(cr, 12);
	for (size_t i = 0; i < receiver_count && done < panels; i++) {
		if (!receivers[i].read)
			continue;
		done++;
		draw_receiver(cr, &p, checked, count, &receivers[i], done == panels);
		p.y += each;
	}
	return hd_palette_write(cr, path);
}
