/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Positions: degrees on the sphere of mean Earth radius, and a local frame in metres around an origin.
 *
 * The frame is the spherical azimuthal equidistant projection (Snyder, Map Projections: A Working Manual,
 * USGS PP 1395, 1987, section 25): distances from the origin are exact. Pure functions, thread-safe.
 */
#ifndef HEIMDALL_GEO_H
#define HEIMDALL_GEO_H

#include "heimdall/status.h"

#define HD_EARTH_RADIUS_M 6371008.8 /* IUGG mean radius */

typedef struct hd_label_frame {
	double origin_latitude_deg;
	double origin_longitude_deg;
	double scale_m; /* metres of one label unit; labels are (north, east) / scale_m */
} hd_label_frame;

/* Great-circle distance by the haversine formula, metres. */
double hd_geo_distance_m(double latitude1_deg, double longitude1_deg, double latitude2_deg, double longitude2_deg);

/* Degrees to (north, east) in metres of the frame, and back. */
void hd_geo_to_local_m(
        const hd_label_frame *frame, double latitude_deg, double longitude_deg, double *north_m, double *east_m);
void hd_geo_from_local_m(
        const hd_label_frame *frame, double north_m, double east_m, double *latitude_deg, double *longitude_deg);

#endif
