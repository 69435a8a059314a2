/* SPDX-License-Identifier: Apache-2.0 */
/* The benchmark programs run, and what they write holds together. Times are nobody's to test here. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>

#include "heimdall/safetensors.h"
#include "tests/program.h"

#define COMMAND "B=${BUILD:-build}/bench; "

static json_t *read_json(const char *name)
{
	char path[512];
	json_error_t error;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	json_t *value = json_load_file(path, 0, &error);
	cr_assert_not_null(value, "%s:%d: %s", path, error.line, error.text);
	return value;
}

static double number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	cr_assert(json_is_number(value), "no number %s", key);
	return json_number_value(value);
}

static const char *word(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));
	return value ? value : "";
}

TestSuite(bench, .init = make_folder, .fini = remove_data);

Test(bench, ops_times_what_it_checked)
{
	cr_assert_eq(
	        shell(COMMAND "\"$B\"/ops --accelerator cpu --op add,layernorm_fwd --limit_s 0 --json \"$D\"/a.json "
	                      "--csv \"$D\"/a.csv"),
	        0, "%s", text);
	expect_text("8 timed, 0 failed, 0 left out");
	json_t *all = read_json("a.json"), *rows = json_object_get(all, "rows"), *row;
	size_t i;
	cr_assert_str_eq(word(all, "backend"), "cpu");
	cr_assert_gt(number(json_object_get(all, "ceilings"), "triad_gb_per_s"), 0);
	cr_assert_gt(number(json_object_get(all, "ceilings"), "f32_gflop_per_s"), 0);
	cr_assert_eq(json_array_size(rows), 8);
	json_array_foreach(rows, i, row)
	{
		double median = number(row, "median_us");
		cr_assert(median > 0 && number(row, "p10_us") <= median && median <= number(row, "p90_us"));
		cr_assert_geq(number(row, "samples"), 3);
		/* a third of a rate and a time is what was moved: add has 12 bytes an element */
		double n = json_number_value(json_array_get(json_object_get(row, "sizes"), 0));
		if (!strcmp(word(row, "op"), "add"))
			cr_assert_float_eq(number(row, "gb_per_s") * median * 1e3, 12 * n, 1e-3 * 12 * n);
	}
	json_decref(all);
	cr_assert_eq(shell("test $(wc -l < \"$D\"/a.csv) = 9"), 0);
	cr_assert_eq(shell(COMMAND "\"$B\"/ops --accelerator cpu --op nonsense"), 2);
	cr_assert_eq(shell(COMMAND "\"$B\"/ops --op"), 2);
}

Test(bench, ops_takes_the_shapes_of_a_training_step)
{
	cr_assert_eq(shell(COMMAND "\"$B\"/ops --accelerator cpu --op scale_residual_fwd,linear_fwd --shapes large "
	                           "--models atto --batches 2 --limit_s 0 --json \"$D\"/a.json"),
	        0, "%s", text);
	json_t *all = read_json("a.json"), *rows = json_object_get(all, "rows"), *row;
	size_t i, found = 0, maps = 0;
	json_array_foreach(rows, i, row)
	{
		json_t *sizes = json_object_get(row, "sizes");
		maps += !strcmp(word(row, "op"), "scale_residual_fwd") && !strcmp(word(row, "dtype"), "f32");
		/* widened in the third stage: 2 samples of 8 x 2 */
		found += !strcmp(word(row, "op"), "linear_fwd") && !strcmp(word(row, "dtype"), "f32") &&
		         json_integer_value(json_array_get(sizes, 0)) == 32 &&
		         json_integer_value(json_array_get(sizes, 1)) == 160 &&
		         json_integer_value(json_array_get(sizes, 2)) == 640;
	}
	cr_assert_eq(found, 1);
	cr_assert_eq(maps, 4, "one per stage, not %zu", maps);
	json_decref(all);
}

/* Per sample: of all kernels, and of the stem, whose input has no gradient. */
static void expect_flops(const json_t *row, const double stem)
{
	double forward = number(row, "model_forward_flops");
	cr_assert_float_eq(number(row, "forward_flops_per_sample"), forward, 1e-9 * forward,
	        "%s, batch %g: %.9g, want %.9g", word(row, "model"), number(row, "batch"),
	        number(row, "forward_flops_per_sample"), forward);
	cr_assert_float_eq(number(row, "training_flops_per_sample"), 3 * forward - stem, 1e-9 * forward);
}

Test(bench, roofline_counts_as_the_model_does)
{
	cr_assert_eq(shell(COMMAND "\"$B\"/roofline --json \"$D\"/a.json"), 0, "%s", text);
	expect_text("goal 4.5 ms");
	json_t *all = read_json("a.json"), *rows = json_object_get(all, "rows"), *row, *kernel;
	size_t i, k;
	cr_assert_eq(json_array_size(rows), 3 * 3 * 4);
	json_array_foreach(rows, i, row)
	{
		const char *model = word(row, "model");
		bool large = !strcmp(model, "large");
		double sum = 0, width = large ? 192 : !strcmp(model, "base") ? 128 : 96;
		expect_flops(row, 2.0 * 32 * 8 * 48 * width);
		if (large)
			cr_assert_float_eq(number(row, "model_forward_flops"), 5.61e9, 0.005e9);
		if (large)
			cr_assert_float_eq(number(row, "training_flops_per_sample"), 16.83e9, 0.015e9);
		json_array_foreach(json_object_get(row, "kernels"), k, kernel)
		{
			sum += 1e-6 * number(kernel, "predicted_us") * number(kernel, "calls");
			if (large && !strcmp(word(kernel, "op"), "adamw"))
				cr_assert_float_eq(number(kernel, "bytes"), 30 * 196.7e6, 30 * 0.1e6);
		}
		cr_assert_float_eq(sum, number(row, "predicted_s"), 1e-6 * sum);
		/* nothing is faster than the products at 800 TFLOP/s */
		cr_assert_gt(number(row, "predicted_s"),
		        number(row, "training_flops_per_sample") * number(row, "batch") / 800e12);
	}
	json_decref(all);
	/* the program's own table of sizes */
	cr_assert_eq(heimdall("train --list_backbones"), 0);
	expect_text("5.611");
}

