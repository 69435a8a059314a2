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
	expect_text("19 timed, 0 failed, 0 left out");
	json_t *all = read_json("a.json"), *rows = json_object_get(all, "rows"), *row;
	size_t i;
	cr_assert_str_eq(word(all, "backend"), "cpu");
	cr_assert_gt(number(json_object_get(all, "ceilings"), "triad_gb_per_s"), 0);
	cr_assert_gt(number(json_object_get(all, "ceilings"), "f32_gflop_per_s"), 0);
	cr_assert_eq(json_array_size(rows), 19);
	json_array_foreach(rows, i, row)
	{
		double median = number(row, "median_us");
		cr_assert(median > 0 && number(row, "p10_us") <= median && median <= number(row, "p90_us"));
		cr_assert_geq(number(row, "samples"), 3);
		cr_assert(json_is_null(json_object_get(row, "graph_us")), "the CPU records no graphs");
		/* a third of a rate and a time is what was moved: add has 12 bytes an element */
		double n = json_number_value(json_array_get(json_object_get(row, "sizes"), 0));
		if (!strcmp(word(row, "op"), "add"))
			cr_assert_float_eq(number(row, "gb_per_s") * median * 1e3, 12 * n, 1e-3 * 12 * n);
	}
	json_decref(all);
	cr_assert_eq(shell("test $(wc -l < \"$D\"/a.csv) = 20"), 0);
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

#define CONTENTION 1.1

/* A region's sum of a kernel's figure, in seconds. */
static double region_sum(const json_t *row, const char *region, const char *key, int beside)
{
	double sum = 0;
	size_t k;
	json_t *kernel;
	json_array_foreach(json_object_get(row, "kernels"), k, kernel)
	{
		bool own = json_is_true(json_object_get(kernel, "beside"));
		if (!strcmp(word(kernel, "region"), region) && (beside < 0 || own == beside))
			sum += 1e-6 * number(kernel, key) * number(kernel, "calls");
	}
	return sum;
}

static void expect_sum(const json_t *row, const json_t *region, const char *key, const char *of, int beside)
{
	const char *name = word(region, "region");
	double want = region_sum(row, name, of, beside);
	cr_assert_float_eq(number(region, key), want, 1e-9 + 1e-6 * want, "%s, batch %g, %s, %s: %g, want %g",
	        word(row, "model"), number(row, "batch"), name, key, number(region, key), want);
}

/* Every region from its kernels again; the second stream has what the program puts there and nothing else. */
static void expect_overlap(const json_t *row)
{
	size_t i, k;
	json_t *region, *kernel;
	double all = 0;
	json_array_foreach(json_object_get(row, "regions"), i, region)
	{
		double main_s = number(region, "main_s"), beside_s = number(region, "beside_s"),
		       dram = number(region, "dram_s"), l2 = number(region, "l2_s"), busy = number(region, "busy_s"),
		       order = number(region, "order_s"), time = number(region, "overlapped_s"), want;
		expect_sum(row, region, "main_s", "predicted_us", 0);
		expect_sum(row, region, "beside_s", "predicted_us", 1);
		expect_sum(row, region, "dram_s", "dram_us", -1);
		expect_sum(row, region, "l2_s", "l2_us", -1);
		expect_sum(row, region, "busy_s", "busy_us", -1);
		cr_assert(order >= fmax(main_s, beside_s) && order <= (main_s + beside_s) * (1 + 1e-9));
		want = fmin(main_s + beside_s, CONTENTION * fmax(fmax(dram, l2), fmax(busy, order)));
		cr_assert_float_eq(time, beside_s > 0 ? want : main_s, 1e-9 + 1e-6 * want);
		cr_assert_eq(beside_s > 0, strcmp(word(region, "region"), "alone") != 0);
		all += time;
	}
	cr_assert_eq(i, 6);
	cr_assert_float_eq(number(row, "overlapped_s"), all, 1e-6 * all);
	cr_assert_lt(all, number(row, "predicted_s"));
	json_array_foreach(json_object_get(row, "kernels"), k, kernel)
	{
		const char *op = word(kernel, "op");
		bool blocks = strncmp(word(kernel, "region"), "stage", 5) == 0,
		     want = !strcmp(op, "adamw") || (blocks && strstr(op, "bwd_weight"));
		cr_assert_eq(json_is_true(json_object_get(kernel, "beside")), want, "%s", op);
	}
}

/*
 * A batch and a step of atto on a device: 175 kernels of its own and 101 matrix products, as counted in a trace of the
 * emulation, sums over rows within the launch that they are of.
 */
Test(bench, roofline_launches_what_the_program_does)
{
	double launches = 0;
	size_t k;
	json_t *kernel;
	cr_assert_eq(shell(COMMAND "\"$B\"/roofline --device h100 --model atto --batch 2 --json \"$D\"/a.json"), 0,
	        "%s", text);
	json_t *all = read_json("a.json"), *row = json_array_get(json_object_get(all, "rows"), 0);
	json_array_foreach(json_object_get(row, "kernels"), k, kernel)
	{
		if (strcmp(word(kernel, "op"), "copies") != 0)
			launches += number(kernel, "calls") * number(kernel, "launches");
	}
	cr_assert_eq(launches, 276);
	cr_assert_eq(number(row, "pieces"), 3);
	json_decref(all);
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
		expect_overlap(row);
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

/* Every precision of train, on a back end that has no TF32 of its own. */
Test(bench, steps_takes_every_precision)
{
	cr_assert_eq(shell(COMMAND "\"$B\"/steps --accelerator cpu --models atto --batches 2 --limit_s 0 --features no "
	                           "--precisions auto,32,tf32,bf16-mixed,16-mixed --json \"$D\"/a.json"),
	        0, "%s", text);
	static const char *const asked[] = {"auto", "32", "tf32", "bf16-mixed", "16-mixed"}, *const computed[] = {NULL,
	                                                                                             "32", "32",
	                                                                                             "bf16-mixed",
	                                                                                             "16-mixed"};
	json_t *all = read_json("a.json"), *rows = json_object_get(all, "rows"), *row;
	size_t i;
	cr_assert_eq(json_array_size(rows), 5);
	json_array_foreach(rows, i, row)
	{
		cr_assert_str_eq(word(row, "precision"), asked[i]);
		cr_assert(!computed[i] || !strcmp(word(row, "computed_in"), computed[i]), "%s: %s", asked[i],
		        word(row, "computed_in"));
		cr_assert_gt(number(row, "seconds"), 0);
	}
	cr_assert_str_neq(word(json_array_get(rows, 0), "computed_in"), "auto");
	json_decref(all);
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
	/* every operation has a row until a GPU has been there; its figures stay */
	cr_assert_eq(shell("for said in 'No row was run on a GPU.' 'measured'; do printf '<!-- gpu: generated "
	                   "-->\\n%s\\n<!-- "
	                   "gpu: end -->\\n' \"$said\" > \"$D\"/G.md && python3 bench/results.py \"$D\"/G.md \"$D\"/r "
	                   "gpu-missing && grep -c '^| .* not run on a GPU |$' \"$D\"/G.md; done; "
	                   "echo $(grep -c '^HD_OP(' kernels/kernels.def) operations"),
	        0, "%s", text);
	int rows = -1, left = -1, operations = -1;
	cr_assert_eq(sscanf(text, "%d %d %d operations", &rows, &left, &operations), 3, "%s", text);
	cr_assert(rows == operations + 3 && left == 0, "%d rows, %d beside figures, %d operations", rows, left,
	        operations);
}
