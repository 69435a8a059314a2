/* SPDX-License-Identifier: Apache-2.0 */
/* Clip, AdamW and the average of the weights in one pass over the flat buffers, chunk by chunk. */
#include <math.h>

#include "kernels/cpu/cpu.h"

#define CLIP_EPS 1e-6f /* torch.nn.utils.clip_grad_norm_ */

static void update_chunk(float *restrict p, float *restrict m, float *restrict v, const float *restrict g,
        const hd_adamw_hyper *h, float factor, float lr, float keep)
{
	float b1 = h->beta1, b2 = h->beta2, eps = h->eps;
	float step = lr / h->correction1, inv_root = 1.0f / sqrtf(h->correction2);
#pragma omp simd
	for (int i = 0; i < HD_CHUNK; i++) {
		float grad = g[i] * factor;
		m[i] = b1 * m[i] + (1.0f - b1) * grad;
		v[i] = b2 * v[i] + (1.0f - b2) * grad * grad;
		p[i] = p[i] * keep - step * m[i] / (sqrtf(v[i]) * inv_root + eps);
	}
}

static void average_chunk(float *restrict ema, const float *restrict p, float decay)
{
#pragma omp simd
	for (int i = 0; i < HD_CHUNK; i++)
		ema[i] = decay * ema[i] + (1.0f - decay) * p[i];
}

hd_status HD_CPU(adamw)(float *p, float *m, float *v, float *ema, void *copy, hd_dtype copy_dt, int32_t *skipped,
        const float *g, const float *norm2, const float *grad_scale, const hd_adamw_hyper *hyper, const float *chunk_lr,
        const float *chunk_decay, int64_t n, hd_stream *stream)
{
	(void)stream;
	if (!isfinite(norm2[0])) {
		skipped[0]++;
		return HD_OK;
	}
	float factor = grad_scale ? grad_scale[0] : 1.0f;
	if (hyper->max_norm > 0)
		factor *= fminf(1.0f, hyper->max_norm / (sqrtf(norm2[0]) + CLIP_EPS));
#pragma omp parallel for schedule(static) if (n > HD_PARALLEL_MIN)
	for (int64_t c = 0; c < n / HD_CHUNK; c++) {
		float lr = hyper->lr * chunk_lr[c];
		int64_t at = c * HD_CHUNK;
		update_chunk(p + at, m + at, v + at, g + at, hyper, factor, lr,
		        1.0f - lr * hyper->weight_decay * chunk_decay[c]);
		if (ema)
			average_chunk(ema + at, p + at, hyper->ema_decay);
		if (copy)
			HD_CPU(narrow)((uint16_t *)copy + at, p + at, copy_dt, HD_CHUNK);
	}
	return HD_OK;
}
