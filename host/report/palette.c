/* SPDX-License-Identifier: Apache-2.0 */
#include "host/report/palette.h"

#include <math.h>

const uint32_t hd_palette_series[HD_PALETTE_SERIES] = {
        0x000000, 0x0072b2, 0xd55e00, 0x009e73, 0xe69f00, 0x56b4e9, 0xcc79a7, 0xf0e442};

/* Anchors of a perceptual map from dark violet to yellow (after viridis: S. van der Walt, N. Smith, 2015). */
static const double anchors[][3] = {{0.267, 0.005, 0.329}, {0.283, 0.141, 0.458}, {0.254, 0.265, 0.530},
        {0.207, 0.372, 0.553}, {0.164, 0.471, 0.558}, {0.128, 0.567, 0.551}, {0.135, 0.659, 0.518},
        {0.267, 0.749, 0.441}, {0.478, 0.821, 0.318}, {0.741, 0.873, 0.150}, {0.993, 0.906, 0.144}};
#define ANCHORS ((int)(sizeof anchors / sizeof *anchors))

uint32_t hd_palette_color(double t)
{
	double at = fmin(fmax(t, 0), 1) * (ANCHORS - 1);
	int i = at >= ANCHORS - 1 ? ANCHORS - 2 : (int)at;
	uint32_t rgb = 0;
	for (int k = 0; k < 3; k++)
		rgb = rgb << 8 |
		      (uint32_t)lround(255 * (anchors[i][k] + (at - i) * (anchors[i + 1][k] - anchors[i][k])));
	return rgb;
}

void hd_palette_use(cairo_t *cr, uint32_t rgb, double opacity)
{
	cairo_set_source_rgba(cr, (rgb >> 16 & 255) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0, opacity);
}

void hd_palette_text(cairo_t *cr, double x, double y, double align, const char *text)
{
	cairo_text_extents_t e;
	cairo_text_extents(cr, text, &e);
	cairo_move_to(cr, x - align * e.width, y);
	cairo_show_text(cr, text);
}

double hd_palette_step(double range, int wanted)
{
	double raw = range / wanted, power = pow(10, floor(log10(raw)));
	return power * (raw / power < 1.5 ? 1 : raw / power < 3.5 ? 2 : raw / power < 7.5 ? 5 : 10);
}

cairo_t *hd_palette_page(int width, int height)
{
	cairo_surface_t *page = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
	cairo_t *cr = cairo_create(page);
	cairo_surface_destroy(page); /* the context holds its own reference */
	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	cairo_set_font_size(cr, 12);
	cairo_set_line_width(cr, 1);
	return cr;
}

hd_status hd_palette_write(cairo_t *cr, const char *path)
{
	cairo_status_t status = cairo_status(cr);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_write_to_png(cairo_get_target(cr), path);
	cairo_destroy(cr);
	if (status != CAIRO_STATUS_SUCCESS)
		return hd_fail(HD_E_IO, "%s: cannot write the picture: %s", path, cairo_status_to_string(status));
	return HD_OK;
}
