/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that PyTorch, torchvision and Lightning-like code wrote (golden/make_weights.py), and their way into a model.
 */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/model.h"
#include "heimdall/safetensors.h"
#include "heimdall/settings.h"
#include "host/cli/cli.h"
#include "host/model/convnext.h"
#include "host/model/weights.h"
#include "tests/folder.h"

#define FOLDER "tests/golden/weights/"
#define RAN "heimdall-pickle-ran" /* what the golden pickles try to create */

enum { N = 2, H = 64, W = 32, TENSORS = 65, CLASSIFIER = 2 };

static const hd_model_config small = {
        .backbone = {"small-test", {1, 1, 2, 1}, {8, 16, 24, 32}, false},
        .channels = 3,
        .height = H,
        .width = W,
        .batch = N,
        .head_layers = 2,
        .head_widths = {128, 64},
        .layer_decay = 1,
        .loss = {.lo = 0.01f, .hi = 1.0f},
};

/* Element i of the k-th tensor of the golden model: the formula of make_weights.py. */
static float element(int k, const int64_t *shape, int ndim, int64_t i)
{
	int64_t fan = 1;
	for (int d = 1; d < ndim; d++)
		fan *= shape[d];
	return (float)(0.5 * sin(1.7 * (double)i + k) / sqrt((double)fan) + (fan == 1));
}

static void expect_elements(const char *file, const hd_weight *w, int k, double tolerance)
{
	float *values = calloc((size_t)w->elements, sizeof *values);
	cr_assert(hd_weights_to_float(values, w), "%s: %s holds no floating point", file, w->file_name);
	for (int64_t i = 0; i < w->elements; i++) {
		double want = (double)element(k, w->shape, w->ndim, i);
		cr_assert(fabs((double)values[i] - want) <= tolerance * (1 + fabs(want)),
		        "%s: %s[%ld]: got %.9g, want %.9g", file, w->file_name, (long)i, (double)values[i], want);
	}
	free(values);
}

static void open_weights(hd_weights *w, const char *path)
{
	cr_assert_eq(hd_weights_open(w, path), HD_OK, "%s: %s", path, hd_error_text());
}

static void expect_refused(hd_status st, const char *path, const char *reason)
{
	cr_assert_eq(
	        st, HD_E_DATA, "%s: status %d (%s), want HD_E_DATA for '%s'", path, (int)st, hd_error_text(), reason);
	cr_assert(strstr(hd_error_text(), reason), "%s: got '%s', want '%s' in it", path, hd_error_text(), reason);
	cr_assert(strstr(hd_error_text(), path), "got '%s', want the file %s in it", hd_error_text(), path);
}

/* ---- files of the real libraries ---- */

Test(weights, every_tensor_of_torchvision_lightning_and_the_original_release)
{
	static const struct {
		const char *file, *layout, *first, *last, *others;
		hd_torch_dtype dtype;
		double tolerance;
	} files[] = {
	        {FOLDER "torchvision.pth", "torchvision", "features.0.0.weight", "classifier.2.bias", "", HD_TORCH_F32,
	                1e-6},
	        {FOLDER "lightning.ckpt", "torchvision", "model.features.0.0.weight", "model.classifier.2.bias",
	                "epoch, global_step, pytorch-lightning_version, callbacks, optimizer_states, lr_schedulers, "
	                "loops, "
	                "hparams_name, hyper_parameters",
	                HD_TORCH_F32, 1e-6},
	        {FOLDER "original_half.pth", "the original release", "downsample_layers.0.0.weight", "head.bias", "",
	                HD_TORCH_F16, 1e-3},
	};
	for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
		hd_weights w;
		open_weights(&w, files[f].file);
		cr_assert_str_eq(w.layout, files[f].layout);
		cr_assert_eq(w.count, TENSORS, "%s: got %zu tensors, want %d", files[f].file, w.count, TENSORS);
		cr_assert_str_eq(w.tensors[0].file_name, files[f].first);
		cr_assert_str_eq(w.tensors[TENSORS - 1].file_name, files[f].last);
		cr_assert_str_eq(w.tensors[0].name, "stem.0.weight");
		cr_assert_str_eq(w.tensors[TENSORS - 1].name, "head.fc.bias");
		cr_assert_str_eq(w.torch.others, files[f].others);
		cr_assert_eq(w.channels, 3);
		cr_assert_null(w.size.name);
		cr_assert_arr_eq(w.size.depths, small.backbone.depths, sizeof small.backbone.depths);
		cr_assert_arr_eq(w.size.widths, small.backbone.widths, sizeof small.backbone.widths);
		for (int k = 0; k < TENSORS; k++) {
			cr_assert_eq(w.tensors[k].dtype, files[f].dtype);
			expect_elements(files[f].file, &w.tensors[k], k, files[f].tolerance);
		}
		hd_weights_close(&w);
	}
}

