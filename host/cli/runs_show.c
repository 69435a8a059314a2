/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall runs show: everything that a run's folder says about it. */
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/cli/result.h"
#include "host/cli/runs.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/yaml_file.h"
#include "host/track/mlflow_sender.h"

#define LABEL_WIDTH 12
#define FOLDER_DEPTH 4

/* One run, read. */
typedef struct view {
	const hd_run *run;
	hd_run_status status;
	hd_run_summary summary;
	hd_sent sent;
	json_t *last;       /* object: the last value of every metric */
	int64_t last_epoch; /* from 1 */
	json_t *differing;  /* object: key to [default, this run's] */
} view;

/* ---- reading ---- */

static hd_status take_line(void *context, const hd_metrics_line *line)
{
	view *v = context;
	/* the best values come behind the last epoch, and are of another one */
	if (isnan(hd_metrics_line_value(line, "best/loss")))
		v->last_epoch = line->epoch + 1;
	for (size_t i = 0; i < line->count; i++)
		json_object_set_new(v->last, line->metrics[i].name, hd_json_number(line->metrics[i].value));
	return hd_runs_take(&v->summary, line);
}

static hd_status read_log(view *v)
{
	v->last = json_object();
	return v->last ? hd_runs_read_log(&v->summary, v->run, take_line, v)
	               : hd_fail(HD_E_MEMORY, "out of host memory for metrics");
}

/* Adds the scalars of a YAML mapping, those of its groups too, to an object of texts. */
static void flatten(json_t *out, yaml_document_t *document, const yaml_node_t *mapping)
{
	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start; pair < mapping->data.mapping.pairs.top;
	        pair++) {
		const yaml_node_t *key = yaml_document_get_node(document, pair->key);
		const yaml_node_t *value = yaml_document_get_node(document, pair->value);
		if (value->type == YAML_MAPPING_NODE)
			flatten(out, document, value);
		else if (key->type == YAML_SCALAR_NODE && value->type == YAML_SCALAR_NODE)
			json_object_set_new(out, (const char *)key->data.scalar.value,
			        json_string((const char *)value->data.scalar.value));
	}
}

/* The settings of a YAML file, or text where that is not NULL, as an object of texts. */
static hd_status read_yaml(json_t **out, const char *path, const char *text)
{
	hd_yaml yaml;
	*out = json_object();
	if (!*out)
		return hd_fail(HD_E_MEMORY, "out of host memory for the settings");
	hd_status st = hd_yaml_load(&yaml, path, text);
	if (st != HD_OK)
		return st;
	if (yaml.root)
		flatten(*out, &yaml.document, yaml.root);
	hd_yaml_free(&yaml);
	return HD_OK;
}

/*
 * What config.yaml says otherwise than the defaults, compared as written, so that a run of another version can be shown
 * too.
 */
static hd_status read_differing(view *v)
{
	hd_status st;
	hd_settings defaults = {0};
	char *path = NULL, *text = NULL;
	json_t *mine = NULL, *theirs = NULL, *value;
	const char *key;
	v->differing = json_object();
	HD_TRY(hd_run_path(&path, v->run, "config.yaml"));
	if (access(path, F_OK) != 0)
		goto done;
	HD_TRY(hd_settings_init(&defaults));
	HD_TRY(hd_settings_dump(&defaults, &text));
	HD_TRY(read_yaml(&theirs, "defaults", text));
	HD_TRY(read_yaml(&mine, path, NULL));
	json_object_foreach(mine, key, value)
	{
		const json_t *standard = json_object_get(theirs, key);
		if (!standard || strcmp(json_string_value(standard), json_string_value(value)) != 0)
			json_object_set_new(v->differing, key,
			        json_pack("[s, s]", standard ? json_string_value(standard) : "?",
			                json_string_value(value)));
	}
done:
	json_decref(mine);
	json_decref(theirs);
	free(text);
	free(path);
	hd_settings_free(&defaults);
	return st;
}

/* ---- printing ---- */

static void label(const char *name)
{
	printf("%-*s", LABEL_WIDTH, name);
}

static void line(const char *name, const char *value)
{
	label(name);
	puts(value);
}

/* A file of the folder that is one line, as it is. */
static void print_file_line(const char *name, const hd_run *run, const char *file)
{
	char *path;
	if (hd_run_path(&path, run, file) != HD_OK)
		return;
	FILE *from = fopen(path, "r");
	int c;
	if (from) {
		label(name);
		while ((c = fgetc(from)) != EOF && c != '\n')
			putchar(c);
		putchar('\n');
		fclose(from);
	}
	free(path);
}

