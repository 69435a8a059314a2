/* SPDX-License-Identifier: Apache-2.0 */
/* The whole network against PyTorch: forward, loss, every gradient, ten AdamW steps (golden/make_model.py). */
#include "kernels/philox.h"
#include "tests/small_model.h"

#define GOLDEN "tests/golden/model.safetensors"

static void begin(fixture *f)
{
	start(f, GOLDEN, &small);
	put_rows(f, 3, 0, 3);
}

static void pass(const fixture *f)
{
	cr_assert_eq(hd_model_forward(f->model, true), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_model_loss(f->model, 1.0f / 2.5f), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_model_backward(f->model, false), HD_OK, "%s", hd_error_text());
}

Test(model, forward_loss_and_gradients_are_pytorchs)
{
	fixture f = {0};
	begin(&f);
	pass(&f);
	const hd_model_io *io = hd_model_buffers(f.model);
	float mu[8], sigma[8], sums[4];
	f.backend->download(f.backend, mu, io->mu, sizeof mu, NULL);
	f.backend->download(f.backend, sigma, io->sigma, sizeof sigma, NULL);
	f.backend->download(f.backend, sums, io->sums, sizeof sums, NULL);
	expect_close("mu", mu, golden(&f, "", "mu", 6), 6);
	expect_close("sigma", sigma, golden(&f, "", "sigma", 6), 6);
	float loss = sums[0] / sums[1];
	expect_close("loss", &loss, golden(&f, "", "loss", 1), 1);
	cr_assert_float_eq(sums[2] + sums[3], sums[0], 1e-5 * (fabs((double)sums[2]) + fabs((double)sums[3])));
	compare_parameters(&f, HD_FLAT_GRADIENTS, "g.");
	stop(&f);
}

Test(model, ten_adamw_steps_are_pytorchs)
{
	fixture f = {0};
	begin(&f);
	hd_adamw_hyper hyper = {
	        .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.05f, .max_norm = 1.0f};
	for (int step = 1; step <= 10; step++) {
		pass(&f);
		hyper.correction1 = (float)(1 - pow(0.9, step));
		hyper.correction2 = (float)(1 - pow(0.999, step));
		cr_assert_eq(hd_model_step(f.model, &hyper, NULL), HD_OK, "%s", hd_error_text());
		float norm = sqrtf(step_norm2(&f));
		if (step == 1)
			expect_close("gradient norm", &norm, golden(&f, "", "norm", 1), 1);
	}
	compare_parameters(&f, HD_FLAT_WEIGHTS, "after.");
	stop(&f);
}

/*
 * Published counts less the 1000-class head (D*1000 + 1000), plus our two heads. tiny to large: torchvision's
 * documentation of each model (num_params); atto to nano, xlarge: timm, results/model_metadata-in1k.csv (param_count
 * in millions, two decimals).
 */
Test(model, parameter_counts)
{
	static const struct {
		const char *name;
		double published, tolerance;
	} sizes[] = {{"atto", 3.70e6, 5e3}, {"femto", 5.22e6, 5e3}, {"pico", 9.05e6, 5e3}, {"nano", 15.59e6, 5e3},
	        {"tiny", 28589128, 0}, {"small", 50223688, 0}, {"base", 88591464, 0}, {"large", 197767336, 0},
	        {"xlarge", 350.20e6, 5e3}};
	hd_backend *backend;
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 1), HD_OK);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		const hd_backbone *b = hd_backbone_find(sizes[i].name);
		cr_assert_not_null(b);
		hd_model_config config = small;
		config.backbone = *b;
		config.height = 128;
		size_t parameter_bytes, activation_bytes;
		int64_t got, D = b->widths[3];
		cr_assert_eq(hd_model_footprint(backend, &config, &parameter_bytes, &activation_bytes, &got), HD_OK);
		int64_t head = D * 128 + 128 + 256 + 128 * 64 + 64 + 128 + 64 * 2 + 2;
		double want = sizes[i].published - (double)(D * 1000 + 1000) + 2 * (double)head;
		cr_assert(fabs((double)got - want) <= sizes[i].tolerance, "%s: got %ld parameters, want %.0f", b->name,
		        (long)got, want);
	}
	hd_backend_close(backend);
}

/* Published for 224 x 224 (Liu et al. 2022, table 1; multiply-adds): 4.5, 8.7, 15.4, 34.4 G, rounded, classifier
 * included. */
Test(model, forward_flops_are_the_published_ones)
{
	static const struct {
		const char *name;
		double gmac;
	} sizes[] = {{"tiny", 4.5}, {"small", 8.7}, {"base", 15.4}, {"large", 34.4}};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		hd_model_config config = small;
		config.backbone = *hd_backbone_find(sizes[i].name);
		config.channels = 3;
		config.height = config.width = 224;
		double gmac = hd_model_forward_flops(&config) / 2e9;
		cr_expect(fabs(gmac - sizes[i].gmac) < 0.06, "%s: %.3f G multiply-adds, published %.1f", sizes[i].name,
		        gmac, sizes[i].gmac);
	}
}

