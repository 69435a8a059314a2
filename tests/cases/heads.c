/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of ReLU with dropout, drop path and the loss. */
#include <math.h>

#include "tests/cases/case.h"
#include "tests/ref/ref.h"

/* ---- relu_dropout; d: N C (backward: n); variant 0: p = 0, key and sample NULL; 1: p = 0.3 ---- */

#define LAYER 5u
static const float drop_p[] = {0.0f, 0.3f};

static void drop_fwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t N = run->shape->d[0], C = run->shape->d[1];
	hd_output(run, "y", HD_F32, N * C);
	hd_input(run, "x", HD_F32, N * C, -1, 1);
	if (run->variant) {
		hd_input(run, "key", HD_I32, 4, -0x1p31, 0x1p31);
		hd_input(run, "sample", HD_I32, N, 0, 0x1p31);
	}
}

static hd_status drop_fwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->relu_dropout_fwd(hd_dev(run, "y"), hd_dev(run, "x"), hd_dev(run, "key"), hd_dev(run, "sample"),
	        LAYER, drop_p[run->variant], run->shape->d[0], run->shape->d[1], NULL);
}

/* 1-p, its reciprocal and the product round once each, half an eps of the result in hd_bound's term. */
static void drop_fwd_reference(hd_case_run *run)
{
	hd_buffer *y = hd_find(run, "y");
	uint32_t seed[2] = {0}, epoch = 0;
	if (run->variant) {
		const double *key = hd_val(run, "key");
		seed[0] = (uint32_t)(int32_t)key[0];
		seed[1] = (uint32_t)(int32_t)key[1];
		epoch = (uint32_t)(int32_t)key[2];
	}
	ref_relu_dropout_fwd(y->want, hd_val(run, "x"), seed, epoch, hd_val(run, "sample"), LAYER,
	        (double)drop_p[run->variant], run->shape->d[0], run->shape->d[1]);
	for (size_t i = 0; i < y->count; i++)
		y->magnitude[i] = fabs(y->want[i]);
	hd_bound(run, "y", 1);
}

static void drop_bwd_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t n = run->shape->d[0];
	hd_output(run, "dx", HD_F32, n);
	hd_input(run, "dy", HD_F32, n, -1, 1);
	hd_buffer *y = hd_input(run, "y", HD_F32, n, -1, 1);
	/* what forward can give, and far enough from the kink for differences */
	for (int64_t i = 0; i < n; i++)
		hd_set(y, i, y->value[i] < 0 ? 0 : y->value[i] + 0.1);
}

static hd_status drop_bwd_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->relu_dropout_bwd(
	        hd_dev(run, "dx"), hd_dev(run, "dy"), hd_dev(run, "y"), drop_p[run->variant], run->shape->d[0], NULL);
}

static void drop_bwd_reference(hd_case_run *run)
{
	hd_buffer *dx = hd_find(run, "dx");
	ref_relu_dropout_bwd(
	        dx->want, hd_val(run, "dy"), hd_val(run, "y"), (double)drop_p[run->variant], run->shape->d[0]);
	for (size_t i = 0; i < dx->count; i++)
		dx->magnitude[i] = fabs(dx->want[i]);
	hd_bound(run, "dx", 1);
}

/* With the mask of y given, forward is max(x,0)/(1-p); y itself, 0 moved to -1, serves as x. */
static void drop_f(double *y, const double *x, const hd_case_run *run)
{
	for (int64_t i = 0; i < run->shape->d[0]; i++)
		y[i] = hd_val(run, "y")[i] == 0 ? fmax(x[i] - 1, 0)
		                                : fmax(x[i], 0) / (1 - (double)drop_p[run->variant]);
}

static hd_status drop_gradient(hd_case_run *run)
{
	int64_t n = run->shape->d[0];
	return hd_check_gradient(run, "x", drop_f, hd_val(run, "y"), n, hd_want(run, "dx"), hd_val(run, "dy"), n);
}

