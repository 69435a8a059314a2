/* SPDX-License-Identifier: Apache-2.0 */
/* A run on its way to a real MLflow server that is there, is not there, comes back, loses answers, and refuses things.
 */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/services/mlflow_test.h"

/* ---- all of a run ---- */

/* Reads an artifact back with MLflow's own client and compares it with a file of the run. */
static void expect_artifact(const char *run_id, const char *name, const char *file)
{
	char command[2048];
	snprintf(command, sizeof command,
	        "MLFLOW_TRACKING_URI='%s' '%s' -W ignore -c 'import sys, mlflow, filecmp, tempfile\n"
	        "with tempfile.TemporaryDirectory() as d:\n"
	        "    p = mlflow.artifacts.download_artifacts(run_id=\"%s\", artifact_path=\"%s\", dst_path=d)\n"
	        "    sys.exit(0 if filecmp.cmp(p, \"%s/%s\", shallow=False) else 1)' 2>/dev/null",
	        variable("HD_MLFLOW_URL"), variable("HD_MLFLOW_PYTHON"), run_id, name, run.folder, file);
	cr_expect_eq(system(command), 0, "artifact %s is not %s", name, file);
}

static void make_folder(const char *name)
{
	char path[700];
	snprintf(path, sizeof path, "%s/%s", run.folder, name);
	cr_assert_eq(mkdir(path, 0755), 0);
}

Test(mlflow_sender, all_of_a_run_arrives, .init = begin_run, .fini = end_run)
{
	make_folder("artifacts");
	make_folder("artifacts/curves and more");
	make_folder("checkpoints");
	write_in("artifacts/curves and more/loss #1 \xc3\xa8.txt", "loss");
	write_in("artifacts/table.csv", "%s", "");
	write_in("checkpoints/best.safetensors", "weights");
	write_in("checkpoints/model.onnx", "graph");
	write_in("checkpoints/model.onnx.data", "more weights");
	write_in("checkpoints/last.safetensors", "not this one");
	log_points(0, 2500);
	set_status(HD_RUN_FINISHED, 1800000000123);
	GOOD(push("HD_MLFLOW_PROXY"));
	expect_points(0, 2500);
	json_t *r = the_run();
	cr_expect_str_eq(info(r, "status"), "FINISHED");
	cr_expect_str_eq(info(r, "run_name"), "the run");
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(r, "info"), "end_time")), 1800000000123);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(r, "info"), "start_time")), run.created_ms);
	cr_expect_str_eq(kept(r, "params", "learning_rate"), "0.001");
	cr_expect_str_eq(kept(r, "params", "epochs"), "7");
	cr_expect_str_eq(kept(r, "tags", "phase"), "training");
	cr_expect_str_eq(kept(r, "tags", "heimdall.run_id"), run.id);
	cr_expect_str_eq(kept(r, "tags", "mlflow.runName"), "the run");
	cr_expect_str_eq(kept(r, "tags", "mlflow.source.type"), "LOCAL");
	cr_expect_str_eq(kept(r, "tags", "mlflow.source.name"), "heimdall");
	cr_expect_str_neq(kept(r, "tags", "mlflow.user"), "-");
	cr_expect_str_neq(kept(r, "tags", "mlflow.source.git.commit"), "-");
	expect_artifact(info(r, "run_id"), "curves and more/loss _1 \xc3\xa8_af5fc429.txt",
	        "artifacts/curves and more/loss #1 \xc3\xa8.txt");
	expect_artifact(info(r, "run_id"), "config.yaml", "config.yaml");
	expect_artifact(info(r, "run_id"), "model/best.safetensors", "checkpoints/best.safetensors");
	expect_artifact(info(r, "run_id"), "model/model.onnx.data", "checkpoints/model.onnx.data");
	json_decref(r);
	/* again: nothing is left, and only whether the run is there is asked */
	control("clear");
	GOOD(push("HD_MLFLOW_PROXY"));
	cr_expect_eq(in_log("proxy GET"), 1);
	cr_expect_eq(in_log("proxy P"), 0);
	/* what changed goes again */
	write_in("config.yaml", "train:\n  epochs: 8\n");
	GOOD(push("HD_MLFLOW_PROXY"));
	r = the_run();
	expect_artifact(info(r, "run_id"), "config.yaml", "config.yaml");
	json_decref(r);
}

