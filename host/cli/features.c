/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall features: mel levels of recordings as .npy and picture. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/dataset.h"
#include "host/cli/cli.h"
#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/report/spectrogram.h"

/* OUT/name without .npy, or beside the recording. */
static hd_status output_stem(char **out, const hd_settings *s, const char *file)
{
	const char *slash = strrchr(file, '/');
	const char *name = s->out[0] && slash ? slash + 1 : file;
	size_t length = strlen(name);
	if (length > 4 && !strcmp(name + length - 4, ".npy"))
		length -= 4;
	return hd_sprintf(out, "%s%s%.*s", s->out, s->out[0] ? "/" : "", (int)length, name);
}

static hd_status one_file(hd_features *plan, const hd_feature_config *c, const hd_settings *s, const char *file)
{
	hd_status st;
	hd_iq iq = {0};
	char *stem = NULL, *path = NULL, *picture = NULL;
	float *db = NULL;
	HD_TRY(hd_recording_read(&iq, file, true));
	const int64_t shape[3] = {iq.rows, c->n_mels, hd_features_frame_count(c, iq.samples)};
	int64_t n = shape[0] * shape[1] * shape[2];
	HD_TRY(hd_alloc(&db, (size_t)n, sizeof *db));
	HD_TRY(hd_features_compute(plan, db, &iq));
	float low = INFINITY, high = -INFINITY;
	for (int64_t i = 0; i < n; i++) {
		if (!isfinite(db[i])) {
			st = hd_fail(HD_E_DATA, "%s: NaN or infinity among its samples", file);
			goto done;
		}
		low = fminf(low, db[i]);
		high = fmaxf(high, db[i]);
	}
	HD_TRY(output_stem(&stem, s, file));
	HD_TRY(hd_sprintf(&path, "%s.features.npy", stem));
	HD_TRY(hd_sprintf(&picture, "%s.features.png", stem));
	HD_TRY(hd_npy_write(path, "<f4", shape, 3, db, (size_t)n * sizeof *db));
	HD_TRY(hd_spectrogram_write(picture, db, c, shape[0], shape[2]));
	printf("%s  (%lld, %lld, %lld)  %.1f .. %.1f dB\n", path, (long long)shape[0], (long long)shape[1],
	        (long long)shape[2], (double)low, (double)high);
done:
	free(db);
	free(picture);
	free(path);
	free(stem);
	hd_iq_free(&iq);
	return st;
}

hd_status hd_cli_features(const hd_settings *s, const char **files, int count)
{
	hd_status st;
	hd_backend *backend = NULL;
	hd_features *plan = NULL;
	int bad = 0;
	if (!count)
		return hd_fail(HD_E_USAGE, "features FILE...: name at least one .npy recording");
	const hd_feature_config config = hd_feature_config_from(s);
	HD_TRY(hd_backend_open(&backend, s->accelerator, (int)s->threads));
	HD_TRY(hd_features_create(&plan, backend, &config));
	if (hd_features_empty_filters(plan))
		hd_warn("%d of %d mel filters lie between two FFT bins and stay at %.0f dB",
		        hd_features_empty_filters(plan), config.n_mels, (double)HD_DB_SILENCE);
	if (s->out[0])
		HD_TRY(hd_make_folders(s->out));
	for (int i = 0; i < count; i++) {
		if (one_file(plan, &config, s, files[i]) == HD_OK)
			continue;
		hd_warn("skipped: %s", hd_error_text());
		bad++;
	}
	if (bad)
		st = hd_fail(HD_E_DATA, "%d of %d files could not be read", bad, count);
done:
	hd_features_free(plan);
	hd_backend_close(backend);
	return st;
}
