/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishing to a real object store and a real MLflow server, killed at every request: before the server has it, and
 * after it was done with the answer lost. Run by tests/services/mlflow.sh; in a round without an object store only what
 * needs none.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "host/publish/package.h"
#include "host/track/mlflow_client.h"
#include "tests/published.h"
#include "tests/services/store_test.h"

#define PUBLISH_S 60 /* at most, of one call */

static int proxy_input = -1; /* of a proxy that was started here; it ends when this closes */

/* ---- servers ---- */

/* In front of the MLflow round's object store, which has no proxy of its own. */
static void start_s3_proxy(const char *endpoint)
{
	int in[2], out[2], proxy, other, control_port;
	const char *port = strrchr(endpoint, ':') + 1;
	cr_assert(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
	pid_t child = fork();
	cr_assert_geq(child, 0);
	if (!child) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl("/usr/bin/python3", "python3", "tests/services/fault_proxy.py", port, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	proxy_input = in[1];
	FILE *ports = fdopen(out[0], "r");
	cr_assert_eq(fscanf(ports, "%d %d %d", &proxy, &control_port, &other), 3);
	fclose(ports);
	char text[64];
	snprintf(text, sizeof text, "http://127.0.0.1:%d", proxy);
	setenv("HD_S3_URL", endpoint, 1);
	setenv("HD_S3_PROXY", text, 1);
	snprintf(text, sizeof text, "%d", control_port);
	setenv("HD_S3_CONTROL", text, 1);
}

static void start_test(void)
{
	if (!getenv("HD_S3_CONTROL") && getenv("MLFLOW_S3_ENDPOINT_URL"))
		start_s3_proxy(getenv("MLFLOW_S3_ENDPOINT_URL"));
	if (getenv("HD_S3_CONTROL")) {
		begin_test();
	} else {
		snprintf(folder, sizeof folder, "%s/heimdall-publish-XXXXXX", variable("TMPDIR"));
		cr_assert_not_null(mkdtemp(folder));
	}
}

static void stop_test(void)
{
	if (proxy_input >= 0)
		close(proxy_input);
	end_test();
}

/* A name of this test's own, among the servers' others: "moved-aB3dEf"; until the next call. */
static const char *own(const char *name)
{
	static char text[2][64];
	static int turn;
	turn = !turn;
	snprintf(text[turn], sizeof text[turn], "%s-%s", name, folder + strlen(folder) - 6);
	return text[turn];
}

static void need_store(void)
{
	if (!direct)
		cr_skip_test("this round has no object store");
}

static void need_mlflow(void)
{
	if (!getenv("HD_MLFLOW_URL"))
		cr_skip_test("no MLflow server; tests/services/mlflow.sh starts one");
}

/* One command to MLflow's proxy. */
#define mlflow_control(...) control_at("HD_MLFLOW_CONTROL", __VA_ARGS__)

/* ---- the program ---- */

/* One call of `heimdall publish`; words: its arguments. */
typedef struct call {
	pid_t pid;
	int status;
	bool ended;
} call;

static call start_publish(const char *words)
{
	char command[2048];
	const char *build = getenv("BUILD");
	snprintf(command, sizeof command, "exec '%s/heimdall' publish %s >>'%s/out' 2>&1", build ? build : "build",
	        words, folder);
	call c = {.pid = fork()};
	cr_assert_geq(c.pid, 0);
	if (!c.pid) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return c;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static bool has_ended(call *c)
{
	c->ended = c->ended || waitpid(c->pid, &c->status, WNOHANG) == c->pid;
	return c->ended;
}

static void kill_call(call *c)
{
	if (!has_ended(c)) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, &c->status, 0);
	}
}

static const char *output(void)
{
	static char text[TEXT_BYTES];
	FILE *from = fopen(file_in("out"), "r");
	size_t n = from ? fread(text, 1, sizeof text - 1, from) : 0;
	if (from)
		fclose(from);
	text[n] = 0;
	return text;
}

/* A call to its end; its output alone is in output(). */
static int publish(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int publish(const char *format, ...)
{
	char words[1536];
	va_list args;
	va_start(args, format);
	vsnprintf(words, sizeof words, format, args);
	va_end(args);
	unlink(file_in("out"));
	call c = start_publish(words);
	for (int i = 0; i < PUBLISH_S * 100 && !has_ended(&c); i++)
		pause_ms(10);
	bool ended = has_ended(&c);
	kill_call(&c);
	cr_assert(ended, "publish %s: does not end:\n%s", words, output());
	return WIFEXITED(c.status) ? WEXITSTATUS(c.status) : -1;
}

static void expect_output(const char *words)
{
	cr_assert(strstr(output(), words), "no '%s' in:\n%s", words, output());
}

/* ---- what is at the store ---- */

/* An object's bytes, new; NULL where there is none. */
static char *fetch(size_t *bytes, const char *key)
{
	hd_s3_object object;
	hd_status st = hd_s3_head(direct, &object, BUCKET, key);
	cr_assert(st == HD_OK || st == HD_E_DATA, "%s", hd_error_text());
	if (st != HD_OK)
		return NULL;
	char *data = malloc((size_t)object.bytes + 1);
	*bytes = 0;
	if (object.bytes)
		GOOD(hd_s3_get_range(direct, data, bytes, &object, BUCKET, key, 0, (size_t)object.bytes, NULL));
	cr_assert_eq((int64_t)*bytes, object.bytes);
	data[*bytes] = 0;
	return data;
}

/* Every file that a version's manifest names is there, byte by byte. */
static void expect_complete(const char *prefix, const char *version)
{
	char key[512], sha256[HD_SHA256_HEX_BYTES];
	size_t bytes, i;
	json_t *file;
	snprintf(key, sizeof key, "%s/%s/" HD_PUBLISH_MANIFEST, prefix, version);
	char *text = fetch(&bytes, key);
	cr_assert(text, "%s is not there", key);
	json_t *manifest = hd_publish_manifest_read(text);
	cr_assert(manifest, "%s is no manifest", key);
	cr_assert_geq(json_array_size(json_object_get(manifest, "files")), 8);
	json_array_foreach(json_object_get(manifest, "files"), i, file)
	{
		const char *name = json_string_value(json_object_get(file, "name"));
		snprintf(key, sizeof key, "%s/%s/%s", prefix, version, name);
		char *data = fetch(&bytes, key);
		cr_assert(data, "%s is not there", key);
		GOOD(hd_sha256(sha256, data, bytes));
		cr_assert_str_eq(sha256, json_string_value(json_object_get(file, "sha256")), "%s", key);
		free(data);
	}
	json_decref(manifest);
	free(text);
}

/* `latest` names this version, which is complete. */
static void expect_latest(const char *prefix, const char *version)
{
	char key[256];
	size_t bytes;
	snprintf(key, sizeof key, "%s/latest", prefix);
	char *text = fetch(&bytes, key);
	cr_assert(text, "%s is not there", key);
	text[strcspn(text, "\n")] = 0;
	cr_assert_str_eq(text, version);
	free(text);
	expect_complete(prefix, version);
}

typedef struct found {
	char versions[16][64];
	int count, complete, claims;
	size_t prefix;
} found;

static hd_status note(void *context, const hd_s3_listed *item)
{
	found *f = context;
	const char *name = item->key + f->prefix, *slash = strchr(name, '/');
	if (!slash)
		return HD_OK;
	f->claims += !strcmp(slash + 1, HD_PUBLISH_CLAIM);
	f->complete += !strcmp(slash + 1, HD_PUBLISH_MANIFEST);
	for (int i = 0; i < f->count; i++)
		if (!strncmp(f->versions[i], name, (size_t)(slash - name)))
			return HD_OK;
	cr_assert_lt(f->count, 16);
	snprintf(f->versions[f->count++], 64, "%.*s", (int)(slash - name), name);
	return HD_OK;
}

/* So many versions, and nothing half done. */
static void expect_versions(const char *prefix, int count)
{
	char start[256];
	snprintf(start, sizeof start, "%s/", prefix);
	found f = {.prefix = strlen(start)};
	GOOD(hd_s3_list(direct, BUCKET, start, NULL, 0, note, &f));
	cr_assert_eq(f.count, count, "%d versions under %s, not %d", f.count, prefix, count);
	cr_assert_eq(f.claims, 0, "a claim is left under %s", prefix);
}

/* ---- interrupted ---- */

/* What a call asks; where it is killed. */
typedef struct point {
	bool mlflow; /* the proxy is MLflow's */
	int request; /* from 1 */
	bool lost;   /* it was done, and the answer lost */
} point;

static void tell(const point *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(const point *p, const char *format, ...)
{
	char command[128];
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	if (p->mlflow)
		mlflow_control("%s", command);
	else
		control("%s", command);
}

static int count_requests(const point *p)
{
	int count = 0;
	tell(p, "log");
	for (const char *at = proxy_text; (at = strstr(at, "proxy ")); at++)
		count += at == proxy_text || at[-1] == '\n';
	return count;
}

/* Runs a call and kills it at the point; false where it ended before. */
static bool interrupt(const point *p, const char *words)
{
	int meets = p->request + p->lost; /* after a lost answer the client asks again, and that is where it hangs */
	tell(p, "clear");
	if (p->request > 1)
		tell(p, "fault pass %d * *", p->request - 1);
	if (p->lost)
		tell(p, "fault lost 1 * *");
	tell(p, "fault silence 1000 * * 30");
	call c = start_publish(words);
	bool reached = false;
	for (int i = 0; i < PUBLISH_S * 50 && !reached && !has_ended(&c); i++) {
		pause_ms(20);
		reached = count_requests(p) >= meets;
	}
	cr_assert(reached || has_ended(&c), "publish hangs before request %d:\n%s", p->request, output());
	kill_call(&c);
	tell(p, "clear");
	return reached;
}

static void make_models(void)
{
	make_tiny_model(file_in("a.onnx"), 900, NULL, NULL);
	make_tiny_model(file_in("b.onnx"), 800, NULL, NULL);
}

static hd_status delete_one(void *context, const hd_s3_listed *item)
{
	(void)context;
	return hd_s3_delete(direct, BUCKET, item->key);
}

/* As it was before b was published: v1.0.0 alone, and `latest`. */
static void reset(const char *prefix)
{
	char key[256];
	hd_s3_object object;
	snprintf(key, sizeof key, "%s/v1.0.1/", prefix);
	GOOD(hd_s3_list(direct, BUCKET, key, NULL, 0, delete_one, NULL));
	snprintf(key, sizeof key, "%s/latest", prefix);
	GOOD(hd_s3_put_bytes(direct, &object, BUCKET, key, "v1.0.0\n", 7, NULL));
	expect_versions(prefix, 1);
}

/* What `latest` names, whatever it is, is whole. */
static void expect_latest_complete(const char *prefix, const char *must_be)
{
	char key[256];
	size_t bytes;
	snprintf(key, sizeof key, "%s/latest", prefix);
	char *latest = fetch(&bytes, key);
	cr_assert(latest, "%s is not there", key);
	latest[strcspn(latest, "\n")] = 0;
	cr_assert(!must_be || !strcmp(latest, must_be), "latest is %s, not %s", latest, must_be ? must_be : "");
	expect_complete(prefix, latest);
	free(latest);
}

Test(publish, killed_at_every_request_to_the_store, .init = start_test, .fini = stop_test, .timeout = 900)
{
	need_store();
	make_models();
	char words[1024];
	int points = 0;
	char common[256];
	snprintf(common, sizeof common,
	        "--no-validate --no-progress --tracking_uri none --models_uri s3://" BUCKET "/%s --s3_endpoint",
	        own("killed"));
	cr_assert_eq(publish("%s/a.onnx %s %s", folder, common, variable("HD_S3_URL")), 0, "%s", output());
	expect_latest(own("killed"), "v1.0.0");
	snprintf(words, sizeof words, "%s/b.onnx %s %s", folder, common, variable("HD_S3_PROXY"));
	for (int lost = 0; lost < 2; lost++) {
		bool reached = true;
		for (int k = 1; reached; k++) {
			point p = {.request = k, .lost = lost};
			reached = interrupt(&p, words);
			expect_latest_complete(own("killed"), NULL);
			cr_assert_eq(publish("%s", words), 0, "after request %d: %s", k, output());
			expect_latest(own("killed"), "v1.0.1");
			expect_complete(own("killed"), "v1.0.0");
			expect_versions(own("killed"), 2);
			reset(own("killed"));
			points += reached;
		}
	}
	printf("killed at %d points\n", points);
	cr_assert_geq(points, 2 * 30, "only %d points", points);
}

/* Publishers that meet at a number: each model gets one of its own, and all are whole. */
Test(publish, several_at_once, .init = start_test, .fini = stop_test, .timeout = 120)
{
	need_store();
	const char *server = getenv("HD_S3_SERVER");
	if (server && strcmp(server, "weed") != 0)
		cr_skip_test("this server does not know If-None-Match: two can write one object at the same moment");
	enum { COUNT = 4 };
	call calls[COUNT];
	char words[1024], key[64];
	size_t bytes;
	for (int i = 0; i < COUNT; i++) {
		snprintf(words, sizeof words, "%s/%d.onnx", folder, i);
		make_tiny_model(words, 500 + i, NULL, NULL);
	}
	for (int i = 0; i < COUNT; i++) {
		snprintf(words, sizeof words,
		        "%s/%d.onnx --no-validate --no-progress --tracking_uri none --models_uri s3://" BUCKET
		        "/%s --s3_endpoint %s",
		        folder, i, own("several"), variable("HD_S3_URL"));
		calls[i] = start_publish(words);
	}
	for (int i = 0; i < COUNT; i++) {
		for (int w = 0; w < PUBLISH_S * 100 && !has_ended(&calls[i]); w++)
			pause_ms(10);
		cr_assert(has_ended(&calls[i]) && calls[i].status == 0, "%s", output());
	}
	snprintf(key, sizeof key, "%s/", own("several"));
	found f = {.prefix = strlen(key)};
	GOOD(hd_s3_list(direct, BUCKET, key, NULL, 0, note, &f));
	cr_assert_eq(f.complete, COUNT, "%d versions: %s", f.complete, output());
	cr_assert_eq(f.count, COUNT);
	cr_assert_eq(f.claims, 0);
	for (int i = 0; i < f.count; i++)
		expect_complete(own("several"), f.versions[i]);
	snprintf(key, sizeof key, "%s/latest", own("several"));
	char *latest = fetch(&bytes, key);
	cr_assert(latest && !strncmp(latest, "v1.0.", 5));
	free(latest);
}

/* How many versions a registered model has. */
static int registered_versions(const char *name)
{
	hd_mlflow *client;
	hd_mlflow_answer a;
	char filter[128];
	GOOD(hd_mlflow_open(&client, variable("HD_MLFLOW_URL")));
	snprintf(filter, sizeof filter, "name='%s'", name);
	json_t *query = json_pack("{s:s}", "filter", filter);
	GOOD(hd_mlflow_ask(client, &a, "GET", "model-versions/search", query, 5));
	int count = (int)json_array_size(json_object_get(a.body, "model_versions"));
	json_decref(query);
	hd_mlflow_answer_free(&a);
	hd_mlflow_close(client);
	return count;
}

/* The number that an alias stands for; 0: there is no such alias. */
static int alias_number(const char *name, const char *alias)
{
	hd_mlflow *client;
	hd_mlflow_answer a;
	int number = 0;
	GOOD(hd_mlflow_open(&client, variable("HD_MLFLOW_URL")));
	json_t *query = json_pack("{s:s, s:s}", "name", name, "alias", alias);
	GOOD(hd_mlflow_call(client, &a, "GET", "registered-models/alias", query));
	if (a.end == HD_MLFLOW_DONE)
		number = atoi(json_string_value(json_object_get(json_object_get(a.body, "model_version"), "version")));
	json_decref(query);
	hd_mlflow_answer_free(&a);
	hd_mlflow_close(client);
	return number;
}

Test(publish, killed_at_every_request_to_the_registry, .init = start_test, .fini = stop_test, .timeout = 900)
{
	need_store();
	need_mlflow();
	make_models();
	int points = 0;
	char common[512];
	snprintf(common, sizeof common, "--no-validate --no-progress --models_uri s3://" BUCKET "/%s --s3_endpoint %s",
	        own("registry"), variable("HD_S3_URL"));
	cr_assert_eq(publish("%s/a.onnx %s --tracking_uri none", folder, common), 0, "%s", output());
	for (int lost = 0; lost < 2; lost++) {
		bool reached = true;
		for (int k = 1; reached; k++) {
			char name[64], words[1024];
			point p = {.mlflow = true, .request = k, .lost = lost};
			snprintf(name, sizeof name, "%s-%d-%d", own("registry"), lost, k);
			snprintf(words, sizeof words, "%s/b.onnx %s --registered_model %s --tracking_uri %s", folder,
			        common, name, variable("HD_MLFLOW_PROXY"));
			reached = interrupt(&p, words);
			expect_latest_complete(own("registry"), reached ? "v1.0.0" : "v1.0.1");
			cr_assert_eq(publish("%s", words), 0, "after request %d: %s", k, output());
			expect_latest(own("registry"), "v1.0.1");
			expect_versions(own("registry"), 2);
			cr_assert_eq(registered_versions(name), 1, "%s at request %d", name, k);
			cr_assert_eq(alias_number(name, "staging"), 1);
			reset(own("registry"));
			points += reached;
		}
	}
	printf("killed at %d points\n", points);
	cr_assert_geq(points, 2 * 5, "only %d points", points);
}

/* ---- the registry that is away ---- */

Test(publish, registry_away, .init = start_test, .fini = stop_test, .timeout = 120)
{
	need_store();
	need_mlflow();
	make_models();
	char words[1024];
	snprintf(words, sizeof words,
	        "--no-validate --no-progress --registered_model %s --models_uri s3://" BUCKET
	        "/%s --s3_endpoint %s --tracking_uri",
	        own("away"), own("away"), variable("HD_S3_URL"));
	cr_assert_eq(publish("%s/a.onnx %s %s", folder, words, variable("HD_MLFLOW_URL")), 0, "%s", output());
	mlflow_control("fault early 1000 * *");
	int code = publish("%s/b.onnx %s %s", folder, words, variable("HD_MLFLOW_PROXY"));
	mlflow_control("clear");
	cr_assert_eq(code, 1, "%s", output());
	expect_output("run the same command again");
	expect_latest(own("away"), "v1.0.0");
	expect_complete(own("away"), "v1.0.1");
	cr_assert_eq(publish("%s/b.onnx %s %s", folder, words, variable("HD_MLFLOW_PROXY")), 0, "%s", output());
	expect_output("is there already");
	expect_latest(own("away"), "v1.0.1");
	cr_assert_eq(registered_versions(own("away")), 2);
}

/* ---- aliases, promote, rollback ---- */

Test(publish, promote_and_rollback, .init = start_test, .fini = stop_test, .timeout = 120)
{
	need_store();
	need_mlflow();
	make_models();
	char words[1024];
	snprintf(words, sizeof words,
	        "--no-progress --registered_model %s --models_uri s3://" BUCKET
	        "/%s --s3_endpoint %s --tracking_uri %s",
	        own("moved"), own("moved"), variable("HD_S3_URL"), variable("HD_MLFLOW_URL"));
	cr_assert_eq(publish("%s/a.onnx --no-validate %s", folder, words), 0, "%s", output());
	cr_assert_eq(publish("%s/b.onnx --no-validate %s", folder, words), 0, "%s", output());
	cr_assert_eq(alias_number(own("moved"), "staging"), 2);
	/* an older model again leaves both where they are */
	cr_assert_eq(publish("%s/a.onnx --no-validate %s", folder, words), 0, "%s", output());
	cr_assert_eq(alias_number(own("moved"), "staging"), 2);
	expect_latest(own("moved"), "v1.0.1");
	cr_assert_eq(publish("--promote v1.0.0 --alias production %s", words), 0, "%s", output());
	cr_assert_eq(alias_number(own("moved"), "production"), 1);
	expect_latest(own("moved"), "v1.0.1");
	cr_assert_eq(publish("--list %s", words), 0, "%s", output());
	expect_output("latest, staging\n");
	expect_output("production\n");
	cr_assert_eq(publish("--rollback %s", words), 0, "%s", output());
	cr_assert_eq(alias_number(own("moved"), "staging"), 1);
	expect_latest(own("moved"), "v1.0.0");
	cr_assert_eq(publish("--rollback %s", words), 3, "%s", output());
	expect_output("no complete version comes before v1.0.0");
	cr_assert_eq(publish("--promote v1.0.1 %s", words), 0, "%s", output());
	cr_assert_eq(alias_number(own("moved"), "staging"), 2);
	expect_latest(own("moved"), "v1.0.1");
	cr_assert_eq(publish("--promote v7.0.0 %s", words), 3, "%s", output());
}

/* ---- loaded by MLflow ---- */

static void write_recordings(void)
{
	char command[1024];
	snprintf(command, sizeof command,
	        "/usr/bin/python3 -c 'import numpy as n; r = n.random.default_rng(5)\n"
	        "for i in range(2): n.save(\"%s/r%%d.npy\" %% i, (10.0 ** (-1 - i) * (r.standard_normal(40000) + 1j * "
	        "r.standard_normal(40000))).astype(n.complex64))'",
	        folder);
	cr_assert_eq(system(command), 0);
}

/* The four numbers of one line of "NAME VALUE" pairs. */
static void read_answer(double out[4], const char *line)
{
	const char *at = strstr(line, "latitude ");
	cr_assert(at && sscanf(at, "latitude %lf longitude %lf sigma_north_m %lf sigma_east_m %lf", &out[0], &out[1],
	                        &out[2], &out[3]) == 4,
	        "no answer in: %s", line);
}

Test(publish, mlflow_loads_what_predict_answers, .init = start_test, .fini = stop_test, .timeout = 300)
{
	need_store();
	need_mlflow();
	static const char *const with_features[][2] = {{"with_features", "true"}};
	char command[2048], line[512];
	double want[4], got[4];
	int lines = 0;
	make_model(file_in("a"), 900, with_features, 1);
	write_recordings();
	cr_assert_eq(publish("%s/a --no-progress --registered_model %s --models_uri s3://" BUCKET
	                     "/%s --s3_endpoint %s --tracking_uri %s",
	                     folder, own("loaded"), own("loaded"), variable("HD_S3_URL"), variable("HD_MLFLOW_URL")),
	        0, "%s", output());
	const char *build = getenv("BUILD");
	snprintf(command, sizeof command,
	        "'%s/heimdall' predict --checkpoint %s/a/model.onnx %s/r0.npy %s/r1.npy none 2>/dev/null",
	        build ? build : "build", folder, folder, folder);
	FILE *from = popen(command, "r");
	cr_assert(from && fgets(line, sizeof line, from));
	pclose(from);
	read_answer(want, line);
	snprintf(command, sizeof command,
	        "AWS_ENDPOINT_URL_S3=%s MLFLOW_TRACKING_URI=%s '%s' tests/publish_load.py %s/r0.npy %s/r1.npy none -- "
	        "models:/%s@staging s3://" BUCKET "/%s/v1.0.0 2>%s/python.err",
	        variable("HD_S3_URL"), variable("HD_MLFLOW_URL"), variable("HD_MLFLOW_PYTHON"), folder, folder,
	        own("loaded"), own("loaded"), folder);
	from = popen(command, "r");
	while (fgets(line, sizeof line, from)) {
		read_answer(got, line);
		lines++;
		/* degrees are printed to 1e-6, and are floats in the model */
		cr_assert(fabs(got[0] - want[0]) < 2e-5 && fabs(got[1] - want[1]) < 2e-5, "%s: not %f %f", line,
		        want[0], want[1]);
		cr_assert(fabs(got[2] - want[2]) < 1 && fabs(got[3] - want[3]) < 1, "%s: not %f %f", line, want[2],
		        want[3]);
	}
	snprintf(command, sizeof command, "cat %s/python.err", folder);
	if (pclose(from) != 0 || lines != 4)
		(void)!system(command);
	cr_assert_eq(lines, 4, "%d answers of 4", lines);
}

/* ---- a folder beside a registry ---- */

Test(publish, folder_is_not_registered, .init = start_test, .fini = stop_test, .timeout = 60)
{
	need_mlflow();
	make_models();
	cr_assert_eq(publish("%s/a.onnx --no-validate --no-progress --models_uri %s/models --tracking_uri %s", folder,
	                     folder, variable("HD_MLFLOW_URL")),
	        0, "%s", output());
	expect_output("MLflow's server takes no folder");
	expect_output("registered       no");
}
