/* SPDX-License-Identifier: Apache-2.0 */
/* Device and pinned memory: limits, injected failures, checks of pointers and copies. */
#include "kernels.h"
#include "self.h"

static void allocation(void)
{
	size_t before, after, total;
	void *a, *b, *nothing = &a;
	CUDA_OK(cudaMemGetInfo(&before, &total));
	CHECK(total == (size_t)8 << 20 && before == total, "free %zu of %zu", before, total);
	CUDA_OK(cudaMalloc(&a, 1000));
	CHECK((size_t)a % 256 == 0, "%p is not aligned", a);
	CUDA_OK(cudaMemGetInfo(&after, &total));
	CHECK(before - after == 1024, "%zu bytes are accounted for", before - after);
	CHECK_CUDA(cudaMalloc(&b, (size_t)8 << 20), cudaErrorMemoryAllocation);
	CHECK(!b, "a pointer where there is no memory");
	CHECK_CUDA(cudaGetLastError(), cudaErrorMemoryAllocation);
	CUDA_OK(cudaGetLastError());
	CUDA_OK(cudaMalloc(&b, ((size_t)8 << 20) - 1024));
	CUDA_OK(cudaFree(a));
	CUDA_OK(cudaFree(b));
	CUDA_OK(cudaFree(NULL));
	CHECK_CUDA(cudaFree(b), cudaErrorInvalidValue);
	CUDA_OK(cudaMalloc(&nothing, 0));
	CHECK(!nothing, "memory of no bytes");
	CUDA_OK(cudaMallocHost(&a, 100));
	CHECK_CUDA(cudaFree(a), cudaErrorInvalidValue);
	CUDA_OK(cudaFreeHost(a));
	CUDA_OK(cudaMemGetInfo(&after, &total));
	CHECK(after == before, "%zu bytes are lost", before - after);
}

/* What a program does that has to clean up after every failure. */
static cudaError_t make_everything(void)
{
	void *device = NULL, *pinned = NULL;
	cudaStream_t stream = NULL;
	cudaEvent_t event = NULL;
	cudaError_t error = cudaMalloc(&device, 100);
	if (!error)
		error = cudaMallocHost(&pinned, 100);
	if (!error)
		error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	if (!error)
		error = cudaEventCreate(&event);
	if (event)
		cudaEventDestroy(event);
	if (stream)
		cudaStreamDestroy(stream);
	cudaFreeHost(pinned);
	cudaFree(device);
	return error;
}

static void third_fails(void)
{
	CHECK_CUDA(make_everything(), cudaErrorMemoryAllocation);
	CUDA_OK(make_everything());
}

static void leaks(void)
{
	void *memory;
	CUDA_OK(cudaMalloc(&memory, 12345));
	new_stream();
}

static void fresh_memory_is_nan(void)
{
	float got[16];
	float *d = to_device(NULL, sizeof got);
	from_device(got, d, sizeof got);
	for (int i = 0; i < 16; i++)
		CHECK(isnan(got[i]), "number %d: %g", i, (double)got[i]);
	CUDA_OK(cudaMemset(d, 0, sizeof got));
	from_device(got, d, sizeof got);
	CHECK(got[15] == 0, "not cleared: %g", (double)got[15]);
}

static void strided_copies(void)
{
	float from[4][6], to[4][5] = {{0}};
	for (int i = 0; i < 24; i++)
		from[i / 6][i % 6] = (float)i;
	float *d = to_device(NULL, 4 * 8 * sizeof *d);
	CUDA_OK(cudaMemcpy2D(d, 8 * sizeof *d, from, sizeof *from, 3 * sizeof *d, 4, cudaMemcpyHostToDevice));
	CUDA_OK(cudaMemcpy2D(to, sizeof *to, d, 8 * sizeof *d, 3 * sizeof *d, 4, cudaMemcpyDeviceToHost));
	for (int r = 0; r < 4; r++)
		CHECK(to[r][0] == from[r][0] && to[r][2] == from[r][2] && to[r][3] == 0, "row %d", r);
	CHECK_CUDA(cudaMemcpy2D(d, 4, from, sizeof *from, 3 * sizeof *d, 4, cudaMemcpyHostToDevice),
	        cudaErrorInvalidPitchValue);
}

