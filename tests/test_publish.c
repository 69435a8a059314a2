/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall publish into a folder: what is written, which version it becomes, what is refused. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/settings_table.h"
#include "host/export/onnx_peek.h"
#include "host/publish/package.h"
#include "host/publish/propose.h"
#include "host/publish/version.h"
#include "host/track/run.h"
#include "tests/program.h"
#include "tests/published.h"

#define PUBLISH "publish --models_uri $D/models --tracking_uri none --no-validate --no-progress "

static void begin(void)
{
	make_folder();
	unsetenv("MLFLOW_TRACKING_URI");
}

static const char *in_folder(const char *name)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void expect_link(const char *target)
{
	char got[64];
	ssize_t n = readlink(in_folder("models/latest"), got, sizeof got - 1);
	cr_assert_gt(n, 0, "no link models/latest");
	got[n] = 0;
	cr_assert_str_eq(got, target);
}

/* ---- versions ---- */

Test(publish, versions)
{
	static const char *const bad[] = {"", "v", "1.2.3", "v1", "v1.2", "v1.2.3.4", "v1.2.", "v01.2.3", "v1.2.3 ",
	        "v1.-2.3", "v1.2.03", "V1.2.3", "v1.2.3-rc1", "v1..3", "v9999999999.0.0", "latest"};
	hd_publish_version v, w;
	char again[HD_VERSION_BYTES];
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_assert(!hd_publish_version_parse(&v, bad[i], strlen(bad[i])), "%s", bad[i]);
	cr_assert(hd_publish_version_parse(&v, "v1.20.3/model.onnx", 7));
	cr_assert(v.major == 1 && v.minor == 20 && v.patch == 3);
	cr_assert_str_eq(hd_publish_version_text(again, v), "v1.20.3");
	cr_assert(hd_publish_version_parse(&w, "v1.3.20", 7));
	cr_assert_gt(hd_publish_version_compare(v, w), 0);
	cr_assert_eq(hd_publish_version_compare(v, v), 0);
	cr_assert_str_eq(hd_publish_version_text(again, hd_publish_version_next(v, HD_BUMP_MAJOR)), "v2.0.0");
	cr_assert_str_eq(hd_publish_version_text(again, hd_publish_version_next(v, HD_BUMP_MINOR)), "v1.21.0");
	cr_assert_str_eq(hd_publish_version_text(again, hd_publish_version_next(v, HD_BUMP_PATCH)), "v1.20.4");
}

/* What a setting's change raises, and the words for it. */
static void expect_bump(const char *key, const char *value, hd_bump want, const char *words)
{
	hd_settings old, new;
	hd_bump bump;
	char *why;
	cr_assert_eq(hd_settings_init(&old), HD_OK);
	cr_assert_eq(hd_settings_init(&new), HD_OK);
	cr_assert_eq(hd_settings_set(&new, key, value, "test"), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_publish_compare(&bump, &why, &old, NULL, &new, NULL), HD_OK);
	cr_assert_eq(bump, want, "%s raises %d (%s)", key, bump, why);
	cr_assert_str_eq(why, words);
	free(why);
	hd_settings_free(&new);
	hd_settings_free(&old);
}

Test(publish, what_a_change_raises)
{
	const char *same = "the same settings, other weights";
	expect_bump("backbone_size", "tiny", HD_BUMP_MAJOR, "backbone_size large -> tiny");
	expect_bump("head_widths", "64", HD_BUMP_MAJOR, "head_widths 128,64 -> 64");
	expect_bump("n_mels", "64", HD_BUMP_MAJOR, "n_mels 128 -> 64");
	expect_bump("frames", "64", HD_BUMP_MAJOR, "frames 32 -> 64");
	expect_bump("hop_length", "256", HD_BUMP_MINOR, "hop_length 512 -> 256");
	expect_bump("sample_rate", "48000", HD_BUMP_MINOR, "sample_rate 192000 -> 48000");
	expect_bump("batch_size", "64", HD_BUMP_MINOR, "batch_size 32 -> 64");
	expect_bump("learning_rate", "0.01", HD_BUMP_MINOR, "learning_rate 0.001 -> 0.01");
	expect_bump("weight_decay", "0", HD_BUMP_MINOR, "weight_decay 0.0001 -> 0");
	expect_bump("dropout_rate", "0.5", HD_BUMP_MINOR, "dropout_rate 0.2 -> 0.5");
	expect_bump("augment_dropout", "0", HD_BUMP_MINOR, "augment_dropout 0.1 -> 0");
	expect_bump("epochs", "7", HD_BUMP_MINOR, "epochs 100 -> 7");
	expect_bump("seed", "7", HD_BUMP_PATCH, "seed 42 -> 7");
	expect_bump("data_dir", "/other", HD_BUMP_PATCH, "data_dir one -> another");
	expect_bump("checkpoint_dir", "/other", HD_BUMP_PATCH, same);
	expect_bump("s3_endpoint", "http://h", HD_BUMP_PATCH, same);
	expect_bump("threads", "3", HD_BUMP_PATCH, same);
	expect_bump("models_uri", "elsewhere", HD_BUMP_PATCH, same);
}

