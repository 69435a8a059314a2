/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models in fewer bits: weights against their definition, every operation of the written models against double
 * (tests/quantize_models.py, in ONNX Runtime), and the verdict on a data set whose errors are known.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "host/export/onnx_graph.h"
#include "host/export/quantize.h"
#include "host/export/quantize_calibrate.h"
#include "host/export/quantize_weights.h"
#include "kernels/half.h"
#include "tests/folder.h"
#include "tests/onnxruntime.h"
#include "tests/random_model.h"

/* ---- weights ---- */

/* Bytes of a tensor of the graph, as they go to the file. */
static void *fill(const hd_onnx *g, hd_onnx_value name, hd_status want)
{
	for (size_t i = 0; i < g->graph.n_initializer; i++) {
		if (strcmp(g->graph.initializer[i]->name, name) != 0)
			continue;
		hd_onnx_stored *s = g->tensors[i];
		char *guarded = malloc(s->bytes + 16);
		memset(guarded, 0x5a, s->bytes + 16);
		cr_assert_eq(s->tensor.fill(guarded, s->tensor.source), want, "%s", hd_error_text());
		for (int k = 0; k < 16; k++)
			cr_assert_eq(guarded[s->bytes + (size_t)k], 0x5a, "%s: written behind its end", name);
		return guarded;
	}
	cr_assert(false, "no tensor '%s'", name);
	return NULL;
}

static hd_onnx *new_graph(void)
{
	hd_onnx *g;
	cr_assert_eq(hd_onnx_create(&g, 17, "test"), HD_OK);
	return g;
}

/* Rows of every kind: random ones of very different sizes, of zeros, of subnormals, with one large value. */
static float *make_rows(int64_t K, int64_t n)
{
	float *w = calloc((size_t)(K * n), sizeof *w);
	for (int64_t k = 0; k < K; k++) {
		double size = k % 7 == 1 ? 0 : k % 7 == 2 ? 1e-41 : pow(10, (double)(k % 5) * 3 - 6);
		for (int64_t i = 0; i < n; i++)
			w[k * n + i] = (float)(uniform(-1, 1) * size);
		if (k % 7 == 3)
			w[k * n + n / 2] = (float)(-1000 * size);
	}
	return w;
}

static void expect_row(const float *w, int64_t n, const int8_t *q, int64_t stride, float scale, int steps)
{
	float largest = 0;
	int most = 0;
	cr_assert(scale >= FLT_MIN, "scale %g", (double)scale);
	for (int64_t i = 0; i < n; i++) {
		int got = q[i * stride];
		double error = fabs((double)w[i] - (double)scale * got);
		/* half a step, and the quotient's rounding */
		double bound = (double)scale * (0.5 + 0x1p-24 * steps);
		cr_assert(error <= bound, "%g became %d steps of %g", (double)w[i], got, (double)scale);
		most = abs(got) > most ? abs(got) : most;
		largest = fmaxf(largest, fabsf(w[i]));
	}
	/* as fine as its steps allow */
	cr_assert_eq(most, largest >= FLT_MIN * (float)steps ? steps : (int)rintf(largest / FLT_MIN), "%d steps", most);
}

Test(quantize, weights_are_within_half_a_step)
{
	static const int64_t rows[] = {1, 31, 32, 33, 97}, columns[] = {1, 31, 33, 49, 130};
	static const int steps[] = {HD_INT8_PRODUCT_STEPS, HD_INT8_STORED_STEPS};
	for (int shape = 0; shape < 25; shape++) {
		int64_t K = rows[shape / 5], n = columns[shape % 5];
		float *w = make_rows(K, n);
		for (int kind = 0; kind < 4; kind++) {
			bool transposed = kind / 2;
			hd_onnx *g = new_graph();
			hd_onnx_tensor of = {.type = HD_ONNX_F32, .ndim = 2, .shape = {K, n}, .data = w};
			hd_int8_weight made = hd_onnx_int8_weight(g, "w", &of, transposed, steps[kind % 2]);
			int8_t *q = fill(g, made.values, HD_OK);
			float *scales = fill(g, made.scales, HD_OK);
			for (int64_t k = 0; k < K; k++)
				expect_row(w + k * n, n, transposed ? q + k : q + k * n, transposed ? K : 1, scales[k],
				        steps[kind % 2]);
			free(scales);
			free(q);
			hd_onnx_free(g);
		}
		free(w);
	}
}

