/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall track: what an MLflow server has of the runs in runs_dir, and sending what it has not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/track/mlflow_client.h"
#include "host/track/mlflow_sender.h"

static const char how[] =
        "heimdall track push RUN [--tracking_uri URL], heimdall track status [RUN]; RUN is a run's folder, name or id, "
        "or latest";

static hd_status push(const hd_settings *s, const char *which)
{
	hd_status st;
	hd_run run = {0};
	hd_sent sent = {0};
	char *uri = NULL;
	hd_stop_begin();
	HD_TRY(hd_mlflow_uri(&uri, s));
	if (!uri[0]) {
		st = hd_fail(HD_E_USAGE, "which server? --tracking_uri http://HOST:PORT or MLFLOW_TRACKING_URI");
		goto done;
	}
	HD_TRY(hd_run_find(&run, s->runs_dir, which));
	st = hd_sender_push(&sent, &run, uri, s);
	if (sent.mlflow_run_id[0])
		printf("%s: %lld points and %lld files are at the server as run %s%s\n", run.name,
		        (long long)sent.points, (long long)sent.artifacts, sent.mlflow_run_id,
		        sent.all ? "; nothing is left" : "");
	if (st == HD_OK && !sent.all)
		hd_warn("%s", sent.problem);
done:
	hd_run_free(&run);
	free(uri);
	hd_stop_end();
	return st;
}

static hd_status print_state(const hd_run *run)
{
	hd_sent sent;
	hd_status st = hd_sender_state(&sent, run);
	if (st != HD_OK)
		return st;
	printf("%-40s %s  %lld points and %lld files sent, %lld points left%s%s\n", run->name,
	        sent.all                ? "all sent"
	        : sent.mlflow_run_id[0] ? "in part "
	                                : "not sent",
	        (long long)sent.points, (long long)sent.artifacts, (long long)sent.points_left, sent.all ? "" : ": ",
	        sent.problem);
	return HD_OK;
}

static hd_status status(const hd_settings *s, const char *which)
{
	hd_status st = HD_OK;
	hd_run run = {0}, *runs = NULL;
	size_t count = 0;
	if (which) {
		HD_TRY(hd_run_find(&run, s->runs_dir, which));
		HD_TRY(print_state(&run));
		goto done;
	}
	HD_TRY(hd_run_list(&runs, &count, s->runs_dir, s->given[HD_SET_experiment_name] ? s->experiment_name : NULL));
	for (size_t i = 0; i < count; i++) {
		if (print_state(&runs[i]) != HD_OK)
			hd_warn("%s", hd_error_text());
	}
	if (!count)
		hd_message("no runs in %s", s->runs_dir);
done:
	hd_run_list_free(runs, count);
	hd_run_free(&run);
	return st;
}

hd_status hd_cli_track(const hd_settings *s, const char **words, int count)
{
	if (count == 2 && !strcmp(words[0], "push"))
		return push(s, words[1]);
	if ((count == 1 || count == 2) && !strcmp(words[0], "status"))
		return status(s, count == 2 ? words[1] : NULL);
	return hd_fail(HD_E_USAGE, "%s", how);
}
