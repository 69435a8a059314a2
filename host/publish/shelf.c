/* SPDX-License-Identifier: Apache-2.0 */
/* Versions that are there: listed, promoted, rolled back. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/publish.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/settings_table.h"
#include "host/publish/model.h"
#include "host/publish/place.h"
#include "host/publish/registry.h"

typedef struct shelf {
	const hd_settings *settings;
	hd_place *place;
	hd_registry *registry; /* NULL: none, or one that knows no versions of this place */
	hd_place_list list;
	bool has_latest;
	hd_publish_version latest;
} shelf;

static void close_shelf(shelf *s)
{
	hd_place_list_free(&s->list);
	hd_registry_close(s->registry);
	hd_place_close(s->place);
}

static hd_status open_shelf(shelf *s, const hd_settings *settings)
{
	hd_status st;
	*s = (shelf){.settings = settings};
	HD_TRY(hd_registry_check_names(settings));
	HD_TRY(hd_place_open(&s->place, settings));
	HD_TRY(hd_place_versions(&s->list, s->place));
	if (s->place->s3)
		HD_TRY(hd_registry_open(&s->registry, settings));
done:
	return st;
}

/* ---- list ---- */

static json_t *row_of(const hd_place_version *v, const json_t *manifest, bool is_latest, const char *aliases)
{
	char text[HD_VERSION_BYTES];
	json_t *metrics = json_object_get(manifest, "metrics");
	return json_pack("{s:s, s:s, s:I, s:b, s:b, s:s, s:o}", "version", hd_publish_version_text(text, v->version),
	        "created", hd_json_text(manifest, "created"), "bytes", (json_int_t)v->bytes, "complete", v->complete,
	        "latest", is_latest, "aliases", aliases, "metrics",
	        json_is_object(metrics) ? json_incref(metrics) : json_object());
}

static void print_row(FILE *to, const json_t *row)
{
	const json_t *metrics = json_object_get(row, "metrics");
	const char *aliases = hd_json_text(row, "aliases");
	bool complete = json_is_true(json_object_get(row, "complete"));
	bool latest = json_is_true(json_object_get(row, "latest"));
	double errors[2] = {hd_publish_metric(metrics, "median_m"), hd_publish_metric(metrics, "mae_m")};
	fprintf(to, "%-12s %-10.10s %9.1f", hd_json_text(row, "version"), hd_json_text(row, "created"),
	        (double)json_integer_value(json_object_get(row, "bytes")) / 1e6);
	for (int i = 0; i < 2; i++) {
		if (isfinite(errors[i]))
			fprintf(to, " %9.0f", errors[i]);
		else
			fprintf(to, " %9s", "-");
	}
	const char *words[] = {complete ? "" : "incomplete", latest ? "latest" : "", aliases};
	const char *between = "  ";
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (!words[i][0])
			continue;
		fprintf(to, "%s%s", between, words[i]);
		between = ", ";
	}
	fputc('\n', to);
}

static hd_status aliases_of(char *out, size_t bytes, const shelf *s, const json_t *aliases, const hd_place_version *v)
{
	hd_status st = HD_OK;
	char text[HD_VERSION_BYTES], number[HD_REGISTRY_NUMBER], *source = NULL;
	out[0] = 0;
	if (!s->registry || !json_object_size(aliases))
		return HD_OK;
	HD_TRY(hd_sprintf(&source, "%s/%s", s->place->url, hd_publish_version_text(text, v->version)));
	HD_TRY(hd_registry_find(number, s->registry, source, NULL));
	snprintf(out, bytes, "%s", hd_json_text(aliases, number));
done:
	free(source);
	return st;
}

/* The registry's part is left out where it does not answer. */
static json_t *ask_aliases(const shelf *s)
{
	json_t *aliases = NULL;
	if (s->registry && hd_registry_aliases(&aliases, s->registry) != HD_OK)
		hd_warn("aliases are not known: %s", hd_error_text());
	return aliases;
}

