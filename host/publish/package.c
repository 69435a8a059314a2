/* SPDX-License-Identifier: Apache-2.0 */
#include "host/publish/package.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/common/memory.h"
#include "host/common/text.h"

static const char *content_type(const char *name)
{
	static const char *const types[][2] = {{".json", "application/json"}, {".yaml", "application/yaml"},
	        {".md", "text/markdown; charset=utf-8"}, {".txt", "text/plain; charset=utf-8"},
	        {"MLmodel", "application/yaml"}};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (hd_ends_with(name, types[i][0]))
			return types[i][1];
	return "application/octet-stream";
}

static hd_status add(hd_package_file **out, hd_package *p, const char *name)
{
	hd_status st = hd_grow(&p->files, &p->capacity, p->count + 1, sizeof *p->files);
	if (st != HD_OK)
		return st;
	*out = &p->files[p->count++];
	(*out)->content_type = content_type(name);
	return hd_strdup(&(*out)->name, name);
}

hd_status hd_package_add_file(hd_package *p, const char *name, const char *path)
{
	hd_status st;
	hd_package_file *f = NULL;
	struct stat info;
	HD_TRY(add(&f, p, name));
	HD_TRY(hd_strdup(&f->path, path));
	if (stat(path, &info) != 0) {
		st = hd_fail(HD_E_IO, "%s: cannot open: %s", path, strerror(errno));
		goto done;
	}
	f->bytes = info.st_size;
	HD_TRY(hd_sha256_file(f->sha256, path));
done:
	return st;
}

hd_status hd_package_add_text(hd_package *p, const char *name, char *text)
{
	hd_package_file *f = NULL;
	if (!text)
		return hd_fail(HD_E_MEMORY, "out of host memory for %s", name);
	hd_status st = add(&f, p, name);
	if (st != HD_OK) {
		free(text);
		return st;
	}
	f->text = text;
	f->bytes = (int64_t)strlen(text);
	return hd_sha256(f->sha256, text, strlen(text));
}

const hd_package_file *hd_package_find(const hd_package *p, const char *name)
{
	for (size_t i = 0; i < p->count; i++)
		if (!strcmp(p->files[i].name, name))
			return &p->files[i];
	return NULL;
}

int64_t hd_package_bytes(const hd_package *p)
{
	int64_t bytes = 0;
	for (size_t i = 0; i < p->count; i++)
		bytes += p->files[i].bytes;
	return bytes;
}

hd_status hd_package_seal(hd_package *p, const json_t *head)
{
	json_t *manifest = json_copy((json_t *)head), *files = json_array();
	char *text = NULL;
	for (size_t i = 0; i < p->count; i++) {
		const hd_package_file *f = &p->files[i];
		json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "name", f->name, "bytes",
		                                     (json_int_t)f->bytes, "sha256", f->sha256));
	}
	/* appending fails only for lack of memory, and leaves the array short then */
	bool whole = manifest && json_array_size(files) == p->count && json_object_set(manifest, "files", files) == 0;
	char *json = whole ? json_dumps(manifest, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
	hd_status st = json ? hd_sprintf(&text, "%s\n", json)
	                    : hd_fail(HD_E_MEMORY, "out of host memory for " HD_PUBLISH_MANIFEST);
	free(json);
	json_decref(files);
	json_decref(manifest);
	free(p->manifest);
	p->manifest = text;
	return st;
}

void hd_package_free(hd_package *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count; i++) {
		free(p->files[i].name);
		free(p->files[i].path);
		free(p->files[i].text);
	}
	free(p->files);
	free(p->manifest);
	*p = (hd_package){0};
}

json_t *hd_publish_manifest_read(const char *text)
{
	json_t *manifest = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (json_is_object(manifest) && json_is_array(json_object_get(manifest, "files")))
		return manifest;
	json_decref(manifest);
	return NULL;
}

const char *hd_publish_manifest_sha256(const json_t *manifest, const char *name)
{
	size_t i;
	json_t *file;
	json_array_foreach(json_object_get(manifest, "files"), i, file)
	{
		const char *its = json_string_value(json_object_get(file, "name"));
		const char *sha256 = json_string_value(json_object_get(file, "sha256"));
		if (its && sha256 && !strcmp(its, name))
			return sha256;
	}
	return "";
}
