/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall runs: what became of the runs of a folder. */
#include "host/cli/runs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/cli/cli.h"
#include "host/common/json.h"
#include "host/common/memory.h"

#define USAGE "runs ls | show RUN | tail RUN | stop RUN"

/* ---- what the actions share ---- */

hd_status hd_runs_take(void *summary, const hd_metrics_line *line)
{
	hd_run_summary *out = summary;
	double loss = hd_metrics_line_value(line, "val/loss");
	out->points++;
	out->last_ms = line->time_ms;
	if (isnan(loss) || out->best_loss <= loss)
		return HD_OK;
	out->best_loss = loss;
	out->best_epoch = line->epoch + 1;
	out->best_median_m = hd_metrics_line_value(line, "val/median_m");
	return HD_OK;
}

hd_status hd_runs_read_log(hd_run_summary *out, const hd_run *run, hd_metrics_take take, void *context)
{
	hd_status st;
	char *path = NULL;
	*out = (hd_run_summary){.best_loss = NAN, .best_median_m = NAN};
	HD_TRY(hd_run_path(&path, run, "metrics.log"));
	HD_TRY(hd_metrics_log_each(path, 0, take, context, &out->bad));
done:
	free(path);
	return st;
}

json_t *hd_runs_best_json(const hd_run_summary *s)
{
	return isnan(s->best_loss)
	               ? json_null()
	               : json_pack("{s:I, s:o, s:o}", "epoch", (json_int_t)s->best_epoch, "val/loss",
	                         hd_json_number(s->best_loss), "val/median_m", hd_json_number(s->best_median_m));
}

void hd_runs_duration(char out[16], int64_t ms)
{
	long long s = ms / 1000;
	if (ms < 0)
		snprintf(out, 16, "-");
	else if (s < 60)
		snprintf(out, 16, "%llds", s);
	else if (s < 3600)
		snprintf(out, 16, "%lldm%02llds", s / 60, s % 60);
	else if (s < 86400)
		snprintf(out, 16, "%lldh%02lldm", s / 3600, s / 60 % 60);
	else
		snprintf(out, 16, "%lldd%02lldh", s / 86400, s / 3600 % 24);
}

int64_t hd_runs_took_ms(const hd_run_status *s, const hd_run_summary *summary)
{
	int64_t end = s->state == HD_RUN_RUNNING ? hd_time_ms()
	              : s->state == HD_RUN_DIED  ? summary->last_ms
	                                         : s->end_ms;
	return s->start_ms > 0 && end >= s->start_ms ? end - s->start_ms : -1;
}

void hd_runs_time(char out[32], int64_t ms)
{
	struct tm local;
	time_t seconds = (time_t)(ms / 1000);
	if (ms <= 0 || !localtime_r(&seconds, &local) || !strftime(out, 32, "%Y-%m-%d %H:%M:%S", &local))
		snprintf(out, 32, "-");
}

void hd_runs_print_state(hd_run_state state, int width)
{
	static const char *const colors[] = {[HD_RUN_RUNNING] = "\033[36m",
	        [HD_RUN_FINISHED] = "",
	        [HD_RUN_FAILED] = "\033[31m",
	        [HD_RUN_KILLED] = "\033[33m",
	        [HD_RUN_DIED] = "\033[31m"};
	const char *no_color = getenv("NO_COLOR"), *word = hd_run_state_word(state);
	bool color = colors[state][0] && isatty(STDOUT_FILENO) == 1 && !(no_color && *no_color);
	printf("%s%s%s%*s", color ? colors[state] : "", word, color ? "\033[0m" : "",
	        width > (int)strlen(word) ? width - (int)strlen(word) : 0, "");
}

void hd_runs_print_resume(const hd_run *run)
{
	char *path;
	if (hd_run_path(&path, run, "checkpoints/last.safetensors") != HD_OK)
		return;
	if (access(path, R_OK) == 0)
		printf("go on with: heimdall train --resume_training --checkpoint %s\n", path);
	free(path);
}

/* ---- the command ---- */

hd_status hd_cli_runs(const hd_settings *s, const char **files, int count)
{
	static const struct {
		const char *name;
		hd_status (*run)(const hd_settings *settings, const hd_run *run);
	} actions[] = {{"show", hd_runs_show}, {"tail", hd_runs_tail}, {"stop", hd_runs_stop}};
	const char *action = count ? files[0] : "";
	hd_run run;
	if (!strcmp(action, "ls") || !strcmp(action, "list"))
		return count == 1 ? hd_runs_list(s) : hd_fail(HD_E_USAGE, "'%s': runs ls takes no run", files[1]);
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
		if (strcmp(action, actions[i].name) != 0)
			continue;
		if (count != 2)
			return hd_fail(HD_E_USAGE,
			        "runs %s takes one run: a name, EXPERIMENT/NAME, an id, a folder, or latest", action);
		hd_status st = hd_run_find(&run, s->runs_dir, files[1]);
		if (st == HD_OK)
			st = actions[i].run(s, &run);
		hd_run_free(&run);
		return st;
	}
	return hd_fail(HD_E_USAGE, "%s%s%s" USAGE ": name one of them", action[0] ? "'" : "", action,
	        action[0] ? "' is no action; " : "");
}
