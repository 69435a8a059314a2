/* SPDX-License-Identifier: Apache-2.0 */
/* Ten steps of training in several settings against torchvision and PyTorch (golden/make_trainer.py). */
#include "host/train/schedule.h"
#include "tests/small_model.h"

#define STEPS 10
#define PEAK 1e-3
#define EMA_DECAY 0.9
#define WARMUP 4
#define COSINE_END 12

/* What a golden file was trained with. */
typedef struct course {
	const char *path;
	hd_model_config config;
	int rows;
	int parts[2]; /* rows of each batch whose gradients make a step */
	float total_weight;
	float eps; /* of AdamW */
	int frozen_steps;
	int gradients; /* tensors whose first gradient the file holds */
} course;

static hd_adamw_hyper hyper_of(const course *c, int step, int first_step)
{
	return (hd_adamw_hyper){.lr = (float)hd_schedule_lr(PEAK, true, step, WARMUP, COSINE_END),
	        .beta1 = 0.9f,
	        .beta2 = 0.999f,
	        .eps = c->eps,
	        .weight_decay = 0.05f,
	        .max_norm = 1.0f,
	        .correction1 = (float)(1 - pow(0.9, step - first_step + 1)),
	        .correction2 = (float)(1 - pow(0.999, step - first_step + 1)),
	        .ema_decay = (float)fmin(EMA_DECAY, (1.0 + step) / (10.0 + step))};
}

/* Gradients of one step; the loss, and where wanted mu and sigma of all rows. */
static float gradient(const fixture *f, const course *c, float *mu, float *sigma)
{
	const hd_model_io *io = hd_model_buffers(f->model);
	double total = 0, weight = 0;
	for (int part = 0, from = 0; from < c->rows; from += c->parts[part++]) {
		float sums[4];
		put_rows(f, c->rows, from, c->parts[part]);
		cr_assert_eq(hd_model_forward(f->model, true), HD_OK, "%s", hd_error_text());
		cr_assert_eq(hd_model_loss(f->model, 1.0f / c->total_weight), HD_OK, "%s", hd_error_text());
		cr_assert_eq(hd_model_backward(f->model, part > 0), HD_OK, "%s", hd_error_text());
		get(f, sums, io->sums, sizeof sums);
		total += sums[0];
		weight += sums[1];
		if (mu)
			get(f, mu + 2 * from, io->mu, 2 * (size_t)c->parts[part] * sizeof *mu);
		if (sigma)
			get(f, sigma + 2 * from, io->sigma, 2 * (size_t)c->parts[part] * sizeof *sigma);
	}
	return (float)(total / weight);
}

static void train(const course *c)
{
	fixture f = {0};
	start(&f, c->path, &c->config);
	cr_assert_eq(hd_model_start_average(f.model), HD_OK);
	float losses[STEPS], norms[STEPS], rates[STEPS], mu[2 * ROWS_MAX], sigma[2 * ROWS_MAX];
	for (int step = 0; step < STEPS; step++) {
		const hd_adamw_hyper hyper = hyper_of(c, step, 0),
		                     backbone = hyper_of(c, step, step < c->frozen_steps ? step : c->frozen_steps);
		cr_assert_eq(hd_model_freeze(f.model, step < c->frozen_steps), HD_OK);
		losses[step] = gradient(&f, c, step ? NULL : mu, step ? NULL : sigma);
		if (step == 0)
			cr_assert_eq(compare_parameters(&f, HD_FLAT_GRADIENTS, "g."), c->gradients);
		cr_assert_eq(hd_model_step(f.model, &hyper, c->frozen_steps ? &backbone : NULL), HD_OK);
		norms[step] = sqrtf(step_norm2(&f));
		rates[step] = hyper.lr;
	}
	expect_close("mu", mu, golden(&f, "", "mu", 2 * c->rows), 2 * c->rows);
	expect_close("sigma", sigma, golden(&f, "", "sigma", 2 * c->rows), 2 * c->rows);
	expect_close("lr", rates, golden(&f, "", "lr", STEPS), STEPS);
	expect_close("losses", losses, golden(&f, "", "losses", STEPS), STEPS);
	expect_close("norms", norms, golden(&f, "", "norms", STEPS), STEPS);
	int count;
	hd_model_parameters(f.model, &count);
	cr_assert_eq(compare_parameters(&f, HD_FLAT_WEIGHTS, "after."), count);
	cr_assert_eq(compare_parameters(&f, HD_FLAT_AVERAGE, "ema."), count);
	/* the average as a model of its own, without dropout and by running statistics */
	hd_model_use(f.model, HD_FLAT_AVERAGE);
	put_rows(&f, c->rows, 0, c->rows);
	cr_assert_eq(hd_model_forward(f.model, false), HD_OK);
	cr_assert_eq(hd_model_loss(f.model, 1), HD_OK);
	get(&f, mu, hd_model_buffers(f.model)->mu, 2 * (size_t)c->rows * sizeof *mu);
	get(&f, sigma, hd_model_buffers(f.model)->sigma, 2 * (size_t)c->rows * sizeof *sigma);
	expect_close("eval.mu", mu, golden(&f, "eval.", "mu", 2 * c->rows), 2 * c->rows);
	expect_close("eval.sigma", sigma, golden(&f, "eval.", "sigma", 2 * c->rows), 2 * c->rows);
	stop(&f);
}

/* Parameters of the small net: 4 of the stem, 6 before stages 1 to 3 each of 4, 9 per block, 2 of the last norm. */
#define BACKBONE_TENSORS (4 + 3 * 4 + 5 * 9 + 2)

