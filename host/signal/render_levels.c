/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/render_levels.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "heimdall/catalog.h"
#include "host/common/file.h"
#include "host/common/first_error.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/signal/output.h"
#include "host/signal/waveform.h"

#define LEVELS_NAME "rendered_levels.csv"
#define RECEIVERS_NAME "rendered_receivers.csv"
#define SETTLE_S 0.02       /* audio before the recording, so that filters have settled */
#define DEVIATION_HZ 2500.0 /* of a narrow-band hand-held radio */
#define PRE_EMPHASIS_US 750.0
#define CODE_VERSION 1 /* raise when the same settings render other recordings */
#define VERSION_BYTES 24

/* Buffers of one thread. */
typedef struct scratch {
	float *audio, *carrier, *iq;
	double *phase;
	void *stored;
} scratch;

static void free_scratch(scratch *s)
{
	free(s->stored);
	free(s->phase);
	free(s->iq);
	free(s->carrier);
	free(s->audio);
}

static int64_t settle_samples(const hd_render_config *c)
{
	return (int64_t)(SETTLE_S * c->rate_hz);
}

static hd_status make_scratch(scratch *s, const hd_render_config *c)
{
	hd_status st;
	size_t n = (size_t)c->samples, total = n + (size_t)settle_samples(c);
	HD_TRY(hd_alloc(&s->audio, total, sizeof *s->audio));
	HD_TRY(hd_alloc(&s->phase, total, sizeof *s->phase));
	HD_TRY(hd_alloc(&s->carrier, 2 * n, sizeof *s->carrier));
	HD_TRY(hd_alloc(&s->iq, 2 * n, sizeof *s->iq));
	HD_TRY(hd_alloc(&s->stored, 2 * n, hd_dtype_bytes(c->dtype)));
done:
	return st;
}

static hd_random row_random(const hd_render_config *c, const hd_level_row *row, int receiver)
{
	return hd_random_start(c->seed, (uint64_t)row->number << 16 | (uint64_t)(receiver + 1));
}

static hd_signal_type row_type(const hd_render_config *c, const hd_level_row *row, hd_random *random)
{
	*random = row_random(c, row, -1);
	return hd_signal_draw(c->voice_share, c->tone_share, random);
}

/* Carrier of amplitude 1, which all receivers of the row share. */
static void render_carrier(scratch *s, const hd_render_config *c, const hd_level_row *row)
{
	hd_random random;
	hd_signal_type type = row_type(c, row, &random);
	int64_t settle = settle_samples(c), total = settle + c->samples;
	hd_audio_render(s->audio, total, c->rate_hz, type, &random);
	hd_fm_phase(s->phase, s->audio, total, c->rate_hz, DEVIATION_HZ, PRE_EMPHASIS_US, &random);
	for (int64_t i = 0; i < c->samples; i++) {
		float angle = (float)remainder(s->phase[settle + i], 2 * M_PI);
		s->carrier[2 * i] = cosf(angle);
		s->carrier[2 * i + 1] = sinf(angle);
	}
}

static void render_receiver(scratch *s, const hd_render_config *c, const hd_level_row *row, int receiver)
{
	hd_random random = row_random(c, row, receiver);
	float gain = (float)pow(10, ((double)row->level_db[receiver] - c->full_scale_db) / 20);
	double noise = pow(10, (c->floor_db - c->full_scale_db) / 20) * M_SQRT1_2;
	for (int64_t i = 0; i < c->samples; i++) {
		double a, b;
		hd_random_normals(&random, &a, &b);
		s->iq[2 * i] = gain * s->carrier[2 * i] + (float)(noise * a);
		s->iq[2 * i + 1] = gain * s->carrier[2 * i + 1] + (float)(noise * b);
	}
}

static void path_within(char *path, size_t bytes, const hd_levels *l, const hd_level_row *row, int receiver)
{
	snprintf(path, bytes, "emissions/%06lld/%s.npy", (long long)row->number, l->receivers[receiver].name);
}

/* Names all that a recording follows from. */
static void version_of(char version[VERSION_BYTES], const hd_render_config *c, const hd_level_row *row, int receiver)
{
	char text[256];
	int n = snprintf(text, sizeof text, "%d %lld %.17g %.17g %.17g %.17g %.17g %" PRIu64 " %lld %d %.9g",
	        CODE_VERSION, (long long)c->samples, c->rate_hz, c->floor_db, c->full_scale_db, c->voice_share,
	        c->tone_share, c->seed, (long long)row->number, receiver, (double)row->level_db[receiver]);
	snprintf(version, VERSION_BYTES, "%08" PRIx32 "%08" PRIx32, hd_hash32(text, (size_t)n, 1),
	        hd_hash32(text, (size_t)n, 2));
}