/* One scale for all would leave nothing of the others. */
Test(quantize, a_channel_s_large_weight_leaves_the_others_alone)
{
	enum { K = 8, N = 64, STEPS = HD_INT8_PRODUCT_STEPS };
	float w[K * N];
	double per_channel = 0, per_tensor = 0, sum = 0;
	for (int i = 0; i < K * N; i++)
		w[i] = (float)uniform(-1, 1);
	w[3 * N + 5] = 500;
	float all = hd_int8_scale(w, K * N, STEPS);
	for (int k = 0; k < K; k++) {
		float own = hd_int8_scale(w + k * N, N, STEPS);
		for (int i = 0; i < N && k != 3; i++) {
			float v = w[k * N + i];
			per_channel += pow((double)(v - own * rintf(v / own)), 2);
			per_tensor += pow((double)(v - all * rintf(v / all)), 2);
			sum += pow((double)v, 2);
		}
	}
	/* uniform within a step of at most 1/64: variance 1/(12 64^2) of values of variance 1/3 */
	cr_expect(per_channel <= 1.2 * sum / (4 * STEPS * STEPS), "per channel %g of %g", per_channel, sum);
	cr_expect(per_tensor >= 0.99 * sum, "per tensor %g of %g", per_tensor, sum);
}

Test(quantize, half_precision_weights_are_rounded_once)
{
	enum { K = 33, N = 65 };
	float *w = make_rows(K, N);
	for (int i = 0; i < K * N; i++)
		w[i] = fminf(fmaxf(w[i], -60000), 60000);
	for (int transposed = 0; transposed < 2; transposed++) {
		hd_onnx *g = new_graph();
		hd_onnx_tensor of = {.type = HD_ONNX_F32, .ndim = 2, .shape = {K, N}, .data = w};
		uint16_t *half = fill(g, hd_onnx_f16_weight(g, "w", &of, transposed), HD_OK);
		for (int k = 0; k < K; k++) {
			for (int i = 0; i < N; i++) {
				float v = w[k * N + i],
				      got = hd_half_to_float(half[transposed ? i * K + k : k * N + i]);
				double error = fabs((double)got - (double)v);
				cr_assert(error <= fmax(0x1p-11 * fabs((double)v), 0x1p-25), "%g became %g", (double)v,
				        (double)got);
			}
		}
		free(half);
		hd_onnx_free(g);
	}
	free(w);
}

Test(quantize, weights_that_do_not_fit_are_refused_by_name)
{
	hd_onnx *g = new_graph();
	float large[] = {1, -70000, 2}, nan[] = {1, NAN, 2}, infinite[] = {1, 3, INFINITY};
	hd_onnx_tensor of = {.type = HD_ONNX_F32, .ndim = 2, .shape = {1, 3}, .data = large};
	free(fill(g, hd_onnx_f16_weight(g, "fc1.weight", &of, false), HD_E_DATA));
	cr_expect_not_null(strstr(hd_error_text(), "fc1.weight"), "%s", hd_error_text());
	cr_expect_not_null(strstr(hd_error_text(), "-70000"), "%s", hd_error_text());
	of.data = nan;
	free(fill(g, hd_onnx_f16_weight(g, "nan", &of, false), HD_E_DATA));
	free(fill(g, hd_onnx_int8_weight(g, "fc2.weight", &of, true, 64).values, HD_E_NONFINITE));
	cr_expect_not_null(strstr(hd_error_text(), "fc2.weight"), "%s", hd_error_text());
	of.data = infinite;
	free(fill(g, hd_onnx_int8_weight(g, "infinite", &of, false, 64).scales, HD_E_NONFINITE));
	hd_onnx_free(g);
}

