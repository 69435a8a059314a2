/* SPDX-License-Identifier: Apache-2.0 */
/* predict and eval with an exported model: the same words and figures as with the checkpoint it was made from. */
#include "host/export/validate.h"
#include "heimdall/dataset.h"
#include "heimdall/iq.h"
#include "tests/onnx_fixture.h"
#include "tests/onnxruntime.h"
#include "tests/program.h"

#define SIZES " --sample_rate 48000 --n_fft 512 --hop_length 128 --n_mels 64 --receivers all --backbone_size atto "

/* A figure of the last output: the word behind a name. */
static double figure(const char *name)
{
	for (const char *at = text; (at = strstr(at, name)); at++)
		if (at == text || at[-1] == ' ' || at[-1] == '\n')
			return atof(at + strlen(name));
	cr_assert_fail("no '%s' in:\n%s", name, text);
	return NAN;
}

static const char *path_of(const char *name)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

/* false: skipped. The program finds the runtime as the test does. */
static bool have_runtime(void)
{
	hd_runtime *runtime;
	if (!open_runtime(&runtime, false))
		return false;
	hd_runtime_close(runtime);
	return true;
}

static void make_model(const char *checkpoint, const char *model, hd_onnx_outputs outputs, fault what)
{
	hd_checkpoint c;
	cr_assert_eq(hd_checkpoint_open(&c, checkpoint), HD_OK, "%s", hd_error_text());
	write_model(path_of(model), &c, outputs, what);
	hd_checkpoint_close(&c);
}

/* Data of three receivers and a checkpoint barely trained on them; positions less exact than 0 for the loss. */
static void train(void)
{
	cr_assert_eq(heimdall("synth --out $D/data --sessions 24 --sample_rate 48000 --samples 12000"), 0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/data --checkpoint_dir $D/ck --batch_size 8 --epochs 1 "
	                      "--warmup_epochs 0 --pretrained none" SIZES),
	        0, "%s", text);
}

static void expect_same(double got, double want, double bound, const char *what)
{
	cr_expect(fabs(got - want) <= bound, "%s: %.9g, with the checkpoint %.9g", what, got, want);
}

/* Evaluates with what and compares all figures with those of the checkpoint within shares of them. */
static void eval_both(const char *model, const char *more)
{
	static const char *const names[] = {"loss ", "nll ", "mae_m ", "median_m ", "p90_m ", "mean_sigma_m ",
	        "expected_error_m ", "z_variance ", "centre_mae_m "};
	double want[sizeof names / sizeof *names];
	char words[512];
	snprintf(words, sizeof words,
	        "eval --data_dir $D/data --split all --batch_size 7 --checkpoint $D/ck/best.safetensors %s", more);
	cr_assert_eq(heimdall(words), 0, "%s", text);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		want[i] = figure(names[i]);
	snprintf(words, sizeof words, "eval --data_dir $D/data --split all --batch_size 7 --checkpoint $D/%s %s", model,
	        more);
	cr_assert_eq(heimdall(words), 0, "%s", text);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		expect_same(figure(names[i]), want[i], 1e-4 * fabs(want[i]) + 2e-4, names[i]);
}

/* Real samples come beside the made ones: 24 there, each in batches of 1, 2, 7 and 32. */
static void validate_on_data(const char *model)
{
	hd_runtime *runtime;
	hd_checkpoint c;
	hd_backend *backend;
	hd_dataset data;
	hd_validation v;
	cr_assert_eq(hd_runtime_open(&runtime, ""), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_checkpoint_open(&c, path_of("ck/best.safetensors")), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 1), HD_OK);
	cr_assert_eq(hd_dataset_open(&data, &c.settings, &c.card), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_dataset_load(&data, &c.settings, backend), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_validate(&v, runtime, path_of(model), &c, backend, &data, 1), HD_OK, "%s", hd_error_text());
	hd_validation_print(stderr, &v);
	cr_expect(v.passed);
	cr_expect_eq(v.real, 24);
	cr_expect_eq(v.levels[HD_RUNTIME_ALL].compared, 84);
	hd_dataset_close(&data);
	hd_backend_close(backend);
	hd_checkpoint_close(&c);
	hd_runtime_close(runtime);
}