static double drop_fwd_flops(const hd_shape *s)
{
	return 20 * (double)(s->d[0] * s->d[1]); /* ten rounds of two products per four elements, and the rest */
}

static double drop_fwd_bytes(const hd_shape *s)
{
	return 8 * (double)(s->d[0] * s->d[1]);
}

static double drop_bwd_flops(const hd_shape *s)
{
	return (double)s->d[0];
}

static double drop_bwd_bytes(const hd_shape *s)
{
	return 12 * (double)s->d[0];
}

static const hd_shape drop_shapes[] = {{{0, 8}}, {{1, 1}}, {{3, 5}}, {{2, 31}}, {{5, 33}}, {{2, 320}}, {{32, 256}}};
static const hd_shape drop_bench[] = {{{32, 256}}, {{512, 512}}};
static const hd_shape drop_flat[] = {{{0}}, {{1}}, {{7}}, {{17}}, {{8193}}};
static const hd_shape drop_flat_bench[] = {{{32 * 256}}, {{512 * 512}}};
const hd_case hd_case_relu_dropout_fwd = {"relu_dropout_fwd", "N C", drop_shapes, HD_COUNT(drop_shapes), drop_bench,
        HD_COUNT(drop_bench), 2, false, drop_fwd_make, drop_fwd_call, drop_fwd_reference, NULL, drop_fwd_flops,
        drop_fwd_bytes, false, NULL};
const hd_case hd_case_relu_dropout_bwd = {"relu_dropout_bwd", "n", drop_flat, HD_COUNT(drop_flat), drop_flat_bench,
        HD_COUNT(drop_flat_bench), 2, false, drop_bwd_make, drop_bwd_call, drop_bwd_reference, drop_gradient,
        drop_bwd_flops, drop_bwd_bytes, false, NULL};

/* ---- drop_path_scale; d: B N ---- */

static void path_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t B = run->shape->d[0], N = run->shape->d[1];
	hd_output(run, "scale", HD_F32, B * N);
	hd_buffer *p = hd_input(run, "p", HD_F32, B, 0, 0.9);
	if (B)
		hd_set(p, 0, 0);
	hd_input(run, "key", HD_I32, 4, -0x1p31, 0x1p31);
	hd_input(run, "sample", HD_I32, N, -0x1p31, 0x1p31);
}

static hd_status path_call(const hd_ops *ops, const hd_case_run *run)
{
	return ops->drop_path_scale(hd_dev(run, "scale"), hd_dev(run, "p"), hd_dev(run, "key"), hd_dev(run, "sample"),
	        run->shape->d[0], run->shape->d[1], NULL);
}

/* 1-p and its reciprocal round once each; p is near 1 at most by ten times. */
static void path_reference(hd_case_run *run)
{
	hd_buffer *scale = hd_find(run, "scale");
	const double *key = hd_val(run, "key");
	const uint32_t seed[2] = {(uint32_t)(int32_t)key[0], (uint32_t)(int32_t)key[1]};
	ref_drop_path_scale(scale->want, hd_val(run, "p"), seed, (uint32_t)(int32_t)key[2], hd_val(run, "sample"),
	        run->shape->d[0], run->shape->d[1]);
	for (size_t i = 0; i < scale->count; i++)
		scale->magnitude[i] = fabs(scale->want[i]);
	hd_bound(run, "scale", 1);
}

static double path_flops(const hd_shape *s)
{
	return 40 * (double)(s->d[0] * s->d[1]);
}

static double path_bytes(const hd_shape *s)
{
	return 4 * (double)(s->d[0] * s->d[1] + s->d[0] + s->d[1]);
}

static const hd_shape path_shapes[] = {{{0, 4}}, {{3, 0}}, {{1, 1}}, {{5, 3}}, {{17, 31}}, {{36, 32}}};
static const hd_shape path_bench[] = {{{36, 32}}, {{36, 512}}};
const hd_case hd_case_drop_path_scale = {"drop_path_scale", "B N", path_shapes, HD_COUNT(path_shapes), path_bench,
        HD_COUNT(path_bench), 1, false, path_make, path_call, path_reference, NULL, path_flops, path_bytes, false,
        NULL};

