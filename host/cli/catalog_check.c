/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cli/catalog_check.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "host/common/file.h"
#include "host/common/first_error.h"
#include "host/common/memory.h"
#include "host/common/redact.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/data/fetch.h"
#include "host/report/health_picture.h"

/* One file to read: a recording of the catalogue, or a file with any number of rows. */
typedef struct source {
	const char *path;
	const hd_recording *recording; /* NULL: a file by itself */
	hd_expectation expected;
	char *name;       /* owned; of the rows, where there is one */
	char **row_names; /* owned; where there are several */
	hd_checked *rows; /* owned */
	int64_t row_count;
} source;

typedef struct job {
	const hd_settings *settings;
	hd_raw_format raw;
	hd_store *store;
	source *sources;
	size_t count;
	hd_check check;
	size_t *origin; /* source of each row of check */
} job;

static void close_job(job *j)
{
	for (size_t i = 0; i < j->check.count; i++)
		hd_notes_free(&j->check.rows[i].notes);
	for (size_t i = 0; j->sources && i < j->count; i++) {
		source *s = &j->sources[i];
		/* until they are collected the rows own their notes */
		for (int64_t r = 0; s->rows && r < s->row_count; r++)
			hd_notes_free(&s->rows[r].notes);
		for (int64_t r = 0; s->row_names && r < s->row_count; r++)
			free(s->row_names[r]);
		free(s->row_names);
		free(s->rows);
		free(s->name);
	}
	free(j->check.receivers);
	free(j->check.rows);
	free(j->origin);
	free(j->sources);
}

/* ---- reading ---- */

static hd_status name_rows(source *s)
{
	hd_status st;
	if (s->row_count < 2)
		return HD_OK;
	HD_TRY(hd_alloc(&s->row_names, (size_t)s->row_count, sizeof *s->row_names));
	for (int64_t r = 0; r < s->row_count; r++)
		HD_TRY(hd_sprintf(&s->row_names[r], "%s#%lld", s->name, (long long)r));
done:
	return st;
}

static hd_status note_unreadable(source *s)
{
	hd_status st = hd_alloc(&s->rows, 1, sizeof *s->rows);
	if (st != HD_OK)
		return st;
	s->row_count = 1;
	s->rows[0] = (hd_checked){.recording = s->recording, .name = s->name};
	return hd_notes_add(&s->rows[0].notes, HD_FOUND_UNREADABLE, "unreadable: %s", hd_error_text());
}

static hd_status measure_rows(source *s, const hd_iq *iq, const hd_iq_info *info)
{
	hd_status st;
	bool one = s->recording != NULL;
	s->row_count = one ? 1 : iq->rows;
	HD_TRY(hd_alloc(&s->rows, (size_t)s->row_count, sizeof *s->rows));
	HD_TRY(name_rows(s));
	for (int64_t r = 0; r < s->row_count; r++) {
		hd_checked *c = &s->rows[r];
		*c = (hd_checked){
		        .recording = s->recording, .name = s->row_names ? s->row_names[r] : s->name, .info = *info};
		if (one && iq->rows > 1) {
			HD_TRY(hd_notes_add(&c->notes, HD_FOUND_ROWS,
			        "%lld rows in the file; name one as %s#0 .. #%lld", (long long)iq->rows, s->name,
			        (long long)iq->rows - 1));
			continue;
		}
		HD_TRY(hd_health_measure(&c->health, iq, r, hd_health_rate_hz(info, &s->expected)));
		c->read = true;
		HD_TRY(hd_health_judge(&c->notes, &c->health, info, &s->expected));
	}
done:
	return st;
}

static hd_status check_source(source *s, hd_raw_format raw, hd_store *store)
{
	hd_iq iq = {0};
	hd_iq_info info;
	hd_status st = hd_fetch_iq(&iq, &info, store, s->path, raw);
	if (st == HD_E_DATA || st == HD_E_IO)
		return note_unreadable(s);
	if (st == HD_OK)
		st = measure_rows(s, &iq, &info);
	hd_iq_free(&iq);
	return st;
}

static hd_status check_sources(job *j, int workers)
{
	int64_t done = 0;
	hd_first_error error = {HD_OK};
	hd_progress *bar = hd_progress_start("check", "recording", (int64_t)j->count);
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers)
	for (size_t i = 0; i < j->count; i++) {
		hd_first_error_note(&error, hd_stop_requested()
		                                    ? hd_fail(HD_E_INTERRUPTED, "interrupted; nothing was written")
		                                    : check_source(&j->sources[i], j->raw, j->store));
		int64_t ended;
#pragma omp atomic capture
		ended = ++done;
		hd_progress_update(bar, ended, NULL);
	}
	hd_progress_end(bar);
	return hd_first_error_take(&error);
}