Test(mlflow_sender, many_and_long_texts_arrive, .init = begin_run, .fini = end_run)
{
	json_t *params = json_object(), *tags = json_object();
	char key[32], *value = malloc(20001);
	for (int i = 0; i < 20000; i++)
		value[i] = (char)('a' + i % 26);
	value[20000] = 0;
	for (int i = 0; i < 250; i++) {
		snprintf(key, sizeof key, "p%d", i);
		/* control characters are the longest in JSON */
		json_object_set_new(params, key, i % 2 ? json_string("short") : json_sprintf("\x01%s", value + 14500));
		json_object_set_new(tags, key, json_sprintf("%s%d", value + 15500, i));
	}
	json_object_set_new(params, "long", json_string(value));
	json_object_set_new(params, "gain %", json_string("a"));
	json_object_set_new(params, "gain $", json_string("b"));
	json_object_set_new(tags, "long tag", json_string(value));
	GOOD(hd_run_write_json(&run, "params.json", params));
	GOOD(hd_run_write_json(&run, "tags.json", tags));
	GOOD(push("HD_MLFLOW_URL"));
	json_t *r = the_run();
	cr_expect_eq(json_array_size(json_object_get(json_object_get(r, "data"), "params")), 253);
	const char *got = kept(r, "params", "long");
	cr_expect_eq(strlen(got), 5999 + 3);
	cr_expect(!strncmp(got, value, 5999));
	cr_expect_eq(strlen(kept(r, "tags", "long tag")), 4999 + 3);
	cr_expect_str_eq(kept(r, "params", "p1"), "short");
	cr_expect_eq(strlen(kept(r, "params", "p248")), 5501);
	cr_expect_eq(strlen(kept(r, "tags", "p249")), 4503);
	expect_artifact(info(r, "run_id"), "params/long.txt", "artifacts/params/long.txt");
	json_decref(r);
	json_decref(params);
	json_decref(tags);
	free(value);
}

/* Sparse, so that it costs no disk here. The proxy would hold it in memory. */
Test(mlflow_sender, a_large_file_takes_no_memory, .init = begin_run, .fini = end_run)
{
	struct rusage before, after;
	char path[700];
	make_folder("checkpoints");
	write_in("checkpoints/model.onnx", "large");
	snprintf(path, sizeof path, "%s/checkpoints/model.onnx", run.folder);
	cr_assert_eq(truncate(path, 786000000), 0);
	set_status(HD_RUN_FINISHED, 1800000000123);
	getrusage(RUSAGE_SELF, &before);
	GOOD(push("HD_MLFLOW_URL"));
	getrusage(RUSAGE_SELF, &after);
	cr_expect_lt(after.ru_maxrss - before.ru_maxrss, 30000, "%ld KB more", after.ru_maxrss - before.ru_maxrss);
	json_t *r = the_run();
	expect_artifact(info(r, "run_id"), "model/model.onnx", "checkpoints/model.onnx");
	json_decref(r);
}

Test(mlflow_sender, memory_does_not_grow_with_points, .init = begin_run, .fini = end_run)
{
	struct rusage before, after;
	log_points(0, 400);
	GOOD(push("HD_MLFLOW_URL"));
	getrusage(RUSAGE_SELF, &before);
	log_points(400, 10000);
	GOOD(push("HD_MLFLOW_URL"));
	getrusage(RUSAGE_SELF, &after);
	cr_expect_lt(after.ru_maxrss - before.ru_maxrss, 4000, "%ld KB more", after.ru_maxrss - before.ru_maxrss);
	expect_points(0, 10000);
}

/* ---- beside training ---- */

static void start_sender(hd_sender **sender)
{
	GOOD(hd_sender_start(sender, &run, variable("HD_MLFLOW_PROXY"), &settings));
}

/* Ten lines a second for so long, as training logs them. */
static int64_t train(hd_sender *sender, int64_t step, double seconds)
{
	for (double end = hd_now_s() + seconds; hd_now_s() < end; step++) {
		double begun = hd_now_s();
		log_points(step, step + 1);
		hd_sender_wake(sender);
		cr_expect_lt(hd_now_s() - begun, 1, "training waited %.3f s", hd_now_s() - begun);
		usleep(100000);
	}
	return step;
}

