/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/synth.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "host/common/file.h"
#include "host/common/first_error.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/signal/channel.h"
#include "host/signal/output.h"
#include "host/signal/waveform.h"

#define FIRST_TIME_S 1767225600 /* 2026-01-01T00:00:00Z, one session a minute */
#define SESSION_STEP_S 60
#define SETTLE_S 0.02 /* audio before the recording, so that filters have settled */

/* Buffers of one thread. */
typedef struct scratch {
	float *audio;
	double *phase;
	float *iq;
	void *stored;
} scratch;

/* What the tables say of one session. */
typedef struct session {
	double latitude_deg, longitude_deg;
	hd_signal_type type;
	hd_link *links; /* one per receiver */
} session;

static hd_status render_session(
        session *s, scratch *buf, const hd_synth_config *c, const hd_scenario *scenario, int64_t number)
{
	char folder[4096], path[4200];
	hd_random random = hd_random_start(c->seed, (uint64_t)number);
	int64_t lead = hd_channel_longest_delay(scenario, c->rate_hz) + HD_DELAY_LEAD,
	        settle = (int64_t)(SETTLE_S * c->rate_hz);
	int64_t total = settle + lead + c->samples + HD_DELAY_LEAD;
	/* uniform on the sphere: latitude by its sine */
	double south = sin(scenario->latitude_min_deg * M_PI / 180),
	       north = sin(scenario->latitude_max_deg * M_PI / 180);
	s->latitude_deg = asin(hd_random_between(&random, south, north)) * 180 / M_PI;
	s->longitude_deg = hd_random_between(&random, scenario->longitude_min_deg, scenario->longitude_max_deg);
	s->type = hd_signal_draw(c->voice_share, c->tone_share, &random);
	hd_audio_render(buf->audio, total, c->rate_hz, s->type, &random);
	hd_fm_phase(
	        buf->phase, buf->audio, total, c->rate_hz, scenario->deviation_hz, scenario->pre_emphasis_us, &random);

	snprintf(folder, sizeof folder, "%s/sessions/s%06lld", c->out, (long long)number);
	hd_status st = hd_make_folders(folder);
	for (size_t r = 0; st == HD_OK && r < scenario->receiver_count; r++) {
		hd_channel_render(buf->iq, &s->links[r], scenario, (int)r, s->latitude_deg, s->longitude_deg,
		        buf->phase + settle, lead, c->samples, c->rate_hz, c->seed, &random);
		if (s->links[r].mean_level_dbm - s->links[r].noise_dbm < scenario->min_snr_db)
			continue;
		snprintf(path, sizeof path, "%s/websdr_%zu.npy", folder, r + 1);
		st = hd_output_recording(path, buf->iq, c->samples, c->dtype, buf->stored);
	}
	return st;
}

static void manifest_row(
        FILE *to, const hd_synth_config *c, int64_t number, const session *s, size_t receiver, int64_t id)
{
	char stamp[32];
	time_t when = FIRST_TIME_S + number * SESSION_STEP_S;
	struct tm tm;
	gmtime_r(&when, &tm);
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &tm);
	const hd_link *l = &s->links[receiver];
	fprintf(to, "%lld,s%06lld,s%06lld,%zu,sessions/s%06lld/websdr_%zu.npy,%.10g,%.8f,%.8f,%.2f,%s,true,,%s\n",
	        (long long)id, (long long)number, (long long)number, receiver + 1, (long long)number, receiver + 1,
	        c->rate_hz, s->latitude_deg, s->longitude_deg, l->mean_level_dbm - l->noise_dbm, stamp,
	        hd_signal_name(s->type));
}

