/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall synth: a synthetic data set. */
#include <stdio.h>

#include "host/cli/cli.h"
#include "host/signal/synth.h"

hd_status hd_cli_synth(const hd_settings *s, const char **files, int count)
{
	(void)files;
	(void)count;
	hd_status st;
	hd_scenario scenario = {0};
	static const hd_dtype dtypes[] = {HD_I16, HD_I8, HD_F32, HD_F64};
	if (!s->out[0])
		return hd_fail(HD_E_USAGE, "--out: name the folder to write");
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
	printf("%s/manifest.csv\n", s->out);
done:
	hd_scenario_free(&scenario);
	return st;
}