/* Until some points are there: a server that has just started takes its time. */
static int64_t train_until_sent(hd_sender *sender)
{
	hd_sent sent = {0};
	int64_t step = 0;
	for (int i = 0; i < 60 && sent.points == 0; i++) {
		step = train(sender, step, 1);
		GOOD(hd_sender_state(&sent, &run));
	}
	cr_assert_gt(sent.points, 0);
	return step;
}

static void finish(hd_sender *sender, bool all)
{
	hd_sent sent;
	hd_sender_finish(sender, &sent, 20);
	cr_expect_eq(sent.all, all, "%s", sent.problem);
}

Test(mlflow_sender, points_arrive_while_it_trains, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	start_sender(&sender);
	control("clear");
	int64_t step = train(sender, 0, 5);
	int batches = in_log("proxy POST /api/2.0/mlflow/runs/log-batch");
	/* two of them are params and tags */
	cr_expect(batches >= 1 && batches <= 8, "%d batches in 5 s", batches);
	sleep(5);
	expect_points(0, step);
	expect_status("RUNNING");
	int64_t more = train(sender, step, 1);
	set_status(HD_RUN_FINISHED, 1800000000123);
	finish(sender, true);
	expect_points(0, more);
	expect_status("FINISHED");
}

Test(mlflow_sender, one_request_a_second_at_most, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	start_sender(&sender);
	train(sender, 0, 3);
	struct rusage before, after;
	control("clear");
	getrusage(RUSAGE_SELF, &before);
	sleep(5); /* nothing happens: nobody is asked */
	getrusage(RUSAGE_SELF, &after);
	cr_expect_leq(in_log("proxy "), 2);
	double cpu_s = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
	               1e-6 * (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec);
	cr_expect_lt(cpu_s, 0.05);
	finish(sender, true);
}

Test(mlflow_sender, a_server_that_comes_late_gets_all, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	control("server kill");
	start_sender(&sender);
	int64_t step = train(sender, 0, 4);
	control("server start");
	step = train(sender, step, 8);
	set_status(HD_RUN_FINISHED, 1800000000123);
	finish(sender, true);
	expect_points(0, step);
	expect_status("FINISHED");
}

Test(mlflow_sender, a_server_killed_twice_loses_nothing, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	int64_t step = 0;
	start_sender(&sender);
	for (int i = 0; i < 2; i++) {
		step = train(sender, step, 2.3);
		control("server kill");
		step = train(sender, step, 2);
		control("server start");
	}
	step = train(sender, step, 8);
	set_status(HD_RUN_KILLED, 1800000000123);
	finish(sender, true);
	expect_points(0, step);
	expect_status("KILLED");
}

Test(mlflow_sender, a_server_gone_at_the_end_gets_it_by_push, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	start_sender(&sender);
	int64_t step = train_until_sent(sender);
	control("server kill");
	step = train(sender, step, 2);
	set_status(HD_RUN_FAILED, 1800000000123);
	double begun = hd_now_s();
	finish(sender, false);
	cr_expect_lt(hd_now_s() - begun, 10);
	hd_sent sent;
	GOOD(hd_sender_state(&sent, &run));
	cr_expect(!sent.all && sent.points_left > 0 && sent.points > 0);
	cr_expect_eq(sent.points + sent.points_left, step * NAMES);
	control("server start");
	GOOD(push("HD_MLFLOW_PROXY"));
	expect_points(0, step);
	expect_status("FAILED");
	GOOD(hd_sender_state(&sent, &run));
	cr_expect(sent.all && sent.points_left == 0, "%s", sent.problem);
}

Test(mlflow_sender, a_server_that_hangs_holds_up_for_patience_alone, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	hd_sent sent;
	start_sender(&sender);
	int64_t step = train_until_sent(sender);
	control("server pause");
	step = train(sender, step, 3);
	double begun = hd_now_s();
	hd_sender_finish(sender, &sent, 3);
	cr_expect_lt(hd_now_s() - begun, 8);
	cr_expect(!sent.all);
	control("server continue");
	GOOD(push("HD_MLFLOW_PROXY"));
	expect_points(0, step);
}

/* ---- answers that are lost ---- */

