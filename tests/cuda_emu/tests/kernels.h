/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of the self-tests, behind launchers as the project's kernels are. */
#ifndef HD_EMU_SELF_KERNELS_H
#define HD_EMU_SELF_KERNELS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- correct ones (kernels.cu) ---- */
enum { BLOCK = 256 };

cudaError_t launch_reverse(float *data, cudaStream_t stream); /* of BLOCK numbers, in place */
cudaError_t launch_add(float *out, const float *in, float value, int n, cudaStream_t stream);
cudaError_t launch_row_sums(float *sums, const float *x, int rows, int n, cudaStream_t stream);
cudaError_t launch_total(float *total, const float *x, int n, cudaStream_t stream); /* last block sums the parts */
cudaError_t launch_histogram(int *counts, const int *values, int n, cudaStream_t stream);
cudaError_t launch_forms(float *out, cudaStream_t stream);    /* 64 numbers; what the rewriter has to read */
cudaError_t launch_masks(unsigned *out, cudaStream_t stream); /* 64 numbers */
cudaError_t launch_votes(unsigned *out, cudaStream_t stream); /* 8 numbers */
cudaError_t launch_groups(float *out, const float *in, cudaStream_t stream); /* sums of 8, of BLOCK numbers */
cudaError_t launch_numbers(float *out, int n, cudaStream_t stream);          /* intrinsics; n of them checked */
cudaError_t launch_half(float *out, const float *in, int n, cudaStream_t stream);
cudaError_t launch_atomics(int *out, float *sum, cudaStream_t stream);
cudaError_t launch_double_buffer(float *out, const float *in, int n, cudaStream_t stream);
cudaError_t launch_wmma(float *c, const void *a, const void *b, int m, int n, int k, cudaStream_t stream);
cudaError_t set_polynomial(const float c[4], cudaStream_t stream);
cudaError_t launch_polynomial(float *out, const float *in, int n, cudaStream_t stream);
cudaError_t launch_empty(
        unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned block_z, size_t shared_bytes, cudaStream_t stream);
cudaError_t allow_empty_shared(int bytes); /* dynamic shared memory of launch_empty */
int empty_occupancy(int threads, size_t shared_bytes);

/* ---- planted faults (planted.cu): data has PLANTED numbers ---- */
enum { PLANTED = 1024 };
#define PLANTED_FAULTS(F)                                                                                              \
	F(missing_syncthreads)                                                                                         \
	F(missing_second_syncthreads)                                                                                  \
	F(missing_syncwarp)                                                                                            \
	F(write_behind_global)                                                                                         \
	F(read_behind_global)                                                                                          \
	F(write_behind_static_shared)                                                                                  \
	F(read_behind_dynamic_shared)                                                                                  \
	F(inner_index_of_shared)                                                                                       \
	F(divergent_barrier)                                                                                           \
	F(early_exit)                                                                                                  \
	F(half_of_the_mask)                                                                                            \
	F(caller_outside_of_mask)                                                                                      \
	F(shuffle_from_outside)                                                                                        \
	F(divergent_warp)                                                                                              \
	F(mask_of_missing_lanes)                                                                                       \
	F(race_between_blocks)                                                                                         \
	F(race_between_blocks_with_barrier)                                                                            \
	F(missing_fence)                                                                                               \
	F(race_of_atomic_and_store)                                                                                    \
	F(shared_read_before_written)                                                                                  \
	F(misaligned_float4)                                                                                           \
	F(host_pointer)                                                                                                \
	F(too_much_static_shared)                                                                                      \
	F(no_dynamic_shared)                                                                                           \
	F(more_shared_than_a_block_has)                                                                                \
	F(waits_for_ever)                                                                                              \
	F(trap)

#define F(name) cudaError_t plant_##name(float *data, cudaStream_t stream);
PLANTED_FAULTS(F)
#undef F

#ifdef __cplusplus
}
#endif
#endif