/* ---- a model's file ---- */

Test(publish, peek, .init = begin, .fini = remove_data)
{
	static const char *const outside[][2] = {{"external_data", "always"}};
	hd_onnx_peek p;
	make_model(in_folder("a"), 900, outside, 1);
	cr_assert_eq(hd_onnx_peek_file(&p, in_folder("a/model.onnx")), HD_OK, "%s", hd_error_text());
	cr_assert_eq(p.input_count, 1);
	cr_assert_str_eq(p.inputs[0].name, "features");
	cr_assert(p.inputs[0].ndim == 4 && p.inputs[0].shape[0] == -1 && p.inputs[0].shape[1] == CHANNELS &&
	          p.inputs[0].shape[2] == MELS && p.inputs[0].shape[3] == FRAMES);
	cr_assert_eq(p.output_count, 2);
	cr_assert_str_eq(p.outputs[1].name, "uncertainties");
	cr_assert_eq(p.external_count, 1);
	cr_assert_str_eq(p.external[0], "model.onnx.data");
	cr_assert_str_eq(hd_onnx_peek_find(&p, "heimdall.format"), "1");
	cr_assert_null(hd_onnx_peek_find(&p, "nothing"));
	hd_onnx_peek_free(&p);
	/* cut off anywhere, or no model at all: refused and never read beyond */
	cr_assert_eq(
	        shell("head -c 3000 $D/a/model.onnx > $D/cut.onnx; printf '\\377\\377\\377\\377' > $D/no.onnx; : > "
	              "$D/empty.onnx"),
	        0);
	static const char *const broken[] = {"cut.onnx", "no.onnx", "empty.onnx", "a/best.safetensors"};
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
		cr_assert_eq(hd_onnx_peek_file(&p, in_folder(broken[i])), HD_E_DATA, "%s", broken[i]);
}

/* ---- into a folder ---- */

/* Every file that the manifest names is there with its hash, and no other. */
static void expect_complete(const char *version)
{
	char path[512], sha256[HD_SHA256_HEX_BYTES];
	size_t i;
	json_t *file;
	snprintf(path, sizeof path, "%s/models/%s/" HD_PUBLISH_MANIFEST, folder, version);
	json_t *manifest = json_load_file(path, 0, NULL);
	cr_assert(manifest, "%s", path);
	cr_assert_str_eq(json_string_value(json_object_get(manifest, "version")), version);
	json_array_foreach(json_object_get(manifest, "files"), i, file)
	{
		snprintf(path, sizeof path, "%s/models/%s/%s", folder, version,
		        json_string_value(json_object_get(file, "name")));
		cr_assert_eq(hd_sha256_file(sha256, path), HD_OK, "%s", hd_error_text());
		cr_assert_str_eq(sha256, json_string_value(json_object_get(file, "sha256")), "%s", path);
	}
	snprintf(path, sizeof path, "test $(ls -A $D/models/%s | wc -l) = %zu", version, i + 1);
	cr_assert_eq(shell(path), 0, "other files in %s", version);
	json_decref(manifest);
}