/*
 * Drop path on one sample is the same as other layer scales: 0 where its draw dropped the block, 1/(1-p) times as much
 * where not. So are the gradients, the layer scale's own by that factor.
 */
Test(model, drop_path_is_another_layer_scale)
{
	const float rate = 0.7f;
	fixture plain = {0}, dropped = {0};
	begin(&plain);
	begin(&dropped);
	hd_model_free(dropped.model);
	hd_model_config config = small;
	config.drop_path = rate;
	cr_assert_eq(hd_model_create(&dropped.model, dropped.backend, &config), HD_OK, "%s", hd_error_text());
	const hd_model_io *a = hd_model_buffers(plain.model), *b = hd_model_buffers(dropped.model);
	const hd_rng_key key = {11, 22, 3, 0};
	const int32_t sample[4] = {77, 78, 79, 80};
	const float weight[4] = {1, 0, 0, 0}, target[8] = {0.3f, -0.2f};
	size_t input_bytes = (size_t)4 * (size_t)(small.height * small.width * small.channels) * sizeof(float);
	plain.backend->copy(plain.backend, b->input, a->input, input_bytes, NULL);
	for (int m = 0; m < 2; m++) {
		const fixture *f = m ? &dropped : &plain;
		const hd_model_io *io = hd_model_buffers(f->model);
		put(f, io->weight, weight, sizeof weight);
		put(f, io->target, target, sizeof target);
		put(f, io->key, &key, sizeof key);
		put(f, io->sample, sample, sizeof sample);
	}
	int count, blocks = 0, total = 0, zeros = 0;
	const hd_parameter *p = hd_model_parameters(plain.model, &count);
	float factor[64];
	for (int s = 0; s < HD_STAGES; s++)
		total += small.backbone.depths[s];
	for (int i = 0; i < count; i++) {
		float *values = calloc((size_t)p[i].size, sizeof(float));
		cr_assert_eq(hd_model_read(plain.model, HD_FLAT_WEIGHTS, i, values), HD_OK);
		cr_assert_eq(hd_model_write(dropped.model, HD_FLAT_WEIGHTS, i, values), HD_OK);
		if (strstr(p[i].name, ".gamma")) {
			uint32_t words[4];
			float chance = rate * (float)blocks / (float)(total - 1);
			hd_philox(words, (const uint32_t[4]){(uint32_t)blocks, 77, key.epoch, HD_DROP_PATH},
			        (const uint32_t[2]){key.seed_lo, key.seed_hi});
			factor[blocks] = words[0] < (uint32_t)((double)chance * 0x1p32) ? 0 : 1 / (1 - chance);
			zeros += factor[blocks] == 0;
			for (int64_t k = 0; k < p[i].size; k++)
				values[k] *= factor[blocks];
			cr_assert_eq(hd_model_write(plain.model, HD_FLAT_WEIGHTS, i, values), HD_OK);
			blocks++;
		}
		free(values);
	}
	cr_assert(blocks == total && zeros > 0 && zeros < blocks, "%d of %d blocks dropped: the draw shows nothing",
	        zeros, blocks);
	pass(&plain);
	pass(&dropped);
	float mu[2][8];
	plain.backend->download(plain.backend, mu[0], a->mu, sizeof mu[0], NULL);
	dropped.backend->download(dropped.backend, mu[1], b->mu, sizeof mu[1], NULL);
	expect_close("mu", mu[1], mu[0], 2);
	blocks = 0;
	for (int i = 0; i < count; i++) {
		float *want = calloc((size_t)p[i].size, sizeof(float)), *got = calloc((size_t)p[i].size, sizeof(float));
		cr_assert_eq(hd_model_read(plain.model, HD_FLAT_GRADIENTS, i, want), HD_OK);
		cr_assert_eq(hd_model_read(dropped.model, HD_FLAT_GRADIENTS, i, got), HD_OK);
		if (strstr(p[i].name, ".gamma")) {
			for (int64_t k = 0; k < p[i].size; k++)
				want[k] *= factor[blocks];
			blocks++;
		}
		expect_close(p[i].name, got, want, p[i].size);
		free(got);
		free(want);
	}
	/* evaluation drops nothing */
	cr_assert_eq(hd_model_forward(dropped.model, false), HD_OK);
	dropped.backend->download(dropped.backend, mu[1], b->mu, sizeof mu[1], NULL);
	cr_assert(memcmp(mu[0], mu[1], 2 * sizeof(float)) != 0);
	stop(&dropped);
	stop(&plain);
}

