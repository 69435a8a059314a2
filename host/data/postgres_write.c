/* SPDX-License-Identifier: Apache-2.0 */
/* A catalogue into a database: the seed's one table, or the deployed system's four. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/data/postgres.h"
#include "host/data/postgres_write.h"

static bool is_uuid(const char *text)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t i = 0;
	for (; text[i] && form[i]; i++)
		if (form[i] == '-' ? text[i] != '-' : !strchr("0123456789abcdef", text[i]))
			return false;
	return !text[i] && !form[i];
}

/* As the database prints it: what reads back the same. */
static bool is_integer(const char *text)
{
	char back[24];
	long value = strtol(text, NULL, 10);
	snprintf(back, sizeof back, "%ld", value);
	return value >= INT32_MIN && value <= INT32_MAX && !strcmp(back, text);
}

static bool all_are(const hd_catalog *c, hd_column column, bool (*is)(const char *text))
{
	char number[HD_NUMBER_BYTES];
	bool all = true;
	for (size_t i = 0; all && i < c->count; i++)
		all = is(hd_column_text(&c->recordings[i], column, number));
	return all;
}

bool hd_pg_all_uuids(const hd_catalog *c, hd_column column)
{
	return all_are(c, column, is_uuid);
}

/* Whether any recording has something there. */
static bool any_has(const hd_catalog *c, hd_column column)
{
	char number[HD_NUMBER_BYTES];
	bool any = false;
	for (size_t i = 0; !any && i < c->count; i++)
		any = hd_column_text(&c->recordings[i], column, number)[0] != 0;
	return any;
}

static bool any_emission(const hd_catalog *c)
{
	bool any = false;
	for (size_t i = 0; !any && i < c->count; i++)
		any = strcmp(c->recordings[i].emission, c->recordings[i].session) != 0;
	return any;
}

/* ---- cells ---- */

static const char *extra_text(hd_pg_form *form, size_t row, int extra)
{
	if (form->extra_row != row || !form->extra) {
		json_decref(form->extra);
		form->extra = hd_extra_load(&form->catalog->recordings[row]);
		form->extra_row = row;
	}
	return json_string_value(json_object_get(form->extra, form->extra_keys[extra]));
}

const char *hd_pg_form_cell(
        void *context, size_t row, const hd_pg_out_column *column, char number[HD_NUMBER_BYTES], hd_status *st)
{
	hd_pg_form *form = context;
	const hd_recording *r = &form->catalog->recordings[row];
	const char *text;
	if (column->what >= HD_PG_OUT_EXTRA)
		return extra_text(form, row, column->what - HD_PG_OUT_EXTRA);
	switch (column->what) {
	case HD_PG_OUT_ROW:
		snprintf(number, HD_NUMBER_BYTES, "%zu", row + 1);
		return number;
	case HD_PG_OUT_HERTZ:
		if (!isfinite(r->frequency_hz))
			return NULL;
		snprintf(number, HD_NUMBER_BYTES, "%.0f", r->frequency_hz);
		return number;
	case HD_PG_OUT_NOW:
		return "now";
	case HD_COLUMN_IQ:
		free(form->iq);
		form->iq = NULL;
		*st = hd_iq_absolute(&form->iq, r->iq);
		return form->iq;
	default:
		text = hd_column_text(r, (hd_column)column->what, number);
		return text[0] ? text : NULL;
	}
}

/* ---- columns ---- */

hd_status hd_pg_form_add(hd_pg_form *form, const char *name, const char *type, int what)
{
	hd_status st = hd_grow(&form->columns, &form->capacity, form->count + 1, sizeof *form->columns);
	if (st == HD_OK)
		form->columns[form->count++] = (hd_pg_out_column){name, type, what};
	return st;
}

hd_status hd_pg_form_open(hd_pg_form *out, const hd_catalog *catalog)
{
	hd_status st;
	const char *name;
	json_t *value;
	*out = (hd_pg_form){.catalog = catalog};
	HD_TRY(hd_extra_names(&out->extras, catalog));
	HD_TRY(hd_alloc(&out->extra_keys, json_object_size(out->extras), sizeof *out->extra_keys));
	json_object_foreach(out->extras, name, value)
	{
		out->extra_keys[out->extra_count++] = name;
	}
done:
	return st;
}

void hd_pg_form_close(hd_pg_form *form)
{
	free(form->iq);
	json_decref(form->extra);
	free(form->columns);
	free(form->extra_keys);
	json_decref(form->extras);
	*form = (hd_pg_form){0};
}

