/* SPDX-License-Identifier: Apache-2.0 */
/* Between floats and the types of 16 bits: single values, and the float copies that operations compute with. */
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/scratch.h"
#include "kernels/half.h"

#define LANES 8
#define BLOCK 16384 /* elements that a thread converts at a time */
#define ALIGN_FLOATS 16

static void narrow_half(uint16_t *restrict dst, const float *restrict src, int64_t n)
{
	int64_t i = 0;
#ifdef __F16C__
	for (; i + LANES <= n; i += LANES) {
		__m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT);
		_mm_storeu_si128((__m128i *)(dst + i), half);
	}
#endif
	for (; i < n; i++)
		dst[i] = hd_float_to_half(src[i]);
}

static void widen_half(float *restrict dst, const uint16_t *restrict src, int64_t n)
{
	int64_t i = 0;
#ifdef __F16C__
	for (; i + LANES <= n; i += LANES)
		_mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + i))));
#endif
	for (; i < n; i++)
		dst[i] = hd_half_to_float(src[i]);
}

void HD_CPU(narrow)(void *dst, const float *src, hd_dtype dt, int64_t n)
{
	uint16_t *restrict out = dst;
	if (dt == HD_F16) {
		narrow_half(out, src, n);
		return;
	}
#pragma omp simd
	for (int64_t i = 0; i < n; i++)
		out[i] = hd_float_to_bf16(src[i]);
}

void HD_CPU(widen)(float *dst, const void *src, hd_dtype dt, int64_t n)
{
	const uint16_t *restrict in = src;
	if (dt == HD_F16) {
		widen_half(dst, in, n);
		return;
	}
#pragma omp simd
	for (int64_t i = 0; i < n; i++)
		dst[i] = hd_bf16_to_float(in[i]);
}

static void widen_all(float *dst, const uint16_t *src, hd_dtype dt, int64_t n)
{
#pragma omp parallel for schedule(static) if (n > HD_PARALLEL_MIN)
	for (int64_t i = 0; i < n; i += BLOCK)
		HD_CPU(widen)(dst + i, src + i, dt, n - i < BLOCK ? n - i : BLOCK);
}

static int64_t padded(int64_t count)
{
	return (count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
}

hd_status HD_CPU(begin_floats)(void **scratch, hd_tensor *tensor, int count, hd_dtype dt)
{
	int64_t total = 0;
	*scratch = NULL;
	if (dt != HD_BF16 && dt != HD_F16)
		return hd_fail(HD_E_UNSUPPORTED, "activations are of float32, bfloat16 or half precision only");
	for (int i = 0; i < count; i++)
		total += padded(tensor[i].count);
	hd_status st = hd_cpu_scratch_take(scratch, (size_t)total * sizeof(float));
	if (st != HD_OK)
		return st;
	float *at = *scratch;
	for (int i = 0; i < count; i++) {
		hd_tensor *t = &tensor[i];
		/* bytes, for parameters are pointers to const and to what is not */
		memcpy(&t->narrow, t->parameter, sizeof t->narrow);
		if (!t->narrow)
			continue;
		t->floats = at;
		at += padded(t->count);
		if (!t->written)
			widen_all(t->floats, t->narrow, dt, t->count);
		memcpy(t->parameter, &t->floats, sizeof t->floats);
	}
	return HD_OK;
}

hd_status HD_CPU(end_floats)(void *scratch, const hd_tensor *tensor, int count, hd_dtype dt, hd_status st)
{
	for (int i = 0; st == HD_OK && i < count; i++)
		if (tensor[i].written && tensor[i].narrow)
			st = HD_CPU(cast)(tensor[i].narrow, tensor[i].floats, dt, tensor[i].count, NULL);
	hd_cpu_scratch_give(scratch);
	return st;
}
