/* SPDX-License-Identifier: Apache-2.0 */
/* What a run's folder says of settings and surroundings, and its pictures of samples. */
#include <cairo/cairo.h>
#include <glob.h>
#include <unistd.h>

#include "host/common/settings_table.h"
#include "host/common/version.h"
#include "host/track/record.h"
#include "tests/run_folder.h"

TestSuite(record, .init = start_run, .fini = stop_run);

static json_t *read_json(const char *name)
{
	json_t *object;
	cr_assert_eq(hd_run_read_json(&object, &run, name), HD_OK, "%s", hd_error_text());
	cr_assert_not_null(object, "%s is not there", name);
	return object;
}

static void record_settings(const json_t *facts)
{
	cr_assert_eq(hd_record_settings(&run, &settings, facts), HD_OK, "%s", hd_error_text());
}

static void expect(const json_t *object, const char *key, const char *want)
{
	const char *got = json_string_value(json_object_get(object, key));
	cr_assert_not_null(got, "no text '%s'", key);
	cr_assert_str_eq(got, want, "%s: got '%s', want '%s'", key, got, want);
}

/* ---- settings ---- */

Test(record, params_are_texts_as_python_writes_them)
{
	json_t *facts = json_pack("{s:I, s:s, s:f, s:f, s:b, s:i}", "model_parameters", (json_int_t)28000000, "backend",
	        "cpu", "share", 0.1, "whole", 3.0, "fact", 1, "batch_size", 16);
	set("learning_rate", "1e-05");
	set("weight_decay", "0.0001");
	set("uncertainty_max", "150000");
	set("freeze_backbone", "true");
	set("data_dir", "postgresql://me:Geheimnis@db/field?sslpassword=Geheimnis");
	record_settings(facts);
	json_t *params = read_json("params.json");
	expect(params, "learning_rate", "1e-05");
	expect(params, "weight_decay", "0.0001");
	expect(params, "uncertainty_max", "150000");
	expect(params, "sample_rate", "192000");
	expect(params, "epochs", "100");
	expect(params, "freeze_backbone", "True");
	expect(params, "gain_offsets", "False");
	expect(params, "backbone_size", "large");
	expect(params, "where", "");
	expect(params, "data_dir", "postgresql://me@db/field");
	expect(params, "model_parameters", "28000000");
	expect(params, "backend", "cpu");
	expect(params, "share", "0.1");
	expect(params, "whole", "3");
	expect(params, "fact", "True");
	expect(params, "batch_size", "16");
	json_decref(params);
	json_decref(facts);
}

/* Every setting of the four groups that training has, but what a call alone does. */
Test(record, params_are_those_of_training)
{
	const char *key;
	json_t *value;
	size_t wanted = 0;
	record_settings(NULL);
	json_t *params = read_json("params.json");
	for (int i = 0; i < HD_SETTING_COUNT; i++) {
		const hd_setting *row = &hd_setting_table[i];
		bool group = strstr("data features model train", row->group) != NULL;
		bool want = group && strchr(row->commands, 'T') && !hd_setting_is_of_call(row);
		cr_assert_eq(json_object_get(params, row->key) != NULL, want, "%s", row->key);
		wanted += want;
	}
	cr_assert_gt(wanted, 60);
	cr_assert_eq(json_object_size(params), wanted);
	json_object_foreach(params, key, value) cr_assert(json_is_string(value), "%s is no text", key);
	json_decref(params);
}

