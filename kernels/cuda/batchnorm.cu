/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BatchNorm1d (Ioffe and Szegedy 2015): a block has 32 columns and all their rows, over which it adds in double. Rows
 * are a batch, so that the block's columns stay in cache from one pass to the next.
 */
#include "kernels/cuda/reduce.cuh"

#define COLUMNS 32
#define ROWS 16

/*
 * Sums over the 16 thread rows of each column, in order; every thread gets its column's. All threads take part; part
 * is free again on return.
 */
template <int VALUES> __device__ static inline void column_sums(double (&value)[VALUES], double (*part)[ROWS][COLUMNS])
{
#pragma unroll
	for (int i = 0; i < VALUES; i++)
		part[i][threadIdx.y][threadIdx.x] = value[i];
	__syncthreads();
#pragma unroll
	for (int i = 0; i < VALUES; i++) {
		value[i] = 0;
		for (int row = 0; row < ROWS; row++)
			value[i] += part[i][row][threadIdx.x];
	}
	__syncthreads();
}

__device__ static inline float blend(float running, double fresh, float momentum)
{
	return (float)((1 - (double)momentum) * (double)running + (double)momentum * fresh);
}

/*
 * y (N,C), mean, rstd (C) out; running_mean, running_var (C) in and out; x (N,C), gamma, bias (C), weight (N) in;
 * float, any alignment. x of rows of weight 0 goes into y only.
 * Sums, mean and variance in double, the variance about the mean; y rounds once from double. Deterministic: thread row
 * k of 16 adds every 16th row in order, then the 16 are added in order.
 * FLOPs 8*N*C, in double; bytes 4*(2*N*C + N + 8*C), x twice more from cache. Launch: grid C/32 rounded up, block
 * (32,16); shared 8 KiB. Goal: latency, as it stands in the head (32 x 256) only.
 */
static __global__ void __launch_bounds__(COLUMNS *ROWS) forward(float *__restrict__ y, float *__restrict__ mean,
        float *__restrict__ rstd, float *__restrict__ running_mean, float *__restrict__ running_var,
        const float *__restrict__ x, const float *__restrict__ gamma, const float *__restrict__ bias,
        const float *__restrict__ weight, float momentum, float eps, int64_t N, int64_t C)
{
	__shared__ double part[2][ROWS][COLUMNS];
	int64_t c = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
	double sums[2] = {0, 0}, squares[1] = {0};
	for (int64_t n = threadIdx.y; c < C && n < N; n += ROWS) {
		if (weight[n] != 0) {
			sums[0] += (double)x[n * C + c];
			sums[1] += 1;
		}
	}
	column_sums<2>(sums, part);
	double count = sums[1], mu = count > 0 ? sums[0] / count : 0;
	for (int64_t n = threadIdx.y; c < C && n < N; n += ROWS) {
		double away = (double)x[n * C + c] - mu;
		if (weight[n] != 0)
			squares[0] += away * away;
	}
	column_sums<1>(squares, part);
	if (c >= C)
		return;
	double variance = count > 0 ? squares[0] / count : 0, scale = 1 / sqrt(variance + (double)eps);
	double g = (double)gamma[c], b = (double)bias[c];
	for (int64_t n = threadIdx.y; n < N; n += ROWS)
		y[n * C + c] = (float)(((double)x[n * C + c] - mu) * scale * g + b);
	if (threadIdx.y != 0)
		return;
	mean[c] = (float)mu;
	rstd[c] = (float)scale;
	if (count >= 2) {
		running_mean[c] = blend(running_mean[c], mu, momentum);
		running_var[c] = blend(running_var[c], variance * count / (count - 1), momentum);
	}
}

/*
 * dx (N,C) out; dgamma, dbias (C) in and out; dy, x (N,C), mean, rstd, gamma (C), weight (N) in; float, any alignment.
 * With means over the rows that count: dx = gamma*rstd * (dy - mean(dy) - xhat*mean(dy*xhat)); dx is 0 in rows of
 * weight 0, of which neither dy nor x is read. beta 0 does not read dgamma and dbias.
 * In double, rounded once. Deterministic as forward.
 * FLOPs 14*N*C, in double; bytes 4*(3*N*C + N + 7*C), dy and x once more from cache. Launch, goal: as forward.
 */