Test(mlflow_sender, lost_answers_make_nothing_twice, .init = begin_run, .fini = end_run)
{
	static const char *const paths[] = {"experiments/create", "runs/create", "runs/search", "runs/update"};
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		control("fault lost 2 * %s", paths[i]);
	control("fault lost 20/2 POST log-batch");
	control("fault lost 2 PUT artifacts");
	log_points(0, 1000);
	set_status(HD_RUN_FINISHED, 1800000000123);
	GOOD(push("HD_MLFLOW_PROXY"));
	expect_points(0, 1000);
	expect_status("FINISHED");
}

Test(mlflow_sender, lost_answers_beside_training, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	control("fault lost 2 POST create");
	control("fault lost 3/2 POST log-batch");
	start_sender(&sender);
	int64_t step = train(sender, 0, 10);
	finish(sender, true);
	expect_points(0, step);
}

Test(mlflow_sender, errors_that_pass_are_sent_again, .init = begin_run, .fini = end_run)
{
	GOOD(push("HD_MLFLOW_PROXY")); /* params and tags, so that what follows meets points */
	control("fault status 1 POST log-batch 502");
	control("fault json 1 POST log-batch 503,TEMPORARILY_UNAVAILABLE");
	control("fault json 1 POST log-batch 429,REQUEST_LIMIT_EXCEEDED");
	control("fault json 2 POST log-batch 500,INTERNAL_ERROR");
	control("fault garbage 1 POST log-batch");
	control("fault early 1 POST log-batch");
	control("fault reset 1 POST log-batch 0");
	log_points(0, 600);
	GOOD(push("HD_MLFLOW_PROXY"));
	expect_points(0, 600);
}

