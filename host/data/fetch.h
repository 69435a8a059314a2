/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recordings wherever they are: a path, a file:// or an s3:// URL, with "#row" behind it where a file holds several.
 * What is far comes into a cache on disk first (host/store/store.h). Thread-safe.
 */
#ifndef HD_DATA_FETCH_H
#define HD_DATA_FETCH_H

#include "heimdall/iq.h"
#include "heimdall/settings.h"
#include "host/store/store.h"

/* A store by the settings of group store: flags before the environment's AWS_ names, a configuration file behind them.
 */
hd_status hd_fetch_open(hd_store **out, const hd_settings *settings);

/* The same with another question than hd_stop_requested asked during transfers; NULL: none. */
hd_status hd_fetch_open_with_stop(hd_store **out, const hd_settings *settings, bool (*stop)(void));

/* hd_iq_read of any location. Of a URL a trailing "#7" is a row, never part of the key. store NULL: paths alone. */
hd_status hd_fetch_iq(hd_iq *out, hd_iq_info *info, hd_store *store, const char *location, hd_raw_format raw);

/*
 * The version of what a URL names, new text, without reading it: an object's ETag, a file's size and time. HD_E_DATA
 * where it is not there.
 */
hd_status hd_fetch_version(char **out, hd_store *store, const char *location);

#endif