Test(quantize, ranges_have_zero_and_both_ends)
{
	static const float ends[][2] = {{-1, 3}, {0.7f, 0.7f}, {2, 5}, {-5, -2}, {-1e-3f, 1e4f}, {-1e4f, 1e-3f},
	        {-1e30f, 1e30f}, {0, 0}, {0, 1e-42f}};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		hd_uint8_range r = hd_uint8_range_of(ends[i][0], ends[i][1]);
		cr_assert(r.scale >= FLT_MIN, "%zu", i);
		for (int k = 0; k < 2; k++) {
			double x = (double)ends[i][k];
			double q = fmin(fmax(rint(x / (double)r.scale) + r.zero_point, 0), 255);
			double error = fabs((double)r.scale * (q - r.zero_point) - x);
			/* half a step of the value's, half of the zero point's rounding where both ends are taken */
			cr_expect(error <= 1.0001 * (double)r.scale, "%zu: %g became %g steps", i, x, q - r.zero_point);
		}
	}
	/* a constant is exact but for the scale's rounding */
	hd_uint8_range r = hd_uint8_range_of(0.7f, 0.7f);
	cr_expect_eq(r.zero_point, 0);
	cr_expect_float_eq((double)r.scale * 255, 0.7, 1e-7);
}

/* ---- models ---- */

/*
 * What is hard to quantise: constant inputs of products (zero, and not), a channel of zeros, one far above the others,
 * and sums that saturate where two products are added in 16 bits.
 */
static void make_hard(const hd_parameter *p, float *values)
{
	const char *n = p->name;
	int64_t row = p->size / p->shape[0];
	for (int64_t i = 0; i < p->size; i++) {
		if (strstr(n, "stages.0.blocks.0.norm.") || !strcmp(n, "stages.0.blocks.1.norm.weight"))
			values[i] = 0;
		else if (!strcmp(n, "stages.0.blocks.1.norm.bias"))
			values[i] = 0.7f;
		else if (!strcmp(n, "stages.1.blocks.0.mlp.fc1.bias"))
			values[i] = 12;
		else if (!strcmp(n, "stages.1.blocks.0.mlp.fc2.weight") && i / row < 2)
			values[i] = i / row ? -0.1f : 0.1f;
		else if (!strcmp(n, "stages.1.blocks.1.mlp.fc1.weight") && i / row == 1)
			values[i] *= 1000;
		else if (!strcmp(n, "stages.2.blocks.0.mlp.fc1.weight") && i / row == 3)
			values[i] = 0;
	}
}

static void make_unfit_for_half(const hd_parameter *p, float *values)
{
	if (!strcmp(p->name, "stages.0.blocks.0.mlp.fc1.weight"))
		values[0] = 1e6f;
}

/* Recordings that were never recorded: levels of a data set in memory, the first of them for training. */
enum { SAMPLES = 28, TRAINING = 16 };

static void make_dataset(hd_dataset *d, const hd_checkpoint *c)
{
	static char path[] = "memory";
	static hd_sample samples[SAMPLES];
	static uint16_t db[SAMPLES * CHANNELS * MELS * FRAMES];
	static bool valid[SAMPLES];
	for (size_t i = 0; i < sizeof db / sizeof *db; i++)
		db[i] = hd_float_to_half((float)uniform(-90, -40));
	for (int i = 0; i < SAMPLES; i++) {
		samples[i] = (hd_sample){.id = i,
		        .label_sigma_m = NAN,
		        .latitude_deg = 52,
		        .longitude_deg = 13,
		        .split = i < TRAINING ? HD_TRAIN : HD_VAL};
		valid[i] = true;
	}
	*d = (hd_dataset){.catalog.path = path,
	        .samples = {.samples = samples, .count = SAMPLES},
	        .features = hd_feature_config_from(&c->settings),
	        .cache = {SAMPLES, CHANNELS, MELS, FRAMES, db, NULL, valid},
	        .card = c->card};
	d->features.margin = 0;
}

