/* SPDX-License-Identifier: Apache-2.0 */
#include "host/report/spectrogram.h"

#include <math.h>
#include <stdio.h>

#include "host/data/mel.h"
#include "host/report/palette.h"

#define PANEL_WIDTH 720
#define PANEL_HEIGHT 220
#define LEFT 64
#define TOP 16
#define GAP 16
#define BOTTOM 48
#define BAR_GAP 16
#define BAR_WIDTH 14
#define RIGHT 64
#define TICK 4
#define SHORT_S 0.1 /* shorter recordings have an axis in ms */

static void draw_image(cairo_t *cr, const float *db, int64_t M, int64_t T, double low, double high, double x, double y)
{
	cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)T, (int)M);
	uint32_t *pixels = (uint32_t *)(void *)cairo_image_surface_get_data(image);
	int stride = cairo_image_surface_get_stride(image) / 4;
	if (cairo_surface_status(image) == CAIRO_STATUS_SUCCESS) {
		cairo_surface_flush(image);
		for (int64_t m = 0; m < M; m++)
			for (int64_t t = 0; t < T; t++)
				pixels[(M - 1 - m) * stride + t] =
				        hd_palette_color(((double)db[m * T + t] - low) / (high - low));
		cairo_surface_mark_dirty(image);
		cairo_save(cr);
		cairo_translate(cr, x, y);
		cairo_scale(cr, (double)PANEL_WIDTH / (double)T, (double)PANEL_HEIGHT / (double)M);
		cairo_set_source_surface(cr, image, 0, 0);
		cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_NEAREST);
		cairo_paint(cr);
		cairo_restore(cr);
	}
	cairo_surface_destroy(image);
	cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
	cairo_rectangle(cr, x, y, PANEL_WIDTH, PANEL_HEIGHT);
	cairo_stroke(cr);
}

static void draw_axes(cairo_t *cr, const hd_feature_config *c, int64_t T, double x, double y, bool last)
{
	double seconds = (double)(T - 1) * c->hop_length / c->sample_rate_hz;
	double top_hz = c->f_max_hz > 0 ? c->f_max_hz : c->sample_rate_hz / 2;
	double low = hd_mel_from_hz(c->f_min_hz, c->mel_scale), high = hd_mel_from_hz(top_hz, c->mel_scale);
	char label[32];
	for (int i = 0; i <= 4; i++) {
		double hz = hd_mel_to_hz(low + (high - low) * i / 4, c->mel_scale),
		       at = y + PANEL_HEIGHT - PANEL_HEIGHT * i / 4.0;
		snprintf(label, sizeof label, "%.*f", hz < 10000 ? 2 : 1, hz / 1000);
		hd_palette_text(cr, x - TICK - 3, at + 4, 1, label);
		cairo_move_to(cr, x - TICK, at);
		cairo_line_to(cr, x, at);
	}
	bool milliseconds = seconds < SHORT_S;
	double span = milliseconds ? 1000 * seconds : seconds, step = span > 0 ? hd_palette_step(span, 8) : 1;
	for (int i = 0; last && i * step <= span * (1 + 1e-9); i++) {
		double t = i * step;
		double at = x + (span > 0 ? t / span : 0) * (PANEL_WIDTH - 1);
		snprintf(label, sizeof label, "%g", round(t * 1e6) / 1e6);
		hd_palette_text(cr, at, y + PANEL_HEIGHT + TICK + 13, 0.5, label);
		cairo_move_to(cr, at, y + PANEL_HEIGHT);
		cairo_line_to(cr, at, y + PANEL_HEIGHT + TICK);
	}
	cairo_stroke(cr);
	if (last)
		hd_palette_text(
		        cr, x + PANEL_WIDTH / 2.0, y + PANEL_HEIGHT + 34, 0.5, milliseconds ? "time (ms)" : "time (s)");
	cairo_save(cr);
	cairo_translate(cr, 14, y + PANEL_HEIGHT / 2.0);
	cairo_rotate(cr, -M_PI / 2);
	hd_palette_text(cr, 0, 0, 0.5, "frequency (kHz)");
	cairo_restore(cr);
}

static void draw_color_bar(cairo_t *cr, double x, double y, double height, double low, double high)
{
	char label[32];
	for (int i = 0; i < (int)height; i++) {
		hd_palette_use(cr, hd_palette_color(1 - i / height), 1);
		cairo_rectangle(cr, x, y + i, BAR_WIDTH, 1);
		cairo_fill(cr);
	}
	cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
	double step = hd_palette_step(high - low, 6);
	for (int i = (int)ceil(low / step); i * step <= high; i++) {
		double v = i * step;
		snprintf(label, sizeof label, "%g", v);
		hd_palette_text(cr, x + BAR_WIDTH + 5, y + height * (1 - (v - low) / (high - low)) + 4, 0, label);
	}
	hd_palette_text(cr, x + BAR_WIDTH / 2.0, y - 4, 0.5, "dB");
}

hd_status hd_spectrogram_write(
        const char *path, const float *db, const hd_feature_config *c, int64_t R, int64_t T, const char *const *names)
{
	int width = LEFT + PANEL_WIDTH + BAR_GAP + BAR_WIDTH + RIGHT;
	int height = TOP + (int)R * (PANEL_HEIGHT + GAP) - GAP + BOTTOM;
	double low = INFINITY, high = -INFINITY;
	for (int64_t i = 0; i < R * c->n_mels * T; i++) {
		low = fmin(low, (double)db[i]);
		high = fmax(high, (double)db[i]);
	}
	if (high - low < 1)
		high = low + 1;
	cairo_t *cr = hd_palette_page(width, height);
	for (int64_t r = 0; r < R; r++) {
		double y = TOP + (double)r * (PANEL_HEIGHT + GAP);
		draw_image(cr, db + r * c->n_mels * T, c->n_mels, T, low, high, LEFT, y);
		draw_axes(cr, c, T, LEFT, y, r == R - 1);
		if (names)
			hd_palette_text(cr, LEFT, y - 4, 0, names[r]);
	}
	draw_color_bar(cr, LEFT + PANEL_WIDTH + BAR_GAP, TOP, height - TOP - BOTTOM, low, high);
	return hd_palette_write(cr, path);
}
