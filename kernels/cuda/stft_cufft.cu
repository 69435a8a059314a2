/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power spectrogram by cuFFT, for lengths that are no power of two or do not fit into shared memory: batches of
 * windowed frames go through device memory. Plans and a buffer are kept; the caller lets in one thread at a time.
 */
#include "kernels/cuda/cufft.h"
#include "kernels/cuda/mel.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/stft.h"

/* Points of the frames of a batch: 64 MiB, and as much for the spectra. Tests take few. */
#ifndef HD_CUDA_STFT_BATCH
#define HD_CUDA_STFT_BATCH (1 << 24)
#endif

namespace
{

constexpr int THREADS = 256;
constexpr int KEPT = 4; /* plans */

struct plan {
	cufftHandle handle;
	int64_t n_fft, batch;
};

plan kept[KEPT];
int kept_count, kept_next;
float *buffer;
size_t buffer_bytes;
cudaEvent_t last_use; /* of the buffer */

/*
 * frames  out (batch,n_fft) float: frame from + i of all R*T times the window, 0 outside x and for frames past `count`
 * x       in  (R,n), window in (n_fft), both float
 *
 * Elementwise. 1 FLOP and about 8 bytes per element. Blocks of THREADS striding over the grid, no shared memory.
 * Goal: 70 % of the copy rate.
 */
__global__ void __launch_bounds__(THREADS)
        frames_kernel(float *__restrict__ frames, const float *__restrict__ x, const float *__restrict__ window,
                int64_t from, int64_t count, int64_t batch, int64_t n, int64_t T, int64_t n_fft, int64_t hop)
{
	int64_t threads = (int64_t)gridDim.x * THREADS;
	for (int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x; at < batch * n_fft; at += threads) {
		int64_t i = at / n_fft, j = at % n_fft, r = (from + i) / T, t = (from + i) % T;
		int64_t sample = t * hop - n_fft / 2 + j;
		frames[at] = i < count && sample >= 0 && sample < n ? window[j] * x[r * n + sample] : 0.0f;
	}
}

/*
 * power    out (values) float
 * spectra  in  (values) complex float
 *
 * scale2 * |spectra|^2, elementwise. 4 FLOP and 12 bytes per element. Blocks of THREADS striding over the grid, no
 * shared memory. Goal: 85 % of the copy rate.
 */
__global__ void __launch_bounds__(THREADS)
        power_kernel(float *__restrict__ power, const float2 *__restrict__ spectra, float scale2, int64_t values)
{
	int64_t threads = (int64_t)gridDim.x * THREADS;
	for (int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x; at < values; at += threads) {
		float2 v = spectra[at];
		power[at] = scale2 * (v.x * v.x + v.y * v.y);
	}
}

hd_status check(cufftResult result, const char *what)
{
	if (result == CUFFT_SUCCESS)
		return HD_OK;
	return hd_cuda_fail(
	        result == CUFFT_ALLOC_FAILED ? HD_E_MEMORY : HD_E_FAILED, "%s: cuFFT status %d", what, (int)result);
}

/* Frames of a batch: all, or as many as HD_CUDA_STFT_BATCH allows. */
int64_t batch_of(const hd_stft *job)
{
	int64_t total = job->R * job->T, most = HD_CUDA_STFT_BATCH / job->n_fft;
	return total < most ? total : most > 1 ? most : 1;
}

hd_status find_plan(cufftHandle *out, int64_t n_fft, int64_t batch)
{
	const hd_cufft *fft = hd_cuda_cufft();
	plan p = {0, n_fft, batch};
	int length = (int)n_fft;
	size_t work_bytes;
	for (int i = 0; i < kept_count; i++) {
		if (kept[i].n_fft == n_fft && kept[i].batch == batch) {
			*out = kept[i].handle;
			return HD_OK;
		}
	}
	hd_status st = check(fft->Create(&p.handle), "cufftCreate");
	if (st != HD_OK)
		return st;
	st = check(fft->MakePlanMany(p.handle, 1, &length, NULL, 1, 0, NULL, 1, 0, CUFFT_R2C, (int)batch, &work_bytes),
	        "cufftMakePlanMany");
	if (st != HD_OK) {
		fft->Destroy(p.handle);
		return st;
	}
	if (kept_count < KEPT) {
		kept[kept_count++] = p;
	} else {
		/* its work area may be in use */
		cudaDeviceSynchronize();
		fft->Destroy(kept[kept_next].handle);
		kept[kept_next] = p;
		kept_next = (kept_next + 1) % KEPT;
	}
	*out = p.handle;
	return HD_OK;
}

/* Makes the buffer large enough, and the stream wait for what another does with it. */
hd_status claim_buffer(size_t bytes, cudaStream_t stream)
{
	hd_status st = HD_OK;
	if (last_use)
		st = hd_cuda_check(cudaStreamWaitEvent(stream, last_use, 0), "stft: frames");
	else
		st = hd_cuda_check(cudaEventCreateWithFlags(&last_use, cudaEventDisableTiming), "stft: frames");
	if (st != HD_OK || bytes <= buffer_bytes)
		return st;
	cudaFree(buffer);
	buffer = NULL;
	buffer_bytes = 0;
	void *grown = NULL;
	st = hd_cuda_check(cudaMalloc(&grown, bytes), "stft: frames");
	if (st != HD_OK) {
		cudaGetLastError(); /* or the next launch finds this error */
		return st;
	}
	buffer = static_cast<float *>(grown);
	buffer_bytes = bytes;
	return HD_OK;
}

/* Frames from .. from + count - 1: windowed, transformed, powers, filters. */
hd_status run_batch(
        const hd_stft *job, cufftHandle handle, int64_t from, int64_t count, int64_t batch, cudaStream_t stream)
{
	const hd_cufft *fft = hd_cuda_cufft();
	int64_t F = job->n_fft / 2 + 1, points = batch * job->n_fft, values = count * F;
	float *frames = buffer;
	float2 *spectra = reinterpret_cast<float2 *>(buffer + points);
	/* the frames are used up by then, and F <= n_fft */
	float *power = job->db ? frames : job->power + from * F;
	frames_kernel<<<hd_cuda_blocks(points, THREADS, HD_CUDA_GRID_MAX), THREADS, 0, stream>>>(
	        frames, job->x, job->window, from, count, batch, job->n, job->T, job->n_fft, job->hop);
	hd_status st = HD_CUDA_LAUNCHED(stft);
	if (st == HD_OK)
		st = check(fft->ExecR2C(handle, frames, reinterpret_cast<cufftComplex *>(spectra)), "cufftExecR2C");
	if (st != HD_OK)
		return st;
	power_kernel<<<hd_cuda_blocks(values, THREADS, HD_CUDA_GRID_MAX), THREADS, 0, stream>>>(
	        power, spectra, job->scale * job->scale, values);
	st = HD_CUDA_LAUNCHED(stft);
	if (st != HD_OK || !job->db)
		return st;
	return hd_cuda_mel_frames(
	        job->db, power, job->first, job->offset, job->w, job->floor, from, count, job->T, F, job->M, stream);
}

} /* namespace */

