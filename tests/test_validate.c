/* SPDX-License-Identifier: Apache-2.0 */
/* Validation of exported models: the right ones pass, each planted fault is found; what is no model is refused. */
#include "host/export/validate.h"
#include "tests/folder.h"
#include "tests/onnx_fixture.h"
#include "tests/onnxruntime.h"

typedef struct bench {
	hd_runtime *runtime;
	hd_backend *backend;
	hd_checkpoint checkpoint;
	char model[512];
} bench;

/* false: skipped, for there is no runtime. */
static bool open_bench(bench *b, const char *const (*more)[2], size_t more_count)
{
	if (!open_runtime(&b->runtime, false))
		return false;
	write_checkpoint(file_in("best.safetensors"), more, more_count);
	cr_assert_eq(hd_checkpoint_open(&b->checkpoint, file_in("best.safetensors")), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_backend_open(&b->backend, "cpu", NULL, 1), HD_OK, "%s", hd_error_text());
	snprintf(b->model, sizeof b->model, "%s", file_in("model.onnx"));
	return true;
}

static void close_bench(bench *b)
{
	hd_backend_close(b->backend);
	hd_checkpoint_close(&b->checkpoint);
	hd_runtime_close(b->runtime);
}

static void validate(hd_validation *out, bench *b, hd_onnx_outputs outputs, fault what)
{
	write_model(b->model, &b->checkpoint, outputs, what);
	cr_assert_eq(hd_validate(out, b->runtime, b->model, &b->checkpoint, b->backend, NULL, 1), HD_OK, "%s",
	        hd_error_text());
}

Test(validate, right_models_pass, .init = start, .fini = stop)
{
	bench b;
	hd_validation v;
	if (!open_bench(&b, NULL, 0))
		return;
	for (hd_onnx_outputs outputs = 0; outputs < HD_ONNX_OUTPUTS_COUNT; outputs++) {
		validate(&v, &b, outputs, NO_FAULT);
		hd_validation_print(stderr, &v);
		cr_expect(v.passed, "%s", hd_onnx_outputs_names[outputs]);
		cr_expect_eq(v.outputs, outputs);
		cr_expect_eq(v.made, HD_VALIDATE_ROWS);
		cr_expect_eq(v.real, 0);
		cr_expect_geq(v.latency_runs, 10);
		cr_expect(v.latency_p50_ms > 0 && v.latency_p95_ms >= v.latency_p50_ms);
		/* batches of 1, 2, 7 and 32 */
		for (int i = 0; i < HD_RUNTIME_LEVELS; i++)
			cr_expect_eq(v.levels[i].compared, 42);
	}
	validate(&v, &b, HD_ONNX_OUTPUTS_POSITIONS, FIXED_ROWS);
	cr_expect(v.passed);
	cr_expect_eq(v.latency_batch, 4);
	cr_expect_eq(v.levels[0].compared, 16);
	close_bench(&b);
}

Test(validate, other_settings_pass, .init = start, .fini = stop)
{
	bench b;
	hd_validation v;
	static const char *const more[][2] = {{"head_norm", "batch"}, {"uncertainty_bound", "clamp"},
	        {"normalize", "dataset"}, {"frame_mode", "windows"}, {"windows", "3"}};
	if (!open_bench(&b, more, sizeof more / sizeof *more))
		return;
	validate(&v, &b, HD_ONNX_OUTPUTS_RAW, NO_FAULT);
	cr_expect(v.passed);
	close_bench(&b);
}

static void expect_found(bench *b, hd_onnx_outputs outputs, fault what)
{
	hd_validation v;
	validate(&v, b, outputs, what);
	cr_expect(!v.passed, "fault %d, %s", (int)what, hd_onnx_outputs_names[outputs]);
	for (int k = 0; k < HD_RUNTIME_LEVELS; k++)
		cr_expect(!v.levels[k].passed, "fault %d, %s, level %d", (int)what, hd_onnx_outputs_names[outputs], k);
	if (what == NO_NUMBER)
		cr_expect(isnan(v.levels[0].position_max), "%g", v.levels[0].position_max);
}

Test(validate, faults_in_label_units_are_found, .init = start, .fini = stop)
{
	static const fault faults[] = {ONE_CONSTANT, AXES_SWAPPED, CHANNELS_SWAPPED, SIGMA_SCALED, NO_NUMBER};
	bench b;
	if (!open_bench(&b, NULL, 0))
		return;
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		expect_found(&b, HD_ONNX_OUTPUTS_RAW, faults[i]);
	close_bench(&b);
}

Test(validate, faults_in_degrees_are_found, .init = start, .fini = stop)
{
	bench b;
	if (!open_bench(&b, NULL, 0))
		return;
	expect_found(&b, HD_ONNX_OUTPUTS_POSITIONS, ONE_CONSTANT);
	expect_found(&b, HD_ONNX_OUTPUTS_POSITIONS, SIGMA_SCALED);
	expect_found(&b, HD_ONNX_OUTPUTS_COMBINED, AXES_SWAPPED);
	close_bench(&b);
}