Test(onnx_model, eval_has_the_figures_of_the_checkpoint, .init = make_folder, .fini = remove_data)
{
	if (!have_runtime())
		return;
	train();
	make_model(path_of("ck/best.safetensors"), "raw.onnx", HD_ONNX_OUTPUTS_RAW, NO_FAULT);
	eval_both("raw.onnx", "");
	eval_both("raw.onnx", "--label_sigma_m 3000 --frame_mode windows --windows 2");
	make_model(path_of("ck/best.safetensors"), "positions.onnx", HD_ONNX_OUTPUTS_POSITIONS, FIXED_ROWS);
	eval_both("positions.onnx", "");
	validate_on_data("raw.onnx");
}

Test(onnx_model, predict_says_the_line_of_the_checkpoint, .init = make_folder, .fini = remove_data)
{
	static const char *const files[] = {"$S/websdr_1.npy $S/websdr_2.npy $S/websdr_3.npy",
	        "$S/websdr_1.npy none $S/websdr_3.npy", "--windows 1 $S/websdr_1.npy $S/websdr_2.npy none"};
	static const char *const names[] = {"latitude ", "longitude ", "sigma_north_m ", "sigma_east_m ", "windows "};
	/* steps of the line, and 2 m of degrees; sigma to 1e-4 of it */
	double want[5], bound[] = {3e-5, 3e-5, 0.2, 0.2, 0};
	char words[1024];
	if (!have_runtime())
		return;
	write_checkpoint(path_of("best.safetensors"), NULL, 0);
	cr_assert_eq(heimdall("synth --out $D/data --sessions 2 --sample_rate 48000 --samples 12000"), 0, "%s", text);
	for (hd_onnx_outputs outputs = 0; outputs < HD_ONNX_OUTPUTS_COUNT; outputs++) {
		make_model(path_of("best.safetensors"), "model.onnx", outputs, NO_FAULT);
		for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
			for (int onnx = 0; onnx < 2; onnx++) {
				snprintf(words, sizeof words,
				        "S=$D/data/sessions/s000001; \"$H\" predict --json $D/p.json --checkpoint "
				        "$D/%s %s",
				        onnx ? "model.onnx" : "best.safetensors", files[f]);
				cr_assert_eq(shell(words), 0, "%s", text);
				for (int i = 0; i < 5; i++) {
					double got = figure(names[i]);
					if (onnx)
						expect_same(got, want[i],
						        fmax(bound[i], i == 2 || i == 3 ? 1e-4 * want[i] : 0),
						        names[i]);
					want[i] = got;
				}
			}
		}
	}
}

/* ---- models that take the recording ---- */

/* latitude 45 + mean of channel 0, longitude 8 + 10 * mean of the last; sigma 1000 and the mean of channel 1 + 500. */
static void write_signal_model(bool magnitude)
{
	hd_checkpoint c;
	hd_onnx *g;
	static const int64_t axes[] = {2, 3};
	cr_assert_eq(hd_checkpoint_open(&c, path_of("best.safetensors")), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_onnx_create(&g, 14, "signal"), HD_OK);
	hd_onnx_value x = hd_onnx_input(g, "signal", HD_ONNX_F32, magnitude ? 3 : 4,
	        (const hd_onnx_dim[]){{-1, "N"}, {CHANNELS, NULL}, {-1, "samples"}, {2, NULL}});
	hd_onnx_value mean = HD_ONNX_NODE(g, "ReduceMean", x); /* (N,C) */
	hd_onnx_attr_ints(g, "axes", magnitude ? 1 : 2, axes);
	hd_onnx_attr_int(g, "keepdims", 0);
	hd_onnx_value all = take_columns(g, mean, 4, (const int64_t[]){0, 2, 0, 1});
	all = HD_ONNX_NODE(
	        g, "Mul", all, hd_onnx_f32s(g, "factor", 1, (const int64_t[]){4}, (const float[]){1, 10, 0, 1}));
	all = HD_ONNX_NODE(
	        g, "Add", all, hd_onnx_f32s(g, "term", 1, (const int64_t[]){4}, (const float[]){45, 8, 1000, 500}));
	hd_onnx_output(g, all, "combined", HD_ONNX_F32, 2, (const hd_onnx_dim[]){{-1, "N"}, {4, NULL}});
	char *yaml, *card;
	cr_assert_eq(hd_settings_dump(&c.settings, &yaml), HD_OK);
	cr_assert_eq(hd_data_card_write(&card, &c.card), HD_OK);
	hd_onnx_metadata(g, HD_ONNX_KEY_CONFIG, yaml);
	hd_onnx_metadata(g, HD_ONNX_KEY_CARD, card);
	hd_onnx_metadata(g, HD_ONNX_KEY_FORMAT, HD_ONNX_FORMAT);
	hd_onnx_metadata(g, HD_ONNX_KEY_INPUT, magnitude ? "magnitude" : "iq");
	hd_onnx_metadata(g, HD_ONNX_KEY_OUTPUTS, "combined");
	cr_assert_eq(hd_onnx_write(g, path_of("signal.onnx"), HD_ONNX_EXTERNAL_NEVER), HD_OK, "%s", hd_error_text());
	hd_onnx_free(g);
	free(card);
	free(yaml);
	hd_checkpoint_close(&c);
}