hd_status hd_publish_list(FILE *to, const hd_settings *settings)
{
	hd_status st;
	shelf s;
	json_t *aliases = NULL, *manifest = NULL, *rows = json_array();
	char names[256], *text = NULL;
	HD_TRY(open_shelf(&s, settings));
	if (hd_place_latest(&s.has_latest, &s.latest, s.place) != HD_OK)
		hd_warn("%s", hd_error_text());
	aliases = ask_aliases(&s);
	fprintf(to, "%-12s %-10s %9s %9s %9s\n", s.list.count ? "version" : "no versions", "date", "MB", "median m",
	        "mean m");
	for (size_t i = 0; i < s.list.count; i++) {
		const hd_place_version *v = &s.list.versions[i];
		HD_TRY(hd_place_read_manifest(&text, s.place, v));
		manifest = hd_publish_manifest_read(text);
		free(text);
		text = NULL;
		HD_TRY(aliases_of(names, sizeof names, &s, aliases, v));
		json_t *row =
		        row_of(v, manifest, s.has_latest && !hd_publish_version_compare(v->version, s.latest), names);
		json_decref(manifest);
		manifest = NULL;
		HD_TRY(row ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the list"));
		print_row(to, row);
		json_array_append_new(rows, row);
	}
	if (settings->json[0])
		HD_TRY(hd_json_write(settings->json, rows, 17));
done:
	json_decref(manifest);
	json_decref(rows);
	json_decref(aliases);
	close_shelf(&s);
	return st;
}

/* ---- promote and rollback ---- */

/* `latest` goes with the alias that publishing gives; other aliases are the registry's alone. */
static bool goes_with_latest(const hd_settings *settings)
{
	return settings->latest && !strcmp(settings->alias, "staging");
}

/* The alias first, `latest` last, as publishing does it. */
static hd_status give(hd_published *out, shelf *s, hd_publish_version version)
{
	hd_status st;
	const hd_settings *settings = s->settings;
	snprintf(
	        out->version, sizeof out->version, "%s", hd_publish_version_text((char[HD_VERSION_BYTES]){0}, version));
	HD_TRY(hd_sprintf(&out->where, "%s/%s", s->place->url, out->version));
	out->was_there = true;
	if (s->registry) {
		HD_TRY(hd_registry_find(out->registered, s->registry, out->where, NULL));
		if (!out->registered[0]) {
			st = hd_fail(HD_E_FAILED,
			        "%s is not registered at %s; publish its model again, which registers it", out->where,
			        hd_registry_shown(s->registry));
			goto done;
		}
		HD_TRY(hd_registry_set_alias(s->registry, settings->alias, out->registered));
		hd_message("%s: alias '%s' is version %s, %s", hd_registry_shown(s->registry), settings->alias,
		        out->registered, out->version);
	}
	if (goes_with_latest(settings)) {
		HD_TRY(hd_place_move_latest(s->place, out->version));
		out->latest = true;
		hd_message("%s/" HD_PLACE_LATEST " is %s", s->place->url, out->version);
	} else if (!s->registry) {
		st = hd_fail(HD_E_USAGE, "alias '%s' is the registry's: name its server with --tracking_uri",
		        settings->alias);
	}
done:
	return st;
}

hd_status hd_publish_promote(hd_published *out, const hd_settings *settings)
{
	hd_status st;
	shelf s;
	hd_publish_version version;
	*out = (hd_published){0};
	if (!hd_publish_version_parse(&version, settings->promote, strlen(settings->promote)))
		return hd_fail(HD_E_USAGE, "promote '%s': write the version as v1.2.0", settings->promote);
	HD_TRY(open_shelf(&s, settings));
	const hd_place_version *there = hd_place_list_find(&s.list, version);
	if (!there || !there->complete) {
		st = hd_fail(HD_E_DATA, "%s/%s is %s; heimdall publish --list shows what there is", s.place->url,
		        settings->promote, there ? "not complete" : "not there");
		goto done;
	}
	HD_TRY(give(out, &s, version));
done:
	close_shelf(&s);
	return st;
}

/* The version that has what is rolled back. */
static hd_status current(hd_publish_version *out, shelf *s)
{
	hd_status st;
	char *source = NULL;
	bool known = false;
	if (goes_with_latest(s->settings)) {
		HD_TRY(hd_place_latest(&known, out, s->place));
	} else if (s->registry) {
		HD_TRY(hd_registry_source_of(&source, s->registry, s->settings->alias));
		known = hd_publish_version_of_url(out, source);
	}
	st = known ? HD_OK
	           : hd_fail(HD_E_DATA, "%s: no version has %s; --promote VERSION gives it", s->place->url,
	                     goes_with_latest(s->settings) ? "`latest`" : s->settings->alias);
done:
	free(source);
	return st;
}

hd_status hd_publish_rollback(hd_published *out, const hd_settings *settings)
{
	hd_status st;
	shelf s;
	hd_publish_version now = {0};
	char text[HD_VERSION_BYTES];
	const hd_place_version *before = NULL;
	*out = (hd_published){0};
	HD_TRY(open_shelf(&s, settings));
	HD_TRY(current(&now, &s));
	for (size_t i = 0; i < s.list.count && !before; i++) {
		const hd_place_version *v = &s.list.versions[i];
		before = v->complete && hd_publish_version_compare(v->version, now) < 0 ? v : NULL;
	}
	if (!before) {
		st = hd_fail(HD_E_DATA, "%s: no complete version comes before %s", s.place->url,
		        hd_publish_version_text(text, now));
		goto done;
	}
	HD_TRY(give(out, &s, before->version));
done:
	close_shelf(&s);
	return st;
}