/* Puts every true position `north_deg` north of the float32 model's answer. */
static void place_samples(hd_dataset *d, hd_runtime *runtime, const char *path, double north_deg)
{
	hd_onnx_model model;
	hd_answers answers;
	hd_metrics metrics;
	static hd_prediction predictions[SAMPLES];
	int32_t all[SAMPLES];
	for (int i = 0; i < SAMPLES; i++)
		all[i] = i;
	cr_assert_eq(hd_onnx_model_open(&model, runtime, path, HD_RUNTIME_ALL, 1), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_onnx_answers_open(&answers, &model, d, 4), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_evaluate_answers(&metrics, predictions, &answers, all, SAMPLES, NULL, false), HD_OK, "%s",
	        hd_error_text());
	for (int i = 0; i < SAMPLES; i++) {
		d->samples.samples[i].latitude_deg = predictions[i].predicted_latitude_deg + north_deg;
		d->samples.samples[i].longitude_deg = predictions[i].predicted_longitude_deg;
	}
	hd_onnx_answers_close(&answers);
	hd_onnx_model_close(&model);
}

/* A checkpoint, its float32 model and a data set. */
typedef struct fixture {
	char path[512];
	hd_checkpoint checkpoint;
	hd_dataset dataset;
	hd_onnx_form form;
	hd_quantize_task task;
} fixture;

static void open_fixture(fixture *f, hd_runtime *runtime, const char *name, weight_edit edit)
{
	char model[64];
	*f = (fixture){.form = {.opset = 17, .input_name = "features"}};
	snprintf(model, sizeof model, "%s.safetensors", name);
	save_random_model(file_in(model), "atto", edit);
	cr_assert_eq(hd_checkpoint_open(&f->checkpoint, file_in(model)), HD_OK, "%s", hd_error_text());
	snprintf(model, sizeof model, "%s.onnx", name);
	snprintf(f->path, sizeof f->path, "%s", file_in(model));
	make_dataset(&f->dataset, &f->checkpoint);
	f->task = (hd_quantize_task){.choice = HD_QUANTIZE_ALL,
	        .checkpoint = &f->checkpoint,
	        .form = &f->form,
	        .path = f->path,
	        .sha256 = "0",
	        .runtime = runtime,
	        .dataset = &f->dataset,
	        .calibration_samples = 1000,
	        .batch = 5,
	        .threads = 1};
	cr_assert_eq(hd_onnx_model_write(f->path, &f->checkpoint, &f->form, NULL, "0"), HD_OK, "%s", hd_error_text());
}

static void close_fixture(fixture *f, hd_runtime *runtime)
{
	hd_runtime_close(runtime);
	hd_checkpoint_close(&f->checkpoint);
}

static void quantize(hd_quantized *out, fixture *f, hd_quantize_choice choice)
{
	f->task.choice = choice;
	cr_assert_eq(hd_quantize(out, &f->task), HD_OK, "%s", hd_error_text());
}

/* Runs tests/quantize_models.py (operations or answers) on the fixture's features and its models; all of them pass. */
static void check_models(const fixture *f, const char *what)
{
	static const char *const models[] = {"fp16", "int8-dynamic", "int8-static"};
	char command[4096], words[16384];
	float *features = calloc((size_t)(SAMPLES * CHANNELS * MELS * FRAMES), sizeof *features);
	int64_t row = CHANNELS * MELS * FRAMES;
	for (int i = 0; i < SAMPLES; i++)
		hd_onnx_model_window(features + i * row, &f->dataset, i, 0);
	const hd_tensor tensor = {.name = (char *)"features",
	        .dtype = HD_F32,
	        .ndim = 4,
	        .shape = {SAMPLES, CHANNELS, MELS, FRAMES},
	        .data = features,
	        .bytes = (size_t)(SAMPLES * row) * sizeof *features};
	cr_assert_eq(hd_safetensors_write(file_in("features.safetensors"), &tensor, 1, NULL, 0), HD_OK);
	free(features);
	int used = snprintf(command, sizeof command,
	        "PYTHONDONTWRITEBYTECODE=1 '%s' tests/quantize_models.py %s '%s/features.safetensors'", interpreter(),
	        what, folder);
	for (int i = 0; i < 3; i++)
		used += snprintf(
		        command + used, sizeof command - (size_t)used, " '%s/model.%s.onnx'", folder, models[i]);
	snprintf(command + used, sizeof command - (size_t)used, " 2>&1");
	FILE *pipe = popen(command, "r");
	cr_assert_not_null(pipe);
	words[fread(words, 1, sizeof words - 1, pipe)] = 0;
	int status = pclose(pipe);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0 && strstr(words, "3 passed, 0 failed"), "%s", words);
}