/* Another model in the place of a fixture's, with the golden weights and rows. */
static void remake(fixture *f, const hd_model_config *config)
{
	int count;
	hd_model_free(f->model);
	cr_assert_eq(hd_model_create(&f->model, f->backend, config), HD_OK, "%s", hd_error_text());
	const hd_parameter *p = hd_model_parameters(f->model, &count);
	for (int i = 0; i < count; i++)
		cr_assert_eq(
		        hd_model_write(f->model, HD_FLAT_WEIGHTS, i, golden(f, "w.", p[i].name, p[i].size)), HD_OK);
	put_rows(f, 3, 0, 3);
}

static void expect_same_answers(const fixture *a, const fixture *b)
{
	float mu[2][2 * ROWS_MAX];
	get(a, mu[0], hd_model_buffers(a->model)->mu, sizeof mu[0]);
	get(b, mu[1], hd_model_buffers(b->model)->mu, sizeof mu[1]);
	for (int i = 0; i < 2 * ROWS_MAX; i++)
		cr_assert(memcmp(&mu[0][i], &mu[1][i], sizeof(float)) == 0, "mu[%d]: %.9g and %.9g", i,
		        (double)mu[0][i], (double)mu[1][i]);
}

/* Every gradient of two models is the same to the bit. */
static void expect_same_gradients(const fixture *x, const fixture *y)
{
	int count;
	const hd_parameter *p = hd_model_parameters(x->model, &count);
	for (int i = 0; i < count; i++) {
		float *a = calloc((size_t)p[i].size, sizeof(float)), *b = calloc((size_t)p[i].size, sizeof(float));
		cr_assert_eq(hd_model_read(x->model, HD_FLAT_GRADIENTS, i, a), HD_OK);
		cr_assert_eq(hd_model_read(y->model, HD_FLAT_GRADIENTS, i, b), HD_OK);
		cr_assert_arr_eq(a, b, (size_t)p[i].size * sizeof(float), "gradient of %s differs", p[i].name);
		free(b);
		free(a);
	}
}

static hd_ops original;

static hd_status tanh_fwd(void *y, const void *x, hd_gelu_form form, hd_dtype dt, int64_t n, hd_stream *stream)
{
	(void)form;
	return original.gelu_fwd(y, x, HD_GELU_TANH, dt, n, stream);
}

static hd_status tanh_bwd(void *dx, float *db, const void *dy, const void *x, hd_gelu_form form, float beta, void *work,
        hd_dtype dt, int64_t rows, int64_t C, hd_stream *stream)
{
	(void)form;
	return original.gelu_bwd(dx, db, dy, x, HD_GELU_TANH, beta, work, dt, rows, C, stream);
}

/* The form of the configuration reaches every block, forward and backward; the other form gives other answers. */
Test(model, takes_the_form_of_gelu_that_it_is_given)
{
	fixture asked = {0}, forced = {0};
	int differ = 0;
	hd_model_config config = small;
	config.gelu = HD_GELU_TANH;
	begin(&asked);
	begin(&forced);
	pass(&forced);
	float erf_mu[2 * ROWS_MAX], tanh_mu[2 * ROWS_MAX];
	get(&forced, erf_mu, hd_model_buffers(forced.model)->mu, sizeof erf_mu);
	original = forced.backend->ops;
	forced.backend->ops.gelu_fwd = tanh_fwd;
	forced.backend->ops.gelu_bwd = tanh_bwd;
	remake(&asked, &config);
	remake(&forced, &small);
	pass(&asked);
	pass(&forced);
	expect_same_answers(&asked, &forced);
	get(&asked, tanh_mu, hd_model_buffers(asked.model)->mu, sizeof tanh_mu);
	for (int i = 0; i < 6; i++)
		differ += erf_mu[i] != tanh_mu[i];
	cr_assert(differ > 0, "both forms gave the same answers");
	expect_same_gradients(&asked, &forced);
	stop(&forced);
	stop(&asked);
}

/* Back ends without patch convolutions gather patches and multiply; on the CPU both ways give the same bits. */
Test(model, patch_convolutions_are_patches_and_linear_layers)
{
	fixture whole = {0}, composed = {0};
	begin(&whole);
	begin(&composed);
	cr_assert(whole.backend->ops.patch_conv_fwd != NULL,
	        "the CPU back end has no patch convolutions: nothing to test");
	composed.backend->ops.patch_conv_fwd = NULL;
	composed.backend->ops.patch_conv_bwd_data = NULL;
	composed.backend->ops.patch_conv_bwd_weight = NULL;
	remake(&composed, &small);
	pass(&whole);
	pass(&composed);
	expect_same_answers(&whole, &composed);
	expect_same_gradients(&whole, &composed);
	hd_model_config config = small;
	config.inference = true;
	remake(&whole, &config);
	remake(&composed, &config);
	cr_assert_eq(hd_model_forward(whole.model, false), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_model_forward(composed.model, false), HD_OK, "%s", hd_error_text());
	expect_same_answers(&whole, &composed);
	stop(&composed);
	stop(&whole);
}
