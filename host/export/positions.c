/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hd_geo_from_local_m in float32, without its cancellations. With f0 the origin's latitude, c = |mu| scale / R the
 * angular distance, s = sin(c) n/c and side = sin(c) e/c its parts and h = 1 - cos(c) = 2 sin^2(c/2), the point as a
 * unit vector (Snyder 1987, section 25; the axes out of the Earth at the origin's meridian, east, and north) is
 *
 *   out = cos f0 - h cos f0 - s sin f0,   side,   up = sin f0 - h sin f0 + s cos f0.
 *
 * hyp = hypot(out, side) is the cosine of its latitude. By half angles, atan2(y, x) = 2 atan(y / (hypot(x, y) + x)) for
 * x >= 0, the point's longitude from the origin's is 2 atan(side / (hyp + out)), beyond a pole (out < 0) what that of
 * -out lacks to pi. Latitude follows from its difference to f0, with
 *
 *   sin(lat - f0) = up cos f0 - hyp sin f0 = s - (hyp - out) sin f0,   cos(lat - f0) = up sin f0 + hyp cos f0
 *
 * and hyp - out = side^2 / (hyp + out) for out >= 0. So both differences come out to a few roundings of themselves, and
 * the origin is added last, in two parts.
 */
#include <math.h>

#include "host/export/network.h"

#define TINY 1e-30f /* keeps 0/0 away: at the origin, at a pole, at the antipode */

static hd_onnx_value op1(hd_onnx *g, const char *op, hd_onnx_value a)
{
	return HD_ONNX_NODE(g, op, a);
}

static hd_onnx_value op2(hd_onnx *g, const char *op, hd_onnx_value a, hd_onnx_value b)
{
	return HD_ONNX_NODE(g, op, a, b);
}

static hd_onnx_value times(hd_onnx *g, hd_onnx_value a, double b)
{
	return op2(g, "Mul", a, hd_onnx_f32(g, (float)b));
}

/* What is divided by and may be 0 but never less. A sum, since ONNX Runtime's Max loses NaN, which has to show. */
static hd_onnx_value not_zero(hd_onnx *g, hd_onnx_value a)
{
	return op2(g, "Add", a, hd_onnx_f32(g, TINY));
}

static hd_onnx_value length(hd_onnx *g, hd_onnx_value a, hd_onnx_value b)
{
	return op1(g, "Sqrt", op2(g, "Add", op2(g, "Mul", a, a), op2(g, "Mul", b, b)));
}

/* a (N,2) to its columns (N,1). */
static void split(hd_onnx *g, hd_onnx_value a, hd_onnx_value *first, hd_onnx_value *second)
{
	*first = HD_ONNX_NODE(g, "Split", a, hd_onnx_i64s(g, 2, (int64_t[]){1, 1}));
	hd_onnx_attr_int(g, "axis", 1);
	*second = hd_onnx_more_output(g);
}

static hd_onnx_value join(hd_onnx *g, hd_onnx_value first, hd_onnx_value second)
{
	hd_onnx_value both = op2(g, "Concat", first, second);
	hd_onnx_attr_int(g, "axis", 1);
	return both;
}

/* 2 atan(a) in degrees. */
static hd_onnx_value twice_atan_deg(hd_onnx *g, hd_onnx_value a)
{
	return times(g, op1(g, "Atan", a), 360 / M_PI);
}

/* base + a: base is no float, what it lacks to one goes to a first. */
static hd_onnx_value add_to(hd_onnx *g, double base, hd_onnx_value a)
{
	double rest = base - (double)(float)base;
	return op2(g, "Add", op2(g, "Add", a, hd_onnx_f32(g, (float)rest)), hd_onnx_f32(g, (float)base));
}

/* Degrees east of the origin to a longitude. From an origin in the east only the date line's east side is passed. */
static hd_onnx_value longitude(hd_onnx *g, double origin_deg, hd_onnx_value from_origin)
{
	bool east = origin_deg >= 0;
	hd_onnx_value near = add_to(g, origin_deg, from_origin),
	              far = add_to(g, east ? origin_deg - 360 : origin_deg + 360, from_origin);
	hd_onnx_value passed = op2(g, east ? "Greater" : "Less", near, hd_onnx_f32(g, east ? 180 : -180));
	return HD_ONNX_NODE(g, "Where", passed, far, near);
}

/* The point's components and what follows from them; each (N,1). */
typedef struct point {
	hd_onnx_value s, side, out, up;
} point;

static point on_the_sphere(hd_onnx *g, hd_onnx_value north, hd_onnx_value east, double f0)
{
	point p;
	hd_onnx_value c = length(g, north, east);
	hd_onnx_value q = op2(g, "Div", op1(g, "Sin", c), not_zero(g, c));
	hd_onnx_value half = op1(g, "Sin", times(g, c, 0.5));
	hd_onnx_value h = times(g, op2(g, "Mul", half, half), 2);
	p.s = op2(g, "Mul", q, north);
	p.side = op2(g, "Mul", q, east);
	hd_onnx_value out = op2(g, "Add", times(g, h, cos(f0)), times(g, p.s, sin(f0)));
	hd_onnx_value up = op2(g, "Sub", times(g, p.s, cos(f0)), times(g, h, sin(f0)));
	p.out = op2(g, "Sub", hd_onnx_f32(g, (float)cos(f0)), out);
	p.up = op2(g, "Add", hd_onnx_f32(g, (float)sin(f0)), up);
	return p;
}

void hd_export_positions(hd_onnx *graph, const hd_label_frame *frame, hd_onnx_value mu, hd_onnx_value sigma,
        hd_onnx_value *positions, hd_onnx_value *uncertainties)
{
	hd_onnx *g = graph;
	double f0 = frame->origin_latitude_deg * (M_PI / 180);
	hd_onnx_value north, east;
	hd_onnx_scope(g, "positions/");
	split(g, times(g, mu, frame->scale_m / HD_EARTH_RADIUS_M), &north, &east);
	point p = on_the_sphere(g, north, east, f0);
	hd_onnx_value hyp = length(g, p.out, p.side);
	hd_onnx_value beyond = op2(g, "Less", p.out, hd_onnx_f32(g, 0)); /* a pole */
	hd_onnx_value longer = not_zero(g, op2(g, "Add", hyp, op1(g, "Abs", p.out)));
	hd_onnx_value t = op2(g, "Div", p.side, longer);
	hd_onnx_value hyp_less_out = HD_ONNX_NODE(g, "Where", beyond, longer, op2(g, "Mul", p.side, t));
	hd_onnx_value angle = twice_atan_deg(g, t);
	hd_onnx_value half_turn = HD_ONNX_NODE(
	        g, "Where", op2(g, "Less", p.side, hd_onnx_f32(g, 0)), hd_onnx_f32(g, -180), hd_onnx_f32(g, 180));
	angle = HD_ONNX_NODE(g, "Where", beyond, op2(g, "Sub", half_turn, angle), angle);
	hd_onnx_value sine = op2(g, "Sub", p.s, times(g, hyp_less_out, sin(f0)));
	hd_onnx_value cosine = op2(g, "Add", times(g, p.up, sin(f0)), times(g, hyp, cos(f0)));
	hd_onnx_value whole = not_zero(g, op2(g, "Add", cosine, hd_onnx_f32(g, 1)));
	hd_onnx_value latitude = add_to(g, frame->origin_latitude_deg, twice_atan_deg(g, op2(g, "Div", sine, whole)));
	latitude = HD_ONNX_NODE(g, "Clip", latitude, hd_onnx_f32(g, -90), hd_onnx_f32(g, 90));
	*positions = join(g, latitude, longitude(g, frame->origin_longitude_deg, angle));
	*uncertainties = times(g, sigma, frame->scale_m);
	hd_onnx_scope(g, "");
}