static size_t file_bytes(const char *path)
{
	struct stat about;
	cr_assert_eq(stat(path, &about), 0, "%s", path);
	return (size_t)about.st_size;
}

/* Mean great-circle error of a model over the validation samples, one at a time. */
static double mean_error_m(const fixture *f, hd_runtime *runtime, const char *path)
{
	hd_onnx_model model;
	float features[CHANNELS * MELS * FRAMES], at[2], sigma[2];
	double sum = 0;
	cr_assert_eq(hd_onnx_model_open(&model, runtime, path, HD_RUNTIME_ALL, 1), HD_OK, "%s", hd_error_text());
	for (int i = TRAINING; i < SAMPLES; i++) {
		const hd_sample *s = &f->dataset.samples.samples[i];
		hd_onnx_model_window(features, &f->dataset, i, 0);
		cr_assert_eq(hd_onnx_model_run_raw(
		                     &model, &(hd_run_tensor){4, {1, CHANNELS, MELS, FRAMES}, features}, at, sigma),
		        HD_OK, "%s", hd_error_text());
		sum += hd_geo_distance_m(s->latitude_deg, s->longitude_deg, (double)at[0], (double)at[1]);
	}
	hd_onnx_model_close(&model);
	return sum / (SAMPLES - TRAINING);
}

/* All precisions, calibrated on the training samples, without measuring them. */
static void write_models(fixture *f, hd_runtime *runtime)
{
	static hd_onnx_range ranges[128];
	int32_t samples[TRAINING];
	for (int i = 0; i < TRAINING; i++)
		samples[i] = i;
	cr_assert_eq(hd_calibrate(ranges, &f->checkpoint, runtime, file_in("calibration"), f->form.opset, &f->dataset,
	                     samples, TRAINING, 1),
	        HD_OK, "%s", hd_error_text());
	for (hd_onnx_precision p = HD_ONNX_FP32; p < HD_ONNX_PRECISIONS; p++) {
		char name[64];
		hd_onnx_form form = f->form;
		form.precision = p;
		form.ranges = ranges;
		if (p == HD_ONNX_FP32)
			snprintf(name, sizeof name, "model.onnx");
		else
			snprintf(name, sizeof name, "model.%s.onnx", hd_onnx_precision_name(p));
		cr_assert_eq(hd_onnx_model_write(file_in(name), &f->checkpoint, &form, NULL, "0"), HD_OK, "%s",
		        hd_error_text());
	}
}

Test(quantize, every_operation_does_what_it_says, .init = start, .fini = stop)
{
	fixture f;
	hd_runtime *runtime;
	if (!open_runtime(&runtime, false))
		return;
	if (!interpreter())
		cr_skip_test("no build/python and no HEIMDALL_PYTHON");
	static const int opsets[] = {14, 17, 20};
	open_fixture(&f, runtime, "model", make_hard);
	for (size_t i = 0; i < sizeof opsets / sizeof *opsets; i++) {
		f.form.opset = opsets[i];
		write_models(&f, runtime);
		check_models(&f, "operations");
	}
	close_fixture(&f, runtime);
}

Test(quantize, answers_are_float32_s_but_for_roundings, .init = start, .fini = stop)
{
	fixture f;
	hd_runtime *runtime;
	if (!open_runtime(&runtime, false))
		return;
	if (!interpreter())
		cr_skip_test("no build/python and no HEIMDALL_PYTHON");
	open_fixture(&f, runtime, "model", NULL);
	write_models(&f, runtime);
	check_models(&f, "answers");
	close_fixture(&f, runtime);
}