Test(weights, what_could_run_code_or_holds_no_tensors_is_refused)
{
	static const struct {
		const char *file, *reason;
	} files[] = {
	        {FOLDER "evil_tensor.pth", "calls posix.system"},
	        {FOLDER "evil_beside.ckpt", "calls posix.system"},
	        {FOLDER "evil_eval.pth", ".eval, which could run code"},
	        {FOLDER "evil_key.pth", ".exec, which could run code"},
	        {FOLDER "object_tensor.pth", "made by fractions.Fraction, which is never called"},
	        {FOLDER "whole_model.pth", "holds torch.nn.modules.linear.Linear"},
	        {FOLDER "script.pt", "no dictionary of tensors"},
	        {FOLDER "list.pth", "holds a list"},
	        {FOLDER "no_tensor.pth", "holds no tensor"},
	        {FOLDER "old.pth", "torch.save(torch.load("},
	        {FOLDER "kinds_2.pth", "none of its 15 tensors (transposed, ...)"},
	        {FOLDER "features.safetensors", "none of its 1 tensors"},
	};
	cr_assert_neq(access(RAN, F_OK), 0, "%s is there before the test", RAN);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		hd_weights w;
		hd_status st = hd_weights_open(&w, files[i].file);
		cr_assert_neq(access(RAN, F_OK), 0, "%s ran its code", files[i].file);
		expect_refused(st, files[i].file, files[i].reason);
	}
	hd_weights w;
	cr_assert_eq(hd_weights_open(&w, FOLDER "absent.pth"), HD_E_IO, "%s", hd_error_text());
}

/* ---- into a model ---- */

typedef struct fixture {
	hd_backend *backend;
	hd_model *model;
} fixture;

static void make_model(fixture *f, int channels, const hd_backbone *size)
{
	hd_model_config config = small;
	config.channels = channels;
	if (size)
		config.backbone = *size;
	cr_assert_eq(hd_backend_open(&f->backend, "cpu", NULL, 0), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_model_create(&f->model, f->backend, &config), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_model_initialize(f->model, 3), HD_OK, "%s", hd_error_text());
}

static void free_model(fixture *f)
{
	hd_model_free(f->model);
	hd_backend_close(f->backend);
}

/* One parameter in file order; freed by the caller. */
static float *parameter(const fixture *f, const char *name, int64_t *size)
{
	int count;
	const hd_parameter *p = hd_model_parameters(f->model, &count);
	for (int i = 0; i < count; i++) {
		if (strcmp(p[i].name, name) != 0)
			continue;
		float *values = calloc((size_t)p[i].size, sizeof *values);
		cr_assert_eq(hd_model_read(f->model, HD_FLAT_WEIGHTS, i, values), HD_OK);
		*size = p[i].size;
		return values;
	}
	cr_assert(false, "no parameter %s", name);
	return NULL;
}

static void expect_report(const hd_weights_report *r, const fixture *f)
{
	int count;
	const hd_parameter *p = hd_model_parameters(f->model, &count);
	int64_t heads = 0, backbone = 0;
	size_t head_count = 0;
	for (int i = 0; i < count; i++) {
		bool head = strstr(p[i].name, "position_head.") || strstr(p[i].name, "uncertainty_head.");
		*(head ? &heads : &backbone) += p[i].size;
		head_count += head;
	}
	cr_assert_eq(r->loaded_count, TENSORS - CLASSIFIER, "loaded %zu", r->loaded_count);
	cr_assert_eq(r->loaded_parameters, backbone);
	cr_assert_eq(r->missing_count, head_count, "missing %zu, want %zu", r->missing_count, head_count);
	cr_assert_eq(r->missing_parameters, heads);
	cr_assert_eq(r->unused_count, CLASSIFIER, "unused %zu", r->unused_count);
	cr_assert(strstr(r->unused[0], "classifier.2.weight"), "%s", r->unused[0]);
	cr_assert(!strncmp(r->missing[0], "position_head.", 14), "%s", r->missing[0]);
}

