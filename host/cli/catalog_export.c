/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall catalog export and import: a catalogue into another format, folder or database. */
#include "host/cli/catalog_export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/dataset.h"
#include "host/common/memory.h"
#include "host/common/redact.h"
#include "host/common/stop.h"
#include "host/data/catalog_rows.h"
#include "host/data/fetch.h"
#include "host/data/postgres.h"

const char *hd_cli_format_name(hd_catalog_format format)
{
	static const char *const names[] = {"folder", "sqlite", "original", "postgresql"};
	return names[format];
}

hd_status hd_cli_read_catalog(hd_catalog *out, const hd_settings *s, const char *path)
{
	hd_status st;
	char automatic[] = "auto";
	hd_settings reading = *s; /* its texts stay the original's */
	/* from one database to another the schema is that of the one that is written */
	if (hd_is_database_url(s->out))
		reading.schema = automatic;
	HD_TRY(hd_catalog_open(out, path, s->assume_approved, &reading));
	HD_TRY(hd_catalog_where(out, s->where));
done:
	if (st != HD_OK)
		hd_catalog_free(out);
	return st;
}

/* A database into SQLite passes by row after row: it need not fit into memory. */
static hd_status export_index(const hd_settings *s, const char *path)
{
	hd_status st;
	char *index = NULL;
	hd_pg_report report;
	const hd_pg_source source = {.schema = s->schema,
	        .query = s->query,
	        .iq_template = s->iq_template,
	        .iq_bucket = s->iq_bucket,
	        .assume_approved = s->assume_approved};
	HD_TRY(hd_catalog_new_folder(s->out));
	HD_TRY(hd_sprintf(&index, "%s/" HD_CATALOG_DATABASE, s->out));
	HD_TRY(hd_postgres_index(&report, index, path, &source));
	printf("%s: %lld recordings as sqlite\n", s->out, (long long)report.rows);
done:
	free(index);
	return st;
}

/* A URL to write to says the format by itself. */
static hd_status export_format(hd_catalog_format *out, const hd_settings *s)
{
	*out = (hd_catalog_format)hd_settings_choice("format", s->format);
	if (!s->out[0])
		return hd_fail(HD_E_USAGE, "catalog export DIR --out NEW: name the folder to write with --out");
	bool database = hd_is_database_url(s->out);
	if (database && s->given[HD_SET_format] && *out != HD_CATALOG_POSTGRESQL)
		return hd_fail(HD_E_USAGE, "--format %s: --out is a database's URL", s->format);
	if (!database && *out == HD_CATALOG_POSTGRESQL)
		return hd_fail(HD_E_USAGE, "--format postgresql: --out names the database, postgresql://...");
	if (database)
		*out = HD_CATALOG_POSTGRESQL;
	return HD_OK;
}

static hd_status export_to(const hd_settings *s, hd_catalog_format format, hd_catalog *catalog, hd_samples *samples)
{
	const hd_sample_config config = hd_sample_config_from(s);
	hd_store *store = NULL;
	hd_status st = format == HD_CATALOG_ORIGINAL ? hd_samples_build(samples, catalog, &config) : HD_OK;
	if (st == HD_OK)
		st = hd_fetch_open(&store, s);
	if (st != HD_OK)
		return st;
	hd_stop_begin();
	st = format == HD_CATALOG_POSTGRESQL ? hd_postgres_write(s->out, !strcmp(s->schema, "deployed"), catalog)
	                                     : hd_catalog_write(s->out, format, catalog, samples, store,
	                                               (hd_raw_format)hd_settings_choice("iq_format", s->iq_format));
	hd_stop_end();
	hd_store_close(store);
	return st;
}

hd_status hd_cli_catalog_export(const hd_settings *s, const char *path)
{
	hd_status st;
	hd_catalog catalog = {0};
	hd_samples samples = {0};
	hd_catalog_format format;
	char *out = NULL;
	HD_TRY(export_format(&format, s));
	if (format == HD_CATALOG_SQLITE && hd_is_database_url(path))
		return export_index(s, path);
	HD_TRY(hd_redact(&out, s->out));
	HD_TRY(hd_cli_read_catalog(&catalog, s, path));
	HD_TRY(export_to(s, format, &catalog, &samples));
	if (format == HD_CATALOG_ORIGINAL) {
		hd_catalog_print(stdout, &catalog, &samples, false);
		printf("%s: %zu emissions of %d receivers\n", out, samples.count, samples.R);
	} else {
		printf("%s: %zu recordings as %s\n", out, catalog.count, hd_cli_format_name(format));
	}
done:
	hd_samples_free(&samples);
	hd_catalog_free(&catalog);
	free(out);
	return st;
}