Test(publish, folder_versions, .init = begin, .fini = remove_data, .timeout = 60)
{
	static const char *const outside[][2] = {{"external_data", "always"}};
	make_model(in_folder("a"), 900, outside, 1);
	make_tiny_model(in_folder("b.onnx"), 800, "backbone_size", "atto");
	make_tiny_model(in_folder("c.onnx"), 700, "batch_size", "64");
	make_tiny_model(in_folder("d.onnx"), 600, "raw_outputs", "true");
	make_tiny_model(in_folder("e.onnx"), 500, "raw_outputs", "true");
	cr_assert_eq(heimdall(PUBLISH "--dry_run $D/a"), 0, "%s", text);
	expect_text("nothing is written");
	cr_assert_neq(access(in_folder("models"), F_OK), 0);
	cr_assert_eq(heimdall(PUBLISH "$D/a/best.safetensors"), 0, "%s", text);
	expect_text("the first version");
	expect_complete("v1.0.0");
	expect_link("v1.0.0");
	cr_assert_eq(access(in_folder("models/v1.0.0/model.onnx.data"), F_OK), 0);
	cr_assert_eq(heimdall(PUBLISH "$D/a"), 0, "%s", text);
	expect_text("v1.0.0: this model is there already");
	cr_assert_eq(heimdall(PUBLISH "--no-latest $D/b.onnx"), 0, "%s", text);
	expect_text("v1.0.1, after v1.0.0: pretrained none -> auto");
	expect_link("v1.0.0");
	cr_assert_eq(heimdall(PUBLISH "$D/c.onnx"), 0, "%s", text);
	expect_text("v2.0.0, after v1.0.1: backbone_size atto -> large");
	cr_assert_eq(heimdall(PUBLISH "$D/d.onnx"), 0, "%s", text);
	expect_text("v3.0.0, after v2.0.0: outputs positions,uncertainties -> raw");
	cr_assert_eq(heimdall(PUBLISH "$D/e.onnx"), 0, "%s", text);
	expect_text("v3.0.1, after v3.0.0: the same settings, other weights");
	expect_link("v3.0.1");
	cr_assert_eq(heimdall(PUBLISH "$D/c.onnx"), 0, "%s", text);
	expect_text("v2.0.0: this model is there already");
	expect_text("`latest` stays with v3.0.1");
	for (size_t i = 0; i < 5; i++)
		expect_complete((const char *[]){"v1.0.0", "v1.0.1", "v2.0.0", "v3.0.0", "v3.0.1"}[i]);
	cr_assert_eq(heimdall("publish --models_uri file://$D/models --tracking_uri none --list --json $D/list.json"),
	        0, "%s", text);
	expect_text("       500       625  latest\n");
	expect_text("       600       750\n");
	json_t *list = json_load_file(in_folder("list.json"), 0, NULL);
	cr_assert_eq(json_array_size(list), 5);
	cr_assert_str_eq(json_string_value(json_object_get(json_array_get(list, 4), "version")), "v1.0.0");
	json_decref(list);
}

Test(publish, versions_by_hand, .init = begin, .fini = remove_data, .timeout = 60)
{
	make_tiny_model(in_folder("a.onnx"), 900, NULL, NULL);
	make_tiny_model(in_folder("b.onnx"), 800, NULL, NULL);
	cr_assert_eq(heimdall(PUBLISH "--model_version v1.4.0 $D/a.onnx"), 0, "%s", text);
	cr_assert_eq(heimdall(PUBLISH "--model_version v1.4.0 $D/a.onnx"), 0, "%s", text);
	expect_text("is there already");
	cr_assert_eq(heimdall(PUBLISH "--model_version v1.4.0 $D/b.onnx"), 2, "%s", text);
	expect_text("no version is written twice; v1.4.1 is free");
	cr_assert_eq(heimdall(PUBLISH "--model_version 1.5 $D/b.onnx"), 2, "%s", text);
	/* a folder without a manifest is nobody's version, and its number is taken */
	cr_assert_eq(shell("mkdir $D/models/v1.4.1 && : > $D/models/v1.4.1/model.onnx"), 0);
	cr_assert_eq(heimdall(PUBLISH "$D/b.onnx"), 0, "%s", text);
	expect_text("v1.4.2, after v1.4.0");
	cr_assert_eq(heimdall("publish --models_uri $D/models --tracking_uri none --list"), 0, "%s", text);
	expect_text("incomplete");
}

Test(publish, promote_and_rollback, .init = begin, .fini = remove_data, .timeout = 60)
{
	make_tiny_model(in_folder("a.onnx"), 900, NULL, NULL);
	make_tiny_model(in_folder("b.onnx"), 800, NULL, NULL);
	cr_assert_eq(heimdall(PUBLISH "$D/a.onnx"), 0, "%s", text);
	cr_assert_eq(heimdall(PUBLISH "$D/b.onnx"), 0, "%s", text);
	expect_link("v1.0.1");
	cr_assert_eq(heimdall("publish --models_uri $D/models --tracking_uri none --rollback"), 0, "%s", text);
	expect_link("v1.0.0");
	cr_assert_eq(heimdall("publish --models_uri $D/models --tracking_uri none --rollback"), 3, "%s", text);
	expect_link("v1.0.0");
	cr_assert_eq(heimdall("publish --models_uri $D/models --tracking_uri none --promote v1.0.1"), 0, "%s", text);
	expect_link("v1.0.1");
	cr_assert_eq(heimdall("publish --models_uri $D/models --tracking_uri none --promote v1.0.2"), 3, "%s", text);
	cr_assert_eq(heimdall("publish --models_uri $D/models --tracking_uri none --promote v1.0.0 --alias other"), 2,
	        "%s", text);
	expect_text("--tracking_uri");
	expect_link("v1.0.1");
}

