/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole training steps on made-up batches: assemble the batch, forward, loss, backward, optimizer, with dropout and
 * without an average of the weights. Per model, batch and precision: seconds per step, samples per second, what the
 * plan takes of memory, the share of the rate of large matrix products measured in the same run (FLOPs: three times the
 * forward pass's), and hours for 100 epochs of --samples samples. And how many recordings a second become features.
 *
 * A sample of the clock is so many steps that they take 0.1 s, with one wait at their end, as training waits for none
 * of them; at least 5 samples, until the median's 95 % interval is within 1 %, at most --limit_s (5 s; then at least
 * 3).
 * --budget_s: models that are not begun by then are left out.
 *
 * Beside it stands what the original program's page says of ConvNeXt-Large: 8, 16 and 32 GB at batch 64, 128 and 256,
 * and 3 hours for 100 epochs of a data set whose size it does not name.
 *
 * --save FILE writes the weights of the first model, its input, its answers and its loss without dropout, for
 * bench/compare_torch.py.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "bench/common/ceilings.h"
#include "bench/common/feature_rate.h"
#include "bench/common/save_step.h"
#include "bench/common/step_inputs.h"
#include "bench/common/timing.h"
#include "host/common/json.h"
#include "host/common/progress.h"
#include "host/common/version.h"

#define BATCHES 16
#define SEED 5u
#define SAMPLE_S 0.1
#define STEPS_MOST 64
#define EPOCHS 100
#define ORIGINAL_HOURS 3.0
#define CPU_RECORDINGS 4
#define DEVICE_RECORDINGS 128

/* The original page's memory of Large. */
static const struct {
	int batch;
	double gb;
} original[] = {{64, 8}, {128, 16}, {256, 32}};

typedef struct bench {
	hd_backend *backend;
	hd_bench_ceilings top;
	hd_bench_rule rule;
	double data_samples, budget_s, began_s;
	const char *save;
	json_t *rows;
	int failed, timed;
} bench;

typedef struct step {
	hd_backend *backend;
	hd_model *model;
	hd_step_inputs inputs;
} step;

static hd_status run_step(void *context, int number)
{
	hd_status st;
	step *s = context;
	(void)number;
	const hd_adamw_hyper hyper = {.lr = 1e-5f,
	        .beta1 = 0.9f,
	        .beta2 = 0.999f,
	        .eps = 1e-8f,
	        .weight_decay = 0.05f,
	        .max_norm = 1,
	        .correction1 = 0.1f,
	        .correction2 = 0.001f};
	HD_TRY(hd_step_inputs_assemble(&s->inputs));
	HD_TRY(hd_model_train_batch(s->model, 1.0f / (float)hd_model_get_config(s->model)->batch, false));
	HD_TRY(hd_model_step(s->model, &hyper, NULL));
done:
	return st;
}

/* A step whose loss or gradient is not finite has not been timed, whatever the clock says. */
static hd_status check_result(const step *s)
{
	hd_status st;
	hd_backend *b = s->backend;
	float *figures = NULL;
	HD_TRY(b->alloc_host(b, (void **)&figures, 5 * sizeof *figures));
	HD_TRY(hd_model_send_sums(s->model, figures));
	HD_TRY(hd_model_send_norm(s->model, figures + 4));
	HD_TRY(b->sync(b, NULL));
	if (!isfinite(figures[0]) || !isfinite(figures[4]))
		st = hd_fail(HD_E_NONFINITE, "the last step's loss is %g, the squared norm of its gradient %g",
		        (double)figures[0], (double)figures[4]);
done:
	b->free_host(b, figures);
	return st;
}

static hd_status time_steps(hd_bench_timing *out, const bench *b, step *s)
{
	hd_status st;
	hd_bench_rule once = {.half_width = 1, .least = 1, .most = 1, .limit_s = 0};
	HD_TRY(hd_bench_time(out, b->backend, NULL, &once, 1, run_step, s));
	HD_TRY(check_result(s));
	int steps = out->median * STEPS_MOST < SAMPLE_S ? STEPS_MOST : (int)(SAMPLE_S / out->median);
	HD_TRY(hd_bench_time(out, b->backend, NULL, &b->rule, steps > 1 ? steps : 1, run_step, s));
	HD_TRY(check_result(s));
done:
	return st;
}

/* ---- one model ---- */

typedef struct subject {
	const char *model, *precision; /* precision NULL: the program's default */
	int batch;
	hd_model_config config;
	size_t parameter_bytes, activation_bytes;
	int64_t parameters;
} subject;

static double original_gb(const subject *x)
{
	for (size_t i = 0; i < sizeof original / sizeof *original; i++)
		if (!strcmp(x->model, "large") && original[i].batch == x->batch)
			return original[i].gb;
	return NAN;
}

/* What it computes in; in brackets where that is not what was asked for by name. */
static void precision_text(char *out, size_t bytes, const subject *x)
{
	const char *own = hd_precision_name(x->config.precision);
	if (!x->precision)
		snprintf(out, bytes, "(%s)", own);
	else
		snprintf(out, bytes, strcmp(x->precision, own) != 0 ? "%s (%s)" : "%s", x->precision, own);
}