Test(record, config_reads_back_and_holds_no_secret)
{
	hd_settings again;
	char *path;
	set("learning_rate", "0.00123");
	set("where", "snr_db >= 6 and receiver in (\"a\", 'b')");
	set("s3_secret_key", "Geheimnis");
	set("s3_access_key", "Geheimnis");
	set("s3_endpoint", "http://me:Geheimnis@127.0.0.1:9000");
	set("tracking_uri", "http://me:Geheimnis@127.0.0.1:5000");
	record_settings(NULL);
	cr_assert_null(strstr(read_text("config.yaml"), "Geheimnis"));
	cr_assert_not_null(strstr(file_text, "http://me@127.0.0.1:5000"));
	cr_assert_null(strstr(read_text("params.json"), "Geheimnis"));
	cr_assert_eq(hd_settings_init(&again), HD_OK);
	cr_assert_eq(hd_run_path(&path, &run, "config.yaml"), HD_OK);
	cr_assert_eq(hd_settings_read_yaml(&again, path), HD_OK, "%s", hd_error_text());
	cr_assert_eq(again.learning_rate, 0.00123);
	cr_assert_str_eq(again.where, settings.where);
	cr_assert_eq(again.n_fft, settings.n_fft);
	hd_settings_free(&again);
	free(path);
}

Test(record, a_fact_that_is_no_value)
{
	json_t *facts = json_pack("{s:[i]}", "list", 1);
	cr_assert_eq(hd_record_settings(&run, &settings, facts), HD_E_USAGE);
	cr_assert_not_null(strstr(hd_error_text(), "'list'"));
	json_decref(facts);
}

/* ---- tags ---- */

Test(record, tags)
{
	set("backbone_size", "tiny");
	set("tags", " team=north ,note=a=b c, site/one.2:x=,model=Mine ");
	cr_assert_eq(hd_record_check_tags(&settings), HD_OK, "%s", hd_error_text());
	record_settings(NULL);
	json_t *tags = read_json("tags.json");
	cr_assert_eq(json_object_size(tags), 6);
	expect(tags, "phase", "training");
	expect(tags, "service", "training");
	expect(tags, "model", "Mine");
	expect(tags, "team", "north");
	expect(tags, "note", "a=b c");
	expect(tags, "site/one.2:x", "");
	json_decref(tags);
	set("tags", "");
	record_settings(NULL);
	tags = read_json("tags.json");
	cr_assert_eq(json_object_size(tags), 3);
	expect(tags, "model", "ConvNeXt-Tiny");
	json_decref(tags);
}

Test(record, tags_that_are_none)
{
	static char long_key[400], long_value[6000];
	memset(long_key, 'k', 251);
	strcpy(long_key + 251, "=v");
	memcpy(long_value, "key=", 4);
	memset(long_value + 4, 'v', 5001);
	const char *const wrong[][2] = {{"team", "'team' is no KEY=VALUE"}, {"a=1,,b=2", "'' is no KEY=VALUE"},
	        {"a=1,", "behind the last comma"}, {"=1", "'' is no key"}, {"a=1,a=2", "'a' stands there twice"},
	        {"a$=1", "'a$' is no key"}, {"a//b=1", "'a//b' is no key"}, {"/a=1", "is no key"},
	        {"../a=1", "is no key"}, {"a/.=1", "is no key"}, {"heimdall.run_id=1", "the program's own"},
	        {"db=postgresql://me:Geheimnis@db/field", "holds a password"}, {long_key, "is no key"},
	        {long_value, "5001 bytes; 5000 at most"}};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		set("tags", wrong[i][0]);
		cr_assert_eq(hd_record_check_tags(&settings), HD_E_USAGE, "%.40s", wrong[i][0]);
		cr_assert_not_null(
		        strstr(hd_error_text(), wrong[i][1]), "got '%s', want '%s'", hd_error_text(), wrong[i][1]);
		cr_assert_null(strstr(hd_error_text(), "Geheimnis"));
		cr_assert_eq(hd_record_settings(&run, &settings, NULL), HD_E_USAGE);
	}
	long_key[250] = '=';
	long_value[5004] = 0;
	set("tags", long_key);
	cr_assert_eq(hd_record_check_tags(&settings), HD_OK, "%s", hd_error_text());
	set("tags", long_value);
	cr_assert_eq(hd_record_check_tags(&settings), HD_OK, "%s", hd_error_text());
}

/* ---- environment ---- */

