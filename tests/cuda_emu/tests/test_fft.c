/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in for cuFFT against the sums that define the transform. */
#include "self.h"

#include <complex.h>
#include <cufft.h>

#define FFT_OK(call) CHECK_FFT(call, CUFFT_SUCCESS)
#define CHECK_FFT(call, wanted)                                                                                        \
	do {                                                                                                           \
		cufftResult got_ = (call);                                                                             \
		CHECK(got_ == (wanted), "got %d, wanted %s", (int)got_, #wanted);                                      \
	} while (0)

/* Frames of T samples, every HOP samples, as a spectrogram takes them; bins of a frame lie together. */
static void frames(void)
{
	enum { T = 30, HOP = 11, FRAMES = 4, BINS = T / 2 + 1, SAMPLES = HOP * (FRAMES - 1) + T };
	int n = T, in = SAMPLES, out = BINS;
	cufftHandle plan;
	size_t work;
	float *x = random_floats(SAMPLES);
	cufftComplex got[FRAMES * BINS];
	float *dx = to_device(x, SAMPLES * sizeof *x);
	cufftComplex *d = to_device(NULL, sizeof got);
	cudaStream_t stream = new_stream();
	FFT_OK(cufftCreate(&plan));
	FFT_OK(cufftMakePlanMany(plan, 1, &n, &in, 1, HOP, &out, 1, BINS, CUFFT_R2C, FRAMES, &work));
	FFT_OK(cufftSetStream(plan, stream));
	FFT_OK(cufftExecR2C(plan, dx, d));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	for (int f = 0; f < FRAMES; f++)
		for (int k = 0; k < BINS; k++) {
			double complex sum = 0;
			for (int t = 0; t < T; t++)
				sum += x[f * HOP + t] * cexp(-2 * M_PI * I * k * t / T);
			const cufftComplex *g = &got[f * BINS + k];
			CHECK(fabs(g->x - creal(sum)) < 1e-5 && fabs(g->y - cimag(sum)) < 1e-5, "frame %d, bin %d", f,
			        k);
		}
	FFT_OK(cufftDestroy(plan));
	CHECK_FFT(cufftExecR2C(plan, dx, d), CUFFT_INVALID_PLAN);
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(dx));
	CUDA_OK(cudaFree(d));
	free(x);
}

static void there_and_back(void)
{
	enum { H = 12, W = 10, B = 3, ALL = B * H * W, HALF = B * H * (W / 2 + 1) };
	int n[2] = {H, W};
	cufftHandle forward, inverse;
	float *x = random_floats(ALL), got[ALL];
	float *dx = to_device(x, sizeof got);
	cufftComplex *d = to_device(NULL, HALF * sizeof *d), consumed;
	cudaStream_t stream = new_stream();
	FFT_OK(cufftPlanMany(&forward, 2, n, NULL, 1, 0, NULL, 1, 0, CUFFT_R2C, B));
	FFT_OK(cufftPlanMany(&inverse, 2, n, NULL, 1, 0, NULL, 1, 0, CUFFT_C2R, B));
	FFT_OK(cufftSetStream(forward, stream));
	FFT_OK(cufftSetStream(inverse, stream));
	FFT_OK(cufftExecR2C(forward, dx, d));
	FFT_OK(cufftExecC2R(inverse, d, dx));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, dx, sizeof got);
	from_device(&consumed, d, sizeof consumed);
	for (int i = 0; i < ALL; i++)
		got[i] /= H * W;
	check_close(got, x, ALL, 1e-6, "there and back");
	CHECK(isnan(consumed.x), "the input of C2R is kept");
	CHECK_FFT(cufftExecC2R(forward, d, dx), CUFFT_INVALID_TYPE);
	FFT_OK(cufftDestroy(forward));
	FFT_OK(cufftDestroy(inverse));
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(dx));
	CUDA_OK(cudaFree(d));
	free(x);
}

static void complex_line(void)
{
	enum { N = 15 };
	cufftHandle plan;
	cufftComplex x[N], got[N];
	for (int i = 0; i < N; i++)
		x[i] = (cufftComplex){random_float(), random_float()};
	cufftComplex *d = to_device(x, sizeof x);
	cudaStream_t stream = new_stream();
	FFT_OK(cufftPlan1d(&plan, N, CUFFT_C2C, 1));
	FFT_OK(cufftSetStream(plan, stream));
	FFT_OK(cufftExecC2C(plan, d, d, CUFFT_INVERSE));
	CUDA_OK(cudaStreamSynchronize(stream));
	from_device(got, d, sizeof got);
	for (int k = 0; k < N; k++) {
		double complex sum = 0;
		for (int i = 0; i < N; i++)
			sum += (x[i].x + I * x[i].y) * cexp(2 * M_PI * I * k * i / N);
		CHECK(fabs(got[k].x - creal(sum)) < 1e-5 && fabs(got[k].y - cimag(sum)) < 1e-5, "bin %d", k);
	}
	FFT_OK(cufftDestroy(plan));
	CUDA_OK(cudaStreamDestroy(stream));
	CUDA_OK(cudaFree(d));
}

static void too_small(void)
{
	cufftHandle plan;
	float *in = to_device(NULL, 99 * sizeof *in);
	cufftComplex *out = to_device(NULL, 51 * sizeof *out);
	FFT_OK(cufftPlan1d(&plan, 100, CUFFT_R2C, 1));
	FFT_OK(cufftExecR2C(plan, in, out));
}

const test_case fft_cases[] = {
        {"fft_frames", NULL, frames, EVERY(PASSES)},
        {"fft_frames_lazy", "HD_EMU_LAZY=1 HD_EMU_LEAKS=1 HD_EMU_DEFAULT_STREAM=forbid", frames, EVERY(PASSES)},
        {"fft_there_and_back", NULL, there_and_back, EVERY(PASSES)},
        {"fft_complex", NULL, complex_line, EVERY(PASSES)},
        {"fft_too_small", NULL, too_small, EVERY("cufftExec, input: 400 bytes are needed and the allocation has 396")},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