/*
 * ---- gaussian_nll; d: N ----
 * Variants: each kind with each bound, label_sigma NULL or not; then the same with rows of weight 0 that hold NaN, and
 * with values of softplus(u) on the clamp's bounds to the last bit, as it is u itself from 37 on; then all of these
 * with a scale of the loss.
 */
#define NLL_KINDS 3
#define NLL_BOUNDS 2
#define NLL_PLAIN (NLL_KINDS * NLL_BOUNDS * 2)
#define NLL_VARIANTS (4 * NLL_PLAIN)
#define NLL_SCALE 0.7
#define NLL_LOSS_SCALE 1234.5
#define KINK_DISTANCE 0.01 /* differences do not converge over the kinks of the clamp */

static bool nll_rough(const hd_case_run *run)
{
	return run->variant / NLL_PLAIN % 2;
}

/* What the gradients are multiplied by. */
static double nll_scale(const hd_case_run *run)
{
	return hd_val(run, "scale")[0] * (hd_has(run, "loss_scale") ? hd_val(run, "loss_scale")[0] : 1);
}

static hd_loss nll_settings(const hd_case_run *run)
{
	hd_loss loss = {.kind = (hd_loss_kind)(run->variant % NLL_KINDS),
	        .bound = (hd_sigma_bound)(run->variant / NLL_KINDS % NLL_BOUNDS),
	        .lo = 0.3f,
	        .hi = 2.0f,
	        .beta = nll_rough(run) ? 1.0f : 0.3f};
	if (nll_rough(run) && loss.bound == HD_BOUND_CLAMP) {
		loss.lo = 40.0f;
		loss.hi = 48.0f;
	}
	return loss;
}

/* u on, inside and outside the bounds of the clamp, or anywhere but near its kinks. */
static void nll_place_u(hd_buffer *u, const hd_loss *loss, bool rough)
{
	static const double on_bounds[] = {40, 39, 48, 50, 44};
	const double kink[] = {log(expm1((double)loss->lo)), log(expm1((double)loss->hi))};
	for (size_t i = 0; i < u->count; i++) {
		if (rough)
			hd_set(u, (int64_t)i, on_bounds[i % HD_COUNT(on_bounds)]);
		for (int k = 0; !rough && k < HD_COUNT(kink); k++)
			if (fabs(u->value[i] - kink[k]) < KINK_DISTANCE)
				hd_set(u, (int64_t)i, u->value[i] + 2 * KINK_DISTANCE);
	}
}

static void nll_make(hd_case_run *run, const hd_ops *ops)
{
	(void)ops;
	int64_t N = run->shape->d[0];
	hd_loss loss = nll_settings(run);
	double reach = (double)loss.hi / 2;
	hd_output(run, "sums", HD_F32, 4);
	hd_output(run, "sigma", HD_F32, 2 * N);
	hd_output(run, "dmu", HD_F32, 2 * N);
	hd_output(run, "du", HD_F32, 2 * N);
	hd_buffer *mu = hd_input(run, "mu", HD_F32, 2 * N, -reach, reach);
	hd_buffer *u = hd_input(run, "u", HD_F32, 2 * N, -3, 3);
	hd_buffer *target = hd_input(run, "target", HD_F32, 2 * N, -reach, reach);
	hd_buffer *weight = hd_input(run, "weight", HD_F32, N, 0.5, 2), *label = NULL;
	if (run->variant / (NLL_KINDS * NLL_BOUNDS) % 2)
		label = hd_input(run, "label_sigma", HD_F32, N, 0, reach);
	hd_set(hd_input(run, "scale", HD_F32, 1, 0, 1), 0, NLL_SCALE);
	if (run->variant >= NLL_VARIANTS / 2)
		hd_set(hd_input(run, "loss_scale", HD_F32, 1, 0, 1), 0, NLL_LOSS_SCALE);
	if (loss.bound == HD_BOUND_CLAMP)
		nll_place_u(u, &loss, nll_rough(run));
	for (int64_t n = 0; n < N; n++) {
		if (label && n % 4 == 1)
			hd_set(label, n, 0);
		if (n % 3)
			continue;
		hd_set(weight, n, 0);
		if (label && nll_rough(run))
			hd_set(label, n, NAN);
		for (int64_t i = 2 * n; nll_rough(run) && i < 2 * n + 2; i++) {
			hd_set(mu, i, NAN);
			hd_set(u, i, NAN);
			hd_set(target, i, NAN);
		}
	}
}

