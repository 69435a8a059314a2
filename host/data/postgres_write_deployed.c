/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deployed system's form: a position belongs to a source, a source to a session, an approval to a session. Names
 * that are no UUIDs get one that follows from the name.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/data/postgres_write.h"

#define UUID_BYTES 37
#define SEPARATOR '\x1f'

enum { OWN_TIME = HD_PG_OUT_OWN, OWN_ID, OWN_STATION, OWN_SOURCE, OWN_SOURCE_NAME, OWN_STATUS, OWN_TRUE };

typedef struct entry {
	char uuid[UUID_BYTES]; /* of the source or station; a session has its own name */
	size_t recording;      /* that shows what it is */
} entry;

typedef struct deployed {
	hd_pg_form form; /* of measurements; its cells serve the other tables too */
	entry *sessions, *sources, *stations;
	size_t session_count, source_count, station_count;
	bool uuids; /* recordings have UUIDs for names */
	char uuid[UUID_BYTES];
} deployed;

/* Version 8 of RFC 9562: four hashes of the name. */
static void make_uuid(char out[UUID_BYTES], const char *name, size_t bytes)
{
	uint32_t h[4];
	for (uint32_t i = 0; i < 4; i++)
		h[i] = hd_hash32(name, bytes, 0x9e3779b9u * (i + 1));
	snprintf(out, UUID_BYTES, "%08x-%04x-8%03x-%04x-%04x%08x", h[0], h[1] >> 16, h[1] & 0xfff,
	        0x8000 | (h[2] >> 16 & 0x3fff), h[2] & 0xffff, h[3]);
}

static const char *source_name(const hd_recording *r)
{
	return r->source ? r->source : r->session;
}

static hd_status source_uuid(char out[UUID_BYTES], const hd_recording *r)
{
	char *name;
	hd_status st = hd_sprintf(&name, "source%c%s%c%.17g%c%.17g%c%.17g", SEPARATOR, source_name(r), SEPARATOR,
	        r->latitude_deg, SEPARATOR, r->longitude_deg, SEPARATOR, r->label_sigma_m);
	if (st == HD_OK)
		make_uuid(out, name, strlen(name));
	free(name);
	return st;
}

static void station_uuid(char out[UUID_BYTES], const hd_recording *r)
{
	char name[512];
	int length = snprintf(name, sizeof name, "station%c%s", SEPARATOR, r->receiver);
	make_uuid(out, name, (size_t)length < sizeof name ? (size_t)length : sizeof name - 1);
}

/* ---- what there is ---- */

static int by_uuid(const void *a, const void *b)
{
	return strcmp(((const entry *)a)->uuid, ((const entry *)b)->uuid);
}

/* Keeps one entry of each UUID. */
static size_t distinct(entry *entries, size_t count)
{
	size_t kept = 0;
	if (count)
		qsort(entries, count, sizeof *entries, by_uuid);
	for (size_t i = 0; i < count; i++)
		if (!i || strcmp(entries[i].uuid, entries[i - 1].uuid) != 0)
			entries[kept++] = entries[i];
	return kept;
}

static int by_session(const void *a, const void *b, void *catalog)
{
	const hd_catalog *c = catalog;
	size_t i = ((const entry *)a)->recording, j = ((const entry *)b)->recording;
	int order = strcmp(c->recordings[i].session, c->recordings[j].session);
	return order ? order : (i > j) - (i < j);
}

