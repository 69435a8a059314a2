/* SPDX-License-Identifier: Apache-2.0 */
/* Publishing from end to end. Order is what keeps it whole: the version, its registration, and `latest` last of all. */
#include "heimdall/publish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/export/onnx_model.h"
#include "host/publish/describe.h"
#include "host/publish/job.h"
#include "host/publish/propose.h"

#define ATTEMPTS 5 /* at a number that another publisher takes in between */

void hd_published_free(hd_published *published)
{
	if (!published)
		return;
	free(published->where);
	*published = (hd_published){0};
}

/* ---- the files ---- */

hd_status hd_publish_gather(hd_publish_job *j)
{
	hd_status st;
	char *text = NULL, *path = NULL;
	const hd_publish_model *m = &j->model;
	const char *slash = strrchr(m->onnx_path, '/');
	int folder = slash ? (int)(slash + 1 - m->onnx_path) : 0;
	HD_TRY(hd_package_add_file(&j->package, HD_PUBLISH_MODEL, m->onnx_path));
	for (size_t i = 0; i < m->peek.external_count; i++) {
		free(path);
		HD_TRY(hd_sprintf(&path, "%.*s%s", folder, m->onnx_path, m->peek.external[i]));
		HD_TRY(hd_package_add_file(&j->package, m->peek.external[i], path));
	}
	HD_TRY(hd_strdup(&text, m->config));
	HD_TRY(hd_package_add_text(&j->package, HD_PUBLISH_CONFIG, text));
	HD_TRY(hd_package_add_text(&j->package, HD_PUBLISH_METRICS, hd_publish_metrics(m->metrics)));
	j->fixed = j->package.count;
done:
	free(path);
	return st;
}

static json_t *head_of(const hd_publish_job *j, const hd_publish_facts *f)
{
	return json_pack("{s:i, s:s, s:s, s:b, s:s, s:O, s:O}", "format", 1, "version", f->version, "created",
	        f->created, "validated", j->model.validated, "run", j->model.run_name, "interface", j->interface,
	        "metrics", j->model.metrics);
}

hd_status hd_publish_write_texts(hd_publish_job *j, hd_publish_version version, const char *created)
{
	hd_status st;
	char text[HD_VERSION_BYTES];
	hd_package *p = &j->package;
	json_t *head = NULL;
	while (p->count > j->fixed) {
		hd_package_file *last = &p->files[--p->count];
		free(last->name);
		free(last->text);
		*last = (hd_package_file){0};
	}
	const hd_publish_facts f = {.model = &j->model,
	        .version = hd_publish_version_text(text, version),
	        .created = created,
	        .sha256 = p->files[0].sha256,
	        .bytes = hd_package_bytes(p) - hd_package_find(p, HD_PUBLISH_CONFIG)->bytes -
	                 hd_package_find(p, HD_PUBLISH_METRICS)->bytes,
	        .url = j->place->url,
	        .registered = j->settings->registered_model,
	        .license = j->settings->model_license};
	HD_TRY(hd_package_add_text(p, "README.md", hd_publish_card(&f)));
	HD_TRY(hd_package_add_text(p, "requirements.txt", hd_publish_requirements()));
	HD_TRY(hd_package_add_text(p, "conda.yaml", hd_publish_conda()));
	HD_TRY(hd_package_add_text(p, "python_env.yaml", hd_publish_python_env()));
	HD_TRY(hd_package_add_text(p, "MLmodel", hd_publish_mlmodel(&f)));
	head = head_of(j, &f);
	HD_TRY(head ? hd_package_seal(p, head) : hd_fail(HD_E_MEMORY, "out of host memory for the manifest"));
done:
	json_decref(head);
	return st;
}

/* ---- the steps ---- */

static hd_status put_version(hd_publish_job *j)
{
	hd_status st;
	for (int attempt = 1;; attempt++) {
		bool taken;
		HD_TRY(hd_publish_choose(j));
		if (j->complete || j->settings->dry_run)
			break;
		hd_message("%s/%s: %zu files, %.1f MB", j->place->url, j->text, j->package.count + 1,
		        (double)hd_package_bytes(&j->package) / 1e6);
		HD_TRY(hd_place_put(&taken, j->place, j->text, &j->package));
		if (!taken)
			break;
		if (j->settings->model_version[0] || attempt == ATTEMPTS) {
			st = hd_publish_taken(j, j->version);
			goto done;
		}
	}
done:
	return st;
}

/* The alias, but where it has gone on to a higher version and was not asked for by name. */
static hd_status set_alias(hd_publish_job *j, const char *number)
{
	hd_status st;
	char *source = NULL, its[HD_VERSION_BYTES];
	const char *alias = j->settings->alias;
	hd_publish_version there;
	if (!j->settings->given[HD_SET_alias]) {
		HD_TRY(hd_registry_source_of(&source, j->registry, alias));
		if (hd_publish_version_of_url(&there, source) && hd_publish_version_compare(there, j->version) > 0) {
			hd_message("alias '%s' stays with %s, which is newer; --promote %s gives it", alias,
			        hd_publish_version_text(its, there), j->text);
			goto done;
		}
	}
	HD_TRY(hd_registry_set_alias(j->registry, alias, number));
	hd_message("%s: %s is version %s, alias '%s'", hd_registry_shown(j->registry), j->settings->registered_model,
	        number, alias);
done:
	free(source);
	return st;
}