static hd_status nll_call(const hd_ops *ops, const hd_case_run *run)
{
	hd_loss loss = nll_settings(run);
	return ops->gaussian_nll(hd_dev(run, "sums"), hd_dev(run, "sigma"), hd_dev(run, "dmu"), hd_dev(run, "du"),
	        hd_dev(run, "mu"), hd_dev(run, "u"), hd_dev(run, "target"), hd_dev(run, "weight"),
	        hd_dev(run, "label_sigma"), &loss, hd_dev(run, "scale"), hd_dev(run, "loss_scale"), run->shape->d[0],
	        NULL);
}

/*
 * Magnitudes of one element of a row with a weight, with root = sqrt(v) and factor = v^beta: the difference over root
 * is off by 1 eps of |mu| + |target| and what root is off, its square by twice that.
 */
static void nll_magnitudes(hd_case_run *run, int64_t i, const hd_loss *loss)
{
	double w = hd_val(run, "weight")[i / 2], s = hd_want(run, "sigma")[i], *sums = hd_mag(run, "sums");
	double label = hd_has(run, "label_sigma") ? hd_val(run, "label_sigma")[i / 2] : 0, root = hypot(s, label);
	double mu = hd_val(run, "mu")[i], target = hd_val(run, "target")[i], sizes = fabs(mu) + fabs(target);
	double z = fabs(mu - target) / root, dz = sizes / root, scale = nll_scale(run) * w;
	double factor = loss->kind == HD_LOSS_BETA_NLL ? pow(root, 2 * (double)loss->beta) : 1;
	double logs = w * (fabs(log(root)) + 1), squares = w * (z * z + z * dz);
	sums[1] += w / 2;
	sums[2] += logs;
	sums[3] += squares;
	if (loss->kind == HD_LOSS_MSE) {
		sums[0] += w * z * root * sizes;
		hd_mag(run, "dmu")[i] = scale * sizes;
		return;
	}
	sums[0] += factor * (logs + squares);
	hd_mag(run, "dmu")[i] = scale * factor * (dz + 2 * z) / root;
	hd_mag(run, "du")[i] = scale * factor * s / (root * root) * (1 + 2 * z * z + 2 * z * dz);
}

/*
 * Softplus, two exponentials and the sums of sigma: 6 eps, and 2 more in root. du takes root's 8, as much for
 * sigma/root, and the slope's; both gradients the scales' product, half an eps. The factor of beta-nll adds 2 beta
 * times root's and its own 2. Sums add 2N such terms. Sigma of a row of weight 0 that holds NaN is unspecified.
 */
