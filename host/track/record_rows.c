/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/record_rows.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/common/first_error.h"
#include "host/common/memory.h"
#include "host/common/redact.h"
#include "host/common/sha256.h"
#include "host/common/text.h"

#define BLOCK_ROWS 4096

const char *const hd_record_names[HD_RECORD_COLUMN_COUNT] = {
#define X(name, text) text,
        HD_RECORD_COLUMNS(X)
#undef X
};

/* Columns that are numbers of the recording, each in a text of the row's own. */
static const struct {
	hd_record_column to;
	hd_column from;
} numbers[] = {{HD_RECORD_LATITUDE, HD_COLUMN_LATITUDE}, {HD_RECORD_LONGITUDE, HD_COLUMN_LONGITUDE},
        {HD_RECORD_SAMPLE_RATE, HD_COLUMN_SAMPLE_RATE}, {HD_RECORD_FREQUENCY_MHZ, HD_COLUMN_FREQUENCY_MHZ}};

/* ---- one row ---- */

/* Columns of the catalogue's own in the order of their names, which is not that of the file; "" where it has none. */
static hd_status extra_text(char **out, const hd_recording *r)
{
	if (!r->extra)
		return hd_strdup(out, "");
	json_t *extra = hd_extra_load(r);
	*out = extra ? json_dumps(extra, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(extra);
	return *out ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the columns of %s", r->iq);
}

/* Of the texts, a line each; the time in seconds, which is the same in any way of writing it. */
static hd_status hash_row(char out[HD_RECORD_HASH_DIGITS + 1], const hd_record_row *row, const hd_recording *r)
{
	hd_status st;
	char sigma[HD_NUMBER_BYTES], snr[HD_NUMBER_BYTES], time[HD_NUMBER_BYTES], hex[HD_SHA256_HEX_BYTES];
	char *extra = NULL, *text = NULL;
	hd_number_format(sigma, r->label_sigma_m);
	hd_number_format(snr, r->snr_db);
	hd_number_format(time, r->timestamp_s);
	HD_TRY(extra_text(&extra, r));
	HD_TRY(hd_sprintf(&text, "%s\n%s\n%s\n%s\n%s\n%s\n%s\n%s\n%s", row->text[HD_RECORD_LATITUDE],
	        row->text[HD_RECORD_LONGITUDE], row->text[HD_RECORD_SAMPLE_RATE], row->text[HD_RECORD_FREQUENCY_MHZ],
	        sigma, snr, time, r->source ? r->source : "", extra));
	HD_TRY(hd_sha256(hex, text, strlen(text)));
	memcpy(out, hex, HD_RECORD_HASH_DIGITS);
	out[HD_RECORD_HASH_DIGITS] = 0;
done:
	free(text);
	free(extra);
	return st;
}

/* What the content is called, by whoever knows. */
static void find_version(hd_record_row *row, const hd_recording *r)
{
	char file[4096];
	int64_t line;
	struct stat info;
	row->version[0] = 0;
	row->text[HD_RECORD_VERSION] = r->version ? r->version : r->seen ? r->seen : row->version;
	if (r->version || r->seen || hd_behind_scheme(r->iq))
		return;
	row->is_file = true;
	hd_iq_split_row(file, &line, r->iq);
	if (stat(file, &info) == 0)
		snprintf(row->version, sizeof row->version, "%lld %lld.%09ld", (long long)info.st_size,
		        (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

static hd_status fill(hd_record_row *row, const hd_record_rows *rows, const hd_recording *r, hd_split split)
{
	hd_status st;
	*row = (hd_record_row){0};
	row->text[HD_RECORD_SESSION] = r->session;
	row->text[HD_RECORD_EMISSION] = r->emission;
	row->text[HD_RECORD_RECEIVER] = r->receiver;
	row->text[HD_RECORD_ID] = r->id;
	row->text[HD_RECORD_SPLIT] = hd_split_name((int)split);
	row->text[HD_RECORD_LEFT_OUT] = r->skip == HD_SKIP_NONE ? "" : hd_skip_text(r->skip);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		row->text[numbers[i].to] = hd_column_text(r, numbers[i].from, row->number[i]);
	row->text[HD_RECORD_IQ] = r->iq;
	if (!strncmp(r->iq, rows->folder, rows->base))
		row->text[HD_RECORD_IQ] += rows->base;
	if (hd_behind_scheme(r->iq)) {
		HD_TRY(hd_redact(&row->iq, r->iq));
		row->text[HD_RECORD_IQ] = row->iq;
	}
	find_version(row, r);
	HD_TRY(hash_row(row->hash, row, r));
	row->text[HD_RECORD_ROW] = row->hash;
done:
	return st;
}

/* ---- the walk ---- */

/* The folder that paths of a catalogue lie below: its own, or that of its file. */
static hd_status base_of(char **out, const hd_catalog *catalog)
{
	struct stat info;
	const char *slash = strrchr(catalog->path, '/');
	if (hd_behind_scheme(catalog->path) || (stat(catalog->path, &info) == 0 && S_ISDIR(info.st_mode)))
		return hd_sprintf(out, "%s/", catalog->path);
	return hd_sprintf(out, "%.*s/", slash ? (int)(slash - catalog->path) : 1, slash ? catalog->path : ".");
}

hd_status hd_record_rows_open(hd_record_rows *out, const hd_dataset *dataset)
{
	hd_status st;
	*out = (hd_record_rows){.dataset = dataset, .capacity = BLOCK_ROWS + (size_t)dataset->samples.R};
	HD_TRY(base_of(&out->folder, &dataset->catalog));
	out->base = strlen(out->folder);
	HD_TRY(hd_alloc(&out->rows, out->capacity, sizeof *out->rows));
	HD_TRY(hd_alloc(&out->recording, out->capacity, sizeof *out->recording));
	HD_TRY(hd_alloc(&out->split, out->capacity, sizeof *out->split));
done:
	if (st != HD_OK)
		hd_record_rows_close(out);
	return st;
}

static void drop_block(hd_record_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		free(rows->rows[i].iq);
	rows->count = rows->given = 0;
}

void hd_record_rows_close(hd_record_rows *rows)
{
	if (!rows)
		return;
	drop_block(rows);
	free(rows->split);
	free(rows->recording);
	free(rows->rows);
	free(rows->folder);
	*rows = (hd_record_rows){0};
}

/* Whole samples, as many as have room. */
static hd_status next_block(hd_record_rows *rows)
{
	const hd_samples *s = &rows->dataset->samples;
	hd_first_error error = {HD_OK};
	drop_block(rows);
	for (; rows->sample < s->count && rows->count < BLOCK_ROWS; rows->sample++) {
		const hd_sample *sample = &s->samples[rows->sample];
		for (int r = 0; r < s->R; r++) {
			if (sample->recording[r] < 0)
				continue;
			rows->recording[rows->count] = sample->recording[r];
			rows->split[rows->count++] = sample->split;
		}
	}
#pragma omp parallel for schedule(dynamic, 64)
	for (size_t i = 0; i < rows->count; i++)
		hd_first_error_note(
		        &error, fill(&rows->rows[i], rows, &rows->dataset->catalog.recordings[rows->recording[i]],
		                        rows->split[i]));
	return hd_first_error_take(&error);
}

static bool of_one_sample(const hd_record_row *a, const hd_record_row *b)
{
	return !strcmp(a->text[HD_RECORD_SESSION], b->text[HD_RECORD_SESSION]) &&
	       !strcmp(a->text[HD_RECORD_EMISSION], b->text[HD_RECORD_EMISSION]);
}

hd_status hd_record_rows_next(hd_record_rows *rows, const hd_record_row **out, size_t *count)
{
	hd_status st = HD_OK;
	*count = 0;
	if (rows->given == rows->count)
		HD_TRY(next_block(rows));
	*out = rows->rows + rows->given;
	while (rows->given < rows->count && of_one_sample(*out, &rows->rows[rows->given])) {
		rows->given++;
		(*count)++;
	}
done:
	return st;
}