Test(record, environment_names_what_counts_and_no_secret)
{
	const char *const kept[][3] = {{"OMP_WAIT_POLICY", "passive", "passive"}, {"HEIMDALL_CPU_TIER", "v2", "v2"},
	        {"CUDA_VISIBLE_DEVICES", "0,1", "0,1"},
	        {"MLFLOW_TRACKING_URI", "http://me:Geheimnis@host:5000/x", "http://me@host:5000/x"},
	        {"AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000", "http://127.0.0.1:9000"}};
	const char *const left[] = {"AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN",
	        "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "HEIMDALL_S3_SECRET_KEY", "HEIMDALL_my_password",
	        "OMP_TOKEN", "SLURM_JWT", "NCCL_JWT", "PGPASSWORD", "HF_TOKEN", "SOMETHING_ELSE", "NCCL_CREDENTIALS"};
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		setenv(kept[i][0], kept[i][1], 1);
	for (size_t i = 0; i < sizeof left / sizeof *left; i++)
		setenv(left[i], "Geheimnis", 1);
	setenv("CUDA_NOT_UTF8", "\xff", 1);
	cr_assert_eq(hd_backend_open_cpu(&backend, NULL, 2), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_record_environment(&run, backend), HD_OK, "%s", hd_error_text());
	cr_assert_null(strstr(read_text("environment.json"), "Geheimnis"));
	json_t *all = read_json("environment.json"), *variables = json_object_get(all, "variables");
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		expect(variables, kept[i][0], kept[i][2]);
	for (size_t i = 0; i < sizeof left / sizeof *left; i++)
		cr_assert_null(json_object_get(variables, left[i]), "%s is there", left[i]);
	json_decref(all);
}

Test(record, environment_names_program_machine_and_device)
{
	static const char *const libraries[] = {"oneDNN", "FFTW", "libcurl", "jansson", "SQLite", "Cairo", "libyaml",
	        "libxml2", "zlib", "libzip", "OpenSSL", "protobuf-c", "soxr", "libpq", "glibc"};
	char host[256] = "", *here = getcwd(NULL, 0);
	gethostname(host, sizeof host - 1);
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 2), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_record_environment(&run, backend), HD_OK, "%s", hd_error_text());
	json_t *all = read_json("environment.json"), *part = json_object_get(all, "libraries");
	for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
		const char *version = json_string_value(json_object_get(part, libraries[i]));
		cr_assert(version && strpbrk(version, "123456789"), "%s: '%s'", libraries[i], version ? version : "");
	}
	part = json_object_get(all, "program");
	expect(part, "version", hd_version);
	expect(part, "commit", hd_commit);
	cr_assert_not_null(strstr(json_string_value(json_object_get(part, "path")), "test_record"));
	part = json_object_get(all, "backend");
	expect(part, "name", "cpu");
	expect(part, "tier", backend->tier);
	expect(part, "reason", backend->reason);
	cr_assert_eq(json_integer_value(json_object_get(part, "threads")), 2);
	part = json_object_get(all, "machine");
	expect(part, "hostname", host);
	cr_assert_gt(json_integer_value(json_object_get(part, "memory_bytes")), 1 << 20);
	cr_assert_geq(json_integer_value(json_object_get(part, "cores")), 1);
	cr_assert_not_null(strstr(json_string_value(json_object_get(part, "kernel")), "Linux"));
	cr_assert_gt(json_string_length(json_object_get(part, "operating_system")), 3);
	expect(all, "working_directory", here);
	json_decref(all);
	free(here);
}

/* ---- spectrograms ---- */

/* Six samples of two receivers, four of them of the validation split. */
static void make_data(const char *split)
{
	char manifest[2048] = "session,emission,receiver,iq,sample_rate,latitude,longitude,split\n";
	cr_assert_eq(hd_make_folders(file_in("data")), HD_OK);
	for (int s = 0; s < 6; s++) {
		char name[64];
		snprintf(name, sizeof name, "data/%d.npy", s);
		write_recording(name, RECORDING_SAMPLES, 0.05 * (s + 1));
		for (int r = 0; r < 2; r++)
			snprintf(manifest + strlen(manifest), sizeof manifest - strlen(manifest),
			        "s%d,%s,rx%d,%d.npy,12000,45.%d,7.5,%s\n", s, s == 2 ? "a/b ü../c" : "", r, s, s + 1,
			        s > 0 ? split : "train");
	}
	write_text("data/manifest.csv", manifest);
	set("data_dir", file_in("data"));
	small_features();
	load_data();
}