/* Killed at any moment, and by two at once: `latest` is whole, and the next call completes it. */
Test(publish, folder_killed, .init = begin, .fini = remove_data, .timeout = 120)
{
	make_tiny_model(in_folder("a.onnx"), 900, NULL, NULL);
	make_tiny_model(in_folder("b.onnx"), 800, NULL, NULL);
	cr_assert_eq(heimdall(PUBLISH "$D/a.onnx"), 0, "%s", text);
	for (int ms = 0; ms < 100; ms += 8) {
		char words[512];
		snprintf(words, sizeof words,
		        "timeout -s KILL 0.%03d \"$H\" " PUBLISH "$D/b.onnx; test -f $D/models/latest/manifest.json",
		        ms + 1);
		cr_assert_eq(shell(words), 0, "after %d ms: %s", ms, text);
		expect_complete(access(in_folder("models/v1.0.1"), F_OK) == 0 ? "v1.0.1" : "v1.0.0");
		cr_assert_eq(heimdall(PUBLISH "$D/b.onnx"), 0, "%s", text);
		expect_complete("v1.0.1");
		expect_link("v1.0.1");
		cr_assert_eq(shell("test ! -e $D/models/.publishing && rm -r $D/models/v1.0.1 && ln -sfn v1.0.0 "
		                   "$D/models/latest"),
		        0, "%s", text);
	}
	cr_assert_eq(shell("exec 7>$D/models/.publish.lock; flock 7; \"$H\" " PUBLISH "$D/b.onnx"), 1, "%s", text);
	expect_text("another publisher");
}

/* ---- refused ---- */

static void expect_refused(const char *arguments, int code, const char *words)
{
	char all[1024];
	snprintf(all, sizeof all, PUBLISH "%s", arguments);
	cr_assert_eq(heimdall(all), code, "%s: %s", arguments, text);
	expect_text(words);
	cr_assert_neq(access(in_folder("models"), F_OK), 0, "%s: something was written", arguments);
}

Test(publish, refused, .init = begin, .fini = remove_data, .timeout = 60)
{
	make_model(in_folder("a"), 900, NULL, 0);
	make_model(in_folder("b"), -1, NULL, 0);
	expect_refused("", 2, "name what to publish");
	expect_refused("$D/a --list", 2, "exclude each other");
	expect_refused("$D/a --alias latest", 2, "MLflow keeps 'latest'");
	expect_refused("$D/a --alias v3", 2, "MLflow keeps");
	expect_refused("$D/a --models_uri gs://bucket", 2, "s3://BUCKET");
	expect_refused("$D/b", 1, "was never evaluated; heimdall eval");
	expect_refused("$D/nowhere --runs_dir $D/runs", 3, "nowhere");
	cr_assert_eq(shell("echo '{\"val/median_m\": 5.5, \"val/mae_m\": null}' > $D/m.json; cp $D/b/best.safetensors "
	                   "$D/a; mkdir $D/c $D/d; cp $D/b/best.safetensors $D/c; cp $D/b/* $D/d; mv $D/d/model.onnx "
	                   "$D/d/model.onnx.rejected"),
	        0);
	expect_refused("$D/a", 3, "was not written from");
	expect_refused("$D/c", 3, "heimdall export --checkpoint");
	expect_refused("$D/d", 1, "validation has refused this model");
	cr_assert_eq(heimdall(PUBLISH "$D/b --metrics $D/m.json"), 0, "%s", text);
	cr_assert_eq(shell("grep -q '\"val/median_m\": 5.5' $D/models/v1.0.0/metrics.json"), 0);
}

/* Metrics of the checkpoint's epoch, where the model itself does not carry them. */
Test(publish, metrics_of_the_table, .init = begin, .fini = remove_data, .timeout = 60)
{
	char onnx[512];
	make_model(in_folder("b"), -1, NULL, 0);
	cr_assert_eq(shell("printf 'epoch,train_loss,val_mae_m,val_median_m\\n0,1,2,3\\n1,4,5,6\\n2,7,8,9\\n' > "
	                   "$D/b/metrics.csv"),
	        0);
	expect_refused("$D/b", 1, "was never evaluated"); /* it says that no epoch has ended */
	cr_assert_eq(shell("LC_ALL=C sed -i '1s/\\\\\"epoch\\\\\":0/\\\\\"epoch\\\\\":2/' $D/b/best.safetensors"), 0);
	snprintf(onnx, sizeof onnx, "%s/b/model.onnx", folder);
	export_model(onnx, in_folder("b/best.safetensors"), in_folder("b/best.safetensors"), -1, NULL, 0);
	cr_assert_eq(heimdall(PUBLISH "$D/b"), 0, "%s", text);
	cr_assert_eq(shell("cat $D/models/v1.0.0/metrics.json"), 0);
	expect_text("{\n  \"val/mae_m\": 5.0,\n  \"val/median_m\": 6.0\n}\n");
}