Test(weights, loaded_model_gives_torchvisions_features)
{
	fixture f;
	hd_weights w;
	hd_weights_report report;
	hd_safetensors golden;
	make_model(&f, 3, NULL);
	int64_t size;
	float *head_before = parameter(&f, "position_head.fc1.weight", &size);
	open_weights(&w, FOLDER "lightning.ckpt");
	cr_assert_eq(hd_weights_load(f.model, &w, &report), HD_OK, "%s", hd_error_text());
	expect_report(&report, &f);
	float *head_after = parameter(&f, "position_head.fc1.weight", &size);
	cr_assert_arr_eq(head_before, head_after, (size_t)size * sizeof *head_after, "the head was changed");

	float *x = calloc((size_t)N * H * W * 3, sizeof *x);
	for (int n = 0; n < N; n++)
		for (int i = 0; i < H * W; i++)
			for (int c = 0; c < 3; c++)
				x[(n * H * W + i) * 3 + c] = (float)sin(0.37 * ((n * 3 + c) * H * W + i));
	const float none[2 * N] = {0};
	const hd_model_io *io = hd_model_buffers(f.model);
	f.backend->upload(f.backend, io->input, x, (size_t)N * H * W * 3 * sizeof *x, NULL);
	f.backend->upload(f.backend, io->target, none, sizeof none, NULL);
	cr_assert_eq(hd_model_forward(f.model, false), HD_OK, "%s", hd_error_text());
	float got[N * 32];
	f.backend->download(f.backend, got, f.model->final_out, sizeof got, NULL);
	f.backend->sync(f.backend, NULL);
	cr_assert_eq(hd_safetensors_open(&golden, FOLDER "features.safetensors", false), HD_OK, "%s", hd_error_text());
	const float *want = hd_safetensors_find(&golden, "features")->data;
	double largest = 0;
	for (int i = 0; i < N * 32; i++)
		largest = fmax(largest, fabs((double)want[i]));
	for (int i = 0; i < N * 32; i++)
		cr_assert(fabs((double)got[i] - (double)want[i]) <= 1e-4 * largest, "feature %d: got %.9g, want %.9g",
		        i, (double)got[i], (double)want[i]);
	hd_safetensors_close(&golden);
	free(x);
	free(head_after);
	free(head_before);
	hd_weights_report_free(&report);
	hd_weights_close(&w);
	free_model(&f);
}

Test(weights, stem_is_repeated_and_scaled_for_other_channel_counts)
{
	static const int counts[] = {1, 2, 3, 4, 6, 7};
	hd_weights w;
	open_weights(&w, FOLDER "torchvision.pth");
	const int64_t shape[4] = {8, 3, 4, 4};
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		int M = counts[i];
		fixture f;
		hd_weights_report report;
		make_model(&f, M, NULL);
		cr_assert_eq(hd_weights_load(f.model, &w, &report), HD_OK, "%s", hd_error_text());
		expect_report(&report, &f);
		cr_assert_eq(report.file_channels, 3);
		cr_assert_eq(report.model_channels, M);
		int64_t size;
		float *got = parameter(&f, "stem.0.weight", &size);
		cr_assert_eq(size, 8 * M * 16);
		for (int k = 0; k < 8; k++)
			for (int c = 0; c < M; c++)
				for (int t = 0; t < 16; t++) {
					double want = 0, sum = 0, value = (double)got[(k * M + c) * 16 + t];
					for (int j = 0; j < 3; j++)
						sum += (double)element(0, shape, 4, (k * 3 + j) * 16 + t);
					want = M == 1 ? sum
					              : (double)element(0, shape, 4, (k * 3 + c % 3) * 16 + t) * 3 / M;
					cr_assert(fabs(value - want) <= 1e-6,
					        "%d channels, [%d][%d][%d]: got %g, want %g", M, k, c, t, value, want);
				}
		free(got);
		hd_weights_report_free(&report);
		free_model(&f);
	}
	hd_weights_close(&w);
}