static void report(bench *b, const subject *x, const hd_bench_timing *t)
{
	double flops = 3 * hd_model_forward_flops(&x->config) * x->batch, rate = x->batch / t->median;
	double peak = hd_bench_product_gflops(&b->top, hd_bench_precision_dtype(x->config.precision));
	double share = 100 * 1e-9 * flops / t->median / peak, hours = EPOCHS * b->data_samples / rate / 3600;
	double gb = 1e-9 * (double)(x->parameter_bytes + x->activation_bytes),
	       in_time = ORIGINAL_HOURS * 3600 * rate / EPOCHS;
	char beside[16] = "-", precision[48];
	precision_text(precision, sizeof precision, x);
	if (!isnan(original_gb(x)))
		snprintf(beside, sizeof beside, "%.0f", original_gb(x));
	printf("%-6s %5d %-17s %10.3f %5.1f %10.1f %8.2f %6s %7.1f %9.2f %12.0f\n", x->model, x->batch, precision,
	        1e3 * t->median, 100 * t->half_width, rate, gb, beside, share, hours, in_time);
	fflush(stdout);
	json_array_append_new(b->rows,
	        json_pack("{s:s, s:s, s:i, s:s, s:s, s:I, s:f, s:f, s:i, s:b, s:f, s:I, s:I, s:f, s:f, s:f, s:o}",
	                "what", "training step", "model", x->model, "batch", x->batch, "precision",
	                x->precision ? x->precision : "default", "computed_in", hd_precision_name(x->config.precision),
	                "parameters", (json_int_t)x->parameters, "seconds", t->median, "interval_percent",
	                100 * t->half_width, "samples", t->samples, "settled", t->settled, "samples_per_s", rate,
	                "parameter_bytes", (json_int_t)x->parameter_bytes, "activation_bytes",
	                (json_int_t)x->activation_bytes, "percent_of_peak", share, "hours_100_epochs", hours,
	                "data_samples", b->data_samples, "original_gb", hd_json_number(original_gb(x))));
	b->timed++;
}

static hd_status bench_model(bench *b, subject *x)
{
	hd_status st;
	step s = {.backend = b->backend};
	hd_bench_timing t;
	size_t available, total;
	HD_TRY(hd_bench_model(&x->config, x->model, x->batch, x->precision, b->backend));
	HD_TRY(hd_model_footprint(b->backend, &x->config, &x->parameter_bytes, &x->activation_bytes, &x->parameters));
	HD_TRY(b->backend->memory(b->backend, &available, &total));
	if (x->parameter_bytes + x->activation_bytes > available) {
		printf("%-6s %5d %-10s takes %.1f GB, of which %.1f are free\n", x->model, x->batch,
		        x->precision ? x->precision : "default",
		        1e-9 * (double)(x->parameter_bytes + x->activation_bytes), 1e-9 * (double)available);
		return HD_OK;
	}
	HD_TRY(hd_model_create(&s.model, b->backend, &x->config));
	HD_TRY(hd_model_initialize(s.model, SEED));
	HD_TRY(hd_step_inputs_open(&s.inputs, b->backend, s.model));
	if (b->save)
		HD_TRY(hd_save_step(b->save, b->backend, &s.inputs));
	b->save = NULL;
	HD_TRY(time_steps(&t, b, &s));
	report(b, x, &t);
done:
	if (st != HD_OK) {
		printf("%-6s %5d %-10s FAILED: %s\n", x->model, x->batch, x->precision ? x->precision : "default",
		        hd_error_text());
		b->failed++;
	}
	hd_step_inputs_close(&s.inputs);
	hd_model_free(s.model);
	return st;
}

/* ---- all of them ---- */

static hd_status bench_features(bench *b)
{
	hd_status st;
	hd_feature_rate r;
	HD_TRY(hd_feature_rate_measure(
	        &r, b->backend, &b->rule, b->backend->own_memory ? DEVICE_RECORDINGS : CPU_RECORDINGS));
	double rate = r.recordings / r.time.median;
	printf("features of recordings in device memory: %.1f a second (+-%.1f %%; %d samples, n_fft %d, hop %d, %d "
	       "mels, %s)\n",
	        rate, 100 * r.time.half_width, r.samples, r.n_fft, r.hop, r.mels,
	        r.fused ? "magnitude and stft_mel_db" : "magnitude, stft_power and mel_db");
	json_array_append_new(
	        b->rows, json_pack("{s:s, s:i, s:i, s:i, s:i, s:b, s:f, s:f}", "what", "features", "recording_samples",
	                         r.samples, "n_fft", r.n_fft, "hop", r.hop, "mels", r.mels, "fused", r.fused,
	                         "recordings_per_s", rate, "interval_percent", 100 * r.time.half_width));
done:
	if (st != HD_OK) {
		printf("features FAILED: %s\n", hd_error_text());
		b->failed++;
	}
	return st;
}

