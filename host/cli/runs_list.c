/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall runs ls: a line per run, the newest first. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/cli/result.h"
#include "host/cli/runs.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/settings_table.h"
#include "host/track/mlflow_sender.h"

#define NAME_WIDTH 31 /* of rf-localization_20261201_102801 */
#define OLD_S (180 * 86400.0)

typedef struct row {
	const hd_run *run;
	bool has_status;
	hd_run_status status;
	hd_run_summary summary;
	hd_sent sent;
} row;

/* ---- text ---- */

static bool starts_character(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80;
}

/* Bytes of the first `characters` of a text (UTF-8). */
static size_t bytes_of(const char *text, int characters)
{
	size_t bytes = 0;
	for (; text[bytes]; bytes++) {
		characters -= starts_character(text[bytes]);
		if (characters < 0)
			break;
	}
	return bytes;
}

/* A name in NAME_WIDTH columns; of a longer one the middle is left out, for runs differ at the end. */
static void print_name(const char *name)
{
	int length = 0, tail = NAME_WIDTH / 2 + 3, head = NAME_WIDTH - 2 - tail;
	for (const char *at = name; *at; at++)
		length += starts_character(*at);
	if (length <= NAME_WIDTH) {
		printf("%s%*s", name, NAME_WIDTH - length, "");
		return;
	}
	printf("%.*s..%s", (int)bytes_of(name, head), name, name + bytes_of(name, length - tail));
}

/* "12-01 10:28", and the year in place of the time where that is half a year away. */
static void start_text(char out[32], int64_t ms)
{
	struct tm local;
	time_t seconds = (time_t)(ms / 1000);
	double age_s = difftime(time(NULL), seconds);
	bool old = fabs(age_s) > OLD_S;
	if (ms <= 0 || !localtime_r(&seconds, &local) ||
	        !(old ? strftime(out, 32, "%Y-%m-%d", &local) : strftime(out, 32, "%m-%d %H:%M", &local)))
		snprintf(out, 32, "-");
}

static void best_text(char out[32], const hd_run_summary *s)
{
	if (isfinite(s->best_median_m) && s->best_median_m < 1e6)
		snprintf(out, 32, "%.*f m", s->best_median_m < 100 ? 1 : 0, s->best_median_m);
	else if (!isnan(s->best_loss))
		snprintf(out, 32, "%.4g", s->best_loss);
	else
		snprintf(out, 32, "-");
}

static const char *tracked(const hd_sent *s)
{
	return !s->mlflow_run_id[0] ? "-" : s->all ? "yes" : "part";
}

static void print_row(const row *r)
{
	char started[32], took[16], best[32], epochs[48] = "-";
	print_name(r->run->name);
	if (!r->has_status) {
		puts(" no status.json");
		return;
	}
	start_text(started, r->status.start_ms);
	hd_runs_duration(took, hd_runs_took_ms(&r->status, &r->summary));
	best_text(best, &r->summary);
	if (r->status.epochs)
		snprintf(epochs, sizeof epochs, "%lld/%lld", (long long)r->status.epoch, (long long)r->status.epochs);
	putchar(' ');
	hd_runs_print_state(r->status.state, 8);
	printf(" %-11s %6s %7s %7s %s\n", started, took, epochs, best, tracked(&r->sent));
}

static void print_header(void)
{
	printf("%-*s %-8s %-11s %6s %7s %7s %s\n", NAME_WIDTH, "run", "state", "started", "took", "epoch", "best",
	        "sent");
}

/* All of the first one's experiment, in the order of rows. */
static void print_experiment(const row *rows, size_t count, size_t first, bool named)
{
	const char *experiment = rows[first].run->experiment;
	if (named)
		printf("%s%s\n", first ? "\n" : "", experiment);
	print_header();
	for (size_t i = first; i < count; i++)
		if (!strcmp(rows[i].run->experiment, experiment))
			print_row(&rows[i]);
}

