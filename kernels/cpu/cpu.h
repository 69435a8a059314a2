/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the CPU back end. Each kernel source is compiled once per instruction tier with HD_TIER set to
 * the tier's name; HD_CPU(op) names the function of that tier.
 */
#ifndef HD_KERNELS_CPU_H
#define HD_KERNELS_CPU_H

#include <stdint.h>

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

#define HD_ONLY_F32(dt)                                                                                                \
	do {                                                                                                           \
		if ((dt) != HD_F32)                                                                                    \
			return hd_fail(HD_E_UNSUPPORTED, "%s: the CPU back end computes in float32 only", __func__);   \
	} while (0)

#define HD_OP(name, kind, params) hd_status HD_CPU(name) params;
#define HD_WORK(name, params) size_t HD_CPU(name##_work) params;
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK

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
