/* SPDX-License-Identifier: Apache-2.0 */
/* Training in 16 bits and with less memory, beside the same in float32 (golden/make_model.py has the batch). */
#include "tests/small_model.h"

#define GOLDEN "tests/golden/model.safetensors"
#define TENSORS_MAX 128

/*
 * Roundings to 16 bits on the longest way from the input to the loss and back: 7 maps a block there, 8 back, for 5
 * blocks; 8 at the stem and the downsamplings there, as many back. Independent ones of relative size u add up to
 * sqrt(ROUNDINGS) u of a tensor's norm (Higham and Mary 2019, theorem 2.4), where the network does not magnify them.
 */
#define ROUNDINGS (5 * 15 + 16)

static const hd_adamw_hyper hyper = {.lr = 1e-3f,
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .eps = 1e-8f,
        .weight_decay = 0.05f,
        .max_norm = 1.0f,
        .correction1 = 0.1f,
        .correction2 = 0.001f};

typedef struct gradients {
	float *of[TENSORS_MAX];
	int64_t size[TENSORS_MAX];
	int count;
	float loss;
} gradients;

static void begin(fixture *f, const hd_model_config *config)
{
	const hd_rng_key key = {.seed_lo = 7};
	const int32_t samples[ROWS_MAX] = {11, 12, 13, 14};
	start(f, GOLDEN, config);
	put_rows(f, 3, 0, 3);
	put(f, hd_model_buffers(f->model)->key, &key, sizeof key);
	put(f, hd_model_buffers(f->model)->sample, samples, sizeof samples);
}

static void pass(const fixture *f)
{
	float sums[4];
	cr_assert_eq(hd_model_train_batch(f->model, 1.0f / 2.5f, false), HD_OK, "%s", hd_error_text());
	get(f, sums, hd_model_buffers(f->model)->sums, sizeof sums);
	cr_assert(isfinite((double)sums[0]));
}

static gradients read_flat(const fixture *f, hd_flat which)
{
	gradients out = {0};
	float sums[4];
	const hd_parameter *p = hd_model_parameters(f->model, &out.count);
	cr_assert_leq(out.count, TENSORS_MAX);
	for (int i = 0; i < out.count; i++) {
		out.size[i] = p[i].size;
		out.of[i] = calloc((size_t)p[i].size, sizeof(float));
		cr_assert_eq(hd_model_read(f->model, which, i, out.of[i]), HD_OK);
	}
	get(f, sums, hd_model_buffers(f->model)->sums, sizeof sums);
	out.loss = sums[0] / sums[1];
	return out;
}

static gradients gradients_with(const hd_model_config *config)
{
	fixture f = {0};
	begin(&f, config);
	pass(&f);
	gradients out = read_flat(&f, HD_FLAT_GRADIENTS);
	stop(&f);
	return out;
}

static void release(gradients *g)
{
	for (int i = 0; i < g->count; i++)
		free(g->of[i]);
}

static void expect_same_bits(const gradients *a, const gradients *b)
{
	for (int i = 0; i < a->count; i++)
		cr_expect(!memcmp(a->of[i], b->of[i], (size_t)a->size[i] * sizeof(float)), "tensor %d", i);
}

static double norm_of(const float *x, const float *y, int64_t n)
{
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += ((double)x[i] - (y ? (double)y[i] : 0)) * ((double)x[i] - (y ? (double)y[i] : 0));
	return sqrt(sum);
}

/* u: half the spacing of the type's numbers at 1. scale: that the loss was multiplied by. */
static void expect_near_float(hd_precision precision, double u, float scale)
{
	hd_model_config config = small;
	gradients want = gradients_with(&config);
	config.precision = precision;
	gradients got = gradients_with(&config);
	double bound = sqrt(ROUNDINGS) * u, whole = 0;
	for (int i = 0; i < want.count; i++)
		whole = hypot(whole, norm_of(want.of[i], NULL, want.size[i]));
	cr_expect(fabs((double)got.loss - (double)want.loss) <= bound * fabs((double)want.loss), "loss %g, want %g",
	        (double)got.loss, (double)want.loss);
	for (int i = 0; i < want.count; i++) {
		for (int64_t k = 0; k < got.size[i]; k++)
			got.of[i][k] /= scale;
		/* a tensor that is small beside the whole has its errors from larger ones */
		double size = fmax(norm_of(want.of[i], NULL, want.size[i]), SMALL_GRADIENT * whole);
		double off = norm_of(got.of[i], want.of[i], want.size[i]);
		cr_expect(off <= bound * size, "tensor %d: %g of %g off, bound %g", i, off, size, bound * size);
	}
	release(&got);
	release(&want);
}

Test(precision, bfloat16_gradients_are_float32s_but_for_rounding)
{
	expect_near_float(HD_PRECISION_BF16, 0x1p-8, 1);
}

Test(precision, half_gradients_are_float32s_but_for_rounding)
{
	expect_near_float(HD_PRECISION_F16, 0x1p-11, HD_LOSS_SCALE_START);
}

