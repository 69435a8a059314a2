/* SPDX-License-Identifier: Apache-2.0 */
/* Planted faults in kernels, and what catches each. A "FAIL" comes from the comparison with the wanted result. */
#include "kernels.h"
#include "self.h"

static float input[PLANTED], output[PLANTED];

static void run_fault(cudaError_t (*plant)(float *data, cudaStream_t stream))
{
	float *x = random_floats(PLANTED);
	memcpy(input, x, sizeof input);
	free(x);
	float *data = to_device(input, sizeof input);
	cudaStream_t stream = new_stream();
	CUDA_OK(plant(data, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(output, data, sizeof output);
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(data));
}

#define F(name)                                                                                                        \
	static void fault_##name(void)                                                                                 \
	{                                                                                                              \
		run_fault(plant_##name);                                                                               \
	}
PLANTED_FAULTS(F)
#undef F

static void check_reversed(void)
{
	for (int i = 0; i < BLOCK; i++)
		check_close(&output[i], &input[BLOCK - 1 - i], 1, 0, "reversed");
}

static void missing_syncthreads(void)
{
	fault_missing_syncthreads();
	check_reversed();
}

static void missing_second_syncthreads(void)
{
	fault_missing_second_syncthreads();
	check_close(output, input, BLOCK, 0, "reversed twice");
}

static void missing_syncwarp(void)
{
	float sum = 0;
	fault_missing_syncwarp();
	for (int i = 0; i < 32; i++)
		sum += input[i];
	check_close(output, &sum, 1, 1e-4, "sum of a warp");
}

static void shared_read_before_written(void)
{
	fault_shared_read_before_written();
	check_close(output, input, BLOCK, 0, "through shared memory");
}

static void use_after_free(void)
{
	float *data = to_device(NULL, PLANTED * sizeof(float));
	cudaStream_t stream = new_stream();
	CUDA_OK(cudaFree(data));
	CUDA_OK(launch_reverse(data, stream));
}

/* Freed in the order of another stream, while the kernel still waits in its own. */
static void use_after_free_in_the_queue(void)
{
	float *data = to_device(NULL, PLANTED * sizeof(float));
	cudaStream_t stream = new_stream(), other = new_stream();
	CUDA_OK(launch_reverse(data, stream));
	CUDA_OK(cudaFreeAsync(data, other));
	CUDA_OK(cudaStreamSynchronize(other));
	CUDA_OK(cudaStreamSynchronize(stream));
}

static void pointer_into_the_middle(void)
{
	float *data = to_device(NULL, PLANTED * sizeof(float));
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_reverse(data + PLANTED - BLOCK, stream));
	CUDA_OK(launch_add(data + PLANTED, data, 1, 0, stream) == cudaErrorInvalidConfiguration ? cudaSuccess
	                                                                                        : cudaErrorUnknown);
	CUDA_OK(launch_reverse(data + PLANTED + BLOCK, stream));
}

#define RACE "ThreadSanitizer: data race"
#define NAMES_THREAD "in kernel"

const test_case fault_cases[] = {
        {"missing_syncthreads", "HD_EMU_ORDER=reverse", missing_syncthreads, {"FAIL", "FAIL", RACE}},
        {"missing_syncthreads_forward", NULL, missing_syncthreads, {NOT_RUN, NOT_RUN, RACE}},
        {"missing_second_syncthreads", NULL, missing_second_syncthreads, {"FAIL", "FAIL", RACE}},
        {"missing_syncwarp", NULL, missing_syncwarp, {"FAIL", "FAIL", RACE}},
        {"write_behind_global", NULL, fault_write_behind_global,
                {"has written behind the allocation of 4096 bytes", "AddressSanitizer: heap-buffer-overflow",
                        "has written behind the allocation"}},
        {"read_behind_global", NULL, fault_read_behind_global,
                {NOT_RUN, "AddressSanitizer: heap-buffer-overflow", NOT_RUN}},
        {"write_behind_static_shared", NULL, fault_write_behind_static_shared,
                {NOT_RUN, "runtime error: index 256", NOT_RUN}},
        {"read_behind_dynamic_shared", NULL, fault_read_behind_dynamic_shared,
                {NOT_RUN, "AddressSanitizer: heap-buffer-overflow", NOT_RUN}},
        {"inner_index_of_shared", NULL, fault_inner_index_of_shared, {NOT_RUN, "runtime error: index 32", NOT_RUN}},
        {"divergent_barrier", NULL, fault_divergent_barrier, EVERY("divergent barrier: thread 0")},
        {"early_exit", NULL, fault_early_exit, EVERY("56 of 256 threads have exited while the others wait")},
        {"early_exit_reverse", "HD_EMU_ORDER=reverse", fault_early_exit, EVERY("56 of 256 threads have exited")},
        {"half_of_the_mask", NULL, fault_half_of_the_mask, EVERY("thread 16 exits while a warp shuffle")},
        {"half_of_the_mask_reverse", "HD_EMU_ORDER=reverse", fault_half_of_the_mask, EVERY("which have exited")},
        {"caller_outside_of_mask", NULL, fault_caller_outside_of_mask,
                EVERY("lane 16 is not in its own mask 0000ffff")},
        {"shuffle_from_outside", NULL, fault_shuffle_from_outside, EVERY("reads lane 20, which is not in the mask")},
        {"divergent_warp", NULL, fault_divergent_warp, EVERY("divergent warp: thread 1")},
        {"mask_of_missing_lanes", NULL, fault_mask_of_missing_lanes, EVERY("this warp of 24 threads does not have")},
        {"race_between_blocks", NULL, fault_race_between_blocks, {NOT_RUN, NOT_RUN, RACE}},
        {"race_between_blocks_with_barrier", NULL, fault_race_between_blocks_with_barrier, {NOT_RUN, NOT_RUN, RACE}},
        {"missing_fence", NULL, fault_missing_fence, {NOT_RUN, NOT_RUN, RACE}},
        {"race_of_atomic_and_store", NULL, fault_race_of_atomic_and_store, {NOT_RUN, NOT_RUN, RACE}},
        {"shared_read_before_written", NULL, shared_read_before_written, EVERY("number 0: got -nan")},
        {"misaligned_float4", NULL, fault_misaligned_float4, {NOT_RUN, "misaligned address", NOT_RUN}},
        {"host_pointer", NULL, fault_host_pointer, EVERY("the pointer argument 2 is")},
        {"use_after_free", NULL, use_after_free, EVERY("memory that has been freed")},
        {"use_after_free_in_the_queue", "HD_EMU_LAZY=1", use_after_free_in_the_queue,
                EVERY("memory that has been freed when its stream runs reverse")},
        {"pointer_behind_everything", NULL, pointer_into_the_middle, EVERY("the pointer argument 1 is")},
        {"too_much_static_shared", NULL, fault_too_much_static_shared,
                EVERY("declares 53248 bytes of static shared memory")},
        {"no_dynamic_shared", NULL, fault_no_dynamic_shared, EVERY("was launched with none")},
        {"more_shared_than_a_block_has", NULL, fault_more_shared_than_a_block_has,
                EVERY("16384 bytes of static and 40960 of dynamic shared memory")},
        {"waits_for_ever", NULL, fault_waits_for_ever, EVERY("deadlock in kernel waits_for_ever")},
        {"trap", NULL, fault_trap, EVERY("__trap")},
        /* reports name kernel, block and thread */
        {"report_names_thread", NULL, fault_divergent_barrier,
                EVERY("in kernel divergent_barrier (launched at tests/cuda_emu/tests/planted.cu:")},
        {"sanitizer_names_thread", NULL, fault_race_between_blocks,
                {NOT_RUN, NOT_RUN, "in kernel race_between_blocks"}},
        {"address_sanitizer_names_thread", NULL, fault_read_behind_global,
                {NOT_RUN, "in kernel read_behind_global", NOT_RUN}},
        {"undefined_names_thread", NULL, fault_misaligned_float4, {NOT_RUN, "in kernel misaligned_float4", NOT_RUN}},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
