/* SPDX-License-Identifier: Apache-2.0 */
/* The operation table of one instruction tier. */
#include "kernels/cpu/cpu.h"

extern const hd_ops HD_CPU(ops);

const hd_ops HD_CPU(ops) = {
#define HD_OP(name, kind, params) .name = HD_CPU(name),
#define HD_WORK(name, params) .name##_work = HD_CPU(name##_work),
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK
};
