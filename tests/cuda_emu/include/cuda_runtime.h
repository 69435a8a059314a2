/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands before the toolkit's <cuda_runtime.h> where kernels are compiled for the emulator: NVIDIA's own types,
 * enumerations, prototypes and half-precision conversions, and on top of them the device side of the language for a
 * C++17 host compiler.
 */
#ifndef HD_EMU_CUDA_RUNTIME_H
#define HD_EMU_CUDA_RUNTIME_H

#include_next <cuda_runtime.h>

/* Sources ask for this macro where they must know that they run on the host. */
#define HD_CUDA_EMULATED 1

#ifdef __cplusplus

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __forceinline__
#define __forceinline__ inline
#undef __noinline__
#define __noinline__ __attribute__((noinline))
#undef __grid_constant__
#define __grid_constant__
#undef __global__
#define __global__
#undef __device__
#define __device__
#undef __constant__
#define __constant__
#undef __managed__
#define __managed__ __attribute__((error("managed memory is not emulated")))
/* The rewriter replaces every use; one that it has not seen (a header that was not rewritten) must not compile. */
#undef __shared__
#define __shared__ __shared__variable_in_a_file_that_was_not_rewritten

#include "hd_emu.h"
#include "emu_launch.h"
#include "emu_warp.h"
#include "emu_atomics.h"
#include "emu_math.h"

#endif
#endif
