/* SPDX-License-Identifier: Apache-2.0 */
/* Cached half-precision features to a normalised NHWC batch, with the random changes of training. */
#include <cuda_fp16.h>

#include "kernels/cuda/reduce.cuh"
#include "kernels/philox.h"

namespace
{

constexpr int THREADS = 256;
constexpr int WORDS = 4;           /* random words of a draw, and values that share it */
constexpr int EACH = 8;            /* values of a thread */
constexpr int MAX_CHANNELS = 2048; /* their table stays within the shared memory that every launch may have */
constexpr double VARIANCE_EPS = 1e-8;
constexpr double TWO_PI = 6.283185307179586;
constexpr float DB_LOG = 0.23025850929940457f; /* natural logarithm of 10 to the tenth: dB to nepers of power */

struct batch {
	const uint16_t *db;
	const int32_t *index, *start, *sample;
	const float *mean, *rstd, *silence, *offset;
	const hd_rng_key *key; /* NULL: no random changes */
	hd_augment augment;
	int C, M, T, W;
};

/* What the values of one channel of a row share. */
struct channel {
	float log_gain, gain; /* of the power above silence; log_gain 0: none */
	float mean, rstd;     /* where the row is normalised by its own */
	int silent;
};

/* Words below it are a share of all. */
__device__ uint64_t threshold(float share)
{
	return (uint64_t)((double)share * 0x1p32);
}

__device__ void draw(uint32_t words[WORDS], const batch &b, uint32_t counter, uint32_t sample, uint32_t stream)
{
	uint32_t at[4] = {counter, sample, b.key->epoch, stream}, seed[2] = {b.key->seed_lo, b.key->seed_hi};
	hd_philox(words, at, seed);
}

/* Mean and 1/sqrt(variance + eps) of an (M,W) window of rows T long, by one warp; every lane gets them. */
__device__ void window_statistics(const uint16_t *db, const batch &b, int lane, float *mean, float *rstd)
{
	double sum = 0, squares = 0, count = (double)b.M * b.W;
	for (int m = 0; m < b.M; m++)
		for (int t = lane; t < b.W; t += HD_WARP)
			sum += (double)__half2float(__ushort_as_half(db[(size_t)m * b.T + t]));
	double mu = hd_warp_sum<double>(sum) / count;
	for (int m = 0; m < b.M; m++) {
		for (int t = lane; t < b.W; t += HD_WARP) {
			double d = (double)__half2float(__ushort_as_half(db[(size_t)m * b.T + t])) - mu;
			squares += d * d;
		}
	}
	*mean = (float)mu;
	*rstd = (float)(1 / sqrt(hd_warp_sum<double>(squares) / count + VARIANCE_EPS));
}

__device__ channel describe_channel(const batch &b, int c, float share, uint32_t sample)
{
	channel out = {0, 1, 0, 0, 0};
	float level = b.offset ? -b.offset[c] : 0.0f;
	if (b.key) {
		uint32_t words[WORDS];
		draw(words, b, (uint32_t)c, sample, HD_AUGMENT_CHANNEL);
		out.silent = words[0] < threshold(share);
		if (b.augment.level_jitter > 0) {
			double u1 = ((double)words[1] + 1) * 0x1p-32, u2 = (double)words[2] * 0x1p-32;
			level += (float)((double)b.augment.level_jitter * sqrt(-2 * log(u1)) * cos(TWO_PI * u2));
		}
	}
	out.log_gain = level * DB_LOG;
	out.gain = expf(out.log_gain);
	return out;
}

/* A level after the gain e^log_gain on its power above that of silence. Both forms add positive terms only. */
__device__ float move_level(float v, float quiet, const channel &ch)
{
	float t = expf(fminf(0.0f, (quiet - v) * DB_LOG));
	float moved = ch.log_gain < 0 ? ch.gain + (1 - ch.gain) * t : 1 + (ch.gain - 1) * (1 - t);
	return v + logf(moved) * (1 / DB_LOG);
}

/* Value e = (m*W + t)*C + c of a row whose window begins at db. */
__device__ float value_of(const batch &b, const uint16_t *db, const channel *channels, unsigned e, float factor)
{
	unsigned c = e % (unsigned)b.C, t = e / (unsigned)b.C % (unsigned)b.W, m = e / (unsigned)b.C / (unsigned)b.W;
	const channel &ch = channels[c];
	float v = __half2float(__ushort_as_half(db[((size_t)c * b.M + m) * b.T + t])), quiet = b.silence[m];
	if (ch.silent)
		v = quiet;
	else if (ch.log_gain != 0)
		v = move_level(v, quiet, ch);
	return b.mean ? (v - b.mean[m]) * (b.rstd[m] * factor) : (v - ch.mean) * (ch.rstd * factor);
}

/*
 * out  out (N,M,W,C) of T; WIDE: 16-byte aligned in every row
 * b    in  the operation's inputs, device memory but for b.augment; see kernels.def
 *
 * Block (x, n) makes the values from x * THREADS*EACH of row n on. It first describes all channels, in shared
 * memory: their draws and, where the row is normalised by its own statistics, those, one warp per channel, in double
 * and in a fixed order. Then each thread takes 16 bytes of neighbouring values at a time, WORDS of which share a draw.
 * The bits depend on neither grid nor block, and but for the last rounding not on T. Without random changes 2 FLOP per
 * value, with them about 150 integer operations per WORDS values and two transcendentals per value; 2 + sizeof(T) bytes
 * per value, 2 more from the L2 cache per block for the statistics. Dynamic shared memory: 20 C bytes. Limits: C <=
 * MAX_CHANNELS, M*W*C < 2^31. Goal: 60 % of the copy rate.
 */
template <typename T, bool WIDE>
__global__ void __launch_bounds__(THREADS) assemble_kernel(T *__restrict__ out, batch b)
{
	extern __shared__ channel channels[];
	int n = (int)blockIdx.y, lane = (int)threadIdx.x % HD_WARP, warp = (int)threadIdx.x / HD_WARP;
	unsigned values = (unsigned)b.M * (unsigned)b.W * (unsigned)b.C;
	bool empty = b.index[n] < 0;
	const uint16_t *db = empty ? b.db : b.db + (size_t)b.index[n] * b.C * b.M * b.T + b.start[n];
	uint32_t sample = b.key ? (uint32_t)b.sample[n] : 0;
	float factor = 1, share = 0;
	if (b.key) {
		uint32_t words[WORDS];
		draw(words, b, 0, sample, HD_AUGMENT_SAMPLE);
		float unit = (float)words[0] * 0x1p-32f;
		factor = b.augment.scale_min + (b.augment.scale_max - b.augment.scale_min) * unit;
		share = b.augment.receiver_dropout * ((float)words[1] * 0x1p-32f);
	}
	for (int c = warp; c < b.C && !empty; c += THREADS / HD_WARP) {
		float mean = 0, rstd = 0;
		if (!b.mean)
			window_statistics(db + (size_t)c * b.M * b.T, b, lane, &mean, &rstd);
		if (lane == 0) {
			channels[c] = describe_channel(b, c, share, sample);
			channels[c].mean = mean;
			channels[c].rstd = rstd;
		}
	}
	__syncthreads();
	uint64_t dropped = b.key ? threshold(b.augment.dropout) : 0;
	T *row = out + (size_t)n * values;
	constexpr int VALUES = hd_width<T>::value, TURNS = EACH / VALUES;
	for (int turn = 0; turn < TURNS; turn++) {
		unsigned e = ((blockIdx.x * TURNS + (unsigned)turn) * THREADS + threadIdx.x) * VALUES;
		uint32_t words[VALUES] = {0};
		hd_pack<VALUES> v;
		if (e >= values)
			break;
		if (dropped > 0 && !empty) {
#pragma unroll
			for (unsigned i = 0; i < VALUES; i += WORDS)
				draw(words + i, b, (e + i) / WORDS, sample, HD_AUGMENT_VALUE);
		}
#pragma unroll
		for (unsigned i = 0; i < VALUES; i++)
			v.v[i] = empty || words[i] < dropped || e + i >= values
			                 ? 0.0f
			                 : value_of(b, db, channels, e + i, factor);
		if (WIDE)
			hd_store<VALUES>(row, e / VALUES, v);
		else
			for (unsigned i = 0; i < VALUES && e + i < values; i++)
				row[e + i] = hd_narrow<T>(v.v[i]);
	}
}

template <typename T> void launch(T *out, const batch &b, dim3 grid, size_t shared, cudaStream_t stream)
{
	bool wide = b.M * b.W * b.C % hd_width<T>::value == 0 && hd_cuda_aligned16(out);
	if (wide)
		assemble_kernel<T, true><<<grid, THREADS, shared, stream>>>(out, b);
	else
		assemble_kernel<T, false><<<grid, THREADS, shared, stream>>>(out, b);
}

} /* namespace */