static __global__ void __launch_bounds__(COLUMNS *ROWS) backward(float *__restrict__ dx, float *__restrict__ dgamma,
        float *__restrict__ dbias, const float *__restrict__ dy, const float *__restrict__ x,
        const float *__restrict__ mean, const float *__restrict__ rstd, const float *__restrict__ gamma,
        const float *__restrict__ weight, float beta, int64_t N, int64_t C)
{
	__shared__ double part[3][ROWS][COLUMNS];
	int64_t c = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
	double sums[3] = {0, 0, 0}, mu = 0, scale = 0;
	if (c < C) {
		mu = (double)mean[c];
		scale = (double)rstd[c];
	}
	for (int64_t n = threadIdx.y; c < C && n < N; n += ROWS) {
		if (weight[n] != 0) {
			double g = (double)dy[n * C + c];
			sums[0] += g;
			sums[1] += g * ((double)x[n * C + c] - mu) * scale;
			sums[2] += 1;
		}
	}
	column_sums<3>(sums, part);
	if (c >= C)
		return;
	double sum = sums[0] / sums[2], dot = sums[1] / sums[2], factor = (double)gamma[c] * scale;
	for (int64_t n = threadIdx.y; n < N; n += ROWS) {
		float value = 0;
		if (weight[n] != 0) {
			double xhat = ((double)x[n * C + c] - mu) * scale;
			value = (float)(factor * ((double)dy[n * C + c] - sum - xhat * dot));
		}
		dx[n * C + c] = value;
	}
	if (threadIdx.y == 0) {
		dgamma[c] = (float)((beta == 0 ? 0 : (double)beta * (double)dgamma[c]) + sums[1]);
		dbias[c] = (float)((beta == 0 ? 0 : (double)beta * (double)dbias[c]) + sums[0]);
	}
}

/*
 * y (N,C) out; x (N,C), running_mean, running_var, gamma, bias (C) in; float, any alignment. In double, rounded once.
 * Deterministic.
 * FLOPs 4*N*C + 3*C a thread row, in double; bytes 4*(2*N*C + 4*C). Launch: grid (C/32 rounded up, N/16 rounded up, at
 * most 4096), block (32,16). Goal: latency.
 */
static __global__ void __launch_bounds__(COLUMNS *ROWS) apply(float *__restrict__ y, const float *__restrict__ x,
        const float *__restrict__ running_mean, const float *__restrict__ running_var, const float *__restrict__ gamma,
        const float *__restrict__ bias, float eps, int64_t N, int64_t C)
{
	int64_t c = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
	if (c >= C)
		return;
	double mu = (double)running_mean[c], scale = 1 / sqrt((double)running_var[c] + (double)eps);
	double g = (double)gamma[c], b = (double)bias[c];
	for (int64_t n = (int64_t)blockIdx.y * ROWS + threadIdx.y; n < N; n += (int64_t)gridDim.y * ROWS)
		y[n * C + c] = (float)(((double)x[n * C + c] - mu) * scale * g + b);
}

extern "C" hd_status hd_cuda_batchnorm_fwd(float *y, float *mean, float *rstd, float *running_mean, float *running_var,
        const float *x, const float *gamma, const float *bias, const float *weight, float momentum, float eps,
        int64_t N, int64_t C, hd_stream *stream)
{
	if (C > 0)
		forward<<<(unsigned)hd_divide_up(C, COLUMNS), dim3(COLUMNS, ROWS), 0, hd_cuda_stream(stream)>>>(
		        y, mean, rstd, running_mean, running_var, x, gamma, bias, weight, momentum, eps, N, C);
	return HD_CUDA_LAUNCHED(batchnorm_fwd);
}

extern "C" hd_status hd_cuda_batchnorm_bwd(float *dx, float *dgamma, float *dbias, const float *dy, const float *x,
        const float *mean, const float *rstd, const float *gamma, const float *weight, float beta, int64_t N, int64_t C,
        hd_stream *stream)
{
	if (C > 0)
		backward<<<(unsigned)hd_divide_up(C, COLUMNS), dim3(COLUMNS, ROWS), 0, hd_cuda_stream(stream)>>>(
		        dx, dgamma, dbias, dy, x, mean, rstd, gamma, weight, beta, N, C);
	return HD_CUDA_LAUNCHED(batchnorm_bwd);
}

extern "C" hd_status hd_cuda_batchnorm_apply(float *y, const float *x, const float *running_mean,
        const float *running_var, const float *gamma, const float *bias, float eps, int64_t N, int64_t C,
        hd_stream *stream)
{
	dim3 grid((unsigned)hd_divide_up(C, COLUMNS), hd_cuda_blocks(N, ROWS, HD_CUDA_GRID_MAX));
	if (N > 0 && C > 0)
		apply<<<grid, dim3(COLUMNS, ROWS), 0, hd_cuda_stream(stream)>>>(
		        y, x, running_mean, running_var, gamma, bias, eps, N, C);
	return HD_CUDA_LAUNCHED(batchnorm_apply);
}