/* precisions: a list of values of --precision, "default" among them for what the program does unasked. */
static void bench_all(bench *b, const char *models, const int *batches, int batch_count, const char *precisions)
{
	int count;
	const hd_backbone *list = hd_backbone_list(&count);
	printf("%-6s %5s %-17s %10s %5s %10s %8s %6s %7s %9s %12s\n", "model", "batch", "precision", "ms", "+-%",
	        "samples/s", "plan GB", "orig.", "% peak", "h/100 ep.", "n/3 h 100 ep");
	for (const char *p = precisions; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ',')) {
		char precision[32];
		snprintf(precision, sizeof precision, "%.*s", (int)strcspn(p, ","), p);
		for (int m = 0; m < count; m++)
			for (int k = 0; k < batch_count && hd_bench_listed(models, list[m].name); k++) {
				subject x = {.model = list[m].name,
				        .precision = strcmp(precision, "default") != 0 ? precision : NULL,
				        .batch = batches[k]};
				if (b->budget_s > 0 && hd_now_s() - b->began_s > b->budget_s)
					hd_message("%s, batch %d: left out, --budget_s is over", x.model, x.batch);
				else
					bench_model(b, &x);
			}
	}
}

static hd_status write_json(const bench *b, const char *path)
{
	json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:O}", "version", hd_version, "commit", hd_commit,
	        "backend", b->backend->name, "device", b->backend->tier, "threads", b->backend->threads, "ceilings",
	        hd_bench_ceilings_json(&b->top), "rows", b->rows);
	hd_status st = all ? hd_json_write(path, all, 6) : hd_fail(HD_E_MEMORY, "no memory for the results");
	json_decref(all);
	return st;
}

typedef struct words {
	const char *accelerator, *threads, *models, *batches, *precisions, *samples, *limit, *budget, *features, *json,
	        *save;
} words;

static hd_status run(bench *b, words *w)
{
	hd_status st;
	int batches[BATCHES];
	double threads = 0;
	HD_TRY(hd_bench_number(&b->rule.limit_s, "--limit_s", w->limit, 0));
	HD_TRY(hd_bench_number(&b->budget_s, "--budget_s", w->budget, 0));
	HD_TRY(hd_bench_number(&b->data_samples, "--samples", w->samples, 1));
	HD_TRY(hd_bench_number(&threads, "--threads", w->threads, 0));
	HD_TRY(hd_bench_backend_open(&b->backend, w->accelerator, (int)threads));
	/* a CPU takes seconds for what follows: it does it where it is asked to */
	bool device = b->backend->own_memory;
	w->models = w->models ? w->models : device ? "tiny,base,large" : "tiny";
	w->batches = w->batches ? w->batches : device ? "32,64,128,256" : "32";
	int batch_count = hd_bench_numbers(batches, BATCHES, w->batches);
	if (!batch_count)
		HD_TRY(hd_fail(HD_E_USAGE, "--batches %s: give numbers with commas between", w->batches));
	b->rows = json_array();
	b->save = w->save;
	HD_TRY(hd_bench_ceilings_measure(&b->top, b->backend, true));
	printf("commit %s, %s/%s, %d threads; products at most f32 %.0f, bf16 %.0f, f16 %.0f GFLOP/s\n", hd_commit,
	        b->backend->name, b->backend->tier, b->backend->threads, b->top.f32_gflops, b->top.bf16_gflops,
	        b->top.f16_gflops);
	printf("h/100 ep.: of %.0f samples; n/3 h: samples of which 100 epochs take 3 h\n", b->data_samples);
	bench_all(b, w->models, batches, batch_count, w->precisions);
	if (strcmp(w->features, "no") != 0)
		bench_features(b);
	if (w->json)
		HD_TRY(write_json(b, w->json));
	st = b->failed || !b->timed ? HD_E_FAILED : HD_OK;
	if (st != HD_OK)
		hd_fail(st, "%d timed, %d failed", b->timed, b->failed);
done:
	return st;
}

int main(int argc, char **argv)
{
	bench b = {.rule = HD_BENCH_RULE, .data_samples = 10000};
	words w = {.accelerator = "auto", .precisions = "default", .features = "yes"};
	const hd_bench_flag flags[] = {{"--accelerator", &w.accelerator, "cpu|gpu|auto"},
	        {"--models", &w.models, "tiny,base,large"}, {"--batches", &w.batches, "32,..."},
	        {"--precisions", &w.precisions, "default,auto,32,tf32,bf16-mixed,16-mixed"},
	        {"--samples", &w.samples, "COUNT"}, {"--features", &w.features, "yes|no"},
	        {"--limit_s", &w.limit, "SECONDS"}, {"--budget_s", &w.budget, "SECONDS"},
	        {"--threads", &w.threads, "COUNT"}, {"--json", &w.json, "FILE"}, {"--save", &w.save, "FILE"}};
	b.rule.least = 5;
	b.rule.limit_s = 5;
	b.began_s = hd_now_s();
	hd_status st = hd_bench_arguments(flags, sizeof flags / sizeof *flags, argc, argv);
	if (st == HD_OK)
		st = run(&b, &w);
	if (st != HD_OK)
		fprintf(stderr, "error: %s\n", hd_error_text());
	json_decref(b.rows);
	hd_backend_close(b.backend);
	return hd_status_exit_code(st);
}