Test(weights, another_size_is_refused_by_name)
{
	fixture f;
	hd_weights w;
	hd_weights_report report;
	make_model(&f, 3, hd_backbone_find("atto"));
	open_weights(&w, FOLDER "torchvision.pth");
	expect_refused(hd_weights_load(f.model, &w, &report), w.path,
	        "depths 1, 1, 2, 1 and widths 8, 16, 24, 32 (no published size), the model has depths 2, 2, 6, 2 and "
	        "widths "
	        "40, 80, 160, 320 (atto)");
	hd_weights_close(&w);
	free_model(&f);
}

/* A file of timm's names for a published size, with values of 0: depthwise kernels and what else is given. */
static void write_timm(const char *path, const hd_backbone *size, const hd_tensor *more, size_t more_count)
{
	hd_tensor tensors[64] = {{0}};
	static char names[64][64];
	static float zeros[2048 * 49];
	size_t n = 0;
	for (int s = 0; s < HD_STAGES; s++)
		for (int b = 0; b < size->depths[s]; b++) {
			snprintf(names[n], sizeof names[n], "stages.%d.blocks.%d.conv_dw.weight", s, b);
			tensors[n] = (hd_tensor){.name = names[n],
			        .dtype = HD_F32,
			        .ndim = 4,
			        .shape = {size->widths[s], 1, 7, 7},
			        .data = zeros,
			        .bytes = (size_t)size->widths[s] * 49 * sizeof(float)};
			n++;
		}
	for (size_t i = 0; i < more_count; i++)
		tensors[n++] = more[i];
	cr_assert_eq(hd_safetensors_write(path, tensors, n, NULL, 0), HD_OK, "%s", hd_error_text());
}

Test(weights, safetensors_of_timm_name_the_size_and_accept_linear_for_convolution, .init = start, .fini = stop)
{
	const hd_backbone *atto = hd_backbone_find("atto"), *tiny = hd_backbone_find("tiny");
	static float ramp[160 * 40];
	for (int i = 0; i < 160 * 40; i++)
		ramp[i] = (float)i;
	/* the size keeps (160,40,1,1); the file has (160,40) */
	const hd_tensor linear = {.name = (char *)"stages.0.blocks.0.mlp.fc1.weight",
	        .dtype = HD_F32,
	        .ndim = 2,
	        .shape = {160, 40},
	        .data = ramp,
	        .bytes = sizeof ramp};
	hd_tensor wrong = linear;
	wrong.shape[0] = 40;
	wrong.shape[1] = 160;
	const char *path = file_in("timm.safetensors");
	fixture f;
	hd_weights w;
	hd_weights_report report;
	make_model(&f, 3, atto);

	write_timm(path, atto, &linear, 1);
	open_weights(&w, path);
	cr_assert_str_eq(w.layout, "timm");
	cr_assert_str_eq(w.size.name, "atto");
	cr_assert_eq(hd_weights_load(f.model, &w, &report), HD_OK, "%s", hd_error_text());
	cr_assert_eq(report.loaded_count, 13);
	int64_t size;
	float *got = parameter(&f, "stages.0.blocks.0.mlp.fc1.weight", &size);
	cr_assert_arr_eq(got, ramp, sizeof ramp);
	free(got);
	hd_weights_report_free(&report);
	hd_weights_close(&w);

	write_timm(path, atto, &wrong, 1);
	open_weights(&w, path);
	expect_refused(
	        hd_weights_load(f.model, &w, &report), path, "stages.0.blocks.0.mlp.fc1.weight is of another shape");
	hd_weights_close(&w);

	write_timm(path, tiny, NULL, 0);
	open_weights(&w, path);
	expect_refused(hd_weights_load(f.model, &w, &report), path, "(tiny), the model has depths 2, 2, 6, 2");
	cr_assert(strstr(hd_error_text(), "--backbone_size tiny"), "%s", hd_error_text());
	hd_weights_close(&w);

	hd_tensor twice = linear;
	twice.name = (char *)"module.model.stages.0.blocks.0.mlp.fc1.weight";
	const hd_tensor both[2] = {linear, twice};
	write_timm(path, atto, both, 2);
	expect_refused(hd_weights_open(&w, path), path, "are both stages.0.blocks.0.mlp.fc1.weight");
	free_model(&f);
}

