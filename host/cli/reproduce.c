/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heimdall reproduce: the settings of a run, trained once more as a run of its own, and every metric of both compared.
 * What is not as it was (program, machine, data) is said before the training.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/checkpoint.h"
#include "heimdall/dataset.h"
#include "host/cli/cli.h"
#include "host/cli/reproduce_compare.h"
#include "host/cli/result.h"
#include "host/cli/train.h"
#include "host/common/detach.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/settings_table.h"
#include "host/common/text.h"
#include "host/common/version.h"
#include "host/model/pretrained.h"
#include "host/track/record.h"
#include "host/track/run.h"

#define ROWS_SHOWN 20
#define LETTER 'D'
#define BACK_TAG "heimdall.reproduces"
#define TIER_VARIABLE "HEIMDALL_CPU_TIER"

/* A run, and what its folder says of how it came about. */
typedef struct origin {
	hd_run run;
	hd_run_status status;
	json_t *identity, *params;
} origin;

static hd_status open_origin(origin *out, const hd_settings *given, const char *which)
{
	hd_status st;
	HD_TRY(hd_run_find(&out->run, given->runs_dir, which));
	HD_TRY(hd_run_status_read(&out->status, &out->run));
	HD_TRY(hd_run_read_json(&out->identity, &out->run, "run.json"));
	HD_TRY(hd_run_read_json(&out->params, &out->run, "params.json"));
	if (out->status.state == HD_RUN_RUNNING)
		st = hd_fail(HD_E_USAGE,
		        "%s is running; reproduce it when it has ended, or after heimdall runs stop %s", out->run.name,
		        out->run.name);
	else if (out->status.state != HD_RUN_FINISHED)
		hd_warn("%s is %s after %lld of %lld epochs: no more than those can be compared", out->run.name,
		        hd_run_state_word(out->status.state), (long long)out->status.epoch,
		        (long long)out->status.epochs);
done:
	return st;
}

static void close_origin(origin *o)
{
	json_decref(o->params);
	json_decref(o->identity);
	hd_run_free(&o->run);
}

/* ---- settings ---- */

static hd_status copy_setting(hd_settings *out, const hd_settings *in, const hd_setting *row)
{
	char *to = (char *)out + row->offset;
	const char *from = (const char *)in + row->offset;
	hd_status st = HD_OK;
	switch (row->kind) {
	case HD_KIND_INT:
		memcpy(to, from, sizeof(int64_t));
		break;
	case HD_KIND_FLOAT:
		memcpy(to, from, sizeof(double));
		break;
	case HD_KIND_BOOL:
		memcpy(to, from, sizeof(bool));
		break;
	default:
		st = hd_set_text((char **)(void *)to, *(char *const *)(const void *)from);
	}
	return st;
}

/* A path that led from the folder in which the run was started, and does not from here, is taken from there. */
static hd_status relocate(char **path, const char *folder)
{
	hd_status st;
	char *there = NULL;
	if (!(*path)[0] || (*path)[0] == '/' || hd_behind_scheme(*path) || !folder[0] || access(*path, F_OK) == 0)
		return HD_OK;
	HD_TRY(hd_sprintf(&there, "%s/%s", folder, *path));
	if (access(there, F_OK) == 0) {
		hd_message("%s is not there, %s is taken", *path, there);
		HD_TRY(hd_set_text(path, there));
	}
done:
	free(there);
	return st;
}

/* As many threads and the back end of then, where nothing else is asked for: both decide about the last bits. */
static hd_status same_machine(hd_settings *s, const hd_settings *given, const origin *o)
{
	const json_t *threads = json_object_get(o->params, "backend_threads");
	int64_t count =
	        json_is_string(threads) ? strtoll(json_string_value(threads), NULL, 10) : json_integer_value(threads);
	if (!given->given[HD_SET_threads] && count > 0)
		s->threads = count;
	if (!given->given[HD_SET_accelerator] && !strcmp(hd_json_text(o->params, "backend"), "cpu"))
		return hd_set_text(&s->accelerator, "cpu");
	return HD_OK;
}

/* The tag that leads back, in place of the one that a run has which was itself a reproduction. */
static hd_status add_tag(hd_settings *s, const char *id)
{
	char *tags = NULL, *longer, *rest = s->tags;
	hd_status st = hd_sprintf(&tags, BACK_TAG "=%s", id);
	for (const char *tag = strsep(&rest, ","); st == HD_OK && tag; tag = strsep(&rest, ",")) {
		tag += strspn(tag, " ");
		if (!*tag || !strncmp(tag, BACK_TAG, strlen(BACK_TAG)))
			continue;
		st = hd_sprintf(&longer, "%s,%s", tags, tag);
		if (st != HD_OK)
			break;
		free(tags);
		tags = longer;
	}
	if (st == HD_OK)
		st = hd_set_text(&s->tags, tags);
	free(tags);
	return st;
}

