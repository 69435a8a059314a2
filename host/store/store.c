/* SPDX-License-Identifier: Apache-2.0 */
#include "host/store/store.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/text.h"
#include "host/store/object_cache.h"

struct hd_store {
	hd_s3_config config;  /* until the client is made, which takes it */
	hd_status configured; /* and, where it could not be found, why */
	char *why;
	char *folder;
	int64_t cache_bytes;
	pthread_mutex_t mutex; /* guards what follows until both are there */
	hd_s3 *s3;
	hd_object_cache *cache;
};

/* ---- open and close ---- */

static hd_status cache_folder(char **out, const char *given)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (given && *given)
		return hd_strdup(out, given);
	if (base && *base)
		return hd_sprintf(out, "%s/heimdall/objects", base);
	return hd_sprintf(out, "%s/.cache/heimdall/objects", home && *home ? home : "/tmp");
}

hd_status hd_store_open(hd_store **out, const hd_store_settings *settings)
{
	hd_status st;
	hd_store *s = NULL;
	*out = NULL;
	HD_TRY(hd_alloc(&s, 1, sizeof *s));
	pthread_mutex_init(&s->mutex, NULL);
	HD_TRY(cache_folder(&s->folder, settings->cache_folder));
	s->cache_bytes = settings->cache_bytes ? settings->cache_bytes : HD_STORE_CACHE_BYTES;
	/* settings are borrowed, so that they are looked at here; what is wrong with them matters with the first s3://
	 */
	s->configured = hd_s3_config_resolve(&s->config, &settings->flags, &settings->file);
	if (s->configured != HD_OK)
		HD_TRY(hd_strdup(&s->why, hd_error_text()));
	s->config.stop = settings->stop;
	*out = s;
	s = NULL;
done:
	hd_store_close(s);
	return st;
}

void hd_store_close(hd_store *s)
{
	if (!s)
		return;
	hd_object_cache_close(s->cache);
	hd_s3_close(s->s3);
	hd_s3_config_free(&s->config);
	pthread_mutex_destroy(&s->mutex);
	free(s->folder);
	free(s->why);
	free(s);
}

static hd_status connect_s3(hd_store *s)
{
	hd_status st = HD_OK;
	pthread_mutex_lock(&s->mutex);
	if (s->configured != HD_OK)
		st = hd_fail(s->configured, "%s", s->why);
	else if (!s->s3)
		st = hd_s3_open(&s->s3, &s->config);
	if (st == HD_OK && !s->cache)
		st = hd_object_cache_open(&s->cache, s->folder, s->cache_bytes);
	pthread_mutex_unlock(&s->mutex);
	return st;
}

hd_status hd_store_s3(hd_s3 **out, hd_store *s)
{
	hd_status st = connect_s3(s);
	*out = st == HD_OK ? s->s3 : NULL;
	return st;
}

/* ---- locations ---- */

bool hd_store_is_url(const char *location)
{
	return hd_s3_is_url(location) || !strncasecmp(location, "file://", 7);
}

/* "file:///a%20b" and "file://localhost/a%20b" are "/a b"; RFC 8089. */
static hd_status path_of(char **out, const char *location)
{
	if (strncasecmp(location, "file://", 7) != 0) {
		const char *rest = hd_behind_scheme(location);
		if (!rest)
			return hd_strdup(out, location);
		hd_fail(HD_E_UNSUPPORTED, "%.*s: locations are paths, file:// and s3:// URLs", (int)(rest - location),
		        location);
		return HD_E_UNSUPPORTED;
	}
	const char *path = location + 7;
	if (!strncasecmp(path, "localhost/", 10))
		path += 9;
	if (*path != '/') {
		hd_fail(HD_E_USAGE, "%s: a file:// URL has a whole path: file:///data/x.npy", location);
		return HD_E_USAGE;
	}
	char *decoded = curl_easy_unescape(NULL, path, 0, NULL);
	if (!decoded) {
		hd_fail(HD_E_MEMORY, "out of host memory");
		return HD_E_MEMORY;
	}
	hd_status st = hd_strdup(out, decoded);
	curl_free(decoded);
	return st;
}