hd_status hd_cuda_assemble_batch(void *out, const uint16_t *db, const int32_t *index, const int32_t *start,
        const float *mean, const float *rstd, const float *silence, const float *offset, const hd_augment *augment,
        const hd_rng_key *key, const int32_t *sample, hd_dtype dt, int64_t N, int64_t C, int64_t M, int64_t T,
        int64_t W, hd_stream *stream)
{
	cudaStream_t on = hd_cuda_stream(stream);
	int64_t values = M * W * C, each = THREADS * EACH;
	if (N * values == 0)
		return HD_OK;
	if (C > MAX_CHANNELS || values > INT32_MAX || N > UINT16_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED,
		        "assemble_batch: %ld rows of %ld channels, %ld values: at most 65535 of %d and 2^31", (long)N,
		        (long)C, (long)values, MAX_CHANNELS);
	batch b = {db, index, start, augment ? sample : NULL, mean, rstd, silence, offset, augment ? key : NULL,
	        augment ? *augment : hd_augment{}, (int)C, (int)M, (int)T, (int)W};
	dim3 grid((unsigned)hd_divide_up(values, each), (unsigned)N);
	size_t shared = (size_t)C * sizeof(channel);
	HD_BY_DTYPE(assemble_batch, dt, launch<T>(static_cast<T *>(out), b, grid, shared, on));
	return HD_CUDA_LAUNCHED(assemble_batch);
}