/* A process that dies while it sends, again and again. */
Test(mlflow_sender, killed_senders_send_nothing_twice, .init = begin_run, .fini = end_run)
{
	log_points(0, 4000);
	for (int i = 0; i < 8; i++) {
		pid_t child = fork();
		if (child == 0) {
			hd_sent sent;
			(void)hd_sender_push(&sent, &run, variable("HD_MLFLOW_PROXY"), &settings);
			_exit(0);
		}
		usleep((useconds_t)(150000 + 90000 * i));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	GOOD(push("HD_MLFLOW_PROXY"));
	expect_points(0, 4000);
}

/* What mlflow.json held is lost: all is sent again, and is there once. */
Test(mlflow_sender, a_lost_state_doubles_nothing, .init = begin_run, .fini = end_run)
{
	char path[700];
	log_points(0, 1500);
	GOOD(push("HD_MLFLOW_URL"));
	snprintf(path, sizeof path, "%s/mlflow.json", run.folder);
	cr_assert_eq(unlink(path), 0);
	GOOD(push("HD_MLFLOW_URL"));
	expect_points(0, 1500);
}

/* A server that says it has no such run: it is looked for again, and what comes again is there once. */
Test(mlflow_sender, a_run_that_is_not_known_is_looked_for, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	log_points(0, 1500);
	GOOD(push("HD_MLFLOW_PROXY"));
	control("fault json 1 GET runs/get 404,RESOURCE_DOES_NOT_EXIST");
	GOOD(push("HD_MLFLOW_PROXY"));
	expect_points(0, 1500);
	start_sender(&sender);
	int64_t step = train(sender, 1500, 3);
	control("fault json 1 POST log-batch 404,RESOURCE_DOES_NOT_EXIST");
	control("fault json 1 GET runs/get 404,RESOURCE_DOES_NOT_EXIST");
	step = train(sender, step, 5);
	set_status(HD_RUN_FINISHED, 1800000000123);
	finish(sender, true);
	expect_points(0, step);
	expect_status("FINISHED");
}

/* ---- what a server refuses ---- */

Test(mlflow_sender, refused_points_do_not_hold_up_the_others, .init = begin_run, .fini = end_run)
{
	char path[700];
	hd_metrics_log *log;
	hd_mlflow_state state;
	hd_metrics_line bad = {.time_ms = -5, .step = 77, .count = 2, .metrics = {{"lr", 1}, {"bad", 2}}};
	log_points(0, 150);
	snprintf(path, sizeof path, "%s/metrics.log", run.folder);
	GOOD(hd_metrics_log_open(&log, path));
	GOOD(hd_metrics_log_append(log, &bad));
	hd_metrics_log_close(log);
	log_points(150, 300);
	GOOD(push("HD_MLFLOW_URL"));
	expect_points(0, 300);
	GOOD(hd_mlflow_state_read(&state, &run));
	cr_expect_eq(state.refused_count, 2);
	cr_expect(strstr(json_string_value(json_array_get(state.refused, 0)), "metric lr, step 77: "));
	hd_mlflow_state_free(&state);
}

Test(mlflow_sender, a_param_that_changed_does_not_hold_up_the_others, .init = begin_run, .fini = end_run)
{
	char path[700];
	log_points(0, 10);
	GOOD(push("HD_MLFLOW_URL"));
	write_in("params.json", "{\"learning_rate\": \"0.5\", \"epochs\": \"7\", \"resume_1/learning_rate\": \"0.5\"}");
	GOOD(push("HD_MLFLOW_URL"));
	/* the same where what was sent is not known any more */
	snprintf(path, sizeof path, "%s/mlflow.json", run.folder);
	cr_assert_eq(unlink(path), 0);
	write_in("params.json", "{\"learning_rate\": \"0.25\", \"epochs\": \"7\", \"new\": \"1\"}");
	GOOD(push("HD_MLFLOW_URL"));
	json_t *r = the_run();
	cr_expect_str_eq(kept(r, "params", "learning_rate"), "0.001");
	cr_expect_str_eq(kept(r, "params", "resume_1/learning_rate"), "0.5");
	cr_expect_str_eq(kept(r, "params", "new"), "1");
	json_decref(r);
	expect_points(0, 10);
}

Test(mlflow_sender, a_batch_that_fails_for_ever_is_taken_apart, .init = begin_run, .fini = end_run)
{
	GOOD(push("HD_MLFLOW_PROXY"));
	log_points(0, 100);
	control("fault json 7 POST log-batch 500,INTERNAL_ERROR");
	hd_status st = push("HD_MLFLOW_PROXY");
	for (int i = 0; i < 3 && st != HD_OK; i++)
		st = push("HD_MLFLOW_PROXY");
	GOOD(st);
	expect_points(0, 100);
}

Test(mlflow_sender, deleted_experiments_and_runs_are_named, .init = begin_run, .fini = end_run)
{
	char words[200];
	log_points(0, 100);
	GOOD(push("HD_MLFLOW_URL"));
	json_t *experiment = the_experiment(), *r = the_run();
	json_t *of_run = json_pack("{s:s}", "run_id", info(r, "run_id"));
	json_t *of_experiment = json_pack("{s:s}", "experiment_id", text(experiment, "experiment_id"));
	json_decref(ask("POST", "runs/delete", json_incref(of_run)));
	log_points(100, 200);
	snprintf(words, sizeof words, "mlflow runs restore --run-id %s", info(r, "run_id"));
	expect_error(push("HD_MLFLOW_URL"), HD_E_FAILED, words);
	json_decref(ask("POST", "runs/restore", of_run));
	GOOD(push("HD_MLFLOW_URL"));
	expect_points(0, 200);
	/* another run of an experiment that was deleted */
	json_decref(ask("POST", "experiments/delete", json_incref(of_experiment)));
	hd_run_free(&run);
	char path[400];
	snprintf(path, sizeof path, "%s/runs", folder);
	GOOD(hd_run_create(&run, path, folder, "prefix", "the second"));
	set_status(HD_RUN_RUNNING, 0);
	snprintf(words, sizeof words, "mlflow experiments restore --experiment-id %s",
	        text(experiment, "experiment_id"));
	expect_error(push("HD_MLFLOW_URL"), HD_E_FAILED, words);
	hd_sent sent;
	GOOD(hd_sender_state(&sent, &run));
	cr_expect(strstr(sent.problem, words), "%s", sent.problem);
	json_decref(ask("POST", "experiments/restore", of_experiment));
	GOOD(push("HD_MLFLOW_URL"));
	json_decref(experiment);
	json_decref(r);
}

Test(mlflow_sender, what_is_no_mlflow_server_is_said, .init = begin_run, .fini = end_run)
{
	control("fault page 9 * experiments");
	expect_error(push("HD_MLFLOW_PROXY"), HD_E_FAILED, "not as an MLflow server does");
	control("clear");
	control("fault json 9 * experiments 403,PERMISSION_DENIED");
	expect_error(push("HD_MLFLOW_PROXY"), HD_E_FAILED, "PERMISSION_DENIED");
	control("clear");
	control("fault json 9 * log-batch 403,PERMISSION_DENIED");
	log_points(0, 50);
	expect_error(push("HD_MLFLOW_PROXY"), HD_E_FAILED, "PERMISSION_DENIED");
	control("clear");
	GOOD(push("HD_MLFLOW_PROXY"));
	expect_points(0, 50);
}

/* ---- how it ends, and goes on ---- */

Test(mlflow_sender, a_run_that_died_is_killed, .init = begin_run, .fini = end_run)
{
	log_points(0, 20);
	pid_t child = fork();
	if (child == 0) {
		set_status(HD_RUN_RUNNING, 0);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	GOOD(push("HD_MLFLOW_URL"));
	expect_status("KILLED");
	/* resumed */
	hd_sender *sender;
	set_status(HD_RUN_RUNNING, 0);
	start_sender(&sender);
	int64_t step = train(sender, 20, 3);
	expect_status("RUNNING");
	set_status(HD_RUN_FINISHED, 1800000000123);
	finish(sender, true);
	expect_status("FINISHED");
	expect_points(0, step);
}

Test(mlflow_sender, keys_are_sent_and_written_nowhere, .init = begin_run, .fini = end_run)
{
	char url[200], command[600];
	hd_sent sent;
	log_points(0, 20);
	snprintf(url, sizeof url, "http://rf:seCret%%2F@%s", variable("HD_MLFLOW_PROXY") + 7);
	control("clear");
	control("fault json 1 POST runs/create 503,TEMPORARILY_UNAVAILABLE");
	GOOD(hd_sender_push(&sent, &run, url, &settings));
	cr_expect_gt(in_log("auth=1"), 4);
	cr_expect_eq(in_log("auth=0"), 0);
	snprintf(command, sizeof command, "! grep -rq seCret '%s'", folder);
	cr_expect_eq(system(command), 0, "the password is in the folder");
	/* a token */
	setenv("MLFLOW_TRACKING_TOKEN", "toKen", 1);
	control("clear");
	log_points(20, 30);
	GOOD(push("HD_MLFLOW_PROXY"));
	cr_expect_eq(in_log("auth=0"), 0);
	snprintf(command, sizeof command, "! grep -rq toKen '%s'", folder);
	cr_expect_eq(system(command), 0, "the token is in the folder");
	expect_points(0, 30);
}

/* ---- by hand ---- */

/* heimdall ARGUMENTS; its exit code, and in proxy_text what it printed. */
static int heimdall(const char *arguments, ...)
{
	char words[1200], command[1400];
	const char *build = getenv("BUILD");
	va_list args;
	va_start(args, arguments);
	vsnprintf(words, sizeof words, arguments, args);
	va_end(args);
	snprintf(command, sizeof command, "'%s/heimdall' %s 2>&1", build ? build : "build", words);
	FILE *pipe = popen(command, "r");
	cr_assert_not_null(pipe);
	proxy_text[fread(proxy_text, 1, sizeof proxy_text - 1, pipe)] = 0;
	int status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(mlflow_sender, track_push_and_status, .init = begin_run, .fini = end_run)
{
	log_points(0, 40);
	cr_expect_eq(heimdall("track status --runs_dir '%s/runs'", folder), 0);
	cr_expect(strstr(proxy_text, "not sent") && strstr(proxy_text, "200 points left"), "%s", proxy_text);
	cr_expect_eq(heimdall("track push 'the run' --runs_dir '%s/runs'", folder), 2, "%s", proxy_text);
	cr_expect(strstr(proxy_text, "which server?"), "%s", proxy_text);
	cr_expect_eq(heimdall("track push '%s' --tracking_uri '%s'", run.folder, variable("HD_MLFLOW_URL")), 0, "%s",
	        proxy_text);
	cr_expect(strstr(proxy_text, "nothing is left"), "%s", proxy_text);
	cr_expect_eq(heimdall("track status 'the run' --runs_dir '%s/runs'", folder), 0);
	cr_expect(strstr(proxy_text, "all sent  200 points"), "%s", proxy_text);
	cr_expect_eq(heimdall("track pull"), 2);
	expect_points(0, 40);
}