Test(weights, names_have_their_place_or_none, .init = start, .fini = stop)
{
	static const char *const names[][2] = {
	        {"net.module.stem.1.bias", "stem.1.bias"},
	        {"_orig_mod.stages.3.downsample.1.weight", "stages.3.downsample.1.weight"},
	        {"module.backbone.0.0.weight", "stem.0.weight"}, /* torchvision's features alone */
	        {"model.backbone.7.2.block.5.bias", "stages.3.blocks.2.mlp.fc2.bias"},
	        {"features.2.0.weight", "stages.1.downsample.0.weight"},
	        {"features.5.26.layer_scale", "stages.2.blocks.26.gamma"},
	        {"downsample_layers.3.0.bias", "stages.3.downsample.0.bias"},
	        {"stages.2.8.pwconv1.weight", "stages.2.blocks.8.mlp.fc1.weight"},
	        {"norm.weight", "head.norm.weight"},
	        {"head.weight", "head.fc.weight"},
	        {"model.position_head.fc1.weight", "position_head.fc1.weight"},
	        {"stages.4.blocks.0.gamma", ""},
	        {"stages.-1.blocks.0.gamma", ""},
	        {"stages.00.blocks.0.gamma", ""},
	        {"stages.0.blocks.99999.gamma", ""},
	        {"features.0.2.weight", ""},
	        {"features.8.0.weight", ""},
	        {"features.3.0.0.weight", ""},
	        {"stem.0.weight_g", ""},
	        {"stem.0", ""},
	        {"ema.stem.0.weight", ""},
	        {"exp_avg.stem.0.weight", ""},
	};
	enum { COUNT = sizeof names / sizeof *names };
	static const float one = 1;
	hd_tensor tensors[COUNT];
	const char *path = file_in("names.safetensors");
	for (int i = 0; i < COUNT; i++)
		tensors[i] =
		        (hd_tensor){.name = (char *)names[i][0], .ndim = 1, .shape = {1}, .data = &one, .bytes = 4};
	cr_assert_eq(hd_safetensors_write(path, tensors, COUNT, NULL, 0), HD_OK);
	hd_weights w;
	open_weights(&w, path);
	cr_assert_eq(w.count, COUNT);
	for (int i = 0; i < COUNT; i++)
		cr_assert_str_eq(w.tensors[i].name, names[i][1], "%s: got '%s', want '%s'", names[i][0],
		        w.tensors[i].name, names[i][1]);
	hd_weights_close(&w);
}

Test(weights, import_writes_what_it_read_under_timms_names, .init = start, .fini = stop)
{
	static const char *files[] = {FOLDER "torchvision.pth", FOLDER "lightning.ckpt", FOLDER "original_half.pth"};
	hd_settings s;
	cr_redirect_stdout();
	cr_assert_eq(hd_settings_init(&s), HD_OK);
	const char *none[1] = {files[0]};
	cr_assert_eq(hd_cli_import(&s, none, 1), HD_E_USAGE, "no --out");
	const char *path = file_in("out.safetensors");
	free(s.out);
	s.out = strdup(path);
	for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
		hd_weights from, to;
		cr_assert_eq(hd_cli_import(&s, &files[f], 1), HD_OK, "%s", hd_error_text());
		open_weights(&from, files[f]);
		open_weights(&to, path);
		cr_assert_str_eq(to.layout, "timm");
		cr_assert_str_eq(hd_safetensors_metadata(&to.container, "format"), "pt");
		cr_assert_eq(to.count, TENSORS);
		for (int k = 0; k < TENSORS; k++) {
			const hd_weight *w = &to.tensors[k];
			cr_assert_str_eq(w->file_name, from.tensors[k].name);
			cr_assert_str_eq(w->name, w->file_name);
			cr_assert_eq(w->dtype, HD_TORCH_F32);
			int want = strstr(w->name, "gamma") ? 1 : from.tensors[k].ndim;
			cr_assert_eq(w->ndim, want, "%s: %d dimensions, want %d", w->name, w->ndim, want);
			expect_elements(path, w, k, from.tensors[k].dtype == HD_TORCH_F16 ? 1e-3 : 1e-6);
		}
		hd_weights_close(&to);
		hd_weights_close(&from);
	}
	const char *evil[1] = {FOLDER "evil_tensor.pth"};
	expect_refused(hd_cli_import(&s, evil, 1), evil[0], "calls posix.system");
	hd_settings_free(&s);
}