/* Moves the rows of all sources into one list. */
static hd_status collect(job *j)
{
	hd_status st;
	size_t n = 0;
	for (size_t i = 0; i < j->count; i++)
		n += (size_t)j->sources[i].row_count;
	HD_TRY(hd_grow(&j->check.rows, &j->check.capacity, n, sizeof *j->check.rows));
	HD_TRY(hd_alloc(&j->origin, n, sizeof *j->origin));
	for (size_t i = 0; i < j->count; i++) {
		for (int64_t r = 0; r < j->sources[i].row_count; r++) {
			j->origin[j->check.count] = i;
			j->check.rows[j->check.count++] = j->sources[i].rows[r];
			j->sources[i].rows[r].notes = (hd_notes){0};
		}
	}
done:
	return st;
}

static void count_rows(hd_check *check)
{
	for (size_t i = 0; i < check->count; i++) {
		const hd_notes *notes = &check->rows[i].notes;
		bool sick = hd_notes_sick(notes), suspect = false;
		for (size_t k = 0; k < notes->count; k++)
			suspect = suspect || hd_finding_severity(notes->list[k].finding) == HD_SUSPECT;
		check->sick += sick;
		check->suspect += suspect && !sick;
	}
}

/* ---- pictures ---- */

/* OUT/name.png with what cannot stand in a file's name replaced; without leading dots and folders up. */
static hd_status picture_path(char **out, const char *folder, const char *name)
{
	while (*name == '.' || *name == '/')
		name++;
	hd_status st = hd_sprintf(out, "%s/%s.png", folder, *name ? name : "recording");
	for (char *at = st == HD_OK ? *out + strlen(folder) + 1 : NULL; at && *at; at++)
		if (*at == '/' || *at == '\\' || *at == ':' || (unsigned char)*at < ' ')
			*at = '_';
	return st;
}

static hd_status draw_row(const job *j, size_t i)
{
	hd_status st;
	hd_iq iq = {0};
	char *path = NULL;
	const source *s = &j->sources[j->origin[i]];
	int64_t row = 0;
	for (size_t k = i; k > 0 && j->origin[k - 1] == j->origin[i]; k--)
		row++;
	HD_TRY(picture_path(&path, j->settings->out, j->check.rows[i].name));
	HD_TRY(hd_fetch_iq(&iq, NULL, j->store, s->path, j->raw));
	HD_TRY(hd_health_picture(path, &iq, row, &j->check.rows[i]));
done:
	free(path);
	hd_iq_free(&iq);
	return st;
}

static hd_status draw_all(const job *j)
{
	hd_status st;
	char *path = NULL;
	bool catalog = j->check.catalog != NULL, drawn = false;
	size_t pictures = 0, more = 0;
	HD_TRY(hd_make_folders(j->settings->out));
	for (size_t i = 0; i < j->check.count && !hd_stop_requested(); i++) {
		const hd_checked *c = &j->check.rows[i];
		if (!c->read || (catalog && !hd_notes_sick(&c->notes)))
			continue;
		if (catalog && pictures == HD_CHECK_PICTURES) {
			more++;
			continue;
		}
		if (!strcmp(j->sources[j->origin[i]].path, "-")) {
			hd_warn("standard input is read once: no picture of it");
			continue;
		}
		HD_TRY(draw_row(j, i));
		pictures++;
	}
	HD_TRY(hd_sprintf(&path, "%s/check.png", j->settings->out));
	if (catalog)
		HD_TRY(hd_receivers_picture(
		        &drawn, path, j->check.rows, j->check.count, j->check.receivers, j->check.receiver_count));
	hd_message("%zu pictures of recordings in %s%s", pictures, j->settings->out, drawn ? ", and check.png" : "");
	if (more)
		hd_message("%zu more sick recordings have no picture", more);
done:
	free(path);
	return st;
}

/* ---- what to check ---- */

static bool is_catalog(const char *path)
{
	struct stat info;
	const char *dot = strrchr(path, '.');
	return hd_is_database_url(path) || (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) ||
	       (dot && (!strcmp(dot, ".sqlite") || !strcmp(dot, ".db")));
}

/* Of a file by itself nothing is expected that was not asked for. */
static hd_expectation expectation(const hd_settings *s, bool in_catalog)
{
	bool rate = in_catalog || s->given[HD_SET_sample_rate] || s->resample > 0;
	return (hd_expectation){.configured_rate_hz = rate ? s->sample_rate : 0,
	        .resample = s->resample > 0,
	        .input_samples = s->frames * s->hop_length};
}

