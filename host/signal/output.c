/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/output.h"

#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/iq.h"
#include "host/common/file.h"

hd_status hd_output_begin(const char *out, const char *marker)
{
	char path[4096];
	bool other = false;
	DIR *dir = opendir(out);
	for (struct dirent *e; dir && (e = readdir(dir));)
		other = other || e->d_name[0] != '.'; /* a feature cache may be there first */
	if (dir)
		closedir(dir);
	snprintf(path, sizeof path, "%s/%s", out, marker);
	if (other && access(path, F_OK) != 0)
		return hd_fail(HD_E_USAGE,
		        "%s: holds files that are no synthetic data set of this kind; choose another --out", out);
	snprintf(path, sizeof path, "%s/manifest.csv", out);
	unlink(path);
	return hd_make_folders(out);
}

static const char *descr_of(hd_dtype dtype)
{
	return dtype == HD_I16 ? "<i2" : dtype == HD_I8 ? "|i1" : dtype == HD_F64 ? "<c16" : "<c8";
}

static void store_samples(void *out, const float *iq, int64_t values, hd_dtype dtype)
{
	for (int64_t i = 0; i < values; i++) {
		float v = iq[i];
		switch (dtype) {
		case HD_I16:
			((int16_t *)out)[i] = (int16_t)fminf(fmaxf(roundf(v * 32768), -32768), 32767);
			break;
		case HD_I8:
			((int8_t *)out)[i] = (int8_t)fminf(fmaxf(roundf(v * 128), -128), 127);
			break;
		case HD_F64:
			((double *)out)[i] = (double)v;
			break;
		default:
			((float *)out)[i] = v;
		}
	}
}

hd_status hd_output_recording(const char *path, const float *iq, int64_t samples, hd_dtype dtype, void *stored)
{
	bool pairs = dtype == HD_I16 || dtype == HD_I8;
	const int64_t shape[2] = {samples, 2};
	store_samples(stored, iq, 2 * samples, dtype);
	return hd_npy_write(
	        path, descr_of(dtype), shape, pairs ? 2 : 1, stored, (size_t)(2 * samples) * hd_dtype_bytes(dtype));
}