Test(training, original_heads_with_batch_norm_and_clamped_sigma)
{
	course c = {.path = "tests/golden/trainer_original.safetensors",
	        .config = small,
	        .rows = 4,
	        .parts = {4},
	        .total_weight = 4,
	        .eps = 1e-4f,
	        .gradients = 4 + 2 + 2 * (3 * 2 + 2 * 2)}; /* the stages' are left out of the file */
	c.config.head_norm = HD_HEAD_NORM_BATCH;
	c.config.loss.bound = HD_BOUND_CLAMP;
	c.config.average = true;
	train(&c);
}

Test(training, three_layer_heads_label_accuracy_beta_nll_and_layer_decay)
{
	course c = {.path = "tests/golden/trainer_layer.safetensors",
	        .config = small,
	        .rows = 3,
	        .parts = {3},
	        .total_weight = 2.5f,
	        .eps = 1e-8f,
	        .gradients = BACKBONE_TENSORS + 2 * (4 * 2 + 3 * 2)};
	const int widths[] = {40, 24, 12};
	c.config.head_layers = 3;
	memcpy(c.config.head_widths, widths, sizeof widths);
	c.config.loss.kind = HD_LOSS_BETA_NLL;
	c.config.loss.beta = 0.5f;
	c.config.label_sigma = true;
	c.config.layer_decay = 0.7f;
	c.config.average = true;
	train(&c);
}

Test(training, frozen_backbone_let_go_and_accumulated_gradients)
{
	course c = {.path = "tests/golden/trainer_frozen.safetensors",
	        .config = small,
	        .rows = 3,
	        .parts = {2, 1},
	        .total_weight = 2.5f,
	        .eps = 1e-8f,
	        .frozen_steps = 4,
	        .gradients = 2 * (3 * 2 + 2 * 2)};
	c.config.average = true;
	train(&c);
}

/* A backbone that is never trained owns nothing but its weights, and its heads train as those of one that is held. */
Test(training, backbone_frozen_for_good_is_the_same_with_less_memory)
{
	const char *path = "tests/golden/trainer_frozen.safetensors";
	fixture held = {0}, frozen = {0};
	hd_model_config config = small;
	start(&held, path, &config);
	config.frozen = true;
	start(&frozen, path, &config);
	cr_assert_eq(hd_model_freeze(held.model, true), HD_OK);
	const course c = {.rows = 3, .parts = {2, 1}, .total_weight = 2.5f, .eps = 1e-8f};
	for (int step = 0; step < 3; step++) {
		const hd_adamw_hyper hyper = hyper_of(&c, step, 0);
		float a = gradient(&held, &c, NULL, NULL), b = gradient(&frozen, &c, NULL, NULL);
		cr_assert_eq(a, b, "step %d: losses %.9g and %.9g", step, (double)a, (double)b);
		cr_assert_eq(hd_model_step(held.model, &hyper, NULL), HD_OK);
		cr_assert_eq(hd_model_step(frozen.model, &hyper, NULL), HD_OK);
	}
	int count;
	const hd_parameter *p = hd_model_parameters(held.model, &count);
	for (int i = 0; i < count; i++) {
		float *a = calloc((size_t)p[i].size, sizeof *a), *b = calloc((size_t)p[i].size, sizeof *b);
		cr_assert_eq(hd_model_read(held.model, HD_FLAT_WEIGHTS, i, a), HD_OK);
		cr_assert_eq(hd_model_read(frozen.model, HD_FLAT_WEIGHTS, i, b), HD_OK);
		cr_assert_arr_eq(a, b, (size_t)p[i].size * sizeof *a, "%s", p[i].name);
		bool head = strstr(p[i].name, "_head.") != NULL;
		cr_assert_eq(hd_model_has(frozen.model, HD_FLAT_MOMENT1, i), head, "%s", p[i].name);
		free(b);
		free(a);
	}
	size_t own[2], maps[2];
	int64_t parameters;
	config.frozen = false;
	cr_assert_eq(hd_model_footprint(held.backend, &config, &own[0], &maps[0], &parameters), HD_OK);
	config.frozen = true;
	cr_assert_eq(hd_model_footprint(held.backend, &config, &own[1], &maps[1], &parameters), HD_OK);
	cr_expect(own[1] < own[0] && maps[1] < maps[0], "%zu and %zu bytes against %zu and %zu", own[1], maps[1],
	        own[0], maps[0]);
	stop(&frozen);
	stop(&held);
}

/* Forward alone, with maps that share their memory, gives what the training plan gives. */
Test(training, inference_is_the_same_with_less_memory)
{
	fixture full = {0}, light = {0};
	hd_model_config config = small;
	start(&full, "tests/golden/trainer_frozen.safetensors", &config);
	config.inference = true;
	start(&light, "tests/golden/trainer_frozen.safetensors", &config);
	float mu[2][2 * ROWS_MAX], sigma[2][2 * ROWS_MAX];
	for (int m = 0; m < 2; m++) {
		const fixture *f = m ? &light : &full;
		put_rows(f, 3, 0, 3);
		cr_assert_eq(hd_model_forward(f->model, false), HD_OK, "%s", hd_error_text());
		cr_assert_eq(hd_model_loss(f->model, 1), HD_OK, "%s", hd_error_text());
		get(f, mu[m], hd_model_buffers(f->model)->mu, sizeof mu[m]);
		get(f, sigma[m], hd_model_buffers(f->model)->sigma, sizeof sigma[m]);
	}
	cr_assert_arr_eq(mu[0], mu[1], sizeof mu[0]);
	cr_assert_arr_eq(sigma[0], sigma[1], sizeof sigma[0]);
	stop(&light);
	stop(&full);
}
