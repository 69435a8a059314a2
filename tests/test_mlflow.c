/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to an MLflow server, without one: names, texts, addresses and keys, what is kept of a run, and nobody
 * there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/track/metrics_log.h"
#include "host/track/mlflow_address.h"
#include "host/track/mlflow_client.h"
#include "host/track/mlflow_names.h"
#include "host/track/mlflow_sender.h"
#include "host/track/mlflow_state.h"
#include "tests/folder.h"

#define GOOD(call)                                                                                                     \
	do {                                                                                                           \
		hd_status good_ = (call);                                                                              \
		cr_assert_eq(good_, HD_OK, "%s: %s", #call, hd_error_text());                                          \
	} while (0)

static const char *const variables[] = {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH",
        "MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_HTTP_REQUEST_TIMEOUT", "http_proxy", "https_proxy", "all_proxy"};

static void begin(void)
{
	start();
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		unsetenv(variables[i]);
	setenv("HOME", folder, 1);
}

/* ---- names and texts ---- */

/* Legal by the rule that servers apply: characters, length, and a path that is its own normal form. */
static void expect_legal(const char *name)
{
	size_t length = strlen(name);
	cr_expect(length >= 1 && length <= 250, "'%s' has %zu characters", name, length);
	cr_expect(name[0] != '/' && name[length - 1] != '/', "'%s'", name);
	cr_expect(!strstr(name, "//") && !strstr(name, "/./") && !strstr(name, "/../"), "'%s'", name);
	cr_expect(strncmp(name, "./", 2) != 0 && strncmp(name, "../", 3) != 0, "'%s'", name);
	cr_expect(strcmp(name, ".") != 0 && strcmp(name, "..") != 0, "'%s'", name);
	cr_expect(length < 2 || strcmp(name + length - 2, "/.") != 0, "'%s'", name);
	cr_expect(length < 3 || strcmp(name + length - 3, "/..") != 0, "'%s'", name);
	for (size_t i = 0; i < length; i++)
		cr_expect((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
		                  (name[i] >= '0' && name[i] <= '9') || strchr("_-./: ", name[i]),
		        "'%s' has '%c'", name, name[i]);
}

Test(mlflow, legal_names_stay)
{
	static const char *const names[] = {"a", "val_loss", "train/loss", "a.b-c:d e", "...", "a/.b", ".a", "..."};
	char out[HD_MLFLOW_NAME + 1], longest[HD_MLFLOW_NAME + 1];
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		hd_mlflow_name(out, names[i]);
		cr_expect_str_eq(out, names[i]);
	}
	memset(longest, 'x', HD_MLFLOW_NAME);
	longest[HD_MLFLOW_NAME] = 0;
	hd_mlflow_name(out, longest);
	cr_expect_str_eq(out, longest);
}

Test(mlflow, other_names_become_legal_and_stay_different)
{
	char a[400], b[400];
	memset(a, 'x', sizeof a - 1);
	memset(b, 'x', sizeof b - 1);
	a[399] = b[399] = 0;
	b[390] = 'y';
	const char *const names[] = {"", ".", "..", "/", "//", "///a", "a/", "/a", "a//b", "a/./b", "a/../b", "a/..",
	        "./a", "gain %", "gain $", "gain #", "citt\xc3\xa0", "citt\xc3\xa8", "a\nb", "a\tb", "a=b", "\xff",
	        "\xfe", a, b, "a/b/", "a_", "../../etc"};
	enum { COUNT = sizeof names / sizeof *names };
	char out[COUNT][HD_MLFLOW_NAME + 1];
	for (size_t i = 0; i < COUNT; i++) {
		hd_mlflow_name(out[i], names[i]);
		expect_legal(out[i]);
		for (size_t k = 0; k < i; k++)
			cr_expect_str_neq(out[i], out[k], "'%s' and '%s' are one name", names[i], names[k]);
	}
}

/* All names of up to four of these characters. */
Test(mlflow, every_short_name_becomes_legal)
{
	static const char letters[] = "a./_%";
	size_t n = sizeof letters - 1;
	for (size_t i = 0; i < n * n * n * n; i++) {
		char name[5] = {
		        letters[i % n], letters[i / n % n], letters[i / n / n % n], letters[i / n / n / n % n], 0};
		char out[HD_MLFLOW_NAME + 1];
		hd_mlflow_name(out, name);
		expect_legal(out);
	}
}

static void expect_text(const char *in, size_t most, const char *out, bool shortened)
{
	char *got;
	bool was;
	GOOD(hd_mlflow_text(&got, &was, in, most));
	cr_expect_str_eq(got, out);
	cr_expect_eq(was, shortened, "'%s'", in);
	free(got);
}

Test(mlflow, texts_are_shortened_by_characters)
{
	expect_text("", 4, "", false);
	expect_text("abcd", 4, "abcd", false);
	expect_text("abcde", 4, "abc\xe2\x80\xa6", true);
	expect_text("\xc3\xa0\xc3\xa8\xc3\xac\xc3\xb2", 4, "\xc3\xa0\xc3\xa8\xc3\xac\xc3\xb2", false);
	expect_text("\xc3\xa0\xc3\xa8\xc3\xac\xc3\xb2\xc3\xb9", 4, "\xc3\xa0\xc3\xa8\xc3\xac\xe2\x80\xa6", true);
	expect_text("\xf0\x9f\x93\xa1"
	            "b",
	        1, "\xe2\x80\xa6", true);
}

Test(mlflow, what_is_no_utf8_becomes_question_marks)
{
	expect_text("a\xff"
	            "b",
	        9, "a?b", false);
	expect_text("a\xc3", 9, "a?", false);
	expect_text("\xc0\x80", 9, "??", false);           /* too long a form */
	expect_text("\xed\xa0\x80", 9, "???", false);      /* half of a pair */
	expect_text("\xf4\x90\x80\x80", 9, "????", false); /* behind the last one */
}

static void expect_path(const char *in, const char *out)
{
	char *got;
	GOOD(hd_mlflow_path(&got, in));
	cr_expect_str_eq(got, out);
	free(got);
}

Test(mlflow, paths_of_artifacts_survive_being_taken_apart)
{
	expect_path("curves/loss.png", "curves/loss.png");
	expect_path("a b/citt\xc3\xa0+&='.csv", "a b/citt\xc3\xa0+&='.csv");
	expect_path("a#.csv", "a__43037bc0.csv");
	expect_path("a%.csv", "a__cc438e60.csv");
	expect_path("a.b/c?", "a.b/c__5613c735");
	expect_path("\xff", "__ff000000");
}

/* ---- which server ---- */

static hd_status uri_of(char **out, const char *value, hd_given how)
{
	hd_settings settings;
	GOOD(hd_settings_init(&settings));
	if (value)
		GOOD(hd_settings_set(&settings, "tracking_uri", value, "test"));
	settings.given[HD_SET_tracking_uri] = (uint8_t)how;
	hd_status st = hd_mlflow_uri(out, &settings);
	hd_settings_free(&settings);
	return st;
}

static void expect_uri(const char *value, hd_given how, const char *wanted)
{
	char *uri;
	GOOD(uri_of(&uri, value, how));
	cr_expect_str_eq(uri, wanted);
	free(uri);
}

Test(mlflow, the_server_is_found_in_order, .init = begin, .fini = stop)
{
	expect_uri(NULL, HD_NOT_GIVEN, "");
	expect_uri("http://file:1", HD_GIVEN_FILE, "http://file:1");
	setenv("MLFLOW_TRACKING_URI", "http://variable:1", 1);
	expect_uri(NULL, HD_NOT_GIVEN, "http://variable:1");
	expect_uri("http://file:1", HD_GIVEN_FILE, "http://variable:1");
	expect_uri("https://flag:1", HD_GIVEN_FLAG, "https://flag:1");
	expect_uri("http://own:1", HD_GIVEN_ENVIRONMENT, "http://own:1");
	expect_uri("none", HD_GIVEN_FLAG, "");
	setenv("MLFLOW_TRACKING_URI", "none", 1);
	expect_uri(NULL, HD_NOT_GIVEN, "");
}

static void expect_no_uri(const char *value, const char *words)
{
	char *uri;
	cr_expect_eq(uri_of(&uri, value, HD_GIVEN_FLAG), HD_E_USAGE, "%s", value);
	cr_expect(strstr(hd_error_text(), words), "no '%s' in: %s", words, hd_error_text());
	cr_expect(!strstr(hd_error_text(), "seCret"), "the password is shown: %s", hd_error_text());
}

Test(mlflow, what_is_no_server_says_how_to_start_one, .init = begin, .fini = stop)
{
	expect_no_uri("postgresql://rf:seCret@db.example/mlflow",
	        "mlflow server --backend-store-uri postgresql://rf:***@db.example/mlflow --artifacts-destination "
	        "s3://");
	expect_no_uri("postgresql://rf:seC/re@t@db.example/mlflow", "mlflow server");
	expect_no_uri("postgresql://rf@db.example/mlflow", "--backend-store-uri postgresql://rf@db.example/mlflow ");
	expect_no_uri("mysql+pymysql://rf:seCret@db/mlflow", "--backend-store-uri mysql+pymysql://rf:***@db/mlflow ");
	expect_no_uri("sqlite:///mlflow.db", "--backend-store-uri sqlite:///mlflow.db ");
	expect_no_uri("./mlruns", "start one: mlflow server");
	expect_no_uri("file:///data/mlruns", "start one: mlflow server");
	expect_no_uri("databricks://x", "http(s)://");
}

/* ---- its address and keys ---- */

static void write_credentials(const char *text)
{
	mkdir(file_in(".mlflow"), 0700);
	FILE *f = fopen(file_in(".mlflow/credentials"), "w");
	cr_assert(f);
	fputs(text, f);
	fclose(f);
}

Test(mlflow, an_address_has_its_parts, .init = begin, .fini = stop)
{
	hd_mlflow_address a;
	GOOD(hd_mlflow_address_read(&a, "https://rf:s%40%2Fc@tracking.example:8443/mlflow/?x=1#y"));
	cr_expect_str_eq(a.base, "https://tracking.example:8443/mlflow");
	cr_expect_str_eq(a.root, "https://tracking.example:8443");
	cr_expect_str_eq(a.user, "rf");
	cr_expect_str_eq(a.password, "s@/c");
	cr_expect_eq(a.timeout_s, 120);
	cr_expect(!a.token && !a.insecure);
	hd_mlflow_address_free(&a);
	cr_expect_eq(hd_mlflow_address_read(&a, "http://rf:s@/c@host:x/"), HD_E_USAGE);
	cr_expect(!strstr(hd_error_text(), "s@/c"));
	setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7", 1);
	setenv("MLFLOW_TRACKING_INSECURE_TLS", "true", 1);
	GOOD(hd_mlflow_address_read(&a, "http://127.0.0.1:5000"));
	cr_expect_str_eq(a.base, "http://127.0.0.1:5000");
	cr_expect_eq(a.timeout_s, 7);
	cr_expect(a.insecure && !a.user && !a.token);
	hd_mlflow_address_free(&a);
	setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon", 1);
	cr_expect_eq(hd_mlflow_address_read(&a, "http://127.0.0.1:5000"), HD_E_USAGE);
}

static void expect_keys(const char *uri, const char *user, const char *password, const char *token)
{
	hd_mlflow_address a;
	GOOD(hd_mlflow_address_read(&a, uri));
	cr_expect_str_eq(a.user ? a.user : "-", user);
	cr_expect_str_eq(a.password ? a.password : "-", password);
	cr_expect_str_eq(a.token ? a.token : "-", token);
	hd_mlflow_address_free(&a);
}

Test(mlflow, keys_are_found_in_mlflows_order, .init = begin, .fini = stop)
{
	hd_mlflow_address a;
	expect_keys("http://h", "-", "-", "-");
	setenv("MLFLOW_TRACKING_TOKEN", "token", 1);
	expect_keys("http://h", "-", "-", "token");
	write_credentials("[mlflow]\nmlflow_tracking_username = filed\nmlflow_tracking_password = of file\n");
	expect_keys("http://h", "filed", "of file", "-");
	setenv("MLFLOW_TRACKING_PASSWORD", "set", 1);
	expect_keys("http://h", "filed", "set", "-");
	setenv("MLFLOW_TRACKING_USERNAME", "name", 1);
	expect_keys("http://h", "name", "set", "-");
	expect_keys("http://url:pw@h", "url", "pw", "-");
	unsetenv("MLFLOW_TRACKING_PASSWORD");
	write_credentials("");
	setenv("MLFLOW_TRACKING_TOKEN", "two\nlines", 1);
	cr_expect_eq(hd_mlflow_address_read(&a, "http://h"), HD_E_USAGE);
	cr_expect(!strstr(hd_error_text(), "two"));
}

/* ---- a run ---- */

static hd_run run;
static hd_settings settings;

static void write_file(const char *name, const char *text)
{
	char path[600];
	snprintf(path, sizeof path, "%s/%s", run.folder, name);
	FILE *f = fopen(path, "w");
	cr_assert(f, "%s", path);
	fputs(text, f);
	fclose(f);
}

static void begin_run(void)
{
	begin();
	GOOD(hd_run_create(&run, file_in("runs"), "experiment", "prefix", "name"));
	hd_run_status status = {.state = HD_RUN_RUNNING, .start_ms = 1000, .attempts = 1};
	hd_run_status_this_process(&status);
	GOOD(hd_run_status_write(&run, &status));
	write_file("params.json", "{\"lr\": \"0.1\"}");
	write_file("tags.json", "{\"phase\": \"training\"}");
	GOOD(hd_settings_init(&settings));
}

static void end_run(void)
{
	hd_run_free(&run);
	hd_settings_free(&settings);
	stop();
}

static void log_points(int64_t lines, size_t each)
{
	char path[600], names[HD_METRICS_PER_LINE][16];
	hd_metrics_log *log;
	hd_metrics_line line = {.count = each};
	snprintf(path, sizeof path, "%s/metrics.log", run.folder);
	GOOD(hd_metrics_log_open(&log, path));
	for (int64_t i = 0; i < lines; i++) {
		line.time_ms = 1700000000000 + i;
		line.step = i;
		for (size_t k = 0; k < each; k++) {
			snprintf(names[k], sizeof names[k], "m%zu", k);
			line.metrics[k] = (hd_metric){names[k], (double)i + 0.25};
		}
		GOOD(hd_metrics_log_append(log, &line));
	}
	hd_metrics_log_close(log);
}

Test(mlflow, state_is_kept, .init = begin_run, .fini = end_run)
{
	hd_mlflow_state state;
	GOOD(hd_mlflow_state_read(&state, &run));
	cr_expect(!state.server && !state.run_id && state.offset == 0 && state.with_model);
	GOOD(hd_mlflow_state_reset(&state, "http://h"));
	GOOD(hd_set_text(&state.run_id, "abc"));
	state.offset = (int64_t)1 << 40;
	state.with_model = false;
	json_object_set_new(state.params, "a", json_string("0123"));
	GOOD(hd_mlflow_state_refuse(&state, "metric x", "because"));
	GOOD(hd_mlflow_state_refuse(&state, "metric x", "because"));
	GOOD(hd_mlflow_state_write(&state, &run));
	hd_mlflow_state_free(&state);
	GOOD(hd_mlflow_state_read(&state, &run));
	cr_expect_str_eq(state.server, "http://h");
	cr_expect_str_eq(state.run_id, "abc");
	cr_expect_eq(state.offset, (int64_t)1 << 40);
	cr_expect(!state.with_model && !state.experiment_id);
	cr_expect_str_eq(json_string_value(json_object_get(state.params, "a")), "0123");
	cr_expect_eq(state.refused_count, 1);
	hd_mlflow_state_free(&state);
	write_file("mlflow.json", "{broken");
	GOOD(hd_mlflow_state_read(&state, &run));
	cr_expect(!state.run_id && state.offset == 0);
	hd_mlflow_state_free(&state);
}

Test(mlflow, one_sender_at_a_time, .init = begin_run, .fini = end_run)
{
	int first, second;
	GOOD(hd_mlflow_lock(&first, &run));
	cr_assert_geq(first, 0);
	GOOD(hd_mlflow_lock(&second, &run));
	cr_expect_eq(second, -1);
	hd_sent sent;
	cr_expect_eq(hd_sender_push(&sent, &run, "http://127.0.0.1:9", &settings), HD_E_USAGE);
	close(first);
	GOOD(hd_mlflow_lock(&second, &run));
	cr_expect_geq(second, 0);
	close(second);
}

/* Port 9 of this machine: nobody listens. */
Test(mlflow, nobody_there_holds_nothing_up, .init = begin_run, .fini = end_run)
{
	hd_sender *sender;
	hd_sent sent;
	double begun = hd_now_s();
	GOOD(hd_sender_start(&sender, &run, "http://rf:seCret@127.0.0.1:9", &settings));
	log_points(300, 7);
	hd_sender_wake(sender);
	hd_sender_finish(sender, &sent, 60);
	cr_expect_lt(hd_now_s() - begun, 5);
	cr_expect(!sent.all && sent.points == 0);
	cr_expect_eq(sent.points_left, 2100);
	cr_expect(strstr(sent.problem, "127.0.0.1:9"), "%s", sent.problem);
	cr_expect(!strstr(sent.problem, "seCret"));
	GOOD(hd_sender_state(&sent, &run));
	cr_expect(!sent.all);
	cr_expect_eq(sent.points_left, 2100);
	char command[700];
	snprintf(command, sizeof command, "! grep -rq seCret '%s'", run.folder);
	cr_expect_eq(system(command), 0, "the password is in the folder");
}

Test(mlflow, a_client_says_who_is_not_there, .init = begin, .fini = stop)
{
	hd_mlflow *client;
	hd_mlflow_answer answer;
	json_t *body = json_object();
	GOOD(hd_mlflow_open(&client, "http://rf:seCret@127.0.0.1:9/x"));
	cr_expect_str_eq(hd_mlflow_shown(client), "http://127.0.0.1:9/x");
	GOOD(hd_mlflow_call(client, &answer, "POST", "runs/create", body));
	cr_expect_eq(answer.end, HD_MLFLOW_AWAY);
	cr_expect(!answer.maybe_done && !answer.body && answer.status == 0);
	cr_expect(strstr(hd_error_text(), "http://127.0.0.1:9/x: runs/create"), "%s", hd_error_text());
	hd_mlflow_answer_free(&answer);
	cr_expect_eq(hd_mlflow_ask(client, &answer, "POST", "runs/create", body, 0.7), HD_E_IO);
	hd_mlflow_answer_free(&answer);
	cr_expect(!hd_mlflow_takes("s3://a/b") && hd_mlflow_takes("mlflow-artifacts:/1") &&
	          hd_mlflow_takes("https://a/b"));
	json_decref(body);
	hd_mlflow_close(client);
}
