/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a training step of ConvNeXt ought to take on a GPU, kernel by kernel, predicted from sizes
 * (bench/common/predict.h) and the list of a step's operations (bench/common/training_step.h), beside what bench/ops
 * measured (--measured FILE, its --json). Nothing here runs on a device.
 *
 * Times: serial, every kernel after the one before, and overlapped, on the two streams that the program has
 * (bench/common/overlap.h); the goals are held against the latter.
 *
 * Without --model: steps of Tiny, Base and Large at batch 32, 64, 128 and 256. With it, and --batch: the kernels.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "bench/common/overlap.h"
#include "host/common/json.h"
#include "host/common/version.h"

#define MODELS "tiny,base,large" /* unasked */

static const int batches[] = {32, 64, 128, 256};
static const char *const phases[] = {"batch", "forward", "backward", "step"};

/* What a step of Large on an H100 is to take. */
static const struct {
	int batch;
	double ms;
} goals[] = {{32, 4.5}, {256, 12}};

typedef struct roofline {
	const hd_gpu *gpu;
	hd_dtype dtype;
	const json_t *measured; /* rows of bench/ops; NULL: none */
	json_t *out;
} roofline;

/* ---- what was measured ---- */

static int64_t size_at(const json_t *row, size_t i)
{
	return json_integer_value(json_array_get(json_object_get(row, "sizes"), i));
}

/* Microseconds of a call; NAN where it was not measured. Flat operations are measured at another length too. */
static double measured_us(const roofline *r, const hd_step_row *row)
{
	size_t i;
	json_t *m;
	json_array_foreach((json_t *)r->measured, i, m)
	{
		double us = json_number_value(json_object_get(m, "median_us")), product = 1;
		bool same = us > 0 && !strcmp(hd_json_text(m, "op"), row->op) &&
		            !strcmp(hd_json_text(m, "dtype"), hd_bench_dtype_name(row->dtype));
		bool flat = same && !strcmp(hd_json_text(m, "dims"), "n");
		for (size_t d = 0; d < HD_STEP_DIMS; d++) {
			same = same && size_at(m, d) == row->d[d];
			product *= row->d[d] ? (double)row->d[d] : 1;
		}
		if (same)
			return us;
		if (flat &&
		        (size_at(m, 0) == (int64_t)product || (size_at(m, 0) >= (int64_t)1 << 24 && product > 0x1p24)))
			return us * product / (double)size_at(m, 0);
	}
	return NAN;
}

/* ---- one step ---- */

static void print_kernels(const roofline *r, const hd_training_step *step)
{
	printf("\n%-8s %-22s %-32s %5s %8s %8s %-8s %-14s %8s %8s %6s %9s\n", "phase", "operation", "shape", "calls",
	        "MB", "GFLOP", "bound", "tile, split", "us/call", "ms/step", "%", "measured");
	double total = hd_overlap(r->gpu, step).serial_s;
	for (size_t i = 0; i < step->count; i++) {
		const hd_step_row *row = &step->rows[i];
		hd_prediction p = hd_predict(r->gpu, row);
		char shape[160], tile[32] = "", measured[16] = "not run";
		double us = measured_us(r, row), call = p.launch_s + p.work_s;
		hd_step_row_text(shape, sizeof shape, row);
		if (row->class == HD_CLASS_PRODUCT)
			snprintf(tile, sizeof tile, "%dx%d/%d w%d", p.tile_m, p.tile_n, p.split, p.waves);
		if (!isnan(us))
			snprintf(measured, sizeof measured, "%.1f", us);
		printf("%-8s %-22s %-32s %5d %8.2f %8.3f %-8s %-14s %8.2f %8.3f %6.1f %9s\n", phases[row->phase],
		        row->op, shape, row->calls, row->bytes / 1e6, row->flops / 1e9, p.bound, tile, 1e6 * call,
		        1e3 * row->calls * call, 100 * row->calls * call / total, measured);
	}
}

typedef struct sums {
	double s, launch_s, class_s[4], optimizer_s; /* class_s without the optimizer's */
	double bytes, flops, forward, training, measured_s, covered_s;
	int launches;
} sums;