/* A quantised model says its own errors. */
static void expect_metadata(hd_runtime *runtime, const hd_quantized_model *m)
{
	hd_session *session;
	cr_assert_eq(hd_session_open(&session, runtime, m->path, HD_RUNTIME_DISABLED, 1), HD_OK, "%s", hd_error_text());
	const char *text = hd_session_metadata(session, HD_ONNX_KEY_METRICS);
	cr_expect_str_eq(hd_session_metadata(session, HD_ONNX_KEY_PRECISION), hd_onnx_precision_name(m->precision));
	if (m->precision == HD_ONNX_FP32) {
		cr_expect_null(text);
	} else {
		cr_assert_not_null(text);
		json_t *metrics = json_loads(text, 0, NULL);
		double said = json_number_value(json_object_get(metrics, "val/mae_m"));
		cr_expect_float_eq(said, m->metrics.mae_m, 1e-9 * m->metrics.mae_m, "%s", text);
		json_decref(metrics);
	}
	hd_session_close(session);
}

Test(quantize, models_are_smaller_and_their_errors_are_measured, .init = start, .fini = stop)
{
	static const double sizes[] = {1, 0.51, 0.275, 0.275};
	fixture f;
	hd_runtime *runtime;
	hd_quantized q;
	if (!open_runtime(&runtime, false))
		return;
	open_fixture(&f, runtime, "model", NULL);
	place_samples(&f.dataset, runtime, f.path, 0.1);
	/* ranges of int8-dynamic are those of a batch */
	f.task.batch = 1;
	quantize(&q, &f, HD_QUANTIZE_ALL);
	cr_assert_eq(q.count, HD_ONNX_PRECISIONS);
	cr_expect_eq(q.evaluated, SAMPLES - TRAINING);
	cr_expect_eq(q.evaluated_on, HD_VAL);
	cr_expect_eq(q.calibrated, TRAINING);
	cr_expect_eq(q.calibrated_on, HD_TRAIN);
	for (int i = 0; i < q.count; i++) {
		const hd_quantized_model *m = &q.models[i];
		cr_expect_eq(m->precision, (hd_onnx_precision)i);
		cr_expect_eq(m->bytes, file_bytes(m->path));
		cr_expect((double)m->bytes <= sizes[i] * (double)q.models[0].bytes, "%s: %zu bytes", m->path, m->bytes);
		cr_expect(m->p50_ms > 0 && m->p95_ms >= m->p50_ms, "%g, %g ms", m->p50_ms, m->p95_ms);
		double alone = mean_error_m(&f, runtime, m->path);
		expect_metadata(runtime, m);
		cr_expect_float_eq(
		        m->metrics.mae_m, alone, 1e-6 * alone, "%s: %g m, want %g m", m->path, m->metrics.mae_m, alone);
	}
	cr_expect_eq(access(file_in("model.onnx.calibration"), F_OK), -1);
	hd_quantized_free(&q);
	close_fixture(&f, runtime);
}

Test(quantize, a_model_that_loses_is_not_taken, .init = start, .fini = stop)
{
	static const hd_quantize_choice choices[] = {HD_QUANTIZE_DYNAMIC, HD_QUANTIZE_STATIC, HD_QUANTIZE_FP16};
	fixture f;
	hd_runtime *runtime;
	hd_quantized q;
	if (!open_runtime(&runtime, false))
		return;
	open_fixture(&f, runtime, "model", NULL);
	for (int far = 0; far < 2; far++) {
		/* float32 errs by 1 m, which any change of an answer is more than; or by 2000 km, which none matters to
		 */
		place_samples(&f.dataset, runtime, f.path, far ? 18 : 1e-5);
		for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
			quantize(&q, &f, choices[i]);
			cr_assert_eq(q.count, 2);
			cr_expect_eq(q.models[1].passed, far, "%s: loss %g", q.models[1].path, q.models[1].worse);
			cr_expect_eq(q.use, far);
			cr_expect_eq(q.models[0].worse, 0);
			double by = fmax(q.models[1].metrics.mae_m / q.models[0].metrics.mae_m,
			        q.models[1].metrics.median_m / q.models[0].metrics.median_m);
			cr_expect_float_eq(q.models[1].worse, by - 1, 1e-12);
			hd_quantized_free(&q);
		}
	}
	quantize(&q, &f, HD_QUANTIZE_ALL);
	cr_expect_eq(q.use, 0, "of several none is chosen");
	json_t *json = hd_quantized_json(&q);
	cr_assert_not_null(json);
	cr_expect_eq(json_array_size(json_object_get(json, "models")), 4);
	cr_expect_str_eq(json_string_value(json_object_get(json, "use")), f.path);
	json_decref(json);
	hd_quantized_free(&q);
	close_fixture(&f, runtime);
}

