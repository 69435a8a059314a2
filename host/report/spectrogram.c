/* SPDX-License-Identifier: Apache-2.0 */
#include "host/report/spectrogram.h"

#include <cairo/cairo.h>
#include <math.h>
#include <stdio.h>

#include "host/data/mel.h"

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

/* Anchors of a perceptual map from dark violet to yellow (after viridis: S. van der Walt, N. Smith, 2015). */
static const double anchors[][3] = {{0.267, 0.005, 0.329}, {0.283, 0.141, 0.458}, {0.254, 0.265, 0.530},
        {0.207, 0.372, 0.553}, {0.164, 0.471, 0.558}, {0.128, 0.567, 0.551}, {0.135, 0.659, 0.518},
        {0.267, 0.749, 0.441}, {0.478, 0.821, 0.318}, {0.741, 0.873, 0.150}, {0.993, 0.906, 0.144}};
#define ANCHORS ((int)(sizeof anchors / sizeof *anchors))

static uint32_t color(double t)
{
	double at = fmin(fmax(t, 0), 1) * (ANCHORS - 1);
	int i = at >= ANCHORS - 1 ? ANCHORS - 2 : (int)at;
	uint32_t rgb = 0;
	for (int k = 0; k < 3; k++)
		rgb = rgb << 8 |
		      (uint32_t)lround(255 * (anchors[i][k] + (at - i) * (anchors[i + 1][k] - anchors[i][k])));
	return rgb;
}

static void text_at(cairo_t *cr, double x, double y, double align, const char *text)
{
	cairo_text_extents_t e;
	cairo_text_extents(cr, text, &e);
	cairo_move_to(cr, x - align * e.width, y);
	cairo_show_text(cr, text);
}

/* A step of 1, 2 or 5 times a power of ten that gives about `wanted` ticks. */
static double nice_step(double range, int wanted)
{
	double raw = range / wanted, power = pow(10, floor(log10(raw)));
	return power * (raw / power < 1.5 ? 1 : raw / power < 3.5 ? 2 : raw / power < 7.5 ? 5 : 10);
}

static void draw_image(cairo_t *cr, const float *db, int64_t M, int64_t T, double low, double high, double x, double y)
{
	cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)T, (int)M);
	uint32_t *pixels = (uint32_t *)(void *)cairo_image_surface_get_data(image);
	int stride = cairo_image_surface_get_stride(image) / 4;
	if (cairo_surface_status(image) == CAIRO_STATUS_SUCCESS) {
		cairo_surface_flush(image);
		for (int64_t m = 0; m < M; m++)
			for (int64_t t = 0; t < T; t++)
				pixels[(M - 1 - m) * stride + t] = color(((double)db[m * T + t] - low) / (high - low));
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
		text_at(cr, x - TICK - 3, at + 4, 1, label);
		cairo_move_to(cr, x - TICK, at);
		cairo_line_to(cr, x, at);
	}
	double step = seconds > 0 ? nice_step(seconds, 8) : 1;
	for (int i = 0; last && i * step <= seconds * (1 + 1e-9); i++) {
		double t = i * step;
		double at = x + (seconds > 0 ? t / seconds : 0) * (PANEL_WIDTH - 1);
		snprintf(label, sizeof label, "%g", round(t * 1e6) / 1e6);
		text_at(cr, at, y + PANEL_HEIGHT + TICK + 13, 0.5, label);
		cairo_move_to(cr, at, y + PANEL_HEIGHT);
		cairo_line_to(cr, at, y + PANEL_HEIGHT + TICK);
	}
	cairo_stroke(cr);
	if (last)
		text_at(cr, x + PANEL_WIDTH / 2.0, y + PANEL_HEIGHT + 34, 0.5, "time (s)");
	cairo_save(cr);
	cairo_translate(cr, 14, y + PANEL_HEIGHT / 2.0);
	cairo_rotate(cr, -M_PI / 2);
	text_at(cr, 0, 0, 0.5, "frequency (kHz)");
	cairo_restore(cr);
}

static void draw_color_bar(cairo_t *cr, double x, double y, double height, double low, double high)
{
	char label[32];
	for (int i = 0; i < (int)height; i++) {
		uint32_t rgb = color(1 - i / height);
		cairo_set_source_rgb(cr, (rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0);
		cairo_rectangle(cr, x, y + i, BAR_WIDTH, 1);
		cairo_fill(cr);
	}
	cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
	double step = nice_step(high - low, 6);
	for (int i = (int)ceil(low / step); i * step <= high; i++) {
		double v = i * step;
		snprintf(label, sizeof label, "%g", v);
		text_at(cr, x + BAR_WIDTH + 5, y + height * (1 - (v - low) / (high - low)) + 4, 0, label);
	}
	text_at(cr, x, y + height + 16, 0, "dB");
}

hd_status hd_spectrogram_write(const char *path, const float *db, const hd_feature_config *c, int64_t R, int64_t T)
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
	cairo_surface_t *page = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
	cairo_t *cr = cairo_create(page);
	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	cairo_set_font_size(cr, 12);
	cairo_set_line_width(cr, 1);
	for (int64_t r = 0; r < R; r++) {
		double y = TOP + (double)r * (PANEL_HEIGHT + GAP);
		draw_image(cr, db + r * c->n_mels * T, c->n_mels, T, low, high, LEFT, y);
		draw_axes(cr, c, T, LEFT, y, r == R - 1);
	}
	draw_color_bar(cr, LEFT + PANEL_WIDTH + BAR_GAP, TOP, height - TOP - BOTTOM, low, high);
	cairo_status_t status = cairo_status(cr) ? cairo_status(cr) : cairo_surface_write_to_png(page, path);
	cairo_destroy(cr);
	cairo_surface_destroy(page);
	if (status != CAIRO_STATUS_SUCCESS)
		return hd_fail(HD_E_IO, "%s: cannot write the picture: %s", path, cairo_status_to_string(status));
	return HD_OK;
}