static void nll_reference(hd_case_run *run)
{
	hd_loss loss = nll_settings(run);
	int64_t N = run->shape->d[0];
	hd_buffer *sigma = hd_find(run, "sigma");
	const double *w = hd_val(run, "weight");
	double factor_c = loss.kind == HD_LOSS_BETA_NLL ? 16 * (double)loss.beta + 2 : 0;
	ref_gaussian_nll(hd_want(run, "sums"), sigma->want, hd_want(run, "dmu"), hd_want(run, "du"), hd_val(run, "mu"),
	        hd_val(run, "u"), hd_val(run, "target"), w,
	        hd_has(run, "label_sigma") ? hd_val(run, "label_sigma") : NULL, &loss, nll_scale(run), N);
	for (int64_t i = 0; i < 2 * N; i++) {
		sigma->magnitude[i] = sigma->want[i];
		if (w[i / 2] != 0)
			nll_magnitudes(run, i, &loss);
	}
	hd_bound(run, "sums", hd_sum_c(2 * N) + 8 + factor_c);
	hd_bound(run, "sigma", 6);
	hd_bound(run, "dmu", 8.5 + factor_c);
	hd_bound(run, "du", 16.5 + factor_c);
	for (int64_t i = 0; i < 2 * N; i++)
		if (w[i / 2] == 0 && nll_rough(run))
			sigma->bound[i] = INFINITY;
}

/* v by the definition alone. */
static double nll_variance(double u, double label, const hd_loss *loss)
{
	double lo = (double)loss->lo, hi = (double)loss->hi, s = log(1 + exp(u));
	double sigma =
	        loss->bound == HD_BOUND_CLAMP ? fmin(fmax(s, lo), hi) : lo + (hi - lo) * (1 - exp(-s / (hi - lo)));
	return sigma * sigma + label * label;
}

/* Sum of weighted losses by the definition alone; what beta-nll takes as constant comes from the run's own u. */
static double weighted_loss(const double *mu, const double *u, const hd_case_run *run)
{
	double sum = 0;
	hd_loss loss = nll_settings(run);
	for (int64_t i = 0; i < 2 * run->shape->d[0]; i++) {
		double label = hd_has(run, "label_sigma") ? hd_val(run, "label_sigma")[i / 2] : 0;
		double v = nll_variance(u[i], label, &loss), square = pow(hd_val(run, "target")[i] - mu[i], 2) / 2;
		double held = nll_variance(hd_val(run, "u")[i], label, &loss), l = log(v) / 2 + square / v;
		if (loss.kind == HD_LOSS_MSE)
			l = square;
		if (loss.kind == HD_LOSS_BETA_NLL)
			l *= pow(held, (double)loss.beta);
		sum += hd_val(run, "weight")[i / 2] * l;
	}
	return sum;
}

static void nll_f_of_mu(double *y, const double *mu, const hd_case_run *run)
{
	y[0] = weighted_loss(mu, hd_val(run, "u"), run);
}

static void nll_f_of_u(double *y, const double *u, const hd_case_run *run)
{
	y[0] = weighted_loss(hd_val(run, "mu"), u, run);
}

static hd_status nll_gradient(hd_case_run *run)
{
	hd_status st = HD_OK;
	const double g = nll_scale(run);
	int64_t n = 2 * run->shape->d[0];
	if (nll_rough(run))
		return HD_OK;
	HD_TRY(hd_check_gradient(run, "mu", nll_f_of_mu, hd_val(run, "mu"), n, hd_want(run, "dmu"), &g, 1));
	HD_TRY(hd_check_gradient(run, "u", nll_f_of_u, hd_val(run, "u"), n, hd_want(run, "du"), &g, 1));
done:
	return st;
}

static double nll_flops(const hd_shape *s)
{
	return 2 * 40 * (double)s->d[0];
}

static double nll_bytes(const hd_shape *s)
{
	return 4 * 13 * (double)s->d[0]; /* without label_sigma */
}

static const hd_shape nll_shapes[] = {{{0}}, {{1}}, {{2}}, {{31}}, {{257}}};
static const hd_shape nll_bench[] = {{{32}}, {{4096}}};
const hd_case hd_case_gaussian_nll = {"gaussian_nll", "N", nll_shapes, HD_COUNT(nll_shapes), nll_bench,
        HD_COUNT(nll_bench), NLL_VARIANTS, false, nll_make, nll_call, nll_reference, nll_gradient, nll_flops, nll_bytes,
        false, NULL};