/* Rounded weights are those that the optimizer left, and those that were written, and the average's when it is used. */
Test(precision, maps_follow_the_weights)
{
	fixture a = {0}, b = {0};
	hd_model_config config = small;
	config.precision = HD_PRECISION_BF16;
	config.average = true;
	begin(&a, &config);
	begin(&b, &config);
	float mu[3][2 * ROWS_MAX];
	cr_assert_eq(hd_model_start_average(a.model), HD_OK);
	pass(&a);
	cr_assert_eq(hd_model_step(a.model, &hyper, NULL), HD_OK);
	cr_assert_eq(hd_model_forward(a.model, false), HD_OK);
	get(&a, mu[0], hd_model_buffers(a.model)->mu, sizeof mu[0]);
	int count;
	const hd_parameter *p = hd_model_parameters(a.model, &count);
	for (int i = 0; i < count; i++) {
		float *values = calloc((size_t)p[i].size, sizeof(float));
		cr_assert_eq(hd_model_read(a.model, HD_FLAT_WEIGHTS, i, values), HD_OK);
		cr_assert_eq(hd_model_write(b.model, HD_FLAT_WEIGHTS, i, values), HD_OK);
		free(values);
	}
	cr_assert_eq(hd_model_forward(b.model, false), HD_OK);
	get(&b, mu[1], hd_model_buffers(b.model)->mu, sizeof mu[1]);
	cr_expect(!memcmp(mu[0], mu[1], sizeof mu[0]));
	/* ema_decay is 0: the average is the new weights */
	hd_model_use(a.model, HD_FLAT_AVERAGE);
	cr_assert_eq(hd_model_forward(a.model, false), HD_OK);
	get(&a, mu[2], hd_model_buffers(a.model)->mu, sizeof mu[2]);
	cr_expect(!memcmp(mu[0], mu[2], sizeof mu[0]));
	stop(&b);
	stop(&a);
}

/* Beyond the largest half the gradient is infinite: the step is left out and the scale halved, until it fits. */
Test(precision, loss_scale_finds_its_place)
{
	fixture f = {0};
	hd_model_config config = small;
	config.precision = HD_PRECISION_F16;
	begin(&f, &config);
	const float start = 0x1p24f;
	float scale = start;
	int32_t good = 0, skips = 0;
	gradients before = read_flat(&f, HD_FLAT_WEIGHTS);
	cr_assert_eq(hd_model_set_loss_scale(f.model, start, 0), HD_OK);
	for (int step = 0; step < 24 && !good; step++) {
		pass(&f);
		cr_assert_eq(hd_model_step(f.model, &hyper, NULL), HD_OK);
		cr_assert_eq(hd_model_get_loss_scale(f.model, &scale, &good), HD_OK);
		if (!good) {
			gradients after = read_flat(&f, HD_FLAT_WEIGHTS);
			expect_same_bits(&before, &after);
			release(&after);
			skips++;
			cr_assert_eq(scale, ldexpf(start, -skips));
		}
	}
	cr_assert_gt(skips, 0);
	cr_assert_eq(good, 1);
	float norm = sqrtf(step_norm2(&f));
	/* the norm is that of the gradient itself */
	double want = (double)golden(&f, "", "norm", 1)[0];
	cr_expect(
	        fabs((double)norm - want) <= sqrt(ROUNDINGS) * 0x1p-11 * want, "norm %g, want %g", (double)norm, want);
	release(&before);
	stop(&f);
}

Test(precision, checkpointing_gives_the_same_bits_in_less_memory)
{
	static const hd_precision precisions[] = {HD_PRECISION_32, HD_PRECISION_BF16};
	for (int i = 0; i < 2; i++) {
		hd_model_config config = small;
		config.precision = precisions[i];
		config.drop_path = 0.3f;
		gradients kept = gradients_with(&config);
		size_t own, with, without;
		int64_t parameters;
		hd_backend *backend;
		cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 1), HD_OK);
		cr_assert_eq(hd_model_footprint(backend, &config, &own, &without, &parameters), HD_OK);
		config.gradient_checkpointing = true;
		cr_assert_eq(hd_model_footprint(backend, &config, &own, &with, &parameters), HD_OK);
		hd_backend_close(backend);
		gradients again = gradients_with(&config);
		expect_same_bits(&kept, &again);
		cr_expect_lt(with, without);
		release(&again);
		release(&kept);
	}
}

/* What a device with streams keeps apart for weight gradients that run beside changes no bit. */
Test(precision, weight_gradients_beside_give_the_same_bits)
{
	for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
		hd_model_config config = small;
		config.gradient_checkpointing = checkpointing;
		setenv("HD_CPU_OWN_MEMORY", "0", 1);
		gradients one = gradients_with(&config);
		setenv("HD_CPU_OWN_MEMORY", "1", 1);
		gradients two = gradients_with(&config);
		expect_same_bits(&one, &two);
		release(&two);
		release(&one);
	}
}