Test(bench, roofline_takes_what_a_gpu_measured)
{
	cr_assert_eq(
	        shell("echo '{\"backend\":\"cuda\",\"rows\":[{\"op\":\"linear_fwd\",\"dims\":\"rows C K\",\"sizes\":"
	              "[512,768,3072],\"dtype\":\"bf16\",\"median_us\":7.5}]}' > \"$D\"/m.json; "
	              "echo '{\"backend\":\"cpu\",\"rows\":[]}' > \"$D\"/cpu.json"),
	        0);
	cr_assert_eq(shell(COMMAND "\"$B\"/roofline --device h100 --model large --batch 32 --measured \"$D\"/m.json "
	                           "--json \"$D\"/a.json"),
	        0, "%s", text);
	json_t *all = read_json("a.json"), *row = json_array_get(json_object_get(all, "rows"), 0), *kernel;
	size_t k, measured = 0;
	cr_assert_float_eq(number(row, "measured_s"), 27 * 7.5e-6, 1e-9);
	json_array_foreach(json_object_get(row, "kernels"), k, kernel) measured +=
	        json_is_number(json_object_get(kernel, "measured_us"));
	cr_assert_eq(measured, 1);
	json_decref(all);
	cr_assert_eq(shell(COMMAND "\"$B\"/roofline --measured \"$D\"/cpu.json"), 3);
	expect_text("not measured on a GPU");
}

Test(bench, steps_trains_and_saves_its_model)
{
	cr_assert_eq(
	        shell(COMMAND
	                "\"$B\"/steps --accelerator cpu --models atto --batches 2 --limit_s 0 --json \"$D\"/a.json "
	                "--save \"$D\"/a.safetensors"),
	        0, "%s", text);
	json_t *all = read_json("a.json"), *rows = json_object_get(all, "rows"), *step = json_array_get(rows, 0);
	cr_assert_eq(json_array_size(rows), 2);
	cr_assert_str_eq(word(step, "what"), "training step");
	cr_assert_float_eq(number(step, "seconds") * number(step, "samples_per_s"), 2, 1e-3);
	cr_assert_gt(number(json_array_get(rows, 1), "recordings_per_s"), 0);
	hd_safetensors file;
	char path[512];
	snprintf(path, sizeof path, "%s/a.safetensors", folder);
	cr_assert_eq(hd_safetensors_open(&file, path, true), HD_OK, "%s", hd_error_text());
	size_t parameters = 0;
	for (size_t i = 0; i < file.tensor_count; i++)
		if (strncmp(file.tensors[i].name, "bench.", 6) != 0)
			parameters += file.tensors[i].bytes / sizeof(float);
	cr_assert_eq((double)parameters, number(step, "parameters"));
	const hd_tensor *loss = hd_safetensors_find(&file, "bench.loss");
	cr_assert(loss && isfinite(*(const float *)loss->data));
	hd_safetensors_close(&file);
	json_decref(all);
	cr_assert_neq(
	        shell(COMMAND "\"$B\"/steps --accelerator cpu --models atto --precisions 7-bit --features no"), 0);
	expect_text("FAILED");
}

/* Sections are replaced, whatever was in them; nothing else is. */
Test(bench, results_keep_what_is_written_by_hand)
{
	cr_assert_eq(shell("mkdir \"$D\"/r && printf 'before\\n<!-- cpu: generated -->\\nold\\n<!-- cpu: end "
	                   "-->\\nbetween\\n"
	                   "<!-- roofline: generated -->\\nold\\n<!-- roofline: end -->\\nbehind\\n' > \"$D\"/R.md"),
	        0);
	cr_assert_eq(
	        shell(COMMAND
	                "\"$B\"/ops --accelerator cpu --op relu_dropout_bwd --limit_s 0 --json \"$D\"/r/ops.json && "
	                "echo predicted > \"$D\"/r/roofline.txt && "
	                "python3 bench/results.py \"$D\"/R.md \"$D\"/r cpu roofline && cat \"$D\"/R.md"),
	        0, "%s", text);
	expect_text("| relu_dropout_bwd | n=8192 variant 0 |");
	expect_text("predicted\n```");
	expect_text("<!-- cpu: end -->\nbetween\n<!-- roofline");
	cr_assert_null(strstr(text, "old"));
	cr_assert_eq(shell("head -n 1 \"$D\"/R.md | grep -qx before && tail -n 1 \"$D\"/R.md | grep -qx behind"), 0);
	cr_assert_neq(shell("python3 bench/results.py \"$D\"/R.md \"$D\"/r gpu"), 0);
	expect_text("0 sections gpu");
}
