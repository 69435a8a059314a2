/* SPDX-License-Identifier: Apache-2.0 */
/* Patch convolutions as plain loops over output, filter and input; no patches are gathered here. */
#include <math.h>
#include <stddef.h>

#include "tests/ref/ref.h"

typedef struct sizes {
	int64_t N, H, W, C, K, p;
} sizes;

/* Calls each(state, output, filter, input) with the indices of every product of the convolution. */
static void for_each_product(sizes z, void (*each)(void *state, int64_t y, int64_t w, int64_t x), void *state)
{
	int64_t down = z.H / z.p, across = z.W / z.p;
	for (int64_t n = 0; n < z.N; n++)
		for (int64_t h = 0; h < down * z.p; h++)
			for (int64_t v = 0; v < across * z.p; v++)
				for (int64_t k = 0; k < z.K; k++)
					for (int64_t c = 0; c < z.C; c++)
						each(state, ((n * down + h / z.p) * across + v / z.p) * z.K + k,
						        ((k * z.p + h % z.p) * z.p + v % z.p) * z.C + c,
						        ((n * z.H + h) * z.W + v) * z.C + c);
}

typedef struct tensors {
	double *out, *size; /* sums and sums of |terms|; size NULL: not wanted */
	const double *y, *w, *x;
} tensors;

static void add(const tensors *t, int64_t at, double term)
{
	t->out[at] += term;
	if (t->size)
		t->size[at] += fabs(term);
}

static void forward(void *state, int64_t y, int64_t w, int64_t x)
{
	const tensors *t = state;
	add(t, y, t->w[w] * t->x[x]);
}

static void back_to_input(void *state, int64_t y, int64_t w, int64_t x)
{
	const tensors *t = state;
	add(t, x, t->w[w] * t->y[y]);
}

static void back_to_filter(void *state, int64_t y, int64_t w, int64_t x)
{
	const tensors *t = state;
	add(t, w, t->x[x] * t->y[y]);
}

/* out[i] = start[i % period] * factor, 0 where start is NULL or factor 0. */
static void begin(double *out, double *size, int64_t n, const double *start, int64_t period, double factor)
{
	for (int64_t i = 0; i < n; i++) {
		out[i] = start && factor != 0 ? factor * start[i % period] : 0;
		if (size)
			size[i] = fabs(out[i]);
	}
}

void ref_patch_conv_fwd(double *y, double *m, const double *x, const double *w, const double *b, int64_t N, int64_t H,
        int64_t W, int64_t C, int64_t K, int64_t p)
{
	tensors t = {.out = y, .size = m, .w = w, .x = x};
	begin(y, m, N * (H / p) * (W / p) * K, b, K, 1);
	for_each_product((sizes){N, H, W, C, K, p}, forward, &t);
}

void ref_patch_conv_bwd_data(double *dx, double *m, const double *dy, const double *w, int64_t N, int64_t H, int64_t W,
        int64_t C, int64_t K, int64_t p)
{
	tensors t = {.out = dx, .size = m, .y = dy, .w = w};
	begin(dx, m, N * H * W * C, NULL, 1, 0);
	for_each_product((sizes){N, H, W, C, K, p}, back_to_input, &t);
}

void ref_patch_conv_bwd_weight(double *dw, double *mw, double *db, double *mb, const double *old_dw,
        const double *old_db, const double *dy, const double *x, double beta, int64_t N, int64_t H, int64_t W,
        int64_t C, int64_t K, int64_t p)
{
	tensors t = {.out = dw, .size = mw, .y = dy, .x = x}, bias = {.out = db, .size = mb};
	begin(dw, mw, K * p * p * C, old_dw, K * p * p * C, beta);
	for_each_product((sizes){N, H, W, C, K, p}, back_to_filter, &t);
	if (!db)
		return;
	begin(db, mb, K, old_db, K, beta);
	for (int64_t i = 0; i < N * (H / p) * (W / p) * K; i++)
		add(&bias, i % K, dy[i]);
}