/* The recording's path without the catalogue's folder in front. */
static const char *short_name(const hd_catalog *catalog, const char *path)
{
	size_t length = strlen(catalog->path);
	while (length && catalog->path[length - 1] == '/')
		length--;
	return !strncmp(path, catalog->path, length) && path[length] == '/' && path[length + 1] ? path + length + 1
	                                                                                        : path;
}

static hd_status add_source(job *j, const char *path, const char *name, const hd_recording *recording)
{
	source *s = &j->sources[j->count];
	*s = (source){.path = path, .recording = recording, .expected = expectation(j->settings, recording != NULL)};
	j->count++;
	if (recording)
		s->expected.catalog_rate_hz = recording->sample_rate_hz;
	return hd_strdup(&s->name, name);
}

static hd_status list_catalog(job *j, const hd_catalog *catalog)
{
	hd_status st;
	HD_TRY(hd_alloc(&j->sources, catalog->count, sizeof *j->sources));
	for (size_t i = 0; i < catalog->count; i++) {
		const hd_recording *r = &catalog->recordings[i];
		if (r->skip == HD_SKIP_NOT_APPROVED || r->skip == HD_SKIP_FILTERED) {
			j->check.left_out++;
			continue;
		}
		HD_TRY(add_source(j, r->iq, short_name(catalog, r->iq), r));
		j->sources[j->count - 1].expected.zeros_are_missing = catalog->format == HD_CATALOG_ORIGINAL;
	}
	if (!j->count)
		st = hd_fail(HD_E_DATA, "%s: none of the %zu recordings is approved%s", catalog->path, catalog->count,
		        j->settings->where[0] ? " and matches --where" : "");
done:
	return st;
}

static hd_status list_files(job *j, const char **paths, int count)
{
	hd_status st;
	HD_TRY(hd_alloc(&j->sources, (size_t)count, sizeof *j->sources));
	for (int i = 0; i < count; i++)
		HD_TRY(add_source(j, paths[i], paths[i], NULL));
done:
	return st;
}

static hd_status choose(const char **catalog, const hd_settings *s, const char **paths, int count)
{
	int catalogs = 0;
	*catalog = NULL;
	for (int i = 0; i < count; i++) {
		if (!is_catalog(paths[i]))
			continue;
		*catalog = paths[i];
		catalogs++;
	}
	if (!count && s->data_dir[0])
		*catalog = s->data_dir;
	if (!count && !*catalog)
		return hd_fail(
		        HD_E_USAGE, "catalog check: name a catalogue (a folder or a .sqlite file) or recordings");
	if (catalogs > 1 || (catalogs && count > 1))
		return hd_fail(HD_E_USAGE,
		        "catalog check takes one catalogue or recordings, not both: %s is a catalogue", *catalog);
	return HD_OK;
}

hd_status hd_catalog_check(const hd_settings *settings, const char **paths, int count)
{
	hd_status st;
	hd_catalog catalog = {0};
	job j = {.settings = settings};
	const char *path;
	HD_TRY(choose(&path, settings, paths, count));
	j.raw = (hd_raw_format)hd_settings_choice("iq_format", settings->iq_format);
	HD_TRY(hd_fetch_open(&j.store, settings));
	if (path) {
		HD_TRY(hd_catalog_open(&catalog, path, true, settings));
		HD_TRY(hd_catalog_where(&catalog, settings->where));
		j.check.catalog = catalog.path;
		HD_TRY(list_catalog(&j, &catalog));
	} else {
		HD_TRY(list_files(&j, paths, count));
	}
	HD_TRY(check_sources(&j, settings->num_workers > 0 ? (int)settings->num_workers : omp_get_num_procs()));
	HD_TRY(collect(&j));
	HD_TRY(hd_health_compare(j.check.rows, j.check.count, (double)time(NULL)));
	count_rows(&j.check);
	HD_TRY(hd_health_receivers(&j.check.receivers, &j.check.receiver_count, j.check.rows, j.check.count));
	if (path)
		hd_check_print_catalog(stdout, &j.check);
	else
		hd_check_print_files(stdout, &j.check);
	HD_TRY(hd_check_write_json(settings->json, &j.check));
	if (settings->out[0])
		HD_TRY(draw_all(&j));
	if (j.check.sick)
		st = hd_fail(HD_E_DATA, "%zu of %zu recordings are sick", j.check.sick, j.check.count);
done:
	close_job(&j);
	hd_store_close(j.store);
	hd_catalog_free(&catalog);
	return st;
}
