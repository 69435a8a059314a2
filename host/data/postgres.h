/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catalogues in PostgreSQL, by URL: read into an SQLite index, from which everything goes on as from a .sqlite file,
 * and written as tables of the seed's or the deployed system's form. Plain SQL: PostgreSQL 11 and newer, TimescaleDB's
 * hypertables as any table.
 */
#ifndef HD_DATA_POSTGRES_H
#define HD_DATA_POSTGRES_H

#include "heimdall/catalog.h"
#include "host/data/postgres_plan.h"

typedef struct hd_pg_report {
	int64_t rows;
	int64_t pages_changed, rows_added, rows_removed; /* of pages that were read before the change */
	int64_t keyless;                                 /* rows of a query without an id, which cannot be read */
} hd_pg_report;

/*
 * Reads every row up to the highest key there is now into the SQLite file `index` (table `recordings` with the
 * manifest's columns that the database fills), in pages by key, in memory that does not depend on the number of
 * rows. A lost connection is made again and the reading goes on behind the last page; a process that ends leaves
 * index.part, with which the next one for the same URL, preset and columns goes on.
 *
 * Afterwards each page's rows are counted and hashed again, by the server: what was inserted, deleted or changed in
 * a page behind the reader's back is reported (out_report and a warning), not read again. Positions that cannot be
 * used are counted by reason on stderr and kept as they are.
 */
hd_status hd_postgres_index(hd_pg_report *out_report, const char *index, const char *url, const hd_pg_source *source);

/*
 * Reads a catalogue through an index in `folder` (made where missing). out->path is the URL without its password.
 * The caller frees out, also after a failure.
 */
hd_status hd_postgres_read(hd_catalog *out, const char *url, const char *folder, const hd_pg_source *source);

/*
 * Writes a catalogue into new tables of a database, all of it or nothing: `measurements` in the first schema of the
 * search_path (seed), or schema heimdall's measurements, recording_sessions, known_sources and websdr_stations
 * (deployed). Columns that the form lacks are added where recordings fill them. HD_E_USAGE where the tables are
 * there; HD_E_DATA for a catalogue that the deployed form cannot hold, with the recording.
 */
hd_status hd_postgres_write(const char *url, bool deployed, const hd_catalog *catalog);

#endif