static void print_identity(const view *v)
{
	const hd_run_status *s = &v->status;
	char text[64], took[16];
	line("run", v->run->name);
	line("experiment", v->run->experiment);
	line("id", v->run->id);
	line("folder", v->run->folder);
	label("state");
	hd_runs_print_state(s->state, 0);
	printf(", epoch %lld of %lld, step %lld%s%s\n", (long long)s->epoch, (long long)s->epochs, (long long)s->step,
	        s->message[0] ? ": " : "", s->message);
	hd_runs_time(text, s->start_ms);
	hd_runs_duration(took, hd_runs_took_ms(s, &v->summary));
	label("started");
	printf("%s, took %s, attempt %lld\n", text, took, (long long)s->attempts);
	label("process");
	printf("%lld on %s\n", (long long)s->pid, s->host);
	print_file_line("command", v->run, "command.txt");
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "?";
}

/* Program, machine and data, as far as the run came to know them. */
static hd_status print_origin(const view *v)
{
	hd_status st;
	json_t *identity = NULL, *params = NULL;
	HD_TRY(hd_run_read_json(&identity, v->run, "run.json"));
	HD_TRY(hd_run_read_json(&params, v->run, "params.json"));
	label("program");
	printf("heimdall %s (%s)\n", text_of(identity, "version"), text_of(identity, "commit"));
	if (!params)
		goto done;
	label("computed on");
	printf("%s, %s, %s threads\n", text_of(params, "backend"), text_of(params, "backend_tier"),
	        text_of(params, "backend_threads"));
	line("data", text_of(params, "data_dir"));
	label("");
	printf("%s training and %s validation samples, receivers %s\n", text_of(params, "train_samples"),
	        text_of(params, "val_samples"), text_of(params, "receivers_used"));
	label("model");
	printf("ConvNeXt %s, %s parameters\n", text_of(params, "backbone_size"), text_of(params, "model_parameters"));
done:
	json_decref(params);
	json_decref(identity);
	return st;
}

static hd_status print_object(const char *title, const hd_run *run, const char *file)
{
	json_t *object, *value;
	const char *key;
	hd_status st = hd_run_read_json(&object, run, file);
	if (st != HD_OK || !json_is_object(object))
		goto done;
	if (json_object_size(object))
		printf("\n%s\n", title);
	json_object_foreach(object, key, value)
	{
		char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
		printf("  %-20s %s\n", key, text ? text : json_string_value(value));
		free(text);
	}
done:
	json_decref(object);
	return st;
}

static void print_differing(const view *v)
{
	const char *key;
	json_t *pair;
	if (!json_object_size(v->differing))
		return;
	printf("\nsettings other than the defaults\n");
	json_object_foreach(v->differing, key, pair)
	{
		const char *standard = json_string_value(json_array_get(pair, 0));
		const char *value = json_string_value(json_array_get(pair, 1));
		/* where they are is said with the files */
		if (!strcmp(key, "checkpoint_dir") && !strncmp(value, v->run->folder, strlen(v->run->folder)))
			continue;
		printf("  %-20s %s%s%s%s\n", key, value[0] ? value : "\"\"", standard[0] ? " (default " : "", standard,
		        standard[0] ? ")" : "");
	}
}

#define COLUMNS 3

/* A metric's column by what stands in front of its name, and the name behind it; of none the first. */
static size_t column_of(const char **name)
{
	static const char *const prefixes[COLUMNS] = {"train/", "val/", "best/"};
	for (size_t i = 0; i < COLUMNS; i++) {
		if (strncmp(*name, prefixes[i], strlen(prefixes[i])) != 0)
			continue;
		*name += strlen(prefixes[i]);
		return i;
	}
	return 0;
}

/* Rows of training, validation and best values; object of arrays of texts. */
static json_t *metric_rows(const view *v)
{
	json_t *rows = json_object(), *value;
	const char *name;
	json_object_foreach(v->last, name, value)
	{
		char number[32] = "nan";
		if (!strcmp(name, "epoch"))
			continue;
		const char *base = name;
		size_t column = column_of(&base);
		if (json_is_number(value))
			snprintf(number, sizeof number, "%.6g", json_number_value(value));
		if (!json_object_get(rows, base))
			json_object_set_new(rows, base, json_pack("[s, s, s]", "", "", ""));
		json_array_set_new(json_object_get(rows, base), column, json_string(number));
	}
	return rows;
}

/* Blanks up to the last text that there is. */
static void print_columns(const char *name, const char *texts[COLUMNS])
{
	int pending = 0;
	printf("  %-27s", name);
	for (size_t i = 0; i < COLUMNS; i++) {
		pending += 15;
		if (!texts[i][0])
			continue;
		printf("%*s", pending, texts[i]);
		pending = 0;
	}
	putchar('\n');
}

static void print_metrics(const view *v)
{
	const char *name, *texts[COLUMNS];
	json_t *row, *rows = metric_rows(v);
	char title[64];
	snprintf(title, sizeof title, "metrics, epoch %lld", (long long)v->last_epoch);
	if (json_object_size(rows))
		printf("\n%-29s %14s %14s %14s\n", title, "training", "validation", "best");
	json_object_foreach(rows, name, row)
	{
		if (json_unpack(row, "[s, s, s]", &texts[0], &texts[1], &texts[2]) == 0)
			print_columns(name, texts);
	}
	json_decref(rows);
	if (!isnan(v->summary.best_loss))
		printf("  best validation loss in epoch %lld\n", (long long)v->summary.best_epoch);
	if (v->summary.bad)
		printf("  %lld lines of metrics.log are damaged and left out\n", (long long)v->summary.bad);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strverscmp((*a)->d_name, (*b)->d_name);
}

