/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests against real MLflow servers share: a run's folder, points that come again from their step, what the
 * server has of them, the proxy's control line. tests/services/mlflow.sh starts the servers and sets the variables.
 * Include once per test program.
 */
#ifndef HD_TESTS_SERVICES_MLFLOW_TEST_H
#define HD_TESTS_SERVICES_MLFLOW_TEST_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/progress.h"
#include "host/track/metrics_log.h"
#include "host/track/mlflow_client.h"
#include "host/track/mlflow_sender.h"
#include "host/track/mlflow_state.h"
#include "tests/services/control.h"

static char folder[256];
static hd_run run;
static hd_settings settings;
static hd_mlflow *client; /* of the server itself */

/* A command to the servers' proxy; its answer is in proxy_text. */
#define control(...) control_at("HD_MLFLOW_CONTROL", __VA_ARGS__)

/* How often a text stands in the proxy's log. */
static inline int in_log(const char *words)
{
	int count = 0;
	control("log");
	for (const char *at = proxy_text; (at = strstr(at, words)); at++)
		count++;
	return count;
}

/* ---- a run ---- */

static inline void write_in(const char *name, const char *format, ...)
{
	char path[700];
	va_list args;
	snprintf(path, sizeof path, "%s/%s", run.folder, name);
	FILE *f = fopen(path, "w");
	cr_assert(f, "%s", path);
	va_start(args, format);
	vfprintf(f, format, args);
	va_end(args);
	cr_assert_eq(fclose(f), 0);
}

static inline void set_status(hd_run_state state, int64_t end_ms)
{
	hd_run_status status = {.state = state, .start_ms = run.created_ms, .end_ms = end_ms, .attempts = 1};
	hd_run_status_this_process(&status);
	GOOD(hd_run_status_write(&run, &status));
}

/* An experiment of its own to each test, in a folder of its own. */
static inline void begin_run(void)
{
	char path[400];
	snprintf(folder, sizeof folder, "%s/heimdall-mlflow-XXXXXX", variable("TMPDIR"));
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/runs", folder);
	control("clear");
	control("server start");
	GOOD(hd_mlflow_open(&client, variable("HD_MLFLOW_URL")));
	GOOD(hd_settings_init(&settings));
	GOOD(hd_run_create(&run, path, folder, "prefix", "the run"));
	set_status(HD_RUN_RUNNING, 0);
	write_in("params.json", "{\"learning_rate\": \"0.001\", \"epochs\": \"7\"}");
	write_in("tags.json", "{\"phase\": \"training\", \"service\": \"training\"}");
	write_in("config.yaml", "train:\n  epochs: 7\n");
}

static inline void end_run(void)
{
	control("clear");
	control("server start");
	hd_mlflow_close(client);
	hd_run_free(&run);
	hd_settings_free(&settings);
}

/* ---- points ---- */

#define NAMES 5
static const char *const names[NAMES] = {"train_loss", "lr", "val/loss", "error:p90", "gradient_norm"};

static inline int64_t time_of(int64_t step)
{
	return 1700000000000 + 37 * step;
}

/* Full precision, with NaN and infinities among them. */
static inline double value_of(int64_t step, int name)
{
	int64_t i = step * NAMES + name;
	if (i % 41 == 7)
		return NAN;
	if (i % 43 == 8)
		return i % 2 ? INFINITY : -INFINITY;
	return sin((double)i) * pow(10, (double)(i % 30) - 15);
}

static inline void log_points(int64_t from, int64_t to)
{
	char path[700];
	hd_metrics_log *log;
	snprintf(path, sizeof path, "%s/metrics.log", run.folder);
	GOOD(hd_metrics_log_open(&log, path));
	for (int64_t step = from; step < to; step++) {
		hd_metrics_line line = {.time_ms = time_of(step), .step = step, .count = NAMES};
		for (int n = 0; n < NAMES; n++)
			line.metrics[n] = (hd_metric){names[n], value_of(step, n)};
		GOOD(hd_metrics_log_append(log, &line));
	}
	hd_metrics_log_close(log);
}

/* ---- what the server has ---- */

static inline json_t *ask(const char *method, const char *path, json_t *body)
{
	hd_mlflow_answer answer;
	GOOD(hd_mlflow_ask(client, &answer, method, path, body, 20));
	json_t *out = json_incref(answer.body);
	hd_mlflow_answer_free(&answer);
	json_decref(body);
	return out;
}

static inline const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));
	return value ? value : "";
}

