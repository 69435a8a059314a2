/* SPDX-License-Identifier: Apache-2.0 */
/* Catalogues of the command line: read as the settings say, and written in another format. */
#ifndef HD_CLI_CATALOG_EXPORT_H
#define HD_CLI_CATALOG_EXPORT_H

#include "heimdall/catalog.h"
#include "heimdall/settings.h"

const char *hd_cli_format_name(hd_catalog_format format);

/* A catalogue with what --where leaves of it. */
hd_status hd_cli_read_catalog(hd_catalog *out, const hd_settings *settings, const char *path);

/*
 * The catalogue at path (a folder, a .sqlite file or a URL) to settings->out: a new folder in settings->format, or a
 * database, whose tables then have the form of settings->schema. From a database into SQLite rows pass by one page at
 * a time, without --where; everything else is held in memory.
 */
hd_status hd_cli_catalog_export(const hd_settings *settings, const char *path);

#endif