static bool same(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

static hd_status check_session(const hd_recording *a, const hd_recording *b)
{
	const char *what = !same(a->latitude_deg, b->latitude_deg) || !same(a->longitude_deg, b->longitude_deg)
	                           ? "positions"
	                   : !same(a->label_sigma_m, b->label_sigma_m)   ? "label_sigma_m"
	                   : strcmp(source_name(a), source_name(b)) != 0 ? "sources"
	                   : a->approved != b->approved                  ? "approvals"
	                                                                 : NULL;
	return what ? hd_fail(HD_E_DATA,
	                      "session '%s': recordings '%s' and '%s' have different %s, and the deployed form keeps "
	                      "them once per session; --schema seed keeps them per recording",
	                      a->session, a->id, b->id, what)
	            : HD_OK;
}

static hd_status list_sessions(deployed *d, hd_catalog *c)
{
	hd_status st;
	HD_TRY(hd_alloc(&d->sessions, c->count, sizeof *d->sessions));
	for (size_t i = 0; i < c->count; i++)
		d->sessions[i].recording = i;
	if (c->count)
		qsort_r(d->sessions, c->count, sizeof *d->sessions, by_session, c);
	for (size_t i = 0; i < c->count; i++) {
		const hd_recording *r = &c->recordings[d->sessions[i].recording];
		const entry *last = d->session_count ? &d->sessions[d->session_count - 1] : NULL;
		if (last && !strcmp(c->recordings[last->recording].session, r->session))
			HD_TRY(check_session(&c->recordings[last->recording], r));
		else
			d->sessions[d->session_count++] = d->sessions[i];
	}
done:
	return st;
}

static hd_status list_all(deployed *d, const hd_catalog *c)
{
	hd_status st;
	hd_catalog sorted = *c; /* qsort_r's context is not const */
	if (!hd_pg_all_uuids(c, HD_COLUMN_SESSION))
		return hd_fail(HD_E_DATA,
		        "%s: the deployed form names sessions by UUIDs in small letters, and here some "
		        "are none; --schema seed takes any name",
		        c->path);
	HD_TRY(list_sessions(d, &sorted));
	HD_TRY(hd_alloc(&d->sources, d->session_count, sizeof *d->sources));
	HD_TRY(hd_alloc(&d->stations, c->count, sizeof *d->stations));
	for (size_t i = 0; i < d->session_count; i++) {
		d->sources[i].recording = d->sessions[i].recording;
		HD_TRY(source_uuid(d->sources[i].uuid, &c->recordings[d->sources[i].recording]));
	}
	for (size_t i = 0; i < c->count; i++) {
		d->stations[i].recording = i;
		station_uuid(d->stations[i].uuid, &c->recordings[i]);
	}
	d->source_count = distinct(d->sources, d->session_count);
	d->station_count = distinct(d->stations, c->count);
	d->uuids = hd_pg_all_uuids(c, HD_COLUMN_ID);
done:
	return st;
}

/* ---- cells ---- */

static const char *cell_of(
        deployed *d, size_t recording, const hd_pg_out_column *column, char number[HD_NUMBER_BYTES], hd_status *st)
{
	const hd_recording *r = &d->form.catalog->recordings[recording];
	switch (column->what) {
	case OWN_TIME: /* the key holds no NULL; this reads back as none */
		return isfinite(r->timestamp_s) ? hd_column_text(r, HD_COLUMN_TIMESTAMP, number) : "-infinity";
	case OWN_ID:
		if (d->uuids)
			return r->id;
		snprintf(number, HD_NUMBER_BYTES, "measurement%c%zu", SEPARATOR, recording);
		make_uuid(d->uuid, number, strlen(number));
		return d->uuid;
	case OWN_STATION:
		station_uuid(d->uuid, r);
		return d->uuid;
	case OWN_SOURCE:
		*st = source_uuid(d->uuid, r);
		return d->uuid;
	case OWN_SOURCE_NAME:
		return source_name(r);
	case OWN_STATUS:
		return r->approved ? "approved" : "pending";
	case OWN_TRUE:
		return "true";
	default:
		return hd_pg_form_cell(&d->form, recording, column, number, st);
	}
}

static const char *measurement_cell(
        void *context, size_t row, const hd_pg_out_column *column, char number[HD_NUMBER_BYTES], hd_status *st)
{
	return cell_of(context, row, column, number, st);
}

static const char *session_cell(
        void *context, size_t row, const hd_pg_out_column *column, char number[HD_NUMBER_BYTES], hd_status *st)
{
	deployed *d = context;
	return cell_of(d, d->sessions[row].recording, column, number, st);
}

static const char *source_cell(
        void *context, size_t row, const hd_pg_out_column *column, char number[HD_NUMBER_BYTES], hd_status *st)
{
	deployed *d = context;
	return cell_of(d, d->sources[row].recording, column, number, st);
}

static const char *station_cell(
        void *context, size_t row, const hd_pg_out_column *column, char number[HD_NUMBER_BYTES], hd_status *st)
{
	deployed *d = context;
	return cell_of(d, d->stations[row].recording, column, number, st);
}

/* ---- tables ---- */

static bool whole_rates(const hd_catalog *c)
{
	bool whole = true;
	for (size_t i = 0; whole && i < c->count; i++)
		whole = c->recordings[i].sample_rate_hz == floor(c->recordings[i].sample_rate_hz);
	return whole;
}

static hd_status write_measurements(deployed *d, hd_pg *pg)
{
	hd_status st;
	hd_pg_form *form = &d->form;
	HD_TRY(hd_pg_form_add(form, "timestamp", "TIMESTAMPTZ NOT NULL", OWN_TIME));
	HD_TRY(hd_pg_form_add(form, "id", "UUID NOT NULL", OWN_ID));
	HD_TRY(hd_pg_form_add(form, "websdr_station_id", "UUID", OWN_STATION));
	HD_TRY(hd_pg_form_add(form, "recording_session_id", "UUID", HD_COLUMN_SESSION));
	HD_TRY(hd_pg_form_add(form, "frequency_hz", "BIGINT", HD_PG_OUT_HERTZ));
	HD_TRY(hd_pg_form_add(form, "snr_db", "DOUBLE PRECISION", HD_COLUMN_SNR_DB));
	HD_TRY(hd_pg_form_add(form, "iq_data_location", "TEXT", HD_COLUMN_IQ));
	HD_TRY(hd_pg_form_add(form, "iq_sample_rate", whole_rates(form->catalog) ? "INTEGER" : "DOUBLE PRECISION",
	        HD_COLUMN_SAMPLE_RATE));
	HD_TRY(hd_pg_form_add(form, "created_at", "TIMESTAMPTZ", HD_PG_OUT_NOW));
	if (!d->uuids)
		HD_TRY(hd_pg_form_add(form, "recording_id", "TEXT", HD_COLUMN_ID));
	HD_TRY(hd_pg_form_add_rest(form));
	st = hd_pg_write_table(pg, "heimdall.measurements", form->columns, form->count,
	        "PRIMARY KEY (\"timestamp\", id)", form->catalog->count, measurement_cell, d);
done:
	return st;
}

hd_status hd_pg_write_deployed(hd_pg *pg, const hd_catalog *catalog)
{
	static const hd_pg_out_column sources[] = {{"id", "UUID PRIMARY KEY", OWN_SOURCE},
	        {"name", "TEXT", OWN_SOURCE_NAME}, {"frequency_hz", "BIGINT", HD_PG_OUT_HERTZ},
	        {"latitude", "DOUBLE PRECISION", HD_COLUMN_LATITUDE},
	        {"longitude", "DOUBLE PRECISION", HD_COLUMN_LONGITUDE}, {"is_validated", "BOOLEAN", HD_COLUMN_APPROVED},
	        {"error_margin_meters", "DOUBLE PRECISION", HD_COLUMN_LABEL_SIGMA}};
	static const hd_pg_out_column sessions[] = {{"id", "UUID PRIMARY KEY", HD_COLUMN_SESSION},
	        {"known_source_id", "UUID", OWN_SOURCE}, {"session_name", "TEXT", HD_COLUMN_SESSION},
	        {"session_start", "TIMESTAMPTZ", OWN_TIME}, {"session_end", "TIMESTAMPTZ", OWN_TIME},
	        {"approval_status", "TEXT DEFAULT 'pending'", OWN_STATUS}};
	static const hd_pg_out_column stations[] = {{"id", "UUID PRIMARY KEY", OWN_STATION},
	        {"name", "TEXT", HD_COLUMN_RECEIVER}, {"is_active", "BOOLEAN", OWN_TRUE}};
	hd_status st;
	deployed d = {0};
	HD_TRY(hd_pg_form_open(&d.form, catalog));
	HD_TRY(list_all(&d, catalog));
	HD_TRY(hd_pg_run(pg, "CREATE SCHEMA IF NOT EXISTS heimdall"));
	HD_TRY(hd_pg_write_table(pg, "heimdall.websdr_stations", stations, sizeof stations / sizeof *stations, NULL,
	        d.station_count, station_cell, &d));
	HD_TRY(hd_pg_write_table(pg, "heimdall.known_sources", sources, sizeof sources / sizeof *sources, NULL,
	        d.source_count, source_cell, &d));
	HD_TRY(hd_pg_write_table(pg, "heimdall.recording_sessions", sessions, sizeof sessions / sizeof *sessions, NULL,
	        d.session_count, session_cell, &d));
	HD_TRY(write_measurements(&d, pg));
done:
	free(d.stations);
	free(d.sources);
	free(d.sessions);
	hd_pg_form_close(&d.form);
	return st;
}
