/* SPDX-License-Identifier: Apache-2.0 */
/* Correct kernels give correct results in every order of threads and blocks, and no sanitizer says anything. */
#include "kernels.h"
#include "self.h"

#include <stdint.h>

static void reverse(void)
{
	float *x = random_floats(BLOCK), wanted[BLOCK], got[BLOCK];
	for (int i = 0; i < BLOCK; i++)
		wanted[i] = x[BLOCK - 1 - i];
	float *d = to_device(x, sizeof got);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_reverse(d, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	check_close(got, wanted, BLOCK, 0, "reverse");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(d));
	free(x);
}

static void reductions(void)
{
	enum { ROWS = 7, LENGTH = 1000, ALL = ROWS * LENGTH };
	float *x = random_floats(ALL), wanted[ROWS] = {0}, got[ROWS], all = 0, got_all;
	for (int i = 0; i < ALL; i++) {
		wanted[i / LENGTH] += x[i];
		all += x[i];
	}
	float *dx = to_device(x, ALL * sizeof *x), *sums = to_device(NULL, sizeof got),
	      *total = to_device(NULL, sizeof all);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_row_sums(sums, dx, ROWS, LENGTH, stream));
	for (int i = 0; i < 2; i++)
		CUDA_OK(launch_total(total, dx, ALL, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, sums, sizeof got);
	from_device(&got_all, total, sizeof got_all);
	check_close(got, wanted, ROWS, 1e-4, "row sums");
	check_close(&got_all, &all, 1, 1e-3, "total");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(dx));
	CUDA_OK(cudaFree(sums));
	CUDA_OK(cudaFree(total));
	free(x);
}

static void atomics(void)
{
	enum { N = 1000, BINS = 10 };
	int values[N], wanted[BINS] = {0}, got[BINS] = {0};
	for (int i = 0; i < N; i++)
		wanted[values[i] = (i * 7) % BINS]++;
	int *counts = to_device(got, sizeof got), *dv = to_device(values, sizeof values);
	int out[7] = {0, -5, 5, 0, -1, 0, 0};
	float sum = 0;
	int *dout = to_device(out, sizeof out);
	float *dsum = to_device(&sum, sizeof sum);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_histogram(counts, dv, N, stream));
	CUDA_OK(launch_atomics(dout, dsum, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, counts, sizeof got);
	from_device(out, dout, sizeof out);
	from_device(&sum, dsum, sizeof sum);
	CHECK(!memcmp(got, wanted, sizeof got), "the histogram is wrong");
	CHECK(out[0] == 256 && out[1] == 255 && out[2] == -255 && out[3] >= 1 && out[3] <= 256 && out[4] == -2 &&
	                out[5] == 255 && out[6] == 0,
	        "got %d %d %d %d %d %d %d", out[0], out[1], out[2], out[3], out[4], out[5], out[6]);
	CHECK(sum == 128, "got %g", (double)sum);
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(counts));
	CUDA_OK(cudaFree(dv));
	CUDA_OK(cudaFree(dout));
	CUDA_OK(cudaFree(dsum));
}

static void forms(void)
{
	float got[64], wanted[64];
	for (int i = 0; i < 64; i++)
		wanted[i] = (float)(63 - i) + 1 + 4 + 1 + 5;
	wanted[0] += 42;
	float *d = to_device(NULL, sizeof got);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_forms(d, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	check_close(got, wanted, 64, 0, "forms");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(d));
}

static void warps(void)
{
	unsigned got[64], some[8];
	const unsigned wanted[8] = {1, 0, 0x22222222u, (unsigned)-496, 1, 1, 1, 50};
	unsigned *d = to_device(NULL, sizeof got), *e = to_device(NULL, sizeof some);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_masks(d, stream));
	CUDA_OK(launch_votes(e, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	from_device(some, e, sizeof some);
	CHECK(got[0] == 120 + 0xaaaaaaaau + 31 + 8, "lane 0: got %u", got[0]);
	CHECK(got[48] == 376 + 0xaaaaaaaau + 31 + 8, "lane 48: got %u", got[48]);
	for (int i = 0; i < 8; i++)
		CHECK(some[i] == wanted[i], "vote %d: got %u, wanted %u", i, some[i], wanted[i]);
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(d));
	CUDA_OK(cudaFree(e));
}

static void groups(void)
{
	float *x = random_floats(BLOCK), wanted[BLOCK / 8] = {0}, got[BLOCK / 8];
	for (int i = 0; i < BLOCK; i++)
		wanted[i / 8] += x[i];
	float *dx = to_device(x, BLOCK * sizeof *x), *d = to_device(NULL, sizeof got);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_groups(d, dx, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	check_close(got, wanted, BLOCK / 8, 1e-5, "sums of groups");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(dx));
	CUDA_OK(cudaFree(d));
	free(x);
}