/* The report of a model that fails names the worst sample and says so; what is no number is null in JSON. */
Test(validate, reports, .init = start, .fini = stop)
{
	bench b;
	hd_validation v;
	char *words = NULL;
	size_t bytes;
	if (!open_bench(&b, NULL, 0))
		return;
	validate(&v, &b, HD_ONNX_OUTPUTS_RAW, NO_NUMBER);
	FILE *to = open_memstream(&words, &bytes);
	hd_validation_print(to, &v);
	fclose(to);
	cr_expect_not_null(strstr(words, "NOT VALIDATED"), "%s", words);
	cr_expect_not_null(strstr(words, "made "), "%s", words);
	cr_expect_not_null(strstr(words, "no real ones"), "%s", words);
	const char *line = words + strcspn(words, "\n") + 1; /* the first names the file */
	line += strcspn(line, "\n") + 1;                     /* the second the library */
	for (; *line; line += strcspn(line, "\n") + 1)
		cr_expect_leq(strcspn(line, "\n"), 80, "%s", line);
	free(words);
	json_t *json = hd_validation_json(&v);
	cr_assert_not_null(json);
	cr_expect(json_is_false(json_object_get(json, "passed")));
	json_t *all = json_object_get(json_object_get(json, "levels"), "all");
	cr_expect(json_is_null(json_object_get(all, "position_max")));
	cr_expect(json_is_real(json_object_get(all, "uncertainty_max")));
	cr_expect(json_is_real(json_object_get(json_object_get(json, "latency"), "p50_ms")));
	json_decref(json);
	close_bench(&b);
}

static void expect_refused(bench *b, hd_status want, const char *words)
{
	hd_validation v;
	hd_status st = hd_validate(&v, b->runtime, b->model, &b->checkpoint, b->backend, NULL, 1);
	cr_expect_eq(st, want, "%s: %s", hd_status_text(st), hd_error_text());
	cr_expect_not_null(strstr(hd_error_text(), words), "no '%s' in: %s", words, hd_error_text());
	cr_expect_not_null(strstr(hd_error_text(), b->model), "%s", hd_error_text());
	cr_expect(!v.passed);
}

Test(validate, what_is_no_model_is_refused, .init = start, .fini = stop)
{
	bench b;
	if (!open_bench(&b, NULL, 0))
		return;
	write_model(b.model, &b.checkpoint, HD_ONNX_OUTPUTS_RAW, NO_CONFIG);
	expect_refused(&b, HD_E_DATA, "model.onnx: no model of this program: no metadata 'heimdall.config'");
	write_model(b.model, &b.checkpoint, HD_ONNX_OUTPUTS_RAW, OTHER_FORMAT);
	expect_refused(&b, HD_E_DATA, "format 2");
	write_model(b.model, &b.checkpoint, HD_ONNX_OUTPUTS_RAW, OTHER_OUTPUTS);
	expect_refused(&b, HD_E_DATA, "outputs");
	write_model(b.model, &b.checkpoint, HD_ONNX_OUTPUTS_COMBINED, OTHER_OUTPUTS);
	expect_refused(&b, HD_E_DATA, "outputs");
	write_model(b.model, &b.checkpoint, HD_ONNX_OUTPUTS_POSITIONS, NO_FAULT);
	b.checkpoint.card.frame.scale_m *= 2;
	expect_refused(&b, HD_E_DATA, "not made from this checkpoint");
	b.checkpoint.card.frame.scale_m /= 2;
	close_bench(&b);
}

/* What says by its content what it is. */
Test(validate, models_are_told_from_checkpoints, .init = start, .fini = stop)
{
	write_checkpoint(file_in("best"), NULL, 0);
	cr_expect(!hd_onnx_model_is(file_in("best")));
	cr_expect(!hd_onnx_model_is(file_in("none")));
	cr_expect(hd_onnx_model_is(file_in("none.onnx")));
	hd_checkpoint checkpoint;
	cr_assert_eq(hd_checkpoint_open(&checkpoint, file_in("best")), HD_OK);
	write_model(file_in("model"), &checkpoint, HD_ONNX_OUTPUTS_RAW, NO_FAULT);
	cr_expect(hd_onnx_model_is(file_in("model")));
	hd_checkpoint_close(&checkpoint);
}

/* A card as text and back is the same, to the bit. */
Test(validate, cards_survive_as_text, .init = start, .fini = stop)
{
	hd_checkpoint c;
	hd_data_card card;
	char *first, *second;
	write_checkpoint(file_in("best"), NULL, 0);
	cr_assert_eq(hd_checkpoint_open(&c, file_in("best")), HD_OK);
	cr_assert_eq(hd_data_card_write(&first, &c.card), HD_OK);
	cr_assert_eq(hd_data_card_read(&card, first, "key"), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_data_card_write(&second, &card), HD_OK);
	cr_expect_str_eq(first, second);
	cr_expect_arr_eq(card.mean, c.card.mean, MELS * sizeof *card.mean);
	cr_expect_eq(card.offset[1], -2.0f);
	hd_data_card_free(&card);
	cr_expect_eq(hd_data_card_read(&card, "{\"receivers\": 3}", "key"), HD_E_DATA);
	cr_expect_not_null(strstr(hd_error_text(), "metadata 'key': "), "%s", hd_error_text());
	cr_expect_eq(hd_data_card_read(&card, "{", "key"), HD_E_DATA);
	free(second);
	free(first);
	hd_checkpoint_close(&c);
}