/* n samples of I and Q as 16-bit numbers. */
static void write_recording(const char *name, int64_t n, int i, int q)
{
	int16_t *data = calloc((size_t)(2 * n), sizeof *data);
	for (int64_t k = 0; k < n; k++) {
		data[2 * k] = (int16_t)i;
		data[2 * k + 1] = (int16_t)q;
	}
	cr_assert_eq(hd_npy_write(path_of(name), "<i2", (const int64_t[]){n, 2}, 2, data, (size_t)(4 * n)), HD_OK, "%s",
	        hd_error_text());
	free(data);
}

static void expect_line(const char *files, const char *line)
{
	char words[512];
	snprintf(words, sizeof words, "cd $D && \"$H\" predict --checkpoint signal.onnx %s", files);
	cr_expect_eq(shell(words), 0, "%s", text);
	expect_text(line);
}

static void expect_failure(const char *words, int code, const char *reason)
{
	cr_expect_eq(shell(words), code, "%s", text);
	expect_text(reason);
}

Test(onnx_model, recordings_go_in_as_they_are, .init = make_folder, .fini = remove_data)
{
	if (!have_runtime())
		return;
	char here[512], build[600];
	const char *named = getenv("BUILD");
	/* the program is called from the folder */
	cr_assert_not_null(getcwd(here, sizeof here));
	snprintf(build, sizeof build, named && named[0] == '/' ? "%.0s%s" : "%s/%s", here, named ? named : "build");
	setenv("BUILD", build, 1);
	write_checkpoint(path_of("best.safetensors"), NULL, 0);
	/* 0.375 and 0.5 of full scale: magnitude 0.625, mean of both 0.4375 */
	write_recording("a.npy", 9000, 12288, 16384);
	write_recording("b.npy", 9000, 4096, 0);
	write_recording("short.npy", 8999, 4096, 0);
	write_signal_model(false);
	/* 71 frames are two windows of 32 */
	expect_line("a.npy none a.npy",
	        "latitude 45.437500 longitude 12.375000 sigma_north_m 1000.0 sigma_east_m 500.0 windows 2");
	expect_line(
	        "b.npy a.npy none", "latitude 45.062500 longitude 8.000000 sigma_north_m 1000.0 sigma_east_m 500.4");
	write_signal_model(true);
	expect_line("a.npy none b.npy", "latitude 45.625000 longitude 9.250000");
	expect_failure(
	        "\"$H\" predict --checkpoint $D/signal.onnx $D/a.npy $D/short.npy", 2, "recordings of one length");
	expect_failure("\"$H\" predict --checkpoint $D/signal.onnx none none", 2, "no recording");
	expect_failure(
	        "\"$H\" predict --checkpoint $D/signal.onnx --windows 3 $D/a.npy", 2, "cuts the recording itself");
	expect_failure("\"$H\" eval --checkpoint $D/signal.onnx --data_dir $D", 2, "eval takes models of features");
}

Test(onnx_model, errors_say_what_to_do, .init = make_folder, .fini = remove_data)
{
	expect_failure(
	        "HEIMDALL_PYTHON=/nowhere/python \"$H\" predict --checkpoint m.onnx --onnxruntime /nowhere.so x.npy", 1,
	        "no ONNX Runtime: /nowhere.so");
	expect_failure("HEIMDALL_ONNXRUNTIME=/nowhere/else.so \"$H\" eval --checkpoint m.onnx --data_dir $D", 1,
	        "/nowhere/else.so");
	expect_text("pip install onnxruntime");
	if (!have_runtime())
		return;
	expect_failure("\"$H\" predict --checkpoint $D/none.onnx x.npy", 1, "none.onnx: ");
	expect_failure("\"$H\" predict --checkpoint tests/golden/runtime.onnx x.npy", 3,
	        "tests/golden/runtime.onnx: no model of this program: no metadata 'heimdall.config'");
}
