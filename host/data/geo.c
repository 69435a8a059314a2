/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/geo.h"

#include <math.h>

static double radians(double deg)
{
	return deg * (M_PI / 180);
}

static double degrees(double rad)
{
	return rad * (180 / M_PI);
}

double hd_geo_distance_m(double latitude1_deg, double longitude1_deg, double latitude2_deg, double longitude2_deg)
{
	double a = sin(radians(latitude2_deg - latitude1_deg) / 2),
	       b = sin(radians(longitude2_deg - longitude1_deg) / 2);
	double h = a * a + cos(radians(latitude1_deg)) * cos(radians(latitude2_deg)) * b * b;
	return 2 * HD_EARTH_RADIUS_M * asin(fmin(1, sqrt(h)));
}

void hd_geo_to_local_m(
        const hd_label_frame *frame, double latitude_deg, double longitude_deg, double *north_m, double *east_m)
{
	double lat0 = radians(frame->origin_latitude_deg), lat = radians(latitude_deg);
	double dlon = radians(longitude_deg - frame->origin_longitude_deg);
	double east = cos(lat) * sin(dlon);
	/* cos lat0 sin lat - sin lat0 cos lat cos dlon, without the cancellation of nearby points */
	double half = sin(dlon / 2);
	double north = sin(lat - lat0) + 2 * sin(lat0) * cos(lat) * half * half;
	double cosine = sin(lat0) * sin(lat) + cos(lat0) * cos(lat) * cos(dlon);
	double sine = hypot(north, east), angle = atan2(sine, cosine);
	double k = sine > 0 ? angle / sine : 1;
	*north_m = HD_EARTH_RADIUS_M * k * north;
	*east_m = HD_EARTH_RADIUS_M * k * east;
}

void hd_geo_from_local_m(
        const hd_label_frame *frame, double north_m, double east_m, double *latitude_deg, double *longitude_deg)
{
	double lat0 = radians(frame->origin_latitude_deg);
	double rho = hypot(north_m, east_m), angle = rho / HD_EARTH_RADIUS_M;
	double north = rho > 0 ? north_m / rho : 0, east = rho > 0 ? east_m / rho : 0;
	double sine = sin(angle), cosine = cos(angle);
	/* the point as a unit vector: latitude from its components, exact near poles and origin */
	double up = cosine * sin(lat0) + sine * north * cos(lat0);
	double out = cosine * cos(lat0) - sine * north * sin(lat0);
	double side = sine * east;
	*latitude_deg = degrees(atan2(up, hypot(out, side)));
	double lon = frame->origin_longitude_deg + degrees(atan2(side, out));
	*longitude_deg = lon > 180 ? lon - 360 : lon < -180 ? lon + 360 : lon;
}