static sums add_up(const roofline *r, const hd_training_step *step)
{
	sums a = {0};
	for (size_t i = 0; i < step->count; i++) {
		const hd_step_row *row = &step->rows[i];
		hd_prediction p = hd_predict(r->gpu, row);
		double us = measured_us(r, row), all = row->calls * (p.launch_s + p.work_s);
		a.s += all;
		a.launch_s += row->calls * p.launch_s;
		a.launches += row->calls * (int)lround(p.launch_s / HD_LAUNCH_S);
		if (row->phase == HD_PHASE_STEP)
			a.optimizer_s += row->calls * p.work_s;
		else
			a.class_s[row->class] += row->calls * p.work_s;
		a.bytes += row->calls * row->bytes;
		a.flops += row->calls * row->flops;
		a.training += row->calls * row->counted;
		a.forward += row->phase == HD_PHASE_FORWARD ? row->calls * row->counted : 0;
		a.measured_s += isnan(us) ? 0 : 1e-6 * us * row->calls;
		a.covered_s += isnan(us) ? 0 : all;
	}
	return a;
}

static json_t *kernels_json(const roofline *r, const hd_training_step *step)
{
	json_t *rows = json_array();
	for (size_t i = 0; i < step->count; i++) {
		const hd_step_row *row = &step->rows[i];
		hd_prediction p = hd_predict(r->gpu, row);
		char shape[160];
		hd_step_row_text(shape, sizeof shape, row);
		json_array_append_new(rows,
		        json_pack(
		                "{s:s, s:i, s:b, s:i, s:f, s:f, s:f, s:s, s:s, s:s, s:s, s:i, s:f, s:f, s:s, s:f, s:o}",
		                "region", hd_region_name(row->region), "stage", row->stage, "beside", row->beside,
		                "launches", row->launches, "dram_us", 1e6 * p.dram_s, "l2_us", 1e6 * p.l2_s, "busy_us",
		                1e6 * p.busy_s, "phase", phases[row->phase], "op", row->op, "shape", shape, "dtype",
		                hd_bench_dtype_name(row->dtype), "calls", row->calls, "bytes", row->bytes, "flops",
		                row->flops, "bound", p.bound, "predicted_us", 1e6 * (p.launch_s + p.work_s),
		                "measured_us", hd_json_number(measured_us(r, row))));
	}
	return rows;
}

static json_t *regions_json(const hd_step_time *time)
{
	json_t *all = json_array();
	for (int i = 0; i < HD_REGIONS; i++) {
		const hd_region_time *t = &time->region[i];
		json_array_append_new(
		        all, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "region", hd_region_name(i),
		                     "main_s", t->main_s, "beside_s", t->beside_s, "dram_s", t->dram_s, "l2_s", t->l2_s,
		                     "busy_s", t->busy_s, "order_s", t->order_s, "overlapped_s", t->overlapped_s));
	}
	return all;
}

static hd_status predict(const roofline *r, const char *size, int batch, bool kernels)
{
	hd_status st;
	hd_model_config config;
	hd_training_step step = {NULL};
	char measured[48] = "not run on a GPU";
	HD_TRY(hd_bench_model(&config, size, batch, NULL, NULL));
	HD_TRY(hd_training_step_list(&step, &config, r->dtype));
	sums a = add_up(r, &step);
	hd_step_time time = hd_overlap(r->gpu, &step);
	if (a.measured_s > 0)
		snprintf(measured, sizeof measured, "%.2f for %.0f %% of it", 1e3 * a.measured_s,
		        100 * a.covered_s / a.s);
	printf("%-14s %-6s %5d %8.2f %10.2f %9.0f %8.2f %7.2f %9.2f %9.2f %9.2f %8d  %s\n", r->gpu->name, size, batch,
	        1e3 * a.s, 1e3 * time.overlapped_s, batch / time.overlapped_s, 1e3 * a.class_s[HD_CLASS_PRODUCT],
	        1e3 * a.class_s[HD_CLASS_DEPTHWISE], 1e3 * (a.class_s[HD_CLASS_STREAM] + a.class_s[HD_CLASS_SMALL]),
	        1e3 * a.optimizer_s, 1e3 * a.launch_s, a.launches, measured);
	if (kernels)
		print_kernels(r, &step);
	json_array_append_new(r->out,
	        json_pack("{s:f, s:o, s:i, s:s, s:s, s:i, s:s, s:f, s:f, s:f, s:f, s:f, s:i, s:o, s:f, s:f, s:o}",
	                "overlapped_s", time.overlapped_s, "regions", regions_json(&time), "pieces", step.pieces,
	                "device", r->gpu->key, "model", size, "batch", batch, "dtype", hd_bench_dtype_name(r->dtype),
	                "predicted_s", a.s, "forward_flops_per_sample", a.forward / batch, "training_flops_per_sample",
	                a.training / batch, "model_forward_flops", hd_model_forward_flops(&config), "bytes", a.bytes,
	                "launches", a.launches, "measured_s", hd_json_number(a.measured_s > 0 ? a.measured_s : NAN),
	                "covered_s", a.covered_s, "optimizer_s", a.optimizer_s, "kernels", kernels_json(r, &step)));
done:
	hd_training_step_free(&step);
	return st;
}