static size_t pictures(glob_t *found)
{
	char pattern[600];
	snprintf(pattern, sizeof pattern, "%s/artifacts/spectrograms/*", run.folder);
	return glob(pattern, 0, NULL, found) == 0 ? found->gl_pathc : 0;
}

static const char *base(const char *path)
{
	return strrchr(path, '/') + 1;
}

/* Height of a picture, which says how many panels it has. */
static int height_of(const char *path)
{
	cairo_surface_t *s = cairo_image_surface_create_from_png(path);
	cr_assert_eq(cairo_surface_status(s), CAIRO_STATUS_SUCCESS, "%s is no PNG", path);
	int height = cairo_image_surface_get_height(s);
	cairo_surface_destroy(s);
	return height;
}

static void draw_spectrograms(void)
{
	cr_assert_eq(hd_record_spectrograms(&run, &dataset), HD_OK, "%s", hd_error_text());
}

Test(record, spectrograms_of_the_first_validation_samples)
{
	glob_t found;
	make_data("val");
	draw_spectrograms();
	draw_spectrograms(); /* a resumed run draws them again */
	cr_assert_eq(pictures(&found), 4);
	cr_assert_str_eq(base(found.gl_pathv[0]), "1_val_s1.png");
	cr_assert_str_eq(base(found.gl_pathv[1]), "2_val_s2_a_b___.._c.png", "got %s", base(found.gl_pathv[1]));
	cr_assert_str_eq(base(found.gl_pathv[3]), "4_val_s4.png");
	cr_assert_gt(height_of(found.gl_pathv[0]), 400);
	globfree(&found);
}

Test(record, spectrograms_of_training_samples_where_there_are_no_others)
{
	glob_t found;
	set("validation_split", "0");
	set("test_split", "0");
	make_data("train");
	draw_spectrograms();
	cr_assert_eq(pictures(&found), 4);
	cr_assert_str_eq(base(found.gl_pathv[0]), "1_train_s0.png");
	globfree(&found);
}

Test(record, no_spectrograms_of_a_cepstrum)
{
	glob_t found;
	set("feature", "mfcc");
	make_data("val");
	draw_spectrograms();
	cr_assert_eq(pictures(&found), 0);
}

/* Another window has other levels: the picture is that of the middle one. */
Test(record, spectrograms_of_windows)
{
	glob_t found;
	uint16_t loud = 0x4900; /* 10 dB */
	set("frame_mode", "windows");
	set("windows", "3");
	make_data("val");
	int64_t T = dataset.cache.T / 3, rows = dataset.cache.S * dataset.cache.C * dataset.cache.H;
	cr_assert_eq(T * 3, dataset.cache.T);
	draw_spectrograms();
	cr_assert_eq(pictures(&found), 4);
	char command[2048];
	snprintf(command, sizeof command, "cp '%s' '%s'", found.gl_pathv[0], file_in("before.png"));
	cr_assert_eq(system(command), 0);
	for (int64_t i = 0; i < rows * dataset.cache.T; i++)
		if (i % dataset.cache.T / T != 1)
			dataset.cache.db[i] = loud;
	draw_spectrograms();
	snprintf(command, sizeof command, "cmp -s '%s' '%s'", found.gl_pathv[0], file_in("before.png"));
	cr_assert_eq(system(command), 0, "windows at the ends are in the picture");
	for (int64_t i = 0; i < rows * dataset.cache.T; i += dataset.cache.T)
		dataset.cache.db[i + T + T / 2] = loud;
	draw_spectrograms();
	cr_assert_neq(system(command), 0, "the middle window is not in the picture");
	globfree(&found);
}