/* Files below a folder with their sizes, those of one folder side by side; links are followed. */
static void print_files(const char *folder, const char *shown, int depth)
{
	struct dirent **entries;
	struct stat info;
	int count = depth < FOLDER_DEPTH ? scandir(folder, &entries, NULL, by_name) : -1;
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		char *path = NULL, *below = NULL;
		if (name[0] != '.' && hd_sprintf(&path, "%s/%s", folder, name) == HD_OK &&
		        hd_sprintf(&below, "%s%s%s", shown, shown[0] ? "/" : "", name) == HD_OK &&
		        stat(path, &info) == 0) {
			if (S_ISDIR(info.st_mode))
				print_files(path, below, depth + 1);
			else if (info.st_size < 10000)
				printf("  %8lld B   %s\n", (long long)info.st_size, below);
			else
				printf("  %8.1f %s  %s\n", (double)info.st_size / (info.st_size < 10000000 ? 1e3 : 1e6),
				        info.st_size < 10000000 ? "kB" : "MB", below);
		}
		free(below);
		free(path);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

static void print_tracking(const hd_run *run, const hd_sent *s)
{
	printf("\ntracking\n");
	if (!s->mlflow_run_id[0]) {
		printf("  nothing is sent; heimdall track push %s sends it\n", run->folder);
		return;
	}
	printf("  MLflow run         %s\n", s->mlflow_run_id);
	printf("  sent               %lld points, %lld artifacts\n", (long long)s->points, (long long)s->artifacts);
	if (s->all)
		puts("  left               nothing");
	else
		printf("  left               %lld points%s%s\n", (long long)s->points_left, s->problem[0] ? "; " : "",
		        s->problem);
}

/* ---- JSON ---- */

static json_t *file_json(const hd_run *run, const char *name)
{
	json_t *object = NULL;
	return hd_run_read_json(&object, run, name) == HD_OK && object ? object : json_null();
}

static json_t *view_json(const view *v)
{
	const hd_run_status *s = &v->status;
	json_t *status =
	        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "state", hd_run_state_word(s->state),
	                "host", s->host, "pid", (json_int_t)s->pid, "start_ms", (json_int_t)s->start_ms, "end_ms",
	                (json_int_t)s->end_ms, "attempts", (json_int_t)s->attempts, "epoch", (json_int_t)s->epoch,
	                "epochs", (json_int_t)s->epochs, "step", (json_int_t)s->step, "message", s->message);
	json_t *sent = json_pack("{s:s?, s:b, s:I, s:I, s:I, s:s}", "mlflow_run_id",
	        v->sent.mlflow_run_id[0] ? v->sent.mlflow_run_id : NULL, "all", (int)v->sent.all, "points",
	        (json_int_t)v->sent.points, "artifacts", (json_int_t)v->sent.artifacts, "points_left",
	        (json_int_t)v->sent.points_left, "problem", v->sent.problem);
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:O, s:O, s:o, s:o, s:o, s:o, s:o}", "name", v->run->name,
	        "experiment", v->run->experiment, "id", v->run->id, "folder", v->run->folder, "status", status,
	        "settings", v->differing, "metrics", v->last, "best", hd_runs_best_json(&v->summary), "sent", sent,
	        "params", file_json(v->run, "params.json"), "tags", file_json(v->run, "tags.json"), "environment",
	        file_json(v->run, "environment.json"));
}

/* ---- the action ---- */

static hd_status print_view(const view *v, const hd_settings *settings)
{
	hd_status st;
	print_identity(v);
	HD_TRY(print_origin(v));
	HD_TRY(print_object("tags", v->run, "tags.json"));
	print_differing(v);
	print_metrics(v);
	puts("\nfiles");
	print_files(v->run->folder, "", 0);
	print_tracking(v->run, &v->sent);
	if (v->status.state == HD_RUN_KILLED || v->status.state == HD_RUN_DIED || v->status.state == HD_RUN_FAILED) {
		putchar('\n');
		hd_runs_print_resume(v->run);
	}
	if (settings->json[0])
		st = hd_write_result(settings->json, view_json(v));
done:
	return st;
}

hd_status hd_runs_show(const hd_settings *settings, const hd_run *run)
{
	hd_status st;
	view v = {.run = run};
	HD_TRY(hd_run_status_read(&v.status, run));
	HD_TRY(hd_sender_state(&v.sent, run));
	HD_TRY(read_log(&v));
	HD_TRY(read_differing(&v));
	st = print_view(&v, settings);
done:
	json_decref(v.differing);
	json_decref(v.last);
	return st;
}