/* ---- what the goals ask for ---- */

static int by_time(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x < y) - (x > y);
}

/* The rows that take the longest, by one number with their place in the list. */
static void print_longest(const roofline *r, const hd_training_step *step, double total)
{
	enum { SHOWN = 6 };
	struct {
		double s;
		size_t row;
	} all[512] = {{0}};
	size_t count = step->count < 512 ? step->count : 512;
	for (size_t i = 0; i < count; i++) {
		hd_prediction p = hd_predict(r->gpu, &step->rows[i]);
		all[i].s = step->rows[i].calls * (p.launch_s + p.work_s);
		all[i].row = i;
	}
	qsort(all, count, sizeof *all, by_time);
	for (size_t i = 0; i < SHOWN && i < count; i++) {
		char shape[160];
		const hd_step_row *row = &step->rows[all[i].row];
		hd_step_row_text(shape, sizeof shape, row);
		printf("  %5.2f ms %4.1f %%  %d x %s %s\n", 1e3 * all[i].s, 100 * all[i].s / total, row->calls, row->op,
		        shape);
	}
}

static void print_regions(const hd_step_time *time)
{
	printf("  %-8s %8s %8s %8s %8s %8s %8s %10s\n", "region", "main", "beside", "DRAM", "L2", "busy", "order",
	        "overlapped");
	for (int i = 0; i < HD_REGIONS; i++) {
		const hd_region_time *t = &time->region[i];
		printf("  %-8s %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %10.2f\n", hd_region_name(i), 1e3 * t->main_s,
		        1e3 * t->beside_s, 1e3 * t->dram_s, 1e3 * t->l2_s, 1e3 * t->busy_s, 1e3 * t->order_s,
		        1e3 * t->overlapped_s);
	}
}

static hd_status compare_with_goals(const roofline *r)
{
	hd_status st = HD_OK;
	hd_training_step step = {NULL};
	for (size_t g = 0; g < sizeof goals / sizeof *goals; g++) {
		hd_model_config config;
		HD_TRY(hd_bench_model(&config, "large", goals[g].batch, NULL, NULL));
		HD_TRY(hd_training_step_list(&step, &config, r->dtype));
		hd_step_time time = hd_overlap(r->gpu, &step);
		double ms = 1e3 * time.overlapped_s;
		printf("\nLarge, batch %d, %s: goal %.1f ms, predicted %.2f ms overlapped, %.2f ms %s (%.2f one after "
		       "the "
		       "other); longest:\n",
		        goals[g].batch, r->gpu->name, goals[g].ms, ms, fabs(ms - goals[g].ms),
		        ms > goals[g].ms ? "above" : "below", 1e3 * time.serial_s);
		print_longest(r, &step, time.serial_s);
		print_regions(&time);
		hd_training_step_free(&step);
	}
done:
	hd_training_step_free(&step);
	return st;
}

/* ---- all ---- */