hd_status hd_pg_form_add_rest(hd_pg_form *form)
{
	hd_status st = HD_OK;
	if (any_emission(form->catalog))
		HD_TRY(hd_pg_form_add(form, "emission", "TEXT", HD_COLUMN_EMISSION));
	if (any_has(form->catalog, HD_COLUMN_SPLIT))
		HD_TRY(hd_pg_form_add(form, "split", "TEXT", HD_COLUMN_SPLIT));
	if (any_has(form->catalog, HD_COLUMN_VERSION))
		HD_TRY(hd_pg_form_add(form, "version", "TEXT", HD_COLUMN_VERSION));
	for (int i = 0; i < form->extra_count; i++)
		HD_TRY(hd_pg_form_add(form, form->extra_keys[i], "TEXT", HD_PG_OUT_EXTRA + i));
done:
	return st;
}

static bool ids_rise(const hd_catalog *c)
{
	bool rise = all_are(c, HD_COLUMN_ID, is_integer);
	for (size_t i = 1; rise && i < c->count; i++)
		rise = strtol(c->recordings[i].id, NULL, 10) > strtol(c->recordings[i - 1].id, NULL, 10);
	return rise;
}

static bool all_placed(const hd_catalog *c)
{
	bool all = true;
	for (size_t i = 0; all && i < c->count; i++)
		all = isfinite(c->recordings[i].latitude_deg) && isfinite(c->recordings[i].longitude_deg);
	return all;
}

/* The seed's columns first, then those of the manifest that it lacks. */
static hd_status write_seed(hd_pg *pg, const hd_catalog *c)
{
	hd_status st;
	hd_pg_form form;
	bool rise = ids_rise(c);
	const char *position = all_placed(c) ? "DOUBLE PRECISION NOT NULL" : "DOUBLE PRECISION";
	HD_TRY(hd_pg_form_open(&form, c));
	HD_TRY(hd_pg_form_add(&form, "id", "SERIAL PRIMARY KEY", rise ? HD_COLUMN_ID : HD_PG_OUT_ROW));
	HD_TRY(hd_pg_form_add(
	        &form, "session_id", all_are(c, HD_COLUMN_SESSION, is_uuid) ? "UUID" : "TEXT", HD_COLUMN_SESSION));
	HD_TRY(hd_pg_form_add(&form, "websdr_id", all_are(c, HD_COLUMN_RECEIVER, is_integer) ? "INTEGER" : "TEXT",
	        HD_COLUMN_RECEIVER));
	HD_TRY(hd_pg_form_add(&form, "latitude", position, HD_COLUMN_LATITUDE));
	HD_TRY(hd_pg_form_add(&form, "longitude", position, HD_COLUMN_LONGITUDE));
	HD_TRY(hd_pg_form_add(&form, "frequency_mhz", "DOUBLE PRECISION", HD_COLUMN_FREQUENCY_MHZ));
	HD_TRY(hd_pg_form_add(&form, "snr_db", "DOUBLE PRECISION", HD_COLUMN_SNR_DB));
	HD_TRY(hd_pg_form_add(&form, "timestamp", "TIMESTAMPTZ", HD_COLUMN_TIMESTAMP));
	HD_TRY(hd_pg_form_add(&form, "created_at", "TIMESTAMPTZ", HD_PG_OUT_NOW));
	HD_TRY(hd_pg_form_add(&form, "iq", "TEXT", HD_COLUMN_IQ));
	HD_TRY(hd_pg_form_add(&form, "sample_rate", "DOUBLE PRECISION", HD_COLUMN_SAMPLE_RATE));
	HD_TRY(hd_pg_form_add(&form, "label_sigma_m", "DOUBLE PRECISION", HD_COLUMN_LABEL_SIGMA));
	HD_TRY(hd_pg_form_add(&form, "approved", "BOOLEAN", HD_COLUMN_APPROVED));
	HD_TRY(hd_pg_form_add(&form, "source", "TEXT", HD_COLUMN_SOURCE));
	if (!rise)
		HD_TRY(hd_pg_form_add(&form, "recording_id", "TEXT", HD_COLUMN_ID));
	HD_TRY(hd_pg_form_add_rest(&form));
	HD_TRY(hd_pg_write_table(pg, "measurements", form.columns, form.count, NULL, c->count, hd_pg_form_cell, &form));
	/* rows that are added by others get the next numbers */
	HD_TRY(hd_pg_run(pg, "SELECT setval(pg_get_serial_sequence('measurements', 'id'), max(id)) FROM measurements"));
done:
	hd_pg_form_close(&form);
	return st;
}

hd_status hd_postgres_write(const char *url, bool deployed, const hd_catalog *catalog)
{
	hd_status st;
	hd_pg pg = {0};
	HD_TRY(hd_pg_open(&pg, url, false));
	HD_TRY(hd_pg_run(&pg, "BEGIN"));
	HD_TRY(deployed ? hd_pg_write_deployed(&pg, catalog) : write_seed(&pg, catalog));
	HD_TRY(hd_pg_run(&pg, "COMMIT"));
done:
	hd_pg_close(&pg);
	return st;
}
