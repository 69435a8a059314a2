/* SPDX-License-Identifier: Apache-2.0 */
/* Colours, labels and ticks that all pictures share. */
#ifndef HD_REPORT_PALETTE_H
#define HD_REPORT_PALETTE_H

#include <cairo/cairo.h>
#include <stdint.h>

#include "heimdall/status.h"

#define HD_PALETTE_SERIES 8

/*
 * Colours that colour-blind readers can tell apart, 0xRRGGBB (M. Okabe, K. Ito, Color Universal Design, 2008):
 * black, blue, vermilion, green, orange, sky blue, purple, yellow.
 */
extern const uint32_t hd_palette_series[HD_PALETTE_SERIES];

/* Perceptual map from dark violet (0) to yellow (1) for levels; t outside is clamped. 0xRRGGBB. */
uint32_t hd_palette_color(double t);

/* Sets the source to 0xRRGGBB with an opacity of 0..1. */
void hd_palette_use(cairo_t *cr, uint32_t rgb, double opacity);

/* Text whose baseline is at y; align 0: starts at x, 0.5: centred, 1: ends there. */
void hd_palette_text(cairo_t *cr, double x, double y, double align, const char *text);

/* A step of 1, 2 or 5 times a power of ten that gives about `wanted` ticks over a range > 0. */
double hd_palette_step(double range, int wanted);

/* A white page with the font and line width of all pictures; finish with hd_palette_write. */
cairo_t *hd_palette_page(int width, int height);

/* Writes the page as a PNG and destroys it. HD_E_IO with path and reason. */
hd_status hd_palette_write(cairo_t *cr, const char *path);

#endif