static void attributes(void)
{
	struct cudaPointerAttributes got;
	int on_stack;
	void *device = to_device(NULL, 100), *pinned;
	CUDA_OK(cudaMallocHost(&pinned, 100));
	CUDA_OK(cudaPointerGetAttributes(&got, (char *)device + 50));
	CHECK(got.type == cudaMemoryTypeDevice, "type %d", (int)got.type);
	CUDA_OK(cudaPointerGetAttributes(&got, pinned));
	CHECK(got.type == cudaMemoryTypeHost, "type %d", (int)got.type);
	CUDA_OK(cudaPointerGetAttributes(&got, &on_stack));
	CHECK(got.type == cudaMemoryTypeUnregistered, "type %d", (int)got.type);
	CUDA_OK(cudaHostRegister(&on_stack, sizeof on_stack, cudaHostRegisterDefault));
	CUDA_OK(cudaPointerGetAttributes(&got, &on_stack));
	CHECK(got.type == cudaMemoryTypeHost, "type %d", (int)got.type);
	CUDA_OK(cudaHostUnregister(&on_stack));
}

static float somewhere[64];

static void host_as_device(void)
{
	CUDA_OK(cudaMemcpy(somewhere, somewhere, sizeof somewhere, cudaMemcpyHostToDevice));
}

static void device_as_host(void)
{
	float *d = to_device(NULL, sizeof somewhere);
	CUDA_OK(cudaMemcpy(d, d, sizeof somewhere, cudaMemcpyHostToDevice));
}

static void copy_too_long(void)
{
	float *d = to_device(NULL, sizeof somewhere / 2);
	CUDA_OK(cudaMemcpy(d, somewhere, sizeof somewhere, cudaMemcpyHostToDevice));
}

static void fill_too_long(void)
{
	float *d = to_device(NULL, 100);
	CUDA_OK(cudaMemset(d, 0, 101));
}

static void host_writes_behind(void)
{
	char *pinned;
	CUDA_OK(cudaMallocHost((void **)&pinned, 100));
	pinned[100] = 1;
	CUDA_OK(cudaFreeHost(pinned));
}

static void host_reads_device(void)
{
	volatile float *d = to_device(NULL, 100);
	CHECK(d[0] == 0, "read");
}

static void default_stream(void)
{
	float *d = to_device(NULL, 100);
	CUDA_OK(cudaMemset(d, 0, 100));
}

static void bad_setting(void)
{
}

const test_case memory_cases[] = {
        {"allocation", "HD_EMU_MEMORY_MB=8", allocation, EVERY(PASSES)},
        {"third_request_fails", "HD_EMU_FAIL_AT=3 HD_EMU_LEAKS=1", third_fails, EVERY(PASSES)},
        {"leaks", "HD_EMU_LEAKS=1", leaks, EVERY("2 things of the device were never freed")},
        {"fresh_memory_is_nan", NULL, fresh_memory_is_nan, EVERY(PASSES)},
        {"strided_copies", NULL, strided_copies, EVERY(PASSES)},
        {"pointer_attributes", NULL, attributes, EVERY(PASSES)},
        {"host_as_device", NULL, host_as_device, EVERY("is not device memory but host memory")},
        {"device_as_host", NULL, device_as_host, EVERY("is device memory, and the kind of the copy says host")},
        {"copy_too_long", NULL, copy_too_long, EVERY("256 bytes are needed and the allocation has 128 left")},
        {"fill_too_long", NULL, fill_too_long, EVERY("101 bytes are needed and the allocation has 100 left")},
        {"host_writes_behind", NULL, host_writes_behind,
                {"something was written behind", "AddressSanitizer: heap-buffer-overflow",
                        "something was written behind"}},
        {"host_reads_device", "HD_EMU_POISON=1", host_reads_device,
                {NOT_RUN, "AddressSanitizer: use-after-poison", NOT_RUN}},
        {"default_stream_forbidden", "HD_EMU_DEFAULT_STREAM=forbid", default_stream, EVERY("on the default stream")},
        {"setting_with_a_mistake", "HD_EMU_ORDER=random", bad_setting, EVERY("expected forward, reverse or random:N")},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