static void print_rows(const row *rows, size_t count)
{
	bool several = false;
	for (size_t i = 1; i < count; i++)
		several = several || strcmp(rows[0].run->experiment, rows[i].run->experiment) != 0;
	for (size_t i = 0; i < count; i++) {
		bool is_first = true;
		for (size_t k = 0; k < i && is_first; k++)
			is_first = strcmp(rows[k].run->experiment, rows[i].run->experiment) != 0;
		if (is_first)
			print_experiment(rows, count, i, several);
	}
}

/* ---- JSON ---- */

static json_t *row_json(const row *r)
{
	const hd_run *run = r->run;
	const hd_run_status *s = &r->status;
	return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:s?, s:b}", "name", run->name,
	        "experiment", run->experiment, "id", run->id, "folder", run->folder, "state",
	        r->has_status ? hd_run_state_word(s->state) : NULL, "start_ms", (json_int_t)s->start_ms, "end_ms",
	        (json_int_t)s->end_ms, "attempts", (json_int_t)s->attempts, "epoch", (json_int_t)s->epoch, "epochs",
	        (json_int_t)s->epochs, "step", (json_int_t)s->step, "best", hd_runs_best_json(&r->summary),
	        "mlflow_run_id", r->sent.mlflow_run_id[0] ? r->sent.mlflow_run_id : NULL, "all_sent", (int)r->sent.all);
}

static json_t *rows_json(const row *rows, size_t count)
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, row_json(&rows[i]));
	return json_pack("{s:o}", "runs", list);
}

/* ---- the action ---- */

static hd_status read_row(row *out, const hd_run *run)
{
	hd_status st;
	*out = (row){.run = run};
	HD_TRY(hd_runs_read_log(&out->summary, run, hd_runs_take, &out->summary));
	HD_TRY(hd_sender_state(&out->sent, run));
	st = hd_run_status_read(&out->status, run);
	out->has_status = st == HD_OK;
	if (st == HD_E_DATA) {
		hd_warn("%s", hd_error_text());
		st = HD_OK;
	}
done:
	return st;
}

/* Nothing to list; an experiment that was asked for and is not there is a mistake. */
static hd_status no_runs(const hd_settings *settings, const char *experiment)
{
	hd_status st;
	hd_run *runs = NULL;
	size_t count = 0;
	const char **names = NULL, *near;
	HD_TRY(hd_run_list(&runs, &count, settings->runs_dir, NULL));
	if (!experiment || !count) {
		hd_message("%s: no runs; --runs_dir names another folder", settings->runs_dir);
		goto done;
	}
	HD_TRY(hd_alloc(&names, count, sizeof *names));
	for (size_t i = 0; i < count; i++)
		names[i] = runs[i].experiment;
	near = hd_nearest_name(experiment, names, count);
	st = hd_fail(HD_E_DATA, "%s: no runs of experiment '%s'%s%s%s", settings->runs_dir, experiment,
	        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
done:
	free((void *)names);
	hd_run_list_free(runs, count);
	return st;
}

hd_status hd_runs_list(const hd_settings *settings)
{
	hd_status st;
	hd_run *runs = NULL;
	row *rows = NULL;
	size_t count = 0;
	const char *experiment = settings->given[HD_SET_experiment_name] ? settings->experiment_name : NULL;
	HD_TRY(hd_run_list(&runs, &count, settings->runs_dir, experiment));
	if (!count)
		HD_TRY(no_runs(settings, experiment));
	HD_TRY(hd_alloc(&rows, count, sizeof *rows));
	for (size_t i = 0; i < count; i++)
		HD_TRY(read_row(&rows[i], &runs[count - 1 - i]));
	print_rows(rows, count);
	if (settings->json[0])
		HD_TRY(hd_write_result(settings->json, rows_json(rows, count)));
done:
	free(rows);
	hd_run_list_free(runs, count);
	return st;
}