/* ---- reading ---- */

/* A copy becomes a file to read. */
static hd_status hand_out(hd_store_file *out, hd_cached *copy)
{
	hd_status st;
	const char *etag = copy->etag;
	size_t n = strlen(etag);
	if (n >= 2 && etag[0] == '"' && etag[n - 1] == '"')
		HD_TRY(hd_sprintf(&out->version, "%.*s", (int)(n - 2), etag + 1));
	else
		HD_TRY(hd_strdup(&out->version, etag));
	out->path = copy->path;
	out->fd = copy->fd;
	copy->path = NULL;
	copy->fd = -1;
done:
	hd_cached_release(copy);
	return st;
}

static hd_status fetch_object(hd_store *s, hd_store_file *out, const hd_s3_url *url)
{
	hd_status st;
	bool unchanged;
	hd_s3_object object;
	hd_cached copy = {.fd = -1}, fresh = {.fd = -1};
	hd_caching making = {.fd = -1};
	hd_object_name name = {hd_s3_endpoint(s->s3), url->bucket, url->key};
	HD_TRY(hd_object_cache_find(s->cache, &copy, &name));
	HD_TRY(hd_object_cache_begin(s->cache, &making, &name));
	HD_TRY(hd_s3_get_fd(s->s3, &object, &unchanged, making.fd, making.path, url->bucket, url->key,
	        copy.path ? copy.etag : NULL));
	if (unchanged) {
		HD_TRY(hand_out(out, &copy));
	} else {
		HD_TRY(hd_object_cache_commit(&making, &fresh, object.etag));
		HD_TRY(hand_out(out, &fresh));
	}
done:
	hd_object_cache_drop(&making);
	hd_cached_release(&fresh);
	hd_cached_release(&copy);
	return st;
}

hd_status hd_store_fetch(hd_store *s, hd_store_file *out, const char *location)
{
	hd_status st;
	hd_s3_url url = {0};
	*out = (hd_store_file){.fd = -1};
	if (!hd_s3_is_url(location))
		return path_of(&out->path, location);
	HD_TRY(hd_s3_url_parse(&url, location));
	HD_TRY(connect_s3(s));
	HD_TRY(fetch_object(s, out, &url));
done:
	hd_s3_url_free(&url);
	if (st != HD_OK)
		hd_store_release(out);
	return st;
}

void hd_store_release(hd_store_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file->version);
	*file = (hd_store_file){.fd = -1};
}

/* ---- writing ---- */

static hd_status put_path(const char *to, const char *from, bool no_overwrite)
{
	hd_status st;
	const void *data = NULL;
	size_t bytes = 0;
	if (no_overwrite && access(to, F_OK) == 0)
		return hd_fail(HD_E_DATA, "%s: exists already", to);
	HD_TRY(hd_file_map(&data, &bytes, from));
	hd_span span = {data, bytes};
	HD_TRY(hd_file_write(to, &span, 1, true));
done:
	hd_file_unmap(data, bytes);
	return st;
}

hd_status hd_store_put(hd_store *s, const char *location, const char *path, bool no_overwrite)
{
	hd_status st;
	char *to = NULL;
	hd_s3_url url = {0};
	hd_s3_object object;
	hd_s3_put_options options = {.no_overwrite = no_overwrite};
	if (!hd_s3_is_url(location)) {
		HD_TRY(path_of(&to, location));
		HD_TRY(put_path(to, path, no_overwrite));
		goto done;
	}
	HD_TRY(hd_s3_url_parse(&url, location));
	HD_TRY(connect_s3(s));
	HD_TRY(hd_s3_put_file(s->s3, &object, url.bucket, url.key, path, &options));
done:
	hd_s3_url_free(&url);
	free(to);
	return st;
}
