/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the CPU back end. Each kernel source is compiled once per instruction tier with HD_TIER set to
 * the tier's name; HD_CPU(op) names the function of that tier.
 */
#ifndef HD_KERNELS_CPU_H
#define HD_KERNELS_CPU_H

#include <stdint.h>
#include <string.h>

#include "heimdall/backend.h"

#ifndef HD_TIER
#define HD_TIER base
#endif

#define HD_PASTE3(a, b, c) a##b##_##c
#define HD_PASTE(a, b, c) HD_PASTE3(a, b, c)
#define HD_CPU(op) HD_PASTE(hd_cpu_, HD_TIER, op)

/*
 * Reductions over rows are cut into this many pieces whatever the number of threads, and the partial sums
 * are added in order: the bits do not depend on the threads.
 */
#define HD_PIECES 16

static inline int64_t hd_piece_start(int64_t piece, int64_t n)
{
	return piece * n / HD_PIECES;
}

/* Below this many elements a loop is not worth waking a second thread for. */
#define HD_PARALLEL_MIN 8192

/*
 * How operations compute with 16 bits: as they do with floats, and round what they give when they store it. The first
 * line of such an operation is
 *
 *   HD_IN_FLOATS(dt, CALL, TENSORS)
 *
 * CALL being the operation itself with its own parameters and HD_F32, TENSORS one HD_READS(parameter, elements) or
 * HD_WRITES(parameter, elements) for each parameter of dt. With HD_F32 it does nothing. Else these parameters point to
 * float copies for the time of the call, read ones widened before it, written ones rounded to where they belong after
 * it, and the operation returns. A parameter that is NULL stays so.
 */
#define HD_IN_FLOATS(dt, call, ...)                                                                                    \
	do {                                                                                                           \
		if ((dt) != HD_F32) {                                                                                  \
			hd_tensor tensors_[] = {__VA_ARGS__};                                                          \
			int count_ = (int)(sizeof tensors_ / sizeof *tensors_);                                        \
			void *scratch_;                                                                                \
			hd_status st_ = HD_CPU(begin_floats)(&scratch_, tensors_, count_, dt);                         \
			if (st_ == HD_OK)                                                                              \
				st_ = (call);                                                                          \
			return HD_CPU(end_floats)(scratch_, tensors_, count_, dt, st_);                                \
		}                                                                                                      \
	} while (0)
#define HD_READS(pointer, elements)                                                                                    \
	{                                                                                                              \
		.parameter = &(pointer), .count = (elements)                                                           \
	}
#define HD_WRITES(pointer, elements)                                                                                   \
	{                                                                                                              \
		.parameter = &(pointer), .count = (elements), .written = true                                          \
	}

typedef struct hd_tensor {
	void *parameter; /* where the pointer stands */
	int64_t count;
	bool written;
	void *narrow; /* what the parameter was */
	float *floats;
} hd_tensor;

/* The copies lie in *scratch, which end_floats gives back; it returns st, or why rounding failed. */
hd_status HD_CPU(begin_floats)(void **scratch, hd_tensor *tensor, int count, hd_dtype dt);
hd_status HD_CPU(end_floats)(void *scratch, const hd_tensor *tensor, int count, hd_dtype dt, hd_status st);

/* dst (n) of dt, BF16 or F16, = src rounded to nearest even, and back; each by the thread that calls. */
void HD_CPU(narrow)(void *dst, const float *src, hd_dtype dt, int64_t n);
void HD_CPU(widen)(float *dst, const void *src, hd_dtype dt, int64_t n);

#define HD_OP(name, kind, params) hd_status HD_CPU(name) params;
#define HD_WORK(name, params) size_t HD_CPU(name##_work) params;
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK

static inline void hd_clear_sums(float *sums, int64_t C)
{
	memset(sums, 0, (size_t)C * sizeof(float));
}

static inline void hd_add_row(float *restrict sums, const float *restrict row, int64_t C)
{
#pragma omp simd
	for (int64_t c = 0; c < C; c++)
		sums[c] += row[c];
}

/* out[c] = beta * out[c] + sum over pieces of part (HD_PIECES, C); beta 0 overwrites. */
static inline void hd_combine_pieces(float *out, const float *part, float beta, int64_t C)
{
	for (int64_t c = 0; c < C; c++) {
		float sum = 0;
		for (int64_t piece = 0; piece < HD_PIECES; piece++)
			sum += part[piece * C + c];
		out[c] = (beta == 0 ? 0 : beta * out[c]) + sum;
	}
}

#endif