static hd_status register_version(hd_published *out, hd_publish_job *j)
{
	hd_status st;
	if (!j->registry)
		return HD_OK;
	if (!j->place->s3) {
		hd_warn("not registered at %s: MLflow's server takes no folder as the source of a model; publish to "
		        "s3://... "
		        "for that, or leave it out with --tracking_uri none",
		        hd_registry_shown(j->registry));
		return HD_OK;
	}
	const hd_registry_entry entry = {.source = out->where,
	        .version = j->text,
	        .sha256 = hd_package_find(&j->package, HD_PUBLISH_MODEL)->sha256,
	        .run_id = j->model.mlflow_run_id,
	        .commit = hd_publish_model_text(&j->model, HD_ONNX_KEY_COMMIT),
	        .metrics = j->model.metrics};
	HD_TRY(hd_registry_register(out->registered, j->registry, &entry));
	HD_TRY(set_alias(j, out->registered));
done:
	if (st != HD_OK)
		hd_context(st,
		        "%s is published but not registered, and `latest` is where it was; run the same command again",
		        out->where);
	return st;
}

static hd_status move_latest(hd_published *out, hd_publish_job *j)
{
	hd_status st;
	bool there;
	hd_publish_version latest;
	char its[HD_VERSION_BYTES];
	if (!j->settings->latest)
		return HD_OK;
	HD_TRY(hd_place_latest(&there, &latest, j->place));
	int order = there ? hd_publish_version_compare(latest, j->version) : -1;
	if (order < 0)
		HD_TRY(hd_place_move_latest(j->place, j->text));
	else if (order > 0)
		hd_message("`latest` stays with %s, which is newer; --promote %s moves it",
		        hd_publish_version_text(its, latest), j->text);
	out->latest = order <= 0;
done:
	return st;
}

static void say_dry(const hd_publish_job *j)
{
	hd_message("dry run, nothing is written: %s/%s%s", j->place->url, j->text,
	        j->complete ? " is there already"
	        : j->begun  ? " would go on"
	                    : " would have");
	for (size_t i = 0; !j->complete && i < j->package.count; i++)
		hd_message("  %-18s %12lld bytes", j->package.files[i].name, (long long)j->package.files[i].bytes);
	hd_message("  registered: %s%s, alias '%s'", j->registry ? j->settings->registered_model : "no",
	        j->registry ? "" : " (no tracking_uri)", j->settings->alias);
}

static void close_job(hd_publish_job *j)
{
	hd_place_list_free(&j->list);
	hd_package_free(&j->package);
	json_decref(j->interface);
	hd_publish_model_close(&j->model);
	hd_registry_close(j->registry);
	hd_place_close(j->place);
}

hd_status hd_publish(hd_published *out, const hd_settings *settings, const hd_publish_source *source)
{
	hd_status st;
	bool there;
	hd_publish_version latest;
	hd_publish_job j = {.settings = settings};
	*out = (hd_published){0};
	HD_TRY(hd_registry_check_names(settings));
	HD_TRY(hd_place_open(&j.place, settings));
	HD_TRY(hd_registry_open(&j.registry, settings));
	if (settings->latest)
		HD_TRY(hd_place_latest(
		        &there, &latest, j.place)); /* one that is broken is said before anything is done */
	HD_TRY(hd_publish_model_open(&j.model, settings, source));
	j.interface = hd_publish_interface(&j.model);
	HD_TRY(j.interface ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the model's interface"));
	HD_TRY(hd_publish_gather(&j));
	HD_TRY(put_version(&j));
	snprintf(out->version, sizeof out->version, "%s", j.text);
	HD_TRY(hd_sprintf(&out->where, "%s/%s", j.place->url, j.text));
	out->was_there = j.complete;
	if (settings->dry_run) {
		say_dry(&j);
		goto done;
	}
	const hd_place_version *there_before = hd_place_list_find(&j.list, j.version);
	if (j.complete && there_before->claimed)
		HD_TRY(hd_place_tidy(j.place, j.text));
	HD_TRY(register_version(out, &j));
	if (!j.registry)
		hd_message("nothing is registered: no tracking_uri");
	HD_TRY(move_latest(out, &j));
done:
	close_job(&j);
	return st;
}

hd_status hd_publish_named(hd_published *out, const hd_settings *settings, const char *name)
{
	hd_status st;
	hd_publish_found found = {0};
	*out = (hd_published){0};
	HD_TRY(hd_publish_find(&found, settings->runs_dir, name));
	HD_TRY(hd_publish(out, settings,
	        &(hd_publish_source){
	                .onnx_path = found.onnx_path, .checkpoint = found.checkpoint, .run_folder = found.run_folder}));
done:
	hd_publish_found_free(&found);
	return st;
}
