/* SPDX-License-Identifier: Apache-2.0 */
/* Which version a model becomes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/publish/job.h"
#include "host/publish/propose.h"

/* ---- what is there of this model ---- */

/* Whether a manifest's version has this very model, whose metadata hold its settings too. */
static bool is_this_model(const hd_publish_job *j, const json_t *manifest)
{
	bool same = manifest != NULL;
	for (size_t i = 0; same && i < j->fixed; i++) {
		const hd_package_file *f = &j->package.files[i];
		if (f->path)
			same = !strcmp(hd_publish_manifest_sha256(manifest, f->name), f->sha256);
	}
	return same;
}

/*
 * Looks at one version: *complete where it is this model's and whole, *begun where its claim is what this call would
 * write. Both leave the job's texts written for it.
 */
static hd_status look(hd_publish_job *j, const hd_place_version *v, bool *complete, bool *begun)
{
	hd_status st = HD_OK;
	char name[HD_VERSION_BYTES], *text = NULL;
	json_t *manifest = NULL;
	*complete = *begun = false;
	HD_TRY(hd_place_read_manifest(&text, j->place, v));
	manifest = hd_publish_manifest_read(text);
	const char *created = json_string_value(json_object_get(manifest, "created"));
	if (!is_this_model(j, manifest) || !created || strlen(created) + 1 > sizeof j->created)
		goto done;
	HD_TRY(hd_publish_write_texts(j, v->version, created));
	*complete = v->complete;
	*begun = !v->complete && !strcmp(text, j->package.manifest);
	if (!*complete && !*begun)
		hd_message("%s: begun with this model and other files beside it; it stays as it is",
		        hd_publish_version_text(name, v->version));
done:
	json_decref(manifest);
	free(text);
	return st;
}

static void take(hd_publish_job *j, hd_publish_version version, bool complete, bool begun)
{
	j->version = version;
	hd_publish_version_text(j->text, version);
	j->complete = complete;
	j->begun = begun;
}

/* Versions from the highest down: in the end few hold one model, and mostly the newest. */
static hd_status find_own(bool *found, hd_publish_job *j)
{
	*found = false;
	for (size_t i = 0; i < j->list.count && !*found; i++) {
		bool complete, begun;
		hd_status st = look(j, &j->list.versions[i], &complete, &begun);
		if (st != HD_OK)
			return st;
		*found = complete || begun;
		if (*found)
			take(j, j->list.versions[i].version, complete, begun);
	}
	return HD_OK;
}

/* ---- a new one ---- */

static hd_publish_version next_free(const hd_publish_job *j, hd_publish_version version)
{
	while (hd_place_list_find(&j->list, version))
		version = hd_publish_version_next(version, HD_BUMP_PATCH);
	return version;
}

hd_status hd_publish_taken(const hd_publish_job *j, hd_publish_version version)
{
	char its[HD_VERSION_BYTES], next[HD_VERSION_BYTES];
	hd_publish_version_text(its, version);
	hd_publish_version_text(next, next_free(j, hd_publish_version_next(version, HD_BUMP_PATCH)));
	return hd_fail(HD_E_USAGE, "%s/%s is another model's, and no version is written twice; %s is free",
	        j->place->url, its, next);
}

/* What raises which number, beside a published version. One that cannot be read is taken for all different. */
static hd_status compare(hd_bump *bump, char **why, hd_publish_job *j, const char *newest)
{
	hd_status st;
	char *yaml = NULL, *text = NULL;
	hd_settings old = {0};
	json_t *manifest = NULL;
	HD_TRY(hd_place_read(&yaml, j->place, newest, HD_PUBLISH_CONFIG));
	HD_TRY(hd_place_read(&text, j->place, newest, HD_PUBLISH_MANIFEST));
	manifest = hd_publish_manifest_read(text);
	HD_TRY(hd_settings_init(&old));
	st = yaml ? hd_settings_read_yaml_text(&old, yaml, HD_PUBLISH_CONFIG) : hd_fail(HD_E_USAGE, "is not there");
	if (st == HD_E_USAGE) {
		hd_warn("%s/%s/" HD_PUBLISH_CONFIG ": %s", j->place->url, newest, hd_error_text());
		*bump = HD_BUMP_MAJOR;
		HD_TRY(hd_sprintf(why, "the settings of %s cannot be read", newest));
		goto done;
	}
	HD_TRY(st);
	HD_TRY(hd_publish_compare(
	        bump, why, &old, json_object_get(manifest, "interface"), &j->model.settings, j->interface));
done:
	json_decref(manifest);
	hd_settings_free(&old);
	free(text);
	free(yaml);
	return st;
}

static hd_status propose(hd_publish_job *j)
{
	hd_status st = HD_OK;
	char newest[HD_VERSION_BYTES], *why = NULL;
	const hd_place_version *base = NULL;
	hd_bump bump;
	for (size_t i = 0; i < j->list.count && !base; i++)
		base = j->list.versions[i].complete ? &j->list.versions[i] : NULL;
	if (!base) {
		take(j, next_free(j, (hd_publish_version){1, 0, 0}), false, false);
		hd_message("%s: the first version at %s", j->text, j->place->url);
		return HD_OK;
	}
	HD_TRY(compare(&bump, &why, j, hd_publish_version_text(newest, base->version)));
	take(j, next_free(j, hd_publish_version_next(base->version, bump)), false, false);
	hd_message("%s, after %s: %s", j->text, newest, why);
done:
	free(why);
	return st;
}

/* The version that was asked for. */
static hd_status by_hand(hd_publish_job *j, hd_publish_version version)
{
	hd_status st = HD_OK;
	bool complete = false, begun = false;
	const hd_place_version *there = hd_place_list_find(&j->list, version);
	if (there)
		HD_TRY(look(j, there, &complete, &begun));
	if (there && !complete && !begun)
		st = hd_publish_taken(j, version);
	else
		take(j, version, complete, begun);
done:
	return st;
}

hd_status hd_publish_choose(hd_publish_job *j)
{
	hd_status st;
	const char *wanted = j->settings->model_version;
	hd_publish_version version;
	time_t now = time(NULL);
	struct tm utc;
	bool found = false;
	if (wanted[0] && !hd_publish_version_parse(&version, wanted, strlen(wanted)))
		return hd_fail(HD_E_USAGE, "model_version '%s': write it as v1.2.0", wanted);
	hd_place_list_free(&j->list);
	HD_TRY(hd_place_versions(&j->list, j->place));
	if (wanted[0])
		HD_TRY(by_hand(j, version));
	else
		HD_TRY(find_own(&found, j));
	if (!wanted[0] && !found)
		HD_TRY(propose(j));
	if (j->complete) {
		hd_message("%s/%s: this model is there already", j->place->url, j->text);
	} else if (j->begun) {
		hd_message("%s/%s: was begun with this model and goes on", j->place->url, j->text);
	} else {
		strftime(j->created, sizeof j->created, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
		HD_TRY(hd_publish_write_texts(j, j->version, j->created));
	}
done:
	return st;
}