Test(quantize, a_model_that_cannot_be_written_fails_alone, .init = start, .fini = stop)
{
	fixture f;
	hd_runtime *runtime;
	hd_quantized q;
	if (!open_runtime(&runtime, false))
		return;
	open_fixture(&f, runtime, "model", make_unfit_for_half);
	/* of an earlier run */
	fclose(fopen(file_in("model.fp16.onnx"), "w"));
	quantize(&q, &f, HD_QUANTIZE_ALL);
	cr_assert_eq(q.count, HD_ONNX_PRECISIONS);
	cr_expect_not(q.models[HD_ONNX_FP16].passed);
	cr_expect_not_null(strstr(q.models[HD_ONNX_FP16].why_not, "stages.0.blocks.0.mlp.fc1.weight"), "%s",
	        q.models[HD_ONNX_FP16].why_not);
	cr_expect_eq(access(file_in("model.fp16.onnx"), F_OK), -1);
	cr_expect_not(q.models[HD_ONNX_INT8_STATIC].why_not[0]);
	hd_quantized_free(&q);
	quantize(&q, &f, HD_QUANTIZE_FP16);
	cr_expect_eq(q.use, 0);
	hd_quantized_free(&q);
	close_fixture(&f, runtime);
}

/* Those that take recordings are measured behind their front end; nothing is left of what it took. */
Test(quantize, models_of_recordings_are_measured_too, .init = start, .fini = stop)
{
	fixture f;
	hd_runtime *runtime;
	hd_quantized q;
	if (!open_runtime(&runtime, false))
		return;
	open_fixture(&f, runtime, "model", NULL);
	place_samples(&f.dataset, runtime, f.path, 18);
	f.form.input = HD_ONNX_INPUT_IQ;
	f.form.input_name = "iq";
	cr_assert_eq(hd_onnx_model_write(f.path, &f.checkpoint, &f.form, NULL, "0"), HD_OK, "%s", hd_error_text());
	quantize(&q, &f, HD_QUANTIZE_STATIC);
	cr_assert_eq(q.count, 2);
	cr_expect_eq(q.use, 1);
	cr_expect_float_eq(q.models[0].metrics.mae_m, 18 * M_PI / 180 * 6371008.8, 100);
	cr_expect_eq(access(file_in("model.onnx.features"), F_OK), -1);
	cr_expect_eq(access(file_in("model.int8-static.onnx.features"), F_OK), -1);
	hd_onnx_model model;
	cr_assert_eq(
	        hd_onnx_model_open(&model, runtime, q.models[1].path, HD_RUNTIME_ALL, 1), HD_OK, "%s", hd_error_text());
	cr_expect_eq(model.input, HD_ONNX_INPUT_IQ);
	cr_expect_str_eq(hd_session_metadata(model.session, HD_ONNX_KEY_PRECISION), "int8-static");
	hd_onnx_model_close(&model);
	hd_quantized_free(&q);
	close_fixture(&f, runtime);
}

Test(quantize, says_what_it_needs, .init = start, .fini = stop)
{
	fixture f;
	hd_runtime *runtime;
	hd_quantized q;
	if (!open_runtime(&runtime, false))
		return;
	open_fixture(&f, runtime, "model", NULL);
	f.task.dataset = NULL;
	cr_expect_eq(hd_quantize(&q, &f.task), HD_E_USAGE);
	cr_expect_not_null(strstr(hd_error_text(), "--data_dir"), "%s", hd_error_text());
	f.task.dataset = &f.dataset;
	f.task.runtime = NULL;
	cr_expect_eq(hd_quantize(&q, &f.task), HD_E_UNSUPPORTED);
	cr_expect_not_null(strstr(hd_error_text(), "--onnxruntime"), "%s", hd_error_text());
	f.task.runtime = runtime;
	memset(f.dataset.cache.valid, 0, SAMPLES);
	cr_expect_eq(hd_quantize(&q, &f.task), HD_E_DATA);
	cr_expect_eq(q.count, 0);
	close_fixture(&f, runtime);
}