static hd_status render_row(scratch *s, const hd_render_config *c, const hd_levels *l, size_t index, int thread)
{
	const hd_level_row *row = &l->rows[index];
	char within[512], path[4608], version[VERSION_BYTES];
	hd_status st = HD_OK;
	render_carrier(s, c, row);
	if (!c->sink) {
		snprintf(path, sizeof path, "%s/emissions/%06lld", c->out, (long long)row->number);
		st = hd_make_folders(path);
	}
	for (int r = 0; st == HD_OK && r < l->R; r++) {
		if (isnan(row->level_db[r]))
			continue;
		render_receiver(s, c, row, r);
		path_within(within, sizeof within, l, row, r);
		if (c->sink) {
			version_of(version, c, row, r);
			st = c->sink(c->context, thread, within, version, s->iq, c->samples);
		} else {
			snprintf(path, sizeof path, "%s/%s", c->out, within);
			st = hd_output_recording(path, s->iq, c->samples, c->dtype, s->stored);
		}
	}
	return st;
}

static hd_status render_rows(const hd_render_config *c, const hd_levels *l)
{
	hd_first_error error = {HD_OK};
	int64_t done = 0, count = (int64_t)l->count;
	hd_progress *bar = hd_progress_start("render", "emission", count);
#pragma omp parallel num_threads(c->threads > 0 ? c->threads : omp_get_num_procs())
	{
		scratch s = {0};
		hd_status st = make_scratch(&s, c);
#pragma omp for schedule(dynamic, 4)
		for (int64_t i = 0; i < count; i++) {
			int64_t now;
			if (st == HD_OK)
				st = render_row(&s, c, l, (size_t)i, omp_get_thread_num());
#pragma omp atomic capture
			now = ++done;
			hd_progress_update(bar, now, NULL);
		}
		free_scratch(&s);
		hd_first_error_note(&error, st);
	}
	hd_progress_end(bar);
	return hd_first_error_take(&error);
}

/* Session is the hour; a drawn row, which shares nothing with others, is a session of its own. */
static void manifest_rows(FILE *to, const hd_render_config *c, const hd_levels *l, const hd_level_row *row, int64_t *id)
{
	char session[HD_LEVELS_HOUR + 8], within[512], version[VERSION_BYTES];
	hd_random unused;
	const char *signal = hd_signal_name(row_type(c, row, &unused));
	if (row->hour >= 0)
		snprintf(session, sizeof session, "%s", l->hours[row->hour].text);
	else
		snprintf(session, sizeof session, "drawn%07lld", (long long)row->number);
	for (int r = 0; r < l->R; r++) {
		if (isnan(row->level_db[r]))
			continue;
		path_within(within, sizeof within, l, row, r);
		fprintf(to, "%lld,%s,%06lld,%s,%s,%.10g,%.8f,%.8f,%.2f,%s%s,true,%s", (long long)++*id, session,
		        (long long)row->number, l->receivers[r].name, within, c->rate_hz, row->latitude_deg,
		        row->longitude_deg, (double)row->level_db[r] - c->floor_db, row->stamp,
		        row->stamp[0] ? "Z" : "", signal);
		if (c->sink) {
			version_of(version, c, row, r);
			fprintf(to, ",%s", version);
		}
		fputc('\n', to);
	}
}

static hd_status write_manifest(const hd_render_config *c, const hd_levels *l)
{
	char path[4608], *text = NULL;
	size_t bytes = 0;
	int64_t id = 0;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for the manifest");
	fprintf(to,
	        "id,session,emission,receiver,iq,sample_rate,latitude,longitude,snr_db,timestamp,approved,signal%s\n",
	        c->sink ? ",version" : "");
	for (size_t i = 0; i < l->count; i++)
		manifest_rows(to, c, l, &l->rows[i], &id);
	fclose(to);
	snprintf(path, sizeof path, "%s/manifest.csv", c->out);
	hd_status st = hd_file_write(path, &(hd_span){text, bytes}, 1, 1);
	free(text);
	return st;
}

hd_status hd_levels_render(const hd_render_config *c, const hd_levels *l)
{
	hd_status st;
	double carson_hz = 2 * (DEVIATION_HZ + HD_AUDIO_TOP_HZ);
	if (c->rate_hz < carson_hz)
		return hd_fail(HD_E_USAGE, "sample_rate: %g Hz cannot hold FM of %g Hz deviation; at least %g Hz",
		        c->rate_hz, DEVIATION_HZ, carson_hz);
	HD_TRY(hd_output_begin(c->out, LEVELS_NAME));
	/* first, so that an interrupted run is known for what it is */
	HD_TRY(hd_levels_write(l, c->out, LEVELS_NAME, RECEIVERS_NAME));
	HD_TRY(render_rows(c, l));
	HD_TRY(write_manifest(c, l));
done:
	return st;
}