/* The receivers that were the most used then, whatever has come or gone since. */
static hd_status same_receivers(hd_settings *s, const origin *o)
{
	const char *used = hd_json_text(o->params, "receivers_used");
	return strcmp(s->receivers, "auto") != 0 || !used[0] ? HD_OK : hd_set_text(&s->receivers, used);
}

/* What a call did beside or instead of training: it is not done again. */
static hd_status forget_call(hd_settings *s)
{
	hd_settings defaults;
	hd_status st = hd_settings_init(&defaults);
	if (st != HD_OK)
		return st;
	for (int i = 0; i < HD_SETTING_COUNT && st == HD_OK; i++)
		if (hd_setting_is_of_call(&hd_setting_table[i]))
			st = copy_setting(s, &defaults, &hd_setting_table[i]);
	hd_settings_free(&defaults);
	return st;
}

/* The run's settings; those that belong to a run of its own, and to where it is made, are the caller's. */
static hd_status take_settings(hd_settings *out, const hd_settings *given, const origin *o)
{
	hd_status st;
	char *config = NULL;
	HD_TRY(hd_settings_init(out));
	HD_TRY(hd_run_path(&config, &o->run, "config.yaml"));
	if (access(config, F_OK) != 0) {
		st = hd_fail(HD_E_DATA, "%s: not there: the run ended before it began to train", config);
		goto done;
	}
	HD_TRY(hd_settings_read_yaml(out, config));
	HD_TRY(relocate(&out->data_dir, hd_json_text(o->identity, "working_directory")));
	HD_TRY(relocate(&out->folds, hd_json_text(o->identity, "working_directory")));
	HD_TRY(hd_set_text(&out->run_name, ""));
	HD_TRY(hd_set_text(&out->runs_dir, given->runs_dir));
	HD_TRY(hd_set_text(&out->experiment_name, o->run.experiment));
	HD_TRY(hd_set_text(&out->checkpoint_dir, ""));
	out->given[HD_SET_checkpoint_dir] = HD_NOT_GIVEN;
	HD_TRY(forget_call(out));
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		if (given->given[i] && strchr(hd_setting_table[i].commands, LETTER))
			HD_TRY(copy_setting(out, given, &hd_setting_table[i]));
	/* the result of this command is the comparison */
	HD_TRY(hd_set_text(&out->json, ""));
	HD_TRY(same_machine(out, given, o));
	HD_TRY(same_receivers(out, o));
	HD_TRY(add_tag(out, o->run.id));
	st = hd_settings_check(out);
done:
	free(config);
	return st;
}

/* ---- what is not as it was ---- */

static bool warn_if_other(const char *what, const char *then, const char *now)
{
	bool other = then[0] && strcmp(then, now) != 0;
	if (other)
		hd_warn("%s: %s then, %s now", what, then, now);
	return other;
}

/* Whether program or machine are others; takes the instruction tier of then where this processor has it. */
static hd_status compare_program(bool *other, const hd_settings *s, const origin *o)
{
	hd_backend *backend = NULL;
	const char *tier = hd_json_text(o->params, "backend_tier");
	char threads[2][32];
	*other = warn_if_other("version", hd_json_text(o->identity, "version"), hd_version);
	*other |= warn_if_other("commit", hd_json_text(o->identity, "commit"), hd_commit);
	if (!strcmp(s->accelerator, "cpu") && tier[0] && !getenv(TIER_VARIABLE) &&
	        hd_backend_open_cpu(&backend, tier, (int)s->threads) == HD_OK)
		setenv(TIER_VARIABLE, tier, 1);
	hd_backend_close(backend);
	hd_status st = hd_backend_open(&backend, s->accelerator, s->devices, (int)s->threads);
	if (st != HD_OK)
		return st;
	*other |= warn_if_other("back end", hd_json_text(o->params, "backend"), backend->name);
	*other |= warn_if_other("instructions or device", tier, backend->tier);
	snprintf(threads[0], sizeof threads[0], "%s", hd_json_text(o->params, "backend_threads"));
	snprintf(threads[1], sizeof threads[1], "%d", backend->threads);
	*other |= warn_if_other("threads", threads[0], threads[1]);
	hd_backend_close(backend);
	return HD_OK;
}

/* A run that was taken up again with other settings is not what its last settings make in one piece. */
static hd_status warn_of_resumptions(const origin *o)
{
	json_t *tags, *value;
	const char *key;
	hd_status st = hd_run_read_json(&tags, &o->run, "tags.json");
	if (st != HD_OK)
		return st;
	json_object_foreach(tags, key, value)
	{
		const char *text = json_string_value(value);
		if (!strncmp(key, "heimdall.resume.", 16) && text && strcmp(text, "same settings") != 0)
			hd_warn("%s was resumed with other settings than it began with: %s", o->run.name, text);
	}
	json_decref(tags);
	return HD_OK;
}

