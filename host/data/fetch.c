/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "host/common/memory.h"
#include "host/common/stop.h"
#include "host/data/iq_formats.h"

#define GIB ((double)(1 << 30))

/* A text that was given this way, else NULL. */
static const char *text_of(const hd_settings *s, hd_setting_index index, const char *value, bool from_file)
{
	bool here = s->given[index] && (s->given[index] == HD_GIVEN_FILE) == from_file;
	return here && value[0] ? value : NULL;
}

static hd_s3_settings s3_settings(const hd_settings *s, bool from_file)
{
	return (hd_s3_settings){.endpoint = text_of(s, HD_SET_s3_endpoint, s->s3_endpoint, from_file),
	        .region = text_of(s, HD_SET_s3_region, s->s3_region, from_file),
	        .style = text_of(s, HD_SET_s3_style, s->s3_style, from_file),
	        .profile = text_of(s, HD_SET_s3_profile, s->s3_profile, from_file),
	        .access_key = text_of(s, HD_SET_s3_access_key, s->s3_access_key, from_file),
	        .secret_key = text_of(s, HD_SET_s3_secret_key, s->s3_secret_key, from_file),
	        .anonymous = s->s3_anonymous};
}

hd_status hd_fetch_open(hd_store **out, const hd_settings *settings)
{
	return hd_fetch_open_with_stop(out, settings, hd_stop_requested);
}

hd_status hd_fetch_open_with_stop(hd_store **out, const hd_settings *settings, bool (*stop)(void))
{
	double bytes = settings->object_cache_gb * GIB;
	return hd_store_open(out, &(hd_store_settings){.flags = s3_settings(settings, false),
	                                  .file = s3_settings(settings, true),
	                                  .cache_folder = settings->object_cache[0] ? settings->object_cache : NULL,
	                                  /* 0 means the default there */
	                                  .cache_bytes = bytes < 1 ? 1 : (int64_t)bytes,
	                                  .stop = stop});
}

/* A URL without the row behind it; row: "#7", or "" where there is none. */
static hd_status split_url(char **object, const char **row, const char *url)
{
	const char *hash = strrchr(url, '#');
	bool has_row = hash && hash[1] && !hash[1 + strspn(hash + 1, "0123456789")];
	*row = has_row ? hash : url + strlen(url);
	return hd_sprintf(object, "%.*s", (int)(*row - url), url);
}

hd_status hd_fetch_iq(hd_iq *out, hd_iq_info *info, hd_store *store, const char *location, hd_raw_format raw)
{
	hd_status st;
	char *object = NULL, *path = NULL;
	const char *row, *dot;
	hd_store_file file = {.fd = -1};
	if (!store || !hd_store_is_url(location))
		return hd_iq_read(out, info, location, raw);
	HD_TRY(split_url(&object, &row, location));
	dot = strrchr(object, '.');
	if (dot && !strncasecmp(dot, ".sigmf-", 7) && hd_s3_is_url(object)) {
		st = hd_fail(
		        HD_E_UNSUPPORTED, "%s: SigMF is two files; copy them into a folder and name that", location);
		goto done;
	}
	HD_TRY(hd_store_fetch(store, &file, object));
	HD_TRY(hd_sprintf(&path, "%s%s", file.path, row));
	/* the copy's name has no ending */
	st = hd_iq_read(out, info, path, raw == HD_RAW_AUTO ? hd_raw_of_name(object) : raw);
	if (st != HD_OK)
		hd_context(st, "%s", location);
done:
	hd_store_release(&file);
	free(path);
	free(object);
	return st;
}

static hd_status file_version(char **out, hd_store *store, const char *url)
{
	struct stat info;
	hd_store_file file;
	hd_status st = hd_store_fetch(store, &file, url);
	if (st != HD_OK)
		return st;
	if (stat(file.path, &info) == 0)
		st = hd_sprintf(out, "%lld %lld.%09ld", (long long)info.st_size, (long long)info.st_mtim.tv_sec,
		        info.st_mtim.tv_nsec);
	else
		st = hd_fail(errno == ENOENT ? HD_E_DATA : HD_E_IO, "%s: %s", url, strerror(errno));
	hd_store_release(&file);
	return st;
}

static hd_status object_version(char **out, hd_store *store, const char *url)
{
	hd_status st;
	hd_s3 *s3;
	hd_s3_url parsed = {0};
	hd_s3_object found;
	HD_TRY(hd_s3_url_parse(&parsed, url));
	HD_TRY(hd_store_s3(&s3, store));
	HD_TRY(hd_s3_head(s3, &found, parsed.bucket, parsed.key));
	HD_TRY(hd_sprintf(out, "%s", found.etag));
done:
	hd_s3_url_free(&parsed);
	return st;
}

hd_status hd_fetch_version(char **out, hd_store *store, const char *location)
{
	char *url;
	const char *row;
	*out = NULL;
	hd_status st = split_url(&url, &row, location);
	if (st == HD_OK)
		st = hd_s3_is_url(url) ? object_version(out, store, url) : file_version(out, store, url);
	free(url);
	return st;
}
