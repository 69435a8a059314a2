/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever data_dir names: a catalogue that lies there as files, or a database. */
#include <stdlib.h>

#include "heimdall/dataset.h"
#include "host/common/memory.h"
#include "host/common/redact.h"
#include "host/data/postgres.h"

hd_status hd_catalog_open(hd_catalog *out, const char *path, bool assume_approved, const hd_settings *s)
{
	hd_status st;
	const hd_pg_source source = {.schema = s->schema,
	        .query = s->query,
	        .iq_template = s->iq_template,
	        .iq_bucket = s->iq_bucket,
	        .assume_approved = assume_approved};
	if (!hd_is_database_url(path))
		return hd_catalog_read(out, path, assume_approved);
	*out = (hd_catalog){.format = HD_CATALOG_POSTGRESQL};
	HD_TRY(hd_redact(&out->path, path));
	HD_TRY(hd_postgres_read(out, path, s->cache_dir[0] ? s->cache_dir : HD_CACHE_FOLDER, &source));
done:
	if (st != HD_OK)
		hd_catalog_free(out);
	return st;
}
