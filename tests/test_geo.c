/* SPDX-License-Identifier: Apache-2.0 */
/* Distances against known values, the local frame against the definition of its projection, and its inverse. */
#include <criterion/criterion.h>
#include <math.h>

#include "heimdall/geo.h"

#define QUARTER_M (M_PI / 2 * HD_EARTH_RADIUS_M)

Test(geo, distances_are_known)
{
	static const struct {
		double lat1, lon1, lat2, lon2, want_m;
	} rows[] = {
	        {0, 0, 0, 90, QUARTER_M},
	        {0, 0, 90, 0, QUARTER_M},
	        {0, 0, 0, 180, 2 * QUARTER_M},
	        {90, 12, -90, 77, 2 * QUARTER_M},
	        {0, 0, 0, 1, QUARTER_M / 90},
	        {0, 179.5, 0, -179.5, QUARTER_M / 90},
	        /* 60 degrees: cos d = sin^2 60 + cos^2 60 cos 90 = 3/4 */
	        {60, 0, 60, 90, 0.72273424781341561 * HD_EARTH_RADIUS_M},
	        {48.1, 11.5, 48.1, 11.5, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		double got = hd_geo_distance_m(rows[i].lat1, rows[i].lon1, rows[i].lat2, rows[i].lon2);
		cr_assert(fabs(got - rows[i].want_m) < 1e-3, "row %zu: got %.6f m, wanted %.6f m", i, got,
		        rows[i].want_m);
	}
}

Test(geo, axes_point_north_and_east)
{
	hd_label_frame frame = {0, 0, 1};
	double north, east;
	hd_geo_to_local_m(&frame, 1, 0, &north, &east);
	cr_assert(
	        fabs(north - QUARTER_M / 90) < 1e-6 && fabs(east) < 1e-6, "one degree north: got %g, %g", north, east);
	hd_geo_to_local_m(&frame, 0, 1, &north, &east);
	cr_assert(fabs(north) < 1e-6 && fabs(east - QUARTER_M / 90) < 1e-6, "one degree east: got %g, %g", north, east);
	frame = (hd_label_frame){48, 11, 1};
	hd_geo_to_local_m(&frame, 48, 11, &north, &east);
	cr_assert(north == 0 && east == 0, "origin: got %g, %g", north, east);
}

/* What the projection is: the norm is the great-circle distance. And its inverse ends where it began. */
Test(geo, round_trip_and_distance_within_1000_km)
{
	static const double origins[][2] = {{0, 0}, {48.137, 11.575}, {-33.9, 151.2}, {10, 179.9}, {-52, -179.8},
	        {78.2, 15.6}, {-85, 40}, {89.5, -120}, {90, 0}, {-90, 0}};
	static const double distances[] = {0, 1e-3, 1, 123.4, 5e3, 1e5, 1e6};
	for (size_t o = 0; o < sizeof origins / sizeof *origins; o++) {
		hd_label_frame frame = {origins[o][0], origins[o][1], 1};
		for (size_t d = 0; d < sizeof distances / sizeof *distances; d++) {
			for (int bearing = 0; bearing < 360; bearing += 15) {
				double north = distances[d] * cos(bearing * M_PI / 180),
				       east = distances[d] * sin(bearing * M_PI / 180);
				double lat, lon, north2, east2;
				hd_geo_from_local_m(&frame, north, east, &lat, &lon);
				cr_assert(fabs(lat) <= 90 && fabs(lon) <= 180,
				        "origin %zu, %g m at %d: outside at %g, %g", o, distances[d], bearing, lat,
				        lon);
				double distance = hd_geo_distance_m(
				        frame.origin_latitude_deg, frame.origin_longitude_deg, lat, lon);
				cr_assert(fabs(distance - distances[d]) < 1e-6,
				        "origin %zu at %d: %.9f m away, wanted %.9f m", o, bearing, distance,
				        distances[d]);
				hd_geo_to_local_m(&frame, lat, lon, &north2, &east2);
				cr_assert(hypot(north2 - north, east2 - east) < 1e-6,
				        "origin %zu, %g m at %d: back at %.9f, %.9f, was %.9f, %.9f", o, distances[d],
				        bearing, north2, east2, north, east);
			}
		}
	}
}