/* A run is found by its name; its recordings are in the card. */
Test(publish, run, .init = begin, .fini = remove_data, .timeout = 60)
{
	hd_run run;
	char checkpoints[512];
	cr_assert_eq(hd_run_create(&run, in_folder("runs"), "field", "run", "first"), HD_OK, "%s", hd_error_text());
	snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", run.folder);
	make_model(checkpoints, 900, NULL, 0);
	setenv("R", run.folder, 1);
	cr_assert_eq(shell("printf 'session,split\\ns1,train\\ns1,train\\ns2,val\\n' > $R/catalog.csv"), 0);
	hd_run_free(&run);
	cr_assert_eq(heimdall(PUBLISH "--runs_dir $D/runs first"), 0, "%s", text);
	cr_assert_eq(heimdall(PUBLISH "$R/checkpoints/model.onnx"), 0, "%s", text);
	expect_text("v1.0.0: this model is there already");
	cr_assert_eq(shell("cat $D/models/v1.0.0/README.md"), 0);
	expect_text("- recordings, train: 2\n- recordings, val: 1\n- run: `first` of `field`\n");
	cr_assert_eq(heimdall(PUBLISH "--runs_dir $D/runs fist"), 3, "%s", text);
}

/* ---- the model card and MLmodel ---- */

Test(publish, texts, .init = begin, .fini = remove_data, .timeout = 60)
{
	make_model(in_folder("a"), 900, NULL, 0);
	cr_assert_eq(heimdall(PUBLISH "$D/a --model_license cc-by-4.0"), 0, "%s", text);
	cr_assert_eq(shell("cat $D/models/latest/README.md"), 0);
	expect_text("---\nlicense: cc-by-4.0\n");
	expect_text("| `median_m` | 900.0 | m |");
	expect_text("| input | `features` | (batch, 3, 32, 32) |");
	expect_text("Channels, in this order: `a,b,c`");
	expect_text("Calibration: the mean square of error over sigma is 1.10");
	cr_assert_eq(shell("cat $D/models/latest/MLmodel"), 0);
	expect_text("\"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1, 3, 32, 32]}");
	expect_text("loader_module: mlflow.onnx\n");
	/* keys of the settings stay out of what goes away */
	setenv("HEIMDALL_S3_SECRET_KEY", "hush/hush+hush", 1);
	setenv("HEIMDALL_S3_ACCESS_KEY", "HUSHKEY", 1);
	make_tiny_model(in_folder("b.onnx"), 800, NULL, NULL);
	cr_assert_eq(heimdall(PUBLISH "$D/b.onnx"), 0, "%s", text);
	cr_assert_eq(shell("grep -r -l -i hush $D/models"), 1, "%s", text);
}

Test(publish, train_takes_the_settings)
{
	cr_assert(strchr(hd_setting_table[HD_SET_publish].commands, 'T'));
	cr_assert(strchr(hd_setting_table[HD_SET_models_uri].commands, 'T'));
	cr_assert(strchr(hd_setting_table[HD_SET_models_uri].commands, 'B'));
}

/* ---- validated ---- */

Test(publish, validated_before, .init = begin, .fini = remove_data, .timeout = 120)
{
	make_model(in_folder("a"), 900, NULL, 0);
	if (heimdall("publish --models_uri $D/models --tracking_uri none --no-progress $D/a") == 1 &&
	        strstr(text, "cannot be validated"))
		cr_skip_test("no ONNX Runtime here");
	expect_text("where ");
	cr_assert_eq(shell("grep -q 'compared with the training' $D/models/latest/README.md"), 0, "%s", text);
	/* a model of other weights that says it was written from these */
	make_model(in_folder("b"), 800, NULL, 0);
	char onnx[512], other[512];
	snprintf(onnx, sizeof onnx, "%s/b/model.onnx", folder);
	snprintf(other, sizeof other, "%s/a/best.safetensors", folder);
	export_model(onnx, other, in_folder("b/best.safetensors"), 800, NULL, 0);
	cr_assert_eq(heimdall("publish --models_uri $D/models --tracking_uri none --no-progress $D/b"), 1, "%s", text);
	expect_text("does not give the answers of");
	cr_assert_neq(access(in_folder("models/v1.0.1"), F_OK), 0);
}