static void print_heading(void)
{
	printf("%-14s %-6s %5s %8s %10s %9s %8s %7s %9s %9s %9s %8s  %s\n", "device", "model", "batch", "serial",
	        "overlapped", "samples/s", "products", "dw", "streams", "optimizer", "launches", "count",
	        "measured ms");
}

static hd_status run(roofline *r, const char *device, const char *model, const char *batch)
{
	hd_status st = HD_OK;
	int gpu_count, size_count, wanted[16], wanted_count = 0, seen = 0;
	const hd_gpu *gpus = hd_gpu_list(&gpu_count);
	if (batch)
		wanted_count = hd_bench_numbers(wanted, 16, batch);
	if (batch && !wanted_count)
		HD_TRY(hd_fail(HD_E_USAGE, "--batch %s: give numbers with commas between", batch));
	printf("One training step, %s maps, no average of the weights, as CUDA graphs. Predicted, not run on a GPU. "
	       "ms: "
	       "serial, kernels one\nafter the other; overlapped, on two streams as the program queues them; then the "
	       "serial sum's parts.\n",
	        hd_bench_dtype_name(r->dtype));
	print_heading();
	const hd_backbone *sizes = hd_backbone_list(&size_count);
	for (int g = 0; g < gpu_count; g++) {
		r->gpu = &gpus[g];
		for (int s = 0; s < size_count && hd_bench_listed(device, gpus[g].key); s++)
			for (int b = 0; b < (batch ? wanted_count : 4) &&
			                hd_bench_listed(model ? model : MODELS, sizes[s].name);
			        b++, seen++)
				HD_TRY(predict(r, sizes[s].name, batch ? wanted[b] : batches[b], model != NULL));
	}
	if (!seen)
		HD_TRY(hd_fail(HD_E_USAGE, "--device h100|rtx3090|rtx4090, --model of train --list_backbones"));
	r->gpu = &gpus[0];
	if (!model && hd_bench_listed(device, gpus[0].key))
		HD_TRY(compare_with_goals(r));
	if (!model)
		printf("\n");
	for (int g = 0; g < gpu_count && !model; g++)
		printf("%s: %s.\n", gpus[g].name, gpus[g].source);
done:
	return st;
}

int main(int argc, char **argv)
{
	hd_status st;
	roofline r = {.dtype = HD_BF16, .out = json_array()};
	const char *device = NULL, *model = NULL, *batch = NULL, *measured = NULL, *json = NULL, *dtype = "bf16";
	json_t *file = NULL, *result = NULL;
	json_error_t error;
	const hd_bench_flag flags[] = {{"--device", &device, "h100,rtx3090,rtx4090"},
	        {"--model", &model, "tiny,base,large"}, {"--batch", &batch, "32,..."}, {"--dtype", &dtype, "bf16|f32"},
	        {"--measured", &measured, "FILE"}, {"--json", &json, "FILE"}};
	HD_TRY(hd_bench_arguments(flags, sizeof flags / sizeof *flags, argc, argv));
	if (strcmp(dtype, "bf16") != 0 && strcmp(dtype, "f32") != 0)
		HD_TRY(hd_fail(HD_E_USAGE, "--dtype %s: bf16 or f32", dtype));
	r.dtype = strcmp(dtype, "f32") != 0 ? HD_BF16 : HD_F32;
	if (measured && !(file = json_load_file(measured, 0, &error)))
		HD_TRY(hd_fail(HD_E_DATA, "%s:%d: %s", measured, error.line, error.text));
	if (file && strcmp(hd_json_text(file, "backend"), "cuda") != 0)
		HD_TRY(hd_fail(HD_E_DATA,
		        "%s: not measured on a GPU; make it with bench/ops --accelerator gpu --shapes large --json",
		        measured));
	r.measured = file ? json_object_get(file, "rows") : NULL;
	HD_TRY(run(&r, device, model, batch));
	result = json_pack("{s:s, s:O}", "commit", hd_commit, "rows", r.out);
	if (json)
		HD_TRY(hd_json_write(json, result, 15));
done:
	if (st != HD_OK)
		fprintf(stderr, "error: %s\n", hd_error_text());
	json_decref(result);
	json_decref(file);
	json_decref(r.out);
	return st == HD_OK ? 0 : hd_status_exit_code(st);
}
