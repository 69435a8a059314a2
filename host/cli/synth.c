/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall synth: a synthetic data set, of a scenario, of measured levels, or of laws fitted to measured levels. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#include "heimdall/dataset.h"
#include "host/cli/cli.h"
#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/signal/fit.h"
#include "host/signal/render_levels.h"
#include "host/signal/synth.h"

/* Half of the drawn positions lie anywhere in the area, half around measured ones. */
#define UNIFORM_SHARE 0.5
#define AREA_MARGIN 0.05
#define SPREAD_M 60

static const hd_dtype dtypes[] = {HD_I16, HD_I8, HD_F32, HD_F64};

static hd_status render_scenario(const hd_settings *s)
{
	hd_status st;
	hd_scenario scenario = {0};
	if (s->features_only)
		return hd_fail(HD_E_USAGE, "--features_only goes with --levels or --fit_from");
	HD_TRY(s->scenario[0] ? hd_scenario_read(&scenario, s->scenario) : hd_scenario_default(&scenario));
	hd_synth_config config = {
	        .out = s->out,
	        .sessions = s->sessions,
	        .samples = s->samples,
	        .rate_hz = s->sample_rate,
	        .dtype = dtypes[hd_settings_choice("dtype", s->dtype)],
	        .voice_share = s->voice_share,
	        .tone_share = s->tone_share,
	        .seed = (uint64_t)s->seed,
	        .threads = (int)s->threads,
	};
	double bytes = (double)s->sessions * (double)scenario.receiver_count * (double)s->samples * 2 *
	               (double)hd_dtype_bytes(config.dtype);
	fprintf(stderr, "%lld sessions, %zu receivers, %lld samples at %g Hz: %.0f MB\n", (long long)s->sessions,
	        scenario.receiver_count, (long long)s->samples, s->sample_rate, bytes / 1e6);
	HD_TRY(hd_synth_render(&config, &scenario));
done:
	hd_scenario_free(&scenario);
	return st;
}

static hd_status put(
        void *context, int thread, const char *within, const char *version, const float *iq, int64_t samples)
{
	return hd_feature_sink_put(context, thread, within, version, iq, samples);
}

/* The table's rows to files, or (features_only) straight into the feature cache. */
static hd_status render_table(const hd_settings *s, const hd_levels *levels)
{
	hd_status st;
	hd_backend *backend = NULL;
	hd_feature_sink *sink = NULL;
	char *folder = NULL;
	hd_render_config config = {
	        .out = s->out,
	        .samples = s->samples,
	        .rate_hz = s->sample_rate,
	        .dtype = dtypes[hd_settings_choice("dtype", s->dtype)],
	        .floor_db = s->floor_db,
	        .full_scale_db = s->full_scale_db,
	        .voice_share = s->voice_share,
	        .tone_share = s->tone_share,
	        .seed = (uint64_t)s->seed,
	        .threads = s->threads > 0 ? (int)s->threads : omp_get_num_procs(),
	};
	if (s->features_only) {
		const hd_feature_config features = hd_feature_config_from(s);
		/* one thread per transform: the rows are what runs side by side */
		HD_TRY(hd_backend_open(&backend, s->accelerator, s->devices, 1));
		HD_TRY(s->cache_dir[0] ? hd_strdup(&folder, s->cache_dir)
		                       : hd_sprintf(&folder, "%s/" HD_CACHE_FOLDER, s->out));
		HD_TRY(hd_feature_sink_open(&sink, folder, &features, backend, config.threads));
		config.sink = put;
		config.context = sink;
	}
	HD_TRY(hd_levels_render(&config, levels));
	if (sink)
		HD_TRY(hd_feature_sink_flush(sink));
done:
	hd_feature_sink_close(sink);
	hd_backend_close(backend);
	free(folder);
	return st;
}

/* Reads the measurements; a fold that is left out leaves no trace. */
static hd_status read_levels(hd_levels *out, const hd_settings *s, const char *path, bool leave_out)
{
	hd_status st;
	if (!s->given[HD_SET_receivers])
		return hd_fail(HD_E_USAGE, "--receivers: name the CSV with receiver, latitude_deg and longitude_deg");
	HD_TRY(hd_levels_read(out, path, s->receivers, s->folds));
	if (leave_out && s->folds[0])
		HD_TRY(hd_levels_leave_out(out, (int)s->fold));
done:
	return st;
}

static hd_status render_fitted(const hd_settings *s)
{
	hd_status st;
	hd_levels measured = {0}, drawn = {0};
	hd_fit fit = {0};
	char *path = NULL;
	const hd_draw_config draw = {.emissions = s->sessions,
	        .seed = (uint64_t)s->seed,
	        .uniform_share = UNIFORM_SHARE,
	        .margin = AREA_MARGIN,
	        .spread_m = SPREAD_M,
	        .threads = (int)s->threads};
	HD_TRY(read_levels(&measured, s, s->fit_from, true));
	HD_TRY(hd_fit_levels(&fit, &measured, (int)s->threads));
	hd_fit_print(stderr, &fit);
	HD_TRY(hd_fit_draw(&drawn, &fit, &draw));
	HD_TRY(render_table(s, &drawn));
	HD_TRY(hd_sprintf(&path, "%s/fit.csv", s->out));
	HD_TRY(hd_fit_write(&fit, path));
done:
	free(path);
	hd_levels_free(&drawn);
	hd_fit_free(&fit);
	hd_levels_free(&measured);
	return st;
}

static hd_status render_measured(const hd_settings *s)
{
	hd_levels levels = {0};
	hd_status st = read_levels(&levels, s, s->levels, false);
	if (st == HD_OK)
		st = render_table(s, &levels);
	hd_levels_free(&levels);
	return st;
}

hd_status hd_cli_synth(const hd_settings *s, const char **files, int count)
{
	(void)files;
	(void)count;
	if (!s->out[0])
		return hd_fail(HD_E_USAGE, "--out: name the folder to write");
	if ((s->levels[0] && s->fit_from[0]) || ((s->levels[0] || s->fit_from[0]) && s->scenario[0]))
		return hd_fail(HD_E_USAGE, "--levels, --fit_from and --scenario: give one of them");
	hd_status st = s->levels[0] ? render_measured(s) : s->fit_from[0] ? render_fitted(s) : render_scenario(s);
	if (st == HD_OK)
		printf("%s/manifest.csv\n", s->out);
	return st;
}
