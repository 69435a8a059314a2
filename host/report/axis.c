/* SPDX-License-Identifier: Apache-2.0 */
#include "host/report/axis.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "host/report/palette.h"

#define LARGEST 1e300
#define SMALLEST 1e-300
#define SAME 1e-12 /* relative; a smaller range is that of a constant */

bool hd_axis_has_place(const hd_axis *a, double v)
{
	return isfinite(v) && fabs(v) <= LARGEST && (!a->log || v >= SMALLEST);
}

double hd_axis_place(const hd_axis *a, double v)
{
	double t = a->log ? log10(v) : v;
	return a->from + (t - a->low) / (a->high - a->low) * (a->to - a->from);
}

void hd_axis_cover(hd_axis *a, double v)
{
	double t = a->log ? log10(v) : v;
	a->low = fmin(a->low, t);
	a->high = fmax(a->high, t);
}

/* Room around what is covered, but none beyond zero for values of one sign. */
void hd_axis_pad(hd_axis *a, double padding)
{
	if (a->low > a->high) { /* nothing is */
		a->low = 0;
		a->high = 1;
		return;
	}
	double low = a->low, high = a->high, size = fmax(fabs(low), fabs(high)), room = padding * (high - low);
	if (a->log && high - low < SAME * 1e3)
		room = 0.5;
	else if (!a->log && high - low <= fmax(SAME * size, SMALLEST))
		room = size > SMALLEST ? 0.1 * size : 1;
	a->low = !a->log && low >= 0 && low < room && high > 0 ? 0 : low - room;
	a->high = !a->log && high <= 0 && -high < room && low < 0 ? 0 : high + room;
}

static hd_tick *add_tick(hd_axis *a, double value, bool major)
{
	const double slack = 1e-9 * (a->high - a->low);
	double t = a->log ? log10(value) : value;
	if (a->tick_count == HD_AXIS_TICKS || t < a->low - slack || t > a->high + slack)
		return NULL;
	hd_tick *k = &a->ticks[a->tick_count++];
	*k = (hd_tick){.value = value, .major = major};
	return k;
}

/* Equal steps of the value, on either kind of axis. Texts share their decimals and a power of 1000 taken out. */
static void equal_ticks(hd_axis *a, int wanted)
{
	double low = a->log ? pow(10, a->low) : a->low, high = a->log ? pow(10, a->high) : a->high;
	double step = hd_palette_step(high - low, wanted);
	for (int fewer = wanted - 1; fewer > 0 && (high - low) / step > wanted + 1; fewer--)
		step = hd_palette_step(high - low, fewer);
	int magnitude = (int)floor(log10(fmax(fabs(low), fabs(high))) + 1e-9);
	a->factor = magnitude >= 6 || magnitude < -3 ? 3 * (int)floor(magnitude / 3.0) : 0;
	int decimals = a->factor - (int)floor(log10(step) + 1e-9);
	for (int64_t i = (int64_t)ceil(low / step - 1e-6); (double)i <= high / step + 1e-6; i++) {
		hd_tick *k = add_tick(a, (double)i * step, true);
		if (k)
			snprintf(k->text, sizeof k->text, "%.*f", decimals > 0 ? decimals : 0,
			        k->value / pow(10, a->factor));
	}
}

/* Powers of ten, every one or every few; 2 and 5 times them where there are few. */
static void power_ticks(hd_axis *a, int wanted)
{
	static const int strides[][2] = {{1, 1}, {2, 1}, {5, 1}, {10, 2}, {20, 5}, {50, 10}, {100, 20}, {200, 50}};
	const int last = (int)(sizeof strides / sizeof *strides) - 1;
	double span = a->high - a->low;
	int s = 0;
	while (s < last && span / strides[s][0] > wanted)
		s++;
	bool plain = a->low >= -3.01 && a->high <= 4.01;
	for (int e = (int)floor(a->low); e <= (int)ceil(a->high); e++) {
		if (e % strides[s][1] != 0)
			continue;
		for (int m = 1; m <= (s ? 1 : 9); m++) {
			bool major = m == 1 ? e % strides[s][0] == 0 : span < 2 && (m == 2 || m == 5);
			hd_tick *k = add_tick(a, m * pow(10, e), major);
			if (!k || !major)
				continue;
			k->power = !plain;
			k->exponent = e;
			if (plain)
				snprintf(k->text, sizeof k->text, "%g", k->value);
			else if (m > 1)
				snprintf(k->text, sizeof k->text, "%d", m);
		}
	}
}

void hd_axis_make_ticks(hd_axis *a, int wanted)
{
	a->tick_count = 0;
	a->factor = 0;
	if (a->log && a->high - a->low >= 1)
		power_ticks(a, wanted);
	else
		equal_ticks(a, wanted);
}