static void numbers(void)
{
	enum { N = 19 };
	float got[N];
	float *d = to_device(NULL, sizeof got);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_numbers(d, N, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	for (int i = 0; i < N; i++)
		CHECK(got[i] == 1, "intrinsic %d", i);
	const float in[3] = {1.0009765625f, -3.5f, 65504.0f},
	            wanted[3] = {1.0009765625f * 2 + 2 + 3, -3.5f * 4 + 3, 65504.0f * 2 + 65536.0f * 2 + 3};
	float *din = to_device(in, sizeof in), half[3];
	CUDA_OK(launch_half(d, din, 3, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(half, d, sizeof half);
	check_close(half, wanted, 3, 1e-6, "half precision");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(d));
	CUDA_OK(cudaFree(din));
}

static void double_buffer(void)
{
	enum { N = 4 * 32 * 5 };
	float *x = random_floats(N), wanted[N], got[N];
	for (int i = 0; i < N; i++)
		wanted[i] = x[i / 128 * 128 + (31 - i % 128 / 4) * 4 + i % 4];
	float *dx = to_device(x, sizeof got), *d = to_device(NULL, sizeof got);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_double_buffer(d, dx, N, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	check_close(got, wanted, N, 0, "double buffer");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(dx));
	CUDA_OK(cudaFree(d));
	free(x);
}

/* Numbers that bf16 holds exactly. */
static uint16_t bf16(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return (uint16_t)(bits >> 16);
}

static void wmma(void)
{
	enum { M = 32, N = 16, K = 48 };
	float a[M][K], b[K][N], wanted[M * N], got[M * N];
	uint16_t ha[M][K], hb[K][N];
	for (int i = 0; i < M * K; i++)
		ha[i / K][i % K] = bf16(a[i / K][i % K] = (float)((i * 7) % 16 - 8));
	for (int i = 0; i < K * N; i++)
		hb[i / N][i % N] = bf16(b[i / N][i % N] = (float)((i * 5) % 8 - 3));
	for (int i = 0; i < M * N; i++) {
		wanted[i] = 0;
		for (int k = 0; k < K; k++)
			wanted[i] += a[i / N][k] * b[k][i % N] * 0.5f;
	}
	void *da = to_device(ha, sizeof ha), *db = to_device(hb, sizeof hb);
	float *d = to_device(NULL, sizeof got);
	cudaStream_t stream = new_stream();
	CUDA_OK(launch_wmma(d, da, db, M, N, K, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	check_close(got, wanted, M * N, 0, "wmma");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(da));
	CUDA_OK(cudaFree(db));
	CUDA_OK(cudaFree(d));
}

static void constants(void)
{
	enum { N = 500 };
	const float c[4] = {1, -2, 3, 0.5f};
	float *x = random_floats(N), wanted[N], got[N];
	for (int i = 0; i < N; i++)
		wanted[i] = ((c[3] * x[i] + c[2]) * x[i] + c[1]) * x[i] + c[0];
	float *dx = to_device(x, sizeof got), *d = to_device(NULL, sizeof got);
	cudaStream_t stream = new_stream();
	CUDA_OK(set_polynomial(c, stream));
	CUDA_OK(launch_polynomial(d, dx, N, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	check_close(got, wanted, N, 1e-6, "polynomial");
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(dx));
	CUDA_OK(cudaFree(d));
	free(x);
}

static void all(void)
{
	reverse();
	reductions();
	atomics();
	forms();
	warps();
	groups();
	numbers();
	double_buffer();
	wmma();
	constants();
}

const test_case kernel_cases[] = {
        {"kernels_forward", "HD_EMU_LEAKS=1 HD_EMU_DEFAULT_STREAM=forbid", all, EVERY(PASSES)},
        {"kernels_reverse", "HD_EMU_ORDER=reverse", all, EVERY(PASSES)},
        {"kernels_random", "HD_EMU_ORDER=random:7", all, EVERY(PASSES)},
        {"kernels_random_again", "HD_EMU_ORDER=random:8 HD_EMU_LAZY=1", all, EVERY(PASSES)},
        {"kernels_lazy", "HD_EMU_LAZY=1", all, EVERY(PASSES)},
        {"kernels_poisoned", "HD_EMU_POISON=1", all, {NOT_RUN, PASSES, NOT_RUN}},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