static hd_status write_tables(const hd_synth_config *c, const hd_scenario *scenario, const session *sessions)
{
	hd_status st;
	char path[4096], *text[2] = {NULL, NULL};
	size_t bytes[2];
	int64_t id = 0;
	FILE *manifest = open_memstream(&text[0], &bytes[0]), *truth = open_memstream(&text[1], &bytes[1]);
	if (!manifest || !truth)
		return hd_fail(HD_E_MEMORY, "out of host memory for the manifest");
	fprintf(manifest, "id,session,emission,receiver,iq,sample_rate,latitude,longitude,snr_db,timestamp,approved,"
	                  "source,signal\n");
	fprintf(truth, "session,receiver,distance_m,shadowing_db,mean_level_dbm,received_level_dbm,noise_dbm\n");
	for (int64_t i = 0; i < c->sessions; i++) {
		for (size_t r = 0; r < scenario->receiver_count; r++) {
			const hd_link *l = &sessions[i].links[r];
			fprintf(truth, "s%06lld,%zu,%.3f,%.6f,%.6f,%.6f,%.6f\n", (long long)i + 1, r + 1, l->distance_m,
			        l->shadowing_db, l->mean_level_dbm, l->received_level_dbm, l->noise_dbm);
			if (l->mean_level_dbm - l->noise_dbm >= scenario->min_snr_db)
				manifest_row(manifest, c, i + 1, &sessions[i], r, ++id);
		}
	}
	fclose(manifest);
	fclose(truth);
	snprintf(path, sizeof path, "%s/truth.csv", c->out);
	HD_TRY(hd_file_write(path, &(hd_span){text[1], bytes[1]}, 1, 0));
	snprintf(path, sizeof path, "%s/manifest.csv", c->out);
	HD_TRY(hd_file_write(path, &(hd_span){text[0], bytes[0]}, 1, 1));
done:
	free(text[1]);
	free(text[0]);
	return st;
}

static void free_scratch(scratch *s)
{
	free(s->stored);
	free(s->iq);
	free(s->phase);
	free(s->audio);
}

static hd_status make_scratch(scratch *s, const hd_synth_config *c, const hd_scenario *scenario)
{
	hd_status st;
	size_t n = (size_t)c->samples;
	size_t total = n + (size_t)hd_channel_longest_delay(scenario, c->rate_hz) + 2 * HD_DELAY_LEAD +
	               (size_t)(SETTLE_S * c->rate_hz);
	HD_TRY(hd_alloc(&s->audio, total, sizeof *s->audio));
	HD_TRY(hd_alloc(&s->phase, total, sizeof *s->phase));
	HD_TRY(hd_alloc(&s->iq, 2 * n, sizeof *s->iq));
	HD_TRY(hd_alloc(&s->stored, 2 * n, hd_dtype_bytes(c->dtype)));
done:
	return st;
}

static hd_status render_all(const hd_synth_config *c, const hd_scenario *scenario, session *sessions)
{
	hd_first_error error = {HD_OK};
	int64_t done = 0;
	hd_progress *bar = hd_progress_start("synth", "session", c->sessions);
#pragma omp parallel num_threads(c->threads > 0 ? c->threads : omp_get_num_procs())
	{
		scratch buf = {0};
		hd_status st = make_scratch(&buf, c, scenario);
#pragma omp for schedule(dynamic, 4)
		for (int64_t i = 0; i < c->sessions; i++) {
			int64_t now;
			if (st == HD_OK)
				st = render_session(&sessions[i], &buf, c, scenario, i + 1);
#pragma omp atomic capture
			now = ++done;
			hd_progress_update(bar, now, NULL);
		}
		free_scratch(&buf);
		hd_first_error_note(&error, st);
	}
	hd_progress_end(bar);
	return hd_first_error_take(&error);
}

hd_status hd_synth_render(const hd_synth_config *c, const hd_scenario *scenario)
{
	hd_status st;
	session *sessions = NULL;
	hd_link *links = NULL;
	char path[4096];
	size_t n = (size_t)c->sessions;
	double carson_hz = 2 * (scenario->deviation_hz + HD_AUDIO_TOP_HZ);
	if (c->rate_hz < carson_hz)
		return hd_fail(HD_E_USAGE, "sample_rate: %g Hz cannot hold FM of %g Hz deviation; at least %g Hz",
		        c->rate_hz, scenario->deviation_hz, carson_hz);
	HD_TRY(hd_output_begin(c->out, "scenario.yaml"));
	/* first, so that an interrupted run is known for what it is */
	snprintf(path, sizeof path, "%s/scenario.yaml", c->out);
	HD_TRY(hd_scenario_write(scenario, path));
	HD_TRY(hd_alloc(&sessions, n, sizeof *sessions));
	HD_TRY(hd_alloc(&links, n * scenario->receiver_count, sizeof *links));
	for (size_t i = 0; i < n; i++)
		sessions[i].links = links + i * scenario->receiver_count;
	HD_TRY(render_all(c, scenario, sessions));
	HD_TRY(write_tables(c, scenario, sessions));
done:
	free(links);
	free(sessions);
	return st;
}