bool hd_cuda_stft_cufft_ready(const hd_stft *job)
{
	cufftHandle handle;
	if (job->n_fft > INT32_MAX || !hd_cuda_cufft())
		return false;
	if (find_plan(&handle, job->n_fft, batch_of(job)) == HD_OK)
		return true;
	cudaGetLastError(); /* or the next launch finds this error */
	return false;
}

hd_status hd_cuda_stft_cufft(const hd_stft *job, cudaStream_t stream)
{
	int64_t total = job->R * job->T, F = job->n_fft / 2 + 1, batch = batch_of(job);
	cufftHandle handle;
	hd_status st = find_plan(&handle, job->n_fft, batch);
	if (st == HD_OK)
		st = check(hd_cuda_cufft()->SetStream(handle, stream), "cufftSetStream");
	if (st == HD_OK)
		st = claim_buffer(
		        (size_t)(batch * job->n_fft) * sizeof(float) + (size_t)(batch * F) * sizeof(float2), stream);
	for (int64_t from = 0; from < total && st == HD_OK; from += batch)
		st = run_batch(job, handle, from, total - from < batch ? total - from : batch, batch, stream);
	/* also after a failure, whose text stays: part of the work may be on its way */
	cudaError_t recorded = last_use ? cudaEventRecord(last_use, stream) : cudaSuccess;
	return st != HD_OK ? st : hd_cuda_check(recorded, "stft: frames");
}

void hd_cuda_stft_cufft_close(void)
{
	for (int i = 0; i < kept_count; i++)
		hd_cuda_cufft()->Destroy(kept[i].handle);
	cudaFree(buffer);
	buffer = NULL;
	buffer_bytes = 0;
	if (last_use)
		cudaEventDestroy(last_use);
	last_use = NULL;
	kept_count = kept_next = 0;
}
