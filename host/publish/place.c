/* SPDX-License-Identifier: Apache-2.0 */
#include "host/publish/place.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/common/text.h"
#include "host/data/fetch.h"

/* ---- opening ---- */

static hd_status open_s3(hd_place *p, const char *uri)
{
	hd_status st;
	hd_s3_url url = {0};
	HD_TRY(hd_s3_url_parse(&url, uri));
	size_t length = strlen(url.key);
	while (length && url.key[length - 1] == '/')
		length--;
	HD_TRY(hd_strdup(&p->bucket, url.bucket));
	HD_TRY(hd_sprintf(&p->prefix, "%.*s%s", (int)length, url.key, length ? "/" : ""));
	HD_TRY(hd_sprintf(&p->url, "s3://%s%s%.*s", url.bucket, length ? "/" : "", (int)length, url.key));
	HD_TRY(hd_store_s3(&p->s3, p->store));
	p->kind = &hd_place_s3;
done:
	hd_s3_url_free(&url);
	return st;
}

static hd_status open_folder(hd_place *p, const char *uri)
{
	hd_status st;
	hd_store_file file = {.fd = -1};
	char here[PATH_MAX] = "";
	HD_TRY(hd_store_fetch(p->store, &file, uri)); /* the path that a file:// URL means */
	if (file.path[0] != '/' && !getcwd(here, sizeof here)) {
		st = hd_fail(HD_E_IO, "cannot tell the working directory");
		goto done;
	}
	HD_TRY(hd_sprintf(&p->folder, "%s%s%s", here, here[0] ? "/" : "", file.path));
	for (size_t n = strlen(p->folder); n > 1 && p->folder[n - 1] == '/'; n--)
		p->folder[n - 1] = 0;
	HD_TRY(hd_sprintf(&p->url, "file://%s", p->folder));
	p->kind = &hd_place_folder;
done:
	hd_store_release(&file);
	return st;
}

hd_status hd_place_open(hd_place **out, const hd_settings *settings)
{
	hd_status st;
	const char *uri = settings->models_uri;
	hd_place *p = NULL;
	*out = NULL;
	if (!uri[0] || (hd_behind_scheme(uri) && !hd_store_is_url(uri)))
		return hd_fail(HD_E_USAGE,
		        "models_uri '%s': versions lie in s3://BUCKET[/PREFIX], file://FOLDER or a folder", uri);
	HD_TRY(hd_alloc(&p, 1, sizeof *p));
	p->lock = -1;
	HD_TRY(hd_fetch_open(&p->store, settings));
	HD_TRY(hd_s3_is_url(uri) ? open_s3(p, uri) : open_folder(p, uri));
	*out = p;
	p = NULL;
done:
	hd_place_close(p);
	return st;
}

void hd_place_close(hd_place *p)
{
	if (!p)
		return;
	if (p->kind && p->kind->close)
		p->kind->close(p);
	hd_store_close(p->store);
	free(p->staging);
	free(p->folder);
	free(p->prefix);
	free(p->bucket);
	free(p->url);
	free(p);
}

/* ---- versions ---- */

const hd_place_version *hd_place_list_find(const hd_place_list *list, hd_publish_version version)
{
	for (size_t i = 0; i < list->count; i++)
		if (!hd_publish_version_compare(list->versions[i].version, version))
			return &list->versions[i];
	return NULL;
}

hd_status hd_place_note(hd_place_list *list, const char *name, int64_t bytes)
{
	hd_publish_version version;
	const char *slash = strchr(name, '/');
	if (!slash || !hd_publish_version_parse(&version, name, (size_t)(slash - name)))
		return HD_OK;
	hd_place_version *v = (hd_place_version *)hd_place_list_find(list, version);
	if (!v) {
		hd_status st = hd_grow(&list->versions, &list->capacity, list->count + 1, sizeof *list->versions);
		if (st != HD_OK)
			return st;
		v = &list->versions[list->count++];
		v->version = version;
	}
	v->complete = v->complete || !strcmp(slash + 1, HD_PUBLISH_MANIFEST);
	v->claimed = v->claimed || !strcmp(slash + 1, HD_PUBLISH_CLAIM);
	v->bytes += bytes;
	return HD_OK;
}

static int highest_first(const void *a, const void *b)
{
	return hd_publish_version_compare(
	        ((const hd_place_version *)b)->version, ((const hd_place_version *)a)->version);
}

hd_status hd_place_versions(hd_place_list *out, hd_place *place)
{
	*out = (hd_place_list){0};
	hd_status st = place->kind->list(out, place);
	if (st != HD_OK)
		hd_place_list_free(out);
	else if (out->count)
		qsort(out->versions, out->count, sizeof *out->versions, highest_first);
	return st;
}

void hd_place_list_free(hd_place_list *list)
{
	if (!list)
		return;
	free(list->versions);
	*list = (hd_place_list){0};
}

hd_status hd_place_read(char **out, hd_place *place, const char *version, const char *name)
{
	char *path = NULL;
	*out = NULL;
	hd_status st = hd_sprintf(&path, "%s/%s", version, name);
	if (st == HD_OK)
		st = place->kind->read(out, place, path);
	free(path);
	return st;
}

hd_status hd_place_read_manifest(char **out, hd_place *place, const hd_place_version *v)
{
	char text[HD_VERSION_BYTES];
	*out = NULL;
	if (!v->complete && !v->claimed)
		return HD_OK;
	return hd_place_read(out, place, hd_publish_version_text(text, v->version),
	        v->complete ? HD_PUBLISH_MANIFEST : HD_PUBLISH_CLAIM);
}

/* ---- latest ---- */

hd_status hd_place_latest(bool *there, hd_publish_version *out, hd_place *place)
{
	char *text = NULL;
	*there = false;
	hd_status st = place->kind->latest(&text, place);
	if (st != HD_OK || !text)
		return st;
	size_t length = strcspn(text, "\r\n");
	*there = hd_publish_version_parse(out, text, length);
	if (!*there)
		st = hd_fail(HD_E_DATA,
		        "%s/" HD_PLACE_LATEST " says '%.*s', which is no version; --promote VERSION sets it",
		        place->url, (int)(length < 60 ? length : 60), text);
	free(text);
	return st;
}

hd_status hd_place_move_latest(hd_place *place, const char *version)
{
	return place->kind->move_latest(place, version);
}

/* ---- writing ---- */

hd_status hd_place_put(bool *taken, hd_place *place, const char *version, const hd_package *package)
{
	hd_status st;
	HD_TRY(place->kind->begin(taken, place, version, package->manifest));
	for (size_t i = 0; !*taken && i < package->count; i++) {
		if (hd_stop_requested()) {
			st = hd_fail(HD_E_INTERRUPTED, "%s/%s is not complete; run the same command again", place->url,
			        version);
			goto done;
		}
		HD_TRY(place->kind->put(taken, place, version, &package->files[i]));
	}
	if (!*taken)
		HD_TRY(place->kind->finish(taken, place, version, package->manifest));
done:
	return st;
}

hd_status hd_place_tidy(hd_place *place, const char *version)
{
	return place->kind->tidy ? place->kind->tidy(place, version) : HD_OK;
}
