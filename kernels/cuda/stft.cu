/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power spectrogram, and fused with the mel filters: the transform of a frame stays in shared memory.
 *
 * A real frame of n_fft points is taken as n_fft/2 complex ones, transformed by Stockham's autosort passes between two
 * halves of shared memory and unpacked. Passes have radix 4 and, once, 2; any other factor of n_fft/2 is a pass that
 * sums its terms one by one, which is right but slow: cuFFT takes those lengths where it is there.
 * Sources: Swarztrauber, "FFT algorithms for vector computers", Parallel Computing 1 (1984); Van Loan, "Computational
 * frameworks for the fast Fourier transform" (1992), sections 1.7 and 4.3.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/stft.h"

namespace
{

constexpr int THREADS = 256;
constexpr int FRAMES = 8; /* frames of a block with mel filters: 32 bytes of a row of db */
constexpr int MAX_PASSES = 16;
constexpr int MAX_LENGTH = 8192; /* complex points: both halves within 128 KB */
constexpr int KEPT = 8;          /* transform lengths whose tables are kept */
constexpr double PI = 3.14159265358979323846;

/*
 * Transform of `length` complex points. table (device): length-1 twiddles of the passes, where pass q of radix r over
 * blocks of s points has exp(-2 pi i j k / (r s)) at s-1 + (j-1) s + k; length/2+1 of the unpacking,
 * exp(-2 pi i k / n_fft); and the circle exp(-2 pi i k / length), k < length. The radices follow in the same memory.
 */
struct transform {
	int length;
	int passes;
	const int *radix; /* (passes), device */
	const float2 *table;
};

/* What a launch needs. */
struct arguments {
	float *out; /* power (R,T,F), or db (R,M,T) */
	const float *x, *window;
	const int32_t *first, *offset;
	const float *w;
	float scale2, floor;
	int64_t n, hop;
	int T, M;
	int frames;  /* of a block; a multiple of those at once */
	int threads; /* of a frame, a power of two */
};

__device__ float2 product(float2 a, float2 b)
{
	return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

__device__ float2 sum(float2 a, float2 b)
{
	return make_float2(a.x + b.x, a.y + b.y);
}

__device__ float2 difference(float2 a, float2 b)
{
	return make_float2(a.x - b.x, a.y - b.y);
}

/*
 * Where complex point i lies in its half of shared memory. Writes of a pass of radix 4 over blocks of 1 or 4 points go
 * in strides of 4 or 16, whose bank conflicts this permutation of each 16 points undoes; reads stay without any.
 */
__device__ __forceinline__ int place(int i)
{
	return i ^ (((i >> 4) & 3) * 5);
}

/* Points of a half: whole 16s, which place() permutes. */
__host__ __device__ constexpr int half_points(int length)
{
	return (length + 15) / 16 * 16;
}

/* Butterflies of radix 4 over blocks of `block` points, a power of two. */
__device__ __forceinline__ void pass_4(
        float2 *to, const float2 *from, const float2 *twiddle, int length, int block, int lane, int threads)
{
	int quarter = length / 4;
	for (int j = lane; j < quarter; j += threads) {
		int k = j & (block - 1), at = (j - k) * 4 + k;
		float2 a = from[place(j)];
		float2 b = product(from[place(j + quarter)], twiddle[k]);
		float2 c = product(from[place(j + 2 * quarter)], twiddle[block + k]);
		float2 d = product(from[place(j + 3 * quarter)], twiddle[2 * block + k]);
		float2 even = sum(a, c), odd = difference(a, c), plus = sum(b, d), minus = difference(b, d);
		to[place(at)] = sum(even, plus);
		to[place(at + block)] = make_float2(odd.x + minus.y, odd.y - minus.x);
		to[place(at + 2 * block)] = difference(even, plus);
		to[place(at + 3 * block)] = make_float2(odd.x - minus.y, odd.y + minus.x);
	}
}

__device__ __forceinline__ void pass_2(
        float2 *to, const float2 *from, const float2 *twiddle, int length, int block, int lane, int threads)
{
	int half = length / 2;
	for (int j = lane; j < half; j += threads) {
		int k = j & (block - 1), at = (j - k) * 2 + k;
		float2 a = from[place(j)], b = product(from[place(j + half)], twiddle[k]);
		to[place(at)] = sum(a, b);
		to[place(at + block)] = difference(a, b);
	}
}

/* Any radix and block: a thread sums the terms of one output. */
__device__ __forceinline__ void pass_any(
        float2 *to, const float2 *from, const float2 *circle, int length, int radix, int block, int lane, int threads)
{
	int span = block * radix, part = length / radix, step = length / span;
	for (int at = lane; at < length; at += threads) {
		int turn = at % span, j = at / span * block + turn % block, angle = 0;
		float2 total = from[place(j)];
		for (int q = 1; q < radix; q++) {
			angle += turn;
			angle -= angle >= span ? span : 0;
			total = sum(total, product(from[place(j + q * part)], circle[angle * step]));
		}
		to[place(at)] = total;
	}
}

/*
 * All passes over one frame, ODD ones only where the length has such factors; returns the half that holds the result.
 * All threads of the block take part.
 */
template <bool ODD>
__device__ __forceinline__ float2 *run_passes(float2 *from, float2 *to, transform f, int lane, int threads)
{
	int block = 1;
	for (int pass = 0; pass < f.passes; pass++) {
		int radix = f.radix[pass];
		const float2 *twiddle = f.table + block - 1;
		if (ODD && radix % 2 != 0)
			pass_any(to, from, f.table + f.length - 1 + f.length / 2 + 1, f.length, radix, block, lane,
			        threads);
		else if (radix == 4)
			pass_4(to, from, twiddle, f.length, block, lane, threads);
		else
			pass_2(to, from, twiddle, f.length, block, lane, threads);
		__syncthreads();
		float2 *other = from;
		from = to;
		to = other;
		block *= radix;
	}
	return from;
}

/* Samples of frame t times the window: real ones in order are the complex points already. */
__device__ __forceinline__ void load_frame(float *to, const arguments &a, const float *x, int t, int n_fft, int lane)
{
	int64_t start = t * a.hop - n_fft / 2;
	for (int i = lane; i < n_fft; i += a.threads) {
		int64_t at = start + i;
		to[2 * place(i / 2) + i % 2] = t < a.T && at >= 0 && at < a.n ? a.window[i] * x[at] : 0.0f;
	}
}

/* power (length+1) of the real transform whose half-length one is z. */
__device__ __forceinline__ void unpack(float *power, const float2 *z, transform f, float scale2, int lane, int threads)
{
	const float2 *twiddle = f.table + f.length - 1;
	for (int k = lane; k <= f.length / 2; k += threads) {
		float2 a = z[place(k)], b = z[place(k == 0 ? 0 : f.length - k)];
		float2 even = make_float2(0.5f * (a.x + b.x), 0.5f * (a.y - b.y));
		float2 odd = product(make_float2(0.5f * (a.y + b.y), 0.5f * (b.x - a.x)), twiddle[k]);
		float2 low = sum(even, odd), high = difference(even, odd);
		power[k] = scale2 * (low.x * low.x + low.y * low.y);
		if (k != f.length - k)
			power[f.length - k] = scale2 * (high.x * high.x + high.y * high.y);
	}
}

/* Filters and decibels of the block's frames, whose spectra (frames,bins) lie in shared memory. */
__device__ __forceinline__ void filter_frames(const arguments &a, const float *spectra, int r, int t0, int bins)
{
	for (int i = (int)threadIdx.x; i < a.M * a.frames; i += THREADS) {
		int m = i / a.frames, s = i % a.frames, begin = a.offset[m], length = a.offset[m + 1] - begin;
		const float *power = spectra + s * bins + a.first[m];
		float total = 0;
		for (int k = 0; k < length; k++)
			total += a.w[begin + k] * power[k];
		if (t0 + s < a.T)
			a.out[((size_t)r * a.M + m) * a.T + t0 + s] = 10.0f * log10f(total + a.floor);
	}
}

/*
 * out  out power (R,T,F) or, with MEL, db (R,M,T); float
 * x    in  (R,n), window in (n_fft), both float; first, offset, w: the filters of kernels.def, read with MEL only
 * f    in  the transform, its table in device memory
 *
 * A block takes `frames` neighbouring frames of one recording, THREADS/threads at once. All sums run in an order that
 * the sizes fix. Error of a bin: 1.5 roundings per radix-2 level and three of window and unpacking. FLOPs per frame:
 * 2.5 n_fft log2(n_fft) + n_fft + 4 F, with MEL 2 per weight and a logarithm per filter; bytes: 4 hop (the overlap of
 * frames comes from the caches) and 4 F or 4 M. Dynamic shared memory: 8 n_fft bytes for each frame at once, with MEL
 * 4 F for each frame of the block. Barriers are met by all threads, also those of frames past the end.
 * Limits: n_fft <= 16384, R*T/frames < 2^31. Goal: with MEL 30 % of the copy rate, else 60 %.
 */
template <bool MEL, bool ODD> __global__ void __launch_bounds__(THREADS, 4) stft_kernel(arguments a, transform f)
{
	extern __shared__ float2 shared[];
	int group = (int)threadIdx.x / a.threads, lane = (int)threadIdx.x % a.threads, groups = THREADS / a.threads;
	int tiles = (a.T + a.frames - 1) / a.frames, bins = f.length + 1;
	int r = (int)blockIdx.x / tiles, t0 = (int)blockIdx.x % tiles * a.frames;
	const float *x = a.x + r * a.n;
	float2 *z = shared + (size_t)group * 2 * half_points(f.length);
	float *spectra = reinterpret_cast<float *>(shared + (size_t)groups * 2 * half_points(f.length));
	for (int s = group; s < a.frames; s += groups) {
		load_frame(reinterpret_cast<float *>(z), a, x, t0 + s, 2 * f.length, lane);
		__syncthreads();
		float2 *result = run_passes<ODD>(z, z + half_points(f.length), f, lane, a.threads);
		float *power = MEL ? spectra + s * bins : a.out + ((size_t)r * a.T + t0 + s) * bins;
		if (MEL || t0 + s < a.T)
			unpack(power, result, f, a.scale2, lane, a.threads);
		__syncthreads();
	}
	if (MEL)
		filter_frames(a, spectra, r, t0, bins);
}

/* Of what is kept, here and by cuFFT: streams may belong to different threads. */
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

transform kept[KEPT];
int kept_count, kept_next;

/* Factors of length into radix (MAX_PASSES): 4 as often as it goes, then 2, then the odd ones. Returns how many. */
int factor(int *radix, int length)
{
	int passes = 0;
	for (; length % 4 == 0; length /= 4)
		radix[passes++] = 4;
	for (int p = 2; length > 1; p++) {
		for (; length % p == 0; length /= p)
			radix[passes++] = p;
	}
	return passes;
}

float2 unit(int64_t k, int64_t of)
{
	double angle = -2 * PI * (double)k / (double)of;
	return make_float2((float)cos(angle), (float)sin(angle));
}

size_t table_entries(int length)
{
	return (size_t)(length - 1) + (size_t)(length / 2 + 1) + (size_t)length;
}

void fill_table(float2 *table, int length, const int *radix, int passes)
{
	int block = 1;
	for (int pass = 0; pass < passes; pass++) {
		for (int j = 1; j < radix[pass]; j++)
			for (int k = 0; k < block; k++)
				*table++ = unit((int64_t)j * k, (int64_t)radix[pass] * block);
		block *= radix[pass];
	}
	for (int k = 0; k <= length / 2; k++)
		*table++ = unit(k, 2 * length);
	for (int k = 0; k < length; k++)
		*table++ = unit(k, length);
}

/* Tables of a transform to the device, in one allocation that begins at f->table. */
hd_status make_transform(transform *f, int length, cudaStream_t stream)
{
	int radix[MAX_PASSES] = {0};
	size_t table_bytes = table_entries(length) * sizeof(float2), bytes = table_bytes + sizeof radix;
	char *image = static_cast<char *>(malloc(bytes));
	void *device = NULL;
	if (!image)
		return hd_cuda_fail(HD_E_MEMORY, "out of memory for the tables of an FFT of %d points", 2 * length);
	f->length = length;
	f->passes = factor(radix, length);
	fill_table(reinterpret_cast<float2 *>(image), length, radix, f->passes);
	memcpy(image + table_bytes, radix, sizeof radix);
	hd_status st = hd_cuda_check(cudaMalloc(&device, bytes), "stft: tables");
	if (st == HD_OK)
		st = hd_cuda_check(
		        cudaMemcpyAsync(device, image, bytes, cudaMemcpyHostToDevice, stream), "stft: tables");
	if (st == HD_OK)
		st = hd_cuda_check(cudaStreamSynchronize(stream), "stft: tables");
	free(image);
	if (st != HD_OK) {
		cudaFree(device);
		cudaGetLastError(); /* or the next launch finds this error */
		return st;
	}
	f->table = static_cast<const float2 *>(device);
	f->radix = reinterpret_cast<const int *>(static_cast<const char *>(device) + table_bytes);
	return HD_OK;
}

/* The transform of n_fft points. The first use of a length allocates and waits, so it must not be in a graph capture.
 */
hd_status find_transform(transform *out, int64_t n_fft, cudaStream_t stream)
{
	for (int i = 0; i < kept_count; i++) {
		if (kept[i].length == n_fft / 2) {
			*out = kept[i];
			return HD_OK;
		}
	}
	hd_status st = make_transform(out, (int)(n_fft / 2), stream);
	if (st != HD_OK)
		return st;
	if (kept_count < KEPT) {
		kept[kept_count++] = *out;
	} else {
		cudaFree(const_cast<float2 *>(kept[kept_next].table)); /* which waits for what still reads it */
		kept[kept_next] = *out;
		kept_next = (kept_next + 1) % KEPT;
	}
	return HD_OK;
}

/* Threads of a frame: one per butterfly of radix 4, whole warps. */
int frame_threads(int length)
{
	int threads = HD_WARP;
	while (threads < THREADS && threads * 4 < length)
		threads *= 2;
	return threads;
}

size_t shared_bytes(int length, int threads, int frames, bool mel)
{
	return (size_t)(THREADS / threads) * 2 * (size_t)half_points(length) * sizeof(float2) +
	       (mel ? (size_t)frames * (size_t)(length + 1) * sizeof(float) : 0);
}

/* Fewer frames per block until their spectra fit; 0 where not even those at once do. */
int block_frames(int length, int threads, bool mel)
{
	int at_once = THREADS / threads, frames = mel && FRAMES > at_once ? FRAMES : at_once;
	while (frames > at_once && shared_bytes(length, threads, frames, mel) > hd_cuda_device.sharedMemPerBlockOptin)
		frames /= 2;
	return shared_bytes(length, threads, frames, mel) <= hd_cuda_device.sharedMemPerBlockOptin ? frames : 0;
}

template <bool MEL, bool ODD> hd_status launch(const arguments &a, const transform &f, int64_t R, cudaStream_t stream)
{
	constexpr size_t ALWAYS = 48 << 10; /* what a launch may have without asking */
	size_t bytes = shared_bytes(f.length, a.threads, a.frames, MEL);
	int64_t blocks = R * hd_divide_up(a.T, a.frames);
	if (blocks > INT32_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "stft: %ld blocks of frames at once are too many", (long)blocks);
	if (bytes > ALWAYS) {
		hd_status st = hd_cuda_check(cudaFuncSetAttribute(stft_kernel<MEL, ODD>,
		                                     cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
		        "stft: shared memory");
		if (st != HD_OK)
			return st;
	}
	stft_kernel<MEL, ODD><<<(unsigned)blocks, THREADS, bytes, stream>>>(a, f);
	return HD_CUDA_LAUNCHED(stft);
}

/* By the own transform where the length suits it or nothing else is there. */
hd_status run_locked(const hd_stft *job, arguments a, cudaStream_t stream)
{
	int64_t length = job->n_fft / 2;
	bool mel = job->db != NULL, power_of_two = (length & (length - 1)) == 0;
	transform f = {};
	if (length <= MAX_LENGTH) {
		a.threads = frame_threads((int)length);
		a.frames = block_frames((int)length, a.threads, mel);
	}
	if ((a.frames == 0 || !power_of_two) && hd_cuda_stft_cufft_ready(job))
		return hd_cuda_stft_cufft(job, stream);
	if (a.frames == 0)
		return hd_cuda_fail(HD_E_UNSUPPORTED,
		        "stft: n_fft %ld needs cuFFT, which is missing or refuses it; take n_fft up to %d",
		        (long)job->n_fft, 2 * MAX_LENGTH);
	hd_status st = find_transform(&f, job->n_fft, stream);
	if (st != HD_OK)
		return st;
	if (power_of_two)
		return mel ? launch<true, false>(a, f, job->R, stream) : launch<false, false>(a, f, job->R, stream);
	return mel ? launch<true, true>(a, f, job->R, stream) : launch<false, true>(a, f, job->R, stream);
}

hd_status run(const hd_stft *job, hd_stream *stream)
{
	bool mel = job->db != NULL;
	if (job->R * job->T == 0 || (mel && job->M == 0))
		return HD_OK;
	if (job->n_fft < 2 || job->n_fft % 2 != 0 || job->T > INT32_MAX || job->M > INT32_MAX / THREADS)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "stft: n_fft %ld, %ld frames, %ld filters: n_fft must be even",
		        (long)job->n_fft, (long)job->T, (long)job->M);
	arguments a = {mel ? job->db : job->power, job->x, job->window, job->first, job->offset, job->w,
	        job->scale * job->scale, job->floor, job->n, job->hop, (int)job->T, (int)job->M, 0, 0};
	pthread_mutex_lock(&lock);
	hd_status st = run_locked(job, a, hd_cuda_stream(stream));
	pthread_mutex_unlock(&lock);
	return st;
}

} /* namespace */

hd_status hd_cuda_stft_power(float *power, const float *x, const float *window, float scale, int64_t R, int64_t n,
        int64_t T, int64_t n_fft, int64_t hop, hd_stream *stream)
{
	hd_stft job = {power, NULL, x, window, NULL, NULL, NULL, scale, 0, R, n, T, n_fft, hop, 0};
	return run(&job, stream);
}

hd_status hd_cuda_stft_mel_db(float *db, const float *x, const float *window, float scale, const int32_t *first,
        const int32_t *offset, const float *w, float floor, int64_t R, int64_t n, int64_t T, int64_t n_fft, int64_t hop,
        int64_t M, hd_stream *stream)
{
	hd_stft job = {NULL, db, x, window, first, offset, w, scale, floor, R, n, T, n_fft, hop, M};
	return run(&job, stream);
}

void hd_cuda_stft_close(void)
{
	pthread_mutex_lock(&lock);
	hd_cuda_stft_cufft_close();
	for (int i = 0; i < kept_count; i++)
		cudaFree(const_cast<float2 *>(kept[i].table));
	kept_count = kept_next = 0;
	pthread_mutex_unlock(&lock);
}