static inline json_t *the_experiment(void)
{
	json_t *body = ask("GET", "experiments/get-by-name", json_pack("{s:s}", "experiment_name", run.experiment));
	json_t *out = json_incref(json_object_get(body, "experiment"));
	json_decref(body);
	return out;
}

/* The one run there is, among all with its tag or without it. */
static inline json_t *the_run(void)
{
	json_t *experiment = the_experiment();
	json_t *body = ask("POST", "runs/search",
	        json_pack("{s:[s], s:s}", "experiment_ids", text(experiment, "experiment_id"), "run_view_type", "ALL"));
	json_t *runs = json_object_get(body, "runs"), *out = json_incref(json_array_get(runs, 0));
	cr_assert_eq(json_array_size(runs), 1, "%zu runs", json_array_size(runs));
	json_decref(body);
	json_decref(experiment);
	return out;
}

static inline const char *info(const json_t *of_run, const char *key)
{
	return text(json_object_get(of_run, "info"), key);
}

/* A param's or tag's value, "-" where there is none. */
static inline const char *kept(const json_t *of_run, const char *kind, const char *key)
{
	size_t i;
	const json_t *item;
	json_array_foreach(json_object_get(json_object_get(of_run, "data"), kind), i, item)
	{
		if (!strcmp(text(item, "key"), key))
			return text(item, "value");
	}
	return "-";
}

static inline double number(const json_t *value)
{
	const char *word = json_string_value(value);
	if (word)
		return !strcmp(word, "NaN") ? NAN : !strcmp(word, "Infinity") ? INFINITY : -INFINITY;
	return json_number_value(value);
}

/* A database has no infinity: the server keeps the largest number in its place. */
static inline bool same(double got, double wanted)
{
	if (isinf(wanted) && fabs(got) == 1.7976931348623157e308)
		return signbit(got) == signbit(wanted);
	return isnan(wanted) ? isnan(got) : got == wanted;
}

/* Every point of steps from..to-1 of a name once, and no other. */
static inline void expect_name(const char *run_id, int name, int64_t from, int64_t to)
{
	int *seen = calloc((size_t)(to - from) + 1, sizeof *seen);
	char *token = strdup("");
	int64_t count = 0;
	do {
		json_t *query =
		        json_pack("{s:s, s:s, s:i}", "run_id", run_id, "metric_key", names[name], "max_results", 25000);
		if (*token)
			json_object_set_new(query, "page_token", json_string(token));
		json_t *page = ask("GET", "metrics/get-history", query);
		size_t i;
		const json_t *point;
		json_array_foreach(json_object_get(page, "metrics"), i, point)
		{
			int64_t step = json_integer_value(json_object_get(point, "step"));
			cr_assert(step >= from && step < to, "step %lld", (long long)step);
			seen[step - from]++;
			count++;
			cr_assert_eq(json_integer_value(json_object_get(point, "timestamp")), time_of(step));
			double got = number(json_object_get(point, "value")), wanted = value_of(step, name);
			cr_assert(same(got, wanted), "%s, step %lld: %.17g, not %.17g", names[name], (long long)step,
			        got, wanted);
		}
		free(token);
		token = strdup(text(page, "next_page_token"));
		json_decref(page);
	} while (*token);
	free(token);
	for (int64_t i = 0; i < to - from; i++)
		cr_assert_eq(seen[i], 1, "%s, step %lld: %d times", names[name], (long long)(i + from), seen[i]);
	free(seen);
	cr_assert_eq(count, to - from);
}

static inline void expect_points(int64_t from, int64_t to)
{
	json_t *r = the_run();
	for (int n = 0; n < NAMES; n++)
		expect_name(info(r, "run_id"), n, from, to);
	json_decref(r);
}

static inline void expect_status(const char *word)
{
	json_t *r = the_run();
	cr_expect_str_eq(info(r, "status"), word);
	json_decref(r);
}

/* `track push` through the proxy or straight to the server. */
static inline hd_status push(const char *url)
{
	hd_sent sent;
	hd_status st = hd_sender_push(&sent, &run, variable(url), &settings);
	cr_expect_eq(sent.all, st == HD_OK, "%s", sent.problem);
	return st;
}

static inline void expect_error(hd_status got, hd_status wanted, const char *words)
{
	cr_assert_eq(got, wanted, "status %d (%s), not %d", got, got == HD_OK ? "ok" : hd_error_text(), wanted);
	cr_assert(strstr(hd_error_text(), words), "no '%s' in: %s", words, hd_error_text());
}

#endif