/* Opens the data anew and lists the rows that are not what they were. */
static hd_status compare_data(hd_record_changes *out, const hd_settings *s, const origin *o)
{
	hd_status st;
	char *weights = NULL;
	hd_checkpoint from = {0};
	hd_dataset dataset = {0};
	bool recorded = false;
	*out = (hd_record_changes){0};
	/* a checkpoint that training starts from brings its receivers */
	HD_TRY(hd_pretrained_find(&weights, s->pretrained, s->backbone_size));
	recorded = weights && hd_checkpoint_open(&from, weights) == HD_OK;
	HD_TRY(hd_dataset_open(&dataset, s, recorded ? &from.card : NULL));
	HD_TRY(hd_record_compare(out, stdout, ROWS_SHOWN, &o->run, &dataset));
	printf("rows of the data: %lld as they were, %lld changed, %lld gone, %lld new\n", (long long)out->same,
	        (long long)out->changed, (long long)out->gone, (long long)out->added);
	if (out->touched)
		printf("  %lld of those changed have a file of the same size and another time\n",
		        (long long)out->touched);
	fflush(stdout);
done:
	hd_dataset_close(&dataset);
	if (recorded)
		hd_checkpoint_close(&from);
	free(weights);
	return st;
}

/* ---- the verdict ---- */

static hd_status compare_metrics(
        const hd_settings *given, const origin *o, const char *folder, const hd_record_changes *rows, bool other)
{
	hd_status st;
	hd_run again = {0};
	hd_run_points *then = NULL, *now = NULL;
	hd_run_comparison c;
	bool moved = rows->changed || rows->gone || rows->added;
	HD_TRY(hd_run_open(&again, folder));
	HD_TRY(hd_run_points_read(&then, &o->run));
	HD_TRY(hd_run_points_read(&now, &again));
	hd_run_compare(&c, then, now, o->status.state == HD_RUN_FINISHED);
	printf("\nthen %s\nnow  %s\n", o->run.folder, folder);
	hd_run_comparison_print(stdout, &c);
	if (given->json[0])
		HD_TRY(hd_write_result(given->json,
		        json_pack("{s:s, s:s, s:o, s:{s:I, s:I, s:I, s:I}, s:b}", "then", o->run.folder, "now", folder,
		                "metrics", hd_run_comparison_json(&c), "rows", "same", (json_int_t)rows->same,
		                "changed", (json_int_t)rows->changed, "gone", (json_int_t)rows->gone, "added",
		                (json_int_t)rows->added, "same_program", (int)!other)));
	if (hd_run_is_equal(&c))
		printf("\nreproduced: all %lld points are equal\n", (long long)c.equal);
	else if (!c.compared)
		st = hd_fail(HD_E_DATA, "%s: no metrics to compare with", o->run.folder);
	else if (moved)
		st = hd_fail(HD_E_DATA,
		        "not reproduced: the data are not what they were (%lld rows changed, %lld gone, %lld new)",
		        (long long)rows->changed, (long long)rows->gone, (long long)rows->added);
	else
		st = hd_fail(HD_E_FAILED, "not reproduced: metrics differ%s",
		        other ? "; program or machine are others, see the warnings"
		              : " with the same program and data");
done:
	hd_run_points_free(now);
	hd_run_points_free(then);
	hd_run_free(&again);
	return st;
}

static hd_status reproduce(const hd_settings *given, const char *which)
{
	hd_status st;
	origin o = {0};
	hd_settings settings = {0};
	hd_record_changes rows = {0};
	char *folder = NULL;
	bool other = false;
	HD_TRY(open_origin(&o, given, which));
	HD_TRY(take_settings(&settings, given, &o));
	HD_TRY(warn_of_resumptions(&o));
	HD_TRY(compare_program(&other, &settings, &o));
	HD_TRY(compare_data(&rows, &settings, &o));
	HD_TRY(hd_cli_train_run(&folder, &settings));
	HD_TRY(compare_metrics(given, &o, folder, &rows, other));
done:
	free(folder);
	hd_settings_free(&settings);
	close_origin(&o);
	return st;
}

hd_status hd_cli_reproduce(const hd_settings *given, const char **files, int count)
{
	bool child = true;
	if (count != 1)
		return hd_fail(
		        HD_E_USAGE, "reproduce takes one run: a name, EXPERIMENT/NAME, an id, a folder, or latest");
	if (given->detach) {
		hd_status st = hd_detach(&child);
		if (st != HD_OK || !child)
			return st;
	}
	return reproduce(given, files[0]);
}
